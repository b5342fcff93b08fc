"""``/api/v1/jobs``: jobs looked at, ordered, retried and cancelled, by those who may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from fixtures_gates import Gated
from fixtures_site import FORM, file, multipart
from sse import Stream


def test_an_upload_lists_its_jobs_and_each_can_be_looked_at(gated: Gated) -> None:
    stored = gated.put("gated/a")
    brief, = stored["jobs"]
    assert (brief["step"], set(brief)) == ("gate", {"id", "step", "state"})
    running = gated.job(brief["id"], "running")
    assert running["file_id"] == stored["id"] and running["space"] == "gated" and running["started_at"] and running["attempts"] == 1
    gated.open("a", "through")
    done = gated.job(brief["id"], "done")
    assert (done["result"], done["progress"], done["failure"], done["waits_for"]) == ({"said": "through", "size": 1}, 1.0, None, [])


def test_a_content_without_steps_has_no_jobs(gated: Gated) -> None:
    stored = gated.put("main/plain")
    assert "jobs" not in stored
    assert gated.api("GET", f"/api/v1/files/{stored['id']}/jobs") == {"jobs": []}


@pytest.mark.parametrize("how", ["form", "widget", "draft"])
def test_every_way_to_upload_tells_the_jobs(gated: Gated, how: str) -> None:
    name = f"way-{how}"
    gated.open(name)
    if how == "draft":
        answer = gated.ask("PUT", f"/files/gated/{name}", {"Upload-Complete": "?1", "Upload-Draft-Interop-Version": "8"}, b"x")
        stored = answer.json()
    else:
        target = "/files/gated/" if how == "form" else "/widgets/dropzone/gated"
        answer = gated.ask("POST", target, {"Content-Type": FORM}, multipart(file("file", name, b"x")))
        stored = answer.json()["files"][0] if how == "form" else answer.json()
    assert answer.status == 201
    assert [job["step"] for job in stored["jobs"]] == ["gate"]


def test_lists_are_filtered_and_come_in_pages(gated: Gated) -> None:
    who = gated.someone(["gated:read,write"])
    files = [gated.put(f"gated/list{number}", who=who) for number in range(3)]
    for number in range(3):
        gated.open(f"list{number}", "die" if number == 1 else "")
    ids = [one["jobs"][0]["id"] for one in files]
    for id in ids:
        gated.job(id, "done", "dead")

    def listed(query: str) -> list[str]:
        return [job["id"] for job in gated.api("GET", f"/api/v1/jobs?{query}")["jobs"] if job["id"] in ids]

    assert listed("space=gated&limit=1000") == ids[::-1]
    assert listed("space=gated&state=dead&limit=1000") == [ids[1]]
    assert listed("space=gated&state=dead&state=done&limit=1000") == ids[::-1]
    assert listed("space=gated&step=other") == [] == listed("space=main")
    assert listed(f"file={files[0]['id']}") == [ids[0]]
    found, cursor = [], ""
    while True:
        page = gated.api("GET", f"/api/v1/jobs?space=gated&limit=2{cursor}")
        found += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert [id for id in found if id in ids] == ids[::-1] and len(found) == len(set(found))


def test_a_dead_job_is_kept_with_its_error_and_tried_again_by_hand(gated: Gated) -> None:
    gated.open("dying", "die")
    id = gated.put("gated/dying")["jobs"][0]["id"]
    assert gated.job(id, "dead")["failure"] == "the gate is shut"
    gated.open("dying", "better")
    assert gated.api("POST", f"/api/v1/jobs/{id}/retry")["state"] == "queued"
    assert gated.job(id, "done")["result"]["said"] == "better"
    refused = gated.api("POST", f"/api/v1/jobs/{id}/retry", status=[409])
    assert (refused["code"], refused["state"]) == ("conflict", "done")


def test_a_cancelled_job_comes_to_nothing(gated: Gated) -> None:
    id = gated.put("gated/stopped")["jobs"][0]["id"]
    gated.job(id, "running")
    assert gated.api("POST", f"/api/v1/jobs/{id}/cancel")["state"] == "cancelled"
    assert gated.api("POST", f"/api/v1/jobs/{id}/cancel")["state"] == "cancelled", "repeatable"
    gated.open("stopped")
    assert gated.api("POST", f"/api/v1/jobs/{id}/retry")["state"] == "queued"
    gated.job(id, "done")
    assert gated.api("POST", f"/api/v1/jobs/{id}/cancel", status=[409])["code"] == "conflict"


def test_steps_are_ordered_by_hand_once_for_the_same_arguments(gated: Gated) -> None:
    gated.open("ordered", "yes")
    id = gated.put("main/ordered")["id"]
    answer = gated.ask("POST", f"/api/v1/files/{id}/jobs", body=b'{"step": "gate", "args": {"size": 7}}')
    job = answer.json()
    assert (answer.status, answer.header("Location"), job["args"]) == (202, f"/api/v1/jobs/{job['id']}", {"size": 7})
    assert gated.job(job["id"], "done")["result"] == {"said": "yes", "size": 7}
    again = gated.ask("POST", f"/api/v1/files/{id}/jobs", body=b'{"step": "gate", "args": {"size": 7}}')
    assert (again.status, again.json()["id"]) == (200, job["id"])
    other = gated.api("POST", f"/api/v1/files/{id}/jobs", {"step": "gate"})
    assert other["id"] != job["id"]
    assert {one["id"] for one in gated.api("GET", f"/api/v1/files/{id}/jobs")["jobs"]} == {job["id"], other["id"]}


def test_a_job_tells_what_it_waits_for(gated: Gated) -> None:
    id = gated.put("main/waits")["id"]
    first = gated.api("POST", f"/api/v1/files/{id}/jobs", {"step": "gate"})
    second = gated.api("POST", f"/api/v1/files/{id}/jobs", {"step": "after"})
    assert (second["state"], second["waits_for"]) == ("waiting", ["gate"])
    gated.open("waits", "first")
    assert gated.job(second["id"], "done")["result"] == {"before": gated.job(first["id"])["result"]}


@pytest.mark.parametrize(("order", "said"), [
    ({"step": "nothing"}, "there is after, "), ({"step": "gate", "args": {"colour": 1}}, "no argument 'colour'"),
    ({"step": "gate", "args": {"size": "large"}}, "'size'"), ({"step": "gate", "args": {"pages": 3}}, "'pages'"),
    ({"step": "pictures"}, "text/plain"), ({"step": "gate", "args": []}, "args"), ({}, "step"), ({"step": "gate", "when": 1}, "'when'")])
def test_wrong_orders_are_refused_and_told_what_would_be_right(gated: Gated, order: dict[str, Any], said: str) -> None:
    id = gated.put("main/wrong")["id"]
    refused = gated.api("POST", f"/api/v1/files/{id}/jobs", order, status=[400])
    assert refused["code"] == "invalid_request" and said in refused["detail"], refused
    assert gated.api("GET", f"/api/v1/files/{id}/jobs") == {"jobs": []}


def test_one_content_has_so_many_jobs_and_no_more(gated: Gated) -> None:
    gated.open("many")
    id = gated.put("main/many")["id"]
    statuses = [gated.ask("POST", f"/api/v1/files/{id}/jobs", body=b'{"step": "gate", "args": {"size": %d}}' % size).status for size in range(202)]
    assert statuses == [202] * 200 + [409] * 2
    assert gated.ask("POST", f"/api/v1/files/{id}/jobs", body=b'{"step": "gate", "args": {"size": 0}}').status in (200, 202), "what is there is"


def test_jobs_are_seen_and_changed_as_their_file_is(gated: Gated) -> None:
    ann, bob, reader = (gated.someone([f"home:{scopes}", f"gated:{scopes}"]) for scopes in ("read,write", "read,write", "read"))
    writer, stranger = gated.someone(["gated:write"]), gated.someone(["other:read,write"])
    shared, own = gated.put("gated/rights", who=ann), gated.put("home/rights", who=ann)
    gated.open("rights")
    in_gated, in_home = (f"/api/v1/jobs/{one['jobs'][0]['id']}" for one in (shared, own))

    def statuses(method: str, target: str) -> list[int]:
        return [gated.ask(method, target, who=who).status for who in (ann, bob, reader, writer, stranger, {})]

    assert statuses("GET", in_gated) == [200, 200, 200, 403, 404, 401]
    assert statuses("GET", in_home) == [200, 404, 404, 404, 404, 401]
    assert statuses("GET", f"/api/v1/files/{own['id']}/jobs") == [200, 404, 404, 404, 404, 401]
    assert statuses("GET", f"/api/v1/jobs?file={own['id']}") == [200, 404, 404, 404, 404, 401]
    gated.job(own["jobs"][0]["id"], "done")
    gated.job(shared["jobs"][0]["id"], "done")
    assert statuses("POST", f"{in_gated}/retry") == [409, 409, 403, 409, 404, 401]
    assert statuses("POST", f"{in_home}/cancel") == [409, 404, 404, 404, 404, 401]
    assert [len(gated.api("GET", "/api/v1/jobs?space=home", who=who)["jobs"]) for who in (ann, bob, reader)] == [1, 0, 0]
    assert in_home.rpartition("/")[2] in {job["id"] for job in gated.api("GET", "/api/v1/jobs?space=home")["jobs"]}, "administrators see all"
    order = b'{"step": "gate", "args": {"size": 3}}'
    assert [gated.ask("POST", f"/api/v1/files/{shared['id']}/jobs", body=order, who=who).status for who in (reader, stranger, {}, bob)] == [403, 404, 401, 202]


def test_who_may_only_write_sees_the_jobs_of_what_they_brought(gated: Gated) -> None:
    writer, other = gated.someone(["gated:write"]), gated.someone(["gated:write"])
    gated.open("brought")
    target = f"/api/v1/jobs/{gated.put('gated/brought', who=writer)['jobs'][0]['id']}"
    assert [gated.ask("GET", target, who=who).status for who in (writer, other)] == [200, 403]


def test_jobs_go_with_their_file_to_another_space(gated: Gated) -> None:
    reader = gated.someone(["gated:read"])
    gated.open("moving")
    stored = gated.put("gated/moving")
    job = stored["jobs"][0]["id"]
    gated.job(job, "done")
    assert gated.ask("GET", f"/api/v1/jobs/{job}", who=reader).status == 200
    gated.api("POST", f"/api/v1/files/{stored['id']}/move", {"space": "other", "path": "moving"})
    assert gated.ask("GET", f"/api/v1/jobs/{job}", who=reader).status == 404
    assert job not in {one["id"] for one in gated.api("GET", "/api/v1/jobs?space=gated&limit=1000", who=reader)["jobs"]}
    assert gated.api("GET", f"/api/v1/jobs/{job}")["space"] == "other"
    assert [one["space"] for one in gated.api("GET", f"/api/v1/jobs?file={stored['id']}")["jobs"]] == ["other"]


def test_a_copys_jobs_are_told_as_its_own(gated: Gated) -> None:
    """What is known of a content says nothing of another place that has it too."""
    reader = gated.someone(["other:read"])
    gated.open("copied")
    stored = gated.put("gated/copied")
    copy = gated.api("POST", f"/api/v1/files/{stored['id']}/copy", {"space": "other", "path": "copied"})
    job, = gated.api("GET", f"/api/v1/files/{copy['id']}/jobs", who=reader)["jobs"]
    assert (job["file_id"], job["space"], job["id"]) == (copy["id"], "other", stored["jobs"][0]["id"])


def test_what_is_no_job_is_not_found(gated: Gated) -> None:
    for method, target in (("GET", "0" * 32), ("POST", f"{'0' * 32}/retry"), ("POST", f"{'0' * 32}/cancel"), ("GET", "x")):
        assert gated.ask(method, f"/api/v1/jobs/{target}").status == 404
    assert gated.ask("GET", "/api/v1/jobs?state=sleeping").status == 400
    assert gated.ask("GET", "/api/v1/jobs?cursor=nonsense").status == 400


def test_what_steps_found_out_about_a_content_that_is_held_back_is_told_to_its_owner(gated: Gated) -> None:
    ann, reader = gated.someone(["held:read,write"]), gated.someone(["held:read"])
    with Stream(gated.url, reader, "?space=held&kinds=job.done") as others, Stream(gated.url, ann, "?space=held&kinds=job.done") as own:
        stored = gated.put("held/kept", who=ann)
        digest, = (job["id"] for job in stored["jobs"] if job["step"] == "digest")
        gated.job(digest, "done")
        assert others.next().data["facts"] == {"step": "digest", "result": None}
        assert own.next().data["facts"]["result"]["size"] == 5

    def results(who: Mapping[str, str]) -> list[bool]:
        targets = f"/api/v1/files/{stored['id']}/jobs", "/api/v1/jobs?space=held", f"/api/v1/jobs?file={stored['id']}"
        listed = [job for target in targets for job in gated.api("GET", target, who=who)["jobs"]]
        return [bool(job["result"]) for job in [*listed, gated.api("GET", f"/api/v1/jobs/{digest}", who=who)] if job["step"] == "digest"]

    assert (results(ann), results(reader), results(gated.auth)) == ([True] * 4, [False] * 4, [True] * 4)
    task = gated.api("POST", f"/api/v1/files/{stored['id']}/jobs", {"step": "processed"}, who=ann)["id"]
    gated.job(task, "done")
    for who, told in ((ann, True), (reader, False), (gated.auth, True)):
        found = gated.api("GET", f"/tasks/{task}", who=who)["result"]
        assert (bool(found["steps"]["digest"]), "sha256" in found) == (told, told)
    gated.open("kept")
    gated.job(next(job["id"] for job in stored["jobs"] if job["step"] == "gate"), "done")
    assert results(reader) == [True] * 4
    assert gated.api("GET", f"/tasks/{task}", who=reader)["result"]["steps"]["digest"]["size"] == 5
