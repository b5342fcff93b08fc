"""Forms in any pieces: what a form is made of comes out, wherever the network cuts it, with bodies that are missing altogether."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from carboy.config import Settings, of_application
from carboy.streams import BytesSource
from carboy.web.multipart_form import FormReader, Part

BOUNDARY = "bb"
ALMOST = [b"\r\n", b"\r", b"\n", b"--", b"--b", b"-", b"x", b"\r\n\r\n", b"\r\n\r\n--b", b"\r\n--b", b"--bbb", b"\0"]
"""What looks like the beginning of a delimiter."""
LIMITS: Settings = of_application({"data": Path("nowhere")})

bodies = st.lists(st.sampled_from(ALMOST), max_size=6).map(b"".join).filter(lambda body: b"\r\n--bb" not in b"\r\n" + body)
parts = st.lists(st.tuples(st.booleans(), bodies | st.none()), min_size=1, max_size=5)


def written(parts: list[tuple[bool, bytes | None]]) -> bytes:
    """The form; a part whose body is None has headers alone (RFC 2046 section 5.1.1)."""
    lines = b""
    for number, (is_file, body) in enumerate(parts):
        name = f'; filename="{number}.bin"' if is_file else ""
        lines += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="n{number}"{name}\r\n\r\n'.encode()
        lines += b"" if body is None else body + b"\r\n"
    return lines + f"--{BOUNDARY}--\r\n".encode()


def read(pieces: list[bytes]) -> tuple[list[tuple[str, bytes]], list[tuple[str, str]]]:
    reader = FormReader(BytesSource(pieces), BOUNDARY, LIMITS)
    files: list[tuple[str, bytes]] = []
    ended = 0
    for event in reader.files():
        if isinstance(event, Part):
            files.append((event.name, b""))
        elif event is None:
            ended += 1
        else:
            files[-1] = (files[-1][0], files[-1][1] + event)
    assert ended == len(files)
    return files, reader.pairs


@settings(max_examples=300)
@given(parts, st.data())
def test_what_goes_in_comes_out(parts: list[tuple[bool, bytes | None]], data: st.DataObject) -> None:
    parts = [(is_file, body) if is_file or not body or b"\0" not in body else (True, body) for is_file, body in parts]
    form = written(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(form)), max_size=8)))
    pieces = [form[start:end] for start, end in zip([0, *cuts], [*cuts, len(form)], strict=True) if end > start]
    files, fields = read(pieces)
    assert files == [(f"n{number}", body or b"") for number, (is_file, body) in enumerate(parts) if is_file]
    assert fields == [(f"n{number}", (body or b"").decode()) for number, (is_file, body) in enumerate(parts) if not is_file]
