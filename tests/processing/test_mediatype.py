"""The step ``mediatype``: what a content is by more than its first bytes."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carboy.model import TRUSTED
from carboy.processing import insides

OFFICE, OPEN = "application/vnd.openxmlformats-officedocument.", "application/vnd.oasis.opendocument."
ZIP, TEXT, OCTETS = "application/zip", "text/plain", "application/octet-stream"


def zipped(*names: str, mimetype: str = "", packed: bool = False, comment: bytes = b"") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        if mimetype:
            archive.writestr("mimetype", mimetype, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
        for name in names:
            archive.writestr(name, "x" * 5000)
        archive.comment = comment
    return made.getvalue()


def box(kind: str, *inside: bytes, long: bool = False) -> bytes:
    content = b"".join(inside)
    if long:
        return (1).to_bytes(4, "big") + kind.encode() + (len(content) + 16).to_bytes(8, "big") + content
    return (len(content) + 8).to_bytes(4, "big") + kind.encode() + content


def film(*tracks: str, brand: str = "isom", long: bool = False) -> bytes:
    traks = [box("trak", box("tkhd", bytes(84)), box("mdia", box("hdlr", bytes(8), kind.encode(), bytes(12)))) for kind in tracks]
    return (box("ftyp", brand.encode(), bytes(4), brand.encode()) + box("mdat", bytes(100_000), long=long)
            + box("moov", box("mvhd", bytes(100)), *traks, long=long))


FOUND: dict[str, tuple[str, bytes, str]] = {
    "docx": ("a", zipped("[Content_Types].xml", "other.xml", "word/document.xml"), f"{OFFICE}wordprocessingml.document"),
    "xlsx under another name": ("a.zip", zipped("[Content_Types].xml", "xl/workbook.xml"), f"{OFFICE}spreadsheetml.sheet"),
    "pptx": ("a.docx", zipped("[Content_Types].xml", "ppt/presentation.xml"), f"{OFFICE}presentationml.presentation"),
    "docx with macros": ("a.docx", zipped("[Content_Types].xml", "word/document.xml", "word/vbaProject.bin"),
                         "application/vnd.ms-word.document.macroenabled.12"),
    "jar": ("a.zip", zipped("com/x.class", "META-INF/MANIFEST.MF"), "application/java-archive"),
    "apk": ("a.zip", zipped("a.bin", "AndroidManifest.xml", "META-INF/MANIFEST.MF"), "application/vnd.android.package-archive"),
    "zip called docx": ("a.docx", zipped("photo.jpg"), ZIP),
    "zip called jar, with a comment": ("a.jar", zipped("photo.jpg", comment=b"x" * 60_000), ZIP),
    "sound in a film's clothes": ("a.mp4", film("soun"), "audio/mp4"),
    "sound with large boxes": ("a.mp4", film("soun", "text", long=True), "audio/mp4"),
    "json": ("a", json.dumps([{"number": n} for n in range(1000)]).encode(), "application/json"),
    "binary after text": ("a.txt", b"text\n" * 2000 + b"\0\1\2", OCTETS),
    "binary a megabyte in": ("a.txt", b"text\n" * 300_000 + b"\0", OCTETS),
}
SAME: dict[str, tuple[str, bytes, str]] = {
    "odt": ("a.zip", zipped("content.xml", mimetype=f"{OPEN}text"), f"{OPEN}text"),
    "ods template": ("a.odt", zipped("content.xml", mimetype=f"{OPEN}spreadsheet-template"), f"{OPEN}spreadsheet-template"),
    "epub": ("a.zip", zipped("META-INF/container.xml", mimetype="application/epub+zip"), "application/epub+zip"),
    "zip": ("a.zip", zipped("a.jpg"), ZIP),
    "docx by its name": ("a.docx", zipped("[Content_Types].xml", "word/document.xml"), f"{OFFICE}wordprocessingml.document"),
    "a lie about itself": ("a.zip", zipped("a.jpg", mimetype="text/html"), ZIP),
    "a packed mimetype": ("a.zip", zipped("a.jpg", mimetype=f"{OPEN}text", packed=True), ZIP),
    "a zip that is cut": ("a.docx", zipped("[Content_Types].xml", "word/document.xml")[:-30], f"{OFFICE}wordprocessingml.document"),
    "a film": ("a.mp4", film("soun", "vide"), "video/mp4"),
    "a film without tracks": ("a.mp4", film(), "video/mp4"),
    "text": ("a.txt", "größer\n".encode() * 5000, TEXT),
    "text in UTF-16": ("a.txt", "text".encode("utf-16"), TEXT),
    "half of JSON": ("a.txt", b"[" + b"1," * 5000, TEXT),
    "deep JSON": ("a.txt", b"[" * 100_000 + b"]" * 100_000, TEXT),
    "html": ("a", b"<!doctype html>" + b" " * 5000 + b"\0", "text/html"),
    "nothing": ("a.txt", b"", TEXT),
    "a picture": ("a.gif", b"GIF89a" + bytes(100), "image/gif"),
}


def looked(make_workshop: Any, name: str, data: bytes, **rules: Any) -> tuple[str, str, dict[str, Any]]:
    """The type on arrival, the type afterwards, and what the step says."""
    workshop = make_workshop(spaces={"main": {"steps": ["mediatype"], **rules}})
    file = workshop.put(name, data)
    workshop.drain()
    job = workshop.job(file, "mediatype")
    assert job.state == "done", job
    return file.media_type, workshop.file(name).media_type, job.result


@pytest.mark.parametrize("case", sorted(FOUND))
def test_more_is_seen_by_looking_further(make_workshop: Any, case: str) -> None:
    name, data, found = FOUND[case]
    was, now, told = looked(make_workshop, name, data)
    assert was != found, "else it would show nothing"
    assert (now, told) == (found, {"media_type": found, "was": was})


@pytest.mark.parametrize("case", sorted(SAME))
def test_what_is_known_well_stays(make_workshop: Any, case: str) -> None:
    name, data, kind = SAME[case]
    assert looked(make_workshop, name, data) == (kind, kind, {"media_type": kind})


def test_a_type_that_the_space_does_not_take_is_only_told(make_workshop: Any) -> None:
    word = f"{OFFICE}wordprocessingml.document"
    told = looked(make_workshop, "a.docx", zipped("a.bin", "AndroidManifest.xml"), accept=[word])
    assert told == (word, word, {"media_type": word, "found": "application/vnd.android.package-archive", "refused": True})


def test_other_spaces_and_other_names_keep_their_types(make_workshop: Any) -> None:
    """Spaces that take only texts have no binary files by another one's job, nor pages by the job of a text."""
    workshop = make_workshop(spaces={"main": {"dedup": True}, "texts": {"accept": ["text/*"]}})
    data = b"text\n" * 5000 + b"\0"
    types = [workshop.put(name, data).media_type for name in ("x.txt", "x.html")]
    workshop.drain()
    text, page = workshop.file("x.txt"), workshop.file("x.html")
    assert text.blob.id == page.blob.id
    workshop.services.changes.copy(TRUSTED, text, "y.txt", space="texts")
    workshop.order(text, "mediatype")
    workshop.drain()
    assert types == [TEXT, "text/html"]
    assert [workshop.file(name).media_type for name in ("x.txt", "x.html")] == [OCTETS, "text/html"]
    assert workshop.file("y.txt", "texts").media_type == TEXT


def test_a_directory_that_claims_to_be_huge_is_not_read() -> None:
    data = bytearray(zipped("[Content_Types].xml", "word/document.xml"))
    end = data.rindex(b"PK\x05\x06")
    for length, start in ((2**32 - 1, 0), (9 * 2**20, 0), (100, 2**32 - 1)):
        data[end + 12:end + 20] = length.to_bytes(4, "little") + start.to_bytes(4, "little")
        assert insides.zip_type(io.BytesIO(bytes(data)), len(data)) is None


def test_boxes_that_never_end() -> None:
    for data in (box("free") * 50_000, bytes(100), (8).to_bytes(4, "big") + b"moov" + bytes(1000), (1).to_bytes(4, "big") + b"moov" + bytes(8)):
        assert insides.mp4_type(io.BytesIO(data), len(data)) is None


WHOLE = (zipped("[Content_Types].xml", "word/document.xml", mimetype=f"{OPEN}text"), film("soun", long=True))


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=400), st.randoms(use_true_random=False))
def test_whatever_comes(noise: bytes, chance: random.Random) -> None:
    """Nothing that a file says makes it fail."""
    for whole in WHOLE:
        data = bytearray(whole)
        for byte in noise[:20]:
            data[chance.randrange(len(data))] = byte
        cut = bytes(data[:chance.randrange(len(data))]) + noise
        for file in (bytes(data), cut, noise):
            insides.zip_type(io.BytesIO(file), len(file))
            insides.mp4_type(io.BytesIO(file), len(file))
            insides.text_type(io.BytesIO(file), len(file), lambda done: None)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="NOT TESTED with real films: ffmpeg is not installed")
@pytest.mark.parametrize(("wanted", "kind"), [(["-f", "lavfi", "-i", "sine=duration=0.1", "-c:a", "aac"], "audio/mp4"),
                                              (["-f", "lavfi", "-i", "color=size=16x16:duration=0.1"], "video/mp4")])
def test_real_ones(make_workshop: Any, tmp_path: Path, wanted: list[str], kind: str) -> None:
    path = tmp_path / "real.mp4"
    subprocess.run(["ffmpeg", "-v", "error", *wanted, str(path)], check=True)
    assert looked(make_workshop, "real.mp4", path.read_bytes())[1] == kind
