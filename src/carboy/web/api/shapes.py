"""The one shape of each thing as JSON, files and uploads excepted, which :mod:`carboy.web.render` has. :mod:`carboy.web.answers`
describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from carboy.engine.availability import status_of
from carboy.engine.files import Files
from carboy.engine.finding import Account
from carboy.jobs import Derived
from carboy.model import AuditEntry, File, Folder, Link, Shelved, Version, Zip
from carboy.web.call import Call
from carboy.web.render import address, file_json, instant


def shown(call: Call, file: File) -> dict[str, Any]:
    """A file as everybody who may see it sees it."""
    return file_json(call.services.files, file)


def version_json(call: Call, file: File, version: Version, *, current: bool) -> dict[str, Any]:
    blob = version.blob
    return {"number": version.number, "current": current, "size": blob.size, "media_type": version.media_type, "etag": f'"{blob.id}"',
            "status": status_of(blob), "quarantine": blob.quarantine,
            "crc64nvme": f"{blob.crc64nvme:016x}", "sha256": blob.sha256.hex() if blob.sha256 else None,
            "created_at": instant(version.created_at),
            "content_url": address(f"/api/v1/files/{file.id}/content") + ("" if current else f"?version={version.number}")}


def versions_json(call: Call, file: File, older: Sequence[Version]) -> list[dict[str, Any]]:
    """The newest first."""
    now = Version(file.version, file.blob, file.media_type, file.modified_at)
    return [version_json(call, file, now, current=True), *(version_json(call, file, version, current=False) for version in older)]


def derived_json(file_id: str, derived: Derived) -> dict[str, Any]:
    """What a step made of the file's content."""
    return {"step": derived.step, "name": derived.name, "media_type": derived.media_type, "size": derived.blob.size,
            "etag": f'"{derived.blob.id}"', "facts": dict(derived.facts), "created_at": instant(derived.created_at),
            "content_url": derived_address(file_id, derived)}


def derived_address(file_id: str, derived: Derived) -> str:
    return address(f"/api/v1/files/{file_id}/derived/{quote(derived.step)}/{quote(derived.name)}")


def folder_json(folder: Folder) -> dict[str, Any]:
    return {"path": folder.path, "files": folder.files, "bytes": folder.bytes}


def trashed_json(call: Call, shelved: Shelved) -> dict[str, Any]:
    return {"file": shown(call, shelved.file), "deleted_at": instant(shelved.since), "deleted_by": shelved.by,
            "expires_at": instant(shelved.expires_at)}


def link_json(files: Files, link: Link, url: str) -> dict[str, Any]:
    """A link without its password."""
    return {"id": link.id, "kind": link.kind, "space": link.space, "path": files.shown(link.space, link.path), "file_id": link.file_id,
            "name": link.name, "url": url, "password": link.password is not None, "max_uses": link.max_uses, "max_size": link.max_size,
            "max_bytes": link.max_bytes, "uses": link.uses, "received": link.received, "created_by": link.created_by,
            "created_at": instant(link.created_at), "expires_at": instant(link.expires_at), "revoked_at": instant(link.revoked_at)}


def account_json(account: Account | None) -> dict[str, Any] | None:
    """What is kept and what may be, in bytes."""
    if account is None:
        return None
    usage = account.usage
    return {"files": usage.files, "bytes": usage.bytes, "older": usage.older, "trash": usage.trash, "used": usage.total,
            "quota": account.quota, "free": account.free}


def entry_json(entry: AuditEntry) -> dict[str, Any]:
    """An entry of the audit log, its path as the catalog has it: who may read the log may see all of the space."""
    return {"id": entry.id, "at": instant(entry.at), "principal": entry.by.principal, "kind": entry.by.kind, "request": entry.by.request,
            "address": entry.by.address, "action": entry.action, "space": entry.space, "path": entry.path, "file_id": entry.file_id,
            "facts": dict(entry.facts)}


def zip_json(zip: Zip) -> dict[str, Any]:
    return {"id": zip.id, "url": address(f"/api/v1/zip/{zip.id}"), "name": zip.name, "size": zip.size, "files": len(zip.entries),
            "expires_at": instant(zip.expires_at)}
