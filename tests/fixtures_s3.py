"""S3 servers as fixtures: ``moto_server`` is quick and enforces little, ``s3_server`` is a real one (Swift, see swift_server.py)."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from swift_server import ACCOUNT, BIN, PASSWORD, REGION, USER, Swift


@dataclass
class S3Server:
    """Where it is and who may use it."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    _numbers: Iterator[int] = field(default_factory=count, repr=False)
    _clients: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment to use it; its own credentials and none of the machine's."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key, "AWS_DEFAULT_REGION": self.region,
                "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true"}

    def client(self, endpoint: str | None = None) -> Any:
        """A boto3 client, of this server or of what stands before it; the same one again for the same address."""
        where = endpoint or self.endpoint
        if where not in self._clients:
            self._clients[where] = boto3.client(
                "s3", endpoint_url=where, region_name=self.region, aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key,
                config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=120))
        return self._clients[where]

    def new_bucket(self) -> str:
        """An empty bucket of its own for one test; its name."""
        name = f"bucket-{os.getpid()}-{next(self._numbers)}"
        self.client().create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> list[str]:
        """The names of everything in a bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def multiparts(self, bucket: str) -> list[str]:
        """The keys of the multipart uploads under way in a bucket."""
        pages = self.client().get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
        return [found["Key"] for page in pages for found in page.get("Uploads", [])]

    def close(self) -> None:
        while self._clients:
            self._clients.popitem()[1].close()


def _unavailable(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"an S3 server is part of the tests: {reason}")
    pytest.skip(f"NOT TESTED with S3: {reason}")


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """moto: in this process, in memory. It enforces neither signatures nor checksums nor expiry."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3 = S3Server(f"http://{host}:{port}", "moto", "moto-secret", REGION)
    yield s3
    s3.close()
    server.stop()


@contextmanager
def running_swift() -> Iterator[Swift]:
    """A new one, also outside of tests. Raises RuntimeError that says why it can't be."""
    if not (BIN / "swift-proxy-server").exists():
        raise RuntimeError("Swift is not installed (make services)")
    with tempfile.TemporaryDirectory(prefix="carboy-s3-", ignore_cleanup_errors=True) as folder:
        server = Swift(Path(folder))
        try:
            server.init()
            server.start()
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            server.stop()
            raise RuntimeError(f"{error} {(getattr(error, 'stderr', b'') or b'').decode(errors='replace')}") from error
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def of_swift(swift: Swift) -> Iterator[S3Server]:
    """What clients see of it."""
    s3 = S3Server(swift.endpoint, f"{ACCOUNT}:{USER}", PASSWORD, REGION)
    s3.client().list_buckets()
    yield s3
    s3.close()


@pytest.fixture(scope="session")
def swift() -> Iterator[Swift]:
    """The real server itself, for tests that kill it and start it again."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running_swift())
        except RuntimeError as error:
            _unavailable(str(error))
        yield server


@pytest.fixture(scope="session")
def s3_server(swift: Swift) -> Iterator[S3Server]:
    """The real one, shared by all tests: they use buckets of their own."""
    with of_swift(swift) as s3:
        yield s3
