"""What every catalog keeps of jobs, of what they derive, and of what happened."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from catalogs import a_blob, an_order, an_upload, at, begin, note, of, put, together

from carboy.catalog.base import Catalog, Move
from carboy.errors import Conflict, InvalidRequest, NotFound, Pending, StorageFailed
from carboy.jobs import Claim, Derived, Job, JobFilter, Outcome
from carboy.model import Act, File, Instance, Publication, Span, new_id

ANN = Act("ann", "token", "r1", "127.0.0.1")
STEPS = ("digest", "preview", "scan")


@pytest.fixture
def worker(catalog: Catalog) -> Instance:
    return alive(catalog)


def alive(catalog: Catalog) -> Instance:
    instance = Instance(new_id(), "host", 77, 0)
    catalog.appear(instance)
    return instance


def stored(catalog: Catalog, path: str, *steps: Any, now: float = 1.0, **changes: Any) -> File:
    return put(catalog, path, now, metadata={"steps": list(steps)}, **changes)


def claimed(catalog: Catalog, worker: Instance, now: float = 2.0, **asked: Any) -> Claim:
    claim, = catalog.claim_jobs(worker.id, now=now, steps=STEPS, **asked)
    return claim


def job_of(catalog: Catalog, file: File, step: str = "digest") -> Job:
    job, = [one for one in catalog.jobs_of(file.blob.id) if one.step == step]
    return job


def made(claim: Claim, name: str, **changes: Any) -> Derived:
    return Derived(claim.job.blob_id, claim.job.step, name, a_blob(**changes), "image/webp", {"width": 3}, 5.0)


class TestOrders:
    """Whatever gives a file its content has the plan asked."""

    def by_place(self, catalog: Catalog) -> File:
        placed, = catalog.place([at("a", metadata={"steps": ["digest"]})], now=1.0, by=ANN)
        assert placed.planned == 1
        return placed.file

    def by_completing(self, catalog: Catalog) -> File:
        upload = begin(catalog, size=4, metadata={"steps": ["digest"]})
        note(catalog, upload, Span(0, 4, 7))
        placed = catalog.complete(upload.id, of(upload, metadata={"steps": ["digest"]}), now=1.0, expires_at=9.0, by=ANN)
        assert placed.planned == 1
        return placed.file

    def by_publishing(self, catalog: Catalog) -> File:
        staged, = catalog.stage([at("a", metadata={"steps": ["digest"]})], now=1.0, expires_at=9.0)
        assert catalog.jobs()[0] == []
        placed, = catalog.publish([Publication(staged.file.id, "main", "a", "ann", {"steps": ["digest"]})], now=1.0, by=ANN)
        assert placed.planned == 1
        return placed.file

    @pytest.mark.parametrize("way", [by_place, by_completing, by_publishing])
    def test_a_content_gets_its_jobs_with_its_file(self, catalog: Catalog, way: Any) -> None:
        file = way(self, catalog)
        job, = catalog.jobs_of(file.blob.id)
        assert (job.step, job.version, job.state, job.file_id, job.space, job.owner) == ("digest", "1", "queued", file.id, "main", "ann")
        assert (job.attempts, job.fence, job.due_at, job.request) == (0, 0, 1.0, "r1")
        assert catalog.job(job.id) == job
        assert catalog.job(new_id()) is None

    def test_none_where_nothing_came_of_it(self, catalog: Catalog) -> None:
        put(catalog, "b")
        with pytest.raises(Conflict):
            catalog.place([at("a", metadata={"steps": ["digest"]}), at("b", on_conflict="refuse")], now=1.0)
        assert catalog.jobs()[0] == []

    def test_a_copy_has_the_jobs_of_its_content(self, catalog: Catalog) -> None:
        file = stored(catalog, "a", "digest")
        placed, = catalog.place([at("b", blob=file.blob, metadata={"steps": ["digest", "preview"]})], now=2.0)
        assert placed.planned == 2
        assert [(job.step, job.file_id) for job in catalog.jobs_of(file.blob.id)] == [("digest", file.id), ("preview", placed.file.id)]

    def test_a_file_that_comes_from_another_space_goes_through_the_steps_there(self, catalog: Catalog) -> None:
        file = stored(catalog, "x/a", "digest")
        claim = claimed(catalog, alive(catalog))
        assert catalog.finish_job(claim, Outcome(), now=3.0)
        catalog.update_file(file.id, metadata={"steps": ["scan"]}, now=3.0)
        catalog.move(file.id, Move("main", "y/a"), now=4.0)
        assert [job.step for job in catalog.jobs_of(file.blob.id)] == ["digest"]
        catalog.move(file.id, Move("other", "y/a"), now=4.0)
        assert [job.step for job in catalog.jobs_of(file.blob.id)] == ["digest", "scan"]
        catalog.update_file(file.id, metadata={"steps": ["preview"]}, now=3.0)
        catalog.move_folder("other", "y/", Move("third", "z/"), now=5.0)
        assert [job.step for job in catalog.jobs_of(file.blob.id)] == ["digest", "scan", "preview"]

    @pytest.mark.parametrize("way", ["alone", "in a folder", "out of the trash"])
    def test_older_contents_that_come_from_another_space_go_through_what_holds_there(self, catalog: Catalog, way: str) -> None:
        first = stored(catalog, "x/a", "digest", keep_versions=3)
        put(catalog, "x/a", 2.0, keep_versions=3)
        file = stored(catalog, "x/a", "scan", now=3.0, keep_versions=3)
        other = stored(catalog, "x/b", "scan")
        catalog.update_file(file.id, metadata={"steps": ["preview", ["digest", {"holds": True}], ["scan", {"holds": True}]]}, now=3.0)
        if way == "alone":
            assert catalog.move(file.id, Move("other", "y/a"), now=4.0).blob.held == 2
        elif way == "in a folder":
            catalog.move_folder("main", "x/", Move("other", "y/"), now=4.0)
        else:
            catalog.trash_file(file.id, now=4.0, expires_at=9.0)
            assert catalog.restore(file.id, Move("other", "y/a"), now=5.0).blob.held == 2
        now = catalog.file(file.id)
        assert now and now.blob.held == 2
        assert [older.blob.held for older in catalog.versions(file.id)] == [2, 2]
        assert sorted(job.step for job in catalog.jobs_of(file.blob.id)) == ["digest", "preview", "scan"]
        assert [(job.step, job.holds, job.space, job.file_id) for job in catalog.jobs_of(first.blob.id)] == [
            (step, True, "other", file.id) for step in ("digest", "scan")]
        assert [job.step for job in catalog.jobs_of(other.blob.id)] == ["scan"]

    def test_what_is_held_back_goes_to_another_space_only_where_it_is_to(self, catalog: Catalog) -> None:
        """Whatever has become its content since somebody looked, or one of its older ones."""
        holding = ["digest", {"holds": True}]
        older = stored(catalog, "x/a", holding, keep_versions=2)
        file = stored(catalog, "x/a", "scan", keep_versions=2)
        other = stored(catalog, "x/b", holding)
        stored(catalog, "y", holding)
        stored(catalog, "x/c", holding, blob=a_blob(quarantine="bad"))
        held = catalog.pending("main", "x/")
        assert {(one.id, one.blob.id) for one in held} == {(file.id, older.blob.id), (other.id, other.blob.id)}
        assert [one.blob.id for one in catalog.pending("main", "x/a")] == [older.blob.id]
        assert catalog.pending("main", "x") == catalog.pending("other", "x/") == []
        for allowed in ([], [other.blob.id]):
            with pytest.raises(Pending) as error:
                catalog.move(file.id, Move("other", "a", pending=allowed), now=2.0)
            assert error.value.facts["steps"] == ["digest"]
            with pytest.raises(Pending):
                catalog.move_folder("main", "x/", Move("other", "x/", pending=allowed), now=2.0)
        assert catalog.file(file.id) == file
        catalog.move(file.id, Move("main", "x/d", pending=[]), now=3.0)
        catalog.move(file.id, Move("other", "a", pending=[older.blob.id]), now=3.0)
        assert catalog.move_folder("main", "x/", Move("other", "x/", pending=[other.blob.id]), now=3.0) == 2
        catalog.move(file.id, Move("main", "a"), now=4.0)

    def test_one_for_each_content_step_and_version(self, catalog: Catalog) -> None:
        file = stored(catalog, "a", "digest")
        again = catalog.order(file.id, [an_order("digest"), an_order("digest", version="2", args={"n": 1}, priority=3)], now=2.0, request="r")
        assert [(job.version, job.args, job.priority, job.request) for job in again] == [("1", {}, 0, ""), ("2", {"n": 1}, 3, "r")]
        assert catalog.order(file.id, [an_order("digest", version="2")], now=3.0) == [again[1]]
        with pytest.raises(NotFound):
            catalog.order(new_id(), [an_order("digest")], now=1.0)

    def test_many_at_once_make_one(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        together(*[lambda: catalog.order(file.id, [an_order("digest")], now=1.0) for _ in range(6)])
        assert len(catalog.jobs_of(file.blob.id)) == 1

    def test_they_go_with_their_content(self, catalog: Catalog) -> None:
        file = stored(catalog, "a", "digest")
        catalog.trash_file(file.id, now=2.0, expires_at=9.0)
        assert job_of(catalog, file).state == "queued"
        catalog.delete_file(file.id, now=3.0)
        assert catalog.jobs()[0] == []

    def test_a_step_waits_for_those_before_it(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", ["preview", {"after": ["digest", "nobody"]}], "digest")
        waiting = job_of(catalog, file, "preview")
        assert (waiting.state, waiting.after) == ("waiting", ("digest",))
        claim = claimed(catalog, worker)
        assert claim.job.step == "digest" and catalog.claim_jobs(worker.id, now=9.0, steps=STEPS) == []
        assert catalog.finish_job(claim, Outcome({"sha256": "00"}), now=3.0)
        following = claimed(catalog, worker, now=4.0)
        assert following.job.step == "preview"
        assert following.results == {"digest": {"sha256": "00"}}

    def test_what_it_waits_for_may_be_done_already(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest")
        catalog.finish_job(claimed(catalog, worker), Outcome(), now=3.0)
        job, = catalog.order(file.id, [an_order("preview", after=("digest",))], now=4.0)
        assert job.state == "queued"


class TestClaims:
    def test_a_claim_is_one_instances(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest")
        assert catalog.jobs_due(now=2.0, steps=STEPS)
        claim = claimed(catalog, worker)
        assert (claim.job.state, claim.job.fence, claim.job.attempts, claim.job.instance) == ("running", 1, 1, worker.id)
        assert (claim.blob, claim.file) == (file.blob, file)
        assert catalog.job(claim.job.id) == claim.job
        assert not catalog.jobs_due(now=2.0, steps=STEPS)
        assert catalog.claim_jobs(worker.id, now=2.0, steps=STEPS) == []

    def test_by_priority_and_then_by_how_long_they_are_due(self, catalog: Catalog, worker: Instance) -> None:
        for path, priority, now in (("a", 0, 3.0), ("b", 5, 4.0), ("c", 5, 2.0), ("d", -1, 1.0)):
            stored(catalog, path, ["digest", {"priority": priority}], now=now)
        claims = catalog.claim_jobs(worker.id, now=9.0, steps=STEPS, limit=3)
        assert [claim.file.path for claim in claims if claim.file] == ["c", "b", "a"]
        assert [claim.file.path for claim in catalog.claim_jobs(worker.id, now=9.0, steps=STEPS, limit=3) if claim.file] == ["d"]

    def test_only_what_was_asked_for(self, catalog: Catalog, worker: Instance) -> None:
        stored(catalog, "a", "digest", ["preview", {"queue": "slow"}], "unheard-of")
        assert catalog.claim_jobs(worker.id, now=2.0, steps=("scan",)) == []
        assert catalog.claim_jobs(worker.id, now=2.0, steps=STEPS, queues=("other", "else")) == []
        assert not catalog.jobs_due(now=2.0, steps=())
        slow, = catalog.claim_jobs(worker.id, now=2.0, steps=STEPS, queues=("slow", "other", "third"), limit=9)
        assert slow.job.step == "preview"
        rest, = catalog.claim_jobs(worker.id, now=2.0, steps=STEPS, limit=9)
        assert rest.job.step == "digest"

    def test_one_by_its_id(self, catalog: Catalog, worker: Instance) -> None:
        stored(catalog, "a", "digest")
        wanted = job_of(catalog, stored(catalog, "b", "digest"))
        assert claimed(catalog, worker, id=wanted.id).job.id == wanted.id
        assert catalog.claim_jobs(worker.id, now=2.0, steps=STEPS, id=wanted.id) == []

    def test_one_by_its_id_where_the_clock_is_a_little_behind(self, catalog: Catalog, worker: Instance) -> None:
        """Who sent the id went by another clock. Everybody else waits for his own, and so does a job that is to be tried again later."""
        job = job_of(catalog, stored(catalog, "a", "digest", now=100.0))
        assert catalog.claim_jobs(worker.id, now=99.1, steps=STEPS) == []
        claim = claimed(catalog, worker, now=99.1, id=job.id)
        assert catalog.fail_job(claim, "no", now=100.0, due_at=160.0)
        assert catalog.claim_jobs(worker.id, now=158.9, steps=STEPS, id=job.id) == []
        assert claimed(catalog, worker, now=159.1, id=job.id).job.attempts == 2

    def test_not_before_it_is_due_but_after_the_clock_was_set_back(self, catalog: Catalog, worker: Instance) -> None:
        stored(catalog, "a", "digest", now=100_000.0)
        claim = claimed(catalog, worker, now=100_000.0)
        assert catalog.fail_job(claim, "no", now=100_001.0, due_at=100_060.0)
        assert not catalog.jobs_due(now=100_030.0, steps=STEPS)
        assert catalog.jobs_due(now=100_060.0, steps=STEPS)
        assert catalog.jobs_due(now=13_600.0, steps=STEPS)

    def test_many_workers_at_once_share_them(self, catalog: Catalog) -> None:
        for number in range(40):
            stored(catalog, f"{number}", "digest")
        taken: list[str] = []

        def work() -> None:
            me = alive(catalog)
            while claims := catalog.claim_jobs(me.id, now=2.0, steps=STEPS, limit=2):
                for claim in claims:
                    taken.append(claim.job.id)
                    assert catalog.finish_job(claim, Outcome(), now=3.0)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(taken) == len(set(taken)) == 40
        assert catalog.queue_depths()[0].state == "done" and catalog.queue_depths()[0].count == 40

    def test_who_was_taken_for_dead_claims_nothing(self, catalog: Catalog, worker: Instance) -> None:
        stored(catalog, "a", "digest")
        catalog.bury(worker)
        with pytest.raises(StorageFailed):
            catalog.claim_jobs(worker.id, now=2.0, steps=STEPS)

    def test_the_file_may_be_another_by_then(self, catalog: Catalog, worker: Instance) -> None:
        old = stored(catalog, "a", "digest", keep_versions=2)
        put(catalog, "a", keep_versions=2)
        claim = claimed(catalog, worker)
        assert claim.file is None and claim.blob == old.blob


class TestEnding:
    def test_what_it_came_to_is_committed_with_it(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", ["digest", {"holds": True}])
        assert file.blob.held == 1 and catalog.file(file.id) is not None
        before = catalog.file(file.id)
        assert before and before.blob.held == 1
        claim = claimed(catalog, worker)
        thumbnail = made(claim, "160.webp")
        outcome = Outcome({"n": 1}, [thumbnail], sha256=b"\1" * 32, media_type="image/png")
        assert catalog.finish_job(claim, outcome, now=5.0)
        job = job_of(catalog, file)
        assert (job.state, job.result, job.progress, job.instance, job.changed_at) == ("done", {"n": 1}, 1.0, None, 5.0)
        after = catalog.file(file.id)
        assert after and (after.blob.held, after.blob.sha256, after.media_type) == (0, b"\1" * 32, "image/png")
        assert catalog.derived(file.blob.id) == [thumbnail]
        assert catalog.derived_named(file.blob.id, "digest", "160.webp") == thumbnail
        assert catalog.derived_named(file.blob.id, "digest", "else") is None
        assert catalog.known("local", [thumbnail.blob.key]) == {thumbnail.blob.key}
        assert not catalog.finish_job(claim, outcome, now=6.0)

    def test_a_type_is_for_the_files_that_were_asked_about(self, catalog: Catalog, worker: Instance) -> None:
        """Those of the job's space that had the type of its file, and their older contents: not what another space took, nor what the same
        bytes are by another name."""
        file = stored(catalog, "a.txt", "digest")
        same = put(catalog, "b.txt", blob=file.blob, keep_versions=2)
        others = [put(catalog, "a.html", blob=file.blob, media_type="text/html", keep_versions=2),
                  put(catalog, "a.txt", blob=file.blob, space="other", keep_versions=2)]
        claim = claimed(catalog, worker)
        for older in (same, *others):
            put(catalog, older.path, space=older.space, keep_versions=2, media_type="image/gif")
        kept = [put(catalog, "c.html", blob=file.blob, media_type="text/html"), put(catalog, "c.txt", blob=file.blob, space="other")]
        assert catalog.finish_job(claim, Outcome(media_type="image/png"), now=3.0)
        now = [catalog.file(one.id) for one in (file, same, *others, *kept)]
        assert [one.media_type for one in now if one] == ["image/png", "image/gif", "image/gif", "image/gif", "text/html", "text/plain"]
        assert [catalog.versions(one.id)[0].media_type for one in (same, *others)] == ["image/png", "text/html", "text/plain"]

    def test_one_effect_however_many_run_it(self, catalog: Catalog) -> None:
        """Its first worker was taken for dead, and comes back while the second one works."""
        file = stored(catalog, "a", "digest")
        first, second = alive(catalog), alive(catalog)
        old = claimed(catalog, first)
        catalog.bury(first)
        recovered, = catalog.recover_jobs(now=3.0)
        assert recovered.id == old.job.id and job_of(catalog, file).failure
        new = claimed(catalog, second, now=4.0)
        assert (new.job.attempts, new.job.fence) == (2, 2)
        with pytest.raises(StorageFailed):
            catalog.finish_job(old, Outcome({"by": "first"}), now=5.0)
        catalog.appear(first)
        assert not catalog.finish_job(old, Outcome({"by": "first"}, [made(old, "x")]), now=5.0)
        assert not catalog.fail_job(old, "no", now=5.0, due_at=None)
        assert not catalog.release_job(old, now=5.0)
        assert catalog.report_jobs([(old.job.id, old.job.fence, 0.5, "")], now=5.0) == {(old.job.id, old.job.fence)}
        assert catalog.finish_job(new, Outcome({"by": "second"}), now=6.0)
        assert job_of(catalog, file).result == {"by": "second"} and catalog.derived(file.blob.id) == []

    def test_the_living_are_not_recovered(self, catalog: Catalog, worker: Instance) -> None:
        stored(catalog, "a", "digest")
        claimed(catalog, worker)
        assert catalog.recover_jobs(now=99_999.0) == []

    def test_what_the_step_derived_before_goes(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest")
        one = claimed(catalog, worker)
        first = made(one, "160.webp")
        catalog.finish_job(one, Outcome(derived=[first]), now=3.0)
        catalog.order(file.id, [an_order("digest", version="2")], now=4.0)
        two = claimed(catalog, worker, now=5.0)
        second = made(two, "640.webp")
        catalog.finish_job(two, Outcome(derived=[second]), now=6.0)
        assert catalog.derived(file.blob.id) == [replace(second, created_at=6.0)]
        assert catalog.condemned("local", before=6.0) == [first.blob.key]

    def test_derived_files_go_with_the_content(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest")
        claim = claimed(catalog, worker)
        derived = made(claim, "160.webp")
        catalog.finish_job(claim, Outcome(derived=[derived]), now=3.0)
        catalog.delete_file(file.id, now=4.0)
        assert set(catalog.condemned("local", before=4.0)) == {file.blob.key, derived.blob.key}
        assert catalog.counts()["blobs"] == 0

    def test_a_content_that_went_meanwhile(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest")
        claim = claimed(catalog, worker)
        catalog.delete_file(file.id, now=3.0)
        assert catalog.report_jobs([(claim.job.id, claim.job.fence, 0.5, "")], now=3.0) == {(claim.job.id, claim.job.fence)}
        assert not catalog.finish_job(claim, Outcome(derived=[made(claim, "x")]), now=4.0)
        assert catalog.derived(file.blob.id) == [] and catalog.counts()["blobs"] == 0

    def test_a_failed_attempt(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest")
        assert catalog.fail_job(claimed(catalog, worker), "no luck", now=3.0, due_at=13.0)
        job = job_of(catalog, file)
        assert (job.state, job.failure, job.due_at, job.attempts, job.instance) == ("queued", "no luck", 13.0, 1, None)
        assert catalog.fail_job(claimed(catalog, worker, now=13.0), "still none", now=14.0, due_at=None)
        job = job_of(catalog, file)
        assert (job.state, job.failure, job.attempts, job.is_over) == ("dead", "still none", 2, True)

    def test_one_that_was_not_tried_after_all(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest")
        assert catalog.release_job(claimed(catalog, worker), now=3.0)
        job = job_of(catalog, file)
        assert (job.state, job.attempts, job.due_at, job.failure) == ("queued", 0, 3.0, None)

    def test_progress(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest")
        claim = claimed(catalog, worker)
        assert catalog.report_jobs([(claim.job.id, claim.job.fence, 0.25, "reading")], now=3.0) == set()
        assert (job_of(catalog, file).progress, job_of(catalog, file).phrase) == (0.25, "reading")
        assert catalog.report_jobs([], now=3.0) == set()

    def test_progress_of_two_claims_of_one_job(self, catalog: Catalog, worker: Instance) -> None:
        """Who ran it before it was cancelled and tried again is told; who runs it now is not, and tells how far it is."""
        file = stored(catalog, "a", "digest")
        old = claimed(catalog, worker)
        catalog.cancel_job(old.job.id, now=3.0)
        catalog.retry_job(old.job.id, now=4.0)
        new = claimed(catalog, worker, now=5.0)
        reports = [(one.job.id, one.job.fence, one.job.fence / 10, "") for one in (new, old)]
        assert catalog.report_jobs(reports, now=6.0) == {(old.job.id, old.job.fence)}
        assert job_of(catalog, file).progress == new.job.fence / 10

    def test_quarantine_stays(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "scan", "digest")
        claims = catalog.claim_jobs(worker.id, now=2.0, steps=STEPS, limit=2)
        for claim in sorted(claims, key=lambda one: one.job.step, reverse=True):
            catalog.finish_job(claim, Outcome(quarantine="Eicar" if claim.job.step == "scan" else None, sha256=b"\2" * 32), now=3.0)
        found = catalog.file(file.id)
        assert found and (found.blob.quarantine, found.blob.sha256) == ("Eicar", b"\2" * 32)


class TestHolding:
    def test_every_holding_step_has_to_be_through(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", ["scan", {"holds": True}], ["digest", {"holds": True}], "preview")

        def held() -> int:
            found = catalog.file(file.id)
            assert found
            return found.blob.held

        assert held() == 2
        claims = {claim.job.step: claim for claim in catalog.claim_jobs(worker.id, now=2.0, steps=STEPS, limit=3)}
        catalog.finish_job(claims["preview"], Outcome(), now=3.0)
        assert held() == 2
        catalog.finish_job(claims["digest"], Outcome(), now=3.0)
        assert held() == 1
        catalog.finish_job(claims["scan"], Outcome(release=False), now=3.0)
        assert held() == 1, "it says that it may not pass"

    def test_giving_up_and_cancelling_release_nothing(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", ["scan", {"holds": True}])
        catalog.fail_job(claimed(catalog, worker), "no", now=3.0, due_at=None)
        catalog.retry_job(job_of(catalog, file, "scan").id, now=4.0)
        catalog.cancel_job(job_of(catalog, file, "scan").id, now=4.0)
        catalog.retry_job(job_of(catalog, file, "scan").id, now=5.0)
        found = catalog.file(file.id)
        assert found and found.blob.held == 1
        catalog.finish_job(claimed(catalog, worker, now=6.0), Outcome(), now=7.0)
        found = catalog.file(file.id)
        assert found and found.blob.held == 0


class TestByHand:
    def test_a_dead_one_is_tried_again(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest")
        catalog.fail_job(claimed(catalog, worker), "no", now=3.0, due_at=None)
        job = catalog.retry_job(job_of(catalog, file).id, now=4.0, by=ANN)
        assert (job.state, job.attempts, job.failure, job.due_at) == ("queued", 0, None, 4.0)
        assert catalog.job(job.id) == job
        assert catalog.audit(action="job.retry")[0].by == ANN
        assert claimed(catalog, worker, now=5.0).job.attempts == 1

    def test_a_running_one_is_cancelled(self, catalog: Catalog, worker: Instance) -> None:
        stored(catalog, "a", "digest")
        claim = claimed(catalog, worker)
        assert catalog.cancel_job(claim.job.id, now=3.0, by=ANN).state == "cancelled"
        assert catalog.report_jobs([(claim.job.id, claim.job.fence, 0.5, "")], now=3.0) == {(claim.job.id, claim.job.fence)}
        assert not catalog.finish_job(claim, Outcome(), now=4.0)
        assert catalog.cancel_job(claim.job.id, now=5.0).state == "cancelled"
        assert catalog.retry_job(claim.job.id, now=6.0).state == "queued"

    def test_what_can_not_be(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest")
        id = job_of(catalog, file).id
        with pytest.raises(Conflict):
            catalog.retry_job(id, now=2.0)
        claim = claimed(catalog, worker)
        with pytest.raises(Conflict):
            catalog.retry_job(id, now=2.0)
        catalog.finish_job(claim, Outcome(), now=3.0)
        for change in (catalog.retry_job, catalog.cancel_job):
            with pytest.raises(Conflict):
                change(id, now=4.0)
            with pytest.raises(NotFound):
                change(new_id(), now=4.0)

    def test_what_waits_for_a_cancelled_one_waits_on(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest", ["preview", {"after": ["digest"]}])
        catalog.cancel_job(job_of(catalog, file).id, now=2.0)
        assert catalog.claim_jobs(worker.id, now=9.0, steps=STEPS) == []
        catalog.retry_job(job_of(catalog, file).id, now=3.0)
        catalog.finish_job(claimed(catalog, worker, now=4.0), Outcome(), now=5.0)
        assert claimed(catalog, worker, now=6.0).job.step == "preview"

    def test_one_that_waits_is_not_tried_again(self, catalog: Catalog) -> None:
        """It hasn't been tried, and would run without what it waits for."""
        file = stored(catalog, "a", "digest", ["preview", {"after": ["digest"]}])
        with pytest.raises(Conflict):
            catalog.retry_job(job_of(catalog, file, "preview").id, now=2.0)
        assert job_of(catalog, file, "preview").state == "waiting"

    def test_a_cancelled_one_waits_again_for_what_is_not_done(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest", ["preview", {"after": ["digest"]}])
        id = catalog.cancel_job(job_of(catalog, file, "preview").id, now=2.0).id
        job = catalog.retry_job(id, now=3.0)
        assert job.state == "waiting" and catalog.job(id) == job
        claim = claimed(catalog, worker, now=4.0, limit=2)
        assert claim.job.step == "digest"
        catalog.cancel_job(id, now=5.0)
        catalog.finish_job(claim, Outcome({"n": 1}), now=6.0)
        assert catalog.retry_job(id, now=7.0).state == "queued", "nothing is left to wait for"
        assert claimed(catalog, worker, now=8.0).results == {"digest": {"n": 1}}

    def test_a_dead_one_waits_for_a_step_that_is_open_again(self, catalog: Catalog, worker: Instance) -> None:
        file = stored(catalog, "a", "digest", ["preview", {"after": ["digest"]}])
        catalog.finish_job(claimed(catalog, worker), Outcome(), now=3.0)
        catalog.fail_job(claimed(catalog, worker, now=4.0), "no", now=5.0, due_at=None)
        catalog.order(file.id, [an_order("digest", version="2")], now=6.0)
        assert catalog.retry_job(job_of(catalog, file, "preview").id, now=7.0).state == "waiting"
        catalog.finish_job(claimed(catalog, worker, now=8.0, limit=2), Outcome(), now=9.0)
        assert job_of(catalog, file, "preview").state == "queued"

    def test_it_is_tried_again_in_the_moment_in_which_what_it_waits_for_ends(self, catalog: Catalog, worker: Instance) -> None:
        """Neither goes by what the other is about to change."""
        for number in range(10):
            file = stored(catalog, f"{number}", "digest", ["preview", {"after": ["digest"]}])
            id = catalog.cancel_job(job_of(catalog, file, "preview").id, now=2.0).id
            claim = claimed(catalog, worker, id=job_of(catalog, file).id)
            together(partial(catalog.finish_job, claim, Outcome(), now=3.0), partial(catalog.retry_job, id, now=3.0))
            assert job_of(catalog, file, "preview").state == "queued"


class TestSending:
    def test_what_was_not_sent_or_long_ago(self, catalog: Catalog, worker: Instance) -> None:
        first = job_of(catalog, stored(catalog, "a", "digest", now=1.0))
        second = job_of(catalog, stored(catalog, "b", ["digest", {"priority": 1}], now=2.0))
        assert [job.id for job in catalog.unsent_jobs(now=3.0, before=0.0)] == [second.id, first.id]
        assert [job.id for job in catalog.unsent_jobs(now=3.0, before=0.0, limit=1)] == [second.id]
        assert [job.id for job in catalog.unsent_jobs(now=1.0, before=0.0)] == [first.id]
        catalog.mark_sent([first.id, second.id, new_id()], at=10.0)
        assert catalog.unsent_jobs(now=11.0, before=10.0) == []
        assert len(catalog.unsent_jobs(now=20.0, before=11.0)) == 2
        catalog.mark_sent([], at=11.0)

    def test_a_retried_one_is_sent_again(self, catalog: Catalog, worker: Instance) -> None:
        job = job_of(catalog, stored(catalog, "a", "digest"))
        catalog.mark_sent([job.id], at=2.0)
        catalog.fail_job(claimed(catalog, worker), "no", now=3.0, due_at=4.0)
        assert [one.id for one in catalog.unsent_jobs(now=4.0, before=0.0)] == [job.id]


class TestLists:
    def test_the_newest_first_in_pages(self, catalog: Catalog) -> None:
        files = [stored(catalog, f"{n}", "digest", now=float(n // 2)) for n in range(7)]
        found: list[Job] = []
        cursor: str | None = None
        while True:
            page, cursor = catalog.jobs(cursor=cursor, limit=3)
            found += page
            if cursor is None:
                break
        assert found == sorted((job_of(catalog, file) for file in files), key=lambda job: (job.created_at, job.id), reverse=True)
        with pytest.raises(InvalidRequest):
            catalog.jobs(cursor="what")

    def test_filters(self, catalog: Catalog, worker: Instance) -> None:
        a, b = stored(catalog, "a", "digest", "preview"), stored(catalog, "b", "digest", owner="bob", space="other")
        claimed(catalog, worker, id=job_of(catalog, b).id)

        def asked(**given: Any) -> set[str]:
            return {job.id for job in catalog.jobs(JobFilter(**given))[0]}

        of_a = {job.id for job in catalog.jobs_of(a.blob.id)}
        assert asked(space="main") == asked(owner="ann") == asked(file_id=a.id) == asked(blob_id=a.blob.id) == asked(states=("queued",)) == of_a
        assert asked(step="digest", states=("running", "done", "dead")) == {job_of(catalog, b).id}
        assert asked(step="digest", space="main") == {job_of(catalog, a).id}

    def test_they_go_to_another_space_with_their_file(self, catalog: Catalog) -> None:
        """Alone, in a folder, out of the trash. There jobs are of the last space that can be named."""
        file, beside, after = stored(catalog, "x/a", "digest"), stored(catalog, "x.b", "digest"), stored(catalog, "y/z", "digest")

        def spaces() -> list[str]:
            return [job_of(catalog, one).space for one in (file, beside, after)]

        catalog.move(file.id, Move("main", "x/deep/a"), now=2.0)
        assert spaces() == ["main", "main", "main"]
        catalog.move(file.id, Move("other", "x/deep/a"), now=2.0)
        assert spaces() == ["other", "main", "main"]
        assert {job.file_id for job in catalog.jobs(JobFilter(space="other"))[0]} == {file.id}
        catalog.move_folder("other", "x/", Move("third", "y/"), now=3.0)
        assert spaces() == ["third", "main", "main"]
        catalog.move_folder("main", "y/", Move("main", "z/"), now=3.0)
        assert spaces() == ["third", "main", "main"]
        catalog.trash_file(file.id, now=4.0, expires_at=9.0)
        catalog.trash_folder("main", "z/", now=4.0, expires_at=9.0)
        assert spaces() == ["third", "main", "main"]
        catalog.restore(file.id, Move("fourth", "a"), now=5.0)
        catalog.restore(after.id, Move("main", "a"), now=5.0)
        assert spaces() == ["fourth", "main", "main"]

    def test_depths(self, catalog: Catalog, worker: Instance) -> None:
        for number in range(3):
            stored(catalog, f"{number}", "digest", now=float(number + 1))
        claimed(catalog, worker, now=9.0)
        assert [(depth.step, depth.state, depth.count, depth.oldest) for depth in catalog.queue_depths()] == [
            ("digest", "queued", 2, 2.0), ("digest", "running", 1, 9.0)]


class TestTwins:
    """Of equal contents one takes the other's place."""

    SAME = b"\7" * 32

    def twins(self, catalog: Catalog, *, owner: str = "ann") -> tuple[File, File]:
        first = stored(catalog, "first", blob=a_blob(sha256=self.SAME, created_at=1.0))
        second = stored(catalog, "second", "digest", blob=a_blob(sha256=self.SAME, created_at=2.0), owner=owner)
        return first, second

    def test_the_older_one_is_found(self, catalog: Catalog) -> None:
        first, second = self.twins(catalog)
        assert catalog.twin(second, owner=None) == first.blob.id
        assert catalog.twin(first, owner=None) == second.blob.id, "whichever is known first"
        assert catalog.twin(second, owner="bob") is None
        assert catalog.twin(replace(second, space="other"), owner=None) is None
        catalog.set_damaged(first.blob.id, 3.0)
        assert catalog.twin(second, owner=None) is None

    def test_it_takes_the_others_place(self, catalog: Catalog, worker: Instance) -> None:
        first, second = self.twins(catalog)
        claim = claimed(catalog, worker)
        assert catalog.finish_job(claim, Outcome({"sha256": "07"}, same_as=first.blob.id, same_in=("main", None)), now=3.0)
        found = catalog.file(second.id)
        assert found and found.blob.id == first.blob.id and found.version == 1
        assert catalog.condemned("local", before=3.0) == [second.blob.key]
        job = catalog.job(claim.job.id)
        assert job and (job.blob_id, job.state, job.result) == (first.blob.id, "done", {"sha256": "07"})
        assert catalog.miscounted() == []

    def test_older_versions_and_other_owners_keep_theirs(self, catalog: Catalog, worker: Instance) -> None:
        first, second = self.twins(catalog, owner="bob")
        claim = claimed(catalog, worker)
        catalog.finish_job(claim, Outcome(same_as=first.blob.id, same_in=("main", "ann")), now=3.0)
        found = catalog.file(second.id)
        assert found and found.blob.id == second.blob.id
        assert catalog.condemned("local", before=3.0) == []

    def test_a_twin_that_is_gone_changes_nothing(self, catalog: Catalog, worker: Instance) -> None:
        first, second = self.twins(catalog)
        claim = claimed(catalog, worker)
        catalog.delete_file(first.id, now=2.0)
        assert catalog.finish_job(claim, Outcome(same_as=first.blob.id, same_in=("main", None)), now=3.0)
        found = catalog.file(second.id)
        assert found and found.blob.id == second.blob.id

    def test_jobs_of_both(self, catalog: Catalog, worker: Instance) -> None:
        """What the twin is through with isn't done again; what only the other has goes on, and holds."""
        first = stored(catalog, "first", "digest", ["scan", {"holds": True}], blob=a_blob(sha256=self.SAME, created_at=1.0))
        for claim in catalog.claim_jobs(worker.id, now=2.0, steps=STEPS, limit=2):
            catalog.finish_job(claim, Outcome({"of": "first"}), now=2.0)
        second = stored(catalog, "second", "digest", ["scan", {"holds": True}], ["preview", {"holds": True}],
                        blob=a_blob(sha256=self.SAME, created_at=2.0))
        digest = claimed(catalog, worker, id=job_of(catalog, second).id)
        catalog.finish_job(digest, Outcome({"of": "second"}, same_as=first.blob.id, same_in=("main", None)), now=4.0)
        jobs = {job.step: job for job in catalog.jobs_of(first.blob.id)}
        assert {step: (job.state, job.result) for step, job in jobs.items()} == {
            "digest": ("done", {"of": "second"}), "scan": ("done", {"of": "first"}), "preview": ("queued", None)}
        found = catalog.file(second.id)
        assert found and found.blob.held == 1
        catalog.finish_job(claimed(catalog, worker, now=5.0), Outcome(), now=6.0)
        found = catalog.file(first.id)
        assert found and found.blob.held == 0


class TestTheLog:
    def test_what_happened_in_order(self, catalog: Catalog, worker: Instance) -> None:
        start = catalog.latest()
        file = stored(catalog, "a", "digest")
        catalog.finish_job(claimed(catalog, worker), Outcome({"n": 1}), now=3.0)
        catalog.move(file.id, Move("main", "b"), now=4.0, by=ANN)
        catalog.trash_file(file.id, now=5.0, expires_at=9.0)
        found, cursor = catalog.happened(start)
        assert [(one.kind, one.file_id, one.space, one.owner) for one in found] == [
            (kind, file.id, "main", "ann") for kind in ("file.create", "job.done", "file.move", "file.trash")]
        assert found[1].job_id == job_of(catalog, file).id and found[1].facts == {"step": "digest", "result": {"n": 1}}
        assert (found[1].path, found[2].path) == ("a", "b")
        assert cursor == found[-1].cursor and catalog.happened(cursor) == ([], cursor)
        assert catalog.happened(found[0].cursor)[0] == found[1:]
        assert catalog.happened(start, limit=2)[0] == found[:2]

    @pytest.mark.parametrize("end", ["done", "failed", "dead"])
    def test_a_job_ends_where_its_file_is_or_was_last(self, catalog: Catalog, worker: Instance, end: str) -> None:
        """Also where it goes elsewhere, and to the trash, while the job runs."""
        file = stored(catalog, "a", "digest")
        claim, start = claimed(catalog, worker), catalog.latest()
        catalog.move(file.id, Move("vault", "a"), now=3.0)
        catalog.trash_file(file.id, now=4.0, expires_at=9.0)
        if end == "done":
            assert catalog.finish_job(claim, Outcome({"n": 1}), now=5.0)
        else:
            assert catalog.fail_job(claim, "oh", now=5.0, due_at=None if end == "dead" else 6.0)
        last = catalog.happened(start)[0][-1]
        assert (last.kind, last.space, last.path, last.owner) == (f"job.{end}", "vault", None, "ann")
        assert catalog.jobs(JobFilter(space="main"))[0] == []

    def test_one_is_ordered_while_its_file_moves(self, catalog: Catalog) -> None:
        """Whichever comes first, it is of the space where the file is in the end."""
        for turn in range(8):
            file = put(catalog, f"{turn}/a")
            moves = [lambda: catalog.move(file.id, Move("vault", f"{turn}/a"), now=2.0),  # noqa: B023
                     lambda: catalog.move_folder("main", f"{turn}/", Move("vault", f"{turn}/"), now=2.0)]  # noqa: B023
            together(lambda: catalog.order(file.id, [an_order("digest")], now=2.0), moves[turn % 2])  # noqa: B023
            assert job_of(catalog, file).space == "vault"

    def test_after_the_latest_comes_nothing(self, catalog: Catalog) -> None:
        put(catalog, "a")
        latest = catalog.latest()
        assert catalog.happened(latest)[0] == []
        file = put(catalog, "b")
        assert [one.file_id for one in catalog.happened(latest)[0]] == [file.id]

    def test_uploads(self, catalog: Catalog) -> None:
        start = catalog.latest()
        upload = begin(catalog, size=4)
        note(catalog, upload, Span(0, 4, 7))
        placed = catalog.complete(upload.id, of(upload), now=1.0, expires_at=9.0)
        whole = an_upload()
        catalog.place([at("x")], now=1.0, upload=whole)
        ended = begin(catalog)
        catalog.end_upload(ended.id, "cancelled", now=2.0, expires_at=9.0)
        found = catalog.happened(start)[0]
        assert [(one.kind, one.upload_id) for one in found] == [
            ("file.create", upload.id), ("file.create", whole.id), ("upload.cancelled", ended.id)]
        assert found[0].file_id == placed.file.id

    def test_what_nobody_did_is_no_part_of_the_audit_log(self, catalog: Catalog) -> None:
        start = catalog.latest()
        put(catalog, "a")
        assert len(catalog.happened(start)[0]) == 1 and catalog.audit() == []

    def test_it_is_purged_but_its_numbers_go_on(self, catalog: Catalog) -> None:
        start = catalog.latest()
        put(catalog, "a", 1.0)
        catalog.place([at("b")], now=2.0, by=ANN)
        put(catalog, "c", 3.0)
        catalog.purge(now=4.0, audit_before=0.0, log_before=4.0)
        assert [one.path for one in catalog.happened(start)[0]] == ["b", "c"], "the audit log's, and the last one"
        catalog.purge(now=4.0, audit_before=4.0, log_before=4.0)
        latest = catalog.latest()
        put(catalog, "d", 5.0)
        assert [one.path for one in catalog.happened(latest)[0]] == ["d"]

    def test_a_wrong_cursor(self, catalog: Catalog) -> None:
        put(catalog, "a")
        for wrong in ("", "x", "1.2.3", "-1", "9" * 30, str(2**63), f"1.{2**63}", f"{2**63}.1"):
            with pytest.raises(InvalidRequest):
                catalog.happened(wrong)
        for other in ("5", "5.5", str(2**63 - 1), f"{2**63 - 1}.{2**63 - 1}"):
            assert catalog.happened(other)[0] is not None

    def test_nothing_comes_to_stand_before_a_cursor(self, catalog: Catalog) -> None:
        """While many write, who follows sees each once."""
        start = catalog.latest()
        stop = threading.Event()
        seen: list[str] = []

        def follow() -> None:
            cursor = start
            while True:
                last = stop.is_set()
                found, cursor = catalog.happened(cursor, limit=7)
                seen.extend(one.file_id or "" for one in found)
                if last and not found:
                    return

        follower = threading.Thread(target=follow)
        follower.start()
        made: list[str] = []

        def write(number: int) -> None:
            for turn in range(25):
                made.append(put(catalog, f"{number}/{turn}").id)

        writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join(60)
        stop.set()
        follower.join(60)
        assert sorted(seen) == sorted(made)


