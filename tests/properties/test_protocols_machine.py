"""All resumable protocols at once, against one model of bytes: whichever of them began an upload and whichever wrote to it, the bytes and
offsets that every other tells agree, refusals change nothing, and what is covered is the file, for all of them.

Requests go to a real server, one after another; that many may come at once is tests/protocols' and tests/faults' affair.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import wire
from fixtures_server import Server
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test

MOST = 20_000
SIZES = st.sampled_from([1, 2, 1000, 4096, MOST]) | st.integers(1, MOST)
PORTIONS = st.sampled_from([0, 1, 500, MOST]) | st.integers(0, MOST)
WRITERS = st.sampled_from(["tus", "draft", "range"])
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(eq=False)
class Upload:
    """What the clients know of one upload."""

    id: str
    path: str
    data: bytes
    declared: bool
    there: bytearray = field(default_factory=bytearray)
    complete: bool = False

    @property
    def offset(self) -> int:
        """How many bytes are there without a gap from the start."""
        end = self.there.find(0)
        return len(self.there) if end < 0 else end

    @property
    def size(self) -> int:
        return len(self.data)

    def keep(self, start: int, end: int) -> None:
        self.there[start:end] = b"\1" * (end - start)
        self.complete = self.declared and self.offset == self.size


class ProtocolsMachine(RuleBasedStateMachine):
    server: Server
    uploads = Bundle("uploads")
    count = 0

    def __init__(self) -> None:
        super().__init__()
        self.connection = self.server.connect()

    def teardown(self) -> None:
        self.connection.close()

    def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> wire.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.connection.request(method, target, {**self.server.auth, **given}, body)
        if (answer.header("Connection") or "").lower() == "close":
            self.connection.close()
            self.connection = self.server.connect()
        return answer

    # --- beginning ---

    @rule(target=uploads, size=SIZES, protocol=st.sampled_from(["tus", "draft"]), declared=st.booleans(), first=PORTIONS)
    def begin(self, size: int, protocol: str, declared: bool, first: int) -> Any:
        type(self).count += 1
        path, data = f"protocols/{self.count}.bin", random.Random(self.count).randbytes(size)
        first = min(first, size - 1)
        if protocol == "tus":
            name = base64.b64encode(path.encode()).decode()
            length = {"Upload-Length": str(size)} if declared else {"Upload-Defer-Length": "1"}
            body = {"Content-Type": "application/offset+octet-stream"} if first else {}
            answer = self.ask("POST", "/tus/main/", data[:first], **TUS, **length, **body, **{"Upload-Metadata": f"path {name}"})
        else:
            length = {"Upload-Length": str(size)} if declared else {}
            answer = self.ask("PUT", f"/files/main/{path}", data[:first], **{"Upload-Complete": "?0", **length})
        assert answer.status == 201, answer
        location = answer.header("Location")
        assert location
        upload = Upload(location.rpartition("/")[2], path, data, declared, bytearray(size))
        upload.keep(0, first)
        self.all_agree(upload)
        return upload

    # --- bytes ---

    @rule(upload=uploads, portion=PORTIONS, protocol=WRITERS)
    def go_on(self, upload: Upload, portion: int, protocol: str) -> None:
        """The next bytes, by whichever protocol."""
        start = upload.offset
        end = min(start + portion, upload.size)
        if upload.complete or any(upload.there[start:]):  # parts that lie ahead are compared by ranges alone
            return
        answer = self.write(upload, start, end, protocol)
        if answer is None:
            return
        assert answer.status < 300, answer
        upload.keep(start, end)
        self.all_agree(upload)

    @rule(upload=uploads, start=st.integers(0, MOST), portion=PORTIONS)
    def send_a_part(self, upload: Upload, start: int, portion: int) -> None:
        """Anywhere, and some of it once more."""
        start = min(start, upload.size - 1)
        end = min(start + portion, upload.size)
        if end == start:
            return
        answer = self.write(upload, start, end, "range")
        assert answer is not None and answer.status < 300, answer
        upload.declared = True
        upload.keep(start, end)
        self.all_agree(upload)

    @rule(upload=uploads, by=st.integers(-5, 5), protocol=st.sampled_from(["tus", "draft"]))
    def miss(self, upload: Upload, by: int, protocol: str) -> None:
        """An offset at which it doesn't stand is refused with the right one, and changes nothing."""
        at = upload.offset + by
        if upload.complete or by == 0 or not 0 <= at < upload.size - 1 or any(upload.there[upload.offset:]):
            return
        answer = self.write(upload, at, at + 1, protocol, data=b"?")
        assert answer is not None and answer.status == 409, answer
        assert upload.offset in (answer.json().get("expected"), answer.json().get("expected-offset")), answer
        self.all_agree(upload)

    @rule(upload=uploads, portion=st.integers(1, MOST))
    def contradict(self, upload: Upload, portion: int) -> None:
        """Recorded bytes that come again with another content are refused."""
        end = min(portion, upload.offset)
        if not end:
            return
        wrong = bytes([upload.data[0] ^ 255]) + upload.data[1:end]
        answer = self.write(upload, 0, end, "range", data=wrong)
        assert answer is not None and answer.status == 409, answer
        upload.declared = True  # by the range's length
        upload.keep(0, 0)
        self.all_agree(upload)

    @rule(upload=consumes(uploads), protocol=st.sampled_from(["tus", "draft", "api"]))
    def cancel(self, upload: Upload, protocol: str) -> Any:
        """By whichever: it is gone for all."""
        if upload.complete:
            self.all_agree(upload)
            return
        targets = {"tus": f"/tus/main/{upload.id}", "draft": f"/uploads/{upload.id}", "api": f"/api/v1/uploads/{upload.id}"}
        assert self.ask("DELETE", targets[protocol], **(TUS if protocol == "tus" else {})).status == 204
        assert self.ask("HEAD", targets["tus"], **TUS).status in (404, 410)
        assert self.ask("HEAD", targets["draft"]).status in (404, 410)
        assert self.ask("GET", f"/files/main/{upload.path}").status == 404

    def write(self, upload: Upload, start: int, end: int, protocol: str, *, data: bytes | None = None) -> wire.Response | None:
        data, size = upload.data[start:end] if data is None else data, upload.size
        if protocol == "tus":
            length = {} if upload.declared or end < size else {"Upload-Length": str(size)}
            answer = self.ask("PATCH", f"/tus/main/{upload.id}", data, **TUS, **length, **{
                "Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"})
            upload.declared |= bool(length) and answer.status < 300
            return answer
        if protocol == "draft":
            last = end == size
            answer = self.ask("PATCH", f"/uploads/{upload.id}", data, **{
                "Upload-Offset": str(start), "Upload-Complete": "?1" if last else "?0", "Content-Type": "application/partial-upload"})
            upload.declared |= last and answer.status < 300
            return answer
        if end == start:
            return None
        answer = self.ask("PUT", f"/uploads/{upload.id}", data, **{"Content-Range": f"bytes {start}-{end - 1}/{size}"})
        upload.declared |= answer.status < 300
        return answer

    # --- what all must tell ---

    def all_agree(self, upload: Upload) -> None:
        tus = self.ask("HEAD", f"/tus/main/{upload.id}", **TUS)
        draft = self.ask("HEAD", f"/uploads/{upload.id}")
        api = self.ask("GET", f"/api/v1/uploads/{upload.id}")
        assert (tus.status, draft.status, api.status) == (200, 204, 200), (tus, draft, api)
        assert tus.header("Upload-Offset") == draft.header("Upload-Offset") == str(upload.offset)
        assert draft.header("Upload-Complete") == ("?1" if upload.complete else "?0")
        told = api.json()
        assert (told["offset"], told["state"] == "complete") == (upload.offset, upload.complete)
        assert told["received"] == sum(upload.there)
        file = self.ask("GET", f"/files/main/{upload.path}")
        assert (file.status, file.body) == (200, upload.data) if upload.complete else file.status == 404



@pytest.mark.slow
def test_whichever_protocol_writes_all_tell_the_same(live: Server) -> None:
    machine = type("Protocols", (ProtocolsMachine,), {"server": live})
    run_state_machine_as_test(machine, settings=settings(
        max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)))
