"""``carboy serve``."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import click

from carboy.cli.common import located, settings_for


@click.command()
@click.option("--host", help="The address to bind [default: 127.0.0.1].")
@click.option("--port", type=int, help="The port to bind; 0 picks a free one [default: 8080].")
@click.option("--tls-cert", help="The file of the certificate (PEM): with --tls-key the server speaks HTTPS.")
@click.option("--tls-key", help="The file of its private key (PEM, without a password).")
@click.option("--workers", type=int, help="Server processes; 0 is one per processor, at most 4 [default: 0].")
@click.option("--threads", type=int, help="Most threads of each process [default: 1024].")
@click.option("--no-worker", is_flag=True, help="Leave the jobs to `carboy worker`.")
@located
def serve(host: str | None, port: int | None, tls_cert: str | None, tls_key: str | None, workers: int | None, threads: int | None,
          no_worker: bool, config: Path | None, data: Path | None) -> None:
    """Start the server. Prints its address when it accepts connections."""
    settings = settings_for(config, data, host=host, port=port, tls_cert=tls_cert, tls_key=tls_key, workers=workers, threads=threads,
                            worker=False if no_worker else None)
    _must_be_free(settings.host, settings.port)
    from carboy.web import server

    server.serve(settings)


def _must_be_free(host: str, port: int) -> None:
    """Fail at once where the address can't be bound: the server itself would try for seconds and then log."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except socket.gaierror as error:
        raise click.ClickException(f"there is no address {host!r}: {error.strerror}") from error
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}") from error
