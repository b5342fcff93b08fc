"""A file system that can lose power: a file, a loop device, a mount, and the ioctl that stops it dead."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

FileSystem = Literal["ext4", "xfs"]

GOING_DOWN = 0x8004587D
"""``EXT4_IOC_SHUTDOWN`` and ``XFS_IOC_GOINGDOWN`` are the same number."""
NO_LOG_FLUSH = 2

MIB = 2**20


class Disk:
    """A fresh file system of ``size`` bytes in ``folder``, mounted at ``.root`` between :meth:`mount` and :meth:`unmount`."""

    def __init__(self, folder: Path, kind: FileSystem = "ext4", size: int = 1024 * MIB) -> None:
        self.kind = kind
        self.root = folder / "mnt"
        self._image = folder / f"{kind}.img"
        self.root.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(size)
        _run(f"mkfs.{kind}", "-q", str(self._image))

    def mount(self, options: str = "") -> None:
        """Mounting replays the journal, as after any power cut."""
        _run("mount", "-t", self.kind, "-o", ",".join(filter(None, ["loop", options])), str(self._image), str(self.root))

    def unmount(self) -> None:
        """Waits for the last process that used it to be gone."""
        until(lambda: _run("umount", str(self.root), check=False) == 0, "the file system is free to unmount", 30)

    def cut_power(self) -> None:
        """From now on nothing reaches the disk; what was not synced by now is lost, the journal's tail included."""
        root = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(root, GOING_DOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(root)

    def go_read_only(self) -> None:
        """What ext4 does by itself on finding an error, where it is mounted with ``errors=remount-ro``: it takes no more
        writes, though files are open for writing."""
        device = Path(f"/sys/dev/block/{os.major(os.stat(self.root).st_dev)}:{os.minor(os.stat(self.root).st_dev)}").resolve()
        Path(f"/sys/fs/ext4/{device.name}/trigger_fs_error").write_text("test")

    def repair(self) -> None:
        """What an operator does then: unmount, check, mount."""
        self.unmount()
        _run("fsck.ext4", "-f", "-y", str(self._image), check=False)
        self.mount()

    def destroy(self) -> None:
        """Unmount if mounted, also where somebody still holds it, and remove the image."""
        while os.path.ismount(self.root):
            try:
                self.unmount()
            except TimeoutError:
                _run("umount", "--lazy", str(self.root))
        self._image.unlink(missing_ok=True)
        self.root.rmdir()


def until(condition: Callable[[], object], what: str, limit: float = 60.0) -> None:
    """Wait for a condition, asking 50 times a second; TimeoutError names what never came."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"after {limit} s still not: {what}")
        time.sleep(0.02)


def _run(*command: str, check: bool = True) -> int:
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if check and done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.returncode


def why_not(*tools: str) -> str:
    """Why disks can't be made here, or an empty text. ``tools`` are further programs that are needed."""
    if os.geteuid() != 0:
        return "needs root: it mounts file systems"
    missing = [tool for tool in ("mount", "umount", "mkfs.ext4", "mkfs.xfs", *tools) if not shutil.which(tool)]
    if missing:
        return f"needs {', '.join(missing)}"
    return "" if Path("/dev/loop-control").exists() else "needs loop devices: there is no /dev/loop-control"
