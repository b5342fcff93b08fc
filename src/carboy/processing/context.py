"""One attempt at one job: what its step is given."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from carboy.engine.opening import Content, open_blob
from carboy.errors import BytesMissing, Cancelled
from carboy.jobs import Claim, Job
from carboy.model import Blob, File
from carboy.processing.isolating.spool import own_folder
from carboy.processing.keeping import Attachments
from carboy.processing.values import writable
from carboy.storage.base import OnDisk, Storage

_PIECE = 2**20


class OfClaim:
    """What a step sees of a claim itself."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim

    @property
    def job(self) -> Job:
        return self.claim.job

    @property
    def blob(self) -> Blob:
        return self.claim.blob

    @property
    def file(self) -> File | None:
        return self.claim.file

    @property
    def name(self) -> str:
        return self.claim.file.name if self.claim.file else self.claim.job.blob_id

    @property
    def media_type(self) -> str:
        return self.claim.file.media_type if self.claim.file else "application/octet-stream"

    @property
    def results(self) -> Mapping[str, Mapping[str, Any]]:
        return self.claim.results


class Attempt(OfClaim):
    """See :class:`carboy.processing.step.Context`. Other threads may :meth:`cancel` it and read how far it is."""

    def __init__(self, claim: Claim, storage: Storage, spool: Path, timeout: float, attachments: Attachments) -> None:
        super().__init__(claim)
        self._storage = storage
        self._spool = spool
        self._attachments = attachments
        self._why: str | None = None
        self._ended = threading.Event()
        self.deadline = time.monotonic() + timeout
        self.share, self.phrase = 0.0, ""
        self.reported = (0.0, "")

    # --- what the step sees ---

    @property
    def cancelled(self) -> bool:
        return self._why is not None

    def stream(self) -> BinaryIO:
        self.check()
        return io.BufferedReader(_Watched(self, open_blob(self.claim.blob, self._storage)), _PIECE)

    @contextmanager
    def path(self) -> Iterator[Path]:
        with own_folder(self.spool) as folder:
            path = folder / f"content{PurePosixPath(self.name).suffix[:16]}"
            with self.stream() as source, path.open("wb") as file:
                shutil.copyfileobj(source, file, _PIECE)
            yield path

    def progress(self, share: float, phrase: str = "") -> None:
        self.check()
        self.share, self.phrase = min(1.0, max(0.0, float(share))), writable(phrase[:200])

    def attach(self, name: str, content: Content, media_type: str, **facts: Any) -> None:
        self.check()
        self._attachments.add(name, content, media_type, facts)

    # --- what the runner does with it ---

    @property
    def spool(self) -> Path:
        """Where folders are made for what is wanted for as long as it runs."""
        return self._spool

    def opened(self) -> BinaryIO | None:
        """The stored file itself, where the content is one, unbuffered. Raises BytesMissing, BytesDamaged."""
        self.check()
        open_blob(self.claim.blob, self._storage).close()
        file = self._storage.open(self.claim.blob.key) if isinstance(self._storage, OnDisk) else None
        if file and os.fstat(file.fileno()).st_size != self.claim.blob.size:
            file.close()
            raise BytesMissing("the stored bytes are missing", blob=self.claim.blob.id)
        return file

    def check(self) -> None:
        """Raises Cancelled once it is."""
        if self._why is not None:
            raise Cancelled(self._why, job=self.claim.job.id)

    def cancel(self, why: str) -> None:
        self._why = self._why or why
        self._ended.set()

    def wait_cancelled(self, seconds: float) -> bool:
        """Whether it is, within that time."""
        return self._ended.wait(seconds)


class _Watched(io.RawIOBase):
    """A file that stops giving bytes once the attempt is cancelled."""

    def __init__(self, attempt: Attempt, file: BinaryIO) -> None:
        super().__init__()
        self._attempt = attempt
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        self._attempt.check()
        got: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        return got

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
