"""What kind of machine measured, without saying which."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from pathlib import Path

from benchmarks.servers.python import python_version


def describe() -> dict[str, str]:
    """Words for the page: processors, memory, kernel, Python."""
    processor = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    virtual = " hypervisor" in Path("/proc/cpuinfo").read_text()
    return {
        "processors": f"{os.cpu_count()} × {processor[1] if processor else platform.machine()}" + (", virtual machine" if virtual else ""),
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "kernel": "Linux " + ".".join(platform.release().split("-")[0].split(".")[:2]),
        "Python": python_version(),
        "SQLite": sqlite3.sqlite_version,
    }
