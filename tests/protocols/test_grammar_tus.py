"""The fields of tus, value by value."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carboy.checksums import DIGEST_SIZES, new
from carboy.errors import InvalidName, InvalidRequest
from carboy.web.protocols.tus import fields

KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1, max_size=20)


@pytest.mark.parametrize("value, pairs", [
    ("", {}), (" ", {}), (",", {}), ("a", {"a": b""}), ("a ", {"a": b""}), ("a YQ==", {"a": b"a"}), (" a YQ== , b ", {"a": b"a", "b": b""}),
    ("a YQ==,,b Yg==", {"a": b"a", "b": b"b"}), ("a\t", {"a": b""}), ("a YQ==,a Yg==", None), ("a YQ= =", None), ("a YQ", None), ("a !", None),
    ("a YQ== x", None), ("\xe9 YQ==", None), ("a\x01 YQ==", None), ("A YQ==,a Yg==", {"A": b"a", "a": b"b"}), ("a -_8=", None),
])
def test_metadata(value: str, pairs: dict[str, bytes] | None) -> None:
    if pairs is None:
        with pytest.raises(InvalidRequest) as caught:
            fields.parse_metadata(value)
        assert caught.value.facts["field"] == "Upload-Metadata"
    else:
        assert fields.parse_metadata(value) == pairs


@given(st.dictionaries(KEYS, st.binary(max_size=50), max_size=5))
def test_metadata_of_any_bytes_comes_back(pairs: dict[str, bytes]) -> None:
    kept = fields.as_metadata(pairs)
    assert all(isinstance(value, str) and "\0" not in value for value in kept.values())
    assert len(kept) == len(pairs)
    assert fields.parse_metadata(fields.format_metadata(kept)) == pairs
    assert list(fields.parse_metadata(fields.format_metadata(kept))) == list(pairs), "in their order"


def test_metadata_from_elsewhere_is_told_where_it_can_be() -> None:
    assert fields.format_metadata({"a b": "x", "n": 5, "é": "x", "": "x", "t": "é"}) == "t w6k="


@pytest.mark.parametrize("pairs, path", [
    ({}, "ID"), ({"filename": b""}, "ID"), ({"filename": b"a"}, "a"), ({"name": b"b"}, "b"), ({"name": b"b", "filename": b"a"}, "a"),
    ({"filename": b"x/y/a"}, "a"), ({"filename": b"C:\\x\\a"}, "a"), ({"filename": b"a", "relativePath": b"x/y"}, "x/y"), ({"path": b"p/q"}, "p/q"),
    ({"relativePath": b"null", "filename": b"a"}, "a"), ({"relativePath": b"", "path": b"undefined", "name": b"b"}, "b"), ({"relativePath": b"/x/y"}, "x/y"),
    ({"filename": "\u0065\u0301".encode()}, "\xe9"), ({"Filename": b"a"}, "ID"), ({"filename": b"null"}, "null"),
    ({"filename": b"\xff"}, None), ({"filename": b".."}, None), ({"filename": b"a\0"}, None), ({"relativePath": b"x/../y"}, None),
    ({"relativePath": b"//x"}, None), ({"path": b"x/"}, None), ({"filename": b"a\nb"}, None), ({"filename": b"n" * 256}, None), ({"filename": b"%2e%2e%2fx"}, None),
])
def test_paths(pairs: dict[str, bytes], path: str | None) -> None:
    if path is None:
        with pytest.raises(InvalidName):
            fields.path_in(pairs, "ID")
    else:
        assert fields.path_in(pairs, "ID") == path


@pytest.mark.parametrize("name", fields.ALGORITHMS)
def test_checksums(name: str) -> None:
    algorithm = fields.ALGORITHMS[name]
    digest = new(algorithm).digest()
    text = base64.b64encode(digest).decode()
    assert fields.parse_checksum(f"{name} {text}") == fields.parse_checksum(f" {name}  {text} ") == (algorithm, digest)
    for wrong in (name, f"{name} ", f"{name} {text}A", f"{name} {base64.b64encode(digest[:-1]).decode()}", f"{name}:{text}", f"{name.upper()} {text}",
                  f"{name} !{text}", f"{name} {digest.hex()}", text, ""):
        with pytest.raises(InvalidRequest):
            fields.parse_checksum(wrong)


def test_every_algorithm_of_ours_is_served() -> None:
    assert set(fields.ALGORITHMS.values()) == set(DIGEST_SIZES)


A, B = "a" * 32, "b" * 32


@pytest.mark.parametrize("value, parts", [
    ("partial", ()), (" partial ", ()), (f"final;/tus/main/{A}", (A,)), (f"final;/tus/{A} /tus/main/{B}", (A, B)), (f"final; {A}\t{B} ", (A, B)),
    (f"final;https://h.example/x/tus/main/{A}?q=1#f {A}", (A, A)), ("", None), ("final", None), ("final;", None), ("final; ", None), ("partial;", None),
    (f"partial;{A}", None), (f"whole;{A}", None), (f"final;/tus/main/{A}/", None), (f"final;{A.upper()}", None), (f"final;{A[:-1]}", None),
    ("final;http://[", None), (f"final;/tus/main/{A}, /tus/main/{B}", None), ("FINAL;" + A, None),
])
def test_concatenations(value: str, parts: tuple[str, ...] | None) -> None:
    if parts is None:
        with pytest.raises(InvalidRequest) as caught:
            fields.parse_concat(value)
        assert caught.value.facts["field"] == "Upload-Concat"
    else:
        assert fields.parse_concat(value) == parts
