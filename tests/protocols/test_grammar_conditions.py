"""The preconditions of RFC 9110 section 13, as tables."""

from __future__ import annotations

import pytest

from carboy.errors import InvalidRequest
from carboy.web.conditions import Validators, evaluate, range_holds
from carboy.web.http import http_date

NOW = Validators('"abc"', 1_000_000_000)
SAME, BEFORE, AFTER = http_date(1_000_000_000), http_date(999_999_999), http_date(1_000_000_001)

CASES = [
    ({}, "proceed"),
    ({"If-Match": '"abc"'}, "proceed"), ({"If-Match": '"x", "abc"'}, "proceed"), ({"If-Match": "*"}, "proceed"),
    ({"If-Match": '"x"'}, "failed"), ({"If-Match": 'W/"abc"'}, "failed"), ({"If-Match": '"ABC"'}, "failed"),
    ({"If-Match": '"abc,abc"'}, "failed"),
    ({"If-Unmodified-Since": SAME}, "proceed"), ({"If-Unmodified-Since": AFTER}, "proceed"), ({"If-Unmodified-Since": BEFORE}, "failed"),
    ({"If-Unmodified-Since": "yesterday"}, "proceed"),
    ({"If-Match": '"abc"', "If-Unmodified-Since": BEFORE}, "proceed"),
    ({"If-None-Match": '"abc"'}, "not_modified"), ({"If-None-Match": 'W/"abc"'}, "not_modified"), ({"If-None-Match": "*"}, "not_modified"),
    ({"If-None-Match": '"x", W/"abc"'}, "not_modified"), ({"If-None-Match": '"x"'}, "proceed"), ({"If-None-Match": '""'}, "proceed"),
    ({"If-Modified-Since": SAME}, "not_modified"), ({"If-Modified-Since": AFTER}, "not_modified"), ({"If-Modified-Since": BEFORE}, "proceed"),
    ({"If-Modified-Since": "soon"}, "proceed"), ({"If-Modified-Since": ""}, "proceed"),
    ({"If-None-Match": '"x"', "If-Modified-Since": SAME}, "proceed"),
    ({"If-None-Match": '"abc"', "If-Modified-Since": BEFORE}, "not_modified"),
    ({"If-Match": '"abc"', "If-None-Match": '"abc"'}, "not_modified"), ({"If-Match": '"x"', "If-None-Match": '"abc"'}, "failed"),
    ({"If-Unmodified-Since": BEFORE, "If-None-Match": '"abc"'}, "failed"),
]


@pytest.mark.parametrize(("headers", "outcome"), CASES)
def test_conditions_are_evaluated_in_the_order_of_section_13_2_2(headers: dict[str, str], outcome: str) -> None:
    """Match guards first, dates only where there is no tag, caches last."""
    assert evaluate(headers, NOW) == outcome


@pytest.mark.parametrize("field", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["abc", "", ",", '"abc', 'w/"abc"', '"a" "b"', '"a"x', "**", '*, "a"', '"a b"'])
def test_a_malformed_tag_list_is_refused(field: str, value: str) -> None:
    """A guard that can't be read is not skipped; the problem shows how a tag is written."""
    with pytest.raises(InvalidRequest) as refused:
        evaluate({field: value}, NOW)
    assert refused.value.facts["field"] == field
    assert "double quotes" in refused.value.detail


@pytest.mark.parametrize(("field", "now", "holds"), [
    (None, 2e9, True), ('"abc"', 2e9, True), (' "abc" ', 2e9, True), ('"x"', 2e9, False), ('W/"abc"', 2e9, False), ("abc", 2e9, False), ("*", 2e9, False),
    (SAME, 2e9, True), (BEFORE, 2e9, False), (AFTER, 2e9, False), (SAME, 1_000_000_000.5, False), (SAME, 1_000_000_001, True), ("", 2e9, False),
])
def test_if_range_needs_a_strong_validator(field: str | None, now: float, holds: bool) -> None:
    """A strong tag or the exact date of a second that is over; anything else gets the whole file."""
    assert range_holds(field, NOW, now) is holds
