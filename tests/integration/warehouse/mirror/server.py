"""A real PostgreSQL server of our own, started as an unprivileged user, with TLS and an administrator's password.

Here: starting, stopping and reaching it. Not here: assertions.
"""

from __future__ import annotations

import datetime
import getpass
import ipaddress
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from warehouse.mirror.server import HBA

ROOT = Path(__file__).parents[4]


def find_binaries() -> Path | None:
    """Folder with initdb and postgres: on the path, or where Debian puts them."""
    if found := shutil.which("postgres"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return versions[-1].parent if versions else None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def write_certificate(folder: Path) -> None:
    """A key and a certificate of 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "server.key").chmod(0o600)


@dataclass
class Server:
    """A running server."""

    binaries: Path
    folder: Path
    port: int
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def user(self) -> str | None:
        """PostgreSQL does not run as root; Debian's package brings this user."""
        return "postgres" if os.getuid() == 0 else None

    @property
    def environment(self) -> dict[str, str]:
        """What the administrator sets."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "boss",
            "PGPASSWORD": self.password,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.folder / "root.crt"),
        }

    def make(self, hba: str) -> None:
        """initdb, certificate, configuration."""
        (self.folder / "password").write_text(self.password + "\n")
        self._own(self.folder)
        self._own(self.folder / "password")
        subprocess.run(
            [self.binaries / "initdb", "-D", self.data, "-U", "boss", "--pwfile", self.folder / "password", "-A",
             "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8"],
            check=True, capture_output=True, user=self.user, cwd="/",
        )  # fmt: skip
        write_certificate(self.data)
        self._own(self.data / "server.key")
        shutil.copy(self.data / "server.crt", self.folder / "root.crt")
        with (self.data / "postgresql.conf").open("a") as configuration:
            configuration.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.folder}'\n"
                "ssl = on\nfsync = off\nmax_connections = 60\n"
            )
        if hba:
            path = self.data / "pg_hba.conf"
            path.write_text(hba + path.read_text())

    def _own(self, path: Path) -> None:
        if self.user:
            shutil.chown(path, self.user)

    def start(self, **more: object) -> None:
        with (self.folder / "stderr").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.data], user=self.user, stdout=log, stderr=log, cwd="/"
            )
        until = time.monotonic() + 30
        while True:
            try:
                self.connect("boss", self.password, "postgres", **more).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.1)

    def stop(self) -> None:
        """Fast shutdown of the process we started."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(2)
            self.process.wait(30)

    def admin(self, database: str) -> psycopg.Connection:
        """A connection of the administrator's, beside the code under test."""
        return self.connect("boss", self.password, database)

    def connect(self, user: str, password: str, database: str, **more: object) -> psycopg.Connection:
        given = {"sslmode": "verify-full", "sslrootcert": str(self.folder / "root.crt"), "autocommit": True} | more
        return psycopg.connect(  # type: ignore[arg-type]
            host="127.0.0.1", port=self.port, user=user, password=password, dbname=database, **given
        )

    def ranvier(self, home: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command a data manager types."""
        done = subprocess.run(
            [Path(sys.executable).parent / "ranvier", "mirror", "postgres", "--home", str(home), *arguments],
            env=os.environ | self.environment | {"COLUMNS": "200"}, capture_output=True, text=True, cwd=ROOT,
            check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        assert self.password not in done.stdout + done.stderr
        return done


@contextmanager
def running(binaries: Path, *, hba: str = HBA) -> Iterator[Server]:
    """A new server for the time of the block; nothing of it is left."""
    folder = Path(tempfile.mkdtemp(prefix=f"ranvier-pg-{getpass.getuser()}-"))
    folder.chmod(0o755)
    server = Server(binaries, folder, free_port())
    try:
        server.make(hba)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
