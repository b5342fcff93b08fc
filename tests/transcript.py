r"""Transcripts: what goes in and what must come out, as text files that read like the wire.

    # A new file is 201                  a title; it begins an exchange
    @ann                                 who asks: somebody of the site, or nobody; without it who is named before the first title, or admin
    > PUT /files/main/a.txt
    > If-None-Match: *
    >                                    a body follows; its lines are joined by CR LF
    > hello
    < 201
    < ETag: {etag}                       what stands for {etag} is remembered, and must be the same from here on
    < Upload-Offset:                     the header must be absent
    <
    < {"size": 5, "etag": "{etag}"}      JSON: these members, with these values; others may be there

``{_}`` stands for anything. Only the headers that are written are compared. A body that isn't JSON is compared whole; where
none is written it may be anything. ``\x00`` in what is sent is that byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixtures_site import Site

FOLDER = Path(__file__).parent / "protocols" / "transcripts"
_NAME = re.compile(r"\{([a-z_]\w*)\}")
_BYTE = re.compile(rb"\\x([0-9a-f]{2})")


@dataclass(slots=True)
class Exchange:
    """One request and the answer that is expected."""

    title: str
    line: int
    who: str
    sent: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)


def transcripts(folder: str) -> list[str]:
    """The transcripts of a folder, by name."""
    found = sorted(str(path.relative_to(FOLDER)) for path in (FOLDER / folder).rglob("*.http"))
    assert found, f"there is no transcript in {folder}"
    return found


def play(name: str, site: Site) -> None:
    """Every exchange in turn; the first that differs fails the test."""
    known = {f"{who}_id": id for who, id in site.ids.items()}
    for exchange in parse((FOLDER / name).read_text()):
        wrong = _differences(exchange, site, known)
        assert not wrong, "\n".join([f"{name}:{exchange.line}: {exchange.title}", *wrong])


def parse(text: str) -> list[Exchange]:
    """The exchanges of a transcript. A response belongs to the request before it."""
    exchanges: list[Exchange] = []
    default = "admin"
    for number, line in enumerate(text.splitlines(), 1):
        mark, rest = line[:1], line[1:].removeprefix(" ")
        if mark == "#":
            if exchanges and not exchanges[-1].sent:
                exchanges[-1].title += " " + rest
            else:
                exchanges.append(Exchange(rest, number, default))
        elif mark == "@" and not exchanges:
            default = rest
        elif mark == "@":
            exchanges[-1].who = rest
        elif mark == ">":
            assert not exchanges[-1].expected, f"line {number}: a request without a title of its own"
            exchanges[-1].sent.append(rest)
        elif mark == "<":
            exchanges[-1].expected.append(rest)
        else:
            assert not line, f"line {number}: {line!r}"
    assert all(one.sent and one.expected for one in exchanges), "a title without an exchange"
    return exchanges


def _differences(exchange: Exchange, site: Site, known: dict[str, Any]) -> list[str]:
    head, body = _split(exchange.sent)
    method, target = _filled(head[0], known).split(" ", 1)
    headers = [tuple(_filled(line, known).split(": ", 1)) for line in head[1:]]
    data = None if body is None else _BYTE.sub(lambda match: bytes.fromhex(match[1].decode()), _filled(body, known).encode())
    answer = site.ask(method, target, headers, data, who=exchange.who)  # type: ignore[arg-type]
    head, body = _split(exchange.expected)
    wrong = [] if str(answer.status) == head[0] else [f"the status is {answer.status}, not {head[0]}"]
    for line in head[1:]:
        name, _, value = line.partition(":")
        told = answer.header(name)
        if (told is None) if not value.strip() else (told is not None and _matches(value.strip(), told, known)):
            continue
        wrong.append(f"{name} is {told!r}, not {_filled(value.strip(), known)!r}")
    if body is not None:
        wrong += _body_differences(body, answer.body, known)
    return [*wrong, f"the answer was {answer.body[:2000].decode(errors='replace')}"] if wrong else []


def _split(lines: list[str]) -> tuple[list[str], str | None]:
    """The head, and the body where an empty line announces one."""
    if "" not in lines:
        return lines, None
    at = lines.index("")
    return lines[:at], "\r\n".join(lines[at + 1:])


def _filled(text: str, known: dict[str, Any]) -> str:
    return _NAME.sub(lambda match: str(known.get(match[1], match[0])), text)


def _matches(pattern: str, text: str, known: dict[str, Any]) -> bool:
    """Whether the text is the pattern; names met for the first time are remembered."""
    regex, new = "", []
    for at, piece in enumerate(_NAME.split(pattern)):
        if at % 2 == 0 or piece in known:
            regex += re.escape(piece if at % 2 == 0 else str(known[piece]))
        else:
            new.append(piece)
            regex += "(.*)"
    found = re.fullmatch(regex, text, re.DOTALL)
    if found:
        known |= {name: value for name, value in zip(new, found.groups(), strict=True) if name != "_"}
    return found is not None


def _body_differences(expected: str, body: bytes, known: dict[str, Any]) -> Iterator[str]:
    if expected[:1] not in ("{", "[") or not expected.strip():
        if not _matches(expected, body.decode(errors="replace"), known):
            yield f"the body is not {_filled(expected, known)!r}"
        return
    try:
        value = json.loads(body)
    except ValueError:
        yield "the body is not JSON"
        return
    yield from _json_differences(json.loads(expected), value, known, "the body")


def _json_differences(expected: Any, value: Any, known: dict[str, Any], at: str) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(value, dict):
        for name, item in expected.items():
            if name in value:
                yield from _json_differences(item, value[name], known, f"{at}.{name}")
            else:
                yield f"{at} has no {name}"
    elif isinstance(expected, list) and isinstance(value, list) and len(expected) == len(value):
        for number, (item, told) in enumerate(zip(expected, value, strict=True)):
            yield from _json_differences(item, told, known, f"{at}[{number}]")
    elif isinstance(expected, str) and (name := _NAME.fullmatch(expected)) and not isinstance(value, str):
        if name[1] != "_" and known.setdefault(name[1], value) != value:
            yield f"{at} is {value!r}, not {known[name[1]]!r}"
    elif not (expected == value or (isinstance(expected, str) and isinstance(value, str) and _matches(expected, value, known))):
        yield f"{at} is {value!r}, not {expected!r}"
