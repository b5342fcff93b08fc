"""Many nodes on one database and one bucket: uploads go on at any of them, whatever becomes of the others, and nothing acknowledged is lost."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults.cluster import Cluster
from faults.disk import MIB
from faults.nodes import Round, run_round, take_over
from faults.proxy import Proxy
from fixtures_postgres import running_postgres
from fixtures_s3 import S3Server


@pytest.fixture(scope="module")
def cluster(s3_server: S3Server, postgres_server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes on a PostgreSQL of their own, which is restarted under them."""
    with running_postgres() as postgres, Proxy(s3_server.endpoint) as proxy:
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), 3, postgres, s3_server, proxy)
        try:
            yield cluster.start()
        finally:
            cluster.kill()
        assert cluster.tracebacks == [] and proxy.errors == []


def test_an_upload_that_another_node_still_receives_is_taken_over(cluster: Cluster) -> None:
    """The other is asked to let go, and does; nobody waits until it counts as dead."""
    took = [take_over(cluster, "live", *cluster.nodes[:2]) for _ in range(3)]
    print(f"taken over from a node that lives after {', '.join(f'{one:.2f}' for one in took)} s")
    assert max(took) < 8, took


def test_an_upload_of_a_dead_or_a_stopped_node_is_taken_over_once_it_counts_as_dead(cluster: Cluster) -> None:
    """What the stopped one still does when it goes on harms nothing."""
    first, second, third = cluster.nodes
    with ThreadPoolExecutor(2) as threads:
        jobs = {how: threads.submit(take_over, cluster, how, node, third) for how, node in (("dead", first), ("stopped", second))}
        took = {how: job.result(120) for how, job in jobs.items()}
    print(f"taken over after {took} s")
    assert min(took.values()) > 5, "nobody can know so soon that it is dead"


def test_nodes_that_are_killed_stopped_and_restarted_lose_nothing(cluster: Cluster) -> None:
    """Clients send each request to a node of their own choosing; the database is restarted and S3 fails besides."""
    turn = run_round(cluster, Round(1, 3, seed=11), 10, clients=4, budget=64 * MIB, fault_rate=0.02)
    assert turn.problems == []
    assert sum(turn.strikes.values()) >= 3 and turn.s3_faults > 0, (turn.strikes, turn.s3_faults)
    assert turn.counts["files_acknowledged"] > 10 and turn.counts["chunks_acknowledged"] > 5 and turn.counts["bytes_in_offsets"] > 0
