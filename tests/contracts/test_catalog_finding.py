"""What every catalog finds: lists in every order, searches, sums; and what it remembers: the audit log, zips, secrets."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, pairwise
from typing import Any

import pytest
from catalogs import a_blob, at, put, together
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carboy.catalog import listing, searching
from carboy.catalog.base import Catalog, Move
from carboy.catalog.paths import to_cursor
from carboy.errors import Conflict, InvalidRequest
from carboy.model import Act, AuditEntry, File, Filter, Folder, SortKey, Token, Usage, Zip, ZipEntry, new_id

DAY = 86400.0
NUMBERS = count()
SORTS: list[SortKey] = ["path", "modified", "size"]
TYPES = ["text/plain", "text/html", "image/png", "image", "imagf/x"]
TAGS = ["red", "Blue", "re", "%"]


@pytest.fixture(params=["few", "many"])
def scale(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether files are taken for few, and looked at one by one, or for many."""
    if request.param == "many":
        monkeypatch.setattr(searching, "FEW", 0)
        monkeypatch.setattr(listing, "FEW", 0)
        monkeypatch.setattr(searching, "NEWEST", 2)
        monkeypatch.setattr(listing, "NEXT", 2)
    return str(request.param)


def fresh_space() -> str:
    return f"s{next(NUMBERS)}"


# --- what Hypothesis makes -----------------------------------------------------------------------------------------

LETTERS = st.text(alphabet="aAbB%_*\"'\\ .ßſÉé日本\n\x00\ud800\uffff😀İ:5", min_size=1, max_size=6)
SEGMENTS = st.text(alphabet="aAb%_*\"'\\ .ßÉ日😀5-", min_size=1, max_size=5).filter(lambda text: text.strip("."))
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join).map(lambda path: unicodedata.normalize("NFC", path))
VALUES = st.recursive(LETTERS | st.integers(-99, 99) | st.booleans() | st.none() | st.just(1.5),
                      lambda inner: st.lists(inner, max_size=2) | st.dictionaries(LETTERS, inner, max_size=2), max_leaves=4)


@st.composite
def contents(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Files by path; no path is a folder of another."""
    found: dict[str, dict[str, Any]] = {}
    for path in draw(st.lists(PATHS, max_size=8, unique=True)):
        if not any(path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in found):
            found[path] = {
                "metadata": draw(st.dictionaries(st.text(max_size=2), VALUES, max_size=2)),
                "tags": tuple(draw(st.lists(st.sampled_from(TAGS), unique=True, max_size=3))),
                "media_type": draw(st.sampled_from(TYPES)), "owner": draw(st.sampled_from([None, "ann", "bob"])),
                "blob": a_blob(size=draw(st.sampled_from([0, 1, 5, 2**50]))), "now": draw(st.sampled_from([1.0, 2.5, 1e9])),
            }
    return found


FILTERS = st.builds(
    Filter, media_type=st.sampled_from([None, None, *TYPES, "image/*", "*/*"]), owner=st.sampled_from([None, "ann", "an"]),
    tags=st.lists(st.sampled_from(TAGS), unique=True, max_size=2).map(tuple), min_size=st.sampled_from([None, 1]),
    max_size=st.sampled_from([None, 1, 2**63 - 1]), modified_from=st.sampled_from([None, 2.5]), modified_to=st.sampled_from([None, 2.5]))


def fill(catalog: Catalog, space: str, files: dict[str, dict[str, Any]]) -> list[File]:
    return [put(catalog, path, **{"space": space, **about}) for path, about in files.items()]


def passes(file: File, filter: Filter, prefix: str) -> bool:
    """The model's filter."""
    media = filter.media_type
    return (file.path.startswith(prefix)
            and (media in (None, "*/*", file.media_type) or (media.endswith("/*") and file.media_type.startswith(media[:-1])))  # type: ignore[union-attr]
            and filter.owner in (None, file.owner) and set(filter.tags) <= set(file.tags)
            and (filter.min_size is None or file.size >= filter.min_size) and (filter.max_size is None or file.size <= filter.max_size)
            and (filter.modified_from is None or file.modified_at >= filter.modified_from)
            and (filter.modified_to is None or file.modified_at < filter.modified_to))


def paged(ask: Any, limit: int) -> Iterator[File]:
    cursor: str | None = None
    while True:
        page = ask(cursor=cursor, limit=limit)
        assert len(page.files) <= limit
        assert page.files or page.cursor is None
        yield from page.files
        cursor = page.cursor
        if cursor is None:
            return


KEYS = {"path": lambda file: file.path, "modified": lambda file: (file.modified_at, file.id), "size": lambda file: (file.size, file.id)}
OFTEN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


class TestListed:
    @OFTEN
    @given(files=contents(), filter=FILTERS | st.just(Filter()), prefix=st.just("") | PATHS.map(lambda path: path[:3]),
           sort=st.sampled_from(SORTS), descending=st.booleans(), limit=st.integers(1, 4))
    def test_it_is_the_files_that_pass_in_order(self, catalog: Catalog, scale: str, files: dict[str, dict[str, Any]], filter: Filter,
                                                prefix: str, sort: SortKey, descending: bool, limit: int) -> None:
        space = fresh_space()
        there = fill(catalog, space, files)
        put(catalog, "a", space=fresh_space(), tags=("red",))
        found = list(paged(lambda **page: catalog.listed(space, prefix=prefix, sort=sort, descending=descending, filter=filter, **page), limit))
        assert found == sorted((file for file in there if passes(file, filter, prefix)), key=KEYS[sort], reverse=descending)

    def test_files_that_come_between_pages_move_nothing(self, catalog: Catalog) -> None:
        for number in range(4):
            put(catalog, f"f{number}", now=float(number))
        first = catalog.listed("main", sort="modified", limit=2)
        put(catalog, "f0x", now=0.5)
        put(catalog, "f9", now=9.0)
        rest = catalog.listed("main", sort="modified", limit=9, cursor=first.cursor)
        assert [file.path for file in [*first.files, *rest.files]] == ["f0", "f1", "f2", "f3", "f9"]

    @pytest.mark.parametrize("cursor", [
        "", "x", "!", to_cursor("[]"), to_cursor("null"), to_cursor('["size",0,true,"x"]'), to_cursor('["size",0,1.0,"x"]'),
        to_cursor(f'["size",0,{2**63},"x"]'), to_cursor('["size",1,1,"x"]'), to_cursor('["path",0,"a"]'), to_cursor('["size",0,1]'),
        to_cursor('["size",0,1,"\\u0000"]'), to_cursor('["size",0,1,"\\ud800"]'), to_cursor("[" * 100_000)])
    def test_other_cursors_are_refused(self, catalog: Catalog, cursor: str) -> None:
        put(catalog, "a")
        with pytest.raises(InvalidRequest):
            catalog.listed("main", sort="size", cursor=cursor)

    def test_a_cursor_without_time_is_refused(self, catalog: Catalog) -> None:
        for number in ("NaN", "Infinity", "1"):
            with pytest.raises(InvalidRequest):
                catalog.listed("main", sort="modified", cursor=to_cursor(f'["modified",0,{number},"x"]'))

    def test_shelved_files_are_in_no_list(self, catalog: Catalog, scale: str) -> None:
        kept, gone = put(catalog, "a", tags=("t",)), put(catalog, "b", tags=("t",))
        catalog.trash_file(gone.id, now=2.0, expires_at=9.0)
        catalog.stage([at("c", tags=("t",))], now=2.0, expires_at=9.0)
        for sort in SORTS:
            assert catalog.listed("main", sort=sort).files == catalog.listed("main", sort=sort, filter=Filter(tags=("t",))).files == [kept]
        assert catalog.search("main", []).files == catalog.search("main", ["t"]).files == [kept]


class TestSums:
    def test_folders_are_summed_at_any_depth(self, catalog: Catalog) -> None:
        for path, size in (("a/b/c", 1), ("a/d", 2), ("e", 4), ("a%/x", 8)):
            put(catalog, path, blob=a_blob(size=size))
        put(catalog, "a/b/c", space="other", blob=a_blob(size=100))
        assert catalog.folder_sums("main", ["", "a/", "a/b/", "a%/", "none/"]) == {
            "": Folder("", 4, 15), "a/": Folder("a/", 2, 3), "a/b/": Folder("a/b/", 1, 1), "a%/": Folder("a%/", 1, 8), "none/": Folder("none/")}
        assert catalog.folder_sums("main", []) == {}

    def test_many_folders_are_summed_at_once(self, catalog: Catalog) -> None:
        catalog.place([at(f"f{number}/x") for number in range(300)], now=1.0)
        sums = catalog.folder_sums("main", [f"f{number}/" for number in range(300)])
        assert set(sums.values()) == {Folder(f"f{number}/", 1, 4) for number in range(300)}

    def test_usage_is_the_spaces_and_each_owners(self, catalog: Catalog) -> None:
        put(catalog, "a", blob=a_blob(size=1))
        put(catalog, "b", owner="bob", blob=a_blob(size=2))
        put(catalog, "c", owner=None, blob=a_blob(size=4))
        assert catalog.usage("main") == Usage(3, 7)
        assert (catalog.usage("main", "ann"), catalog.usage("main", "bob"), catalog.usage("main", "")) == (Usage(1, 1), Usage(1, 2), Usage())
        assert catalog.usage("none") == Usage()


def fold(text: str) -> str:
    for unfit in ("\x00", "\ud800", "\uffff"):
        text = text.replace(unfit, "\ufffd")
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def said(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (int, float)) and value is not True and value is not False:
        yield str(value)
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from said(inner)


def holds(file: File, words: list[str]) -> bool:
    """The model's search."""
    parts = [fold(part) for part in (file.path, *said(dict(file.metadata)), *file.tags)]
    return all(any(fold(word) in part for part in parts) for word in words)


class TestSearch:
    @OFTEN
    @given(files=contents(), words=st.lists(LETTERS | PATHS | st.sampled_from(TAGS), max_size=3), filter=st.just(Filter()) | FILTERS,
           prefix=st.just("") | PATHS.map(lambda path: path[:2]), limit=st.integers(1, 4), data=st.data())
    def test_it_finds_what_a_plain_scan_finds(self, catalog: Catalog, scale: str, files: dict[str, dict[str, Any]], words: list[str],
                                              filter: Filter, prefix: str, limit: int, data: st.DataObject) -> None:
        space = fresh_space()
        there = fill(catalog, space, files)
        fill(catalog, fresh_space(), {path: {**about, "blob": a_blob()} for path, about in files.items()})
        if there:
            path = data.draw(st.sampled_from(there)).path
            start = data.draw(st.integers(0, len(path) - 1))
            words = [*words[:1], path[start:start + 5]] if data.draw(st.booleans()) else words
        found = list(paged(lambda **page: catalog.search(space, words, prefix=prefix, filter=filter, **page), limit))
        expected = [file for file in there if holds(file, words) and passes(file, filter, prefix)]
        assert sorted(found, key=KEYS["path"]) == sorted(expected, key=KEYS["path"])

    @pytest.mark.parametrize("word", ["%", "_", "*", '"', "'", "\\", "100%", 'a"b', "a_b", "%a%", "a*", "NEAR", "a AND b", "-a", "^a", "text:a", "(a)"])
    def test_every_character_stands_for_itself(self, catalog: Catalog, scale: str, word: str) -> None:
        named = put(catalog, f"x{word}y")
        for other in ("plain", "a b", "abc", "100x", "axb", "aXXb", "and", "a and  b"):
            put(catalog, other)
        assert catalog.search("main", [word]).files == [named]

    def test_case_and_composition_are_no_matter(self, catalog: Catalog, scale: str) -> None:
        file = put(catalog, "Über-Straße.TXT", metadata={"by": "E\u0301mile"}, tags=("ÄRGER",))
        for word in ("über", "ÜBER", "STRASSE", "straße", ".txt", "U\u0308ber", "\u00e9mile", "ärger"):
            assert catalog.search("main", [word]).files == [file], word
        assert catalog.search("main", ["uber"]).files == []

    def test_words_are_within_one_part(self, catalog: Catalog, scale: str) -> None:
        put(catalog, "abc", metadata={"m": "def"}, tags=("ghi",))
        assert catalog.search("main", ["cdef"]).files == catalog.search("main", ["c\uffffd"]).files == []
        assert len(catalog.search("main", ["abc", "def", "ghi"]).files) == 1

    def test_the_newest_text_comes_first(self, catalog: Catalog, scale: str) -> None:
        files = [put(catalog, f"file-{number}", now=float(number)) for number in range(5)]
        assert catalog.search("main", ["file"]).files == files[::-1]
        changed = catalog.update_file(files[1].id, tags=["new"], now=9.0)
        assert catalog.search("main", ["file"]).files == [changed, files[4], files[3], files[2], files[0]]
        put(catalog, "file-3", now=10.0)
        assert [file.path for file in catalog.search("main", ["file"]).files][:2] == ["file-1", "file-4"], "another content is no other text"

    def test_every_change_is_found_at_once(self, catalog: Catalog, scale: str) -> None:
        def found(word: str, space: str = "main") -> list[str]:
            return [file.path for file in catalog.search(space, [word]).files]

        file = put(catalog, "old/name.txt", metadata={"title": "first"})
        assert found("first") == ["old/name.txt"]
        catalog.update_file(file.id, metadata={"title": "second"}, tags=["tagged"], now=2.0)
        assert (found("first"), found("second"), found("tagged")) == ([], ["old/name.txt"], ["old/name.txt"])
        catalog.move(file.id, Move("main", "new/name.txt"), now=3.0)
        assert (found("old"), found("second")) == ([], ["new/name.txt"])
        catalog.move_folder("main", "new/", Move("main", "newer/"), now=4.0)
        assert (found("new/"), found("newer/")) == ([], ["newer/name.txt"])
        catalog.trash_file(file.id, now=5.0, expires_at=99.0)
        assert (found("name"), found("name", ".trash")) == ([], [])
        catalog.restore(file.id, Move("main", "back.txt"), now=6.0)
        assert (found("name"), found("back")) == ([], ["back.txt"])
        catalog.move(file.id, Move("other", "back.txt"), now=7.0)
        assert (found("back"), found("back", "other")) == ([], ["back.txt"])
        catalog.delete_file(file.id, now=8.0)
        assert found("back", "other") == []
        assert catalog.read_texts() == 0

    def test_a_removed_file_leaves_no_text(self, catalog: Catalog, scale: str) -> None:
        for number in range(3):
            catalog.delete_file(put(catalog, f"same-name-{number}").id, now=2.0)
            assert catalog.search("main", ["same"]).files == []
        kept = put(catalog, "same-name")
        assert catalog.search("main", ["same-name"]).files == [kept]

    def test_texts_are_read_in_batches(self, catalog: Catalog) -> None:
        catalog.place([at(f"f{number}") for number in range(600)], now=1.0)
        assert [catalog.read_texts(limit) for limit in (100, 1000, 1000)] == [100, 500, 0]
        assert len(list(paged(lambda **page: catalog.search("main", ["f"], **page), 70))) == 600

    def test_what_was_committed_before_is_found(self, catalog: Catalog) -> None:
        def run(name: str) -> bool:
            ids = set()
            for number in range(6):
                ids.add(put(catalog, f"{name}/{number}", tags=(f"tag-{name}",)).id)
                if {file.id for file in catalog.search("main", [f"tag-{name}"]).files} != ids:
                    return False
                catalog.update_file(next(iter(ids)), tags=[f"tag-{name}", f"n{number}"], now=2.0)
                if len(catalog.search("main", [f"tag-{name}", f"n{number}"]).files) != 1:
                    return False
            return True

        assert together(*[lambda name=name: run(name) for name in ("ann", "bob", "cyd", "dee")]) == [True] * 4  # type: ignore[misc]

    def test_folders_that_move_beside_searches_are_found(self, catalog: Catalog) -> None:
        catalog.place([at(f"start/{number}") for number in range(30)], now=1.0)
        done: list[bool] = []

        def move() -> int:
            places = ["start/", *[f"place{number}/" for number in range(12)]]
            missing = 0
            for here, there in pairwise(places):
                catalog.move_folder("main", here, Move("main", there), now=2.0)
                missing += 30 - len(catalog.search("main", [there]).files)
            done.append(True)
            return missing

        def search() -> None:
            while not done:
                catalog.search("main", ["start"])

        assert together(move, search, search)[0] == 0

    @pytest.mark.parametrize("cursor", ["", "x", to_cursor("x"), to_cursor("-1"), to_cursor("1" * 30), to_cursor("²"), to_cursor("")])
    def test_other_cursors_are_refused(self, catalog: Catalog, cursor: str) -> None:
        with pytest.raises(InvalidRequest):
            catalog.search("main", ["a"], cursor=cursor)

    def test_long_and_many_words_do_no_harm(self, catalog: Catalog, scale: str) -> None:
        file = put(catalog, "a", metadata={"text": "word " * 20_000})
        assert catalog.search("main", ["word " * 10_000, *["word"] * 500]).files == [file]
        assert catalog.search("main", [f"word{number}" for number in range(500)]).files == []


class TestAudit:
    def test_entries_are_found_by_all_that_is_asked(self, catalog: Catalog) -> None:
        ann, nobody = Act("ann", "token", "r1", "10.0.0.1"), Act(None, "nobody")
        wanted = [AuditEntry(0, 1.0, ann, "file.read", "main", "a/b", "id1", {"size": 5, "nested": {"x": [1, None]}}),
                  AuditEntry(0, 2.0, nobody, "sign_in.refused"), AuditEntry(0, 3.0, ann, "file.read", "other", "c", "id2")]
        for entry in wanted:
            catalog.note(entry)
        kept = catalog.audit()
        assert [replace(entry, id=0) for entry in kept] == wanted[::-1]
        assert [entry.id for entry in kept] == sorted((entry.id for entry in kept), reverse=True)
        for asked, times in (({"space": "main"}, [1.0]), ({"principal": "ann"}, [3.0, 1.0]), ({"action": "sign_in.refused"}, [2.0]),
                             ({"file_id": "id2"}, [3.0]), ({"since": 2.0}, [3.0, 2.0]), ({"until": 2.0}, [1.0]), ({"limit": 1}, [3.0]),
                             ({"before": kept[0].id, "limit": 1}, [2.0]), ({"space": "main", "principal": "bob"}, []),
                             ({"principal": "ann", "action": "file.read", "since": 2.0, "until": 9.0}, [3.0])):
            assert [entry.at for entry in catalog.audit(**asked)] == times, asked  # type: ignore[arg-type]

    def test_a_change_without_an_act_enters_nothing(self, catalog: Catalog) -> None:
        put(catalog, "a")
        assert catalog.audit() == []
        with pytest.raises(Conflict):
            catalog.place([at("b"), at("a", on_conflict="refuse")], now=1.0, by=Act("ann"))
        assert catalog.audit() == [], "what failed was not done"

    def test_tokens_tell_who_made_and_revoked_them(self, catalog: Catalog) -> None:
        token = Token(new_id(), "ci", {"main": frozenset({"read"})}, 5.0)
        catalog.add_token(token, b"x" * 32, by=Act("root"))
        assert catalog.token_with_id(token.id) == token
        assert catalog.token_with_id(new_id()) is None
        assert catalog.revoke_token(token.id, now=7.0, by=Act("root"))
        assert not catalog.revoke_token(token.id, now=8.0, by=Act("root"))
        assert catalog.token_with_id(token.id) == replace(token, revoked_at=7.0)
        assert [(entry.action, entry.at, entry.facts["token"]) for entry in catalog.audit()] == [
            ("token.revoke", 7.0, token.id), ("token.create", 5.0, token.id)]

    def test_old_entries_are_purged(self, catalog: Catalog) -> None:
        for at_time in (1.0, 2.0, 3.0):
            catalog.note(AuditEntry(0, at_time, Act("ann"), "x"))
        assert catalog.purge(now=9.0) == 0
        assert catalog.purge(now=9.0, audit_before=3.0) == 0, "the log is kept for longer"
        assert catalog.purge(now=9.0, audit_before=3.0, log_before=9.0) == 2
        assert [entry.at for entry in catalog.audit()] == [3.0]


class TestTheRest:
    def test_zips_live_until_they_expire(self, catalog: Catalog) -> None:
        zip = Zip(new_id(), "ann", "all.zip", (ZipEntry("a/b", "f1", "b1", 2**63 - 1, 1.25), ZipEntry("c", "f2", "b2", 0, 2.0)), 99, 1.0, 5.0)
        catalog.add_zip(zip)
        assert catalog.zip(zip.id) == zip
        assert catalog.zip(new_id()) is None
        assert catalog.purge(now=4.9) == 0
        assert catalog.purge(now=5.0) == 1
        assert catalog.zip(zip.id) is None

    def test_a_blob_is_found_by_its_id(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        assert catalog.blob(file.blob.id) == file.blob
        assert catalog.blob(new_id()) is None

    def test_the_first_secret_stays(self, catalog: Catalog) -> None:
        keys = together(*[lambda key=bytes([number]) * 32: catalog.secret("signing", key) for number in range(8)])  # type: ignore[misc]
        assert len(set(keys)) == 1  # type: ignore[type-var]
        assert catalog.secret("signing", b"late") == keys[0]
        assert catalog.secret("other", b"\x00\xff") == b"\x00\xff"
