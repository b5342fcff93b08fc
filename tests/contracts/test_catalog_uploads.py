"""What every catalog keeps of uploads under way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from catalogs import a_blob, an_upload, begin, note, of, put, together

from carboy.catalog.base import Catalog, ChunkTotals, Reservation, paged
from carboy.checksums import combine, crc64nvme
from carboy.errors import Conflict, MissingBytes, NotFound, PreconditionFailed, TooLarge, UploadGone
from carboy.model import Chunk, Condition, Fragment, Key, Span, key_for, new_id


class TestUploads:
    def test_an_upload_reads_back_whole(self, catalog: Catalog) -> None:
        upload = an_upload(name="n", size=2**62, chunk_size=5, media_type="a/b", metadata={"a": [1]}, driver_state={"parts": ["x"]},
                           if_match='"e"', digests={"sha-256": "00ff", "sha-512": ""})
        assert catalog.create_upload(upload) == upload
        progress = catalog.upload(upload.id)
        assert progress is not None
        assert (progress.upload, list(progress.spans)) == (upload, [])
        assert catalog.upload(new_id()) is None

    def test_a_name_is_of_one_receiving_upload_per_owner_and_space(self, catalog: Catalog) -> None:
        first = begin(catalog, name="n")
        assert begin(catalog, name="n") == first
        for other in ({"owner": "bob"}, {"space": "other"}, {"owner": None}, {"name": "N"}, {"name": None}):
            assert begin(catalog, **{"name": "n", **other}).id != first.id
        assert begin(catalog, name="n", owner=None).id == catalog.upload_named("main", None, "n").upload.id  # type: ignore[union-attr]

    def test_one_name_at_once_is_one_upload(self, catalog: Catalog) -> None:
        outcomes = together(*[lambda: begin(catalog, name="n").id for _ in range(8)])
        assert len(set(outcomes)) == 1
        assert catalog.counts()["uploads"] == 1

    def test_a_name_finds_the_receiving_one_else_the_last_complete(self, catalog: Catalog) -> None:
        assert catalog.upload_named("main", "ann", "n") is None
        done = []
        for now in (5.0, 6.0):
            upload = begin(catalog, name="n", size=0)
            catalog.complete(upload.id, of(upload), now=now, expires_at=100.0)
            done.append(upload.id)
        cancelled = begin(catalog, name="n")
        assert catalog.upload_named("main", "ann", "n").upload.id == cancelled.id  # type: ignore[union-attr]
        catalog.end_upload(cancelled.id, "cancelled", now=7.0, expires_at=100.0)
        assert catalog.upload_named("main", "ann", "n").upload.id == done[-1]  # type: ignore[union-attr]

    def test_receiving_uploads_by_id_in_pages(self, catalog: Catalog) -> None:
        ids = sorted(begin(catalog, owner=owner, space=space).id for owner in ("ann", "bob") for space in ("main", "other"))
        ended = begin(catalog)
        catalog.end_upload(ended.id, "failed", now=2.0, expires_at=100.0)
        catalog.record(ids[0], [Span(3, 5, 1), Span(0, 2, 1)], now=2.0, expires_at=100.0)
        found, cursor = catalog.uploads(limit=3)
        rest, end = catalog.uploads(limit=3, cursor=cursor)
        assert [p.upload.id for p in found + rest] == ids
        assert end is None
        assert found[0].spans == [Span(0, 2, 1), Span(3, 5, 1)]
        assert found[1].spans == []
        assert len(catalog.uploads(owner="ann")[0]) == 2
        assert [p.upload.owner for p in catalog.uploads(owner="bob", space="other")[0]] == ["bob"]

    def test_a_reservation_comes_with_it(self, catalog: Catalog) -> None:
        upload = an_upload(name="n")
        catalog.create_upload(upload, reserve=Reservation(upload.id, "local", "ann", 10, 50.0))
        twin = an_upload(name="n")
        catalog.create_upload(twin, reserve=Reservation(twin.id, "local", "ann", 10, 50.0))
        assert catalog.reserved("local", now=1.0) == 10


class TestNaming:
    def test_an_upload_is_named_while_it_receives(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        assert catalog.name_upload(upload.id, "folder/named.bin")
        found = catalog.upload(upload.id)
        assert found is not None
        assert found.upload.path == "folder/named.bin"
        assert catalog.end_upload(upload.id, "cancelled", now=2.0, expires_at=9.0)
        assert not catalog.name_upload(upload.id, "too/late.bin")
        assert not catalog.name_upload(new_id(), "nobody.bin")


class TestRecord:
    def test_neighbours_merge_and_their_crcs_combine(self, catalog: Catalog) -> None:
        data = bytes(range(256)) * 4
        cuts = [(0, 10), (900, 1024), (10, 400), (700, 900), (400, 700)]
        upload = begin(catalog, size=len(data))
        for start, end in cuts:
            progress = note(catalog, upload, Span(start, end, crc64nvme(data[start:end])))
            assert catalog.upload(upload.id) == progress
        assert progress.spans == [Span(0, len(data), crc64nvme(data))]
        assert progress.covered

    def test_several_spans_at_once_and_empty_ones(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        progress = note(catalog, upload, Span(5, 9, 1), Span(2, 2, 0), Span(0, 3, 2), size=20)
        assert progress.spans == [Span(0, 3, 2), Span(5, 9, 1)]
        assert (progress.received, progress.offset, progress.missing, progress.covered) == (7, 3, [(3, 5), (9, 20)], False)
        assert note(catalog, upload, Span(3, 5, 9)).spans == [Span(0, 9, combine(combine(2, 9, 2), 1, 4))]

    def test_times_and_size(self, catalog: Catalog) -> None:
        upload = begin(catalog, driver_state={"a": 1})
        assert note(catalog, upload, Span(0, 1, 1), now=5.0, expires_at=50.0).upload == replace(upload, touched_at=5.0, expires_at=50.0)
        changed = note(catalog, upload, now=6.0, expires_at=60.0, size=9).upload
        assert changed == replace(upload, touched_at=6.0, expires_at=60.0, size=9)
        assert note(catalog, upload, now=6.0, expires_at=60.0).upload == changed

    @pytest.mark.parametrize("span", [Span(0, 1), Span(4, 6), Span(9, 11), Span(0, 20), Span(5, 10), Span(6, 7)])
    def test_an_overlap_is_refused(self, catalog: Catalog, span: Span) -> None:
        upload = begin(catalog)
        before = note(catalog, upload, Span(0, 2, 1), Span(5, 10, 1))
        with pytest.raises(Conflict):
            note(catalog, upload, Span(30, 31, 1), span, size=100, now=9.0)
        assert catalog.upload(upload.id) == before

    def test_refusals(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        with pytest.raises(NotFound):
            catalog.record(new_id(), [], now=1.0, expires_at=1.0)
        with pytest.raises(TooLarge):
            note(catalog, upload, Span(0, 11, 1), size=10)
        note(catalog, upload, Span(0, 5, 1))
        with pytest.raises(TooLarge):
            note(catalog, upload, size=4)
        note(catalog, upload, size=10)
        with pytest.raises(Conflict):
            note(catalog, upload, size=11)
        note(catalog, upload, size=10)
        with pytest.raises(TooLarge):
            note(catalog, upload, Span(9, 11, 1))

    def test_a_reservation_shrinks_as_bytes_land(self, catalog: Catalog) -> None:
        upload = an_upload(size=100)
        catalog.create_upload(upload, reserve=Reservation(upload.id, "local", "ann", 100, 50.0))
        note(catalog, upload, Span(0, 30, 1), reserve_until=60.0)
        assert (catalog.reserved("local", now=59.0), catalog.reserved("local", now=60.0)) == (70, 0)
        note(catalog, upload, Span(50, 60, 1))
        assert catalog.reserved("local", now=59.0) == 70
        catalog.release(upload.id)
        note(catalog, upload, Span(30, 40, 1), reserve_until=70.0)
        assert catalog.reserved("local", now=1.0) == 0

    @pytest.mark.parametrize("state", ["cancelled", "failed", "expired"])
    def test_an_ended_upload_takes_nothing(self, catalog: Catalog, state: Any) -> None:
        upload = begin(catalog, size=0)
        catalog.end_upload(upload.id, state, now=200.0, expires_at=300.0)
        with pytest.raises(UploadGone) as caught:
            note(catalog, upload, Span(0, 1, 1))
        assert caught.value.facts["state"] == state
        with pytest.raises(UploadGone):
            catalog.complete(upload.id, of(upload), now=3.0, expires_at=100.0)

    def test_parts_at_once_are_all_there(self, catalog: Catalog) -> None:
        upload = begin(catalog, size=160)
        together(*[lambda n=n: note(catalog, upload, Span(n * 10, n * 10 + 10, n)) for n in range(16)])  # type: ignore[misc]
        progress = catalog.upload(upload.id)
        assert progress is not None and [(s.start, s.end) for s in progress.spans] == [(0, 160)]

    def test_of_two_last_parts_at_once_one_sees_the_upload_covered(self, catalog: Catalog) -> None:
        for _ in range(10):
            upload = begin(catalog, size=20)
            outcomes = together(lambda u=upload: note(catalog, u, Span(0, 10, 1)).covered,  # type: ignore[misc]
                                lambda u=upload: note(catalog, u, Span(10, 20, 1)).covered)  # type: ignore[misc]
            assert sorted(outcomes) == [False, True]  # type: ignore[type-var]


class TestChunks:
    def test_by_index(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        assert catalog.chunks(upload.id) == []
        wanted = [Chunk(0, 5, 1, start=0), Chunk(3, 7, 2**64 - 1, key=Key("aa/piece")), Chunk(2, 1, 9, start=5)]
        for chunk in wanted:
            note(catalog, upload, chunk=chunk)
        assert catalog.chunks(upload.id) == sorted(wanted, key=lambda chunk: chunk.index)

    def test_a_piece_that_is_replaced_is_condemned(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        note(catalog, upload, chunk=Chunk(0, 5, 1, key=Key("aa/one")))
        note(catalog, upload, chunk=Chunk(0, 6, 2, key=Key("aa/two")), now=5.0)
        note(catalog, upload, chunk=Chunk(0, 6, 2, key=Key("aa/two")), now=6.0)
        assert catalog.chunks(upload.id) == [Chunk(0, 6, 2, key=Key("aa/two"))]
        assert catalog.condemned("local", before=100.0) == ["aa/one"]
        assert catalog.known("local", [Key("aa/one"), Key("aa/two"), Key("aa/three")]) == {"aa/one", "aa/two"}


    def test_totals(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        assert catalog.chunk_totals(upload.id) == ChunkTotals(count=0, highest=-1, end=0, pieces=0)
        for chunk in (Chunk(4, 10, 1, start=40), Chunk(2, 30, 1, start=20), Chunk(7, 5, 1, key=Key("aa/piece"))):
            note(catalog, upload, chunk=chunk)
        assert catalog.chunk_totals(upload.id) == ChunkTotals(count=3, highest=7, end=50, pieces=1)
        assert catalog.chunk_totals(new_id()) == ChunkTotals(count=0, highest=-1, end=0, pieces=0)


class TestComplete:
    def test_a_covered_upload_becomes_a_file(self, catalog: Catalog) -> None:
        upload = an_upload(size=10, name="n")
        catalog.create_upload(upload, reserve=Reservation(upload.id, "local", "ann", 10, 50.0))
        note(catalog, upload, Span(0, 10, 7))
        placed = catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0)
        assert placed.created
        assert catalog.file_at("main", "up.bin") == placed.file
        progress = catalog.upload(upload.id)
        assert progress is not None
        assert progress.upload == replace(upload, state="complete", file_id=placed.file.id, touched_at=9.0, expires_at=99.0)
        assert progress.spans == [Span(0, 10, 7)]
        assert catalog.reserved("local", now=1.0) == 0
        assert catalog.condemned("local", before=100.0) == []
        assert catalog.known("local", [upload.key]) == {upload.key}
        with pytest.raises(UploadGone):
            note(catalog, upload, Span(0, 1, 1))

    def test_it_is_repeatable(self, catalog: Catalog) -> None:
        upload = begin(catalog, size=0)
        first = catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0)
        assert catalog.complete(upload.id, of(upload), now=10.0, expires_at=99.0) == first
        newer = put(catalog, "up.bin", now=11.0)
        assert catalog.complete(upload.id, of(upload), now=12.0, expires_at=99.0).file == newer
        catalog.delete_file(newer.id, now=13.0)
        with pytest.raises(NotFound):
            catalog.complete(upload.id, of(upload), now=14.0, expires_at=99.0)

    def test_many_at_once_complete_it_once(self, catalog: Catalog) -> None:
        upload = begin(catalog, size=0)
        outcomes = together(*[lambda: catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0).file for _ in range(4)])
        assert len({file.id for file in outcomes}) == 1  # type: ignore[attr-defined]
        assert catalog.counts()["files"] == 1

    def test_gaps_are_told(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        note(catalog, upload, Span(2, 5, 1))
        with pytest.raises(MissingBytes):
            catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0)
        note(catalog, upload, size=10)
        with pytest.raises(MissingBytes) as caught:
            catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0)
        assert caught.value.facts["missing"] == [(0, 2), (5, 10)]
        with pytest.raises(NotFound):
            catalog.complete(new_id(), of(upload), now=9.0, expires_at=99.0)

    def test_a_refusal_leaves_it_receiving(self, catalog: Catalog) -> None:
        put(catalog, "up.bin")
        upload = begin(catalog, size=4)
        note(catalog, upload, Span(0, 4, 7))
        for refused in ({"condition": Condition(absent=True)}, {"on_conflict": "refuse"}, {"path": "up.bin/x"}):
            with pytest.raises((Conflict, PreconditionFailed)):
                catalog.complete(upload.id, of(upload, **refused), now=9.0, expires_at=99.0)
        assert [covered.id for covered in catalog.covered_uploads()] == [upload.id]
        assert catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0).file.version == 2
        assert catalog.covered_uploads() == []

    def test_pieces_and_a_key_left_behind_are_condemned(self, catalog: Catalog) -> None:
        upload = begin(catalog, size=4)
        note(catalog, upload, Span(0, 4, 7), chunk=Chunk(0, 2, 1, key=Key("aa/one")))
        note(catalog, upload, chunk=Chunk(1, 2, 1, key=Key("aa/two")))
        joined = a_blob()
        catalog.complete(upload.id, of(upload, blob=joined), now=9.0, expires_at=99.0)
        assert set(catalog.condemned("local", before=9.0)) == {"aa/one", "aa/two", upload.key}
        assert catalog.chunks(upload.id) == []

    def test_a_single_piece_may_become_the_blob(self, catalog: Catalog) -> None:
        upload = begin(catalog, size=4)
        piece = a_blob()
        note(catalog, upload, Span(0, 4, 7), chunk=Chunk(0, 4, 7, key=piece.key))
        catalog.complete(upload.id, of(upload, blob=piece), now=9.0, expires_at=99.0)
        assert catalog.condemned("local", before=9.0) == [upload.key]

    def test_covered_uploads_are_those_without_gaps(self, catalog: Catalog) -> None:
        empty, whole = begin(catalog, size=0), begin(catalog, size=4)
        note(catalog, whole, Span(2, 4, 1))
        note(catalog, whole, Span(0, 2, 1))
        for missing in (Span(0, 3, 1), Span(1, 4, 1)):
            note(catalog, begin(catalog, size=4), missing)
        note(catalog, begin(catalog), Span(0, 4, 1))
        begin(catalog)
        assert {upload.id for upload in catalog.covered_uploads()} == {empty.id, whole.id}
        first, last = sorted((empty.id, whole.id))
        assert [[upload.id for upload in catalog.covered_uploads(after, limit=1)] for after in (None, first, last)] == [[first], [last], []]
        assert [upload.id for upload in paged(catalog.covered_uploads, limit=1)] == [first, last]


class TestEnding:
    def test_it_condemns_all_its_bytes_and_drops_the_rest(self, catalog: Catalog) -> None:
        upload = an_upload(size=10, name="n")
        catalog.create_upload(upload, reserve=Reservation(upload.id, "local", "ann", 10, 50.0))
        note(catalog, upload, Span(0, 4, 1), chunk=Chunk(0, 4, 1, key=Key("aa/one")))
        assert catalog.end_upload(upload.id, "failed", now=5.0, failure="disk", expires_at=60.0)
        progress = catalog.upload(upload.id)
        assert progress is not None
        assert progress.upload == replace(upload, state="failed", failure="disk", touched_at=5.0, expires_at=60.0)
        assert (list(progress.spans), catalog.chunks(upload.id), catalog.reserved("local", now=1.0)) == ([], [], 0)
        assert set(catalog.condemned("local", before=5.0)) == {upload.key, "aa/one"}
        assert not catalog.end_upload(upload.id, "cancelled", now=6.0, expires_at=60.0)
        assert not catalog.end_upload(new_id(), "cancelled", now=6.0, expires_at=60.0)

    def test_ending_and_completing_at_once_has_one_outcome(self, catalog: Catalog) -> None:
        for _ in range(10):
            upload = begin(catalog, size=0, path=new_id())
            ended, completed = together(lambda u=upload: catalog.end_upload(u.id, "cancelled", now=2.0, expires_at=9.0),  # type: ignore[misc]
                                        lambda u=upload: catalog.complete(u.id, of(u), now=2.0, expires_at=9.0))  # type: ignore[misc]
            assert ended == isinstance(completed, UploadGone)
            assert (upload.key in catalog.condemned("local", before=9.0)) == ended

    def test_expired_uploads(self, catalog: Catalog) -> None:
        soon, later = begin(catalog, expires_at=10.0), begin(catalog, expires_at=20.0)
        assert [u.id for u in catalog.expired_uploads(now=9.9)] == []
        assert [u.id for u in catalog.expired_uploads(now=10.0)] == [soon.id]
        assert [u.id for u in catalog.expired_uploads(now=99.0)] == [soon.id, later.id]
        assert [u.id for u in catalog.expired_uploads(now=99.0, limit=1)] == [soon.id]
        catalog.end_upload(soon.id, "expired", now=99.0, expires_at=200.0)
        assert [u.id for u in catalog.expired_uploads(now=99.0)] == [later.id]

    def test_purge(self, catalog: Catalog) -> None:
        ended, done, receiving = begin(catalog), begin(catalog, size=0, path="x"), begin(catalog, expires_at=5.0)
        catalog.end_upload(ended.id, "cancelled", now=2.0, expires_at=10.0)
        catalog.complete(done.id, of(done), now=2.0, expires_at=20.0)
        catalog.reserve(Reservation("r", "local", "ann", 10, 15.0), room=100, cap=100, now=1.0)
        assert catalog.purge(now=9.0) == 0
        assert catalog.purge(now=15.0) == 2
        assert catalog.upload(ended.id) is None
        assert catalog.upload(done.id) is not None
        assert catalog.purge(now=99.0) == 1
        assert catalog.upload(receiving.id) is not None
        assert catalog.file_at("main", "x") is not None


class TestParts:
    def test_parts_and_wholes_read_back(self, catalog: Catalog) -> None:
        part, whole = an_upload(partial=True, size=3), an_upload(parts=("b" * 32, "a" * 32, "b" * 32))
        for upload in (part, whole):
            assert catalog.create_upload(upload) == upload
            assert catalog.upload(upload.id).upload == upload  # type: ignore[union-attr]
            assert note(catalog, upload, Span(0, 1, 1)).upload.parts == upload.parts

    def test_wholes_that_wait_are_listed_until_they_end(self, catalog: Catalog) -> None:
        plain, part = begin(catalog), begin(catalog, partial=True)
        wholes = sorted(begin(catalog, parts=(part.id, plain.id), path=f"{number}").id for number in range(3))
        assert [upload.id for upload in catalog.uploads_of_parts()] == wholes
        assert [upload.id for upload in catalog.uploads_of_parts(limit=2)] == wholes[:2]
        assert [upload.id for upload in catalog.uploads_of_parts(wholes[0], limit=2)] == wholes[1:]
        assert [upload.id for upload in paged(catalog.uploads_of_parts, limit=2)] == wholes
        assert {upload.parts for upload in catalog.uploads_of_parts()} == {(part.id, plain.id)}
        for one, waiting in ((part.id, wholes), (plain.id, wholes), ("0" * 32, [])):
            assert [upload.id for upload in paged(lambda after, limit, one=one: catalog.uploads_of_parts(after, limit, part=one), 2)] == waiting
        catalog.end_upload(wholes[0], "cancelled", now=2.0, expires_at=9.0)
        done = note(catalog, catalog.upload(wholes[1]).upload, Span(0, 5, 7), size=5).upload  # type: ignore[union-attr]
        assert [upload.id for upload in catalog.uploads_of_parts()] == wholes[1:], "joined, and no file yet"
        catalog.complete(done.id, of(done), now=3.0, expires_at=9.0)
        assert [upload.id for upload in catalog.uploads_of_parts()] == wholes[2:]

    def test_a_covered_part_is_not_to_be_completed(self, catalog: Catalog) -> None:
        part, empty, plain = begin(catalog, partial=True, size=4), begin(catalog, partial=True, size=0), begin(catalog, size=4)
        for upload in (part, plain):
            note(catalog, upload, Span(0, 4, 7))
        assert [upload.id for upload in catalog.covered_uploads()] == [plain.id]
        assert [catalog.upload(upload.id).due for upload in (part, empty, plain)] == [False, False, True]  # type: ignore[union-attr]

    def test_a_part_that_is_used_up_is_complete_without_a_file(self, catalog: Catalog) -> None:
        part = begin(catalog, partial=True, size=4)
        note(catalog, part, Span(0, 4, 7))
        assert catalog.end_upload(part.id, "complete", now=5.0, expires_at=50.0)
        progress = catalog.upload(part.id)
        assert progress is not None
        assert (progress.upload.state, progress.upload.file_id, list(progress.spans)) == ("complete", None, [])
        assert catalog.condemned("local", before=5.0) == [part.key]
        assert not catalog.end_upload(part.id, "complete", now=6.0, expires_at=60.0)


def a_fragment(start: int, end: int, *, piece: bool = False, **changes: Any) -> Fragment:
    return replace(Fragment(start, end, 2**64 - start - 1, {"number": start}, key_for(new_id()) if piece else None), **changes)


class TestFragments:
    def remote(self, catalog: Catalog, **changes: Any) -> Any:
        return begin(catalog, **{"storage": "s3", "driver_state": {"multipart": "x"}, **changes})

    def test_they_read_back_by_start(self, catalog: Catalog) -> None:
        upload, other = self.remote(catalog), self.remote(catalog)
        kept = [a_fragment(0, 5), a_fragment(5, 2**62, piece=True), a_fragment(2**62, 2**62 + 1, crc=None, ref={})]
        note(catalog, upload, fragments=[kept[1]])
        note(catalog, upload, fragments=[kept[2], kept[0]])
        assert catalog.fragments(upload.id) == kept
        assert catalog.fragments(other.id) == catalog.fragments(new_id()) == []
        assert catalog.upload(upload.id).upload.driver_state == {"multipart": "x"}  # type: ignore[union-attr]

    def test_one_takes_the_place_of_those_within_it(self, catalog: Catalog) -> None:
        upload = self.remote(catalog)
        kept = [a_fragment(at, at + 2, piece=True) for at in range(0, 10, 2)]
        note(catalog, upload, Span(0, 10, 1), fragments=kept)
        over = a_fragment(2, 6)
        note(catalog, upload, now=3.0, fragments=[over])
        assert catalog.fragments(upload.id) == [kept[0], over, *kept[3:]]
        assert catalog.condemned("s3", before=3.0) == sorted(one.key for one in kept[1:3])  # type: ignore[type-var]
        grown, all_of_it = a_fragment(8, 12, piece=True), a_fragment(0, 12, piece=True)
        note(catalog, upload, Span(10, 12, 1), now=4.0, fragments=[grown, all_of_it])
        assert catalog.fragments(upload.id) == [all_of_it]
        assert set(catalog.condemned("s3", before=4.0)) == {one.key for one in [*kept, grown]}
        assert catalog.condemned("local", before=9.0) == []

    def test_the_same_piece_may_be_told_again(self, catalog: Catalog) -> None:
        upload, piece = self.remote(catalog), a_fragment(0, 2, piece=True)
        note(catalog, upload, fragments=[piece])
        note(catalog, upload, fragments=[replace(piece, ref={"again": True})])
        assert catalog.fragments(upload.id) == [replace(piece, ref={"again": True})]
        assert catalog.condemned("s3", before=9.0) == []

    @pytest.mark.parametrize(("start", "end"), [(0, 6), (6, 9), (9, 11), (0, 12), (6, 7), (9, 19), (4, 11)])
    def test_one_cuts_no_other(self, catalog: Catalog, start: int, end: int) -> None:
        upload, kept = self.remote(catalog), [a_fragment(5, 8), a_fragment(10, 20)]
        note(catalog, upload, fragments=[a_fragment(0, 1), *kept, a_fragment(30, 31)])
        before = catalog.fragments(upload.id)
        with pytest.raises(Conflict):
            note(catalog, upload, Span(100, 101, 1), fragments=[a_fragment(start, end)])
        assert catalog.fragments(upload.id) == before
        assert catalog.upload(upload.id).spans == []  # type: ignore[union-attr]
        note(catalog, upload, fragments=[a_fragment(8, 10), a_fragment(20, 30), a_fragment(1, 5)])
        assert [(one.start, one.end) for one in catalog.fragments(upload.id)] == [
            (0, 1), (1, 5), (5, 8), (8, 10), (10, 20), (20, 30), (30, 31)]

    def test_a_refused_record_keeps_none(self, catalog: Catalog) -> None:
        upload, piece = self.remote(catalog, size=4), a_fragment(0, 9, piece=True)
        with pytest.raises(TooLarge):
            note(catalog, upload, Span(0, 9, 1), fragments=[piece])
        assert catalog.fragments(upload.id) == []
        assert catalog.known("s3", [piece.key]) == set()  # type: ignore[list-item]

    def test_their_pieces_are_known_until_they_are_forgotten(self, catalog: Catalog) -> None:
        upload, piece = self.remote(catalog), a_fragment(0, 2, piece=True)
        keys = [piece.key, upload.key]
        note(catalog, upload, Span(0, 2, 1), fragments=[piece, a_fragment(2, 4)])
        assert catalog.known("s3", keys) == set(keys)  # type: ignore[arg-type]
        assert catalog.known("local", keys) == set()  # type: ignore[arg-type]
        catalog.end_upload(upload.id, "cancelled", now=3.0, expires_at=9.0)
        assert set(catalog.condemned("s3", before=3.0)) == catalog.known("s3", keys) == set(keys)  # type: ignore[arg-type]
        assert catalog.fragments(upload.id) == []
        catalog.forget("s3", keys)  # type: ignore[arg-type]
        assert catalog.known("s3", keys) == set()  # type: ignore[arg-type]

    @pytest.mark.parametrize("state", ["cancelled", "failed", "expired", "complete"])
    def test_they_go_when_it_ends(self, catalog: Catalog, state: Any) -> None:
        upload, piece = self.remote(catalog, partial=state == "complete", size=2), a_fragment(0, 2, piece=True)
        note(catalog, upload, Span(0, 2, 1), fragments=[piece])
        assert catalog.end_upload(upload.id, state, now=100.0, expires_at=200.0)
        assert set(catalog.condemned("s3", before=100.0)) == {piece.key, upload.key}
        assert catalog.fragments(upload.id) == []
        assert catalog.purge(now=200.0) == 1

    def test_a_sealed_upload_needs_them_no_more(self, catalog: Catalog) -> None:
        upload = self.remote(catalog, size=4)
        pieces = [a_fragment(0, 2, piece=True), a_fragment(3, 4, piece=True)]
        note(catalog, upload, Span(0, 4, 1), fragments=[*pieces, a_fragment(2, 3)])
        catalog.complete(upload.id, of(upload), now=5.0, expires_at=50.0)
        assert catalog.fragments(upload.id) == []
        assert set(catalog.condemned("s3", before=5.0)) == {piece.key for piece in pieces}
        assert catalog.known("s3", [upload.key]) == {upload.key}

    def test_a_piece_that_becomes_the_file_stays(self, catalog: Catalog) -> None:
        upload = self.remote(catalog, size=4)
        piece, other = a_fragment(0, 4, piece=True), a_fragment(4, 5, piece=True)
        note(catalog, upload, Span(0, 4, 1), fragments=[piece, other])
        catalog.complete(upload.id, of(upload, blob=a_blob(storage="s3", key=piece.key)), now=5.0, expires_at=50.0)
        assert set(catalog.condemned("s3", before=5.0)) == {upload.key, other.key}
        assert catalog.known("s3", [piece.key]) == {piece.key}  # type: ignore[list-item,comparison-overlap]

    def test_pieces_of_many_are_condemned_once(self, catalog: Catalog) -> None:
        """Those of one upload, and those that were condemned already."""
        upload, twin = self.remote(catalog), self.remote(catalog)
        pieces = [a_fragment(at, at + 1, piece=True) for at in range(300)]
        note(catalog, upload, fragments=pieces)
        note(catalog, twin, fragments=[pieces[0], a_fragment(1, 2, piece=True)])
        for ended in (twin, upload):
            catalog.end_upload(ended.id, "cancelled", now=3.0, expires_at=9.0)
        assert len(catalog.condemned("s3", before=3.0)) == 300 + 1 + 2

    def test_a_refused_completion_keeps_them(self, catalog: Catalog) -> None:
        upload, piece = self.remote(catalog, size=4, path="up.bin"), a_fragment(0, 4, piece=True)
        note(catalog, upload, Span(0, 4, 1), fragments=[piece])
        put(catalog, "up.bin")
        with pytest.raises(PreconditionFailed):
            catalog.complete(upload.id, of(upload, condition=Condition(absent=True)), now=5.0, expires_at=50.0)
        assert catalog.fragments(upload.id) == [piece]
        assert catalog.condemned("s3", before=9.0) == []


class TestWholeBodies:
    def test_a_placement_is_entered_as_a_complete_upload(self, catalog: Catalog) -> None:
        upload = an_upload(size=4, metadata={"b": "1", "a": "2"}, expires_at=50.0)
        [placed] = catalog.place([of(upload)], now=3.0, upload=upload)
        progress = catalog.upload(upload.id)
        assert progress is not None
        assert progress.upload == replace(upload, state="complete", file_id=placed.file.id)
        assert list(progress.upload.metadata) == ["b", "a"], "in the order in which it was told"
        assert catalog.uploads()[0] == []
        assert catalog.complete(upload.id, of(upload), now=4.0, expires_at=60.0).file == placed.file
        with pytest.raises(UploadGone):
            note(catalog, upload, Span(0, 1, 1))
        assert catalog.purge(now=49.0) == 0
        assert catalog.purge(now=51.0) == 1
        assert catalog.file_at("main", "up.bin") == placed.file

    def test_of_a_placement_that_is_refused_nothing_is_entered(self, catalog: Catalog) -> None:
        put(catalog, "up.bin")
        upload = an_upload(size=4)
        with pytest.raises(PreconditionFailed):
            catalog.place([of(upload, condition=Condition(absent=True))], now=3.0, upload=upload)
        assert catalog.upload(upload.id) is None
