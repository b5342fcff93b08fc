"""Steps in processes of their own: what they are given, what they may take, and that nothing of them is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import isolated_steps
import pytest
from faults.plant import TESTS, Worker
from fixtures_server import eventually

from carboy.errors import ConfigError
from carboy.processing.isolating.confining import end_with_parent
from carboy.processing.isolating.spool import own_folder
from carboy.processing.registry import steps_in
from carboy.processing.step import Context, Step, Steps, step

STEPS = list(steps_in(isolated_steps))


@step("here", isolated=True, spaces=())
def here(context: Context, *, word: str) -> dict[str, Any]:
    """A step of a module that no other process finds by its name."""
    return {"word": word, "pid": os.getpid()}


@pytest.fixture(scope="module")
def workshop(make_shared_workshop: Any) -> Any:
    """Of all tests that leave its nursery as it is."""
    return make_shared_workshop(*[replace(one, retries=1) if one.name == "raise" else one for one in STEPS], here)


@pytest.fixture
def own(make_workshop: Any) -> Any:
    """For those that don't."""
    return make_workshop(*STEPS)


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """Where processes note their ids."""
    return tmp_path / "pids"


def is_alive(pid: int) -> bool:
    """As a zombie it isn't: that is somebody else's to wait for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def must_end(note: Path) -> list[int]:
    """All that are noted do; who they were."""
    pids = [int(pid) for pid in note.read_text().split()]
    eventually(lambda: not [pid for pid in pids if is_alive(pid)])
    return pids


def nursery_of(workshop: Any) -> int:
    pid: int = workshop.services.isolation._nurseries.get().kept._process.pid
    return pid


def children_of(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def spooled(workshop: Any) -> list[Path]:
    return list((workshop.folder / "data" / "spool").iterdir())


def begun(workshop: Any, path: str, step: str, **args: Any) -> Any:
    """The file of a job that says that it is ready. A loop has to run."""
    file = workshop.put(path, b"text")
    workshop.order(file, step, **args)
    eventually(lambda: workshop.job(file, step).phrase == "ready")
    return file


def out_of_time(workshop: Any) -> None:
    """What runs has taken as long as it may."""
    for attempt in list(workshop.services.runner._running):
        attempt.deadline = time.monotonic()


# --- what it is given, and gives ---


def test_it_sees_the_content_and_all_that_is_known_of_it(workshop: Any) -> None:
    file = workshop.put("a/b.txt", b"some text")
    workshop.order(file, "digest")
    workshop.drain()
    workshop.order(file, "look", factor=3)
    workshop.drain()
    job = workshop.job(file, "look")
    assert (job.state, job.failure) == ("done", None)
    digest = workshop.job(file, "digest").result
    assert job.result == {"name": "b.txt", "type": "text/plain", "size": 27, "step": "look", "file": "a/b.txt", "before": {"digest": digest},
                          "data": "some text", "end": "xt", "same": True, "suffix": ".txt", "gone": True}
    assert workshop.content(file) == b"some text"


def test_a_content_in_another_kind_of_storage_is_read_through_the_worker(make_workshop: Any, s3_server: Any, monkeypatch: Any) -> None:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    workshop = make_workshop(*STEPS, storages={"bulk": {"bucket": s3_server.new_bucket(), "endpoint": s3_server.endpoint, "style": "path",
                                                        "region": s3_server.region}}, spaces={"main": {"storage": "bulk"}})
    data = b"ab" * 1_300_000
    job = workshop.ran("a.txt", data[:200_000], "look")
    assert (job.failure, job.result["end"], job.result["same"], len(job.result["data"])) == (None, "ab", True, 200_000)
    job = workshop.ran("attached.txt", data, "attach")
    assert job.state == "done"
    assert workshop.content(workshop.derived(workshop.file("attached.txt"))["file.bin"]) == b"456789"


def test_an_outcome_comes_back_whole(workshop: Any) -> None:
    job = workshop.ran("a.txt", b"text", "outcome")
    file = workshop.file("a.txt")
    assert (job.state, job.result) == ("done", {"found": "it", "quarantine": "it was bad"})
    assert (file.blob.sha256, file.media_type, file.blob.quarantine) == (bytes(range(32)), "text/x-found", "it was bad")


def test_what_it_attaches_is_there_with_its_being_done(workshop: Any) -> None:
    job = workshop.ran("a.txt", b"text", "attach")
    assert job.state == "done", job.failure
    assert "name" in job.result["refused"]
    derived = workshop.derived(workshop.file("a.txt"))
    assert {name: workshop.content(one) for name, one in derived.items()} == {
        "bytes.txt": b"some bytes", "file.bin": b"456789", "late.bin": b"not flushed yet", "memory.bin": b"in memory", "twice.txt": b"second",
        "pieces.bin": bytes(1000) + b"\1" * 1000 + b"\2" * 1000}
    assert (derived["bytes.txt"].media_type, derived["bytes.txt"].facts) == ("text/plain", {"number": 1, "nested": {"a": [1, 2]}})


def test_what_a_failed_one_attached_is_gone(workshop: Any) -> None:
    file = workshop.put("a.txt", b"text")
    before = workshop.stored()
    workshop.order(file, "attach-then-fail")
    workshop.drain()
    assert workshop.job(file, "attach-then-fail").failure == "after all, no"
    assert (workshop.derived(file), workshop.stored()) == ({}, before)


def test_its_process_is_its_own_and_has_limits(make_workshop: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("CARBOY_ADMIN_TOKEN", "x" * 32)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    workshop = make_workshop(*STEPS, step_cpu=7.5, step_output=12345)
    found = workshop.ran("a.txt", b"text", "where").result
    assert found["pid"] == found["session"] == found["group"] != os.getpid()
    assert found["limits"] == {"CPU": 8, "FSIZE": 12345, "NOFILE": 256, "CORE": 0}
    assert (found["privileges"], found["threads"], found["nice"], found["secrets"]) == ("1", 1, min(19, os.nice(0) + 10), [])
    assert found["folder"] == found["temporary"]
    assert Path(found["folder"]).is_relative_to(workshop.folder)
    assert not Path(found["folder"]).exists()
    assert found["open"] == ["socket"], "more files are open in it than its channel"


def test_a_step_of_a_module_that_has_no_name_elsewhere_is_found_by_its_file(workshop: Any) -> None:
    job = workshop.ran("a.txt", b"text", "here", word="found")
    assert job.state == "done", job.failure
    assert job.result["word"] == "found"
    assert job.result["pid"] != os.getpid()


def test_a_program_may_have_steps_in_its_main_module(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
import json, os, sys
from carboy.processing.step import step
from carboy.bootstrap import open_carboy

@step("own", isolated=True)
def own(context, *, pair: tuple[int, int] = (1, 2)):
    return {"pid": os.getpid(), "pair": pair}

if __name__ == "__main__":
    from pathlib import Path
    from carboy.bootstrap import close, make_ready
    from carboy.config import of_application
    from carboy.engine.opening import ContentSource
    from carboy.engine.receive import Target
    from carboy.processing.loop import Loop
    from carboy.processing.step import step_of
    services = open_carboy(of_application({"data": Path(sys.argv[1]), "durability": "relaxed"}), steps=[step_of(own)])
    make_ready(services)
    file = services.receiver.receive(Target("main", "a", None, services.settings.spaces["main"]), ContentSource(b"x")).file
    Loop(services.catalog, services.leases, services.runner, services.wakes).drain()
    job, = services.catalog.jobs_of(file.blob.id)
    print(json.dumps([job.state, job.failure, job.result, os.getpid()]))
    close(services)
""")
    ended = subprocess.run([sys.executable, str(program), str(tmp_path / "data")], capture_output=True, text=True, check=True)
    state, failure, result, pid = json.loads(ended.stdout)
    assert (state, failure, result["pair"]) == ("done", None, [1, 2])
    assert result["pid"] != pid


def test_a_step_that_no_process_could_find_is_refused_at_the_start() -> None:
    def inner(context: Context) -> None: ...

    for run in (inner, lambda context: None):
        with pytest.raises(ConfigError, match="top of a module"):
            Steps().add([Step("inner", run, isolated=True)])
    Steps().add([Step("inner", inner)])


def test_progress_is_told_while_it_runs(workshop: Any) -> None:
    file = workshop.put("a.txt", b"text")
    with workshop.working():
        workshop.order(file, "speak")
        job = eventually(lambda: next((job for job in [workshop.job(file, "speak")] if job.phrase.startswith("waiting")), None))
        assert job.progress == 0.5


# --- how it may end ---


@pytest.mark.parametrize(("how", "failure", "again"), [
    ("value", "ValueError: no good: ü", True),
    ("final", "it never will", False),
    ("later", "not now", True),
    ("exit", "SystemExit: 3", True),
    ("vanish", "its process ended with status 4, and gave nothing", True),
    ("odd", "the step gave what can't be kept as JSON", False),
    ("large", "the step's result has", False),
    ("SIGSEGV", "its process ended with signal SIGSEGV", True),
    ("40", "its process ended with signal 40", True),
    ("SIGKILL", "its process ended with signal SIGKILL, perhaps because the machine has no memory left", True),
])
def test_a_job_says_how_its_process_failed(workshop: Any, how: str, failure: str, again: bool) -> None:
    job = workshop.ran("a.txt", b"text", "raise", how=how)
    assert job.failure.startswith(failure)
    assert job.state == ("queued" if again else "dead")
    if how == "later":
        assert job.due_at == workshop.now + 77
    assert workshop.ran("b.txt", b"text", "noop").state == "done"


@pytest.mark.parametrize(("bomb", "failure"), [
    ("memory", f"it took more than {64 * 2**20} bytes of memory"),
    ("memory-at-once", f"it took more than {64 * 2**20} bytes of memory"),
    ("cpu", "it took more than 1 s of processor time"),
    ("stubborn-cpu", "it took more than 1 s of processor time"),
    ("output", f"it wrote a file larger than {2**20} bytes"),
    ("attach-large", f"it wrote a file larger than {2**20} bytes"),
])
def test_who_takes_more_than_it_may_fails_for_good(workshop: Any, bomb: str, failure: str) -> None:
    job = workshop.ran("a.txt", b"text", bomb)
    assert (job.state, job.failure, job.attempts) == ("dead", failure, 1)
    assert workshop.ran("b.txt", b"text", "noop").state == "done"
    assert spooled(workshop) == []


def test_files_are_counted(workshop: Any) -> None:
    job = workshop.ran("a.txt", b"text", "files")
    assert job.state == "dead"
    assert "Too many open files" in job.failure


def test_who_hangs_fails_when_its_time_is_over(workshop: Any) -> None:
    job = workshop.ran("a.txt", b"text", "hang")
    assert (job.state, job.failure) == ("dead", "it took longer than 0.2 s")
    assert workshop.ran("b.txt", b"text", "noop").state == "done"


def test_who_takes_too_long_is_killed_with_its_family(workshop: Any, note: Path) -> None:
    with workshop.working():
        file = begun(workshop, "a.txt", "family", note=str(note))
        out_of_time(workshop)
        assert len(must_end(note)) == 4
        job = eventually(lambda: next((job for job in [workshop.job(file, "family")] if job.failure), None))
    assert (job.state, job.failure) == ("queued", "it took longer than 600 s")


def test_what_a_job_leaves_behind_is_killed(workshop: Any, note: Path) -> None:
    job = workshop.ran("a.txt", b"text", "leave", note=str(note))
    assert (job.state, job.result) == ("done", {"value": 7})
    assert len(must_end(note)) == 3


def test_a_bomb_of_processes_is_killed_as_one(workshop: Any, note: Path) -> None:
    with workshop.working():
        file = begun(workshop, "a.txt", "multiply", note=str(note))
        out_of_time(workshop)
        workshop.until(file, "multiply", "dead")
    assert len(must_end(note)) >= 40
    eventually(lambda: not children_of(nursery_of(workshop)))


def test_who_is_cancelled_is_killed_at_once(workshop: Any, note: Path) -> None:
    with workshop.working():
        file = begun(workshop, "a.txt", "family", note=str(note))
        workshop.services.catalog.cancel_job(workshop.job(file, "family").id, now=workshop.now)
        assert len(must_end(note)) == 4
    assert workshop.job(file, "family").state == "cancelled"
    assert spooled(workshop) == []


def test_a_program_of_a_step_heeds_nobody_who_stops_a_service() -> None:
    with subprocess.Popen(["sleep", "600"], preexec_fn=end_with_parent) as program:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            program.send_signal(number)
        pending = int(next(line for line in Path(f"/proc/{program.pid}/status").read_text().splitlines()
                           if line.startswith("ShdPnd")).split()[1], 16)
        assert [number for number in range(1, 32) if pending >> number - 1 & 1] == [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]
        program.kill()
        assert program.wait() == -signal.SIGKILL


# --- nurseries and workers ---


def test_a_nursery_that_is_killed_takes_its_jobs_along_and_is_started_again(own: Any, note: Path) -> None:
    with own.working():
        file = begun(own, "a.txt", "family", note=str(note))
        first = nursery_of(own)
        os.kill(first, signal.SIGKILL)
        job = eventually(lambda: next((job for job in [own.job(file, "family")] if job.failure), None))
        assert (job.state, job.failure) == ("queued", "the process that starts those of steps has ended")
        pids = [int(pid) for pid in note.read_text().split()]
        in_session = [pid for pid in pids if not is_alive(pid) or os.getsid(pid) == pids[0]]
        eventually(lambda: not [pid for pid in in_session if is_alive(pid)])
        for pid in set(pids) - set(in_session):  # nobody is left who knows of them
            os.kill(pid, signal.SIGKILL)
        other = own.put("b.txt", b"text")
        own.order(other, "noop")
        own.until(other, "noop", "done")
        assert nursery_of(own) != first


def test_a_nursery_that_died_unused_is_noticed(own: Any) -> None:
    assert own.ran("a.txt", b"text", "noop").state == "done"
    first = nursery_of(own)
    os.kill(first, signal.SIGKILL)
    for number in range(3):
        job = own.ran(f"{number}.txt", b"text", "noop")
        assert (job.state, job.attempts) == ("done", 1)
    assert nursery_of(own) != first


def test_a_nursery_that_hangs_is_replaced(own: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("carboy.processing.isolating.isolation._PATIENCE", 0.5)
    assert own.ran("a.txt", b"text", "noop").state == "done"
    first = nursery_of(own)
    os.kill(first, signal.SIGSTOP)
    job = own.ran("b.txt", b"text", "hang")
    assert (job.state, job.failure) == ("dead", "it took longer than 0.2 s")
    assert not is_alive(first)
    assert own.ran("c.txt", b"text", "noop").state == "done"


def test_closing_leaves_no_process(own: Any) -> None:
    own.ran("a.txt", b"text", "noop")
    nursery = nursery_of(own)
    own.services.isolation.close()
    assert not is_alive(nursery)
    assert own.ran("b.txt", b"text", "noop").state == "done"
    assert nursery_of(own) != nursery


def test_jobs_of_many_threads_have_one_nursery(workshop: Any) -> None:
    files = [workshop.put(f"{number}.txt", b"text") for number in range(12)]
    for file in files:
        workshop.order(file, "where")
    with workshop.working(workers=4):
        jobs = [workshop.until(file, "where", "done") for file in files]
    assert len({job.result["pid"] for job in jobs}) == 12
    assert len({job.result["folder"] for job in jobs}) == 12


WORKER = """
import os, sys, threading
from pathlib import Path
import isolated_steps
from carboy.bootstrap import make_ready, open_carboy
from carboy.config import of_application
from carboy.engine.opening import ContentSource
from carboy.engine.receive import Target
from carboy.processing.loop import Loop
from carboy.processing.registry import steps_in

services = open_carboy(of_application({"data": Path(sys.argv[1]), "durability": "relaxed"}), steps=steps_in(isolated_steps))
make_ready(services)
file = services.receiver.receive(Target("main", "a", None, services.settings.spaces["main"]), ContentSource(b"x")).file
order = services.pipeline.order(services.pipeline.named("family"), "main", {"note": sys.argv[2]})
services.catalog.order(file.id, [order], now=0)
loop = Loop(services.catalog, services.leases, services.runner, services.wakes, workers=1)
threading.Thread(target=loop.run, daemon=True).start()
sys.stdin.read()
os._exit(0)
"""


@pytest.mark.parametrize("end", [lambda worker: worker.kill(), lambda worker: worker.stdin.close()], ids=["killed", "ended"])
def test_a_worker_that_is_gone_leaves_no_process(tmp_path: Path, note: Path, end: Callable[[Any], None]) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(isolated_steps.__file__).parent)}
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "data"), str(note)], stdin=subprocess.PIPE, env=env)
    try:
        eventually(lambda: note.exists() and len(note.read_text().split()) == 4)
        nursery, = children_of(worker.pid)
        end(worker)
        assert len(must_end(note)) == 4
        eventually(lambda: not is_alive(nursery))
        spool = tmp_path / "data" / "spool"
        assert [path.name[:5] for path in spool.iterdir()] == ["step-"]
        with own_folder(spool) as folder:
            assert list(spool.iterdir()) == [folder]
    finally:
        worker.kill()
        worker.communicate()


def test_each_process_has_a_nursery_of_its_own(own: Any) -> None:
    """As workers have that were forked, of Celery for one."""
    own.ran("a.txt", b"text", "noop")
    ours = nursery_of(own)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            job = own.ran("b.txt", b"text", "noop")
            os.write(write, f"{job.state} {nursery_of(own)}".encode())
            own.services.isolation.close()
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as told:
        state, nursery = told.read().split()
    os.waitpid(pid, 0)
    assert (state, int(nursery) != ours) == ("done", True)
    assert not is_alive(int(nursery))
    assert own.ran("c.txt", b"text", "noop").state == "done"
    assert nursery_of(own) == ours


def test_a_nursery_lives_on_when_the_thread_that_started_it_ends(own: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(own.ran, "a.txt", b"text", "noop").result().state == "done"
    nursery = nursery_of(own)
    assert own.ran("b.txt", b"text", "noop").state == "done"
    assert nursery_of(own) == nursery


def test_a_worker_of_celery_that_is_killed_leaves_no_process(make_workshop: Any, redis_server: Any, note: Path) -> None:
    """Its pool's processes are daemons, which may have no children by multiprocessing."""
    workshop = make_workshop(broker=redis_server.url, step_modules=("isolated_steps",))
    workshop.now = time.time()
    said = {"CARBOY_BROKER": redis_server.url, "CARBOY_STEP_MODULES": '["isolated_steps"]', "PYTHONPATH": TESTS}
    worker = Worker(workshop.folder / "worker.log", said, "--data", str(workshop.folder / "data"), "--concurrency", "2").start()
    try:
        one, other = workshop.put("a.txt", b"text"), workshop.put("b.txt", b"text")
        workshop.order(one, "where")
        assert workshop.until(one, "where", "done").result["privileges"] == "1"
        workshop.order(other, "family", note=str(note))
        eventually(lambda: note.exists() and len(note.read_text().split()) == 4)
    finally:
        worker.kill()
    assert len(must_end(note)) == 4
