"""Two nodes of Carboy, and all that they share, on one machine and without containers: PostgreSQL, Redis, an S3 server, nginx.

Started by `run`. Each is a program like any other, in a process of its own; what matters for real machines is in `carboy.toml`,
`nginx.conf`, and the variables that `node_variables` gives to every node.
"""

from __future__ import annotations

import argparse
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import botocore.session
import psycopg
from botocore.config import Config

HERE = Path(__file__).parent
TESTS = HERE.parent.parent / "tests"
LIMIT = 60.0
"""Seconds that a program may take to start, or to end."""
RESTART = 5.0
"""Seconds after which a node that ended is started again, as a supervisor would."""


class CannotStart(Exception):
    """Says what is missing, and what to do."""


class Program:
    """A process, with a log of its own. It ends with this one, however that ends."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None,
                 user: str | None = None, stop: signal.Signals = signal.SIGTERM) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.ended_at: float | None = None
        self._command, self._folder, self._env, self._user, self._stop = command, folder, env, user, stop
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Returns when it is ready. Raises CannotStart with the end of its log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *self._command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder,
                env=self._env, start_new_session=True, **as_user(self._user))
        self.ended_at, deadline = None, time.monotonic() + LIMIT
        while not is_ready():
            if self.has_ended() or time.monotonic() > deadline:
                raise CannotStart(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def end(self) -> None:
        """As an operator does it; after a minute by force. Repeatable."""
        if self._process is None or self.has_ended():
            return
        self._process.send_signal(self._stop)
        try:
            self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Bucket:
    """Where the bytes go, and the variables that say so. No endpoint is AWS; no keys are those that the AWS tools find."""

    def __init__(self, name: str, endpoint: str = "", region: str = "", keys: tuple[str, str] | None = None) -> None:
        self.name, self.endpoint, self.region, self._keys = name, endpoint, region or "us-east-1", keys

    @property
    def variables(self) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": self._keys[0], "AWS_SECRET_ACCESS_KEY": self._keys[1]} if self._keys else {}
        return {"CARBOY_STORAGES__BULK__BUCKET": self.name, "CARBOY_STORAGES__BULK__ENDPOINT": self.endpoint,
                "CARBOY_STORAGES__BULK__REGION": self.region, **keys}

    def make(self) -> None:
        """Repeatable."""
        assert self._keys
        client = botocore.session.get_session().create_client(
            "s3", endpoint_url=self.endpoint, region_name=self.region, aws_access_key_id=self._keys[0], aws_secret_access_key=self._keys[1],
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))
        if self.name not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=self.name)
        client.close()


# --- what the nodes share ------------------------------------------------------------------------------------------


@contextmanager
def postgresql(folder: Path) -> Iterator[tuple[Program, str]]:
    """A server of our own, and the address of its database. Only who may enter the folder of its socket reaches it."""
    bin = newest_postgresql()
    user = "postgres" if os.getuid() == 0 else None
    data = folder / "postgresql"
    with tempfile.TemporaryDirectory(prefix="carboy-sockets-", ignore_cleanup_errors=True) as sockets:
        data.mkdir(mode=0o700, exist_ok=True)
        for each in (data, sockets):
            shutil.chown(each, user or os.getuid())
        if not (data / "PG_VERSION").exists():
            make_database(bin, data, user)
        command = [bin / "postgres", "-D", data, "-c", "listen_addresses=", "-c", f"unix_socket_directories={sockets}"]
        program = Program("postgresql", command, folder, user=user, stop=signal.SIGINT)
        server = f"host={sockets} user=carboy dbname=postgres"
        program.start(partial(answers, server))
        try:
            with psycopg.connect(server, autocommit=True) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'carboy'").fetchone():
                    connection.execute("CREATE DATABASE carboy")
            yield program, f"postgresql://carboy@/carboy?host={sockets}"
        finally:
            program.end()


def make_database(bin: Path, data: Path, user: str | None) -> None:
    command = [bin / "initdb", "-D", data, "-U", "carboy", "-A", "trust", "-E", "UTF8", "--locale=C"]
    made = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, **as_user(user))
    if made.returncode:
        raise CannotStart(f"the database could not be made. Run by root it is the user postgres's, who has to reach {data}.\n{made.stderr}")


def answers(server: str) -> bool:
    try:
        psycopg.connect(server).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def redis(folder: Path) -> Iterator[tuple[Program, str]]:
    """Counts requests; keeps nothing."""
    port = free_port()
    program = Program("redis", [found("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
                      folder)
    program.start(partial(listens, port))
    try:
        yield program, f"redis://127.0.0.1:{port}/0"
    finally:
        program.end()


@contextmanager
def s3_server(folder: Path) -> Iterator[Bucket]:
    """The one that Carboy's tests use: OpenStack Swift with s3api."""
    sys.path.insert(0, str(TESTS))
    import swift_server as ours

    if not (ours.BIN / "swift-proxy-server").exists():
        raise CannotStart("there is no S3 server here: `make services` installs one, or name a bucket of yours by --bucket and --endpoint")
    swift = ours.Swift(folder / "s3")
    swift.init()
    try:
        swift.start()
        bucket = Bucket("carboy", swift.endpoint, ours.REGION, (f"{ours.ACCOUNT}:{ours.USER}", ours.PASSWORD))
        bucket.make()
        yield bucket
    finally:
        swift.stop()


# --- the nodes, and what is before them ----------------------------------------------------------------------------


def node_variables(database: str, counters: str, bucket: Bucket, token: str) -> dict[str, str]:
    """The same for every node."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CARBOY_")}
    return {**own, "CARBOY_DATABASE": database, "CARBOY_RATE_LIMIT_STORAGE": counters, "CARBOY_ADMIN_TOKEN": token, **bucket.variables}


class Node(Program):
    """One machine's part: a server, with a data folder of its own that nobody else needs."""

    def __init__(self, number: int, folder: Path, variables: Mapping[str, str]) -> None:
        self.port = free_port()
        data = folder / f"node{number}"
        super().__init__(data.name, [*carboy("serve"), "--data", data, "--port", str(self.port), "--workers", "2"], folder, variables)

    def begin(self) -> None:
        if self.pid:  # its workers may be there still
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.start(partial(listens, self.port))

    def __str__(self) -> str:
        return f"{self.name}: http://127.0.0.1:{self.port} (process {self.pid})"


def carboy(*command: str) -> list[str | Path]:
    return [sys.executable, "-m", "carboy.cli.main", *command, "--config", HERE / "carboy.toml"]


def upgrade(folder: Path, variables: Mapping[str, str]) -> None:
    """The catalog's tables, before the first node, and before newer ones."""
    command = [*carboy("db", "upgrade"), "--data", folder / "upgrade"]
    done = subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotStart(f"the catalog could not be made: {done.stderr}")


@contextmanager
def nginx(folder: Path, nodes: Sequence[Node], port: int) -> Iterator[Program]:
    """`nginx.conf`, with the addresses and folders of here put in."""
    site = (HERE / "nginx.conf").read_text()
    here = {**{f"{node.name}:8080": f"127.0.0.1:{node.port}" for node in nodes}, "listen 80;": f"listen 127.0.0.1:{port};",
            "/var/log/nginx/access.log": f"{folder}/access.log"}
    for name, value in here.items():
        site = site.replace(name, value)
    own = folder / "nginx"
    own.mkdir(exist_ok=True)
    main = ["daemon off;", *(["user root;"] if os.getuid() == 0 else []), f"pid {own}/pid;", "error_log stderr;", "events {}", "http {",
            *(f"{kind}_temp_path {own}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")), site, "}"]
    (own / "nginx.conf").write_text("\n".join(main) + "\n")
    program = Program("nginx", [found("nginx"), "-p", own, "-e", "stderr", "-c", own / "nginx.conf"], folder)
    program.start(partial(listens, port))
    try:
        yield program
    finally:
        program.end()


# --- all of it -----------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace, folder: Path, stopped: threading.Event) -> None:
    """Until ``stopped``, or until something ends that the nodes can't do without."""
    with ExitStack() as stack:
        database, address = stack.enter_context(postgresql(folder))
        counting, counters = stack.enter_context(redis(folder))
        given = Bucket(options.bucket, options.endpoint, options.region) if options.bucket else None
        bucket = given or stack.enter_context(s3_server(folder))
        token = kept_token(folder / "token")
        variables = node_variables(address, counters, bucket, token)
        upgrade(folder, variables)
        nodes = [Node(number, folder, variables) for number in (1, 2)]
        for node in nodes:
            stack.callback(node.end)
            node.begin()
        port = options.port or free_port()
        before = stack.enter_context(nginx(folder, nodes, port))
        tell(port, token, nodes, folder)
        watch([database, counting, before], nodes, stopped)
        print("ending", flush=True)


def watch(shared: Sequence[Program], nodes: Sequence[Node], stopped: threading.Event) -> None:
    """A node that ends is started again, a little later."""
    while not stopped.wait(0.1):
        for program in shared:
            if program.has_ended():
                raise CannotStart(f"{program.name} has ended:\n{program.log.read_text(errors='replace')[-2000:]}")
        for node in nodes:
            if node.has_ended() and node.ended_at is None:
                node.ended_at = time.monotonic()
                print(f"{node.name} has ended; the other goes on", flush=True)
            elif node.ended_at is not None and time.monotonic() > node.ended_at + RESTART:
                node.begin()
                print(f"{node} is back", flush=True)


def tell(port: int, token: str, nodes: Sequence[Node], folder: Path) -> None:
    """What a person, or a shell, needs to know."""
    print(f"# Carboy on two nodes. Logs are in {folder}; Ctrl-C ends all of it.\n" + "".join(f"#   {node}\n" for node in nodes)
          + f"export URL=http://127.0.0.1:{port} TOKEN={token}\n"
          + '# curl -T film.mkv -H "Authorization: Bearer $TOKEN" $URL/files/main/', flush=True)


def kept_token(path: Path) -> str:
    """The first token, the same again in a folder that was used before."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text("carboy_" + secrets.token_urlsafe(32))
    return path.read_text()


@contextmanager
def folder_of(given: Path | None) -> Iterator[Path]:
    """Others may go through it (PostgreSQL's own user does), and not look."""
    if given:
        given.mkdir(parents=True, exist_ok=True)
        given.chmod(0o711)
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="carboy-machines-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def newest_postgresql() -> Path:
    bins = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return bins[-1] if bins else Path(found("initdb")).parent


def found(name: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise CannotStart(f"{name} is not installed; on Debian: apt-get install postgresql redis-server nginx")
    return path


def as_user(user: str | None) -> dict[str, Any]:
    """For subprocess: PostgreSQL refuses to be run by root."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="run", description="Two nodes of Carboy behind nginx, with PostgreSQL, Redis and an S3 server.")
    parser.add_argument("--port", type=int, default=0, help="nginx's; a free one, if not given")
    parser.add_argument("--data", type=Path, help="keep everything in this folder; else it is gone at the end")
    parser.add_argument("--bucket", default="", help="a bucket of yours, which is there, in place of an S3 server of our own; its keys "
                                                     "come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the AWS tools' files")
    parser.add_argument("--endpoint", default="", help="that bucket's server; AWS, if not given")
    parser.add_argument("--region", default="", help="its region")
    options = parser.parse_args()
    stopped = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stopped.set())
    try:
        with folder_of(options.data) as folder:
            run(options, folder, stopped)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
