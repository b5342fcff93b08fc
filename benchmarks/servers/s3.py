"""A real S3 server for those that store there: OpenStack Swift, as the tests start it. What it costs itself counts for nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from benchmarks.envs import Unavailable, python_versions
from benchmarks.servers.base import Server
from benchmarks.servers.carboy import Carboy
from benchmarks.servers.python import Flask
from benchmarks.servers.tested import load

_PIECE = 1 << 20


class Swift:
    """One bucket of a Swift whose files are in ``folder``."""

    bucket = "bench"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._program: ModuleType = load("swift_server")
        self._swift = self._program.Swift(folder / "swift")

    def __enter__(self) -> Self:
        if not (self._program.BIN / "swift-proxy-server").exists():
            raise Unavailable("no S3 server is installed (make services)")
        try:
            self._swift.init()
            self._swift.start()
            self.client.create_bucket(Bucket=self.bucket)
        except BaseException:
            self._swift.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._swift.stop()

    @property
    def version(self) -> str:
        return f"{python_versions(self._program.BIN, 'swift')} is the S3 server"

    @property
    def endpoint(self) -> str:
        return str(self._swift.endpoint)

    @property
    def client(self) -> Any:
        """boto3's, for looking from outside."""
        import boto3  # comes with the tests' extra, as Swift does
        return boto3.client("s3", endpoint_url=self.endpoint, region_name=self._program.REGION,
                            aws_access_key_id=self.variables["AWS_ACCESS_KEY_ID"], aws_secret_access_key=self._program.PASSWORD)

    @property
    def variables(self) -> Mapping[str, str]:
        """What a process needs in its environment to use it."""
        program = self._program
        return {"AWS_ACCESS_KEY_ID": f"{program.ACCOUNT}:{program.USER}", "AWS_SECRET_ACCESS_KEY": program.PASSWORD,
                "AWS_DEFAULT_REGION": program.REGION, "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}

    def objects(self) -> dict[str, int]:
        """Sizes by keys."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", ())}

    def pieces(self, key: str) -> Iterator[bytes]:
        """The bytes of an object."""
        yield from self.client.get_object(Bucket=self.bucket, Key=key)["Body"].iter_chunks(_PIECE)

    def discard(self) -> None:
        """Remove all objects."""
        for key in self.objects():
            with suppress(self.client.exceptions.NoSuchKey):
                self.client.delete_object(Bucket=self.bucket, Key=key)


class _InS3(Server):
    """A server that keeps its files in an S3 server's bucket."""

    swift: Swift

    def largest(self) -> int:
        return max(self.swift.objects().values(), default=0)

    def discard(self) -> None:
        self.swift.discard()


class CarboyS3(_InS3, Carboy):
    """``carboy serve`` whose space main is in S3."""

    def __init__(self, folder: Path, swift: Swift, workers: int = 1, variables: Mapping[str, str] | None = None) -> None:
        # A prefix each: a server sweeps away what its own catalog doesn't know.
        storage = {"BUCKET": swift.bucket, "PREFIX": f"{folder.name}/", "ENDPOINT": swift.endpoint, "STYLE": "path"}
        super().__init__(folder, workers, variables={
            **swift.variables, **{f"CARBOY_STORAGES__BULK__{name}": value for name, value in storage.items()},
            "CARBOY_SPACES__MAIN__STORAGE": "bulk", **(variables or {})})
        self.swift = swift


class FlaskS3(_InS3, Flask):
    """The tutorial's Flask code with boto3, as boto3's documentation has it."""

    _packages = ("flask", "gunicorn", "boto3")
    _name = "flask_s3"
    app = "flask_s3_app"

    def __init__(self, folder: Path, swift: Swift, payload: Path) -> None:
        super().__init__(folder)
        self.swift, self._payload = swift, payload

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), **self.swift.variables, "BUCKET": self.swift.bucket, "AWS_ENDPOINT_URL": self.swift.endpoint,
                "PAYLOAD": str(self._payload)}
