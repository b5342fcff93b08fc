"""Equal contents are kept once, where the space says so: nobody's rights, versions, jobs or holds are lost by it."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogs import a_blob, put, together
from fixtures_server import eventually

from carboy.bootstrap import close, make_ready, open_carboy
from carboy.catalog.base import Catalog
from carboy.config import of_application
from carboy.engine.opening import ContentSource, open_blob
from carboy.engine.receive import Target
from carboy.jobs import Claim, Derived, Job, Order, Outcome
from carboy.model import TRUSTED, File, Instance, new_id
from carboy.processing.loop import Loop
from carboy.processing.step import Context, step

DATA = b"the same, twice" * 100
SAME = hashlib.sha256(DATA).digest()
STEPS = ("digest", "scan", "preview")


# --- the catalog: jobs of both, in all states ---


STATES = ("none", "waiting", "queued", "running", "done", "dead", "cancelled")
GOOD_FOR = {"none": 0, "dead": 1, "cancelled": 1, "waiting": 2, "queued": 2, "running": 2, "done": 3}
OPEN = {"waiting", "queued", "running"}
HOLDS = ((True, True), (True, False), (False, True), (False, False))
"""Whether the older one's job holds, and the newer one's."""


@pytest.fixture
def worker(catalog: Catalog) -> Instance:
    instance = Instance(new_id(), "host", 77, 0)
    catalog.appear(instance)
    return instance


class Pair:
    """Two files of the same bytes, each with the steps ``digest`` and ``scan``, the latter as far as one says."""

    def __init__(self, catalog: Catalog, worker: Instance, sha256: bytes = SAME) -> None:
        self.catalog = catalog
        self.worker = worker
        self.sha256 = sha256
        self.claims: dict[str, Claim] = {}

    def put(self, path: str, state: str, *, holds: bool, born: float) -> File:
        after = ["nothing"] if state == "waiting" else []
        scan = [] if state == "none" else [["scan", {"holds": holds, "after": after}]]
        others = ["nothing"] if state == "waiting" else []
        file = put(self.catalog, path, blob=a_blob(sha256=self.sha256, created_at=born), metadata={"steps": ["digest", *others, *scan]})
        if state not in ("none", "waiting", "queued"):
            self.bring(file, state)
        return file

    def bring(self, file: File, state: str) -> None:
        job = self.job(file, "scan")
        if state == "cancelled":
            self.catalog.cancel_job(job.id, now=2.0)
            return
        claim = self.claims[file.path] = self.claim(job)
        if state == "done":
            assert self.catalog.finish_job(claim, Outcome({"of": file.path}), now=2.0)
        elif state == "dead":
            assert self.catalog.fail_job(claim, "it failed", now=2.0, due_at=None)

    def claim(self, job: Job) -> Claim:
        claim, = self.catalog.claim_jobs(self.worker.id, now=9.0, steps=(*STEPS, "nothing"), id=job.id)
        return claim

    def job(self, file: File, step: str) -> Job:
        job, = [job for job in self.catalog.jobs_of(file.blob.id) if job.step == step]
        return job

    def join(self, file: File) -> None:
        """The digest of the newer one is done, which finds the other."""
        claim = self.claim(self.job(file, "digest"))
        assert self.catalog.finish_job(claim, Outcome(sha256=self.sha256, same_in=("main", None)), now=3.0)

    def finish_all(self, blob_id: str) -> None:
        for job in self.catalog.jobs_of(blob_id):
            if job.state in ("dead", "cancelled"):
                self.catalog.retry_job(job.id, now=4.0)
        for claim in [*self.catalog.claim_jobs(self.worker.id, now=9.0, steps=(*STEPS, "nothing"), limit=9), *self.claims.values()]:
            self.catalog.finish_job(claim, Outcome({"of": "later"}), now=5.0)
        for claim in self.catalog.claim_jobs(self.worker.id, now=9.0, steps=(*STEPS, "nothing"), limit=9):
            assert self.catalog.finish_job(claim, Outcome({"of": "later"}), now=5.0)


@pytest.mark.parametrize("holds", HOLDS, ids=["both hold", "older holds", "newer holds", "neither holds"])
@pytest.mark.parametrize("older", STATES)
def test_one_job_of_both_is_kept_and_nothing_is_held_less(catalog: Catalog, worker: Instance, older: str, holds: tuple[bool, bool]) -> None:
    for newer in STATES:
        must_be_joined_well(Pair(catalog, worker, hashlib.sha256(newer.encode()).digest()), older, newer, holds)
    assert catalog.miscounted() == []


def must_be_joined_well(pair: Pair, older: str, newer: str, holds: tuple[bool, bool]) -> None:
    catalog = pair.catalog
    first = pair.put(f"{newer}/first", older, holds=holds[0], born=1.0)
    second = pair.put(f"{newer}/second", newer, holds=holds[1], born=2.0)
    pair.join(second)
    kept, moved = catalog.file(first.id), catalog.file(second.id)
    assert kept and moved and kept.blob == moved.blob and kept.blob.id == first.blob.id
    assert (catalog.blob(second.blob.id), catalog.jobs_of(second.blob.id)) == (None, [])
    jobs = {job.step: job for job in catalog.jobs_of(first.blob.id)}
    assert kept.blob.held == sum(job.holds and job.state != "done" for job in jobs.values())
    must_fit(jobs.get("scan"), (older, newer), holds)
    for file in [file for file, state in ((first, older), (second, newer)) if state == "running"]:
        goes_on = jobs["scan"].state == "running" and file is first
        assert catalog.finish_job(pair.claims.pop(file.path), Outcome({"of": "it"}), now=4.0) is goes_on
    pair.finish_all(first.blob.id)
    kept = catalog.file(first.id)
    assert kept and kept.blob.held == 0
    assert {job.state for job in catalog.jobs_of(first.blob.id)} == {"done"}


def must_fit(scan: Job | None, states: tuple[str, str], holds: tuple[bool, bool]) -> None:
    """What is left of two jobs: what holds, then what is done, else what goes on, and may be begun as often as before."""
    there = [(state, held) for state, held in zip(states, holds, strict=True) if state != "none"]
    if not there:
        assert scan is None
        return
    assert scan
    strict = {state for state, held in there if held} or {state for state, _ in there}
    assert scan.holds is any(held for _, held in there)
    if "done" in strict:
        assert scan.state == "done", "what is done isn't done again"
    elif strict & OPEN:
        assert scan.state in OPEN, "what one has given up, or was told to, isn't given up for the other"
    else:
        assert scan.state in strict
    assert scan.attempts == int(scan.state in ("running", "done", "dead"))


def test_both_at_once_keep_one(catalog: Catalog, worker: Instance) -> None:
    """Neither knew the other's SHA-256 when it was asked."""
    for turn in range(5):
        pair = Pair(catalog, worker)
        files = [put(catalog, f"{turn}-{number}", blob=a_blob(created_at=1.0), metadata={"steps": ["digest"]}) for number in range(4)]
        claims = [pair.claim(pair.job(file, "digest")) for file in files]
        sha256 = bytes([turn]) * 32
        known = Outcome(sha256=sha256, same_in=("main", None))
        done = together(*[lambda claim=claim, known=known: catalog.finish_job(claim, known, now=3.0) for claim in claims])
        assert done == [True] * 4
        kept, = {found.blob.id for file in files if (found := catalog.file(file.id))}
        assert [file.blob.id for file in files if catalog.blob(file.blob.id)] == [kept]


class TestKept:
    """What isn't joined, or not wholly."""

    def joined(self, catalog: Catalog, worker: Instance, second: File, where: tuple[str, str | None] = ("main", None)) -> bool:
        pair = Pair(catalog, worker)
        claim = pair.claim(pair.job(second, "digest"))
        assert catalog.finish_job(claim, Outcome(sha256=SAME, same_in=where), now=3.0)
        found = catalog.file(second.id)
        assert found
        return found.blob.id != second.blob.id

    def pair(self, catalog: Catalog, *steps: Any, **changes: Any) -> tuple[File, File]:
        first = put(catalog, "first", blob=a_blob(sha256=SAME, created_at=1.0))
        blob = a_blob(created_at=2.0)
        return first, put(catalog, "second", blob=blob, metadata={"steps": ["digest", *steps]}, **changes)

    def bring_through(self, catalog: Catalog, worker: Instance, file: File, *steps: str) -> None:
        """The file's content has gone through these steps too."""
        catalog.order(file.id, [Order(name) for name in steps], now=1.0, request="")
        pair = Pair(catalog, worker)
        for name in steps:
            assert catalog.finish_job(pair.claim(pair.job(file, name)), Outcome({"of": file.path}), now=1.0)

    def test_a_twin_in_quarantine_or_damaged(self, catalog: Catalog, worker: Instance) -> None:
        first, second = self.pair(catalog)
        catalog.set_damaged(first.blob.id, 2.0)
        assert not self.joined(catalog, worker, second)

    def test_one_in_quarantine_itself(self, catalog: Catalog, worker: Instance) -> None:
        _, second = self.pair(catalog, "scan")
        pair = Pair(catalog, worker)
        assert catalog.finish_job(pair.claim(pair.job(second, "scan")), Outcome(quarantine="bad"), now=2.0)
        assert not self.joined(catalog, worker, second)
        found = catalog.file(second.id)
        assert found and found.blob.quarantine == "bad" and found.blob.sha256 == SAME

    def test_one_that_a_step_did_not_let_through(self, catalog: Catalog, worker: Instance) -> None:
        _, second = self.pair(catalog, ["scan", {"holds": True}])
        pair = Pair(catalog, worker)
        assert catalog.finish_job(pair.claim(pair.job(second, "scan")), Outcome(release=False), now=2.0)
        assert not self.joined(catalog, worker, second)
        found = catalog.file(second.id)
        assert found and found.blob.held == 1

    def test_a_twin_that_a_step_did_not_let_through(self, catalog: Catalog, worker: Instance) -> None:
        held = ["scan", {"holds": True}]
        first = put(catalog, "first", blob=a_blob(sha256=SAME, created_at=1.0), metadata={"steps": [held]})
        second = put(catalog, "second", blob=a_blob(created_at=2.0), metadata={"steps": ["digest", held]})
        pair = Pair(catalog, worker)
        for file, passes in ((first, False), (second, True)):
            assert catalog.finish_job(pair.claim(pair.job(file, "scan")), Outcome(release=passes), now=2.0)
        assert not self.joined(catalog, worker, second)
        assert [found.blob.held for file in (first, second) if (found := catalog.file(file.id))] == [1, 0]

    def test_one_that_is_held_and_has_other_uses(self, catalog: Catalog, worker: Instance) -> None:
        _, second = self.pair(catalog, ["scan", {"holds": True}])
        put(catalog, "third", blob=second.blob, space="other")
        assert not self.joined(catalog, worker, second), "its files here would be let through by the other's jobs"

    def test_other_spaces_and_owners_keep_theirs(self, catalog: Catalog, worker: Instance) -> None:
        first, second = self.pair(catalog, "scan")
        self.bring_through(catalog, worker, first, "digest", "scan")
        elsewhere, bobs = put(catalog, "third", blob=second.blob, space="other"), put(catalog, "fourth", blob=second.blob, owner="bob")
        assert self.joined(catalog, worker, second, ("main", "ann"))
        found = {file.path: now.blob.id for file in (second, elsewhere, bobs) if (now := catalog.file(file.id))}
        assert found == {"second": first.blob.id, "third": second.blob.id, "fourth": second.blob.id}
        assert {job.step for job in catalog.jobs_of(second.blob.id)} == {"digest", "scan"}, "they have it still, and its jobs"

    @pytest.mark.parametrize("use", ["another space", "an older version", "the trash"])
    def test_a_file_that_would_be_without_its_jobs(self, catalog: Catalog, worker: Instance, use: str) -> None:
        """They stay with what else has the content."""
        for older, newer in itertools.product(STATES, [state for state in STATES if state != "waiting"]):
            sha256 = hashlib.sha256(f"{older} {newer}".encode()).digest()
            pair, folder = Pair(catalog, worker, sha256), f"{older}-{newer}"
            first = pair.put(f"{folder}/first", older, holds=False, born=1.0)
            assert catalog.finish_job(pair.claim(pair.job(first, "digest")), Outcome(sha256=sha256), now=2.0)
            second = pair.put(f"{folder}/second", newer, holds=False, born=2.0)
            self.use(catalog, use, folder, second)
            before = {job.id: job for job in catalog.jobs_of(second.blob.id) if job.step == "scan"}
            pair.join(second)
            found = catalog.file(second.id)
            assert found
            now = {job.id: job for job in catalog.jobs_of(found.blob.id) if job.step == "scan"}
            as_good = GOOD_FOR[older] >= GOOD_FOR[newer]
            assert found.blob.id == (first if as_good else second).blob.id, (older, newer)
            assert as_good or now == before, (older, newer)
        assert catalog.miscounted() == []

    def use(self, catalog: Catalog, use: str, folder: str, file: File) -> None:
        """Something else has the file's content."""
        space = "other" if use == "another space" else "main"
        third = put(catalog, f"{folder}/third", blob=file.blob, space=space, metadata={"steps": []})
        if use == "an older version":
            put(catalog, f"{folder}/third", blob=a_blob(created_at=3.0), keep_versions=2, metadata={"steps": []})
        elif use == "the trash":
            catalog.trash_file(third.id, now=2.0, expires_at=99.0)

    def test_older_versions_keep_theirs(self, catalog: Catalog, worker: Instance) -> None:
        first, second = self.pair(catalog)
        self.bring_through(catalog, worker, first, "digest")
        other = a_blob(created_at=3.0)
        put(catalog, "second", blob=other, keep_versions=2, metadata={"steps": []})
        put(catalog, "third", blob=second.blob, metadata={"steps": []})
        pair = Pair(catalog, worker)
        assert catalog.finish_job(pair.claim(pair.job(second, "digest")), Outcome(sha256=SAME, same_in=("main", None)), now=3.0)
        third, version = catalog.file_at("main", "third"), catalog.versions(second.id)[0]
        assert third and (third.blob.id, version.blob.id) == (first.blob.id, second.blob.id)
        restored = catalog.restore_version(second.id, 1, keep=2, now=4.0)
        assert restored.blob.id == second.blob.id

    def test_what_lies_in_the_trash_keeps_its_own(self, catalog: Catalog, worker: Instance) -> None:
        first, second = self.pair(catalog)
        self.bring_through(catalog, worker, first, "digest")
        third = put(catalog, "third", blob=second.blob, metadata={"steps": []})
        catalog.trash_file(second.id, now=2.0, expires_at=99.0)
        pair = Pair(catalog, worker)
        assert catalog.finish_job(pair.claim(pair.job(second, "digest")), Outcome(sha256=SAME, same_in=("main", None)), now=3.0)
        found = catalog.file(third.id)
        assert found and found.blob.id == first.blob.id
        lying = catalog.shelved(second.id)
        assert lying and lying.file.blob.id == second.blob.id
        assert catalog.delete_file(second.id, now=4.0)
        assert second.blob.key in catalog.condemned("local", before=9.0)

    def test_a_twin_that_goes_in_the_same_moment(self, catalog: Catalog, worker: Instance) -> None:
        for turn in range(8):
            first = put(catalog, f"{turn}/first", blob=a_blob(sha256=SAME, created_at=1.0), metadata={"steps": ["digest"]})
            second = put(catalog, f"{turn}/second", blob=a_blob(created_at=2.0), metadata={"steps": ["digest", ["scan", {"holds": True}]]})
            pair = Pair(catalog, worker)
            claim = pair.claim(pair.job(second, "digest"))
            done, gone = together(lambda claim=claim: catalog.finish_job(claim, Outcome(sha256=SAME, same_in=("main", None)), now=3.0),
                                  lambda first=first: catalog.delete_file(first.id, now=3.0))
            assert done is True and isinstance(gone, File)
            found = catalog.file(second.id)
            assert found and found.blob.id in (first.blob.id, second.blob.id) and found.blob.held == 1
            assert found.blob.key not in catalog.condemned("local", before=9.0)
            assert [job.step for job in catalog.jobs_of(found.blob.id) if job.holds] == ["scan"]
            assert catalog.delete_file(second.id, now=4.0)
        assert catalog.miscounted() == []

    def test_what_was_derived_goes_along(self, catalog: Catalog, worker: Instance) -> None:
        first, second = self.pair(catalog, "preview")
        pair = Pair(catalog, worker)
        claim, made = pair.claim(pair.job(second, "preview")), a_blob()
        assert catalog.finish_job(claim, Outcome(derived=[Derived(second.blob.id, "preview", "p.webp", made, "image/webp")]), now=2.0)
        assert self.joined(catalog, worker, second)
        assert [(one.name, one.blob.id) for one in catalog.derived(first.blob.id)] == [("p.webp", made.id)]
        assert made.key not in catalog.condemned("local", before=9.0)


# --- uploads, and the step ---


def upload(workshop: Any, path: str, data: bytes = DATA, space: str = "main", *, owner: str | None = "me", declared: bool = False) -> File:
    target = Target(space, path, owner, workshop.settings.spaces[space])
    digests = [("sha-256", hashlib.sha256(data).digest())] if declared else []
    file = workshop.services.receiver.receive(target, ContentSource(data), digests=digests).file
    assert (file.blob.sha256 is not None) is declared
    return file  # type: ignore[no-any-return]


def sharing(make_workshop: Any, *steps: Any, **rules: Any) -> Any:
    return make_workshop(*steps, delete_grace=0.0, spaces={"main": {"dedup": True, **rules}, "other": {"dedup": True}, "plain": {}})


@pytest.mark.parametrize("known", [(False, False), (True, False), (False, True), (True, True)])
def test_equal_files_are_kept_once(make_workshop: Any, known: tuple[bool, bool]) -> None:
    """Whether their SHA-256 came with them or not."""
    workshop = sharing(make_workshop)
    first = upload(workshop, "first", declared=known[0])
    workshop.later(1)
    second = upload(workshop, "second", declared=known[1])
    workshop.drain()
    a, b = workshop.file("first"), workshop.file("second")
    assert a.blob.id == b.blob.id == first.blob.id and (a.id, b.id) == (first.id, second.id)
    assert (b.version, b.modified_at) == (second.version, second.modified_at)
    assert b.etag == a.etag != second.etag, "the newer one's ETag has changed, once"
    workshop.later(10)
    workshop.services.sweeper.run()
    assert workshop.stored() == {first.blob.key}
    assert workshop.content(b) == DATA
    workshop.services.changes.delete(TRUSTED, a, permanent=True)
    workshop.later(10)
    workshop.services.sweeper.run()
    assert workshop.content(workshop.file("second")) == DATA


def test_where_the_space_does_not_say_so(make_workshop: Any) -> None:
    workshop = sharing(make_workshop)
    files = [upload(workshop, "a"), upload(workshop, "a", space="other"), upload(workshop, "a", space="plain"), upload(workshop, "b", space="plain")]
    assert workshop.drain() == 2
    assert len({workshop.file(file.path, file.space).blob.id for file in files}) == 4


def test_private_trees_know_nothing_of_one_another(make_workshop: Any) -> None:
    workshop = sharing(make_workshop, private=True)
    files = [upload(workshop, f"{number}-{owner}", owner=owner) for number in range(2) for owner in ("ann", "bob", None)]
    workshop.drain()
    now = [workshop.file(file.path).blob.id for file in files]
    assert now[0] == now[3] and now[1] == now[4], "each has one of its own"
    assert len(set(now)) == 4, "what is nobody's stays as it is"


def test_other_bytes_and_empty_files(make_workshop: Any) -> None:
    workshop = sharing(make_workshop)
    files = [upload(workshop, "a", b""), upload(workshop, "b", b""), upload(workshop, "c", DATA), upload(workshop, "d", DATA[:-1] + b"?")]
    workshop.drain()
    assert len({workshop.file(file.path).blob.id for file in files}) == 4


def test_steps_that_run_meanwhile_have_one_effect(make_workshop: Any) -> None:
    """The content under a running step becomes another: its work is nobody's, and is begun anew where it is missing."""
    begun, go_on, ran = threading.Event(), threading.Event(), []

    @step("slow", spaces=["main"])
    def slow(context: Context) -> dict[str, str]:
        ran.append(context.blob.id)
        begun.set()
        assert go_on.wait(60)
        context.attach("made", b"of it", "text/plain")
        return {"of": context.blob.id}

    workshop = sharing(make_workshop, slow)
    go_on.set()
    first = upload(workshop, "first")
    workshop.drain()
    begun.clear()
    go_on.clear()
    workshop.later(1)
    with workshop.working(workers=2):
        second = upload(workshop, "second")
        assert begun.wait(60)
        eventually(lambda: workshop.file("second").blob.id == first.blob.id)
        go_on.set()
        workshop.until(first, "slow", "done")
    assert ran == [first.blob.id, second.blob.id]
    assert workshop.job(first, "slow").result == {"of": first.blob.id}
    assert list(workshop.derived(first)) == ["made"]
    workshop.later(10)
    workshop.services.sweeper.run()
    assert len(workshop.stored()) == 2


def test_a_step_that_is_tried_once_is_begun_anew(make_workshop: Any) -> None:
    """It was running when its content was joined with one whose own was cancelled: that was no try that failed."""

    @step("once", spaces=["main"], retries=0)
    def once(context: Context) -> dict[str, str]:
        return {"of": context.blob.id}

    workshop = sharing(make_workshop, once)
    catalog, runner = workshop.services.catalog, workshop.services.runner

    def claim(file: File, name: str) -> Claim:
        claim, = catalog.claim_jobs(workshop.services.leases.instance(), now=workshop.now, steps=[name], id=workshop.job(file, name).id)
        return claim  # type: ignore[no-any-return]

    first = upload(workshop, "first")
    runner.run(claim(first, "digest"))
    workshop.services.work.cancel(TRUSTED, workshop.job(first, "once").id)
    workshop.later(1)
    second = upload(workshop, "second")
    claim(second, "once")
    runner.run(claim(second, "digest"))
    workshop.drain()
    joined = workshop.file("second")
    assert joined.blob.id == first.blob.id
    job = workshop.job(joined, "once")
    assert (job.state, job.result, job.failure) == ("done", {"of": first.blob.id}, None)


def test_downloads_under_way_end_well(make_workshop: Any) -> None:
    workshop = sharing(make_workshop)
    upload(workshop, "first")
    workshop.later(1)
    second = upload(workshop, "second")
    with open_blob(second.blob, workshop.services.storages["local"]) as early:
        workshop.drain()
        assert workshop.file("second").blob.id != second.blob.id
        assert early.read() == DATA


@pytest.fixture
def machines(postgres_url: str, tmp_path: Path) -> Iterator[Any]:
    """Two processes' services on one PostgreSQL."""
    settings = of_application({"data": tmp_path / "data", "database": postgres_url, "durability": "relaxed", "sweep": False,
                               "spaces": {"main": {"dedup": True}}})
    opened = [open_carboy(settings) for _ in range(2)]
    make_ready(opened[0])
    yield opened
    for one in opened:
        close(one)


def test_many_equal_files_on_several_machines(machines: Any) -> None:
    files = []
    for number in range(12):
        target = Target("main", f"{number}", "me", machines[0].settings.spaces["main"])
        files.append(machines[number % 2].receiver.receive(target, ContentSource(DATA)).file)
    loops = [Loop(one.catalog, one.leases, one.runner, one.wakes, workers=2, rests=False) for one in machines]
    together(*[loop.drain for loop in loops for _ in range(2)])
    loops[0].drain()
    catalog = machines[0].catalog
    kept, = {catalog.file(file.id).blob.id for file in files}
    assert [job.state for job in catalog.jobs_of(kept)] == ["done"]
    assert len(catalog.condemned("local", before=9e9)) == 11
