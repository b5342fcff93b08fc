"""``/metrics``: numbers of all processes of a server, and who gets them."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wire
import yaml
from fixtures_flask import AppFactory, a_file, make_app
from fixtures_redis import RedisServer
from fixtures_server import READY, Server, ServerFactory, eventually
from fixtures_site import FORM, file, multipart
from flask import request
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from carboy import Carboy
from carboy.metrics import METRICS, READ_OFF, Metric

__all__ = ["make_app"]

BYTES = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}


class Numbers:
    """What ``/metrics`` tells at one moment."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in parse(text) for sample in family.samples]

    def get(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels."""
        return sum(sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items())

    def has(self, name: str) -> bool:
        return any(sample.name == name for sample in self.samples)


def numbers(one: Server) -> Numbers:
    answer = one.request("GET", "/metrics")
    assert answer.status == 200, answer
    return Numbers(answer.text)


def until(one: Server, name: str, value: float, **labels: str) -> Numbers:
    """What is told once this is so; other processes' numbers are a second old."""
    return eventually(lambda: (now := numbers(one)).get(name, **labels) == value and now)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers and a process that runs jobs."""
    folder = tmp_path_factory.mktemp("counting")
    (folder / "carboy.toml").write_text('[spaces]\nmain = { steps = ["digest"] }\nsmall = { max_size = 10 }\n')
    one = Server(folder / "data", workers=2, args=["--config", str(folder / "carboy.toml")])
    yield one.start()
    if one.running:
        one.stop()
    one.must_be_sound()


def upload_tus(one: Server, name: str, data: bytes) -> None:
    """Half of it with the creation, the rest in a request of its own."""
    fields = {**TUS, "Upload-Length": str(len(data)), "Content-Type": BYTES, "Upload-Metadata": f"filename {base64.b64encode(name.encode()).decode()}"}
    made = one.request("POST", "/tus/main/", fields, data[:len(data) // 2])
    assert made.status == 201, made
    target = (made.header("Location") or "").removeprefix(one.url)
    assert one.request("PATCH", target, {**TUS, "Upload-Offset": str(len(data) // 2), "Content-Type": BYTES}, data[len(data) // 2:]).status == 204


def test_sums_are_exact_over_all_processes(counting: Server) -> None:
    """Each request on a connection of its own, so that both workers have some; nothing is lost when one is killed."""
    before = numbers(counting)

    def grown(name: str, by: float, **labels: str) -> Numbers:
        return until(counting, name, before.get(name, **labels) + by, **labels)

    for number in range(12):
        assert counting.request("PUT", f"/files/main/raw{number}", body=bytes(1000)).status == 201
    for number in range(6):
        form = multipart(file("file", f"a{number}", b"1" * 100), file("file", f"b{number}", b"2" * 100))
        assert counting.request("POST", "/files/main/forms/", {"Content-Type": FORM}, form).status == 201
    for number in range(5):
        upload_tus(counting, f"tus{number}", bytes(500))
    grown("carboy_uploads_total", 12, protocol="raw", outcome="complete")
    grown("carboy_uploads_total", 12, protocol="form", outcome="complete")
    now = grown("carboy_uploads_total", 5, protocol="tus", outcome="complete")
    assert now.get("carboy_bodies_total", protocol="tus", outcome="complete") == before.get("carboy_bodies_total", protocol="tus") + 10
    assert now.get("carboy_bodies_total", protocol="form") == before.get("carboy_bodies_total", protocol="form") + 6
    assert now.get("carboy_received_bytes_total", protocol="raw") == before.get("carboy_received_bytes_total", protocol="raw") + 12_000
    assert now.get("carboy_received_bytes_total", protocol="tus") == before.get("carboy_received_bytes_total", protocol="tus") + 2_500
    assert now.get("carboy_requests_total", route="files", method="PUT", status="2xx") == before.get(
        "carboy_requests_total", route="files", method="PUT", status="2xx") + 12
    assert now.get("carboy_request_duration_seconds_count", route="tus") == before.get("carboy_request_duration_seconds_count", route="tus") + 10
    assert now.get("carboy_upload_duration_seconds_bucket", protocol="raw", le="+Inf") == now.get(
        "carboy_upload_duration_seconds_count", protocol="raw")
    assert now.get("carboy_storage_sync_duration_seconds_count", kind="file") >= 12 + 12 + 5
    assert now.get("carboy_catalog_commit_duration_seconds_count") >= 12
    assert now.get("carboy_job_attempts_total", step="digest") <= 29
    assert grown("carboy_job_attempts_total", 29, step="digest", outcome="done").get("carboy_job_duration_seconds_count", step="digest") == 29
    assert (counting.data / "metrics").is_dir()


def test_killed_workers_numbers_stay_and_leave_no_files(counting: Server) -> None:
    for number in range(3):
        before = until(counting, "carboy_processes", 2, role="web").get("carboy_uploads_total", protocol="raw", outcome="complete")
        workers = counting.workers()
        for each in range(4):
            assert counting.request("PUT", f"/files/main/killed{number}-{each}", body=b"x").status == 201
        until(counting, "carboy_uploads_total", before + 4, protocol="raw", outcome="complete")
        os.kill(workers[0], signal.SIGKILL)
        eventually(lambda gone=workers[0]: len(counting.workers()) == 2 and gone not in counting.workers())
        assert counting.request("PUT", f"/files/main/after{number}", body=b"x").status == 201
        until(counting, "carboy_uploads_total", before + 5, protocol="raw", outcome="complete")
    assert len(os.listdir(counting.data / "metrics")) <= 4


def test_how_bodies_and_uploads_end(counting: Server) -> None:
    before = numbers(counting)

    def grown(name: str, by: float, **labels: str) -> Numbers:
        return until(counting, name, before.get(name, **labels) + by, **labels)

    assert counting.request("PUT", "/files/small/long", body=bytes(11)).status == 413
    assert counting.request("PUT", "/files/nowhere/x", body=bytes(11)).status == 404
    with counting.connect() as connection:
        connection.send(wire.head("PUT", "/files/main/cut", {**counting.auth, "Content-Length": "100"}) + b"half")
        connection.end_writing()
        assert connection.response().status == 400
    made = counting.request("POST", "/tus/main/", {**TUS, "Upload-Length": "10"})
    assert made.status == 201
    open_uploads = until(counting, "carboy_open_uploads", before.get("carboy_open_uploads", protocol="tus") + 1, protocol="tus")
    assert open_uploads.get("carboy_catalog_up") == 1
    assert counting.request("DELETE", (made.header("Location") or "").removeprefix(counting.url), TUS).status == 204
    grown("carboy_bodies_total", 2, protocol="raw", outcome="refused")
    grown("carboy_uploads_total", 2, protocol="raw", outcome="refused")
    grown("carboy_bodies_total", 1, protocol="raw", outcome="cut")
    grown("carboy_uploads_total", 1, protocol="raw", outcome="cut")
    grown("carboy_uploads_total", 1, protocol="tus", outcome="cancelled")
    grown("carboy_received_bytes_total", 4, protocol="raw")


def test_a_long_body_counts_while_it_comes(counting: Server) -> None:
    before = numbers(counting).get("carboy_received_bytes_total", protocol="raw")
    with counting.connect() as connection:
        connection.send(wire.head("PUT", "/files/main/slowly", {**counting.auth, "Content-Length": "300000"}) + bytes(100_000))
        now = until(counting, "carboy_received_bytes_total", before + 100_000, protocol="raw")
        assert now.get("carboy_bodies_in_progress") == 1
        assert now.get("carboy_requests_in_progress") >= 1
        connection.send(bytes(200_000))
        assert connection.response("PUT").status == 201
    until(counting, "carboy_bodies_in_progress", 0)
    until(counting, "carboy_received_bytes_total", before + 300_000, protocol="raw")


def test_who_listens_is_seen(counting: Server) -> None:
    with counting.connect() as connection:
        connection.send(wire.head("GET", "/api/v1/events", counting.auth))
        assert until(counting, "carboy_event_streams", 1).get("carboy_requests_in_progress") >= 1
    until(counting, "carboy_event_streams", 0)


def test_what_is_sent_counts_by_what_was_sent(server: ServerFactory) -> None:
    one, target = server(), "/files/main/sent"
    answers = [one.request("PUT", target, body=bytes(5000)), one.request("GET", target, {"Range": "bytes=0-999"}),
               one.request("HEAD", target), one.request("GET", target), one.request("GET", "/files/main/absent")]
    assert [answer.status for answer in answers] == [201, 206, 200, 200, 404]
    until(one, "carboy_sent_bytes_total", sum(len(answer.body) for answer in answers), route="files")


def test_labels_are_few_whatever_comes(counting: Server) -> None:
    """A thousand paths and methods that nobody has thought of make no series of their own."""
    def series(now: Numbers) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {(sample.name, tuple(sorted(sample.labels.items()))) for sample in now.samples}

    before = numbers(counting)
    asked = 0
    for lot in range(10):
        with counting.connect() as connection:
            for each in range(100):
                method = ("GET", "DELETE", "PROPFIND", f"X{lot}{each}")[each % 4]
                target = (f"/wild{lot}-{each}", f"/files/main/wild{lot}/{each}", f"/files/wild{lot}{each}/x", f"/api/v1/wild{each}/{lot}",
                          f"/widgets/wild{each}/main")[each % 5]
                asked += connection.request(method, target, counting.auth).status >= 400
    assert asked == 1000
    total = before.get("carboy_requests_total", status="4xx") + 1000
    after = eventually(lambda: (now := numbers(counting)).get("carboy_requests_total", status="4xx") >= total and now)
    assert isinstance(after, Numbers)
    assert len(series(after)) < len(series(before)) + 60
    assert {sample.labels["method"] for sample in after.samples if "method" in sample.labels} <= {
        "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "other"}
    assert "wild" not in str(series(after))


def test_what_is_told_without_anything_having_happened(server: ServerFactory) -> None:
    now = numbers(server(workers=1))
    assert now.get("carboy_build_info") == now.get("carboy_catalog_up") == 1
    assert now.get("carboy_storage_room_bytes", storage="local") > 0
    assert now.has("carboy_storage_errors_total"), "what isn't there can't be seen to grow"
    assert now.get("carboy_process_resident_memory_bytes") > 10**6
    assert {sample.labels["role"] for sample in now.samples if sample.name == "carboy_processes"} >= {"web"}


def test_both_formats_are_whole(counting: Server) -> None:
    plain = counting.request("GET", "/metrics")
    assert (plain.header("Content-Type") or "").startswith("text/plain; version=0.0.4")
    modern = counting.request("GET", "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"})
    assert (modern.header("Content-Type") or "").startswith("application/openmetrics-text; version=1.0.0")
    known = {one.name for one in [*METRICS.values(), *READ_OFF]}
    assert {family.name for family in parse_openmetrics(modern.text)} == known
    assert {family.name.removesuffix("_total") for family in parse(plain.text)} == known


# --- who may ---


def test_only_an_administrator_of_everything_may_read_it(counting: Server) -> None:
    made = counting.request("POST", "/api/v1/tokens", body=json.dumps({"name": "some", "scopes": ["main:admin", "*:read"]}).encode())
    asked = wire.request(counting.url, "GET", "/metrics", {"Authorization": f"Bearer {made.json()['secret']}"})
    assert (asked.status, asked.json()["code"]) == (403, "forbidden")
    asked = wire.request(counting.url, "GET", "/metrics")
    assert (asked.status, asked.json()["code"]) == (401, "unauthenticated")


def test_open_or_off_as_it_is_set(server: ServerFactory) -> None:
    assert wire.request(server(env={"CARBOY_METRICS": "open"}).url, "GET", "/metrics").status == 200
    off = server(env={"CARBOY_METRICS": "off"})
    assert off.request("GET", "/metrics").status == 404
    assert off.request("PUT", "/files/main/x", body=b"x").status == 201
    assert not (off.data / "metrics").exists()


def test_without_the_package_it_says_what_to_install(server: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "hidden" / "prometheus_client").mkdir(parents=True)
    (tmp_path / "hidden" / "prometheus_client" / "__init__.py").write_text("raise ImportError('it is not installed')")
    answer = server(env={"PYTHONPATH": str(tmp_path / "hidden")}).request("GET", "/metrics")
    assert (answer.status, answer.json()["code"]) == (501, "not_supported")
    assert "carboy[metrics]" in answer.json()["detail"]


# --- jobs ---


def test_queues_and_workers_elsewhere_on_the_same_data(server: ServerFactory, tmp_path: Path) -> None:
    """Jobs wait, and grow older, until `carboy worker` runs them; its numbers are told here."""
    (tmp_path / "carboy.toml").write_text('worker = false\n[spaces]\nmain = { steps = ["digest"] }\n')
    one = server(args=["--config", str(tmp_path / "carboy.toml")])
    for number in range(3):
        assert one.request("PUT", f"/files/main/{number}", body=b"x").status == 201
    now = until(one, "carboy_jobs", 3, step="digest", state="queued")
    assert now.get("carboy_job_attempts_total", step="digest") == 0
    eventually(lambda: numbers(one).get("carboy_job_queue_age_seconds", queue="carboy", step="digest") > now.get(
        "carboy_job_queue_age_seconds", queue="carboy", step="digest"))
    worker = subprocess.Popen([sys.executable, "-m", "carboy.cli.main", "worker", "--data", str(one.data), "--config", str(tmp_path / "carboy.toml")],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    try:
        now = until(one, "carboy_job_attempts_total", 3, step="digest", outcome="done")
        assert now.get("carboy_processes", role="jobs") == 1
    finally:
        worker.terminate()
        worker.wait(wire.LIMIT)
    now = until(one, "carboy_processes", 0, role="jobs")
    assert now.get("carboy_job_attempts_total", step="digest", outcome="done") == 3
    assert READY.search(one.log())


def test_workers_of_celery_count_and_know_whose_job_it_is(server: ServerFactory, redis_server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "carboy.toml").write_text(f'log_format = "json"\nbroker = "{redis_server.url}"\n[spaces]\nmain = {{ steps = ["digest"] }}\n')
    one = server(args=["--config", str(tmp_path / "carboy.toml")])
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen([sys.executable, "-m", "carboy.cli.main", "worker", "--concurrency", "2", "--data", str(one.data), "--config",
                                   str(tmp_path / "carboy.toml")], stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        ids = {one.request("PUT", f"/files/main/{number}", body=b"x").header("X-Request-ID") for number in range(4)}
        until(one, "carboy_job_attempts_total", 4, step="digest", outcome="done")
    finally:
        worker.terminate()
        worker.wait(wire.LIMIT)
    lines = [json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines() if line.startswith("{")]
    assert {line["request_id"] for line in lines if line["message"].endswith("(digest) done")} == ids
    assert numbers(one).get("carboy_job_attempts_total", step="digest", outcome="done") == 4


# --- in an application ---


def test_an_applications_own_registry_is_its_own(make_app: AppFactory) -> None:
    own = CollectorRegistry()
    visits = Counter("visits", "Visits.", registry=own)
    global_before = generate_latest(REGISTRY)
    app = make_app(CARBOY_METRICS="open")
    Carboy(app, expose=["files", "ops"], authenticate=lambda: "ann", authorise=lambda *_: True)
    client = app.test_client()
    app.get("/")(lambda: (visits.inc(), "hello")[1])
    assert client.get("/").status_code == 200
    assert client.put("/carboy/files/main/a", data=b"abc", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 201
    told = Numbers(client.get("/carboy/metrics").text)
    assert told.get("carboy_uploads_total", protocol="raw", outcome="complete") == 1
    assert told.get("carboy_received_bytes_total", protocol="raw") == 3
    assert told.get("carboy_sent_bytes_total", route="files") > 0
    assert told.get("carboy_processes", role="application") == 1
    assert not told.has("visits_total")
    assert b"visits_total 1.0" in generate_latest(own)
    assert b"carboy" not in generate_latest(own) + generate_latest(REGISTRY) + global_before


def test_forms_of_views_and_calls_are_uploads_too(make_app: AppFactory) -> None:
    app = make_app(CARBOY_METRICS="open")
    carboy = Carboy(app, expose=["ops"])
    photos = carboy.space("photos", max_size=100)

    @app.post("/photos")
    @carboy.receives(photos)
    def receive() -> str:
        return request.files["a"].filename or ""

    client = app.test_client()
    assert client.post("/photos", data={"a": a_file(b"1234", "a.txt"), "b": a_file(b"56", "b.txt"), "c": "text"}).status_code == 200
    assert client.post("/photos", data={"c": "text"}, content_type="multipart/form-data").status_code == 400
    assert client.post("/photos", data={"a": a_file(bytes(101), "a.txt")}).status_code == 413
    with app.app_context():
        carboy.put("photos", "c.txt", b"789")
    told = Numbers(client.get("/carboy/metrics").text)
    assert told.get("carboy_uploads_total", protocol="receives", outcome="complete") == 2
    assert told.get("carboy_uploads_total", protocol="receives", outcome="refused") == 1
    assert told.get("carboy_bodies_total", protocol="receives", outcome="complete") == 2
    assert told.get("carboy_received_bytes_total", protocol="receives") == 6
    assert told.get("carboy_uploads_total", protocol="call", outcome="complete") == 1


# --- what ships with it ---

ROOT = Path(__file__).parent.parent.parent


def test_the_page_names_all_there_is_with_its_labels() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    told = {(name, kind, tuple(re.findall(r"`(\w+)`", labels)))
            for name, kind, labels in re.findall(r"^\| `(carboy_\w+)` \| (\w+) \| ([^|]*)\|", page, re.MULTILINE)}
    assert told == {(shown(one), one.kind, one.labels) for one in [*METRICS.values(), *READ_OFF]}


def shown(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.kind == "counter" else metric.name


def expressions() -> Iterator[str]:
    for group in yaml.safe_load((ROOT / "deploy/prometheus-alerts.yml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads((ROOT / "deploy/grafana.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("expression", list(expressions()))
def test_alerts_and_panels_ask_for_what_there_is(expression: str) -> None:
    known = {shown(one): one for one in [*METRICS.values(), *READ_OFF]}
    known.update({f"{one.name}_{part}": one for one in METRICS.values() if one.buckets for part in ("bucket", "sum", "count")})
    names = set(re.findall(r"\bcarboy_\w+", expression))
    assert names <= known.keys()
    labels = {label for name in names for label in known[name].labels} | {"le", "instance", "job"}
    asked = re.findall(r"(\w+)!?=~?\"", expression) + [label.strip() for lot in re.findall(r"by \(([^)]*)\)", expression) for label in lot.split(",")]
    assert set(asked) <= labels
    assert names or "up{" in expression
