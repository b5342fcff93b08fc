"""Bits that flip at rest are found, kept from everybody, and put right from a backup (fault 21)."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import wire
from engine.conftest import Engine, EngineFactory
from fixtures_stores import EngineOver

from carboy.engine.pacing import Rate
from carboy.engine.scrub import PAGE
from carboy.errors import Conflict, InvalidRequest


@pytest.fixture
def engine(make_engine: EngineFactory) -> Engine:
    return make_engine(durability="relaxed")


def scrub(engine: Engine, **options: Any) -> list[tuple[str, str]]:
    return [(finding.kind, finding.key) for finding in engine.services.scrubber.run(**options)]


def flip(engine: Engine, key: str) -> None:
    """One bit in the middle."""
    data = bytearray(engine.blob(key).read_bytes())  # type: ignore[arg-type]
    data[len(data) // 2] ^= 16
    engine.blob(key).write_bytes(data)  # type: ignore[arg-type]


def damaged_at(engine: Engine, path: str) -> float | None:
    file = engine.file(path)
    assert file
    return file.blob.damaged_at


def test_a_sound_store_has_no_findings(engine: Engine) -> None:
    for number in range(PAGE + 10):
        engine.put(f"{number}", b"%d" % number)
    assert scrub(engine) == []
    assert (engine.services.scrubber.blobs, engine.services.scrubber.bytes) == (PAGE + 10, sum(len(str(n)) for n in range(PAGE + 10)))


def test_a_flipped_bit_is_found_and_quarantined(engine: Engine) -> None:
    engine.put("sound", b"sound" * 1000)
    key = engine.put("flipped", b"flipped" * 1000).file.blob.key
    flip(engine, key)
    assert engine.findings(deep=False) == []
    assert scrub(engine) == [("damaged", key)]
    assert damaged_at(engine, "flipped") == engine.now
    assert damaged_at(engine, "sound") is None
    assert engine.findings(deep=False) == [("damaged", key)]
    assert scrub(engine) == [("damaged", key)], "it is told again in each pass"


def test_bytes_that_read_right_again_leave_the_quarantine(engine: Engine) -> None:
    """A bad cable, not a bad disk."""
    key = engine.put("a", b"bytes" * 1000).file.blob.key
    flip(engine, key)
    scrub(engine)
    flip(engine, key)
    assert scrub(engine) == [("healed", key)]
    assert damaged_at(engine, "a") is None
    assert scrub(engine) == []


def test_another_sha256_is_damage_too(engine: Engine) -> None:
    file = engine.put("a", b"bytes").file
    engine.services.catalog.set_sha256(file.blob.id, b"\0" * 32)
    assert scrub(engine) == [("damaged", file.blob.key)]


def test_what_is_missing_or_cut_is_told(engine: Engine) -> None:
    missing, cut = (engine.put(name, name.encode() * 100).file.blob.key for name in ("missing", "cut"))
    engine.blob(missing).unlink()
    os.truncate(engine.blob(cut), 5)
    assert sorted(scrub(engine)) == sorted([("missing", missing), ("cut", cut)])


def test_a_backup_puts_it_right(engine: Engine, tmp_path: Path) -> None:
    flipped, missing, cut = (engine.put(name, name.encode() * 1000).file.blob.key for name in ("flipped", "missing", "cut"))
    list(engine.services.backup.run(tmp_path / "backup", copy=True))
    scrub(engine)
    flip(engine, flipped)
    engine.blob(missing).unlink()
    os.truncate(engine.blob(cut), 5)
    scrub(engine)
    assert sorted(scrub(engine, repair=tmp_path / "backup")) == sorted(("repaired", key) for key in (flipped, missing, cut))
    assert engine.findings() == []
    assert damaged_at(engine, "flipped") is None
    assert [engine.read(name) for name in ("flipped", "missing", "cut")] == [name * 1000 for name in (b"flipped", b"missing", b"cut")]
    assert engine.stored() == {flipped, missing, cut}


def test_a_backup_that_is_damaged_too_helps_nobody(engine: Engine, tmp_path: Path) -> None:
    key = engine.put("a", b"bytes" * 1000).file.blob.key
    list(engine.services.backup.run(tmp_path / "backup"))  # by hard link: the very same bytes
    flip(engine, key)
    before = engine.blob(key).read_bytes()
    assert scrub(engine, repair=tmp_path / "backup") == [("damaged", key)]
    assert engine.blob(key).read_bytes() == before
    with pytest.raises(InvalidRequest, match="neither a backup nor a data folder"):
        scrub(engine, repair=tmp_path)


def test_a_repair_leaves_the_file_that_was_linked_alone(engine: Engine, tmp_path: Path) -> None:
    """Whose owner may have meant to change it."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a").write_bytes(b"original")
    list(engine.services.importer.run(tmp_path / "tree", link=True))
    list(engine.services.backup.run(tmp_path / "backup", copy=True))
    (tmp_path / "tree/a").write_bytes(b"changed!")
    assert [kind for kind, _ in scrub(engine, repair=tmp_path / "backup")] == ["repaired"]
    assert engine.read("a") == b"original"
    assert (tmp_path / "tree/a").read_bytes() == b"changed!"


def test_one_that_was_cut_short_goes_on(engine: Engine) -> None:
    keys = sorted(engine.put(f"{number}", b"%d" % number).file.blob.key for number in range(3 * PAGE))
    early, late = keys[PAGE // 2], keys[2 * PAGE + 5]
    flip(engine, early)
    flip(engine, late)
    run = engine.services.scrubber.run()
    assert [next(run).key, next(run).key] == [early, late]
    run.close()
    assert scrub(engine) == [("damaged", late)], "what was read before is not read again"
    assert engine.services.scrubber.blobs == PAGE
    assert scrub(engine) == [("damaged", early), ("damaged", late)], "the next pass reads everything"


def test_when_the_next_pass_is_due(make_engine: EngineFactory) -> None:
    assert not make_engine().services.scrubber.due()
    engine = make_engine(scrub_interval=1000.0)
    assert engine.services.scrubber.due()
    scrub(engine)
    assert not engine.services.scrubber.due()
    engine.now += 1000
    assert engine.services.scrubber.due()


def test_one_at_a_time(engine: Engine) -> None:
    flip(engine, engine.put("a", b"bytes").file.blob.key)
    run = engine.services.scrubber.run()
    next(run)
    with pytest.raises(Conflict, match="another scrub"):
        scrub(engine)
    run.close()


def test_contents_that_go_meanwhile_are_no_findings(engine: Engine) -> None:
    keys = sorted(engine.put(f"{number}", b"%d" % number).file.blob.key for number in range(3))
    flip(engine, keys[0])
    run = engine.services.scrubber.run()
    assert next(run).key == keys[0]
    for number in range(3):
        engine.services.catalog.delete_file(engine.file(f"{number}").id, now=engine.now)  # type: ignore[union-attr]
    engine.now += 1000
    engine.services.sweeper.run()
    assert list(run) == []


def test_a_rate_is_kept() -> None:
    """By a clock that stands still but for the waiting."""
    class Waiting(threading.Event):
        waited = 0.0

        def wait(self, timeout: float | None = None) -> bool:
            self.waited += timeout or 0.0
            return False

    stop = Waiting()
    rate = Rate(1000, stop, lambda: stop.waited)
    for _ in range(50):
        rate(100)
    assert stop.waited == pytest.approx(5.0)


def test_one_that_is_asked_to_end_does_even_within_a_large_file(engine: Engine) -> None:
    engine.put("large", b"x" * 3_000_000)
    stop = threading.Event()
    running = threading.Thread(target=lambda: scrub(engine, rate=1, stop=stop))
    running.start()
    stop.set()
    running.join(wire.LIMIT)
    assert not running.is_alive()
    assert scrub(engine) == []
    assert engine.services.scrubber.blobs == 1, "it was not taken for read"


def test_the_position_is_nothing_that_can_stop_it(engine: Engine) -> None:
    engine.put("a", b"bytes")
    for text in ("", "[]", "{}", '{"ended_at": null}'):
        (engine.settings.data / "scrub.json").write_text(text)
        assert scrub(engine) == []


def test_of_many_machines_each_reads_its_own_disk_and_one_what_they_share(stores: EngineOver) -> None:
    engine = stores()
    engine.add("a", b"on this disk", "local")
    engine.add("b", b"in a bucket", "one")
    file = engine.file("b", "one")
    assert file
    engine.s3.client().delete_object(Bucket=engine.buckets["one"], Key=f"one/{file.blob.key}")
    assert (scrub(engine, shared=False), engine.services.scrubber.blobs) == ([], 1)
    assert scrub(engine) == [("missing", file.blob.key)]
