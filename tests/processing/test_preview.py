"""The step ``preview``."""

from __future__ import annotations

import codecs
from typing import Any

import pytest

from carboy.processing.steps.preview import MOST, guess, shown


@pytest.fixture(scope="module")
def workshop(make_shared_workshop: Any) -> Any:
    return make_shared_workshop(spaces={"main": {"steps": ["preview"]}})


@pytest.mark.parametrize(("data", "encoding", "text"), [
    (b"", "utf-8", ""),
    (b"plain", "utf-8", "plain"),
    ("grün 中文 🙂\n".encode(), "utf-8", "grün 中文 🙂\n"),
    (codecs.BOM_UTF8 + "grün".encode(), "utf-8", "grün"),
    (codecs.BOM_UTF16_LE + "grün 🙂".encode("utf-16-le"), "utf-16", "grün 🙂"),
    (codecs.BOM_UTF16_BE + "grün".encode("utf-16-be"), "utf-16", "grün"),
    (codecs.BOM_UTF32_LE + "grün".encode("utf-32-le"), "utf-32", "grün"),
    ("“grün” €".encode("cp1252"), "windows-1252", "“grün” €"),
    ("grün ".encode("latin-1") + b"\x81", "iso-8859-1", "grün "),
    (codecs.BOM_UTF16_LE + b"a\x00\x00\xd8b\x00c", "utf-16", "a\ufffdb\ufffd"),
    (b"cut \xe4\xb8", "windows-1252", "cut ä¸"),
    (b"one\r\ntwo\rthree\n\nfive", "utf-8", "one\ntwo\nthree\n\nfive"),
    (b"tab\there \x1b[31mred\x1b[0m \x00null \x07bell\x7f", "utf-8", "tab\there [31mred[0m null bell"),
    ("a\u202eb\u2066c\u2028d\x85e".encode(), "utf-8", "abc\nd\ne"),
])
def test_a_text_is_shown_as_utf_8(workshop: Any, data: bytes, encoding: str, text: str) -> None:
    job = workshop.ran("text.txt", data, "preview")
    assert (job.state, job.failure) == ("done", None)
    assert job.result == {"encoding": encoding, "lines": len(text.split("\n")) - (text.endswith("\n") or not text), "read": len(data),
                          "whole": True}
    made = workshop.derived(workshop.file("text.txt"))["preview.txt"]
    assert workshop.content(made).decode() == text
    assert (made.media_type, made.facts) == ("text/plain", {"encoding": encoding, "whole": True})


@pytest.mark.parametrize("letter", ["a", "ü", "中", "🙂"])
def test_of_a_long_text_the_beginning_is_shown(workshop: Any, letter: str) -> None:
    data = ("x" + letter * 70_000).encode()
    job = workshop.ran("long.txt", data, "preview")
    assert job.result == {"encoding": "utf-8", "lines": 1, "read": MOST, "whole": False}
    found = workshop.content(workshop.derived(workshop.file("long.txt"))["preview.txt"])
    assert data.startswith(found)
    assert MOST - len(found) < 4
    assert found.decode().strip(letter) == "x"


def test_texts_alone_are_previewed(workshop: Any) -> None:
    texts = [workshop.put("data.json", b'{"a": [1, 2, {"b": null}]}'), workshop.put("page.html", b"<!doctype html><p>hello</p>")]
    other = workshop.put("data.bin", bytes(range(256)))
    workshop.drain()
    assert [workshop.job(file, "preview").state for file in texts] == ["done", "done"]
    assert "preview" not in workshop.jobs(other)


def test_no_bytes_stop_it() -> None:
    """Whatever they are: each single byte, each pair, and all of them after each mark."""
    pairs = [bytes([first, second]) for first in range(256) for second in range(256)]
    marks = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
    for data in [*pairs, *(mark + bytes(range(256)) * 3 for mark in marks)]:
        for whole in (True, False):
            text = shown(codecs.getincrementaldecoder(guess(data, whole=whole))("replace").decode(data, whole))
            assert not [letter for letter in text if ord(letter) < 32 and letter not in "\t\n"]
            text.encode("utf-8", "replace")
