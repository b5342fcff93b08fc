"""Who is given a content that is held back, or in quarantine: every way out, for everybody."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import wire
from fixtures_server import USED, Server
from fixtures_site import Site

import carboy.web
from carboy.bootstrap import Services, close, open_carboy
from carboy.config import load
from carboy.engine.availability import check_available, status_of
from carboy.engine.opening import ContentSource
from carboy.engine.watching import Watch, Wish
from carboy.errors import Pending, Quarantined
from carboy.jobs import Job, JobState, Outcome
from carboy.model import NOBODY, TRUSTED, Blob, File, Principal, key_for, new_id
from carboy.processing.keeping import Attachments
from carboy.processing.step import Context, step

CONFIG = """
worker = false

[spaces]
main = { hold = ["digest"], versions = 3 }
kept = { hold = ["digest"] }
shop = { public = "read", hold = ["digest"] }
home = { private = true, hold = ["digest"] }
twins = { on_conflict = "rename" }
small = {}
"""
SIGNATURE = "Bad-Thing"
STATES = ("pending", "quarantined")


@dataclass
class Warehouse:
    """A server whose jobs nobody runs: the tests say what comes of them."""

    site: Site
    services: Services
    number: int = 0
    links: dict[str, str] = field(default_factory=dict)

    def ask(self, who: str, method: str, target: str, headers: dict[str, str] | None = None, value: Any = None) -> wire.Response:
        body = None if value is None else json.dumps(value).encode()
        return self.site.ask(method, target, headers or {}, body, who=who)

    def put(self, path: str, data: bytes, who: str = "ann") -> dict[str, Any]:
        answer = self.site.ask("PUT", f"/files/{path}", {}, data, who=who)
        assert answer.status in (200, 201), answer
        made: dict[str, Any] = answer.json()
        return made

    def settle(self, id: str, **outcome: Any) -> None:
        """What holds the file's content has come to this."""
        catalog, file = self.services.catalog, self.services.catalog.file(id)
        assert file
        job, = catalog.jobs_of(file.blob.id)
        claim, = catalog.claim_jobs(self.services.leases.instance(), now=time.time() + 1, steps=["digest"], id=job.id)
        assert catalog.finish_job(claim, Outcome(**outcome), now=time.time())

    def guarded(self, state: str, *, space: str = "main", older: bool = False, who: str = "ann") -> dict[str, Any]:
        """A file of ann's in a folder of its own; ``older``: what is guarded is its first version, and the second is ready."""
        self.number += 1
        path = f"{space}/{state}-{self.number}/a.txt"
        made = self.put(path, b"guarded", who)
        assert made["status"] == "pending", "the answer of the upload tells it"
        if state != "pending":
            self.settle(made["id"], **({"quarantine": SIGNATURE} if state == "quarantined" else {}))
        if older:
            made = self.put(path, b"harmless", who)
            self.settle(made["id"])
        return made

    def link(self, **wishes: Any) -> str:
        answer = self.ask("ann", "POST", "/api/v1/links", value=wishes)
        assert answer.status == 201, answer
        return str(answer.json()["url"])


@pytest.fixture(scope="module")
def shared_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    folder = tmp_path_factory.mktemp("warehouse")
    (folder / "carboy.toml").write_text(CONFIG)
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")])
    site = Site(server.start()).settle()
    boss = site.ask("POST", "/api/v1/tokens", body=json.dumps({"name": "boss", "scopes": [f"{one}:admin" for one in ("main", "shop", "home")]}).encode())
    site.secrets["boss"] = boss.json()["secret"]
    services = open_carboy(load(folder / "carboy.toml", data=folder / "data"))
    yield Warehouse(site, services)
    close(services)
    server.stop()
    server.must_be_sound()


@pytest.fixture
def house(request: pytest.FixtureRequest, shared_warehouse: Warehouse) -> Warehouse:
    request.node.stash.setdefault(USED, []).append(shared_warehouse.site.server)
    return shared_warehouse


# --- every way out over HTTP ---


Way = Callable[[Warehouse, dict[str, Any], str], wire.Response]
"""Asks for the file's bytes, as somebody."""


def by_path(method: str = "GET", query: str = "", **headers: str) -> Way:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda house, file, who: house.ask(who, method, f"/files/{file['space']}/{file['path']}{query}", fields)


def by_id(method: str = "GET", query: str = "") -> Way:
    return lambda house, file, who: house.ask(who, method, f"/api/v1/files/{file['id']}/content{query}")


def if_changed(house: Warehouse, file: dict[str, Any], who: str) -> wire.Response:
    return house.ask(who, "GET", f"/files/{file['space']}/{file['path']}", {"If-None-Match": file["etag"]})


def zipped(*, ids: bool) -> Way:
    def way(house: Warehouse, file: dict[str, Any], who: str) -> wire.Response:
        named = {"ids": [file["id"]]} if ids else {"paths": [file["path"]]}
        return house.ask(who, "POST", "/api/v1/zip", value={"space": file["space"], **named})
    return way


def copied(house: Warehouse, file: dict[str, Any], who: str) -> wire.Response:
    house.number += 1
    return house.ask(who, "POST", f"/api/v1/files/{file['id']}/copy", value={"path": f"copies/{house.number}"})


def copied_away(house: Warehouse, file: dict[str, Any], who: str) -> wire.Response:
    house.number += 1
    return house.ask(who, "POST", f"/api/v1/files/{file['id']}/copy", value={"path": f"copies/{house.number}", "space": "twins"})


def copied_with_its_folder(house: Warehouse, file: dict[str, Any], who: str) -> wire.Response:
    house.number += 1
    folder = file["path"].partition("/")[0]
    return house.ask(who, "POST", "/api/v1/folders/copy", value={"space": file["space"], "path": f"{folder}/", "to": f"copies/{house.number}/"})


def copied_in_bulk(house: Warehouse, file: dict[str, Any], who: str) -> wire.Response:
    house.number += 1
    answer = house.ask(who, "POST", "/api/v1/bulk", value={"operations": [{"op": "copy", "id": file["id"], "to": f"copies/{house.number}"}]})
    result, = answer.json()["results"]
    return wire.Response(result["status"], "", (), json.dumps(result.get("problem", {})).encode())


def brought_back(house: Warehouse, file: dict[str, Any], who: str) -> wire.Response:
    return house.ask(who, "POST", f"/api/v1/files/{file['id']}/versions/1/restore", value={})


def by_filepond(house: Warehouse, file: dict[str, Any], who: str) -> wire.Response:
    return house.ask(who, "GET", f"/widgets/filepond/{file['space']}?load={file['id']}")


WAYS: dict[str, tuple[Way, int]] = {
    "by path": (by_path(), 200), "HEAD": (by_path("HEAD"), 200), "a range": (by_path(Range="bytes=2-3"), 206),
    "several ranges": (by_path(Range="bytes=0-0,2-3"), 206), "download": (by_path(query="?download"), 200),
    "digest": (by_path("HEAD", Want_Repr_Digest="sha-256=1"), 200), "if changed": (if_changed, 304),
    "by id": (by_id(), 200), "HEAD by id": (by_id("HEAD"), 200), "as version 1": (by_id(query="?version=1"), 200),
    "zipped by id": (zipped(ids=True), 200), "zipped by path": (zipped(ids=False), 200),
    "copied": (copied, 201), "copied to another space": (copied_away, 201), "copied with its folder": (copied_with_its_folder, 201),
    "copied in bulk": (copied_in_bulk, 200), "FilePond": (by_filepond, 200),
}
OLDER: dict[str, tuple[Way, int]] = {
    "by path": (by_path(query="?version=1"), 200), "HEAD": (by_path("HEAD", "?version=1"), 200), "by id": (by_id(query="?version=1"), 200),
    "brought back": (brought_back, 200),
}
REFUSED = {"pending": (409, "pending"), "quarantined": (403, "quarantined")}
OTHERS = ("bob", "reader")


def must_be_refused(answer: wire.Response, state: str) -> None:
    status, code = REFUSED[state]
    assert answer.status == status, answer
    if answer.body:
        problem = answer.json()
        assert problem["code"] == code
        assert problem.get("steps") == (["digest"] if state == "pending" else None)
        assert problem.get("reason") == (SIGNATURE if state == "quarantined" else None)


def may(who: str, way: str) -> bool:
    """Whether the person has the right that the way wants."""
    return who != "reader" or not way.startswith(("copied", "brought"))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("way", "older"), [*((way, False) for way in WAYS), *((way, True) for way in OLDER)])
def test_every_way_out(house: Warehouse, way: str, older: bool, state: str) -> None:
    ask, success = (OLDER if older else WAYS)[way]
    for who in [*OTHERS, "ann", "boss"]:
        file = house.guarded(state, older=older)
        if not may(who, way):
            assert ask(house, file, who).status == 403
        elif who == "boss" and way == "copied to another space":
            assert ask(house, file, who).status == 404
        elif state == "quarantined" or who in OTHERS:
            must_be_refused(ask(house, file, who), state)
        else:
            assert ask(house, file, who).status == success, "the owner and administrators may have it"


@pytest.mark.parametrize("way", sorted(WAYS))
def test_what_is_through_goes_every_way(house: Warehouse, way: str) -> None:
    ask, success = WAYS[way]
    assert ask(house, house.guarded("ready"), "bob").status == success


@pytest.mark.parametrize("state", STATES)
def test_public_spaces(house: Warehouse, state: str) -> None:
    file = house.guarded(state, space="shop")
    for method in ("GET", "HEAD"):
        must_be_refused(house.ask("nobody", method, f"/files/shop/{file['path']}"), state)
    must_be_refused(house.ask("nobody", "GET", f"/api/v1/files/{file['id']}/content"), state)
    browser = house.ask("nobody", "GET", f"/files/shop/{file['path']}", {"Accept": "text/html"})
    assert (browser.status, b"guarded" in browser.body) == (REFUSED[state][0], False)


def test_what_nobody_has_put_is_nobodys_to_have(house: Warehouse) -> None:
    """A file without an owner is not everybody's own who has no name either."""
    target = house.services.files.target(Principal(None, "trusted", TRUSTED.scopes), "shop", "nobodys")
    file = house.services.receiver.receive(target, ContentSource(b"guarded")).file
    assert file.owner is None and file.blob.held
    must_be_refused(house.ask("nobody", "GET", "/files/shop/nobodys"), "pending")


@pytest.mark.parametrize("state", STATES)
def test_by_links(house: Warehouse, state: str) -> None:
    file = house.guarded(state)
    folder = file["path"].partition("/")[0]
    to_file, to_folder = house.link(kind="file", file_id=file["id"], max_uses=1), house.link(kind="folder", space="main", path=f"{folder}/")
    for _ in range(2):
        must_be_refused(house.ask("nobody", "GET", to_file), state)
    must_be_refused(house.ask("nobody", "GET", f"{to_folder}/a.txt"), state)
    must_be_refused(house.ask("ann", "HEAD", to_file), state)
    shown = house.ask("nobody", "GET", to_folder).json()["files"]
    assert [(one["name"], one["status"]) for one in shown] == [("a.txt", state)]
    page = house.ask("nobody", "GET", to_folder, {"Accept": "text/html"}).text
    assert "?download" not in page and ("being checked" if state == "pending" else "in quarantine") in page
    if state == "pending":
        house.settle(file["id"])
        assert house.ask("nobody", "GET", to_file).status == 200, "what was refused is no use of the link"


@pytest.mark.parametrize("state", STATES)
def test_zips_leave_out_what_is_not_given(house: Warehouse, state: str) -> None:
    file = house.guarded(state)
    folder = file["path"].partition("/")[0]
    other = house.put(f"main/{folder}/b.txt", b"harmless")
    house.settle(other["id"])
    for who, names in (("bob", ["b.txt"]), ("ann", ["a.txt", "b.txt"] if state == "pending" else ["b.txt"])):
        answer = house.ask(who, "POST", "/api/v1/zip", value={"space": "main", "paths": [f"{folder}/"]})
        assert sorted(zipfile.ZipFile(io.BytesIO(answer.body)).namelist()) == [f"{folder}/{name}" for name in names]


def test_zips_that_were_made_before(house: Warehouse) -> None:
    file = house.guarded("pending")
    wanted = {"space": "main", "ids": [file["id"]]}
    made = house.ask("ann", "POST", "/api/v1/zip", {"Accept": "application/json"}, wanted).json()
    assert house.ask("ann", "GET", made["url"]).status == 200
    house.settle(file["id"], quarantine=SIGNATURE)
    for method in ("GET", "HEAD"):
        must_be_refused(house.ask("ann", method, made["url"]), "quarantined")


def test_a_private_tree_is_its_owners_before_the_check(house: Warehouse) -> None:
    file = house.guarded("pending", space="home")
    assert house.ask("ann", "GET", f"/files/home/{file['path']}").body == b"guarded"
    assert house.ask("bob", "GET", f"/api/v1/files/{file['id']}/content").status == 404


def test_a_path_that_is_replaced_stays_its_owners(house: Warehouse) -> None:
    """What bob puts at ann's path is held back from him too: the file is hers."""
    file = house.guarded("ready")
    replaced = house.put(f"main/{file['path']}", b"by bob", "bob")
    assert (replaced["owner"], replaced["status"]) == (file["owner"], "pending")
    must_be_refused(house.ask("bob", "GET", f"/files/main/{file['path']}"), "pending")


# --- what stays possible ---


@pytest.mark.parametrize("state", STATES)
def test_everything_but_the_bytes_stays_possible(house: Warehouse, state: str) -> None:
    file = house.guarded(state)
    folder, one = file["path"].partition("/")[0], f"/api/v1/files/{file['id']}"
    reason = SIGNATURE if state == "quarantined" else None
    for who in ("ann", "bob", "reader"):
        shown = house.ask(who, "GET", one).json()
        assert (shown["status"], shown["quarantine"]) == (state, reason)
    listed, = house.ask("bob", "GET", f"/api/v1/files?space=main&prefix={folder}/").json()["files"]
    version, = house.ask("bob", "GET", f"{one}/versions").json()["versions"]
    assert (listed["status"], version["status"], version["quarantine"]) == (state, state, reason)
    assert house.ask("bob", "PATCH", one, value={"tags": ["odd"]}).json()["tags"] == ["odd"]
    assert house.ask("bob", "POST", f"{one}/move", value={"path": f"{folder}/b.txt"}).status == 200
    mover = "bob" if state == "quarantined" else "ann"
    moved = house.ask(mover, "POST", f"{one}/move", value={"path": "a.txt", "space": "small", "on_conflict": "replace"})
    assert (moved.status, moved.json()["status"]) == (200, state), "it goes with the content into spaces that hold nothing"
    must_be_refused(house.ask("bob", "GET", "/files/small/a.txt"), state)
    assert house.ask("bob", "DELETE", one).status == 204
    assert house.ask("bob", "POST", f"/api/v1/trash/{file['id']}/restore", value={}).status == 200
    must_be_refused(house.ask("bob", "GET", "/files/small/a.txt"), state)
    assert house.ask("bob", "DELETE", f"{one}?permanent=1").status == 204


def test_the_page_says_so(house: Warehouse) -> None:
    browser = {"Accept": "text/html"}
    for state, note in (("pending", "still being checked"), ("quarantined", "in quarantine")):
        file = house.guarded(state)
        for who, downloads in (("bob", False), ("ann", state == "pending")):
            page = house.ask(who, "GET", f"/page/files/{file['id']}", browser).text
            assert note in page and ("?download" in page) is downloads
        folder = house.ask("bob", "GET", f"/files/main/{file['path'].partition('/')[0]}/", browser).text
        assert "?download" not in folder


# --- holds can't be got around ---


def test_a_copy_into_a_space_that_holds_is_held(house: Warehouse) -> None:
    made = house.put("small/free.txt", b"free")
    assert made["status"] == "ready"
    copy = house.ask("ann", "POST", f"/api/v1/files/{made['id']}/copy", value={"path": "from-small.txt", "space": "kept"}).json()
    assert copy["status"] == "pending"
    must_be_refused(house.ask("bob", "GET", "/files/kept/from-small.txt"), "pending")
    moved = house.put("small/moved.txt", b"moved")
    answer = house.ask("ann", "POST", f"/api/v1/files/{moved['id']}/move", value={"path": "moved.txt", "space": "kept"}).json()
    assert answer["status"] == "pending"


@pytest.mark.parametrize("before", ["queued", "running", "done", "dead"])
def test_a_step_that_held_nothing_before_holds_in_a_space_that_says_so(make_workshop: Any, before: str) -> None:
    """However far it had come where it was ordered without holding, the content is not through by that."""
    workshop = make_workshop(spaces={"free": {"steps": ["digest"]}, "strict": {"hold": ["digest"]}})
    catalog, services = workshop.services.catalog, workshop.services
    file = workshop.put("a", b"data", "free")
    claim = None
    if before != "queued":
        claim, = catalog.claim_jobs(services.leases.instance(), now=workshop.now, steps=["digest"])
    if before == "done":
        assert catalog.finish_job(claim, Outcome({"of": "free"}), now=workshop.now)
    elif before == "dead":
        assert catalog.fail_job(claim, "it failed", now=workshop.now, due_at=None)
    copy = services.changes.copy(TRUSTED, file, "a", space="strict").file
    job = workshop.job(file, "digest")
    assert (copy.blob.held, job.holds, job.space, job.state) == (1, True, "strict", "dead" if before == "dead" else "queued")
    if before == "running":
        assert claim and not catalog.finish_job(claim, Outcome(), now=workshop.now), "it went by the rules of the other space"
    if before == "dead":
        catalog.retry_job(job.id, now=workshop.now)
    workshop.drain()
    assert workshop.file("a", "strict").blob.held == 0
    assert workshop.file("a", "free").blob.held == 0


# --- what steps found out ---


@step("look", spaces=())
def look(context: Context) -> Outcome:
    """Lets no secret through."""
    with context.stream() as content:
        said = content.read().decode()
    return Outcome({"said": said}, release=said != "secret")


def test_what_was_found_out_is_held_back_with_the_content_it_is_about(make_workshop: Any) -> None:
    """Also while the file has another content, and by whoever has a job tried again."""
    workshop = make_workshop(look, spaces={"main": {"hold": ["look"], "versions": 3}})
    services, start = workshop.services, workshop.services.catalog.latest()
    workshop.put("a", b"secret", owner="ann")
    workshop.drain()
    held = workshop.job(workshop.file("a"), "look")
    workshop.put("a", b"harmless", owner="ann")
    workshop.drain()
    for who, told in (("ann", "secret"), ("bob", None)):
        principal = Principal(who, "token", {"main": frozenset({"read", "write"})})
        watch = Watch(principal, Wish(space="main"), services.settings, services.files, services.catalog)
        watch.begin()
        heard = [watch.told(one)["facts"]["result"] for one in services.catalog.happened(start)[0] if one.kind == "job.done"]
        assert heard[:2] == [{"said": told} if told else None, {"said": "harmless"}]
        assert services.work.get(principal, held.id).result == heard[0]
        assert [one.result for one in services.work.siblings(principal, held)] == heard[:1]
        assert services.work.retry(principal, held.id).result == heard[0]
        workshop.drain()


@pytest.mark.parametrize(("state", "given"), [("ready", {"ann", "bob", "reader"}), ("pending", {"ann"}), ("quarantined", set())])
def test_what_was_made_of_it_is_not_even_listed(house: Warehouse, state: str, given: set[str]) -> None:
    file = house.guarded("pending")
    stored = house.services.catalog.file(file["id"])
    assert stored
    job, = house.services.catalog.jobs_of(stored.blob.id)
    with Attachments(job, house.services.storages["local"]) as made:
        made.add("160.webp", b"made of it", "image/webp", {})
        house.settle(file["id"], derived=made.derived(), release=state == "ready", quarantine=SIGNATURE if state == "quarantined" else None)
        made.kept()
    listed = {who: house.ask(who, "GET", f"/api/v1/files/{file['id']}/derived").json()["derived"] for who in ("ann", "bob", "reader")}
    assert {who: [one["name"] for one in found] for who, found in listed.items()} == {
        who: ["160.webp"] if who in given else [] for who in listed}


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("way", ["a file", "a folder"])
def test_who_is_not_given_it_takes_it_nowhere(make_workshop: Any, way: str, older: bool) -> None:
    """Not to a space of its own, where it would be given it. What is in quarantine is given nobody there either."""
    workshop = make_workshop(spaces={"inbox": {"hold": ["digest"], "versions": 3}, "team": {"versions": 3}})
    services, catalog = workshop.services, workshop.services.catalog
    everything = frozenset({"read", "write", "delete"})
    bob = Principal("bob", "token", {"inbox": everything, "team": frozenset({"admin"})})
    ann = Principal("ann", "token", {"inbox": everything, "team": everything})
    file = workshop.put("d/a", b"guarded", "inbox", owner="ann")
    job = workshop.job(file, "digest")
    if older:
        file = workshop.put("d/a", b"harmless", "inbox", owner="ann")
        claim, = catalog.claim_jobs(services.leases.instance(), now=workshop.now, steps=["digest"], id=workshop.job(file, "digest").id)
        assert catalog.finish_job(claim, Outcome(), now=workshop.now)

    def move(who: Principal, here: str, there: str) -> None:
        if way == "a file":
            services.changes.move(who, services.files.get(who, file.id), "d/a", space=there)
        else:
            services.changes.move_folder(who, here, "d/", "d/", to_space=there)

    with pytest.raises(Pending) as error:
        move(bob, "inbox", "team")
    assert error.value.facts["steps"] == ["digest"] and workshop.file("d/a", "inbox").id == file.id
    services.changes.move(bob, services.files.get(bob, file.id), "d/b")
    services.changes.move(bob, services.files.get(bob, file.id), "d/a")
    move(ann, "inbox", "team")
    move(bob, "team", "inbox")
    claim, = catalog.claim_jobs(services.leases.instance(), now=workshop.now, steps=["digest"], id=job.id)
    assert catalog.finish_job(claim, Outcome(quarantine=SIGNATURE), now=workshop.now)
    move(bob, "inbox", "team")
    with pytest.raises(Quarantined):
        services.files.storage(bob, workshop.file("d/a", "team"), services.files.version(workshop.file("d/a", "team"), 1))


@pytest.mark.parametrize("way", ["a file", "a folder"])
def test_older_contents_are_held_where_their_file_comes_to(make_workshop: Any, way: str) -> None:
    workshop = make_workshop(spaces={"free": {"versions": 3}, "strict": {"hold": ["digest"], "versions": 3}})
    services, bob = workshop.services, Principal("bob", "token", {"strict": frozenset({"read"})})
    for data in (b"first", b"second", b"third"):
        file = workshop.put("d/a", data, "free", owner="ann")
    if way == "a file":
        services.changes.move(TRUSTED, file, "d/a", space="strict")
    else:
        services.changes.move_folder(TRUSTED, "free", "d/", "d/", to_space="strict")
    moved = services.files.get(bob, file.id)
    for number in (1, 2, 3):
        with pytest.raises(Pending) as error:
            services.files.storage(bob, moved, services.files.version(moved, number))
        assert error.value.facts["steps"] == ["digest"]
    assert workshop.drain() == 3
    for number in (1, 2, 3):
        services.files.storage(bob, services.files.get(bob, file.id), services.files.version(moved, number))


# --- the function itself ---


class _Jobs:
    def __init__(self, *jobs: Job) -> None:
        self._jobs = list(jobs)

    def jobs_of(self, blob_id: str) -> list[Job]:
        return self._jobs


def test_the_steps_that_are_told() -> None:
    id = new_id()
    blob = Blob(id, "local", key_for(id), 1, 0, held=1)
    file = File(new_id(), "main", "a", "ann", "text/plain", {}, blob, 1, 0.0, 0.0)
    def job(step: str, state: JobState, *, holds: bool = True, failure: str | None = None) -> Job:
        return Job(step, id, file.id, "main", "ann", step, "1", state, holds=holds, failure=failure)

    through, kept_back = job("look", "done"), job("scan", "done", failure="not let through")
    dead, other = job("preview", "dead", failure="it failed"), job("digest", "queued", holds=False)
    for jobs, told in (((through, kept_back, dead, other, kept_back), ["scan", "preview"]), ((through, other), []), ((), [])):
        with pytest.raises(Pending) as error:
            check_available(NOBODY, file, None, _Jobs(*jobs))
        assert error.value.facts["steps"] == told
    assert status_of(blob) == "pending"
    for who in (Principal("ann", "token"), TRUSTED, Principal("x", "token", {"main": frozenset({"admin"})})):
        check_available(who, file, None, _Jobs())
    check_available(NOBODY, file, None, _Jobs(), pending=True)
    with pytest.raises(Quarantined):
        check_available(TRUSTED, file, None, _Jobs(), blob=Blob(id, "local", key_for(id), 1, 0, quarantine=""), pending=True)


GIVING = {"calls.py", "jobcalls.py", "forms.py", "shared.py", "browse.py", "api/derived.py", "protocols/widgets/receiving.py"}


def test_the_modules_that_give_bytes_out_are_known() -> None:
    """Who adds another asks the function there, and a way to the tables above."""
    root = Path(carboy.web.__file__).parent
    opens = re.compile(r"open_blob\(|\bstorages\[|files\.storage\(|\breader\(")
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if opens.search(path.read_text())}
    assert found - {"download.py", "stored.py"} == GIVING
