"""``POST /files/{space}/{folder}/``: forms of any number of files, all or none, and bodies that name themselves."""

from __future__ import annotations

import random

import pytest
import wire
from fixtures_site import FORM, Site, field, file, multipart
from transcript import play, transcripts


@pytest.mark.parametrize("name", transcripts("form"))
def test_transcript(site: Site, name: str) -> None:
    play(name, site)


def test_many_files_and_fields_in_any_order(site: Site) -> None:
    """Every file whole, every field in the metadata of every file, wherever it stood."""
    order = random.Random(3)
    contents = {f"{number:03}.bin": order.randbytes(order.choice([0, 1, 100, 5000, 70_000])) for number in range(200)}
    fields = {f"field{number}": f"wörd {number}" for number in range(20)}
    parts = [file("files", name, data) for name, data in contents.items()] + [field(name, value) for name, value in fields.items()]
    order.shuffle(parts)
    answer = site.form("/files/main/form/many/", parts)
    assert answer.status == 201
    files = answer.json()["files"]
    assert {one["name"]: one["size"] for one in files} == {name: len(data) for name, data in contents.items()}
    assert all(one["metadata"] == fields for one in files)
    assert {name: site.content(f"/files/main/form/many/{name}") for name in contents} == contents


def test_a_form_of_unknown_length(site: Site) -> None:
    body = multipart(file("file", "a.bin", b"x" * 5000), file("file", "b.bin"))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[at:at + 999]), body[at:at + 999]) for at in range(0, len(body), 999)) + b"0\r\n\r\n"
    answer = site.ask("POST", "/files/main/form/chunked/", {"Content-Type": FORM, "Transfer-Encoding": "chunked"}, chunks)
    assert [one["size"] for one in answer.json()["files"]] == [5000, 0]


def test_the_last_of_a_field_counts(site: Site) -> None:
    answer = site.form("/files/main/form/", [field("a", "1"), file("file", "last.bin"), field("a", "2")])
    assert answer.json()["files"][0]["metadata"] == {"a": "2"}


BAD = {
    "digest": (file("file", "bad", b"bye", "Content-MD5: XUFAKrxLKna5cZ2REBfFkg=="), 400),
    "malformed digest": (file("file", "bad", b"bye", "Content-Digest: sha-256=hello"), 400),
    "name": (file("file", "..", b"x"), 400),
    "long name": (file("file", "x" * 256, b"x"), 400),
    "twin": (file("file", "good-1", b"x"), 400),
    "field": (field("note", b"\xff"), 400),
    "large field": (field("note", "x" * 70_000), 413),
    "no form part": (b"Content-Type: text/plain\r\n\r\nx", 400),
    "file above": (file("file", "taken", b"x"), 409),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_part_and_nothing_is_kept(site: Site, kind: str, place: int) -> None:
    """Wherever it stands: no file, no bytes, no row."""
    site.ask("PUT", "/files/main/form/none/taken/file", body=b"x")
    bad, status = BAD[kind]
    parts = [file("file", "good-1", b"x" * 100_000), file("file", "good-2", b"y")]
    before = site.kept()
    answer = site.form("/files/main/form/none/", [*parts[:place], bad, *parts[place:]])
    assert answer.status == status, answer
    assert answer.header("Content-Type") == "application/problem+json"
    site.must_be_as(before)
    assert site.paths("main", "form/none/") == ["form/none/taken/file"]


@pytest.mark.parametrize("kept", [10, 150, 100_000, 100_250])
def test_a_form_that_is_cut_leaves_nothing(site: Site, kept: int) -> None:
    body = multipart(file("file", "cut-1", b"x" * 100_000), file("file", "cut-2", b"y" * 100_000))
    before = site.kept()
    with site.server.connect() as connection:
        connection.send(wire.head("POST", "/files/main/form/", site.fields("admin", {"Content-Type": FORM}), body) + body[:kept])
        connection.end_writing()
        answer = connection.response()
    assert (answer.status, answer.json()["code"], answer.json()["received"]) == (400, "body_cut", kept)
    site.must_be_as(before)


def test_folder_and_name_together_are_no_longer_than_a_path(site: Site) -> None:
    """Else the file would have an address that is refused."""
    folder = "/".join(["f" * 255] * 15) + "/"
    assert site.form(f"/files/main/{folder}", [file("file", "g" * 250)]).status == 201
    before = site.kept()
    answer = site.form(f"/files/main/{folder}{'e' * 100}/", [file("file", "h" * 250)])
    assert (answer.status, answer.json()["rule"]) == (400, "path_too_long")
    site.must_be_as(before)
