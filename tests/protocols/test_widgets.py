"""``/widgets/…``: what Dropzone, Resumable.js, Flow.js and FilePond send, byte by byte. tests/e2e/test_widgets.py runs the widgets themselves."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
import wire
from fixtures_server import eventually
from fixtures_site import FORM, Site, field, file, multipart
from transcript import play, transcripts

PREFIX = {"resumablejs": "resumable", "flowjs": "flow"}
WIDGETS = ["dropzone", "resumablejs", "flowjs"]
STRIDE = 1000


@pytest.mark.parametrize("name", transcripts("widgets"))
def test_transcript(site: Site, name: str) -> None:
    play(name, site)


def described(widget: str, name: str, data: bytes, index: int, identifier: str = "") -> tuple[dict[str, str], bytes]:
    """A chunk's fields as the widget has them, and its bytes."""
    chunk = data[index * STRIDE:(index + 1) * STRIDE]
    count = max(1, -(-len(data) // STRIDE))
    if widget == "dropzone":
        values: Mapping[str, object] = {"dzuuid": identifier or name, "dzchunkindex": index, "dztotalfilesize": len(data), "dzchunksize": STRIDE,
                                        "dztotalchunkcount": count, "dzchunkbyteoffset": index * STRIDE}
        return {key: str(value) for key, value in values.items()}, chunk
    values = {"ChunkNumber": index + 1, "ChunkSize": STRIDE, "CurrentChunkSize": len(chunk), "TotalSize": len(data), "Type": "",
              "Identifier": identifier or name, "Filename": name, "RelativePath": name, "TotalChunks": count}
    return {PREFIX[widget] + key: str(value) for key, value in values.items()}, chunk


def send(site: Site, widget: str, name: str, data: bytes, index: int, *, who: str = "ann", space: str = "main", identifier: str = "",
         late: bool = False, **changes: str) -> wire.Response:
    values, chunk = described(widget, name, data, index, identifier)
    parts = [field(key, value) for key, value in {**values, **changes}.items()]
    one = file("file", name, chunk)
    return site.form(f"/widgets/{widget}/{space}", [one, *parts] if late else [*parts, one], who=who)


def fresh() -> tuple[str, bytes]:
    return f"widget-{secrets.token_hex(4)}.bin", secrets.token_bytes(5 * STRIDE - 1)


@pytest.mark.parametrize("widget", WIDGETS)
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [1, 1, 4, 0, 0, 2, 3]])
def test_any_order_and_twice(site: Site, widget: str, order: list[int]) -> None:
    name, data = fresh()
    answers = [send(site, widget, name, data, index) for index in order]
    assert [answer.status for answer in answers] == [*[200] * (len(order) - 1), 201]
    assert answers[0].json()["state"] == "receiving"
    assert answers[-1].json()["path"] == name
    assert site.content(f"/files/main/{name}", who="ann") == data
    assert send(site, widget, name, data, order[-1]).status == 200, "the answer was lost"
    assert send(site, widget, name, b"x" * len(data), order[-1]).json()["code"] == "bytes_differ"


@pytest.mark.parametrize("widget", WIDGETS)
def test_all_at_once(site: Site, widget: str) -> None:
    name, data = fresh()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda index: send(site, widget, name, data, index % 5), range(10)))
    for index, answer in enumerate(answers):
        if answer.status == 409:  # the same chunk came over another connection before all of this one had: it is to be sent again
            assert answer.json()["code"] in ("interrupted", "range_busy")
            answer = send(site, widget, name, data, index % 5)
        assert answer.status in (200, 201), answer.body
    assert site.content(f"/files/main/{name}", who="ann") == data


@pytest.mark.parametrize("widget", WIDGETS)
def test_the_same_identifier_of_two_people(site: Site, widget: str) -> None:
    name, mine = fresh()
    _, theirs = fresh()
    for index in range(5):
        assert send(site, widget, f"ann-{name}", mine, index, identifier=name).status < 300
        assert send(site, widget, f"bob-{name}", theirs, index, who="bob", identifier=name).status < 300
    assert site.content(f"/files/main/ann-{name}") == mine
    assert site.content(f"/files/main/bob-{name}") == theirs


@pytest.mark.parametrize("widget", ["resumablejs", "flowjs"])
def test_fields_behind_the_file(site: Site, widget: str) -> None:
    name, data = fresh()
    assert [send(site, widget, name, data, index, late=True).status for index in (3, 1, 4, 0, 2)] == [200, 200, 200, 200, 201]
    assert site.content(f"/files/main/{name}") == data


def has(site: Site, widget: str, name: str, data: bytes, index: int, who: str = "ann", space: str = "main") -> int:
    return site.ask("GET", f"/widgets/{widget}/{space}?{urlencode(described(widget, name, data, index)[0])}", who=who).status


@pytest.mark.parametrize("widget", ["resumablejs", "flowjs"])
def test_tests(site: Site, widget: str) -> None:
    name, data = fresh()
    assert has(site, widget, name, data, 1) == 204
    send(site, widget, name, data, 1)
    assert [has(site, widget, name, data, index) for index in range(5)] == [204, 200, 204, 204, 204]
    assert has(site, widget, name, data, 1, "bob") == 204
    assert site.ask("GET", f"/widgets/{widget}/main?x=1", who="ann").status == 400


@pytest.mark.parametrize("widget", ["resumablejs", "flowjs"])
def test_a_changed_file_is_sent_anew(site: Site, widget: str) -> None:
    """Its size and its name are the same, and so its identifier: nothing of the old one may be taken for it."""
    name, data = fresh()
    other = data[:-1] + b"!" if data[-1:] != b"!" else data[:-1] + b"?"
    for content in (data, other):
        for index in range(5):
            assert has(site, widget, name, content, index) == 204
            assert send(site, widget, name, content, index).status in (200, 201)
        assert site.content(f"/files/main/{name}") == content


@pytest.mark.parametrize("widget", ["resumablejs", "flowjs"])
def test_nothing_is_there_of_what_was_refused(site: Site, widget: str) -> None:
    """All of its bytes are, but a widget that was told so would take the file for stored."""
    name, data = fresh()
    assert [send(site, widget, name, data, index, space="images").status for index in range(5)] == [200, 200, 200, 200, 415]
    for index in range(5):
        assert has(site, widget, name, data, index, space="images") == 204
        assert send(site, widget, name, data, index, space="images").json()["code"] == "unsupported_type"
    assert site.ask("GET", f"/files/images/{name}", who="ann").status == 404


@pytest.mark.parametrize("widget", WIDGETS)
def test_what_came_of_a_chunk_that_was_cut_is_kept(site: Site, widget: str) -> None:
    name, data = fresh()
    values, chunk = described(widget, name, data, 1)
    body = multipart(*(field(key, value) for key, value in values.items()), file("file", name, chunk))
    with site.server.connect() as connection:
        connection.send(wire.head("POST", f"/widgets/{widget}/main", site.fields("ann", {"Content-Type": FORM, "Content-Length": str(len(body))})))
        connection.send(body[:-500])
        connection.end_writing()
        assert connection.response("POST").status == 400

    def kept() -> bool:
        uploads = site.ask("GET", "/api/v1/uploads?space=main&limit=1000", who="ann").json()["uploads"]
        return any(one["path"] == name and 0 < one["received"] < STRIDE for one in uploads)

    eventually(kept)
    for index in range(5):
        assert send(site, widget, name, data, index).status < 300
    assert site.content(f"/files/main/{name}") == data


@pytest.mark.parametrize("widget", WIDGETS)
def test_a_wrong_digest_keeps_nothing(site: Site, widget: str) -> None:
    name, data = fresh()
    values, chunk = described(widget, name, data, 0)
    wrong = "Content-MD5: AAAAAAAAAAAAAAAAAAAAAA=="
    answer = site.form(f"/widgets/{widget}/main", [*(field(*pair) for pair in values.items()), file("file", name, chunk, wrong)], who="ann")
    assert (answer.status, answer.json()["code"]) == (400, "digest_mismatch")
    other = secrets.token_bytes(len(data))
    assert all(send(site, widget, name, other, index).status < 300 for index in range(5))


def test_metadata_and_folders(site: Site) -> None:
    name, data = fresh()
    for index in range(5):
        answer = send(site, "flowjs", name, data, index, flowRelativePath=f"a folder/deep/{name}", album="summer")
    assert (answer.json()["path"], answer.json()["metadata"]) == (f"a folder/deep/{name}", {"album": "summer"})
    answer = site.form("/widgets/dropzone/main", [field("fullPath", f"dz/{name}"), field("album", "winter"), file("file", name, b"x")], who="ann")
    assert (answer.json()["path"], answer.json()["metadata"]) == (f"dz/{name}", {"album": "winter"})


WRONG = {
    "index past the end": {"dzchunkindex": "9", "resumableChunkNumber": "9", "flowChunkNumber": "9"},
    "no index": {"dzchunkindex": "", "resumableChunkNumber": "", "flowChunkNumber": ""},
    "number 0": {"dzchunkindex": "-1", "resumableChunkNumber": "0", "flowChunkNumber": "0"},
    "size past the end": {"dztotalfilesize": "10", "resumableTotalSize": "10", "flowTotalSize": "10"},
    "enormous": {"dztotalfilesize": str(2**70), "resumableTotalSize": str(2**70), "flowTotalSize": str(2**70)},
    "no identifier": {"dzuuid": "", "resumableIdentifier": "", "flowIdentifier": ""},
    "stride 0": {"dzchunksize": "0", "resumableChunkSize": "0", "flowChunkSize": "0"},
    "up and out": {"fullPath": "../x", "resumableRelativePath": "../x", "flowRelativePath": "a/%2e%2e/x"},
    "a longer chunk than said": {"dzchunksize": "999", "resumableCurrentChunkSize": "999", "flowCurrentChunkSize": "999"},
    "a shorter chunk than said": {"dzchunksize": "1001", "resumableCurrentChunkSize": "1001", "flowCurrentChunkSize": "1001"},
}


@pytest.mark.parametrize("widget", WIDGETS)
@pytest.mark.parametrize("wrong", WRONG)
def test_fields_that_make_no_sense(site: Site, widget: str, wrong: str) -> None:
    name, data = fresh()
    known = described(widget, name, data, 2)[0].keys() | {"fullPath"}
    changes = {key: value for key, value in WRONG[wrong].items() if key in known}
    answer = send(site, widget, name, data, 2, **changes)
    assert answer.status in (400, 413), answer
    assert site.ask("GET", f"/files/main/{name}").status == 404


@pytest.mark.parametrize("widget", [*WIDGETS, "filepond"])
@pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("stranger", 404), ("reader", 403)])
def test_who_may_not(site: Site, widget: str, who: str, status: int) -> None:
    before = site.kept()
    answer = site.form(f"/widgets/{widget}/main", [file("file", "x", b"x")], who=who)
    assert answer.status == status
    site.must_be_as(before)


@pytest.mark.parametrize("widget", WIDGETS)
def test_rules_of_the_space(site: Site, widget: str) -> None:
    name, data = fresh()
    assert [send(site, widget, name, data, index, space="images").status for index in range(5)] == [200, 200, 200, 200, 415]
    assert send(site, widget, name, data, 0, space="small").status == (400 if widget == "resumablejs" else 413)
    assert send(site, widget, name, data, 0, space="no-such").status == 404


def test_dropzone_sends_several(site: Site) -> None:
    answer = site.form("/widgets/dropzone/main", [file("file[0]", "dz-a.txt", b"a"), file("file[1]", "dz-b.txt", b"bb")], who="ann")
    assert answer.status in (200, 201)
    assert (site.content("/files/main/dz-a.txt"), site.content("/files/main/dz-b.txt")) == (b"a", b"bb")


def test_filepond_keeps_chunks_whole(site: Site) -> None:
    """What came of one that was cut is dropped: FilePond would go on behind it."""
    begun = site.ask("POST", "/widgets/filepond/main", {"Content-Type": FORM, "Upload-Length": "2000"}, multipart(), who="ann")
    address = f"/widgets/filepond/main?patch={begun.text}"
    with site.server.connect() as connection:
        connection.send(wire.head("PATCH", address, site.fields("ann", {"Upload-Offset": "0", "Content-Length": "1000"})) + b"x" * 700)
        answer = site.ask("HEAD", address, who="ann")
    assert (answer.status, answer.header("Upload-Offset")) == (200, "0")
    for at in (0, 1000):
        answer = site.ask("PATCH", address, {"Upload-Offset": str(at), "Upload-Name": "w\xc3\xbcrd.bin"}, b"y" * 1000, who="ann")
        assert (answer.status, answer.header("Upload-Offset")) == (204, str(at + 1000))
    assert site.content("/files/main/w%C3%BCrd.bin") == b"y" * 2000


@pytest.mark.parametrize("data", [b"", b"just text"], ids=["empty", "text"])
def test_filepond_is_told_of_what_was_refused_again_and_again(site: Site, data: bytes) -> None:
    """Before it tries again it asks where the transfer stands, and an offset at the end is a success."""
    begun = site.ask("POST", "/widgets/filepond/images", {"Content-Type": FORM, "Upload-Length": str(len(data))}, multipart(), who="ann")
    address, headers = f"/widgets/filepond/images?patch={begun.text}", {"Upload-Offset": "0", "Upload-Name": "refused.png"}
    for method in ("PATCH", "HEAD", "PATCH", "HEAD"):
        answer = site.ask(method, address, headers, data if method == "PATCH" else None, who="ann")
        assert (answer.status, answer.header("Upload-Offset")) == (415, None), method
    assert site.ask("GET", "/files/images/refused.png", who="ann").status == 404
    assert site.ask("DELETE", "/widgets/filepond/images", {}, begun.body, who="ann").status == 204
    assert site.ask("HEAD", address, who="ann").status == 410


def test_filepond_reverts_a_transfer_under_way(site: Site) -> None:
    begun = site.ask("POST", "/widgets/filepond/main", {"Content-Type": FORM, "Upload-Length": "2000"}, multipart(), who="ann")
    assert site.ask("DELETE", "/widgets/filepond/main", {}, begun.body, who="bob").status == 404
    assert site.ask("DELETE", "/widgets/filepond/main", {}, begun.body, who="ann").status == 204
    assert site.ask("PATCH", f"/widgets/filepond/main?patch={begun.text}", {"Upload-Offset": "0"}, b"x", who="ann").status == 410


NAMES = {"NUL": "a\0b", "a line break": "a\r\nb", "control": "a\x1fb", "too long": "x" * 256, "too deep": "a/" * 101 + "a", "empty": "a//b", "dots": "a/../b",
         "encoded dots": "a/%252e%252e/b", "backslash": "a\\\\..\\\\b"}


@pytest.mark.parametrize("widget", WIDGETS)
@pytest.mark.parametrize("wrong", NAMES)
def test_names_that_are_none(site: Site, widget: str, wrong: str) -> None:
    """In the path that the widget tells, chunked and not: refused as everywhere, and nothing is left."""
    name, data = fresh()
    path = {"dropzone": "fullPath", "resumablejs": "resumableRelativePath", "flowjs": "flowRelativePath"}[widget]
    before = site.kept()
    answers = [send(site, widget, name, data, 1, **{path: NAMES[wrong]})]
    if widget == "dropzone":
        answers.append(site.form("/widgets/dropzone/main", [field(path, NAMES[wrong]), file("file", name, b"x")], who="ann"))
    for answer in answers:
        assert (answer.status, answer.json()["status"]) == (400, 400), answer
        assert answer.json()["detail"]
    site.must_be_as(before)
