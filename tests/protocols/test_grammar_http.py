"""Errors as problems, and the grammar of header fields, as tables."""

from __future__ import annotations

import base64
import json
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from carboy import errors
from carboy.errors import CarboyError, InvalidName, InvalidRequest, TooLarge
from carboy.model import Condition
from carboy.web import http

SHA256, SHA512 = bytes(range(32)), bytes(range(64))
B256, B512 = base64.b64encode(SHA256).decode(), base64.b64encode(SHA512).decode()


def every_error(kind: type[CarboyError] = CarboyError) -> list[type[CarboyError]]:
    """Those that have a name for others."""
    return [kind, *(found for child in kind.__subclasses__() for found in every_error(child) if not found.__name__.startswith("_"))]


# --- problems ---


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_becomes_a_problem(kind: type[CarboyError]) -> None:
    """RFC 9457: type, title, status, detail, and the code and facts of the error; a 500 tells nothing of the inside."""
    response = http.problem(kind("the detail", limit=5))
    told = json.loads(response.get_data())
    assert response.status_code == http.STATUS[kind.code] == told["status"]
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert told["type"] == f"urn:carboy:problem:{kind.code}"
    assert told["code"] == kind.code
    assert told["title"] == kind.title
    inside = response.status_code == 500
    assert told.get("detail") == (None if inside else "the detail")
    assert told.get("limit") == (None if inside else 5)


def test_the_table_has_no_code_that_no_error_has() -> None:
    """Codes and statuses are one to one with the hierarchy."""
    assert set(http.STATUS) == {kind.code for kind in every_error()}
    assert len(every_error()) == len(http.STATUS)


def test_facts_never_replace_the_members_of_a_problem() -> None:
    """A fact named as a member loses."""
    told = json.loads(http.problem(InvalidRequest("right", status=1, type="x", code="y", title="z")).get_data())
    assert (told["status"], told["type"], told["code"], told["detail"]) == (400, "urn:carboy:problem:invalid_request", "invalid_request", "right")


@pytest.mark.parametrize(("error", "field", "value"), [
    (errors.Unauthenticated("x"), "WWW-Authenticate", 'Bearer realm="carboy"'),
    (errors.RangeNotSatisfiable("x", size=7), "Content-Range", "bytes */7"),
    (errors.Busy("x"), "Retry-After", "5"), (errors.RangeBusy("x"), "Retry-After", "1"), (errors.Busy("x", retry_after=9), "Retry-After", "9"),
    (errors.NotFound("x"), "Retry-After", None), (errors.Forbidden("x"), "WWW-Authenticate", None),
    (MethodNotAllowed(["GET", "HEAD"]), "Allow", "GET, HEAD"),
])
def test_problems_carry_the_fields_their_status_demands(error: Exception, field: str, value: str | None) -> None:
    """RFC 9110 sections 11.6.1, 14.4, 10.2.3 and 10.2.1."""
    assert http.problem(error).headers.get(field) == value


@pytest.mark.parametrize(("error", "status", "code"), [
    (NotFound(), 404, "not_found"), (MethodNotAllowed(["GET"]), 405, "method_not_allowed"),
    (ValueError("secret /path"), 500, "error"), (OSError(5, "secret", "/path"), 500, "error"), (HTTPException("odd"), 500, "error"),
])
def test_other_exceptions_become_problems_that_tell_no_secret(error: Exception, status: int, code: str) -> None:
    """Werkzeug's own keep their status; what nobody expected is a bare 500."""
    response = http.problem(error)
    assert (response.status_code, json.loads(response.get_data())["code"]) == (status, code)
    assert b"secret" not in response.get_data()


def test_a_name_with_a_lone_surrogate_can_be_told() -> None:
    """Facts of any text become JSON."""
    told = json.loads(http.problem(InvalidName("x", name="\udcff\u202e")).get_data())
    assert told["name"] == "\udcff\u202e"


# --- the head ---


@pytest.mark.parametrize(("value", "length"), [("", None), ("0", 0), ("5", 5), ("0005", 5), (str(2**63 - 1), 2**63 - 1), ("0" * 5000 + "7", 7)])
def test_content_length(value: str, length: int | None) -> None:
    """Digits up to 2^63 - 1."""
    assert http.content_length({"CONTENT_LENGTH": value}) == length
    assert http.content_length({}) is None


@pytest.mark.parametrize("value", ["-1", "+5", "5 ", " 5", "5,5", "0x5", "1e3", "five", "\u0665", "5.0", "1_0"])
def test_a_content_length_that_is_not_digits_is_refused(value: str) -> None:
    """Security case 22."""
    with pytest.raises(InvalidRequest):
        http.content_length({"CONTENT_LENGTH": value})


@pytest.mark.parametrize("value", [str(2**63), "9" * 20, "9" * 8000])
def test_a_content_length_past_every_file_is_too_large(value: str) -> None:
    """2^63 bytes and more, in a number of any length."""
    with pytest.raises(TooLarge):
        http.content_length({"CONTENT_LENGTH": value})


def test_the_path_is_utf8() -> None:
    """WSGI's latin-1 disguise comes off; what isn't UTF-8 is refused, not replaced."""
    assert http.path_of({"PATH_INFO": "/files/main/" + "é/日".encode().decode("latin-1")}) == "files/main/é/日"
    assert http.path_of({"PATH_INFO": "//a"}) == "/a"
    with pytest.raises(InvalidName):
        http.path_of({"PATH_INFO": "/a\xff"})


# --- dates and names ---


@pytest.mark.parametrize(("field", "seconds"), [
    ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777), ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777), ("Sun Nov  6 08:49:37 1994", 784111777),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("", None), (None, None), ("yesterday", None), ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ("784111777", None), ("1994-11-06T08:49:37Z", None), ("Sun, 06 Nov 99999999999 08:49:37 GMT", None),
])
def test_dates_in_the_three_formats(field: str | None, seconds: int | None) -> None:
    """RFC 9110 section 5.6.7; anything else is no date."""
    assert http.parse_http_date(field) == seconds


@given(st.integers(0, 253402300799), st.floats(0, 0.999))
def test_dates_come_back_without_their_fraction(seconds: int, fraction: float) -> None:
    """What is sent as Last-Modified is read again as the same second."""
    assert http.parse_http_date(http.http_date(seconds + fraction)) in (seconds, int(seconds + fraction))


@pytest.mark.parametrize(("name", "attachment", "value"), [
    ("a.txt", False, 'inline; filename="a.txt"'), ("a.txt", True, 'attachment; filename="a.txt"'),
    ("a b;c.txt", True, 'attachment; filename="a b;c.txt"'),
    ("€.txt", True, "attachment; filename=\"_.txt\"; filename*=UTF-8''%E2%82%AC.txt"),
    ("café.txt", True, "attachment; filename=\"cafe.txt\"; filename*=UTF-8''caf%C3%A9.txt"),
    ('a"b\\c.txt', True, "attachment; filename=\"a_b_c.txt\"; filename*=UTF-8''a%22b%5Cc.txt"),
    ("50%.txt", True, "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
    ("a\r\nSet-Cookie: x", True, "attachment; filename=\"a__Set-Cookie: x\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x"),
])
def test_content_disposition(name: str, attachment: bool, value: str) -> None:
    """RFC 6266: a plain name for everyone, the real one in filename* (security case 11)."""
    assert http.content_disposition(name, attachment) == value


@given(st.text(min_size=1, max_size=50).filter(lambda name: name.isprintable()))
def test_content_disposition_gives_the_name_back_and_stays_one_line(name: str) -> None:
    """Decoding finds exactly the name, whatever is in it."""
    value = http.content_disposition(name, True)
    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') == 2
    plain, _, encoded = value.partition("; filename*=UTF-8''")
    assert (unquote(encoded) if encoded else plain.removeprefix('attachment; filename="')[:-1]) == name


# --- digests ---


@pytest.mark.parametrize(("field", "digests"), [
    (f"sha-256=:{B256}:", {"sha-256": SHA256}), (f"sha-512=:{B512}:", {"sha-512": SHA512}),
    (f"sha-256=:{B256}:, sha-512=:{B512}:", {"sha-256": SHA256, "sha-512": SHA512}),
    (f" sha-256=:{B256}:\t,\tmd5=:AAAA: ", {"sha-256": SHA256}), (f"sha-256=:{B256}:;q=1;x", {"sha-256": SHA256}),
    (f"sha-256=:AA==:, sha-256=:{B256}:", {"sha-256": SHA256}), (f'x="a,b;\\"", sha-256=:{B256}:', {"sha-256": SHA256}),
    (f"unixsum=:AAA=:, x=1.5, y=?0, z=tok/en:, b, sha-256=:{B256}:", {"sha-256": SHA256}),
    ("", {}), ("md5=:AAAA:", {}), ("crc32c=:AAAA:", {}), ("md5=nonsense here", {}), ("(a b)", {}), ("=", {}), (",,", {}), ("\xff", {}),
])
def test_digest_fields(field: str, digests: dict[str, bytes]) -> None:
    """RFC 9530 over RFC 9651: the algorithms of Carboy; others, and what is malformed without naming one, are ignored."""
    assert http.parse_digest_field(field) == digests


@pytest.mark.parametrize("field", [
    "sha-256", "sha-256=", "sha-256=abc", "sha-256=::", "sha-256=:AAAA:", f"sha-256={B256}", f"sha-256=:{B512}:", f"SHA-256=:{B256}:",
    f"sha-256=:{B256}", f"sha-256=:{B256}:,", f"sha-256=:{B256}: x", "sha-256=:!!!!:", "sha-256=:=:", "sha-256=1", "sha-256=?1", f"sha-256=:{SHA256.hex()}:",
    f'sha-256="{B256}"', "sha-512=:AAAA:", f"md5=:AAAA: sha-256=:{B256}:", f"sha-256=(:{B256}:)",
])
def test_a_known_digest_given_wrongly_is_refused(field: str) -> None:
    """A client that wants its bytes checked isn't left unchecked; the problem shows the syntax."""
    with pytest.raises(InvalidRequest) as refused:
        http.parse_digest_field(field, "Content-Digest")
    assert refused.value.facts["field"] == "Content-Digest"
    assert "=:<base64" in refused.value.detail


def test_digest_fields_are_written_as_they_are_read() -> None:
    """Round trip."""
    digests = {"sha-256": SHA256, "sha-512": SHA512}
    assert http.parse_digest_field(http.digest_field(digests)) == digests


@pytest.mark.parametrize(("field", "wanted"), [
    (None, []), ("", []), ("sha-256=10", ["sha-256"]), ("sha-256=1, sha-512=10", ["sha-512", "sha-256"]), ("sha-256=0", []), ("sha-256=10, sha-512=0", ["sha-256"]),
    ("sha-256=11", []), ("sha-256=-1", []), ("sha-256", []), ("md5=10, sha-256=3", ["sha-256"]), ("sha-256=10,", []), ("sha-512=5, sha-256=5", ["sha-512", "sha-256"]),
    ("sha-256=1.0", []),
])
def test_wanted_digests(field: str | None, wanted: list[str]) -> None:
    """RFC 9530 section 4: weights from 1 to 10, the highest first; 0 is a refusal."""
    assert http.wanted_digests(field) == wanted


def test_content_md5() -> None:
    """RFC 1864: base64 of 16 bytes; hex is told what would be right."""
    assert http.parse_content_md5(base64.b64encode(bytes(16)).decode()) == bytes(16)
    for wrong in ("", "abc", "d41d8cd98f00b204e9800998ecf8427e", B256, "é"):
        with pytest.raises(InvalidRequest, match="base64"):
            http.parse_content_md5(wrong)


@given(st.text(alphabet='sha-256=:;,"\\ abcABC?/+1()', max_size=60))
def test_dictionaries_never_surprise(field: str) -> None:
    """Any text is a dictionary or isn't; nothing else is raised."""
    members = http.dictionary(field)
    assert members is None or all(name and value for name, value in members.items())


def test_long_fields_take_linear_time() -> None:
    """100 kB of the worst openings, parsed at once."""
    for field in ("a;" * 50_000, "a," * 50_000, '"' * 100_000, 'a="' + "\\" * 100_000, "a;b" * 33_000 + "!", "a" * 100_000 + "!"):
        http.dictionary(field)
        with pytest.raises(InvalidRequest):
            http.etags(field)
    assert http.etags('"a",' * 25_000) == ('"a"',) * 25_000


# --- entity tags ---


@pytest.mark.parametrize(("field", "tags"), [
    (None, None), ("*", ("*",)), (" * ", ("*",)), ('"a"', ('"a"',)), ('W/"x", "y"', ('W/"x"', '"y"')), ('"a,b", "c"', ('"a,b"', '"c"')), ('""', ('""',)),
    ('"a",,"b",', ('"a"', '"b"')), ('"\xe9"', ('"\xe9"',)), ('"*"', ('"*"',)),
])
def test_entity_tags(field: str | None, tags: tuple[str, ...] | None) -> None:
    """RFC 9110 section 8.8.3: tags as written, weak ones too; a comma may be inside one."""
    assert http.etags(field) == tags


@pytest.mark.parametrize(("headers", "condition"), [
    ({}, Condition()), ({"If-Match": '"a"'}, Condition(etags=('"a"',))), ({"If-Match": "*"}, Condition(etags=("*",))),
    ({"If-None-Match": "*"}, Condition(absent=True)), ({"If-None-Match": '"a", W/"b"'}, Condition(not_etags=('"a"', 'W/"b"'))),
    ({"If-Match": '"a"', "If-None-Match": "*"}, Condition(etags=('"a"',), absent=True)),
])
def test_conditions_for_changes(headers: dict[str, str], condition: Condition) -> None:
    """What the catalog checks in the transaction that changes a path."""
    assert http.condition_of(headers) == condition
