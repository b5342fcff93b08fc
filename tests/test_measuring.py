"""Numbers that processes count, each for itself, and anyone adds up."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_server import eventually

from carboy.ledgers import Reading
from carboy.measuring import MOST_SERIES, Meter
from carboy.metrics import BODIES_NOW, COMMIT_SECONDS, METRICS, READ_OFF, REQUESTS, SWEEPS, Metric


@pytest.fixture
def meters(tmp_path: Path) -> Iterator[Callable[[], Meter]]:
    """Makes meters on one data folder, as if each were a process of its own."""
    made: list[Meter] = []

    def make() -> Meter:
        made.append(Meter(tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.close()


def total(readings: list[Reading], metric: Metric, *labels: str) -> float:
    return sum(one.values.get((metric.name, labels), [0.0])[0] for one in readings)


def in_child(do: Callable[[], None]) -> None:
    """In a forked process, which is then killed in the midst of life."""
    ready, told = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons', about forks beside threads
        pid = os.fork()
    if pid == 0:
        try:
            do()
            os.write(told, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(told)
    assert os.read(ready, 1) == b"x", "the child failed"
    os.close(ready)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_sums_are_of_all_processes(meters: Callable[[], Meter]) -> None:
    one, other = meters(), meters()
    one.add(REQUESTS, ("files", "PUT", "2xx"))
    other.add(REQUESTS, ("files", "PUT", "2xx"), 2)
    other.add(REQUESTS, ("files", "GET", "2xx"))
    other.flush()
    assert total(one.readings(), REQUESTS, "files", "PUT", "2xx") == 3
    assert total(one.readings(), REQUESTS, "files", "GET", "2xx") == 1
    assert sorted(reading.slot for reading in one.readings()) == [0, 1]


def test_what_changes_is_written_by_itself(meters: Callable[[], Meter]) -> None:
    one, other = meters(), meters()
    one.add(SWEEPS)
    eventually(lambda: total(other.readings(), SWEEPS) == 1)


def test_a_histogram_is_its_sum_and_how_many_fell_where(meters: Callable[[], Meter]) -> None:
    one = meters()
    for seconds in (0.00005, 0.0001, 0.0002, 3.0, 99.0):
        one.observe(COMMIT_SECONDS, seconds)
    sum_, *counts = one.readings()[0].values[COMMIT_SECONDS.name, ()]
    assert sum_ == pytest.approx(102.00035)
    assert (counts[0], counts[1], counts[-2], counts[-1], sum(counts)) == (2, 1, 1, 1, 5)


def test_who_comes_next_counts_on_in_the_same_file(meters: Callable[[], Meter], tmp_path: Path) -> None:
    for number in range(1, 5):
        one = meters()
        one.add(SWEEPS)
        assert total(one.readings(), SWEEPS) == number
        one.close()
    assert os.listdir(tmp_path / "metrics") == ["0"]


def test_what_a_killed_process_had_written_stays(meters: Callable[[], Meter], tmp_path: Path) -> None:
    one = meters()

    def count() -> None:
        one.add(SWEEPS, (), 5)
        one.set(BODIES_NOW, 3)
        one.flush()

    in_child(count)
    in_child(count)
    assert total(one.readings(), SWEEPS) == 10
    assert os.listdir(tmp_path / "metrics") == ["0"]
    assert [reading.alive for reading in one.readings()] == [False], "gauges of the dead are of nothing"


def test_a_fork_counts_for_itself_whatever_other_threads_held(meters: Callable[[], Meter], tmp_path: Path) -> None:
    one = meters()
    one.add(SWEEPS)
    assert one._book
    with one._book.lock, one._opening:

        def count() -> None:
            one.add(SWEEPS)
            one.flush()

        in_child(count)
    assert total(one.readings(), SWEEPS) == 2
    assert sorted(os.listdir(tmp_path / "metrics")) == ["0", "1"]


def test_threads_lose_no_count(meters: Callable[[], Meter]) -> None:
    one = meters()

    def count() -> None:
        for _ in range(5000):
            one.add(SWEEPS)
            one.observe(COMMIT_SECONDS, 0.5)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reading, = one.readings()
    assert reading.values[SWEEPS.name, ()] == [20_000.0]
    assert sum(reading.values[COMMIT_SECONDS.name, ()][1:]) == 20_000


def test_a_gauge_is_that_of_the_process_that_lives(meters: Callable[[], Meter]) -> None:
    one, other = meters(), meters()
    one.set(BODIES_NOW, 2)
    one.add(SWEEPS)
    one.close()
    assert (BODIES_NOW.name, ()) not in dict(other.readings()[0].values) or not other.readings()[0].alive
    other.add(SWEEPS)
    assert all((BODIES_NOW.name, ()) not in reading.values for reading in other.readings()), "its file is another's now"


def test_half_a_writing_is_not_read(meters: Callable[[], Meter], tmp_path: Path) -> None:
    one = meters()
    one.add(SWEEPS)
    one.flush()
    one.add(SWEEPS)
    one.flush()
    one.close()
    with (tmp_path / "metrics" / "0").open("r+b") as file:
        file.seek(40)  # in the newest: the second is in the first half
        file.write(b"\0\0\0")
    assert total(meters().readings(), SWEEPS) == 1


@pytest.mark.parametrize("content", [b"", b"nonsense", b"carboy\0\1" + b"\xff" * 16, bytes(3 * 2**20)])
def test_a_file_that_is_none_counts_nothing(meters: Callable[[], Meter], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "0").write_bytes(content)
    one = meters()
    assert one.readings() == []
    one.add(SWEEPS)
    assert total(one.readings(), SWEEPS) == 1


def test_numbers_of_another_version_are_left_out(meters: Callable[[], Meter], monkeypatch: pytest.MonkeyPatch) -> None:
    one = meters()
    one.add(SWEEPS)
    one.add(Metric("carboy_gone", "counter", "It was once."))
    one.add(Metric(REQUESTS.name, "counter", "It had other labels once.", ("old",)), ("x",))
    one.close()
    other = meters()
    assert [set(reading.values) for reading in other.readings()] == [{(SWEEPS.name, ())}]


def test_closing_leaves_no_thread(meters: Callable[[], Meter]) -> None:
    one = meters()
    one.add(SWEEPS)
    assert any(thread.name == "metrics" for thread in threading.enumerate())
    one.close()
    assert not any(thread.name == "metrics" for thread in threading.enumerate())


def test_nothing_is_made_where_there_is_no_data_folder(tmp_path: Path) -> None:
    one = Meter(tmp_path / "absent")
    one.add(SWEEPS)
    assert total(one.readings(), SWEEPS) == 1
    one.close()
    assert not (tmp_path / "absent").exists()


def test_what_cant_be_written_is_counted_here(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("in the way")
    one = Meter(tmp_path)
    one.add(SWEEPS)
    assert total(one.readings(), SWEEPS) == 1
    one.close()


def test_a_descriptor_that_is_anothers_by_now_is_left_alone(meters: Callable[[], Meter], tmp_path: Path) -> None:
    """As after all were closed by somebody who became a daemon."""
    one = meters()
    one.add(SWEEPS)
    assert one._book and one._book.ledger
    number = one._book.ledger._file
    os.close(number)
    taken = os.open(tmp_path / "precious", os.O_RDWR | os.O_CREAT)
    if taken != number:
        os.dup2(taken, number)
        os.close(taken)
    one.add(SWEEPS)
    one.close()
    assert os.fstat(number).st_size == 0, "nothing was written into it, and it is open still"
    os.close(number)


def test_switched_off_it_opens_nothing(tmp_path: Path) -> None:
    one = Meter(tmp_path, on=False)
    one.add(SWEEPS)
    one.observe(COMMIT_SECONDS, 1.0)
    one.set(BODIES_NOW, 1.0)
    one.touch()
    assert one.readings() == []
    assert os.listdir(tmp_path) == []


def test_series_are_bounded(meters: Callable[[], Meter]) -> None:
    one = meters()
    for number in range(MOST_SERIES + 100):
        one.add(REQUESTS, (str(number), "GET", "2xx"))
    assert len(one.readings()[0].values) == MOST_SERIES


def test_what_is_under_way_is_read_off_until_it_is_over(meters: Callable[[], Meter]) -> None:
    """Nothing is counted meanwhile, and yet it is told of."""
    one, other, left = meters(), meters(), [3.0, 2.0, 1.0, 0.0]

    def sample() -> bool:
        one.set(BODIES_NOW, left[0])
        return len(left) > 1 and left.pop(0) > 0

    one.sample(sample)
    one.touch()
    eventually(lambda: any(reading.values.get((BODIES_NOW.name, ())) == [1.0] for reading in other.readings()))


def test_names_follow_the_conventions() -> None:
    every = [*METRICS.values(), *READ_OFF]
    assert len({one.name for one in every}) == len(every)
    for one in every:
        assert one.name.startswith("carboy_") and one.help.endswith(".")
        assert not one.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert (one.kind == "histogram") == bool(one.buckets) == one.name.endswith("_duration_seconds")
        assert list(one.buckets) == sorted(set(one.buckets))
        assert not set(one.labels) & {"path", "id", "file", "principal", "le", "client"}
