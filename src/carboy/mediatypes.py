"""What a file is, told from its first bytes. A name only refines what content leaves open, and never hides active content.

Three ways, by what the bytes are. Text is told here, by what a browser would take it for (WHATWG MIME Sniffing section
7.1, and XML roots); libmagic is not asked, since it needs up to 30 ms for 4 KiB of empty lines. Binary content whose
opening belongs to a known format goes to libmagic, or puremagic where that is missing. The rest is
``application/octet-stream``, at the price of a look-up.
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache

GENERIC, TEXT = "application/octet-stream", "text/plain"
_HEAD = 4096
_JSON_DEPTH = 256
"""Deeper nesting could overflow the small stack of a server's thread: json's parser recurses in C."""

_CONTROL = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
"""The bytes that no text contains (WHATWG MIME Sniffing, "binary data byte")."""

_TEXT_OPENINGS = (
    (b"%PDF-", "application/pdf"), (b"%!PS", "application/postscript"), (b"{\\rtf", "application/rtf"),
    (b"GIF87a", "image/gif"), (b"GIF89a", "image/gif"), (b"BEGIN:VCARD", "text/vcard"),
    (b"BEGIN:VCALENDAR", "text/calendar"), (b"WEBVTT", "text/vtt"), (b"-----BEGIN ", "application/x-pem-file"),
)
_SHEBANGS = (("python", "text/x-python"), ("perl", "text/x-perl"), ("php", "text/x-php"), ("ruby", "text/x-ruby"),
             ("node", "text/javascript"), ("sh", "text/x-shellscript"))
_HTML_ROOTS = frozenset(re.findall(r"\w+", """
    html head body script iframe h1 h2 h3 h4 div font table a style title b br p img form input object embed link meta base video
    audio span center ul ol template frameset noscript button details textarea select marquee i em strong"""))
_PROLOG = re.compile(r"\s+|<\?xml\b[^>]*>|<\?xml-[^>]*>|<!--.*?-->|<!doctype\s++(?!html)[^>\[]*+(?:\[[^\]]*+\]\s*+)?>", re.I | re.S)
_ROOT = re.compile(r"<(?:[\w.-]+:)?([a-z][\w.-]*)(?=[\s/>]|$)", re.I)

_ALIASES = {
    "application/x-empty": GENERIC, "inode/x-empty": GENERIC, "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": "application/zip", "image/x-ms-bmp": "image/bmp", "audio/x-wav": "audio/wav",
    "audio/vnd.wave": "audio/wav", "audio/x-flac": "audio/flac", "audio/x-m4a": "audio/mp4", "video/x-m4v": "video/mp4",
    "image/x-icon": "image/vnd.microsoft.icon", "application/x-pdf": "application/pdf", "text/rtf": "application/rtf",
    "application/javascript": "text/javascript", "application/x-javascript": "text/javascript",
    "application/xml": "text/xml", "text/x-script.python": "text/x-python", "application/x-sh": "text/x-shellscript",
    "application/x-php": "text/x-php", "application/x-httpd-php": "text/x-php", "audio/x-mp4a-latm": "audio/mp4",
    "audio/mp4a-latm": "audio/mp4", "audio/mid": "audio/midi", "audio/x-midi": "audio/midi", "image/jpg": "image/jpeg",
    "application/x-7z-compressed-archive": "application/x-7z-compressed", "application/x-dosexec": "application/x-msdownload",
    "application/vnd.microsoft.portable-executable": "application/x-msdownload", "video/x-msvideo": "video/avi",
    "audio/x-aiff": "audio/aiff", "application/x-rar-compressed": "application/x-rar", "application/vnd.rar": "application/x-rar",
    "image/pjpeg": "image/jpeg", "video/msvideo": "video/avi", "application/java-archive": "application/java-archive",
}
"""Other names of one type, so that detection, names and accept lists agree."""

_OFFICE = "application/vnd.openxmlformats-officedocument."
_BY_EXTENSION = {
    "md": "text/markdown", "markdown": "text/markdown", "csv": "text/csv", "tsv": "text/tab-separated-values",
    "json": "application/json", "geojson": "application/geo+json", "ipynb": "application/x-ipynb+json", "ndjson": "application/x-ndjson",
    "jsonl": "application/x-ndjson", "yaml": "application/yaml", "yml": "application/yaml", "toml": "application/toml",
    "js": "text/javascript", "mjs": "text/javascript", "xml": "text/xml", "xsl": "text/xml", "sql": "application/sql",
    "log": TEXT, "ini": TEXT, "cfg": TEXT, "conf": TEXT, "srt": "application/x-subrip", "vtt": "text/vtt", "ics": "text/calendar",
    "vcf": "text/vcard", "rst": "text/x-rst", "tex": "text/x-tex", "sh": "text/x-shellscript", "php": "text/x-php", "pl": "text/x-perl",
    "py": "text/x-python", "pem": "application/x-pem-file", "gpx": "application/gpx+xml", "kml": "application/vnd.google-earth.kml+xml",
    "docx": f"{_OFFICE}wordprocessingml.document", "xlsx": f"{_OFFICE}spreadsheetml.sheet",
    "pptx": f"{_OFFICE}presentationml.presentation", "odt": "application/vnd.oasis.opendocument.text",
    "ods": "application/vnd.oasis.opendocument.spreadsheet", "odp": "application/vnd.oasis.opendocument.presentation",
    "epub": "application/epub+zip", "jar": "application/java-archive", "apk": "application/vnd.android.package-archive",
    "whl": "application/zip", "xpi": "application/x-xpinstall", "usdz": "model/vnd.usdz+zip", "kmz": "application/vnd.google-earth.kmz",
    "parquet": "application/vnd.apache.parquet", "npy": "application/x-npy", "wasm": "application/wasm", "stl": "model/stl",
    "glb": "model/gltf-binary", "safetensors": "application/x-safetensors", "onnx": "application/x-onnx",
    "mp4": "video/mp4", "m4v": "video/mp4", "m4a": "audio/mp4", "webp": "image/webp", "avif": "image/avif", "heic": "image/heic",
    "webm": "video/webm", "mkv": "video/x-matroska", "flac": "audio/flac", "ogg": "audio/ogg", "oga": "audio/ogg", "opus": "audio/ogg",
    "rar": "application/x-rar", "7z": "application/x-7z-compressed", "gz": "application/gzip", "tgz": "application/gzip",
    "xz": "application/x-xz", "bz2": "application/x-bzip2", "zst": "application/zstd", "exe": "application/x-msdownload",
}
_ZIPS = frozenset(_BY_EXTENSION[name] for name in (
    "docx", "xlsx", "pptx", "odt", "ods", "odp", "epub", "jar", "apk", "whl", "xpi", "usdz", "kmz"))
_TOLD = _ZIPS | {_BY_EXTENSION[name] for name in ("rar", "7z", "gz", "xz", "bz2", "zst")} | {"application/pdf"}
"""Application types that content always tells: an extension alone is not believed."""
_UNTOLD = frozenset(_BY_EXTENSION[name] for name in ("parquet", "npy", "stl", "safetensors", "onnx"))
"""Types that content often can't tell, that no browser runs and no accept list takes for a picture or a sound."""

_PERCEIVED = ("image/", "audio/", "video/")
"""Types that accept lists trust to be what they say: never told by a name."""

_EXECUTED = frozenset(re.findall(r"\w+", """
    php php3 php4 php5 php7 php8 phps pht phtml phar asp aspx ashx asmx ascx cer asa jsp jspx jspf jsw jhtml cfm cfc cgi fcgi pl pm py
    pyc pyw rb sh bash zsh csh ksh exe dll so bat cmd msi scr pif vbs vbe ps1 psm1 hta wsf shtml shtm stm htaccess htpasswd"""))
"""Extensions that some server or system runs; Apache counts one anywhere in a name."""

_ACTIVE = re.compile(r"html|[/+]xml|svg|script(?<!postscript)|x-php|multipart/|message/|flash|cache-manifest|text/xsl", re.I)


def detect(head: bytes, name: str) -> str:
    """The media type, canonical and without parameters, of content that starts with ``head`` (4 KiB suffice).

    Content decides; where it is plain text, an unnamed ZIP or unknown, the extension of ``name`` may say more, but never
    that it is a picture, and never turns active content into another type.
    """
    head = bytes(head[:_HEAD])
    if not head:
        return _refined(_extension_type(name), lambda named: not named.startswith(_PERCEIVED), GENERIC)
    if text := _as_text(head):
        return _text_type(head, text, name)
    found = _canonical(_by_content(head)) if _openings_known(head) else GENERIC
    if found == "application/zip":
        return _refined(_extension_type(name), _ZIPS.__contains__, found)
    if found in (GENERIC, TEXT):
        return _refined(_extension_type(name), _UNTOLD.__contains__, GENERIC)
    return found


def accepts(media_type: str, patterns: Sequence[str], name: str) -> bool:
    """Whether one of ``patterns`` (``image/*``, ``application/pdf``, ``*/*``, ``.ext``) takes this detected type.

    No pattern at all takes everything. Else a name with an extension that a server runs, anywhere in it (``a.php.jpg``), is refused
    unless a pattern names that extension or its type. ``.ext`` wants that extension and content that doesn't contradict it.
    """
    wanted = [_canonical(pattern.partition(";")[0].strip().lower()) for pattern in patterns]
    if not wanted or "*/*" in wanted or "*" in wanted:
        return True
    if any(f".{part}" not in wanted and _BY_EXTENSION.get(part) not in wanted for part in _executed_parts(name)):
        return False
    return any(_pattern_takes(pattern, media_type, name) for pattern in wanted)


def is_active(media_type: str) -> bool:
    """Whether a browser would run something in content of this type: it goes out as an attachment."""
    return _ACTIVE.search(media_type) is not None


# --- text ----------------------------------------------------------------------------------------------------------


def _as_text(head: bytes) -> str:
    """The head decoded where it is text, else ``""``."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") and len(head) > 2:
        text = head.decode("utf-16", "replace")
        return "" if "\0" in text else text
    if len(head.translate(None, _CONTROL)) != len(head):
        return ""
    return head.decode("utf-8-sig", "replace") or " "


def _text_type(head: bytes, text: str, name: str) -> str:
    for opening, media_type in _TEXT_OPENINGS:
        if head.startswith(opening):
            return media_type
    if found := _markup(text) or _script(text):
        return found
    if named := _refined(_extension_type(name), _is_textual, ""):
        return named
    return "application/json" if _is_json(text) else TEXT


def _markup(text: str) -> str:
    """text/html, image/svg+xml or text/xml where the first thing that isn't white space, comment or declaration is
    an element or ``<!doctype html``, or the head ends before it comes; else ``""``."""
    at, text = 0, text.lstrip()
    if not text.startswith("<"):
        return ""
    declared = text[:5].lower() == "<?xml"
    while match := _PROLOG.match(text, at):
        at = match.end()
    rest = text[at:at + 64].lower()
    if root := _ROOT.match(rest):
        return _root_type(root[1], declared)
    if rest.startswith(("<!doctype html", "<!--", "</")) or (not rest and not declared):
        return "text/html"
    return "text/xml" if declared or rest.startswith("<!") else ""


def _root_type(root: str, declared: bool) -> str:
    if root == "svg":
        return "image/svg+xml"
    if root == "html" and declared:
        return "application/xhtml+xml"
    return "text/html" if root in _HTML_ROOTS and not declared else "text/xml"


def _script(text: str) -> str:
    start = text[:200].lstrip()
    if start.lower().startswith(("<?php", "<?=")):
        return "text/x-php"
    if start.startswith("#!"):
        line = start.partition("\n")[0]
        return next((media_type for word, media_type in _SHEBANGS if word in line), "text/x-script")
    return ""


def _is_textual(media_type: str) -> bool:
    return (media_type.startswith("text/") or media_type.endswith(("+json", "+xml", "/json", "/yaml", "/toml", "/sql", "/rtf"))
            or media_type in ("application/x-ndjson", "application/x-subrip", "application/x-pem-file")
            ) and not media_type.startswith("image/")


def _is_json(text: str) -> bool:
    if text[:1] not in ("{", "[") or len(text) >= _HEAD or text.count("[") + text.count("{") > _JSON_DEPTH:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


# --- binary --------------------------------------------------------------------------------------------------------


def _openings_known(head: bytes) -> bool:
    short, further = _openings()
    return head[:2] in short or any(head.startswith(openings, at) for at, openings in further)


@cache
def _openings() -> tuple[frozenset[bytes], tuple[tuple[int, tuple[bytes, ...]], ...]]:
    """How files of known formats start, from puremagic's table: the first two bytes, and openings further in. libmagic
    takes 160 µs to find that it doesn't know something; this tells it in two."""
    from puremagic import main as puremagic

    rows = puremagic.magic_header_array
    short = {row.byte_match[:2] for row in rows if row.offset == 0 and len(row.byte_match) > 1}
    further = {(row.offset, row.byte_match[:4]) for row in rows if 0 < row.offset < _HEAD and len(row.byte_match) > 2}
    by_offset: dict[int, tuple[bytes, ...]] = {}
    for offset, opening in sorted(further | {(4, b"ftyp")}):
        by_offset[offset] = (*by_offset.get(offset, ()), opening)
    return frozenset(short), tuple(by_offset.items())


@cache
def _by_content_with() -> Callable[[bytes], str]:
    try:
        return _Libmagic()
    except (ImportError, OSError, AttributeError):
        return _by_puremagic


def _by_content(head: bytes) -> str:
    return _by_content_with()(head)


class _Libmagic:
    """A pool of libmagic cookies: one is never used by two threads at once, and there are as many as detections ever ran
    at the same moment, not as many as threads."""

    def __init__(self) -> None:
        import magic

        self._magic = magic
        self._idle = deque([magic.Magic(mime=True)])

    def __call__(self, head: bytes) -> str:
        try:
            cookie = self._idle.pop()
        except IndexError:
            cookie = self._magic.Magic(mime=True)
        try:
            return str(cookie.from_buffer(head))
        except self._magic.MagicException:
            return GENERIC
        finally:
            self._idle.append(cookie)


def _by_puremagic(head: bytes) -> str:
    import puremagic

    try:
        return puremagic.magic_string(head)[0].mime_type or GENERIC
    except (puremagic.PureError, ValueError):
        return GENERIC


# --- names ---------------------------------------------------------------------------------------------------------


@cache
def _known_extensions() -> mimetypes.MimeTypes:
    """Python's own table, not the machine's, so that every machine answers the same."""
    return mimetypes.MimeTypes()


def _extension(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[2].lower() if "." in name else ""


def _extension_type(name: str) -> str:
    """What the extension stands for, ``""`` if unknown."""
    extension = _extension(name)
    if extension in _BY_EXTENSION:
        return _BY_EXTENSION[extension]
    return _canonical(_known_extensions().types_map[True].get(f".{extension}", ""))


def _refined(named: str, allowed: Callable[[str], bool], found: str) -> str:
    return named if named and allowed(named) else found


def _canonical(media_type: str) -> str:
    return _ALIASES.get(media_type, media_type)


def _executed_parts(name: str) -> list[str]:
    return [part for part in map(str.strip, re.split(r"[.;:]", name.rpartition("/")[2].lower())[1:]) if part in _EXECUTED]


def _pattern_takes(pattern: str, media_type: str, name: str) -> bool:
    if pattern.startswith("."):
        return name.lower().endswith(pattern) and _fits(media_type, _extension_type(pattern))
    return media_type.startswith(pattern[:-1]) if pattern.endswith("/*") else media_type == pattern


def _fits(media_type: str, named: str) -> bool:
    """Whether content of this detected type may carry an extension that stands for ``named``."""
    if media_type == named:
        return True
    if is_active(media_type) or named in _TOLD:
        return False
    if media_type == TEXT:
        return not named or _is_textual(named)
    if media_type == GENERIC:
        return not named.startswith(_PERCEIVED)
    return not named or _family(media_type) == _family(named)


def _family(media_type: str) -> str:
    top = media_type.partition("/")[0]
    return "video" if top == "audio" else top
