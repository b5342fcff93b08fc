"""Many nodes on one PostgreSQL database and one S3 bucket, struck under load: killed, stopped, restarted; and the database, and S3's answers.

    python tests/faults/nodes.py --rounds 4 --seconds 60 --nodes 3 --json nodes.json

Clients send each request, each chunk of an upload too, to a node of their own choosing. After a round the nodes are started again and
compared with the journal of what clients were told; the bucket is compared with the catalog. Besides, how long it takes until another node
takes over an upload is measured: from a node that lives, one that is stopped, one that is dead.

The exit status is 1 if anything was lost or wrong. The seed of a round repeats its load and its strikes, not their timing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.check import LOST, Check
from faults.cluster import Cluster, Spray, Strikes, answered
from faults.disk import MIB, until
from faults.journal import Content, Journal
from faults.load import Load
from faults.proxy import Proxy
from faults.runner import Server, request_head
from faults.s3_faults import CUTS, REFUSALS
from faults.sequential import Sequential
from fixtures_postgres import running_postgres
from fixtures_s3 import of_swift, running_swift

LARGEST = 15 * MIB
NEXT = 64 * 2**10
FAULTS = (*REFUSALS, *CUTS)


@dataclass(slots=True)
class Round:
    """What one round did and found."""

    number: int
    nodes: int
    seed: int
    strikes: dict[str, int] = field(default_factory=dict)
    s3_faults: int = 0
    told: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def run_round(cluster: Cluster, turn: Round, seconds: float, *, clients: int = 6, budget: int = 512 * MIB, fault_rate: float = 0.0,
              tell: Callable[[str], None] = lambda text: None) -> Round:
    """Load and strikes for so long, while S3 fails at this rate; then the check. The cluster runs before and after."""
    journal, chance = Journal(), random.Random(turn.seed)
    connects = (Spray(cluster.nodes, random.Random(f"{turn.seed}/{number}"), timeout=8) for number in range(clients))
    lock = threading.Lock()

    def connect() -> Spray:
        with lock:
            return next(connects)

    cluster.proxy.at_random(turn.seed, fault_rate, FAULTS)
    load = Load(connect, journal, turn.seed, clients=clients, budget=budget, largest=LARGEST).start()
    strikes = Strikes(cluster, chance, tell)
    strikes.run(seconds, threading.Event())
    load.stop()
    cluster.proxy.clear()
    faults = sum(bool(request.fault) for request in cluster.proxy.requests)
    del cluster.proxy.requests[:]
    cluster.settle()
    check = Check(cluster, journal).run()
    turn.strikes, turn.s3_faults, turn.told = strikes.counts, faults, dict(sorted(load.told.items()))
    turn.counts, turn.problems = dict(sorted(check.counts.items())), [*check.problems, *left_over(cluster), *cluster.tracebacks]
    cluster.tracebacks.clear()
    return turn


def left_over(cluster: Cluster) -> list[str]:
    """End what is under way, and sweep: multipart uploads that are still there then belong to nobody. What the catalog doesn't know of the
    objects, fsck has told."""
    with closing(cluster.client()) as client:
        for upload in client.uploads():
            client.ask("DELETE", f"/uploads/{upload['id']}")
    done = cluster.run("sweep")
    left = cluster.s3.multiparts(cluster.bucket)
    return [f"sweep: {done.stderr}"] * bool(done.returncode) + [f"a multipart upload is left over: {key}" for key in left]


# --- taking over ---


def take_over(cluster: Cluster, how: str, first: Server, other: Server) -> float:
    """Seconds from when a client turns to another node until that one has acknowledged the next bytes of an upload, of which the first node
    still receives (``live``), or did when it was stopped (``stopped``) or killed (``dead``). The file has its right content in the end."""
    content = Content(random.getrandbits(60), 12 * MIB)
    upload = Sequential(f"taken-{content.seed}", content, "tus")
    with Spray([other], random.Random(0), timeout=60) as client, _begun(cluster, first, upload):
        began = time.monotonic()
        if how == "dead":
            first.kill()
        elif how == "stopped":
            _signal(first, signal.SIGSTOP)
        until(lambda: _goes_on(client, upload, NEXT), f"the upload goes on at another node than the one that is {how}", 60)
        took = time.monotonic() - began
        until(lambda: _goes_on(client, upload, content.size), "it goes on to its end", 60)
        if how == "dead":
            cluster.restart(first)
        elif how == "stopped":
            _signal(first, signal.SIGCONT)
    for node in (first, other):
        with Spray([node], random.Random(0), timeout=60) as client:
            assert client.get(upload.path).body == content.read(), f"{upload.path} is not its content"
    return took


@contextmanager
def _begun(cluster: Cluster, node: Server, upload: Sequential) -> Iterator[None]:
    """The node has got and acknowledged the first megabyte, and receives more than half of the rest, but not its end."""
    with Spray([node], random.Random(0), timeout=60) as client:
        upload.note(upload.create(client, MIB))
    size = upload.content.size - upload.offset
    head = request_head("PATCH", upload.location, size, Tus_Resumable="1.0.0", Upload_Offset=str(upload.offset),
                        Content_Type="application/offset+octet-stream")
    before = cluster.count("leases")
    with socket.create_connection(node.address, timeout=60) as connection:
        connection.sendall(head + upload.content.read(upload.offset, upload.offset + size // 2))
        until(lambda: cluster.count("leases") > before, "the node holds what it receives")
        yield


def _goes_on(client: Spray, upload: Sequential, size: int) -> bool:
    """Whether the next bytes were acknowledged: as clients do, asking where it stands first."""
    stands = answered(lambda: upload.stand(client))
    if stands is None or not stands.ok:
        return False
    offset = upload.offset
    upload.note(stands)
    assert upload.offset >= offset, f"it stands at {upload.offset}; {offset} were acknowledged"
    answer = answered(lambda: upload.append(client, size))
    if answer is None or not answer.ok:
        return False
    upload.note(answer)
    return True


def _signal(node: Server, signal_: signal.Signals) -> None:
    for pid in node.processes():
        os.kill(pid, signal_)


# --- the program ---


def summary(rounds: Sequence[Round]) -> dict[str, object]:
    """The figures of all rounds together."""
    counts: Counter[str] = Counter()
    strikes: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for turn in rounds:
        counts.update(turn.counts)
        strikes.update(turn.strikes)
        told.update(turn.told)
    return {"rounds": len(rounds), "lost": counts[LOST], "problems": sum(len(turn.problems) for turn in rounds),
            "s3_faults": sum(turn.s3_faults for turn in rounds), "strikes": dict(sorted(strikes.items())), "counts": dict(sorted(counts.items())), "told": dict(sorted(told.items()))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long a round's load lasts")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="processes of each node")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--fault-rate", type=float, default=0.02, help="how many of the requests to S3 fail")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", type=Path, help="write the report there")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**9)
    print(f"seed {seed}, Linux {platform.release()}, Python {platform.python_version()}", flush=True)
    rounds: list[Round] = []
    with (tempfile.TemporaryDirectory(prefix="carboy-nodes-", ignore_cleanup_errors=True) as folder, running_postgres() as postgres,
          running_swift() as swift, of_swift(swift) as s3, Proxy(s3.endpoint) as proxy):
        cluster = Cluster(Path(folder), chosen.nodes, postgres, s3, proxy, workers=chosen.workers).start()
        try:
            took = {how: sorted(round(take_over(cluster, how, *cluster.nodes[:2]), 2) for _ in range(times))
                    for how, times in (("live", 11), ("stopped", 2), ("dead", 2))}
            print(f"taken over after {took} seconds", flush=True)
            for number in range(chosen.rounds):
                rounds.append(Round(number + 1, chosen.nodes, seed + number))
                try:
                    run_round(cluster, rounds[-1], chosen.seconds, clients=chosen.clients, fault_rate=chosen.fault_rate)
                except Exception as error:  # what makes a round impossible is a finding, and is shown with the nodes' last words
                    rounds[-1].problems.append(f"failed: {error!r}")
                    rounds[-1].problems += [node.said()[-2000:] for node in cluster.nodes]
                _print_round(rounds[-1])
        finally:
            cluster.kill()
    figures = {"take_over_seconds": took, **summary(rounds)}
    print(json.dumps(figures, indent=2))
    if chosen.json:
        about = {"seed": seed, "kernel": platform.release(), "python": platform.python_version(), "nodes": chosen.nodes, "seconds": chosen.seconds}
        chosen.json.write_text(json.dumps(about | figures | {"each": [asdict(turn) for turn in rounds]}, indent=1) + "\n")
    return 1 if figures["problems"] else 0


def _print_round(turn: Round) -> None:
    counts = Counter(turn.counts)
    print(f"{turn.number:4} {sum(turn.strikes.values()):3} strikes  {counts['files_acknowledged']:5} files {counts['chunks_acknowledged']:4} chunks "
          f"{counts['bytes_read_back'] / MIB:7.1f} MiB read back  lost {counts[LOST]}", flush=True)
    for problem in turn.problems:
        print(f"       {problem}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
