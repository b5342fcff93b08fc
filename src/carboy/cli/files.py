"""``carboy ls|stat|put|get|mv|cp|rm|tag``: files on this machine's data, beside a running server. Folders are written with their slash."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from carboy.cli.common import moment, opened, print_json
from carboy.cli.within import ON_CONFLICT, every_file, in_space, is_folder, line, pairs, path_of, printable, shown, who

if TYPE_CHECKING:
    from carboy.bootstrap import Services
    from carboy.model import File, Principal


@click.command()
@click.argument("path", default="")
@click.option("--recursive", "-r", is_flag=True, help="All files below, instead of files and folders.")
@in_space
def ls(path: str, recursive: bool, space: str, owner: str | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """What lies in the folder PATH/, or in the space; or the file PATH."""
    with opened(config, data) as services:
        me = who(owner)
        files, folders = _listed(services, me, space, path, recursive)
        if json_:
            print_json({"folders": folders, "files": [shown(file, path_of(file, me, services)) for file in files]})
            return
        for folder in folders:
            click.echo(f"{'':>14}  {'':20}  {printable(folder)}")
        for file in files:
            click.echo(line(file, path_of(file, me, services)))


def _listed(services: Services, me: Principal, space: str, path: str, recursive: bool) -> tuple[list[File], list[str]]:
    if not is_folder(path):
        return [services.files.at(me, space, path)], []
    if recursive:
        return list(every_file(services, me, space, path)), []
    files: list[File] = []
    folders: list[str] = []
    cursor: str | None = None
    while True:
        page = services.files.page(me, space, prefix=path, cursor=cursor, limit=1000, folders=True)
        files += page.files
        folders += page.folders
        cursor = page.cursor
        if cursor is None:
            return files, folders


@click.command()
@click.argument("path")
@in_space
def stat(path: str, space: str, owner: str | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """All that is known of the file PATH."""
    with opened(config, data) as services:
        me = who(owner)
        file = services.files.at(me, space, path)
        told = shown(file, path_of(file, me, services))
        told["versions"] = [{"number": one.number, "size": one.blob.size, "media_type": one.media_type,
                             "created_at": moment(one.created_at)} for one in services.files.versions(file)]
    if json_:
        print_json(told)
        return
    for name, value in told.items():
        click.echo(f"{name.replace('_', ' '):<12} {printable(str(value)) if value not in (None, [], {}) else '-'}")


@click.command()
@click.argument("local", type=click.Path(path_type=Path, allow_dash=True))
@click.argument("path")
@click.option("--metadata", "-m", multiple=True, metavar="KEY=VALUE", help="What is said of the file; may be given several times.")
@in_space
def put(local: Path, path: str, metadata: tuple[str, ...], space: str, owner: str | None, json_: bool, config: Path | None,
        data: Path | None) -> None:
    """Store the file LOCAL (- for standard input) at PATH, or in the folder PATH/ under its own name."""
    from carboy.engine.names import clean_path
    from carboy.engine.opening import ContentSource

    with opened(config, data) as services, _readable(local) as content:
        me = who(owner)
        target = services.files.target(me, space, clean_path(path + local.name if is_folder(path) else path), metadata=pairs(metadata))
        placed = services.receiver.receive(target, ContentSource(content))
        _tell(services, me, placed.file, "stored" if placed.created else "replaced", json_)


@click.command()
@click.argument("path")
@click.argument("local", type=click.Path(path_type=Path, allow_dash=True), required=False)
@click.option("--version", type=int, help="An older content of the file.")
@click.option("--force", is_flag=True, help="Replace the local file where there is one.")
@in_space
def get(path: str, local: Path | None, version: int | None, force: bool, space: str, owner: str | None, json_: bool, config: Path | None,
        data: Path | None) -> None:
    """Write the bytes of the file PATH to LOCAL (- for standard output); to its own name here, if not given."""
    from carboy.engine.opening import open_blob

    with opened(config, data) as services:
        me = who(owner)
        file = services.files.at(me, space, path)
        older = services.files.version(file, version) if version is not None else None
        storage = services.files.storage(me, file, older)
        with open_blob(older.blob if older else file.blob, storage) as content, _writable(local or Path(file.name), force) as out:
            while piece := content.read(2**20):
                out.write(piece)
        if json_ and str(local) != "-":
            print_json(shown(file, path_of(file, me, services)))


@click.command()
@click.argument("path")
@click.argument("to")
@click.option("--to-space", help="Another space.")
@click.option("--on-conflict", type=ON_CONFLICT, default="refuse", show_default=True, help="Where there is a file already.")
@in_space
def mv(path: str, to: str, to_space: str | None, on_conflict: Any, space: str, owner: str | None, json_: bool, config: Path | None,
       data: Path | None) -> None:
    """Move the file PATH, or the folder PATH/, to the path TO; a file into the folder TO/. Ids, versions, tags and links come along."""
    with opened(config, data) as services:
        me = who(owner)
        if is_folder(path):
            _count("moved", services.changes.move_folder(me, space, path, to, to_space=to_space), json_)
            return
        file = services.files.at(me, space, path)
        moved = services.changes.move(me, file, to + file.name if is_folder(to) else to, space=to_space, on_conflict=on_conflict)
        _tell(services, me, moved, "moved", json_)


@click.command()
@click.argument("path")
@click.argument("to")
@click.option("--to-space", help="Another space.")
@click.option("--on-conflict", type=ON_CONFLICT, default="refuse", show_default=True, help="Where there is a file already.")
@in_space
def cp(path: str, to: str, to_space: str | None, on_conflict: Any, space: str, owner: str | None, json_: bool, config: Path | None,
       data: Path | None) -> None:
    """Copy the file PATH, or the folder PATH/, to the path TO; a file into the folder TO/. No bytes are copied."""
    with opened(config, data) as services:
        me = who(owner)
        if is_folder(path):
            _count("copied", services.changes.copy_folder(me, space, path, to, to_space=to_space), json_)
            return
        file = services.files.at(me, space, path)
        placed = services.changes.copy(me, file, to + file.name if is_folder(to) else to, space=to_space, on_conflict=on_conflict)
        _tell(services, me, placed.file, "copied", json_)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("--recursive", "-r", is_flag=True, help="Folders too.")
@click.option("--permanent", is_flag=True, help="Past the trash; files only.")
@in_space
def rm(paths: tuple[str, ...], recursive: bool, permanent: bool, space: str, owner: str | None, json_: bool, config: Path | None,
       data: Path | None) -> None:
    """Delete files, or with -r folders (PATH/): to the trash, where the space keeps one."""
    if any(is_folder(path) for path in paths) and (permanent or not recursive):
        raise click.UsageError("folders are deleted with -r, and to the trash")
    removed = 0
    with opened(config, data) as services:
        me = who(owner)
        for path in paths:
            if is_folder(path):
                removed += services.changes.delete_folder(me, space, path)
            else:
                services.changes.delete(me, services.files.at(me, space, path), permanent=permanent)
                removed += 1
    _count("deleted", removed, json_)


@click.command()
@click.argument("path")
@click.option("--add", multiple=True, metavar="TAG", help="Add a tag; may be given several times, as the others.")
@click.option("--remove", multiple=True, metavar="TAG", help="Take a tag away.")
@click.option("--set", "set_", multiple=True, metavar="KEY=VALUE", help="Set a value of the metadata.")
@click.option("--unset", multiple=True, metavar="KEY", help="Take a value of the metadata away.")
@in_space
def tag(path: str, add: tuple[str, ...], remove: tuple[str, ...], set_: tuple[str, ...], unset: tuple[str, ...], space: str,
        owner: str | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """Change the tags and the metadata of the file PATH, and show them."""
    with opened(config, data) as services:
        me = who(owner)
        file = services.files.at(me, space, path)
        tags = [one for one in dict.fromkeys([*file.tags, *add]) if one not in remove] if add or remove else None
        metadata = {**pairs(set_), **dict.fromkeys(unset)} if set_ or unset else None
        if tags is not None or metadata is not None:
            file = services.changes.update(me, file, tags=tags, metadata=metadata)
    if json_:
        print_json({"id": file.id, "tags": list(file.tags), "metadata": dict(file.metadata)})
        return
    click.echo(f"tags      {printable(', '.join(file.tags)) or '-'}")
    for key, value in file.metadata.items():
        click.echo(f"metadata  {printable(f'{key}={value}')}")


def _tell(services: Services, me: Principal, file: File, what: str, json_: bool) -> None:
    path = path_of(file, me, services)
    if json_:
        print_json(shown(file, path))
    else:
        click.echo(f"{what} {file.space}/{printable(path)}, {file.size} bytes")


def _count(what: str, files: int, json_: bool) -> None:
    if json_:
        print_json({"files": files})
    else:
        click.echo(f"{what} {files} files")


@contextmanager
def _readable(local: Path) -> Iterator[BinaryIO]:
    if str(local) == "-":
        yield sys.stdin.buffer
        return
    with local.open("rb") as content:
        yield content


@contextmanager
def _writable(local: Path, force: bool) -> Iterator[BinaryIO]:
    """The file is there when all of it is; nothing is replaced unless it may be."""
    if str(local) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if not force and os.path.lexists(local):
        raise click.ClickException(f"there is a file {str(local)!r} already; --force replaces it")
    part = local.with_name(f".{local.name[:200]}.part")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(local)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
