"""The fields of Resumable Uploads for HTTP: structured fields (RFC 9651), by tables of cases."""

from __future__ import annotations

import pytest

from carboy.errors import InvalidRequest
from carboy.web.protocols.resumable import fields


@pytest.mark.parametrize(("value", "meant"), [
    ("?1", True), ("?0", False), (" ?1 ", True), ("?1;a", True), ("?1; a=2;b=\"x, y\"", True), ("?1;a=:AA==:", True), ("?1;a=@5;b=1.5", True),
    (None, None), ("", None), ("1", None), ("?2", None), ("?", None), ("true", None), ("?1,?1", None), ("?1, ?0", None), ("?1 ;a", None),
    ("?1;", None), ("?1;A", None), ("\"?1\"", None), ("?1x", None), ("?1\t", None), ("?١", None)])
def test_booleans(value: str | None, meant: bool | None) -> None:
    assert fields.boolean(value) is meant


@pytest.mark.parametrize(("value", "meant"), [
    ("0", 0), ("-0", 0), ("007", 7), ("999999999999999", 10**15 - 1), (" 5 ", 5), ("5;q=1", 5),
    (None, None), ("", None), ("-1", None), ("+1", None), ("1.0", None), ("1e3", None), ("1000000000000000", None), ("5,5", None), ("5 5", None),
    ("0x5", None), ("?1", None), ("@5", None), ("\"5\"", None), ("٥", None)])
def test_integers(value: str | None, meant: int | None) -> None:
    assert fields.integer(value) == meant


@pytest.mark.parametrize(("value", "number"), [("3", 3), ("10", 10), (" 6 ", 6), ("2", None), ("11", None), ("x", None), ("", None), (None, None)])
def test_versions(value: str | None, number: int | None) -> None:
    assert fields.version(value).number == number


def test_the_table_of_versions() -> None:
    assert list(fields.VERSIONS) == list(range(3, 11))
    assert all(number == version.number for number, version in fields.VERSIONS.items())


@pytest.mark.parametrize("number", fields.VERSIONS)
@pytest.mark.parametrize("complete", [True, False])
def test_completeness_is_read_as_it_is_told(number: int, complete: bool) -> None:
    version = fields.VERSIONS[number]
    [(name, value)] = fields.told_completeness(version, complete).items()
    assert name == version.complete
    assert fields.completeness(version, value) is complete


@pytest.mark.parametrize(("number", "largest", "seconds", "told"), [
    (5, 100, 5, {}), (6, 100, 5.9, {"Upload-Limit": "max-size=100, expires=5"}), (8, 100, None, {"Upload-Limit": "max-size=100"}),
    (8, 2**63 - 1, 60, {"Upload-Limit": "max-age=60"}), (8, 2**63 - 1, None, {"Upload-Limit": "min-size=0"}),
    (8, 10**15 - 1, -5, {"Upload-Limit": "max-size=999999999999999, max-age=0"})])
def test_limits(number: int, largest: int, seconds: float | None, told: dict[str, str]) -> None:
    assert fields.limits(fields.VERSIONS[number], largest, seconds) == told


@pytest.mark.parametrize(("value", "part"), [
    ("bytes 0-0/1", (0, 1, 1)), ("bytes 5-9/10", (5, 5, 10)), ("BYTES 5-9/*", (5, 5, None)), (" bytes  5-9/* ", (5, 5, None)),
    (f"bytes {2**63 - 2}-{2**63 - 2}/{2**63 - 1}", (2**63 - 2, 1, 2**63 - 1))])
def test_places_of_parts(value: str, part: tuple[int, int, int | None]) -> None:
    assert fields.content_range(value) == part


@pytest.mark.parametrize("value", [
    "", "bytes", "bytes */5", "bytes 5-4/10", "bytes 5-10/10", "bytes 0-1", "bytes=0-1/2", "bytes -1-2/3", "bytes 0-1/-2", "lines 0-1/2",
    "bytes 0-1/2, bytes 2-3/4", f"bytes 0-{2**63 - 1}/*", f"bytes 0-1/{2**63}", "bytes ٠-١/٢", "bytes 0-1/2x"])
def test_what_is_no_place(value: str) -> None:
    with pytest.raises(InvalidRequest):
        fields.content_range(value)
