"""What gets thrown at an upload server, each case through every protocol it applies to.

Every case also demands what ``sound`` checks: no 5xx, a problem that says what was wrong, nothing left on disk or in the catalog,
a server that still answers, and (by the fixture) a log without tracebacks or secrets. The numbers are those of the project's list of
cases. Not here: 20 (a byte a minute) and 23 (the same bytes twice at once), which tests of the socket and of the classic
endpoints have; 21, which wants the offsets of a later protocol; 28, which test_quotas.py has; 29 to 31, which are about links and have
tests of their own; 34, which tests/processing/test_images.py has; 36, which webhooks have (tests/engine/test_addresses.py), as nothing is
imported by URL; 27 and 35, as nothing is stored by its hash alone, and no archive is unpacked.
"""

from __future__ import annotations

import itertools
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, unquote, urlencode

import pytest
import wire
from fixtures_server import Server
from fixtures_site import BOUNDARY, FORM, Site, multipart
from fixtures_site import field as text
from fixtures_site import file as part

MIB = 2**20
GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
HTML = b"<!DOCTYPE html><html><script>alert(1)</script></html>"

STRICT = """
classic = "strict"
max_form_parts = 50

[spaces]
strict = { accept = ["image/*"], max_size = "64 KiB" }
"""
"""Limits that the classic endpoints meet, too: they have one space."""


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("strict")
    (folder / "carboy.toml").write_text(STRICT)
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")])
    yield Site(server.start())
    if server.running:
        server.stop()


@pytest.fixture
def strict(strict_server: Site) -> Iterator[Site]:
    since = len(strict_server.server.log())
    yield strict_server
    strict_server.server.must_be_sound(since)
    strict_server.must_keep_its_secrets(since)


# --- the protocols -------------------------------------------------------------------------------------------------


Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Input:
    """One file on its way in, whatever the protocol. ``fields`` come before it."""

    name: str = "case.bin"
    data: bytes = b"x"
    space: str = "main"
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Fields = ()


def by_put(site: Site, given: Input) -> wire.Response:
    return site.ask("PUT", f"/files/{given.space}/{quote(given.name)}", given.headers, given.data)


def by_resumable(site: Site, given: Input) -> wire.Response:
    """All of it by Resumable Uploads for HTTP."""
    return by_put(site, replace(given, headers={"Upload-Complete": "?1", **given.headers}))


def by_form(site: Site, given: Input) -> wire.Response:
    parts = [*(text(*one) for one in given.fields), part("file", given.name, given.data)]
    return site.form(f"/files/{given.space}/", parts, given.headers)


def by_body(site: Site, given: Input) -> wire.Response:
    """A raw body, named by Content-Disposition as RFC 8187 writes it."""
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(given.name, safe='')}", **given.headers}
    return site.ask("POST", f"/files/{given.space}/", headers, given.data)


def by_upload(site: Site, given: Input) -> wire.Response:
    return site.form("/upload", [*(text(*one) for one in given.fields), part("file", given.name, given.data)], given.headers)


def by_chunk(site: Site, given: Input) -> wire.Response:
    """One chunk without a place, then the merge. The first refusal is the answer."""
    return _chunked(site, given, ())


def by_placed_chunk(site: Site, given: Input) -> wire.Response:
    """One chunk in its place, then the merge."""
    return _chunked(site, given, (("offset", "0"),))


def by_tus(site: Site, given: Input) -> wire.Response:
    """tus, with all of it in the creating request."""
    return site.ask("POST", f"/tus/{given.space}/", {**given.headers, **_begin_tus(given), **TUS}, given.data)


def by_tus_patch(site: Site, given: Input) -> wire.Response:
    """tus: begun, and then all of it. The first refusal is the answer."""
    made = site.ask("POST", f"/tus/{given.space}/", {**given.headers, **_begin_tus(given)})
    if made.status != 201:
        return made
    return site.ask("PATCH", made.header("Location") or "", {**given.headers, **TUS, "Upload-Offset": "0"}, given.data)


TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


def _begin_tus(given: Input) -> dict[str, str]:
    name = b64encode(given.name.encode()).decode()
    return {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(given.data)), "Upload-Metadata": f"filename {name}"}


def by_dropzone(site: Site, given: Input) -> wire.Response:
    """Dropzone, in two chunks where there are two bytes. The first refusal is the answer."""
    stride, uuid = max(1, -(-len(given.data) // 2)), secrets.token_hex(8)
    for index in range(max(1, -(-len(given.data) // stride))):
        fields = (*dropzone_fields(given.data, index, stride, uuid), *given.fields)
        chunk = given.data[index * stride:(index + 1) * stride]
        answer = site.form(f"/widgets/dropzone/{given.space}", [*(text(*one) for one in fields), part("file", given.name, chunk)], given.headers)
        if answer.status not in (200, 201):
            break
    return answer


def by_resumablejs(site: Site, given: Input) -> wire.Response:
    """Resumable.js, whose fields name the file with its folders, in one chunk."""
    fields = (*numbered_fields("resumable", given.data), ("resumableFilename", "blob"), ("resumableRelativePath", given.name), *given.fields)
    return site.form(f"/widgets/resumablejs/{given.space}", [*(text(*one) for one in fields), part("file", "blob", given.data)], given.headers)


def by_flowjs(site: Site, given: Input) -> wire.Response:
    """Flow.js, with its fields behind the file: until they come its place isn't known."""
    fields = (*numbered_fields("flow", given.data), ("flowFilename", "blob"), ("flowRelativePath", given.name), *given.fields)
    return site.form(f"/widgets/flowjs/{given.space}", [part("file", "blob", given.data), *(text(*one) for one in fields)], given.headers)


def by_filepond(site: Site, given: Input) -> wire.Response:
    """FilePond, with a form of the file."""
    parts = [*(text(*one) for one in given.fields), part("filepond", given.name, given.data)]
    return site.form(f"/widgets/filepond/{given.space}", parts, given.headers)


def by_filepond_patch(site: Site, given: Input) -> wire.Response:
    """FilePond: begun, and then all of it in one chunk. The first refusal is the answer."""
    address = f"/widgets/filepond/{given.space}"
    made = site.form(address, [text(*one) for one in given.fields], {"Upload-Length": str(len(given.data))})
    if made.status != 201:
        return made
    headers = {**given.headers, "Upload-Offset": "0", "Upload-Length": str(len(given.data)), "Upload-Name": given.name.encode().decode("latin-1"),
               "Content-Type": "application/offset+octet-stream"}
    answer = site.ask("PATCH", f"{address}?patch={made.text}", headers, given.data)
    return made if answer.status == 204 else answer


def dropzone_fields(data: bytes, index: int, stride: int, uuid: str) -> Fields:
    return (("dzuuid", uuid), ("dzchunkindex", str(index)), ("dztotalfilesize", str(len(data))), ("dzchunksize", str(stride)),
            ("dztotalchunkcount", str(max(1, -(-len(data) // stride)))), ("dzchunkbyteoffset", str(index * stride)))


def numbered_fields(prefix: str, data: bytes) -> Fields:
    size = str(len(data))
    values = {"ChunkNumber": "1", "ChunkSize": size, "CurrentChunkSize": size, "TotalSize": size, "Identifier": secrets.token_hex(8),
              "TotalChunks": "1"}
    return tuple((prefix + name, value) for name, value in values.items())


def _chunked(site: Site, given: Input, more: tuple[tuple[str, str], ...]) -> wire.Response:
    fields = (("file_id", given.name), ("index", "0"), *more, *given.fields)
    parts = [*(text(*one) for one in fields), part("chunk", "blob", given.data)]
    answer = site.form("/chunk-upload", parts, given.headers)
    if answer.status != 200:
        return answer
    return site.form("/chunk-upload/complete", [text("file_id", given.name), text("total_chunks", 1)])


Lane = Callable[[Site, Input], wire.Response]
LANES: Mapping[str, Lane] = {"put": by_put, "form": by_form, "body": by_body, "upload": by_upload, "chunk": by_chunk,
                             "placed chunk": by_placed_chunk, "resumable": by_resumable}
BY_TUS: Mapping[str, Lane] = {"tus": by_tus, "tus patch": by_tus_patch}
BY_WIDGET: Mapping[str, Lane] = {"dropzone": by_dropzone, "resumablejs": by_resumablejs, "flowjs": by_flowjs, "filepond": by_filepond,
                                 "filepond patch": by_filepond_patch}
LANES = {**LANES, **BY_TUS, **BY_WIDGET}
CLASSIC = ("upload", "chunk", "placed chunk")
PLAIN = ("put", "form", "body", "resumable")
BY_PATH = ("put", "resumable")
FORMS = ("form", "upload", "chunk", "placed chunk", *BY_WIDGET)
FOR_GOOD: Mapping[str, int] = {"resumablejs": 400}
"""What else is 413 there: Resumable.js would send again whatever is refused with it."""


@contextmanager
def sound(site: Site, *, keeps: bool = False) -> Iterator[list[wire.Response]]:
    """What is asked for in the block is added to the list; each answer must be sound, and nothing may be left unless the server
    ``keeps`` something by right."""
    before, answers = site.kept(), list[wire.Response]()
    yield answers
    assert answers
    for answer in answers:
        assert answer.status < 500, answer
        if answer.status >= 400:
            _must_say_what_was_wrong(answer)
    if not keeps:
        site.must_be_as(before)
    assert site.ask("GET", "/healthz").status == 200


def _must_say_what_was_wrong(answer: wire.Response) -> None:
    told = answer.json()
    if answer.header("Content-Type") == "application/json":
        assert told.get("message") or told["error"], "the classic endpoints say it in a message, and Dropzone shows the error"
        return
    assert answer.header("Content-Type") == "application/problem+json"
    assert told["status"] == answer.status
    assert told["type"] and told["title"] and told["detail"] and told["code"]


def stored_path(site: Site, lane: str, answer: wire.Response) -> str:
    """Where an accepted file is, from its answer."""
    if lane in (*BY_PATH, "body", "dropzone", "resumablejs", "flowjs"):
        return str(answer.json()["path"])
    if lane.startswith("filepond"):
        file = answer.text if lane == "filepond" else site.ask("GET", f"/api/v1/uploads/{answer.text}").json()["file_id"]
        return str(site.ask("GET", f"/api/v1/files/{file}").json()["path"])
    if lane == "form":
        return str(answer.json()["files"][0]["path"])
    if lane in BY_TUS:
        return str(site.ask("GET", f"/api/v1/files/{answer.header('Carboy-File')}").json()["path"])
    found = re.fullmatch(r"File (.*) uploaded successfully", answer.json()["message"])
    assert found
    return found[1]


# --- 1 to 6: names -------------------------------------------------------------------------------------------------

Expected = int | str
"""A status, or the path under which the file is kept."""


@dataclass(frozen=True)
class Name:
    """A name and what becomes of it: as a path (PUT), as a file name (forms and bodies), as the classic endpoints' ``file_id``, and
    as their file name where that differs because it stands in the header of a part."""

    case: int
    name: str
    path: Expected
    file: Expected
    classic: Expected
    upload: Expected | None = None

    def expected(self, lane: str) -> Expected:
        if lane == "upload" and self.upload is not None:
            return self.upload
        if lane in ("resumablejs", "flowjs"):  # as PUT, but for the slash that stands before the path of a dropped folder
            return "etc/absolute" if self.name == "/etc/absolute" else self.path
        if lane == "filepond patch" and isinstance(self.file, str):  # spaces around a header's value are none of it
            return self.file.strip()
        return self.classic if lane in CLASSIC else self.path if lane in BY_PATH else self.file

    def can_be_said(self, lane: str) -> bool:
        """FilePond names a chunk in a header, which no browser sends with a line break or a NUL."""
        return lane != "filepond patch" or not re.search("[\r\n\0]", self.name)


NAMES = [
    Name(1, "../evil.txt", 400, "evil.txt", "evil.txt"),
    Name(1, "../../../../etc/passwd", 400, "passwd", "etc_passwd"),
    Name(1, "up/../../evil.txt", 400, "evil.txt", "up_.._.._evil.txt"),
    Name(1, "/etc/absolute", 400, "absolute", "etc_absolute"),
    Name(1, "..\\..\\evil.txt", 400, "evil.txt", "evil.txt"),
    Name(1, "C:\\Windows\\evil.txt", "C:\\Windows\\evil.txt", "evil.txt", "CWindowsevil.txt", upload="evil.txt"),
    Name(1, "%2e%2e%2fevil.txt", 400, 400, "2e2e2fevil.txt"),
    Name(1, "%252e%252e%252fevil.txt", 400, 400, "252e252e252fevil.txt"),
    Name(1, "..%2fevil.txt", 400, 400, "2fevil.txt"),
    Name(1, "%2fetc%2fpasswd", 400, 400, "2fetc2fpasswd"),
    Name(1, "..", 400, 400, 400),
    Name(1, ".", 400, 400, 400),
    Name(1, "two//slashes", 400, "slashes", "two_slashes"),
    Name(1, "~/.ssh/authorized_keys", "~/.ssh/authorized_keys", "authorized_keys", "ssh_authorized_keys"),
    Name(2, "nul\0.txt", 400, 400, 400),
    Name(2, "carriage\rreturn", 400, 400, "carriage_return", upload=400),
    Name(2, "line\nfeed", 400, 400, "line_feed", upload=400),
    Name(2, "crlf\r\nSet-Cookie: x=1", 400, 400, "crlf_Set-Cookie_x1", upload=400),
    Name(2, "delete\x7f", 400, 400, "delete"),
    Name(2, "next\x85line", 400, 400, "nextline"),
    Name(3, "n" * 255, "n" * 255, "n" * 255, "n" * 255),
    Name(3, "n" * 256, 400, 400, 400),
    Name(3, "é" * 128, 400, 400, "e" * 128),
    Name(3, "d/" * 5000 + "x", 400, 400, 400),
    Name(3, "/".join("d" * 101), 400, "d", "_".join("d" * 101)),
    Name(4, "CON", "CON", "CON", "CON"),
    Name(4, "aux.c", "aux.c", "aux.c", "aux.c"),
    Name(4, "trailing.", "trailing.", "trailing.", "trailing"),
    Name(4, "trailing ", "trailing ", "trailing ", "trailing"),
    Name(4, " leading", " leading", " leading", "leading"),
    Name(4, "colon:stream", "colon:stream", "colon:stream", "colonstream"),
    Name(4, "-rf *", "-rf *", "-rf *", "-rf"),
    Name(5, "cafe\u0301", "café", "café", "cafe"),
    Name(5, "café", "café", "café", "cafe"),
    Name(5, "Case", "Case", "Case", "Case"),
    Name(5, "case", "case", "case", "case"),
    Name(6, "\u202egnp.exe", "\u202egnp.exe", "\u202egnp.exe", "gnp.exe"),
    Name(6, "zero\u200bwidth", "zero\u200bwidth", "zero\u200bwidth", "zerowidth"),
]


@pytest.mark.parametrize("name, lane", [
    pytest.param(name, lane, id=f"{name.case}: {name.name[:30]!r}-{lane}") for name in NAMES for lane in LANES if name.can_be_said(lane)])
def test_names(site: Site, name: Name, lane: str) -> None:
    expected = name.expected(lane)
    given = Input(name.name, b"mine", "main")
    with sound(site, keeps=isinstance(expected, str) or lane == "filepond patch") as answers:
        answers.append(LANES[lane](site, given))
    if isinstance(expected, int):
        assert answers[0].status == expected or (lane in ("body", "filepond patch", *BY_TUS) and answers[0].status == 431), answers[0]
        return
    assert answers[0].status in (200, 201, 204), answers[0]
    assert stored_path(site, lane, answers[0]) == expected
    space = "tutorial" if lane in CLASSIC else "main"
    got = site.ask("GET", f"/files/{space}/{quote(expected)}")
    assert (got.status, got.body) == (200, b"mine")
    must_be_shown_safely(got, expected.rpartition("/")[2])
    assert {path.count("/") for path in site.blobs()} == {1}, "the name is nowhere on disk"
    assert not re.search("[\u202e\u200b\r]", site.server.log()), "names are escaped in the log"


def must_be_shown_safely(got: wire.Response, name: str) -> None:
    """6, 11: one Content-Disposition, whose plain name is printable ASCII and whose real one decodes to the name."""
    value = got.header("Content-Disposition") or ""
    found = re.fullmatch(r"""(?:inline|attachment); filename="([\x20-\x21\x23-\x5b\x5d-\x7e]*)"(?:; filename\*=UTF-8''([!#$&+.^_`|~\w%-]+))?""", value)
    assert found, value
    assert (unquote(found[2]) if found[2] else found[1]) == name


@pytest.mark.parametrize("target", [
    "/files/main/../../etc/passwd", "/files/main/..%2f..%2fetc%2fpasswd", "/files/main/%2e%2e/%2e%2e/etc/passwd", "/files/main/..%5c..%5cwin.ini",
    "/files/main//etc/passwd", "/files/main/%2fetc%2fpasswd", "/files/../main/a", "/files/main/a/./b", "/files/main/%00", "/files/main/a%0d%0aX:%201",
    "/files/main/%c0%ae%c0%ae/a", "/files/main/%ff", "/files/main/%ed%a0%80", "/files/%2e%2e/a", "/files/main/a//b", "/files/main/" + "a/" * 5000 + "b",
])
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE", "POST"])
def test_addresses_that_climb(site: Site, method: str, target: str) -> None:
    """1, 2, 3: as the wire brings them, with every verb."""
    with sound(site) as answers:
        answer = site.ask(method, target + ("/" if method == "POST" else ""), body=b"x" if method in ("PUT", "POST") else None)
        if method != "HEAD":
            answers.append(answer)
        else:
            answers.append(site.ask("GET", "/healthz"))
    assert answer.status in ((400, 404) if "/files/../" in target or "%2e%2e/a" in target else (400,))


def test_twins(site: Site) -> None:
    """5: NFC and NFD are one file, upper and lower case are two."""
    for name, data in (("Tw\u00efn", b"nfc"), ("Twi\u0308n", b"nfd"), ("tw\u00efn", b"lower")):
        assert by_put(site, Input(f"twins/{name}", data)).status in (200, 201)
    assert site.paths("main", "twins/") == ["twins/Twïn", "twins/twïn"]
    assert site.content(f"/files/main/twins/{quote('Twïn')}") == b"nfd"


# --- 7: symlinks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["file", "folder"])
def test_symlinks_in_the_data_folder_are_not_followed(strict_server: Site, tmp_path: Path, where: str) -> None:
    """7: bytes that somebody slipped in are not given out, and nothing is written or removed through them. That the storage was
    tampered with is an error that the log may show in full."""
    strict = strict_server
    root = strict.server.data / "blobs"
    assert by_put(strict, Input(f"linked-{where}", GIF, "strict")).status == 201
    blob = root / min(path for path in strict.blobs() if (root / path).read_bytes() == GIF and not (root / path).is_symlink())
    if where == "file":
        (tmp_path / "secret").write_bytes(b"s" * len(GIF))
        moved, real = blob, blob.rename(tmp_path / "real")
        blob.symlink_to(tmp_path / "secret")
    else:
        moved, real = blob.parent, blob.parent.rename(root.parent / "moved")
        (tmp_path / blob.name).write_bytes(b"s" * len(GIF))
        moved.symlink_to(tmp_path)
    try:
        for method in ("GET", "DELETE"):
            answer = strict.ask(method, f"/files/strict/linked-{where}")
            assert b"ssss" not in answer.body
        assert {path.read_bytes() for path in tmp_path.iterdir() if path.name != "real" and path.is_file()} == {b"s" * len(GIF)}
    finally:
        moved.unlink()
        real.rename(moved)


# --- 8 to 11: types ------------------------------------------------------------------------------------------------

TYPES = [
    (8, "a.PHP", GIF, 415), (8, "a.php.jpg", GIF, 415), (8, "a.pHtMl", GIF, 415), (8, "shell.jsp", GIF, 415), (8, "a.gif", GIF, 200),
    (8, "a.jpg", b"<?php system($_GET['c']); ?>", 415), (9, "page.png", HTML, 415), (9, "page.gif", b"GIF" + HTML, 415),
    (9, "text.gif", b"just text", 415), (9, "empty.gif", b"", 415), (9, "vector.jpg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 200),
]


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("case, name, data, expected", TYPES, ids=lambda value: repr(value)[:24])
def test_types_against_an_allow_list(strict: Site, case: int, name: str, data: bytes, expected: int, lane: str) -> None:
    """8, 9: content and extension decide, whatever the client declares."""
    given = Input(f"{lane.replace(' ', '-')}-{name}", data, "strict", {} if lane in FORMS else {"Content-Type": "image/gif"})
    resumable = lane.endswith(("chunk", "patch")) or lane == "dropzone"
    with sound(strict, keeps=expected == 200 or resumable) as answers:
        answers.append(LANES[lane](strict, given))
    assert answers[0].status in ((200, 201, 204) if expected == 200 else (415,)), answers[0]
    if expected == 415:
        assert strict.ask("GET", f"/files/strict/{quote(given.name)}").status == 404
        assert answers[0].json()["accepted"] == ["image/*"]


ACTIVE = {
    "page.html": HTML, "fragment.txt": b"<script>alert(1)</script>", "vector.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "doc.xml": b"<?xml version='1.0'?><a/>", "xhtml.jpg": b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'/>",
    "style.xsl": b"<?xml version='1.0'?><xsl:stylesheet version='1.0' xmlns:xsl='http://www.w3.org/1999/XSL/Transform'/>",
    "script.js": b"alert(1)", "late.png": b" " * 600 + HTML,
}


@pytest.mark.parametrize("lane", ["put", "form", "upload"])
@pytest.mark.parametrize("name", ACTIVE)
def test_active_content_is_given_out_as_an_attachment(site: Site, name: str, lane: str) -> None:
    """9, 10: nothing that a browser runs is shown in it."""
    assert LANES[lane](site, Input(name, ACTIVE[name])).status in (200, 201)
    target = f"/files/{'tutorial' if lane == 'upload' else 'main'}/{name}"
    for method, query in itertools.product(("GET", "HEAD"), ("", "?download", "?version=1")):
        got = site.ask(method, target + query)
        if got.status == 404:
            continue
        assert (got.header("Content-Disposition") or "").startswith("attachment; ")
    got = site.ask("GET", target)
    assert got.header("X-Content-Type-Options") == "nosniff"
    assert "sandbox" in (got.header("Content-Security-Policy") or "")
    assert got.header("Cross-Origin-Resource-Policy") == "same-origin"
    assert got.body == ACTIVE[name]


@pytest.mark.parametrize("name", ['quote".txt', "semi;colon.txt", "back\\slash.txt", "per%cent%22.txt", "a=b.txt", "'single'.txt", "com,ma.txt", "日本.txt",
                                  "mixed é\"\\%.txt", "x" * 255, "é" * 127, "\U0001f4a9.txt", "a\tb".replace("\t", "\u2003")])
def test_names_that_would_break_a_header(site: Site, name: str) -> None:
    """11: RFC 6266 and 8187 encode them; Location is percent-encoded."""
    put = by_put(site, Input(f"headers/{name}", b"x"))
    assert put.status == 201
    got = site.ask("GET", put.header("Location") or "")
    must_be_shown_safely(got, name)
    must_be_shown_safely(site.ask("GET", f"{put.header('Location')}?download"), name)


# --- 12 to 16: forms -----------------------------------------------------------------------------------------------

ADDRESSES = {"form": "/files/main/forms/", "upload": "/upload", "chunk": "/chunk-upload", "complete": "/chunk-upload/complete"}
OF_WIDGETS = {name: f"/widgets/{name}/main" for name in ("dropzone", "resumablejs", "flowjs", "filepond")}
ALL_ADDRESSES = {**ADDRESSES, **OF_WIDGETS}


def fields_for(address: str, data: bytes = b"x") -> list[bytes]:
    """What a form there says of ``data``, which comes whole."""
    widgets: Mapping[str, Callable[[], Fields]] = {
        "dropzone": lambda: dropzone_fields(data, 0, len(data), "forms"), "filepond": lambda: (("filepond", "{}"),),
        "resumablejs": lambda: numbered_fields("resumable", data), "flowjs": lambda: numbered_fields("flow", data)}
    if address in widgets:
        return [text(*one) for one in widgets[address]()]
    return [text("file_id", "forms"), text("index", 0)] if address == "chunk" else [text("total_chunks", 1)] if address == "complete" else []


def whole(address: str, name: str = "a.txt", data: bytes = b"x") -> bytes:
    """A good form for this address."""
    last = text("file_id", "forms") if address == "complete" else part("chunk" if address == "chunk" else "file", name, data)
    return multipart(*fields_for(address, data), last)


MALFORMED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "14: no boundary": ("multipart/form-data", lambda body: body),
    "14: empty boundary": ("multipart/form-data; boundary=", lambda body: body),
    "14: empty quoted boundary": ('multipart/form-data; boundary=""', lambda body: body),
    "14: another boundary": ("multipart/form-data; boundary=another", lambda body: body),
    "14: boundary of 71": (f"multipart/form-data; boundary={'b' * 71}", lambda body: body.replace(BOUNDARY.encode(), b"b" * 71)),
    "14: boundary of 8000": (f"multipart/form-data; boundary={'b' * 8000}", lambda body: body.replace(BOUNDARY.encode(), b"b" * 8000)),
    "14: regex for a boundary": ("multipart/form-data; boundary=.*", lambda body: body),
    "14: slow regex for a boundary": ('multipart/form-data; boundary="(a+)+$"', lambda body: body),
    "14: boundary outside ASCII": ("multipart/form-data; boundary=\xe9", lambda body: body),
    "14: boundary as prefix": (f"multipart/form-data; boundary={BOUNDARY[:-1]}", lambda body: body),
    "14: no last boundary": (FORM, lambda body: body[:-4]),
    "14: nothing": (FORM, lambda body: b""),
    "14: first boundary not at the start of a line": (FORM, lambda body: b"x" + body),
    "14: bare line feeds": (FORM, lambda body: body.replace(b"\r\n", b"\n")),
    "13: a header line of 1 MB": (FORM, lambda body: body.replace(b"Content-Disposition", b"X: " + b"y" * MIB + b"\r\nContent-Disposition", 1)),
    "13: a header of 1 MB without an end": (FORM, lambda body: f"--{BOUNDARY}\r\nX: ".encode() + b"y" * MIB),
    "13: 1 MB of header lines": (FORM, lambda body: body.replace(b"Content-Disposition", b"X: y\r\n" * 180_000 + b"Content-Disposition", 1)),
    "13: a name of 1 MB": (FORM, lambda body: body.replace(b'name="', b'name="' + b"n" * MIB, 1)),
    "2: NUL in a header": (FORM, lambda body: body.replace(b"form-data", b"form\0data", 1)),
    "2: a line break in a file name": (FORM, lambda body: body.replace(b"form-data; name=", b'form-data; x="\n"; name=', 1)),
    "2: a carriage return in a header": (FORM, lambda body: body.replace(b"form-data; name=", b'form-data; x="\r"; name=', 1)),
    "a header without a colon": (FORM, lambda body: body.replace(b"Content-Disposition:", b"Content-Disposition", 1)),
    "no Content-Disposition": (FORM, lambda body: body.replace(b"Content-Disposition", b"X-Disposition", 1)),
    "another disposition": (FORM, lambda body: body.replace(b"form-data; name", b"attachment; name", 1)),
    "a header that isn't UTF-8": (FORM, lambda body: body.replace(b"form-data; name=", b"form-data; x=\"\xff\"; name=", 1)),
}


@pytest.mark.parametrize("address", ALL_ADDRESSES)
@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_forms(site: Site, kind: str, address: str) -> None:
    content_type, spoil = MALFORMED[kind]
    with sound(site) as answers:
        body = spoil(whole(address))
        answers.append(site.pour("POST", ALL_ADDRESSES[address], {"Content-Type": content_type, "Content-Length": str(len(body))}, pieces_of(body)))
    assert answers[0].status == 400, answers[0]


def pieces_of(body: bytes, size: int = 2**18) -> Iterator[bytes]:
    return (body[at:at + size] for at in range(0, len(body), size))


@pytest.mark.parametrize("address", ALL_ADDRESSES)
@pytest.mark.parametrize("kind", ["fields", "files"])
def test_forms_of_10000_parts(strict: Site, address: str, kind: str) -> None:
    """12: 413, with the limit."""
    target = ALL_ADDRESSES[address].replace("/main", "/strict")
    parts = [text(f"f{number}", "x") if kind == "fields" else part("other" if address != "form" else "file", f"{number}.gif", GIF)
             for number in range(10_000)]
    body = multipart(*parts)
    with sound(strict) as answers:
        answers.append(strict.pour("POST", target, {"Content-Type": FORM, "Content-Length": str(len(body))}, pieces_of(body)))
    assert (answers[0].status, answers[0].json()["limit"]) == (FOR_GOOD.get(address, 413), 50)


@pytest.mark.parametrize("address", ALL_ADDRESSES)
@pytest.mark.parametrize("fields, size", [(1, 100 * MIB), (1, 2**16 + 1), (20, 2**16)], ids=["one of 100 MB", "one too large", "too large together"])
def test_text_fields_that_are_too_large(site: Site, address: str, fields: int, size: int) -> None:
    """16: 413, without reading on."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="note"\r\n\r\n'.encode()
    tail = f"--{BOUNDARY}--\r\n".encode()
    length = fields * (len(head) + size + 2) + len(tail)
    parts = ([head, *itertools.repeat(b"x" * 2**16, size // 2**16), b"x" * (size % 2**16), b"\r\n"] for _ in range(fields))
    sent = itertools.chain(itertools.chain.from_iterable(parts), [tail])
    before = site.cpu()
    with sound(site) as answers:
        answers.append(site.pour("POST", ALL_ADDRESSES[address], {"Content-Type": FORM, "Content-Length": str(length)}, sent))
    assert (answers[0].status, answers[0].json()["code"]) == (FOR_GOOD.get(address, 413), "too_large")
    assert site.cpu() - before < 5


HOSTILE = {
    "CR": b"\r", "LF": b"\n", "CR LF": b"\r\n", "CR LF --": b"\r\n--", "boundary prefixes": f"\r\n--{BOUNDARY[:-1]}".encode(),
    "boundary prefixes with a wrong end": f"\r\n--{BOUNDARY[:-1]}x".encode(), "dashes": b"-", "CR CR LF": b"\r\r\n", "NUL": b"\0",
}


@pytest.mark.parametrize("address", ["form", "upload", "chunk"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_bodies_made_to_be_parsed_slowly(site: Site, kind: str, address: str) -> None:
    """15: linear time. 16 MiB in less processor time than a quadratic parser needs for one; and the bytes are right."""
    pattern = HOSTILE[kind]
    block = pattern * (MIB // len(pattern) + 1)
    head, tail = whole(address).rsplit(b"\r\n\r\nx\r\n", 1)
    head, tail = head + b"\r\n\r\n", b"\r\n" + tail
    length = len(head) + 16 * len(block) + len(tail)
    before = site.cpu()
    with sound(site, keeps=True) as answers:
        answers.append(site.pour("POST", ADDRESSES[address], {"Content-Type": FORM, "Content-Length": str(length)},
                                 [head, *[block] * 16, tail]))
    assert site.cpu() - before < 8
    assert answers[0].status in (200, 201)
    if address == "form":
        assert answers[0].json()["files"][0]["size"] == 16 * len(block)
        assert site.content("/files/main/forms/a.txt") == block * 16


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_preambles_made_to_be_parsed_slowly(site: Site, kind: str, address: str) -> None:
    """15: what comes before the first boundary, and no boundary at all."""
    block = HOSTILE[kind] * (MIB // len(HOSTILE[kind]) + 1)
    before = site.cpu()
    with sound(site) as answers:
        answers.append(site.pour("POST", ADDRESSES[address], {"Content-Type": FORM, "Content-Length": str(8 * len(block))}, [block] * 8))
    assert site.cpu() - before < 8
    assert answers[0].status == 400


# --- 17 to 19, 22: lengths -----------------------------------------------------------------------------------------

FRAMES: dict[str, tuple[list[tuple[str, str]], bytes]] = {
    "negative": ([("Content-Length", "-5")], b"hello"),
    "signed": ([("Content-Length", "+5")], b"hello"),
    "not a number": ([("Content-Length", "five")], b"hello"),
    "hexadecimal": ([("Content-Length", "0x5")], b"hello"),
    "fraction": ([("Content-Length", "5.0")], b"hello"),
    "list": ([("Content-Length", "5, 5")], b"hello"),
    "empty": ([("Content-Length", "")], b"hello"),
    "2^63": ([("Content-Length", str(2**63))], b"hello"),
    "5000 digits": ([("Content-Length", "9" * 5000)], b"hello"),
    "other digits": ([("Content-Length", "\u0665".encode().decode("latin-1"))], b"hello"),
    "twice, different": ([("Content-Length", "5"), ("Content-Length", "6")], b"hello!"),
    "with chunked": ([("Content-Length", "5"), ("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n0\r\n\r\n"),
    "chunked first": ([("Transfer-Encoding", "chunked"), ("Content-Length", "5")], b"5\r\nhello\r\n0\r\n\r\n"),
    "chunked twice": ([("Transfer-Encoding", "chunked, chunked")], b"0\r\n\r\n"),
    "chunked not last": ([("Transfer-Encoding", "chunked, gzip")], b"0\r\n\r\n"),
    "unknown coding": ([("Transfer-Encoding", "cowbell")], b"0\r\n\r\n"),
    "hidden coding": ([("Transfer-Encoding", "\x0bchunked"), ("Content-Length", "5")], b"hello"),
    "space before the colon": ([("Content-Length ", "5")], b"hello"),
    "folded": ([("Content-Length", "5\r\n 6")], b"hello"),
    "chunk size no number": ([("Transfer-Encoding", "chunked")], b"zz\r\nhello\r\n0\r\n\r\n"),
    "chunk size negative": ([("Transfer-Encoding", "chunked")], b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk size 2^64": ([("Transfer-Encoding", "chunked")], b"10000000000000000\r\nhello"),
    "chunk longer than its size": ([("Transfer-Encoding", "chunked")], b"5\r\nhello world\r\n0\r\n\r\n"),
    "chunk size without end": ([("Transfer-Encoding", "chunked")], b"0" * 100_000),
}


@pytest.mark.parametrize("target, extra", [("/files/main/framed", {}), ("/files/main/", {"Content-Type": FORM}), ("/upload", {"Content-Type": FORM}),
                                           ("/chunk-upload", {"Content-Type": FORM}), ("/chunk-upload/complete", {}), ("/api/v1/tokens", {}),
                                           ("/tus/main/", {**TUS, "Upload-Length": "5"}), ("/widgets/dropzone/main", {"Content-Type": FORM}),
                                           (f"/widgets/flowjs/main?{urlencode(numbered_fields('flow', b'hello'))}&flowFilename=lengths", {}),
                                           ("/widgets/filepond/main", {"Content-Type": FORM})],
                         ids=["put", "form", "upload", "chunk", "complete", "json", "tus", "dropzone", "flowjs", "filepond"])
@pytest.mark.parametrize("kind", FRAMES)
def test_lengths_that_mean_two_things_or_none(site: Site, kind: str, target: str, extra: dict[str, str]) -> None:
    """17, 22: refused, and the connection closes, so that nobody's next request begins in the midst of this one."""
    headers, body = FRAMES[kind]
    with sound(site, keeps="tus" in target) as answers, site.server.connect() as connection:
        connection.send(wire.head("PUT" if "framed" in target else "POST", target, [*site.fields("admin", extra), *headers]) + body)
        connection.send("GET /healthz HTTP/1.1\r\nHost: smuggled\r\n\r\n")
        connection.end_writing()
        answers.append(connection.response())
        assert answers[0].status in (400, 413), answers[0]
        assert answers[0].header("Connection") == "close"
        assert connection.at_end(), "nothing of the rest was taken for a request"


NUMBERS = ["-1", "+1", "1.0", "1e3", "0x10", " 1", "one", str(2**63), str(2**64), "9" * 5000, "\u0661", "NaN", "1\x00"]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: value[:22])
@pytest.mark.parametrize("name", ["index", "offset", "chunk_size", "total"])
def test_numbers_that_are_none(site: Site, name: str, value: str) -> None:
    """22: the numbers of chunks, before any upload begins because of them."""
    fields = {"file_id": "numbers", "index": "0", "offset": "0", name: value}
    with sound(site) as answers:
        answers.append(site.form("/chunk-upload", [*(text(*one) for one in fields.items()), part("chunk", "blob", b"x")]))
        if name in ("index", "total"):
            del fields["offset"]
            answers.append(site.form("/chunk-upload", [*(text(*one) for one in fields.items()), part("chunk", "blob", b"x")]))
            answers.append(site.form("/chunk-upload/complete", [text("file_id", "numbers"), text("total_chunks", value)]))
    assert {answer.status for answer in answers} <= {400, 413}, answers


@pytest.mark.parametrize("value", [*(value for value in NUMBERS if value[0] != " "), ""], ids=lambda value: value[:22])
@pytest.mark.parametrize("name", ["Upload-Length", "Upload-Offset"])
def test_numbers_of_tus_that_are_none(site: Site, name: str, value: str) -> None:
    """22: and no byte is kept for one of them."""
    begun = site.ask("POST", "/tus/main/", {"Tus-Resumable": "1.0.0", "Upload-Defer-Length": "1"}).header("Location") or ""
    with sound(site) as answers:
        fields = [*TUS.items(), ("Upload-Offset", "0"), (name, value.encode().decode("latin-1"))]
        answers.append(site.ask("PATCH", begun, dict(fields), b"x"))
        if name == "Upload-Length":
            answers.append(site.ask("POST", "/tus/main/", [*TUS.items(), *fields[-1:]], b"x"))
    assert {answer.status for answer in answers} <= {400, 409, 413}, answers
    assert site.ask("DELETE", begun, {"Tus-Resumable": "1.0.0"}).status == 204


@pytest.mark.parametrize("widget, name", [
    *(("dropzone", name) for name in ("dzchunkindex", "dztotalfilesize", "dzchunksize", "dztotalchunkcount", "dzchunkbyteoffset")),
    *((widget, widget.removesuffix("js") + name) for widget in ("resumablejs", "flowjs")
      for name in ("ChunkNumber", "ChunkSize", "CurrentChunkSize", "TotalSize", "TotalChunks")),
])
def test_numbers_of_widgets_that_are_none(site: Site, widget: str, name: str) -> None:
    """22: before any upload begins because of them; nor for the largest there are, but for strides and counts, which may be anything."""
    good = dropzone_fields(b"two", 1, 2, "numbers") if widget == "dropzone" else numbered_fields(widget.removesuffix("js"), b"x")
    largest = [] if name.lower().endswith(("chunksize", "chunkcount", "chunks")) else [str(2**63 - 1)]
    with sound(site) as answers:
        for value in [*NUMBERS, "", *largest]:
            fields = {**dict(good), name: value}
            answers.append(site.form(f"/widgets/{widget}/small", [*(text(*one) for one in fields.items()), part("file", "numbers", b"x")]))
    assert {answer.status for answer in answers} <= {400, 413}, answers


@pytest.mark.parametrize("fields", [
    {"index": "999999", "chunk_size": str(2**62)}, {"index": "1000000"}, {"index": str(2**63 - 1)}, {"index": "0", "total": str(2**63 - 1)},
    {"index": "3", "chunk_size": str(2**62)},
], ids=str)
def test_numbers_that_are_too_large(site: Site, fields: dict[str, str]) -> None:
    """22: also by their product; promising more room than there is is refused as well."""
    with sound(site) as answers:
        answer = site.form("/chunk-upload", [text("file_id", "huge"), *(text(*one) for one in fields.items()), part("chunk", "blob", b"x")])
        answers.append(replace(answer, status=413) if answer.status == 507 else answer)
    assert answers[0].status == 413


def test_the_last_place_there_is(site: Site) -> None:
    """22: a byte past 2^63 - 1 has no place."""
    parts = [text("file_id", "edge"), text("index", 0), text("offset", 2**63 - 1), part("chunk", "blob", b"x")]
    with sound(site, keeps=True) as answers:
        answers.append(site.form("/chunk-upload", parts))
    assert answers[0].status == 413
    assert site.paths("tutorial", "edge") == []


@pytest.mark.parametrize("total", ["00000000019999999999", "1000001", str(2**63 - 1)])
def test_a_merge_of_more_chunks_than_there_can_be(site: Site, total: str) -> None:
    """22, 25: costs no memory, whatever it says."""
    assert site.form("/chunk-upload", [text("file_id", "many"), text("index", 0), part("chunk", "blob", b"x")]).status == 200
    before = site.cpu()
    with sound(site) as answers:
        answers.append(site.form("/chunk-upload/complete", [text("file_id", "many"), text("total_chunks", total)]))
    assert answers[0].status == 413
    assert site.cpu() - before < 2


@pytest.mark.parametrize("lane", ["put", "body", "form", "upload", "chunk", "tus", *OF_WIDGETS])
def test_bodies_shorter_than_declared(site: Site, lane: str) -> None:
    """18: what can't be resumed is not kept."""
    body, target, headers = b"x" * 20_000, "/files/main/short", {}
    if lane == "body":
        target, headers = "/files/main/", {"Content-Disposition": "attachment; filename=short"}
    elif lane == "tus":
        target, headers = "/tus/main/", {**TUS, "Upload-Length": "20000"}
    elif lane != "put":
        target, headers = ALL_ADDRESSES[lane], {"Content-Type": FORM}
        body = whole(lane, "short", body)
    with sound(site) as answers, site.server.connect() as connection:
        connection.send(wire.head("PUT" if lane == "put" else "POST", target, site.fields("admin", headers), body) + body[:15_000])
        connection.end_writing()
        answers.append(connection.response())
    assert (answers[0].status, answers[0].json()["code"]) == (400, "body_cut")
    assert answers[0].json()["received"] == 15_000


@pytest.mark.parametrize("lane", LANES)
def test_more_than_may_be(strict: Site, lane: str) -> None:
    """19: 413, and nothing past the limit is kept."""
    with sound(strict, keeps=lane == "placed chunk") as answers:
        answers.append(LANES[lane](strict, Input(f"large-{lane.replace(' ', '-')}.gif", GIF + b"\0" * 2**16, "strict")))
    assert (answers[0].status, answers[0].json()["limit"]) == (FOR_GOOD.get(lane, 413), 2**16)
    assert all((strict.server.data / "blobs" / path).stat().st_size <= 2**16 for path in strict.blobs())


# --- 24 to 26, 37: digests, gaps, rights, the server's own fields --------------------------------------------------


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("digest", [
    ("Content-Digest", "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"), ("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg=="),
    ("Repr-Digest", "sha-512=:m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==:"),
    ("Content-Digest", "sha-256=:AAAA:"), ("Content-Digest", "sha-256"), ("Content-MD5", "!"), ("Repr-Digest", "sha-512=2"),
], ids=lambda digest: f"{digest[0]}: {digest[1][:12]}")
def test_digests_that_the_bytes_do_not_have(site: Site, digest: tuple[str, str], lane: str) -> None:
    """24: those bytes are discarded; a digest that can't be read is refused, not passed over."""
    name = f"digest-{lane}".replace(" ", "-")
    with sound(site, keeps=lane in ("placed chunk", "tus patch", "dropzone", "filepond patch")) as answers:
        answers.append(LANES[lane](site, Input(name, b"other bytes", headers=dict([digest]))))
    assert answers[0].status in (400, 460 if lane in BY_TUS else 400)
    space = "tutorial" if lane in CLASSIC else "main"
    assert site.ask("GET", f"/files/{space}/{name}").status == 404
    uploads = site.ask("GET", f"/api/v1/uploads?space={space}&limit=1000").json()["uploads"]
    assert {upload["received"] for upload in uploads if upload["path"] == name} <= {0}


def test_completing_with_gaps(site: Site) -> None:
    """25: 409 that lists them."""
    for index in (1, 3):
        site.form("/chunk-upload", [text("file_id", "gappy"), text("index", index), part("chunk", "blob", b"x")])
    with sound(site) as answers:
        answers.append(site.form("/chunk-upload/complete", [text("file_id", "gappy"), text("total_chunks", 5)]))
    assert (answers[0].status, answers[0].json()["missing"]) == (409, [0, 2, 4])


VERBS = ["GET", "HEAD", "PUT", "POST", "DELETE"]


@pytest.mark.parametrize("method", VERBS)
@pytest.mark.parametrize("target", ["/files/vault/a", "/files/vault/", "/files/vault/f/", "/api/v1/files?space=vault", "/api/v1/uploads?space=vault",
                                    "/api/v1/files/{file}", "/api/v1/files/{file}/content", "/api/v1/uploads/{upload}", "/uploads/{upload}"])
def test_what_one_has_no_right_to(site: Site, method: str, target: str) -> None:
    """26: 404, or 405 where the verb means nothing to anybody; and it is still there."""
    file = site.ask("PUT", "/files/vault/a", body=b"secret").json()["id"]
    if not any(one["path"] == "hidden" for one in site.ask("GET", "/api/v1/uploads?space=tutorial&limit=1000").json()["uploads"]):
        site.form("/chunk-upload", [text("file_id", "hidden"), text("index", 0), text("offset", 5), part("chunk", "blob", b"x")])
    [upload] = [one["id"] for one in site.ask("GET", "/api/v1/uploads?space=tutorial&limit=1000").json()["uploads"] if one["path"] == "hidden"]
    with sound(site) as answers:
        address = target.format(file=file, upload=upload)
        answer = site.ask(method, address, body=b"x" if method in ("PUT", "POST") else None, who="ann")
        answers += [answer] if method != "HEAD" else [site.ask("GET", "/healthz")]
    assert answer.status in (404, 405) or (answer.status == 400 and method in ("PUT", "DELETE") and address.endswith("/")), answer
    assert b"secret" not in answer.body
    assert site.content("/files/vault/a") == b"secret"
    assert site.ask("GET", f"/uploads/{upload}").json()["state"] == "receiving"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("space", ["vault", "main"])
def test_what_one_has_no_right_to_by_widgets(site: Site, method: str, space: str) -> None:
    """26: neither in the space nor by an id that one learned somehow."""
    file = site.ask("PUT", "/files/vault/a", body=b"secret").json()["id"]
    begun = site.form(f"/widgets/filepond/{space}", [], {"Upload-Length": "6"}).text
    got: list[wire.Response] = []
    with sound(site) as answers:
        for query in (f"load={file}", f"restore={file}", f"patch={begun}"):
            body = {"PATCH": b"secret", "DELETE": query.partition("=")[2].encode(), "POST": multipart(part("file", "a", b"x"))}.get(method)
            headers = {"Upload-Offset": "0", "Content-Type": FORM}
            if method != "POST" or space == "vault":
                got.append(site.ask(method, f"/widgets/filepond/{space}?{query}", headers, body, who="ann"))
        for widget in ("dropzone", "resumablejs", "flowjs"):
            query = urlencode((*numbered_fields(widget.removesuffix("js"), b"x"), (f"{widget.removesuffix('js')}Filename", "a")))
            got.append(site.ask(method, f"/widgets/{widget}/vault?{query}", {}, b"x" if method == "POST" else None, who="ann"))
        answers += got if method != "HEAD" else [site.ask("GET", "/healthz")]
    assert {answer.status for answer in got} <= {404, 405}, got
    assert b"secret" not in b"".join(answer.body for answer in got)
    assert site.content("/files/vault/a") == b"secret"
    assert site.ask("HEAD", f"/widgets/filepond/{space}?patch={begun}").header("Upload-Offset") == "0"
    assert site.ask("DELETE", f"/widgets/filepond/{space}", body=begun.encode()).status == 204


OWN = {"scanned": "true", "owner": "root", "sha256": "00", "id": "0" * 32, "version": "9", "etag": '"x"', "space": "vault", "path": "../x",
       "media_type": "text/html", "crc64nvme": "0", "created_at": "1970", "size": "0", "storage": "s3", "key": "ab/cd", "state": "complete"}


@pytest.mark.parametrize("lane", LANES)
def test_the_servers_own_fields_are_not_the_clients(site: Site, lane: str) -> None:
    """37: in fields, headers and queries they say nothing."""
    headers = {name: value for own, value in OWN.items() for name in (own.replace("_", "-"), f"X-{own.replace('_', '-')}")}
    given = Input(f"own-{lane.replace(' ', '-')}.txt", b"plain", headers=headers, fields=tuple(OWN.items()))
    answer = LANES[lane](site, given)
    assert answer.status in (200, 201, 204), answer
    space = "tutorial" if lane in CLASSIC else "main"
    [kept] = site.ask("GET", f"/api/v1/files?space={space}&prefix={given.name}").json()["files"]
    assert (kept["path"], kept["version"], kept["media_type"], kept["size"], kept["sha256"]) == (given.name, 1, "text/plain", 5, None)
    assert kept["owner"] not in (None, "root") and kept["id"] != "0" * 32
    assert kept["metadata"] == (OWN if lane in ("form", *BY_WIDGET) else {"filename": given.name} if lane in BY_TUS else {})


# --- 32, 33, 38 to 40: what else a request may say -----------------------------------------------------------------


@pytest.mark.parametrize("request_", [
    "GET /files/main/x?token={} HTTP/1.1\r\nHost: a\r\n\r\n", "GET /healthz?access_token={} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /nothing/{} HTTP/1.1\r\nHost: a\r\n\r\n", "PUT /files/main/x?sig={} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: 5\r\n\r\nhe",
    "GET /?{} HTTP/9.9\r\nHost: a\r\n\r\n", "GET /{} HTTP/1.1 x\r\nHost: a\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\nAuthorization Bearer {}\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: a\r\nAuthorization : Bearer {}\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer\r\n {}\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\0\r\n\r\n", "{} / HTTP/1.1\r\nHost: a\r\n\r\n",
    "PUT /files/main/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: -1\r\n\r\n",
    "GET /widgets/filepond/main?load=x&token={} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nExpect: {}\r\n\r\n",
], ids=lambda text: text[:40])
def test_secrets_are_not_logged(site: Site, request_: str) -> None:
    """32: in the URL, in a header, in a request that is no HTTP."""
    secret = "s3cr3t-" + "0123456789abcdef" * 2
    with sound(site) as answers, site.server.connect() as connection:
        connection.send(request_.format(*[secret] * 2))
        connection.end_writing()
        answer = connection.response()
        answers += [answer] if answer.status >= 400 else [site.ask("GET", "/healthz")]
    assert secret not in site.server.log()


def test_downloads_leak_no_address(site: Site) -> None:
    """32: what a file links to does not learn where the file was."""
    by_put(site, Input("refer.html", HTML))
    got = site.ask("GET", "/files/main/refer.html?token=secret")
    assert "sandbox" in (got.header("Content-Security-Policy") or "")
    assert got.header("Referrer-Policy") == "no-referrer"


RANGES = {
    "1000 ranges": ",".join(f"{at}-{at}" for at in range(0, 2000, 2)), "1000 overlapping": ",".join(["0-99999"] * 1000), "all of it twice": "0-,0-",
    "none at the end": "-0", "overlapping": "0-50000,40000-90000", "100,000 bytes": "0-0," * 2000 + "1-1", "past the end": "100000-", "backwards": "9-0",
    "open at both ends": "-", "not numbers": "a-b", "negative": "--5", "huge": f"0-{10**30}", "huge start": f"{10**30}-", "spaces": " 0 - 5 ", "empty": "",
    "many commas": "," * 5000, "other digits": "\u0660-\u0665".encode().decode("latin-1"),
}


@pytest.mark.parametrize("kind", RANGES)
def test_ranges_made_to_cost(site: Site, kind: str) -> None:
    """33: 416, or the whole file, or what was asked for where that is no more than the file; in linear time."""
    data = bytes(range(256)) * 391
    if site.ask("HEAD", "/files/main/ranges.bin").status == 404:
        assert by_put(site, Input("ranges.bin", data)).status == 201
    before = site.cpu()
    answer = site.ask("GET", "/files/main/ranges.bin", {"Range": f"bytes={RANGES[kind]}"[:8000]})
    assert answer.status in (200, 206, 416), answer.status
    assert len(answer.body) <= len(data) + 1000
    assert site.cpu() - before < 2
    if answer.status == 200:
        assert answer.body == data


def test_forwarded_headers_are_not_believed(site: Site) -> None:
    """38: no proxy is trusted unless it is configured, so they change nothing."""
    spoofed = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil",
               "Forwarded": "for=203.0.113.9;host=evil.example;proto=https", "X-Forwarded-Ssl": "on", "X-Real-IP": "203.0.113.9", "X-Script-Name": "/evil",
               "X-Original-URL": "/api/v1/tokens", "X-Rewrite-URL": "/api/v1/tokens", "X-HTTP-Method-Override": "DELETE"}
    put = by_put(site, Input("spoofed", b"x", headers=spoofed))
    assert (put.status, put.header("Location")) == (201, "/files/main/spoofed")
    assert "evil" not in put.text + str(put.headers)
    got = site.ask("GET", "/files/main/spoofed", spoofed)
    assert (got.status, got.body) == (200, b"x")
    assert not {"203.0.113.9", "evil"} & set(re.split(r"[ :/]", site.server.log()))


@pytest.mark.parametrize("target", ["/files/home/private.txt", "/files/main/private.txt", "/files/home/", "/api/v1/files?space=home", "/api/v1/spaces"])
def test_private_answers_are_not_kept_by_shared_caches(site: Site, target: str) -> None:
    """39: what a token opened, only its bearer gets again."""
    by_put(site, Input("private.txt", b"x", target.split("/")[2] if target.startswith("/files") else "home"))
    got = site.ask("GET", target)
    assert got.status == 200
    control = got.header("Cache-Control") or ""
    assert "no-store" in control or ("private" in control and got.header("Vary") == "Cookie, Authorization")


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_no_other_origin_is_let_in(site: Site, origin: str) -> None:
    """39: a page elsewhere can't read answers, and has no cookie to send: a token is never taken from one."""
    for method, target in [("OPTIONS", "/files/main/a"), ("GET", "/files/main/"), ("POST", "/upload")]:
        answer = site.ask(method, target, {"Origin": origin, "Access-Control-Request-Method": "PUT"})
        assert answer.header("Access-Control-Allow-Origin") is None
    cookie = {"Origin": origin, "Cookie": f"token={site.server.token}; session={site.server.token}"}
    assert site.ask("POST", "/upload", {**cookie, "Content-Type": FORM}, multipart(part("file", "a", b"x")), who="nobody").status == 401


ODD = ["100%", "1_0", "1*0", "1?0", "[a-z]", "it's", 'say "so"', "a;b", "--", "1 OR 1=1", "') OR ('1'='1", "%25", "a%", "_", "%", "*", "\\", "a\\b", "${HOME}", "`id`"]


@pytest.mark.parametrize("name", ODD)
def test_names_that_mean_something_to_a_search(site: Site, name: str) -> None:
    """40: lists find, and DELETE deletes, exactly the named items."""
    names = {*ODD, "100x", "1x0", "1xx0", "a", "b", "its", "ab"}
    assert site.form("/files/main/odd/", [part("file", one.replace("\\", "/x/"), b"x") for one in names if "\\" not in one and '"' not in one]).status == 201
    for one in names:
        if "\\" in one or '"' in one:
            assert by_put(site, Input(f"odd/{one}", b"x")).status in (200, 201)
    listed = site.paths("main", quote(f"odd/{name}", safe=""))
    assert listed == sorted(f"odd/{one}" for one in names if one.startswith(name))
    assert site.ask("DELETE", f"/files/main/odd/{quote(name)}").status == 204
    assert set(site.paths("main", "odd/")) == {f"odd/{one}" for one in names - {name}}
