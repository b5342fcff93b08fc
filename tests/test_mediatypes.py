"""What detection says of content, and what accept lists let through (security cases 8 to 10)."""

from __future__ import annotations

import io
import threading
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carboy import mediatypes
from carboy.mediatypes import accepts, detect, is_active

OCTETS, TEXT = "application/octet-stream", "text/plain"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
ELF = b"\x7fELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0\x3e\0\1\0\0\0"
NOISE = bytes((n * 167 + 13) % 256 for n in range(4096))


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "<x/>")
    return buffer.getvalue()


DETECTED = [
    # content that says what it is, whatever the name
    (PNG, "a.png", "image/png"), (PNG, "a.html", "image/png"), (JPEG, "a.txt", "image/jpeg"), (b"GIF89a\1\0\1\0\0\0\0;", "a", "image/gif"),
    (b"%PDF-1.7\n", "a.txt", "application/pdf"), (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\0", "a", "application/pdf"), (MP4, "a.jpg", "video/mp4"),
    (b"RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0\x30\1\0\x9d\x01\x2a\1\0\1\0", "a", "image/webp"), (b"\x1f\x8b\x08\0\0\0\0\0\0\3", "a.jpg", "application/gzip"),
    (b"OggS\0\2" + bytes(20) + b"\1\x1e\1vorbis" + bytes(20), "a.txt", "audio/ogg"), (b"{\\rtf1 x}", "a", "application/rtf"), (b"WEBVTT\n\n", "a", "text/vtt"),
    # active content, whatever the name
    (b"<!DOCTYPE html><title>x</title>", "a.jpg", "text/html"), (b"<html>", "a.txt", "text/html"), (b"  \r\n\t<ScRiPt>alert(1)</script>", "a.png", "text/html"),
    (b"<!-- x -->\n<body onload=x>", "a.css", "text/html"), (b"<!-- never closed", "a.txt", "text/html"), (b"\xef\xbb\xbf<html>", "a.txt", "text/html"),
    (b"<img src=x onerror=y>", "a.md", "text/html"), (b" " * 4000 + b"<script>", "a.txt", "text/html"), (b"<a\nhref=x>", "a.csv", "text/html"),
    ("\ufeff<script>x</script>".encode("utf-16-le"), "a.txt", "text/html"), ("\ufeff<svg>".encode("utf-16-be"), "a.txt", "image/svg+xml"),
    (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a.png", "image/svg+xml"), (b'<?xml version="1.0"?>\n<!-- c --><svg/>', "a.txt", "image/svg+xml"),
    (b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd"><svg>', "a.txt", "image/svg+xml"),
    (b'<!DOCTYPE svg [<!ENTITY a "b">]><s:svg>', "a.txt", "image/svg+xml"), (b'<?xml version="1.0"?><html xmlns="x">', "a.txt", "application/xhtml+xml"),
    (b'<?xml version="1.0"?><a/>', "a.json", "text/xml"), (b"<rss version='2.0'>", "a.txt", "text/xml"), (b"<?xml-stylesheet href='x'?><a/>", "a.txt", "text/xml"),
    (b"<?php echo 1;", "a.txt", "text/x-php"), (b"#!/bin/sh\n", "a.txt", "text/x-shellscript"), (b"#!/usr/bin/env python3\n", "a.txt", "text/x-python"),
    (b"#!/opt/odd", "a.txt", "text/x-script"),
    # plain text, where the name may say more
    (b"hello", "a", TEXT), (b"hello", "a.txt", TEXT), (b"hello", "a.css", "text/css"), (b"a,b\n", "a.csv", "text/csv"), (b"# x", "README.md", "text/markdown"),
    (b"x=1", "a.JS", "text/javascript"), (b"hello", "a.html", "text/html"), (b"hello", "a.xml", "text/xml"), (b"[]", "a.json", "application/json"),
    (b'{"a": 1}', "a", "application/json"), (b"{not json", "a", TEXT), (b"[" * 5000, "a", TEXT), (b"a: 1", "a.yml", "application/yaml"),
    ("grüße".encode(), "a", TEXT), ("grüße".encode("latin-1"), "a.txt", TEXT), (b"\r\n" * 2048, "a", TEXT), (b"\xef\xbb\xbf", "a", TEXT),
    (b"if a < b: pass", "a", TEXT), (b"<3 you", "a", TEXT), (b"said: <script>", "a", TEXT),
    # plain text that a name may not lift into what it isn't
    (b"hello", "a.jpg", TEXT), (b"hello", "a.png", TEXT), (b"hello", "a.svg", TEXT), (b"hello", "a.mp4", TEXT), (b"hello", "a.pdf", TEXT), (b"hello", "a.zip", TEXT),
    # archives, named
    (zipped("a.txt"), "a.zip", "application/zip"), (zipped("a.txt"), "a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (zipped("a.txt"), "a.jpg", "application/zip"), (zipped("a.txt"), "a.html", "application/zip"), (zipped("a.txt"), "a.epub", "application/epub+zip"),
    (zipped("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"), "a.zip", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    # the unknown
    (NOISE, "a", OCTETS), (NOISE, "a.jpg", OCTETS), (NOISE, "a.html", OCTETS), (NOISE, "a.txt", OCTETS), (NOISE, "a.mp3", OCTETS),
    (NOISE, "a.parquet", "application/vnd.apache.parquet"), (b"\0" * 4096, "a", OCTETS), (b"\0" * 4096, "a.png", OCTETS),
    # nothing at all
    (b"", "a", OCTETS), (b"", "a.txt", TEXT), (b"", "a.html", "text/html"), (b"", "a.png", OCTETS), (b"", "a.svg", OCTETS), (b"", "a.pdf", "application/pdf"),
]


@pytest.mark.parametrize(("head", "name", "media_type"), DETECTED)
def test_content_decides_and_a_name_refines(head: bytes, name: str, media_type: str) -> None:
    """A name never hides active content and never makes a picture of what isn't one."""
    assert detect(head, name) == media_type


@given(st.binary(max_size=200), st.sampled_from(["a", "a.jpg", "a.html", "a.txt", "a.docx", "a.mp4", "a."]))
def test_anything_has_a_type_and_names_make_no_pictures(head: bytes, name: str) -> None:
    """Any bytes under any name: a well-formed type, of which a name alone can't make a picture."""
    found = detect(head, name)
    assert found.count("/") == 1
    assert found.startswith("image/") == detect(head, "a").startswith("image/")


@given(st.sampled_from([b"<html>", b"<script>x", b"<svg>", b"<?xml version='1.0'?><a>", b"<!doctype html>", b"<!doctype \n html>"]), st.text(max_size=12))
def test_no_name_hides_active_content(head: bytes, name: str) -> None:
    """HTML stays HTML under every name."""
    assert is_active(detect(head, name))
    assert detect(head, name) == detect(head, "")


@pytest.mark.parametrize("head", [
    b"\r\n" * 2048, b"\n" * 4096, b"<" * 4096, b"<!--" * 1024, b"<!-- --" * 585, b"<?xml " * 682, b"<!doctype " * 409, b"<!doctype a" + b" " * 4085, b"<!doctype" + b" " * 4087,
    b"<!doctype x [" * 315, b"[" * 4096, b'{"a":' * 700, b"#!" * 2048, b"MZ\0" + b"\r\n" * 2046, b"BM\0" + b"\r\n" * 2046, b"PK\3\4" + b"\r\n" * 2046,
])
def test_odd_heads_have_a_type(head: bytes) -> None:
    """4 KiB of what is worst for a pattern or a parser (deep nesting, unclosed comments, empty lines) is told without an error."""
    assert detect(head, "a").count("/") == 1


def test_more_than_a_head_changes_nothing() -> None:
    """Only the first 4 KiB count; a memoryview serves as well."""
    assert detect(b"a" * 4096 + b"\0" * 10**6, "a") == TEXT
    assert detect(memoryview(PNG), "a") == "image/png"  # type: ignore[arg-type]


def test_many_threads_detect_at_once() -> None:
    """libmagic's cookies are never shared by two threads: every answer is right."""
    wrong: list[str] = []

    def work(head: bytes, expected: str) -> None:
        wrong.extend(found for found in (detect(head, "a") for _ in range(200)) if found != expected)

    threads = [threading.Thread(target=work, args=pair) for pair in [(PNG, "image/png"), (MP4, "video/mp4"), (JPEG, "image/jpeg")] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(("head", "media_type"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (b"%PDF-1.7\n", "application/pdf"), (NOISE, OCTETS), (b"", OCTETS)])
def test_puremagic_stands_in_for_libmagic(head: bytes, media_type: str) -> None:
    """Where libmagic is missing the common types are still told."""
    assert mediatypes._by_puremagic(head) == media_type


# --- accept lists ---

ACCEPTED = [
    ("image/png", ["image/*"], "a.png"), ("image/png", ["image/png"], "a"), ("image/png", ["IMAGE/*"], "a"), ("image/png", [" image/png ; q=1 "], "a"),
    ("image/png", ["text/plain", "image/*"], "a"), ("image/png", [], "a.php"), ("text/x-php", ["*/*"], "a.php"), ("text/html", ["*"], "a"),
    ("application/pdf", ["application/pdf"], "a.pdf"), ("application/pdf", [".pdf"], "A.PDF"), ("image/jpeg", [".jpg", ".png"], "a.jpg"),
    ("text/x-python", [".py"], "a.py"), ("text/x-python", ["text/x-python"], "a.py"), ("text/plain", [".sh"], "a.sh"), ("text/csv", [".csv"], "a.csv"),
    ("text/plain", [".log"], "a.log"), ("application/octet-stream", [".dat"], "a.dat"), ("audio/mp4", [".mp4"], "a.mp4"), ("text/xml", ["application/xml"], "a"),
    ("text/javascript", ["application/javascript"], "a"), ("image/bmp", ["image/x-ms-bmp"], "a"), ("application/gzip", [".tar.gz"], "a.tar.gz"),
    ("text/html", [".html"], "a.html"), ("image/svg+xml", ["image/*"], "a.svg"), ("image/png", ["image/*"], "php.png"), ("image/png", ["image/*"], "v1.0.png"),
    ("image/png", ["image/*"], "php/a.b/c.png"), ("image/png", ["image/*", ".php"], "a.php.png"), ("image/png", ["image/*"], "example.com.png"),
]

NOT_ACCEPTED = [
    ("text/plain", ["image/*"], "a.jpg"), ("text/html", ["image/*"], "a.jpg"), ("image/png", ["image/jpeg"], "a"), ("imagex/png", ["image/*"], "a"),
    ("image/png", ["image"], "a"), ("image/png", [""], "a"), ("application/pdf", [".pdf"], "a.txt"), ("application/pdf", [".pdf"], "apdf"),
    # the extension says one thing, the content another
    ("text/html", [".jpg"], "a.jpg"), ("text/plain", [".jpg"], "a.jpg"), ("application/octet-stream", [".jpg"], "a.jpg"), ("application/pdf", [".jpg"], "a.jpg"),
    ("text/html", [".pdf"], "a.pdf"), ("text/plain", [".pdf"], "a.pdf"), ("application/x-msdownload", [".pdf"], "a.pdf"), ("text/html", [".xyz"], "a.xyz"),
    ("text/plain", [".docx"], "a.docx"), ("application/octet-stream", [".mp4"], "a.mp4"), ("image/svg+xml", [".png"], "a.png"),
    # security case 8
    ("image/png", ["image/*"], "a.PHP"), ("image/png", ["image/*"], "a.php.jpg"), ("image/jpeg", [".jpg"], "a.php.jpg"), ("image/png", ["image/*"], "a.phtml"),
    ("image/png", ["image/*"], "a.php "), ("image/png", ["image/*"], "a.php."), ("image/png", ["image/*"], "a.asp;.jpg"), ("image/png", ["image/*"], "a.php:.jpg"),
    ("image/png", ["image/*"], "d/a.PhP5.png"), ("text/plain", ["text/*"], ".htaccess"), ("text/plain", ["text/*"], "a.py"), ("text/plain", ["text/*"], "a.cgi"),
    ("application/x-msdownload", ["application/*"], "a.exe"), ("image/png", ["image/*", ".pht"], "a.php"), ("text/x-php", ["text/*"], "a.php"),
]


@pytest.mark.parametrize(("media_type", "patterns", "name"), ACCEPTED)
def test_accepted(media_type: str, patterns: list[str], name: str) -> None:
    """A type, a family, an extension whose content doesn't contradict it, or no list at all."""
    assert accepts(media_type, patterns, name)


@pytest.mark.parametrize(("media_type", "patterns", "name"), NOT_ACCEPTED)
def test_not_accepted(media_type: str, patterns: list[str], name: str) -> None:
    """Another type, an extension that content contradicts, an extension that a server runs."""
    assert not accepts(media_type, patterns, name)


@pytest.mark.parametrize("media_type", [
    "text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml", "application/rss+xml", "text/javascript",
    "application/javascript", "application/ecmascript", "text/x-php", "text/x-shellscript", "multipart/x-mixed-replace", "message/rfc822", "text/xsl",
    "application/x-shockwave-flash", "text/vbscript",
])
def test_active_types(media_type: str) -> None:
    """What a browser would run goes out as an attachment (security case 10)."""
    assert is_active(media_type)


@pytest.mark.parametrize("media_type", [
    "image/png", "application/pdf", "text/plain", "text/css", "text/csv", "video/mp4", "application/json", OCTETS, "application/postscript",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
])
def test_types_that_are_not_active(media_type: str) -> None:
    """These may be shown in place."""
    assert not is_active(media_type)
