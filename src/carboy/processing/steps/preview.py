"""The beginning of a text, as UTF-8, for those who want to look at it."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from carboy.processing.step import Context, step

MOST = 64 * 2**10
"""Bytes of the content that are read."""

TEXTS = ("text/*", "application/json", "application/ld+json", "application/geo+json", "application/x-ndjson", "application/xml",
         "application/xhtml+xml", "application/javascript", "application/ecmascript", "application/x-javascript", "application/x-sh",
         "application/x-shellscript", "application/x-httpd-php", "application/x-perl", "application/x-ruby", "application/x-python",
         "application/sql", "application/x-sql", "application/toml", "application/yaml", "application/x-yaml", "application/rtf",
         "application/x-tex", "application/x-subrip", "application/mbox", "application/x-wine-extension-ini", "message/rfc822")

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NAMES = {"utf-8-sig": "utf-8"}
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Control characters, and those that turn the direction of what comes after them."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What was seen of the text. ``encoding`` is a guess: utf-8, utf-16, utf-32, windows-1252 or iso-8859-1."""

    encoding: str
    lines: int
    """In what was read."""
    read: int
    """Bytes."""
    whole: bool
    """Whether that is all."""


@step("preview", accept=TEXTS, isolated=True, spaces=(), retries=1, timeout=60.0)
def preview(context: Context) -> Preview:
    """Attaches ``preview.txt``: at most the first 64 KiB of the text, as UTF-8, without control characters, its lines ended by newlines."""
    with context.stream() as source:
        data = source.read(MOST)
    whole = len(data) == context.blob.size
    encoding = guess(data, whole=whole)
    text = shown(codecs.getincrementaldecoder(encoding)("replace").decode(data, whole))
    context.attach("preview.txt", text.encode("utf-8", "replace"), "text/plain", encoding=_NAMES.get(encoding, encoding), whole=whole)
    return Preview(_NAMES.get(encoding, encoding), len(text.splitlines()), len(data), whole)


def guess(data: bytes, *, whole: bool = True) -> str:
    """The name of a codec that reads this text, or, unless it is ``whole``, this beginning of one."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    for name in ("utf-8", "windows-1252"):
        try:
            codecs.getincrementaldecoder(name)().decode(data, whole)
        except UnicodeDecodeError:
            continue
        return name
    return "iso-8859-1"


def shown(text: str) -> str:
    """The same without what isn't to be seen, with newlines as ends of lines."""
    return _CONTROLS.sub("", _LINE_END.sub("\n", text))
