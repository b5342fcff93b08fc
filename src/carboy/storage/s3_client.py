"""Calls to one S3-compatible server: retried with backoff until a deadline, their errors in Carboy's words.

The client is made when first used, in each process for itself: it is costly, and its connections don't survive a fork.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from carboy.config import S3StorageSettings
from carboy.errors import ConfigError
from carboy.measuring import NOTHING, Meter
from carboy.metrics import S3_SECONDS, STORAGE_ERRORS

Answer = dict[str, Any]
Check = Callable[[], None]
_SIGNER = "s3v4-uncopied"
THREADS = 32
"""How many calls a process makes at once for parts."""


class Refused(Exception):
    """The server refused with a code that the caller expects. ``again`` tells that an earlier attempt may have gone through."""

    def __init__(self, code: str, again: bool) -> None:
        super().__init__(code)
        self.code = code
        self.again = again


class S3Client:
    """One bucket's server. Thread-safe."""

    def __init__(self, settings: S3StorageSettings, name: str = "s3", meter: Meter = NOTHING) -> None:
        """``name`` is the storage's, by which ``meter`` counts."""
        self.settings = settings
        self._name = name
        self._meter = meter
        self.bucket = settings.bucket
        self._lock = threading.Lock()
        self._made: tuple[int, Any] | None = None
        self._public: Any = None

    def call(self, operation: str, *, expect: Collection[str] = (), check: Check | None = None, deadline: float | None = None,
             **params: Any) -> Answer:
        """What the server answers to ``operation``, a method of botocore's client. ``check`` is called before each attempt, and what it
        raises ends it. ``answer["Again"]`` tells that an earlier attempt may have gone through.

        Raises Refused for a code (or a status in digits) of ``expect``, StorageUnavailable after the deadline or for what no retry
        helps, StorageFull, StorageFailed.
        """
        began = time.monotonic()
        ends = began + (self.settings.deadline if deadline is None else deadline)
        method, again = getattr(self.client(), operation), False
        for pause in _pauses():
            if check:
                check()
            try:
                answer: Answer = method(Bucket=self.bucket, **params)
                answer["Again"] = again
                self._meter.observe(S3_SECONDS, time.monotonic() - began, (self._name, operation))
                return answer
            except Exception as error:
                self._judge(error, operation, expect, again, time.monotonic() + pause > ends)
            again = True
            rewind(params.get("Body"))
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def _judge(self, error: Exception, operation: str, expect: Collection[str], again: bool, late: bool) -> None:
        """Raises what the error means, unless it is to be tried again."""
        from carboy.storage import s3_errors as words
        if not words.is_foreign(error):
            raise error
        code = next((code for code in (words.code_of(error), str(words.status_of(error))) if code in expect), "")
        if code:
            raise Refused(code, again) from error
        if late or not words.may_pass(error):
            told = words.translated(error, operation, self.bucket)
            self._meter.add(STORAGE_ERRORS, (self._name, told.code))
            raise told from error

    def client(self) -> Any:
        """This process's own client of botocore. Raises ConfigError where that is not installed."""
        made = self._made
        if made is None or made[0] != os.getpid():
            with self._lock:
                made = self._made
                if made is None or made[0] != os.getpid():
                    made = self._made = (os.getpid(), _make(self.settings))
        return made[1]

    def presigned(self, operation: str, expiry: float, **params: Any) -> str:
        """An address that does this operation for whoever has it, for that many seconds. Asks nobody."""
        return str(self._signer().generate_presigned_url(operation, Params={"Bucket": self.bucket, **params}, ExpiresIn=int(expiry)))

    def _signer(self) -> Any:
        """Signs for the address that clients use. It connects to nothing, so it serves all processes."""
        public = self.settings.public_endpoint
        if not public or public == self.settings.endpoint:
            return self.client()
        with self._lock:
            if self._public is None:
                self._public = _make(self.settings.model_copy(update={"endpoint": public}))
            return self._public

    def close(self) -> None:
        """Let the connections go. Repeatable; the next call makes new ones."""
        with self._lock:
            made, self._made = self._made, None
        if made and made[0] == os.getpid():
            made[1].close()


def keys_from() -> str | None:
    """Where keys for S3 are found, as botocore calls it (``env``, ``shared-credentials-file``, ``iam-role`` …); None for nowhere. Raises
    StorageUnavailable for those that can't be used, ConfigError where botocore is not installed."""
    session = _session()
    from carboy.storage import s3_errors as words
    try:
        found = session.get_credentials()
        return str(found.method) if found else None
    except Exception as error:
        if not words.is_foreign(error):
            raise
        raise words.unavailable("keys", f"the keys for S3 can't be used: {error}") from error


def rewind(body: Any) -> None:
    """Back to the start, for a body that is sent once more."""
    if hasattr(body, "seek"):
        body.seek(0)


def _session() -> Any:
    try:
        from botocore.session import Session
    except ImportError:
        raise ConfigError("a storage in S3 needs botocore: pip install carboy[s3]", setting="storages") from None
    return Session()


def _make(settings: S3StorageSettings) -> Any:
    session = _session()
    from botocore.config import Config
    style = {} if settings.style == "auto" else {"addressing_style": settings.style}
    config = Config(
        signature_version="s3v4", retries={"total_max_attempts": 1, "mode": "standard"}, tcp_keepalive=True,
        max_pool_connections=2 * THREADS, connect_timeout=5, read_timeout=max(5.0, settings.deadline / 2),
        request_checksum_calculation="when_required", response_checksum_validation="when_required",
        s3={"payload_signing_enabled": False, **style}, parameter_validation=False)
    region = settings.region or session.get_config_variable("region") or "us-east-1"
    try:
        client = session.create_client("s3", region_name=region, endpoint_url=settings.endpoint or None, verify=settings.ca or None,
                                       config=config)
    except (ValueError, OSError) as error:
        raise ConfigError(f"a storage in S3 can't be set up: {error}", setting="storages") from error
    _sign_without_copying(client)
    return client


def _sign_without_copying(client: Any) -> None:
    """Where awscrt is installed, botocore signs by it, and gives it a copy of the body, which is not signed. Requests with large bodies
    are signed by botocore itself."""
    from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
    AUTH_TYPE_MAPS.setdefault(_SIGNER, S3SigV4Auth)
    for operation in ("PutObject", "UploadPart"):
        client.meta.events.register(f"choose-signer.s3.{operation}", _chosen_signer)


def _chosen_signer(signature_version: str, **_: Any) -> str | None:
    return _SIGNER if signature_version == "s3v4" else None


def _pauses() -> Iterator[float]:
    """Seconds between attempts: they grow, and no two clients keep step."""
    pause = 0.1
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(5.0, pause * 2)
