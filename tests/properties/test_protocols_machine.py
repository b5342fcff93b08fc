"""All resumable protocols at once, against one model of bytes: whichever of them began an upload and whichever wrote to it, the bytes and
offsets that every other tells agree, refusals change nothing, and what is covered is the file, for all of them. Widgets know their own
uploads alone, by names that they gave them; all others know those by their ids.

Requests go to a real server, one after another; that many may come at once is tests/protocols' and tests/faults' affair.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import pytest
import wire
from fixtures_server import Server
from fixtures_site import FORM, Site, file, multipart
from fixtures_site import field as text
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test

MOST = 20_000
SIZES = st.sampled_from([1, 2, 1000, 4096, MOST]) | st.integers(1, MOST)
PORTIONS = st.sampled_from([0, 1, 500, MOST]) | st.integers(0, MOST)
WRITERS = st.sampled_from(["tus", "draft", "range"])
TUS = {"Tus-Resumable": "1.0.0"}
WIDGETS = ["dropzone", "resumablejs", "flowjs", "filepond"]
STRIDE = 700
"""Resumable.js and Flow.js tell where a chunk belongs by its number."""


@dataclass(eq=False)
class Upload:
    """What the clients know of one upload."""

    id: str
    protocol: str
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

    @rule(target=uploads, size=SIZES.filter(lambda size: size > 1), protocol=st.sampled_from(WIDGETS), first=PORTIONS)
    def begin_by_widget(self, size: int, protocol: str, first: int) -> Any:
        """With a chunk that isn't all: its size is declared, and only the first makes the upload known."""
        type(self).count += 1
        path = f"protocols-{self.count}.bin" if protocol == "filepond" else f"protocols/{self.count}.bin"
        upload = Upload("", protocol, path, random.Random(self.count).randbytes(size), True, bytearray(size))
        if protocol == "filepond":
            upload.id = self.ask("POST", "/widgets/filepond/main", multipart(), Content_Type=FORM, Upload_Length=str(size)).text
        first = min(max(first, 1), size - 1)
        answer = self.write(upload, 0, first, "widget")
        assert answer is not None and answer.status in (200, 204), answer
        upload.id = upload.id or answer.json()["id"]
        upload.keep(0, first)
        self.all_agree(upload)
        return upload

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
        upload = Upload(location.rpartition("/")[2], protocol, path, data, declared, bytearray(size))
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

    @rule(upload=uploads, start=st.integers(0, MOST), portion=st.integers(1, MOST))
    def send_a_chunk(self, upload: Upload, start: int, portion: int) -> None:
        """By the widget that began it: anywhere, and some of it once more. FilePond leaves no gaps."""
        if upload.protocol not in WIDGETS:
            return
        start = min(start, upload.offset if upload.protocol == "filepond" else upload.size - 1)
        start -= start % STRIDE if upload.protocol in ("resumablejs", "flowjs") else 0
        end = min(start + portion, upload.size)
        answer = self.write(upload, start, end, "widget")
        assert answer is not None and answer.status < 300, answer
        upload.keep(start, end)
        self.all_agree(upload)

    @rule(upload=uploads, number=st.integers(0, MOST // STRIDE), portion=st.integers(1, MOST))
    def ask_for_a_chunk(self, upload: Upload, number: int, portion: int) -> None:
        """Whether a chunk is there is the same whichever protocol brought it."""
        start = number * STRIDE
        if upload.protocol not in ("resumablejs", "flowjs") or start >= upload.size or upload.complete:
            return
        end = min(start + portion, upload.size)
        answer = self.ask("GET", f"/widgets/{upload.protocol}/main?{urlencode(described(upload, start, end))}")
        assert answer.status == (200 if all(upload.there[start:end]) else 204), answer
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

    @rule(upload=uploads, portion=st.integers(1, MOST), protocol=st.sampled_from(["range", "widget"]))
    def contradict(self, upload: Upload, portion: int, protocol: str) -> None:
        """Recorded bytes that come again with another content are refused, and with them the length that a range tells."""
        end = min(portion, upload.offset)
        if not end or (protocol == "widget" and upload.protocol not in WIDGETS):
            return
        wrong = bytes([upload.data[0] ^ 255]) + upload.data[1:end]
        answer = self.write(upload, 0, end, protocol, data=wrong)
        assert answer is not None and answer.json()["code"] == "bytes_differ", answer
        self.all_agree(upload)

    @rule(upload=uploads, start=st.integers(0, MOST), portion=st.integers(1, MOST), protocol=WRITERS)
    def send_with_a_wrong_digest(self, upload: Upload, start: int, portion: int, protocol: str) -> None:
        """Nothing of it is kept, nor the length that a range tells. With tus and the draft, whose clients say it once, that stands."""
        start = min(start, upload.size - 1) if protocol == "range" else upload.offset
        end = min(start + portion, upload.size)
        if upload.complete or end == start or (protocol != "range" and any(upload.there[start:])):
            return
        answer = self.write(upload, start, end, protocol, digest="sha-256=:" + base64.b64encode(bytes(32)).decode() + ":")
        assert answer is not None and answer.json()["code"] == "digest_mismatch", answer
        upload.declared |= protocol != "range" and end == upload.size
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

    def write(self, upload: Upload, start: int, end: int, protocol: str, *, data: bytes | None = None,
              digest: str | None = None) -> wire.Response | None:
        data, size = upload.data[start:end] if data is None else data, upload.size
        proof = {"Content-Digest": digest} if digest else {}
        if protocol == "widget":
            return self.write_by_widget(upload, start, end, data)
        if protocol == "tus":
            length = {} if upload.declared or end < size else {"Upload-Length": str(size)}
            answer = self.ask("PATCH", f"/tus/main/{upload.id}", data, **TUS, **length, **proof, **{
                "Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"})
            upload.declared |= bool(length) and answer.status < 300
            return answer
        if protocol == "draft":
            last = end == size
            answer = self.ask("PATCH", f"/uploads/{upload.id}", data, **proof, **{
                "Upload-Offset": str(start), "Upload-Complete": "?1" if last else "?0", "Content-Type": "application/partial-upload"})
            upload.declared |= last and answer.status < 300
            return answer
        if end == start:
            return None
        answer = self.ask("PUT", f"/uploads/{upload.id}", data, **proof, **{"Content-Range": f"bytes {start}-{end - 1}/{size}"})
        upload.declared |= answer.status < 300
        return answer

    def write_by_widget(self, upload: Upload, start: int, end: int, data: bytes) -> wire.Response:
        if upload.protocol == "filepond":
            return self.ask("PATCH", f"/widgets/filepond/main?patch={upload.id}", data, Upload_Offset=str(start), Upload_Length=str(upload.size),
                            Upload_Name=upload.path, Content_Type="application/offset+octet-stream")
        fields = [text(name, value) for name, value in described(upload, start, end).items()]
        return self.ask("POST", f"/widgets/{upload.protocol}/main", multipart(*fields, file("file", "blob", data)), Content_Type=FORM)

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
        assert (told["received"], told["size"]) == (sum(upload.there), upload.size if upload.declared else None)
        if upload.protocol == "filepond":
            assert self.ask("HEAD", f"/widgets/filepond/main?patch={upload.id}").header("Upload-Offset") == str(upload.offset)
        kept = self.ask("GET", f"/files/main/{upload.path}")
        assert (kept.status, kept.body) == (200, upload.data) if upload.complete else kept.status == 404


def described(upload: Upload, start: int, end: int) -> dict[str, str]:
    """What a chunk's fields say of it. There are always said to be several: one alone is a file and no upload."""
    if upload.protocol == "dropzone":
        return {"dzuuid": upload.path, "dzchunkindex": "0", "dztotalfilesize": str(upload.size), "dzchunksize": str(end - start),
                "dztotalchunkcount": "2", "dzchunkbyteoffset": str(start), "fullPath": upload.path}
    number = start // STRIDE + 1
    values = {"ChunkNumber": number, "ChunkSize": STRIDE, "CurrentChunkSize": end - start, "TotalSize": upload.size, "Type": "",
              "Identifier": upload.path, "Filename": "blob", "RelativePath": upload.path, "TotalChunks": number + 1}
    return {upload.protocol.removesuffix("js") + name: str(value) for name, value in values.items()}


@pytest.mark.slow
def test_whichever_protocol_writes_all_tell_the_same(live: Server) -> None:
    machine = type("Protocols", (ProtocolsMachine,), {"server": live})
    run_state_machine_as_test(machine, settings=settings(
        max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)))


@pytest.mark.slow
def test_whichever_protocol_writes_into_a_bucket_all_tell_the_same(s3_site: Site) -> None:
    machine = type("Protocols", (ProtocolsMachine,), {"server": s3_site.server})
    run_state_machine_as_test(machine, settings=settings(
        max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)))
