"""``carboy jobs list|show|retry|cancel|run``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carboy.cli.common import as_json, located, moment, opened, print_json
from carboy.cli.within import every_file, in_space, printable, who

if TYPE_CHECKING:
    from carboy.bootstrap import Services
    from carboy.jobs import Job

STATES = click.Choice(["waiting", "queued", "running", "done", "dead", "cancelled"])


@click.group()
def jobs() -> None:
    """What files go through in the background."""


@jobs.command("list")
@click.option("--space", help="Ordered for the files of this space; of all, if not given.")
@click.option("--file", "file_id", help="Ordered for the file with this id, wherever it is.")
@click.option("--step", help="Of this step alone.")
@click.option("--state", "states", type=STATES, multiple=True, help="In this state alone; may be given several times.")
@click.option("--limit", type=click.IntRange(0), default=100, show_default=True, help="Most jobs; 0 for all.")
@as_json
@located
def list_(space: str | None, file_id: str | None, step: str | None, states: tuple[Any, ...], limit: int, json_: bool, config: Path | None,
          data: Path | None) -> None:
    """Jobs, the newest first."""
    found: list[Job] = []
    with opened(config, data) as services:
        cursor = None
        while not limit or len(found) < limit:
            most = min(1000, limit - len(found)) if limit else 1000
            page, cursor = _page(services, space, cursor, most, file_id=file_id, step=step, states=states)
            found += page
            if cursor is None:
                break
    _tell(found, json_)


def _page(services: Services, space: str | None, cursor: str | None, limit: int, **asked: Any) -> tuple[list[Job], str | None]:
    from carboy.jobs import JobFilter
    from carboy.model import TRUSTED

    if space is None and asked["file_id"] is None:
        return services.catalog.jobs(JobFilter(step=asked["step"], states=asked["states"]), cursor=cursor, limit=limit)
    return services.work.page(TRUSTED, space or "", cursor=cursor, limit=limit, **asked)


@jobs.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@as_json
@located
def show(ids: tuple[str, ...], json_: bool, config: Path | None, data: Path | None) -> None:
    """The jobs with these IDs, with their results and failures."""
    from carboy.model import TRUSTED

    with opened(config, data) as services:
        found = [services.work.get(TRUSTED, id) for id in ids]
    if json_:
        print_json([_shown(job) for job in found])
        return
    for job in found:
        for name, value in _shown(job).items():
            click.echo(f"{name:<12} {printable(value if isinstance(value, str) else json.dumps(value))}")


@jobs.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@as_json
@located
def retry(ids: tuple[str, ...], json_: bool, config: Path | None, data: Path | None) -> None:
    """Dead or cancelled jobs are queued again."""
    from carboy.model import TRUSTED

    with opened(config, data) as services:
        _tell([services.work.retry(TRUSTED, id) for id in ids], json_)


@jobs.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@as_json
@located
def cancel(ids: tuple[str, ...], json_: bool, config: Path | None, data: Path | None) -> None:
    """Nothing comes of these jobs any more. What they held back stays held back."""
    from carboy.model import TRUSTED

    with opened(config, data) as services:
        _tell([services.work.cancel(TRUSTED, id) for id in ids], json_)


@jobs.command()
@click.argument("step")
@click.argument("paths", nargs=-1, metavar="[PATH]…")
@click.option("--all", "all_", is_flag=True, help="All files of the space that the step takes.")
@click.option("--args", "given", default="{}", metavar="JSON", help="What the step takes, as a JSON object.")
@in_space
def run(step: str, paths: tuple[str, ...], all_: bool, given: str, space: str, owner: str | None, json_: bool, config: Path | None,
        data: Path | None) -> None:
    """Have files go through a STEP: a worker does it. A content that has been through it with the same arguments isn't again."""
    from carboy.engine.names import clean_path
    from carboy.processing.pipeline import takes

    if bool(paths) == all_:
        raise click.UsageError("give the paths of files, or --all")
    args = _object(given)
    with opened(config, data) as services:
        me = who(owner)
        if all_:
            wanted = services.pipeline.named(step)
            files = (file for file in every_file(services, me, space, "") if takes(wanted, file))
        else:
            files = (services.files.at(me, space, clean_path(path)) for path in paths)
        _tell([services.work.order_for(me, file, step, args) for file in files], json_)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise click.BadParameter("--args is a JSON object, such as '{\"size\": 100}'")
    return value


def _tell(found: list[Job], json_: bool) -> None:
    if json_:
        print_json([_shown(job) for job in found])
        return
    for job in found:
        more = job.failure if job.state in ("dead", "queued") and job.failure else job.phrase
        place = f"{job.space}  {job.file_id}"
        click.echo(f"{job.id}  {job.state:<9}  {job.step:<16}  {moment(job.changed_at)}  {place}  {printable(more)}".rstrip())


def _shown(job: Job) -> dict[str, Any]:
    return {"id": job.id, "step": job.step, "state": job.state, "progress": job.progress, "phrase": job.phrase, "attempts": job.attempts,
            "args": dict(job.args), "result": None if job.result is None else dict(job.result), "failure": job.failure,
            "file_id": job.file_id, "space": job.space, "owner": job.owner, "created_at": moment(job.created_at),
            "changed_at": moment(job.changed_at), "due_at": moment(job.due_at), "started_at": moment(job.started_at),
            "waits_for": list(job.after) if job.state == "waiting" else []}
