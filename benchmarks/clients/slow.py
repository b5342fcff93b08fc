"""Slow uploads held open, from one process: ``python -m benchmarks.clients.slow PORT COUNT PIECE PERIOD [HEADER …]``.

Each connection sends PIECE bytes every PERIOD seconds, evenly spread in time, of a body that it never finishes. Prints
``steady`` once each has sent three pieces, and runs until its standard input ends; then prints as JSON how many
are still open and what the others were told.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import socket
import sys
import time
from collections import Counter

from benchmarks.clients import http

_DECLARED = 8 << 20  # minutes of sending, and below what reserves room
_CONNECT_RATE = 500  # new connections per second: a crowd, but not an attack


class Crowd:
    """The connections, and when each is due."""

    def __init__(self, port: int, piece: bytes, period: float, headers: list[str]) -> None:
        self._address = "127.0.0.1", port
        self._piece, self._period, self._headers = piece, period, headers
        self._due: list[tuple[float, int]] = []
        self._open: dict[int, socket.socket] = {}
        self._pieces: Counter[int] = Counter()
        self.ends: Counter[str] = Counter()

    def connect(self, number: int) -> None:
        """One more upload begins."""
        sock = socket.create_connection(self._address, timeout=60)
        sock.sendall(http.head("PUT", f"/files/main/slow/{number}.bin", _DECLARED, self._headers))
        sock.setblocking(False)
        self._open[sock.fileno()] = sock
        heapq.heappush(self._due, (time.monotonic() + self._period * (number % 97) / 97, sock.fileno()))

    def step(self) -> None:
        """Send what is due; wait at most until something is."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            when, number = heapq.heappop(self._due)
            if self._send(number):
                heapq.heappush(self._due, (max(when + self._period, now), number))
        if self._due:
            time.sleep(max(0.0, min(0.01, self._due[0][0] - time.monotonic())))

    def _send(self, number: int) -> bool:
        try:
            self._open[number].send(self._piece)
        except BlockingIOError:
            return True  # the server is behind; a slow network would wait as well
        except OSError:
            self._end(number)
            return False
        self._pieces[number] += 1
        return True

    def _end(self, number: int) -> None:
        sock = self._open.pop(number)
        try:
            words = sock.recv(4096).split(b"\r\n\r\n")
            self.ends[(words[0].split(b"\r\n")[0] + b" " + words[-1][:200]).decode(errors="replace")] += 1
        except OSError as error:
            self.ends[str(error)] += 1
        sock.close()

    def steady(self) -> bool:
        """Has each that is open sent three pieces?"""
        return all(self._pieces[number] >= 3 for number in self._open)

    def answered(self) -> None:
        """Take away those whose server has spoken or left: it may not while their bodies go on."""
        poll = select.poll()
        for number in self._open:
            poll.register(number, select.POLLIN | select.POLLHUP)
        for number, _ in poll.poll(0):
            self._end(number)

    def __len__(self) -> int:
        return len(self._open)


def main(port: int, count: int, piece: int, period: float, headers: list[str]) -> None:
    """Connect, hold, tell."""
    crowd = Crowd(port, os.urandom(piece), period, headers)
    started = time.monotonic()
    for number in range(count):
        crowd.connect(number)
        while time.monotonic() < started + number / _CONNECT_RATE:
            crowd.step()
    while not crowd.steady():
        crowd.step()
    print("steady", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        crowd.step()
    crowd.answered()
    print(json.dumps({"open": len(crowd), "ends": crowd.ends}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:])
