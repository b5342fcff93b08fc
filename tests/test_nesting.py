"""JSON from outside: how deep it may be nested."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import wire
from hypothesis import given
from hypothesis import strategies as st

from carboy.nesting import DEEPEST, parse_json

VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(VALUES, st.booleans())
def test_it_is_json(value: object, escaped: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=escaped).encode("utf-8", "replace")) == json.loads(
        json.dumps(value, ensure_ascii=escaped).encode("utf-8", "replace"))


@pytest.mark.parametrize("data", [
    b"[" * DEEPEST + b"]" * DEEPEST, b'{"a":' * DEEPEST + b"1" + b"}" * DEEPEST, b"[" + b"[]," * 5000 + b"[]]", json.dumps(["[" * 9000]).encode(),
    json.dumps(['\\"[{' * 9000]).encode(), json.dumps({"\\": ["]" * 300, '"' + "[" * 300]}).encode(),
], ids=range(6))
def test_what_is_wide_or_within_a_string_is_not_deep(data: bytes) -> None:
    assert parse_json(data) == json.loads(data)


@pytest.mark.parametrize("data", [
    b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), b"[" * 10**6, b'{"a":' * 10**5, b'["a\\"",' * 10**5, b'["\\\\",' * 10**5,
    ("[" * 5000).encode("utf-16"), b'["' + "∀".encode("utf-16-le") + b'",' + b"[" * 5000, b'"' + b"[" * 9000, b'"\\', b"\xff", b"", b"\xef\xbb\xbf[]",
], ids=range(12))
def test_what_is_deeper_is_refused_and_what_is_none(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(data)


def test_a_thread_with_a_small_stack_lives_through_the_deepest() -> None:
    """As the server's threads have."""
    code = f"""if True:
        import json, threading
        from carboy.nesting import DEEPEST, parse_json
        threading.stack_size(512 * 2**10)
        data = b"[" * DEEPEST + b"]" * DEEPEST
        thread = threading.Thread(target=lambda: print(len(json.dumps(parse_json(data))) == {2 * DEEPEST}))
        thread.start()
        thread.join()"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=wire.LIMIT).stdout == "True\n"
