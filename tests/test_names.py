"""The one rule of names and paths (security cases 1 to 6), as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.utils import secure_filename

from carboy.engine.names import ancestors, classic_name, clean_folder, clean_name, clean_path, folder_of, shown
from carboy.errors import InvalidName

KEPT = [
    "a", "a/b/c", "Film.MKV", "film.mkv", "with space", " leading and trailing ", "trailing.", "trailing ", "...", "..a", "a..",
    ".hidden", "CON", "aux.c", "NUL/com1.txt", "a\\b", "C:\\x", "%", "50%", "50%2e", "a%2fb", "100%25", "%zz", "_", "*", "'", '"', "a?b",
    "日本語/ファイル.txt", "😀", "a\u202egnp.exe", "a\u200bb", "x" * 255, "é" * 127, "/".join("a" * 100), "a;b", "a:b", "~", "-rf", "a\xa0b",
]

REFUSED = [
    ("", "empty_segment"), ("/", "empty_segment"), ("/etc/passwd", "empty_segment"), ("a/", "empty_segment"), ("a//b", "empty_segment"),
    (".", "dot_segment"), ("..", "dot_segment"), ("../a", "dot_segment"), ("a/../b", "dot_segment"), ("a/./b", "dot_segment"),
    ("a/..", "dot_segment"), ("..\\a", "dot_segment"), ("a\\..\\b", "dot_segment"), ("a/b\\..", "dot_segment"), (".\\a", "dot_segment"),
    ("%2e%2e%2fa", "encoded_traversal"), ("%2E%2E/a", "encoded_traversal"), ("..%2fa", "encoded_traversal"),
    ("a%2f..%2fb", "encoded_traversal"), ("%252e%252e%252fa", "encoded_traversal"), ("..%5ca", "encoded_traversal"),
    ("%2fetc%2fpasswd", "encoded_traversal"), ("a/%2e%2e/b", "encoded_traversal"),
    ("a\0b", "control_character"), ("a\rb", "control_character"), ("a\nb", "control_character"), ("a\tb", "control_character"),
    ("a\x7fb", "control_character"), ("a\x85b", "control_character"), ("\ud800", "control_character"), ("a\udcffb", "control_character"),
    ("x" * 256, "name_too_long"), ("é" * 128, "name_too_long"), ("a/" + "x" * 256 + "/b", "name_too_long"),
    ("/".join("a" * 101), "path_too_deep"), ("/".join(["x" * 254] * 17), "path_too_long"), ("/".join("a" * 5000), "path_too_long"),
]


@pytest.mark.parametrize("path", KEPT)
def test_ordinary_paths_are_kept_as_they_are(path: str) -> None:
    """What only another system finds special is ordinary."""
    assert clean_path(path) == path


@pytest.mark.parametrize(("path", "rule"), REFUSED)
def test_refused_paths_name_the_rule(path: str, rule: str) -> None:
    """Each refusal says which rule was broken, and shows the name without its special characters."""
    with pytest.raises(InvalidName) as refused:
        clean_path(path)
    assert refused.value.facts["rule"] == rule
    assert refused.value.facts["name"].isprintable()
    assert refused.value.detail.isprintable()


def test_twins_of_unicode_become_one_and_twins_of_case_stay_two() -> None:
    """NFC, case kept, case-sensitive."""
    assert clean_path("cafe\u0301.txt") == "caf\u00e9.txt"
    assert clean_path("A.txt") != clean_path("a.txt")


def test_a_composed_name_is_measured_after_composing() -> None:
    """NFC makes 127 e + acute of 381 bytes into 254, which fit."""
    assert clean_path("e\u0301" * 127) == "\u00e9" * 127


@given(st.text(max_size=60))
def test_a_clean_path_is_clean(raw: str) -> None:
    """Cleaning again changes nothing, and no clean path climbs, however it is split."""
    try:
        path = clean_path(raw)
    except InvalidName:
        return
    assert clean_path(path) == path
    assert not {"", ".", ".."} & set(path.split("/"))
    assert not {".", ".."} & set(path.replace("\\", "/").split("/"))


def test_encoding_in_many_layers_is_answered_at_once() -> None:
    """A path of nothing but percent signs encoded again and again takes a bounded number of decodings."""
    with pytest.raises(InvalidName):
        clean_path("%" + "25" * 2047 + "2e")
    assert clean_path("%" + "25" * 100 + "41") == "%" + "25" * 100 + "41"


@pytest.mark.parametrize(("raw", "folder"), [("", ""), ("a", "a/"), ("a/", "a/"), ("a/b/", "a/b/")])
def test_folders_end_with_a_slash(raw: str, folder: str) -> None:
    """A folder is written with its slash, the root as nothing, so that folder + name is a path."""
    assert clean_folder(raw) == folder


@pytest.mark.parametrize("raw", ["/", "//", "a//", "../", "/a"])
def test_bad_folders_are_refused(raw: str) -> None:
    """The rule of paths holds for folders."""
    with pytest.raises(InvalidName):
        clean_folder(raw)


@pytest.mark.parametrize(("raw", "name"), [
    ("a.txt", "a.txt"), ("C:\\Users\\me\\a.txt", "a.txt"), ("/home/me/a.txt", "a.txt"), ("../../a.txt", "a.txt"), ("a\\b/c", "c"),
    (" a", " a"), ("cafe\u0301", "caf\u00e9"),
])
def test_a_forms_filename_is_its_last_part(raw: str, name: str) -> None:
    """Browsers that send a full path mean the last part (RFC 7578 section 4.2)."""
    assert clean_name(raw) == name


@pytest.mark.parametrize("raw", ["", "/", "a/", "a\\", "..", "a/..", "..\\..", "a\0", "x" * 256, "%2e%2e%2fa"])
def test_a_forms_filename_without_a_usable_part_is_refused(raw: str) -> None:
    """Nothing is invented in place of a name that isn't one."""
    with pytest.raises(InvalidName):
        clean_name(raw)


CLASSIC = ["a.txt", "My cool movie.mov", "../../../etc/passwd", "i contain cool \xfcml\xe4uts.txt", "a/b/c", "a\\b", "  a  b  ", ".hidden.",
           "_a_", "CON", "aux.c", "a\tb\nc\0d", "日本語.txt", "½.txt", "a;b|c", "..a..", "x__y", "-rf", "ﬁle", "e\u0301"]


@pytest.mark.parametrize("raw", CLASSIC)
def test_classic_names_are_those_of_secure_filename(raw: str) -> None:
    """The classic endpoints name files exactly as the tutorial's code does."""
    assert classic_name(raw) == secure_filename(raw)


@given(st.text(max_size=40))
def test_classic_names_equal_secure_filename_for_any_text(raw: str) -> None:
    """Where secure_filename leaves nothing, the name is refused; else both agree."""
    expected = secure_filename(raw)
    if expected:
        assert classic_name(raw) == expected
        return
    with pytest.raises(InvalidName):
        classic_name(raw)


def test_folder_and_ancestors() -> None:
    """The folder of a path and the paths above it that must not be files."""
    assert folder_of("a/b/c") == "a/b/"
    assert folder_of("c") == ""
    assert ancestors("a/b/c") == ["a", "a/b"]
    assert ancestors("c") == []


def test_names_are_shown_escaped_and_short() -> None:
    """A direction override, a control character or a surrogate is shown by its number (security case 6)."""
    assert shown("a\u202egnp.exe") == "'a\\u202egnp.exe'"
    assert shown("a\r\n\ud800") == "'a\\r\\n\\ud800'"
    assert len(shown("x" * 4096)) == 102
