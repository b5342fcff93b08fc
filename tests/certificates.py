"""Certificates for tests, made by the openssl program."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that vouches for itself, for 127.0.0.1 and localhost, and its key: two files."""

    cert: Path
    key: Path

    @property
    def args(self) -> tuple[str, ...]:
        """The flags of ``carboy serve``."""
        return "--tls-cert", str(self.cert), "--tls-key", str(self.key)


def make(folder: Path, name: str = "server", *, password: str = "", days: int = 2) -> Certificate:
    """A new one under this common name, valid for so many days. Skips the test where there is no openssl."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    locked = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", str(days), "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", made.key, "-out", made.cert, *locked],
                   check=True, capture_output=True)
    return made


def expired(folder: Path) -> Certificate:
    """One that was valid on the first day of 2020."""
    made = make(folder, "expired")
    (folder / "ca.cnf").write_text("[ca]\ndefault_ca = own\n[own]\ndatabase = index\nserial = serial\nnew_certs_dir = .\ndefault_md = sha256\npolicy = any\n"
                                   "[any]\ncommonName = supplied\n")
    (folder / "index").touch()
    (folder / "serial").write_text("01\n")
    for command in (["req", "-new", "-key", made.key, "-subj", "/CN=expired", "-out", "request"],
                    ["ca", "-batch", "-notext", "-selfsign", "-config", "ca.cnf", "-keyfile", made.key, "-in", "request", "-out", made.cert,
                     "-startdate", "20200101000000Z", "-enddate", "20200102000000Z"]):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return made
