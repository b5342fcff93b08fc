"""The data folder and the disk below it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from carboy.cli.doctor.finding import Finding, ok, problem, warning
from carboy.config import Settings

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "vboxsf", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "ceph", "afs", "ncpfs"}
_VOLATILE = {"tmpfs", "ramfs"}
_RISKY = {"nobarrier", "barrier=0", "data=writeback"}
_HEADROOM = 64 * 2**20
_SYNCS = 5


def check(settings: Settings) -> Iterator[Finding]:
    data = settings.data.absolute()
    if not data.is_dir():
        parent = next(folder for folder in data.parents if folder.is_dir())
        if os.access(parent, os.W_OK):
            yield ok("disk", f"there is no folder {str(data)!r} yet; the first start makes it")
        else:
            yield problem("disk", f"there is no folder {str(data)!r}, and {str(parent)!r} may not be written",
                          f"install -d -m 700 {data}, for the user that runs carboy")
        return
    yield _rights(data)
    yield from _first_token(data)
    yield _file_system(data)
    yield room(data, *_statvfs(data))
    yield _syncs(data)


def is_own(data: Path) -> bool:
    """Whether the folder belongs to who asks: files made in it by another would stand in the server's way."""
    return data.stat().st_uid == os.geteuid()


def _rights(data: Path) -> Finding:
    if not is_own(data):
        return problem("disk", f"{str(data)!r} belongs to user {data.stat().st_uid}, and this is user {os.geteuid()}",
                       "run carboy, and its doctor, as the folder's owner")
    if data.stat().st_mode & 0o077:
        return warning("disk", f"others on this machine may look into {str(data)!r}", f"chmod 700 {data}")
    return ok("disk", f"{str(data)!r} is its owner's alone")


def _first_token(data: Path) -> Iterator[Finding]:
    path = data / "first-token"
    if not path.exists():
        return
    if path.stat().st_mode & 0o077:
        yield problem("disk", f"others on this machine may read {str(path)!r}, the secret of the first token",
                      f"rm {path}, and revoke that token")
    else:
        yield warning("disk", "the first token still lies in the data folder", f"keep it elsewhere, then rm {path}")


def _file_system(data: Path) -> Finding:
    kind, options = mounted(data, Path("/proc/self/mounts").read_text())
    if kind in _NETWORK:
        return problem("disk", f"the data lies on {kind}", "its locks and syncs are not to be relied on; use a local disk, ext4 or xfs")
    if kind in _VOLATILE:
        return warning("disk", f"the data lies on {kind}", "it is gone when the machine restarts; use a disk")
    if kind == "overlay":
        return warning("disk", "the data lies in a container's own layer", "it is gone with the container; mount a volume there")
    if risky := _RISKY & options:
        return problem("disk", f"the {kind} below the data is mounted with {', '.join(sorted(risky))}",
                       "a power cut may then lose what was synced; mount it without")
    return ok("disk", f"the data lies on {kind}")


def mounted(path: Path, mounts: str) -> tuple[str, set[str]]:
    """The kind and the options of the file system that holds ``path``, from the text of /proc/self/mounts."""
    best, found = "", ("unknown", set[str]())
    for line in mounts.splitlines():
        _, at, kind, options, *_ = line.split(" ")
        point = at.encode().decode("unicode_escape")
        if len(point) >= len(best) and path.resolve().is_relative_to(point):
            best, found = point, (kind, set(options.split(",")))
    return found


def _statvfs(data: Path) -> tuple[int, int, int, int]:
    stat = os.statvfs(data)
    return stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize, stat.f_favail, stat.f_files


def room(data: Path, free: int, size: int, inodes: int, all_inodes: int) -> Finding:
    """Whether there is room: bytes and inodes."""
    told = f"{free / 2**30:.1f} GiB of {size / 2**30:.1f} are free"
    if free <= min(_HEADROOM, size // 10):
        return problem("disk", told, "uploads are refused with 507; make room")
    if all_inodes and inodes < max(1000, all_inodes // 100):
        return problem("disk", f"only {inodes} inodes are free", "each stored file needs one; make room")
    if free < max(size // 20, 2**30):
        return warning("disk", told, "make room, or uploads will be refused with 507")
    return ok("disk", told)


def _syncs(data: Path) -> Finding:
    """Written, synced and named, as a file that is received is."""
    took = []
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=data) as folder:
            for number in range(_SYNCS):
                began = time.perf_counter()
                _write_synced(Path(folder), f"{number}")
                took.append(time.perf_counter() - began)
    except OSError as error:
        return problem("disk", f"cannot write and sync in {str(data)!r} ({os.strerror(error.errno or 0)})",
                       "see to the disk and its rights")
    return ok("disk", f"files are written and synced, {sorted(took)[_SYNCS // 2] * 1000:.1f} ms each")


def _write_synced(folder: Path, name: str) -> None:
    file = os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(file, b"x" * 4096)
        os.fdatasync(file)
    finally:
        os.close(file)
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        with suppress(OSError):
            os.close(parent)
