"""``carboy token create|list|revoke``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carboy.cli.common import Duration, as_json, located, moment, opened, print_json

if TYPE_CHECKING:
    from carboy.model import Token


@click.group()
def token() -> None:
    """Make, list and revoke bearer tokens."""


@token.command()
@click.option("--name", required=True, help="What the token is for, to know it by in the list.")
@click.option("--scope", "scopes", multiple=True, required=True, metavar="SPACE:ACTIONS",
              help="As 'main:read,write' or '*:admin'; may be given several times.")
@click.option("--expires", type=Duration(), metavar="TIME", help="How long it is good for, as 12h or 30d; for ever, if not given.")
@as_json
@located
def create(name: str, scopes: tuple[str, ...], expires: float | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """Make a token and print its secret, which is shown only now."""
    from carboy.engine.tokens import parse_scopes
    from carboy.model import TRUSTED

    parsed = parse_scopes(scopes)
    with opened(config, data) as services:
        made, secret = services.tokens.create(name, parsed, expires_at=time.time() + expires if expires else None,
                                               by=services.files.act(TRUSTED))
    if json_:
        print_json({**_shown(made), "secret": secret})
        return
    click.echo(secret)
    click.echo(f"token {made.id}: {_line(made)}; its secret is shown only now", err=True)


@token.command("list")
@as_json
@located
def list_(json_: bool, config: Path | None, data: Path | None) -> None:
    """All tokens, without their secrets."""
    with opened(config, data) as services:
        tokens = services.tokens.all()
    if json_:
        print_json([_shown(each) for each in tokens])
        return
    for each in tokens:
        click.echo(f"{each.id}  {_state(each):<8}  {_line(each)}")


@token.command()
@click.argument("id")
@located
def revoke(id: str, config: Path | None, data: Path | None) -> None:
    """From now on the token with this ID proves nothing."""
    from carboy.model import TRUSTED

    with opened(config, data) as services:
        services.tokens.revoke(id, by=services.files.act(TRUSTED))
    click.echo(f"token {id} is revoked")


def _state(token: Token) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at is not None and token.expires_at <= time.time() else "active"


def _scopes(token: Token) -> list[str]:
    return [f"{space}:{','.join(sorted(actions))}" for space, actions in sorted(token.scopes.items())]


def _line(token: Token) -> str:
    until = f", until {moment(token.expires_at)}" if token.expires_at is not None else ""
    return f"{token.name!r} {' '.join(_scopes(token))}{until}"


def _shown(token: Token) -> dict[str, Any]:
    return {"id": token.id, "name": token.name, "scopes": _scopes(token), "state": _state(token),
            "created_at": moment(token.created_at), "expires_at": moment(token.expires_at),
            "revoked_at": moment(token.revoked_at)}
