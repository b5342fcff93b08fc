"""What the commands for files share: which space, whose files, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from carboy.cli.common import as_json, located, moment

if TYPE_CHECKING:
    from carboy.bootstrap import Services
    from carboy.model import File, Principal, Shelved

F = TypeVar("F", bound=Callable[..., Any])
ON_CONFLICT = click.Choice(["refuse", "rename", "replace"])


def in_space(command: F) -> F:
    """Let the command take ``--space``, ``--owner``, ``--json``, ``--config`` and ``--data``."""
    command = as_json(located(command))
    command = click.option("--owner", help="Act as this owner: in a private space, in that one's tree; new files are that one's.")(command)
    return click.option("--space", default="main", show_default=True, help="The space.")(command)


def who(owner: str | None) -> Principal:
    """The machine's own people, who may do everything, maybe in somebody's name."""
    from carboy.model import TRUSTED

    return replace(TRUSTED, id=owner)


def is_folder(path: str) -> bool:
    """Folders are written with their slash; nothing at all is the whole space."""
    return path.endswith("/") or not path


def every_file(services: Services, principal: Principal, space: str, prefix: str) -> Iterator[File]:
    """All of them, by path, a page in memory at a time."""
    cursor: str | None = None
    while True:
        page = services.files.page(principal, space, prefix=prefix, cursor=cursor, limit=1000)
        yield from page.files
        cursor = page.cursor
        if cursor is None:
            return


def path_of(file: File, principal: Principal, services: Services) -> str:
    """The path as ``principal`` writes it."""
    home = services.files.inside(principal, "read", file.space)[1]
    return file.path.removeprefix(home)


def shown(file: File, path: str | None = None) -> dict[str, Any]:
    """A file as JSON."""
    from carboy.engine.availability import status_of

    return {"id": file.id, "space": file.space, "path": path or file.path, "size": file.size, "media_type": file.media_type,
            "owner": file.owner, "version": file.version, "crc64nvme": f"{file.blob.crc64nvme:016x}",
            "sha256": file.blob.sha256.hex() if file.blob.sha256 else None, "damaged_at": moment(file.blob.damaged_at),
            "status": status_of(file.blob), "quarantine": file.blob.quarantine,
            "tags": list(file.tags), "metadata": dict(file.metadata), "created_at": moment(file.created_at),
            "modified_at": moment(file.modified_at)}


def shown_shelved(one: Shelved) -> dict[str, Any]:
    """A file in the trash as JSON."""
    return {**shown(one.file), "deleted_at": moment(one.since), "deleted_by": one.by, "expires_at": moment(one.expires_at)}


def line(file: File, path: str) -> str:
    """A file in a list."""
    return f"{file.size:>14}  {moment(file.modified_at)}  {printable(path)}"


def printable(text: str) -> str:
    """A name that can't move the cursor, nor stop the output by bytes that are no UTF-8."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text)


def pairs(values: tuple[str, ...]) -> dict[str, str]:
    """``("key=value", …)`` as a mapping."""
    found = [value.partition("=") for value in values]
    for key, sign, _ in found:
        if not key or not sign:
            raise click.BadParameter("metadata is written KEY=VALUE")
    return {key: value for key, _, value in found}
