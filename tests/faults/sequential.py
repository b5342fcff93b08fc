"""Uploads whose bytes come in order, by the protocols that tell an offset: every offset that a client was told must be there after
the fault, and the upload must go on from it.

A client that got no answer asks where the upload stands, as real ones do, and what it is told counts too.
"""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass, field
from typing import Literal

from faults.journal import Content, Told
from faults.runner import Answer, Client

Protocol = Literal["tus", "draft"]


@dataclass(slots=True, eq=False)
class Sequential:
    """One upload, and what its client was told of it."""

    path: str
    content: Content
    protocol: Protocol
    location: str = ""
    offset: int = 0
    completed: Told | None = None
    busy: threading.Lock = field(default_factory=threading.Lock)

    @property
    def told(self) -> bool:
        """Whether the client knows of anything that must be there."""
        return bool(self.location)

    def create(self, client: Client, first: int) -> Answer:
        """Begin it, with the ``first`` bytes where that is more than none."""
        data = self.content.read(0, first) if first else b""
        if self.protocol == "tus":
            name = base64.b64encode(self.path.encode()).decode()
            body = {"Content_Type": "application/offset+octet-stream"} if data else {}
            return client.ask("POST", "/tus/main/", data, Tus_Resumable="1.0.0", Upload_Length=str(self.content.size),
                              Upload_Metadata=f"filename {name}", **body)
        return client.ask("PUT", f"/files/main/{self.path}", data, Upload_Complete="?0", Upload_Length=str(self.content.size))

    def append(self, client: Client, size: int) -> Answer:
        """Send the next ``size`` bytes."""
        end = min(self.offset + size, self.content.size)
        data, last = self.content.read(self.offset, end) if end > self.offset else b"", end == self.content.size
        if self.protocol == "tus":
            return client.ask("PATCH", self.location, data, Tus_Resumable="1.0.0", Upload_Offset=str(self.offset),
                              Content_Type="application/offset+octet-stream")
        return client.ask("PATCH", self.location, data, Upload_Offset=str(self.offset), Upload_Complete="?1" if last else "?0",
                          Content_Type="application/partial-upload")

    def stand(self, client: Client) -> Answer:
        """Ask where it stands."""
        return client.ask("HEAD", self.location, None, **({"Tus_Resumable": "1.0.0"} if self.protocol == "tus" else {}))

    def note(self, answer: Answer, sent: int = 0) -> None:
        """Remember what an answer of any of these told."""
        if not answer.ok:
            return
        self.location = self.location or answer.headers.get("Location", "")
        self.offset = int(answer.headers.get("Upload-Offset", self.offset + sent))
        if self.offset == self.content.size:
            self.completed = "yes"
