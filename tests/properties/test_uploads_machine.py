"""The life of uploads against a model of bytes: a real catalog, a real storage, crashes included."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from carboy import checksums
from carboy.bootstrap import Services, open_carboy, prepare
from carboy.config import Settings, SpaceSettings
from carboy.engine.receive import Digests, Target
from carboy.errors import BodyCut, BytesDiffer, Conflict, DigestMismatch, InvalidRequest, MissingBytes, NotFound, TooLarge, UploadGone
from carboy.model import Key, Progress, Span, gaps
from carboy.storage.base import no_fragments
from carboy.streams import BytesSource

MOST = 20_000
"""The largest file of the model: a few checkpoints long."""
STRIDE = 4_000
RESERVE_FROM = 5_000
RULES = SpaceSettings()
SEED = st.integers(0, 2**32)
SIZE = st.none() | st.integers(1, MOST)


@dataclass(eq=False)
class Model:
    """What an upload must be: the bytes that were acknowledged, and for numbered chunks what each holds."""

    id: str
    path: str
    size: int | None
    truth: bytes
    name: str | None = None
    data: bytearray = field(default_factory=lambda: bytearray(MOST))
    there: bytearray = field(default_factory=lambda: bytearray(MOST))
    chunks: dict[int, bytes] = field(default_factory=dict)
    pieces: set[int] = field(default_factory=set)
    done: bytes | None = None
    gone: bool = False
    promised: bool = False

    def __repr__(self) -> str:
        return f"<{self.path} {self.name or ''} {self.size} {self.spans()}>"

    @property
    def promise(self) -> int:
        """The room it has been promised: the bytes that are still to come."""
        return self.size - sum(self.there) if self.promised and self.size else 0

    @property
    def receiving(self) -> bool:
        return not self.gone and self.done is None

    def keep(self, at: int, data: bytes) -> None:
        self.data[at:at + len(data)] = data
        self.there[at:at + len(data)] = b"\1" * len(data)

    def spans(self) -> list[tuple[int, int]]:
        """The runs of acknowledged bytes."""
        marks = bytes([0, *self.there, 0])
        edges = [at for at in range(len(marks) - 1) if marks[at] != marks[at + 1]]
        return list(zip(edges[::2], edges[1::2], strict=True))

    def missing(self) -> list[tuple[int, int]]:
        known = [Span(start, end) for start, end in self.spans()]
        return gaps(known, self.size if self.size is not None else max((span.end for span in known), default=0))

    @property
    def covered(self) -> bool:
        return self.size is not None and not self.missing()

    def first_difference(self, at: int, data: bytes) -> int | None:
        """Where ``data`` contradicts what was acknowledged."""
        return next((at + n for n, byte in enumerate(data) if self.there[at + n] and self.data[at + n] != byte), None)


def pieces_of(data: bytes, seed: int) -> list[bytes]:
    """The data in pieces, as a network gives it."""
    chance, pieces, at = random.Random(seed), [], 0
    while at < len(data):
        size = chance.choice((1, 100, 1500, 8192, MOST))
        pieces.append(data[at:at + size])
        at += size
    return pieces


class Uploads(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="carboy-machine-"))
        self.now = 1e9
        self.opened: list[Services] = []
        self.models: list[Model] = []
        self.files: dict[str, bytes] = {}
        self.services = self.open()

    def open(self) -> Services:
        services = open_carboy(Settings(data=self.folder / "data", admin_token="t" * 32, checkpoint_bytes=5_000,
                                        checkpoint_seconds=1e9, reserve_from=RESERVE_FROM), clock=lambda: self.now)
        self.opened.append(services)
        prepare(services)
        return services

    def teardown(self) -> None:
        try:
            if self.models:
                self.sweep()
        finally:
            for services in self.opened:
                services.catalog.close()
                services.storages["local"].close()
                services.uploads.turns.close()
                services.uploads.executor.shutdown()
            shutil.rmtree(self.folder)

    # --- what the world does -------------------------------------------------------------------------------------

    @initialize(size=SIZE)
    def first(self, size: int | None) -> None:
        self.begin(size=9_000, path="first", seed=0)
        self.begin_named(size=size, path="chunked", seed=1, name="one")

    @rule(size=SIZE, path=st.sampled_from(["a", "b", "deep/c"]), seed=SEED)
    def begin(self, size: int | None, path: str, seed: int) -> None:
        self.modelled(self.services.uploads.begin(self.target(path), protocol="test", size=size), path, size, seed)

    def begin_empty(self, path: str) -> None:
        """Nothing is missing of an empty file: beginning completes it."""
        progress = self.services.uploads.begin(self.target(path), protocol="test", size=0)
        assert progress.upload.state == "complete"
        self.completed(path, b"")

    @rule(size=SIZE, path=st.sampled_from(["a", "chunked"]), seed=SEED, name=st.sampled_from(["one", "two"]))
    def begin_named(self, size: int | None, path: str, seed: int, name: str) -> None:
        """A name belongs to one receiving upload; beginning again gives that one."""
        known = next((model for model in self.alive() if model.name == name), None)
        progress = self.services.uploads.begin(self.target(path), protocol="test", name=name, size=size, chunk_size=STRIDE)
        if known:
            assert (progress.upload.id, progress.upload.size) == (known.id, known.size)
        else:
            self.modelled(progress, path, size, seed, name)

    @rule(data=st.data(), cut=st.booleans(), proved=st.booleans(), seed=SEED)
    def write(self, data: st.DataObject, cut: bool, proved: bool, seed: int) -> None:
        """Bytes at any place, again and over one another; what came of a cut body is kept, unless a digest was to prove it."""
        model = self.one(data)
        at, sent = self.part(data, model)
        digests: Digests = [("sha-256", hashlib.sha256(sent).digest())] if proved else []
        outcome = self.send(model, at, sent, seed, cut=cut, digests=digests)
        if cut and model.size is not None and at + len(sent) == model.size:
            assert outcome is TooLarge
            return
        assert outcome is (BodyCut if cut else None)
        if not (cut and proved):
            model.keep(at, sent)

    @rule(data=st.data(), seed=SEED)
    def write_what_is_missing(self, data: st.DataObject, seed: int) -> None:
        """A client that asks what is missing and sends that."""
        model = self.one(data)
        for start, end in self.services.uploads.progress(model.id).missing:
            assert self.send(model, start, model.truth[start:end], seed) is None
            model.keep(start, model.truth[start:end])

    @rule(data=st.data(), past=st.integers(1, 1000), seed=SEED)
    def write_past_the_end(self, data: st.DataObject, past: int, seed: int) -> None:
        """Nothing of a request that would reach past the declared size is taken."""
        model = self.one(data)
        if model.size is not None:
            at = data.draw(st.integers(0, model.size + 100), "at")
            assert self.send(model, at, bytes(max(0, model.size - at) + past), seed) is TooLarge

    @rule(data=st.data(), seed=SEED)
    def write_with_a_wrong_digest(self, data: st.DataObject, seed: int) -> None:
        """None of these bytes is kept."""
        model = self.one(data)
        at, sent = self.part(data, model)
        outcome = self.send(model, at, sent, seed, digests=[("sha-256", bytes(32))])
        assert outcome is DigestMismatch

    @precondition(lambda self: any(any(model.there) for model in self.alive()))
    @rule(data=st.data(), seed=st.integers(0, 2**32))
    def write_other_bytes(self, data: st.DataObject, seed: int) -> None:
        """Bytes that contradict acknowledged ones are refused. What came before them may have been kept by a checkpoint, nothing
        after them."""
        model = self.drawn(data, [model for model in self.alive() if any(model.there)])
        start, end = data.draw(st.sampled_from(model.spans()), "span")
        wrong = data.draw(st.integers(start, end - 1), "different byte")
        low = data.draw(st.integers(0, wrong), "at")
        high = data.draw(st.integers(wrong + 1, model.size or MOST), "end")
        sent = bytearray(model.truth[low:high])
        sent[wrong - low] ^= 0x55
        different = model.first_difference(low, bytes(sent))
        assert different is not None
        assert self.send(model, low, bytes(sent), seed) is BytesDiffer
        for span in self.services.uploads.progress(model.id).spans:
            kept = range(max(span.start, low), min(span.end, different))
            model.keep(kept.start, bytes(sent[kept.start - low:kept.stop - low])) if kept else None

    @rule(data=st.data(), size=st.integers(0, MOST))
    def declare(self, data: st.DataObject, size: int) -> None:
        """A size that becomes known later; another than the known one, or one that bytes lie past, changes nothing."""
        model = self.one(data)
        furthest = max((end for _, end in model.spans()), default=0)
        upload = self.services.uploads.progress(model.id).upload
        if model.size is not None and size != model.size:
            with pytest.raises(Conflict):
                self.services.uploads.record(upload, [], size=size)
        elif furthest > size:
            with pytest.raises(TooLarge):
                self.services.uploads.record(upload, [], size=size)
        else:
            self.services.uploads.record(upload, [], size=size)
            model.size = size

    # --- numbered chunks -----------------------------------------------------------------------------------------

    @rule(data=st.data(), indexes=st.permutations(range(5)), count=st.integers(1, 5), seed=SEED)
    def place_chunks(self, data: st.DataObject, indexes: list[int], count: int, seed: int) -> None:
        """Chunks that go straight to their places, in any order."""
        model = self.one(data, named=True)
        for index in indexes[:count]:
            sent = model.truth[index * STRIDE:min((index + 1) * STRIDE, model.size or MOST)]
            if sent and not model.covered:
                self.place_chunk(model, index, sent, seed)

    @rule(data=st.data(), contents=st.dictionaries(st.integers(0, 4), st.binary(max_size=50), min_size=1))
    def send_pieces(self, data: st.DataObject, contents: dict[int, bytes]) -> None:
        """Chunks whose place isn't known. Sent again, one takes the place of the earlier one."""
        model = self.one(data, named=True)
        for index, content in contents.items():
            self.send_piece(model, index, content)

    @rule(data=st.data(), total=st.integers(1, 5), placed=st.sets(st.integers(0, 4)), seed=SEED)
    def send_all_chunks(self, data: st.DataObject, total: int, placed: set[int], seed: int) -> None:
        """A client that splits a file, in whichever of the two ways, and asks for it to be completed."""
        model = self.one(data, named=True)
        for index in random.Random(seed).sample(range(total), total):
            sent = model.truth[index * STRIDE:min((index + 1) * STRIDE, model.size or MOST)]
            if model.covered:
                return
            if index in placed and sent:
                self.place_chunk(model, index, sent, seed)
            elif index not in model.chunks:
                self.send_piece(model, index, sent)
        if not model.covered:
            self.complete(model, total)

    @rule(data=st.data(), more=st.integers(-1, 1))
    def complete_chunks(self, data: st.DataObject, more: int) -> None:
        model = self.one(data, named=True)
        self.complete(model, max(1, max([*model.chunks, 0]) + 1 + more))

    def complete(self, model: Model, total: int) -> None:
        progress = self.services.uploads.progress(model.id)
        whole = b"".join(model.chunks[index] for index in sorted(model.chunks))
        refused = self.refused_completion(model, total, len(whole))
        if refused:
            with pytest.raises(refused) as told:
                self.services.uploads.complete_chunks(progress, total)
            missing = sorted(set(range(total)) - set(model.chunks))
            assert not missing or told.value.facts["missing"] == missing
            return
        placed = self.services.uploads.complete_chunks(progress, total)
        assert placed.file.blob.crc64nvme == checksums.crc64nvme(whole)
        model.done = whole
        self.completed(model.path, whole)

    # --- ends ----------------------------------------------------------------------------------------------------

    @rule(data=st.data(), what=st.sampled_from(["crash", "delete", "cancel", "expire", "begin_empty", "touch_what_has_ended"]),
          path=st.sampled_from(["first", "a", "b", "chunked"]))
    def meanwhile(self, data: st.DataObject, what: str, path: str) -> None:
        match what:
            case "crash" | "expire":
                getattr(self, what)()
            case "cancel" | "touch_what_has_ended":
                getattr(self, what)(data)
            case _:
                getattr(self, what)(path)

    def cancel(self, data: st.DataObject) -> None:
        model = self.one(data)
        self.services.uploads.cancel(self.progress(model).upload)
        model.gone = True

    def touch_what_has_ended(self, data: st.DataObject) -> None:
        """A complete, cancelled or expired upload takes no byte and no piece, and can't be cancelled."""
        ended = [model for model in self.models if not model.receiving]
        if not ended:
            return
        model = self.drawn(data, ended)
        refusals = (UploadGone,) if model.gone else (UploadGone, BytesDiffer, TooLarge, NotFound)  # a complete one compares what comes again
        assert self.send(model, 0, b"late", 0) in refusals
        progress = self.services.catalog.upload(model.id)
        with self.services.uploads.piece(RULES) as piece:
            piece.feed(b"in vain")
            if progress:
                with pytest.raises(UploadGone):
                    piece.keep(progress.upload, 0)
        if progress:
            with pytest.raises(UploadGone):
                self.services.uploads.cancel(progress.upload)

    def delete(self, path: str) -> None:
        file = self.services.catalog.file_at("main", path)
        assert (file is not None) == (path in self.files)
        if file:
            self.services.catalog.delete_file(file.id, now=self.now)
            del self.files[path]

    def expire(self) -> None:
        """A day without a byte: the sweeper ends all that is under way."""
        self.now += 24 * 3600 + 1
        self.sweep()

    @rule()
    def sweep(self) -> None:
        """After it the storage holds exactly what the catalog names, and all of that is sound."""
        expired = [model for model in self.models if model.receiving and self.progress(model).upload.expires_at <= self.now]
        swept = self.services.sweeper.run(grace=0)
        assert swept.expired == len(expired)
        for model in expired:
            model.gone = True
        assert set(self.services.storages["local"].keys()) == self.expected_keys()
        assert list(self.services.fsck.run(deep=True)) == []

    def crash(self) -> None:
        """The process dies between two requests, its connections open."""
        self.services = self.open()

    @rule(data=st.data())
    def crash_while_writing(self, data: st.DataObject) -> None:
        """Bytes reached the disk, in gaps only, and the process died before it could record them."""
        model = self.one(data)
        at, sent = self.part(data, model)
        for start, end in gaps([Span(*span) for span in model.spans()], model.size or MOST):
            low, high = max(start, at), min(end, at + len(sent))
            if low < high:
                with self.services.storages["local"].writer(self.progress(model).upload.key, low, high, {}, no_fragments) as writer:
                    writer.write(b"\xAA" * (high - low))
        self.crash()

    @rule(data=st.data(), by_sweeper=st.booleans())
    def crash_before_completing(self, data: st.DataObject, by_sweeper: bool) -> None:
        """All bytes are recorded and the process died before they became a file: whoever looks next completes it."""
        model = self.one(data)
        if model.size is None:
            return
        upload = self.progress(model).upload
        for start, end in model.missing():
            data = model.truth[start:end]
            with self.services.storages["local"].writer(upload.key, start, end, {}, no_fragments) as writer:
                writer.write(data)
                writer.flush()
                self.services.catalog.record(upload.id, [Span(start, end, checksums.crc64nvme(data))], now=self.now, expires_at=self.now + 24 * 3600)
            model.keep(start, data)
        self.crash()
        if by_sweeper:
            assert self.services.sweeper.run(orphans=False).completed == 1

    # --- what must hold ------------------------------------------------------------------------------------------

    @invariant()
    def all_is_as_told(self) -> None:
        self.every_upload_is_what_was_acknowledged()
        self.every_file_reads_back()
        self.room_is_promised_to_what_is_under_way_alone()

    def every_upload_is_what_was_acknowledged(self) -> None:
        for model in self.models:
            if model.receiving and model.covered:
                assert self.services.uploads.progress(model.id).upload.state == "complete"
                model.done = bytes(model.data[:model.size])
                self.completed(model.path, model.done)
            elif model.receiving:
                self.same(model, self.services.uploads.progress(model.id))

    def every_file_reads_back(self) -> None:
        for path, data in self.files.items():
            file = self.services.catalog.file_at("main", path)
            assert file
            assert (file.size, file.blob.crc64nvme) == (len(data), checksums.crc64nvme(data))
            assert b"".join(self.services.storages["local"].read(file.blob.key)) == data

    def room_is_promised_to_what_is_under_way_alone(self) -> None:
        promised = sum(model.promise for model in self.models if model.receiving)
        assert self.services.catalog.reserved("local", now=self.now) == promised

    def same(self, model: Model, progress: Progress) -> None:
        assert progress.upload.state == "receiving"
        assert [(span.start, span.end) for span in progress.spans] == model.spans()
        assert progress.missing == model.missing()
        for span in progress.spans:
            stored = b"".join(self.services.storages["local"].read(progress.upload.key, span))
            assert stored == model.data[span.start:span.end]
            assert span.crc == checksums.crc64nvme(stored)

    # --- shared --------------------------------------------------------------------------------------------------

    def target(self, path: str) -> Target:
        return Target("main", path, "me", RULES)

    def alive(self, *, named: bool = False) -> list[Model]:
        return [model for model in self.models if model.receiving and (model.name or not named)]

    def one(self, data: st.DataObject, *, named: bool = False) -> Model:
        """An upload under way; a new one where there is none."""
        if not self.alive(named=named):
            self.begin_named(data.draw(SIZE, "size"), "chunked", data.draw(SEED, "seed"), "one")
        return self.drawn(data, self.alive(named=named))

    def drawn(self, data: st.DataObject, models: list[Model]) -> Model:
        return models[data.draw(st.integers(0, len(models) - 1), f"of {models}")]

    def part(self, data: st.DataObject, model: Model) -> tuple[int, bytes]:
        """Some of its bytes, and their place."""
        end = MOST if model.size is None else model.size
        at = data.draw(st.integers(0, end), "at")
        return at, model.truth[at:data.draw(st.integers(at, end), "end")]

    def send_piece(self, model: Model, index: int, content: bytes) -> None:
        with self.services.uploads.piece(RULES) as piece:
            piece.feed(content)
            piece.keep(self.progress(model).upload, index)
        model.chunks[index] = content
        model.pieces.add(index)

    def place_chunk(self, model: Model, index: int, sent: bytes, seed: int) -> None:
        source, upload = BytesSource(pieces_of(sent, seed)), self.progress(model).upload
        with self.services.uploads.writing(upload, index * STRIDE, None, source, limit=STRIDE, likely=STRIDE, index=index) as writing:
            for piece in source.lend():
                writing.feed(piece)
            writing.end()
        model.keep(index * STRIDE, sent)
        model.chunks[index] = sent
        model.pieces.discard(index)

    def modelled(self, progress: Progress, path: str, size: int | None, seed: int, name: str | None = None) -> None:
        assert progress.upload.state == "receiving"
        model = Model(progress.upload.id, path, size, random.Random(seed).randbytes(MOST), name)
        model.promised = size is not None and size >= RESERVE_FROM
        self.models.append(model)

    def completed(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def progress(self, model: Model) -> Progress:
        progress = self.services.catalog.upload(model.id)
        assert progress
        return progress

    def send(self, model: Model, at: int, data: bytes, seed: int, *, cut: bool = False, digests: Digests = ()) -> type[Exception] | None:
        """One request, which looks the upload up first, as every protocol does; the class of its refusal."""
        if self.services.catalog.upload(model.id) is None:
            return UploadGone
        progress = self.services.uploads.progress(model.id)
        try:
            self.services.uploads.write(progress.upload, at, BytesSource(pieces_of(data, seed), cut=cut), digests=digests)
        except (BodyCut, BytesDiffer, DigestMismatch, NotFound, TooLarge, UploadGone) as refused:
            return type(refused)
        return None

    def refused_completion(self, model: Model, total: int, size: int) -> type[Exception] | None:
        """What completing in so many chunks is refused with; None where it must succeed."""
        if set(range(total)) - set(model.chunks):
            return MissingBytes
        if len(model.chunks) > total:
            return InvalidRequest
        if not model.pieces and model.size not in (None, size):
            return Conflict
        if not model.pieces and any(model.there[size:]):
            return TooLarge
        if model.size in (None, size):
            return None
        return TooLarge if size > (model.size or 0) else MissingBytes

    def expected_keys(self) -> set[Key]:
        keys = {file.blob.key for path in self.files if (file := self.services.catalog.file_at("main", path))}
        for model in self.models:
            if model.receiving:
                keys.add(self.progress(model).upload.key)
                keys |= {chunk.key for chunk in self.services.catalog.chunks(model.id) if chunk.key}
        return keys


TestUploads = Uploads.TestCase
TestUploads.settings = settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
