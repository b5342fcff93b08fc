"""What processes cost, from /proc (see proc(5))."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PPID, _UTIME, _CSTIME = 1, 11, 14  # positions after the command's name


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2:].split()


def tree(root: int) -> list[int]:
    """``root`` and all its living descendants."""
    parents = {int(name): stat for name in os.listdir("/proc") if name.isdigit() and (stat := _stat(int(name)))}
    found = [root]
    for pid in found:
        found += [child for child, stat in parents.items() if int(stat[_PPID]) == pid]
    return found


def cpu_seconds(root: int) -> float:
    """User and system seconds of the tree: the living, and the dead that were waited for."""
    stats = [stat for pid in tree(root) if (stat := _stat(pid))]
    return sum(int(field) for stat in stats for field in stat[_UTIME:_CSTIME + 1]) / _TICKS


def rss(pid: int) -> int:
    """Resident bytes now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def pss(pid: int) -> int:
    """Proportional bytes now: pages shared with others count in parts."""
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def peak_rss(pid: int) -> int:
    """The most resident bytes since the start or reset_peak_rss()."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:")


def reset_peak_rss(pid: int) -> None:
    """Begin peak_rss() anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def threads(pid: int) -> int:
    """Threads now."""
    return len(os.listdir(f"/proc/{pid}/task"))


def unlinked(pid: int) -> int:
    """Bytes of the open files that have no name."""
    total = 0
    for fd in os.scandir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            if os.readlink(fd.path).endswith("(deleted)"):
                total += os.stat(fd.path).st_blocks * 512
    return total


def _kilobytes(path: Path, field: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
