"""``carboy link create|list|revoke``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carboy.cli.common import Duration, as_json, located, moment, opened, print_json
from carboy.cli.within import in_space, is_folder, printable, who

if TYPE_CHECKING:
    from carboy.bootstrap import Services
    from carboy.model import Link


class Size(click.ParamType[int]):
    """Bytes, or a number with a unit as in the settings."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from carboy.config import parse_size

        try:
            return int(parse_size(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group()
def link() -> None:
    """Make, list and revoke links for those who have no token."""


@link.command()
@click.argument("path")
@click.option("--inbox", is_flag=True, help="To put files into the folder, and see nothing.")
@click.option("--name", default="", help="What the link is for.")
@click.option("--password", help="Asked of everybody who comes by it.")
@click.option("--expires", type=Duration(), metavar="TIME", help="How long it is good for, as 12h or 30d; for ever, if not given.")
@click.option("--max-uses", type=int, help="Most downloads, or files received.")
@click.option("--max-size", type=Size(), help="The largest file that an inbox takes.")
@click.option("--max-bytes", type=Size(), help="The most that all files of an inbox may hold together.")
@in_space
def create(path: str, inbox: bool, name: str, password: str | None, expires: float | None, max_uses: int | None, max_size: int | None,
           max_bytes: int | None, space: str, owner: str | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """A link to the file PATH, or to the folder PATH/. Prints its address, which begins with the server's own."""
    with opened(config, data) as services:
        me = who(owner)
        what: dict[str, Any] = {"kind": "inbox" if inbox else "folder", "space": space, "folder": path}
        if not is_folder(path):
            what = {"kind": "inbox" if inbox else "file", "file": services.files.at(me, space, path)}
        made = services.links.create(me, name=name, password=password, expires_at=time.time() + expires if expires else None,
                                     max_uses=max_uses, max_size=max_size, max_bytes=max_bytes, **what)
        shown = _shown(services, made)
    if json_:
        print_json(shown)
        return
    click.echo(shown["address"])
    click.echo(f"link {made.id}: {_line(made)}", err=True)


@link.command("list")
@in_space
def list_(space: str, owner: str | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """The links of a space."""
    found: list[Link] = []
    with opened(config, data) as services:
        me, cursor = who(owner), None
        while True:
            page, cursor = services.links.list(me, space=space, cursor=cursor, limit=1000)
            found += page
            if cursor is None:
                break
        shown = [_shown(services, one) for one in found]
    if json_:
        print_json(shown)
        return
    for one in found:
        click.echo(f"{one.id}  {_state(one):<8}  {_line(one)}")


@link.command()
@click.argument("id")
@as_json
@located
def revoke(id: str, json_: bool, config: Path | None, data: Path | None) -> None:
    """From now on the link with this ID leads nowhere."""
    with opened(config, data) as services:
        services.links.revoke(who(None), id)
    if json_:
        print_json({"id": id, "state": "revoked"})
    else:
        click.echo(f"link {id} is revoked")


def _state(one: Link) -> str:
    if one.revoked_at is not None:
        return "revoked"
    return "expired" if one.expires_at is not None and one.expires_at <= time.time() else "active"


def _line(one: Link) -> str:
    what = f"{one.kind} {one.space}/{printable(one.path)}" if one.file_id is None else f"file {one.file_id}"
    until = f", until {moment(one.expires_at)}" if one.expires_at is not None else ""
    name = f" {printable(repr(one.name))}" if one.name else ""
    return f"{what}{name}, used {one.uses} times{until}"


def _shown(services: Services, one: Link) -> dict[str, Any]:
    return {"id": one.id, "kind": one.kind, "space": one.space, "file_id": one.file_id, "path": one.path, "name": one.name,
            "state": _state(one), "address": f"/s/{services.links.address(one)}", "password": one.password is not None,
            "uses": one.uses, "received": one.received, "max_uses": one.max_uses, "max_size": one.max_size, "max_bytes": one.max_bytes,
            "created_at": moment(one.created_at), "expires_at": moment(one.expires_at), "revoked_at": moment(one.revoked_at)}
