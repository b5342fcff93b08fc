"""The step ``digest``."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest


@pytest.mark.parametrize("data", [b"", b"abc", bytes(3 * 2**20 + 5)], ids=["empty", "short", "long"])
def test_the_digest_of_a_content_is_its_jobs_result_and_the_blobs(workshop: Any, data: bytes) -> None:
    job = workshop.ran("a.bin", data, "digest")
    assert (job.state, job.attempts) == ("done", 1)
    assert job.result == {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    assert workshop.file("a.bin").blob.sha256 == hashlib.sha256(data).digest()


def test_jobs_are_run_by_the_loop_in_threads(make_workshop: Any) -> None:
    workshop = make_workshop(spaces={"main": {"steps": ["digest"]}})
    with workshop.working():
        files = [workshop.put(f"{number}.txt", b"x" * number) for number in range(10)]
        for file in files:
            workshop.until(file, "digest", "done")
    assert workshop.counts() == {"done": 10}
