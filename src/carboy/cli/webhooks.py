"""``carboy webhooks …``: who is told of what happens, what they took, and sending it again."""

from __future__ import annotations

import json
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carboy.cli.common import Duration, as_json, located, moment, opened, print_json
from carboy.cli.within import printable

if TYPE_CHECKING:
    from carboy.catalog.base_hooks import Delivery
    from carboy.processing.webhooks.office import Known

STATES = ("waiting", "queued", "sending", "taken", "dead")


@click.group()
def webhooks() -> None:
    """Show the webhooks of the settings, and send again what they were told."""


@webhooks.command("list")
@as_json
@located
def list_(json_: bool, config: Path | None, data: Path | None) -> None:
    """All webhooks, with how many messages are in which state."""
    with opened(config, data) as services:
        known = services.webhooks.all()
    if json_:
        print_json([{"name": one.name, "url": one.rules.url, "events": one.rules.events, "spaces": one.rules.spaces, "begun": one.begun,
                     "deliveries": one.counts} for one in known])
        return
    for one in known:
        click.echo(_hook_line(one))


@webhooks.command()
@click.argument("name")
@located
def secret(name: str, config: Path | None, data: Path | None) -> None:
    """The secret by which the receiver proves messages of the webhook NAME."""
    with opened(config, data) as services:
        click.echo(services.webhooks.secret(name))


@webhooks.command()
@click.argument("name")
@located
def test(name: str, config: Path | None, data: Path | None) -> None:
    """Send the webhook NAME a message of the type webhook.test, and show what it answers."""
    with opened(config, data) as services:
        answer = services.webhooks.test(name)
    if not answer.is_taken:
        raise click.ClickException(f"not taken: {answer.said}")
    click.echo(answer.said)


@webhooks.command()
@click.argument("name")
@click.option("--state", type=click.Choice(STATES), help="Those in this state alone.")
@click.option("--file", "file_id", help="Those about the file with this id.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Most of them.")
@click.option("--json", "json_", is_flag=True, help="Print a JSON object in each line, with the message.")
@located
def deliveries(name: str, state: Any, file_id: str | None, limit: int, json_: bool, config: Path | None, data: Path | None) -> None:
    """What the webhook NAME was told or is to be, the last first."""
    from carboy.catalog.base_hooks import DeliveryFilter

    filter, cursor = DeliveryFilter(subject=file_id, state=state), None
    with opened(config, data) as services:
        for shown in count(0, 1000):
            found, cursor = services.webhooks.deliveries(name, filter, cursor=cursor, limit=min(1000, limit - shown))
            for one in found:
                click.echo(json.dumps(_delivery(one)) if json_ else _line(one))
            if cursor is None or shown + len(found) >= limit:
                return


@webhooks.command()
@click.argument("name")
@click.option("--id", help="The message with this id.")
@click.option("--file", "file_id", help="Those about the file with this id.")
@click.option("--since", type=Duration(), metavar="TIME", help="Those that were made in this time, as 12h or 3d.")
@click.option("--state", type=click.Choice(("queued", "taken", "dead")), help="Those in this state alone.")
@located
def replay(name: str, id: str | None, file_id: str | None, since: float | None, state: Any, config: Path | None, data: Path | None) -> None:
    """Send the webhook NAME again what it was told, taken or not, under the same ids and in the same order."""
    from carboy.catalog.base_hooks import DeliveryFilter

    if not (id or file_id or since or state):
        raise click.UsageError("say what is to be sent again: --id, --file, --since or --state")
    with opened(config, data) as services:
        done = services.webhooks.replay(name, DeliveryFilter(id, file_id, state, time.time() - since if since else None))
    click.echo(f"{done} messages are sent again")


def _hook_line(one: Known) -> str:
    counts = ", ".join(f"{one.counts[state]} {state}" for state in STATES if state in one.counts)  # type: ignore[index]
    return f"{one.name:<20} {one.rules.url}  {counts or ('nothing yet' if one.begun else 'not begun')}"


def _line(one: Delivery) -> str:
    return (f"{moment(one.created_at)}  {one.id}  {one.kind:<20} {one.state:<8} {one.attempts} attempts"
            + (f"  {printable(one.answer)}" if one.answer else ""))


def _delivery(one: Delivery) -> dict[str, Any]:
    return {"id": one.id, "kind": one.kind, "state": one.state, "attempts": one.attempts, "answer": one.answer,
            "created_at": moment(one.created_at), "changed_at": moment(one.changed_at), "due_at": moment(one.due_at),
            "message": json.loads(one.body)}
