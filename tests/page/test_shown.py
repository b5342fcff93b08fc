"""How values look to people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carboy.web.page import shown


@pytest.mark.parametrize(("value", "text"), [
    (0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1 kB"), (1234, "1.23 kB"), (12_345, "12.3 kB"), (123_456, "123 kB"),
    (999_499, "999 kB"), (999_500, "1 MB"), (1_000_000, "1 MB"), (9_994_999, "9.99 MB"), (9_996_000, "10 MB"), (99_960_000, "100 MB"), (5 * 10**12, "5 TB"),
    (2**63 - 1, "9.22 EB")])
def test_sizes_have_three_figures(value: int, text: str) -> None:
    assert shown.size(value) == text


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_what_is_larger_never_looks_smaller(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert read_back(shown.size(low)) <= read_back(shown.size(high))


def read_back(text: str) -> float:
    number, unit = text.split()
    units = {"byte": 0, "bytes": 0, **{name: power for power, name in enumerate(("kB", "MB", "GB", "TB", "PB", "EB"), 1)}}
    return float(number) * 1000 ** units[unit]


DAY = 86400.0


@pytest.mark.parametrize(("passed", "text"), [
    (-5, "just now"), (0, "just now"), (59, "just now"), (60, "1 min ago"), (3599, "59 min ago"), (3600, "1 hour ago"), (7200, "2 hours ago"),
    (DAY - 1, "23 hours ago"), (DAY, "yesterday"), (2 * DAY, "18 Nov 2026")])
def test_when_it_was(passed: float, text: str) -> None:
    now = 1_795_132_800.0  # 20 Nov 2026, 00:00 UTC
    assert shown.ago(now - passed, now) == text


@pytest.mark.parametrize(("left", "text"), [(0, "over"), (30, "in a minute"), (90, "in 2 minutes"), (3600, "in 1 hour"), (6.9 * DAY, "in 7 days"), (30 * DAY, "in 30 days")])
def test_how_long_it_is_yet(left: float, text: str) -> None:
    assert shown.until(1000.0 + left, 1000.0) == text


@given(st.text())
def test_a_name_is_markup_without_a_trace_of_its_own(name: str) -> None:
    html = str(shown.name(name))
    assert html.startswith("<bdi>") and html.endswith("</bdi>")
    inside = html[5:-6].replace('<span class="odd">', "").replace("</span>", "")
    assert not set(inside) & set("<>\"'\u202e\u2066\u200b\x00\x1b")


@pytest.mark.parametrize(("media_type", "kind"), [
    ("image/png", "image"), ("text/csv", "sheet"), ("text/plain", "text"), ("text/x-python", "code"), ("application/zip", "archive"), ("application/pdf", "pdf"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "sheet"), ("application/msword", "text"), ("application/octet-stream", "other")])
def test_types_have_pictures(media_type: str, kind: str) -> None:
    assert shown.kind(media_type)[0] == kind
