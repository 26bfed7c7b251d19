"""What the tests of PostgreSQL and the journal share: programs to be told what to do, troubles with the server.

    def test_what_it_shows(trouble: Trouble, programs: Programs) -> None:
        program = programs(trouble.url)
        program.ask("calls", "one", "two")
        trouble.mend()

A trouble is chosen by ``@pytest.mark.parametrize("trouble", [refused], indirect=True)``. What a program can
be told is in `postgresql_programs`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from chain_support import ROOT, capsules
from postgres_support import PASSWORD, database_of, server
from recording import until

from capsule_sdk.chain import open_chain
from capsule_sdk.evidence.exporting.export import read_chain

__all__ = ["Program", "Programs", "Trouble", "capsuled_command", "programs", "recovered", "trouble"]

ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "PYTHONWARNINGS": "ignore",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "CRITICAL",
}


class Program:
    """A process that records, and does what the test tells it."""

    def __init__(self, directory: Path, url: str | None, **settings: str) -> None:
        directory.mkdir()
        self.directory = directory
        with (directory / "stderr").open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, ROOT / "tests" / "postgresql_programs.py", directory],
                env={
                    **os.environ,
                    **ENVIRONMENT,
                    **({} if url is None else {"CAPSULE_SDK_URL": url}),
                    **settings,
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def tell(self, *command: Any) -> None:
        """Have it do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for what it answers."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.complaints()
        return json.loads(line)

    def ask(self, *command: Any) -> Any:
        """Have it do something, and wait until it has."""
        self.tell(*command)
        return self.answer()

    def end(self, timeout: float = 60) -> float:
        """Let it come to its end, which must be a good one; return the seconds that this takes."""
        assert self._process.stdin is not None
        began = time.monotonic()
        self._process.stdin.close()
        assert self._process.wait(timeout) == 0, self.complaints()
        seconds = time.monotonic() - began
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert not self.complaints()
        return seconds

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def returned(self) -> list[str]:
        """Return the names of the calls that have returned."""
        return self._read("returned").splitlines()

    def log(self) -> list[str]:
        """Return what the SDK has logged."""
        return [line for line in self._read("log").splitlines() if line.startswith("capsule_sdk ")]

    def complaints(self) -> str:
        """Return what was printed that nobody asked for, passwords looked for and not found."""
        printed = self._read("stderr")
        for secret in (PASSWORD, quote(PASSWORD, safe="")):
            assert secret not in printed + self._read("log")
        return printed

    def _read(self, name: str) -> str:
        path = self.directory / name
        return path.read_text() if path.exists() else ""


class Programs:
    """Starts programs on one data directory, and ends those that a failed test leaves."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._started: list[Program] = []

    def __call__(self, url: str | None, **settings: str) -> Program:
        one = Program(self.data / f"program-{len(self._started)}", url, **settings)
        self._started.append(one)
        return one

    def returned(self) -> list[str]:
        return [name for one in self._started for name in one.returned()]

    def until_returned(self, count: int) -> None:
        """Wait until so many calls have returned in all of them."""
        until(lambda: len(self.returned()) >= count, 60)

    def journals(self, directory: Path | None = None) -> list[Path]:
        """Return the files of all journals of databases."""
        root = directory or self.data / "journal"
        homes = os.walk(root)  # not a glob, which fails where one goes meanwhile
        return [
            Path(home, name) for home, _, files in homes if "postgresql-" in home for name in files
        ]

    def kill(self) -> None:
        for one in self._started:
            one.kill()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path)
    yield made
    made.kill()


def capsuled_command(*arguments: str | Path) -> str:
    """Run the ``capsuled`` command, which must succeed, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "capsule_sdk.cli", *arguments],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in done.stdout + done.stderr
    return done.stdout


NOTHING_FOUND = {
    "journals": 0, "capsules": 0, "unfinished": 0, "lost": 0, "ends_lost": 0, "damaged": 0,
    "torn": 0, "left": 0, "refused": 0,
}  # fmt: skip


def recovered(url: str, *arguments: str | Path) -> dict[str, int]:
    """Run ``capsuled recover``, and return what it says it found."""
    found: dict[str, int] = json.loads(
        capsuled_command("recover", "--json", "--db", url, *arguments)
    )
    return found


def requests(url: str, tenant: str | None = None) -> list[str]:
    return [capsule["trigger"]["request"] for capsule in read_chain(url, tenant=tenant)]


# -- troubles ----------------------------------------------------------------------------------------


class Trouble(NamedTuple):
    """What a program is given for a store that does not work yet."""

    url: str
    mend: Callable[[], object]
    #: What the log says of it.
    reason: str


def refused(postgres: str) -> Iterator[Trouble]:
    server().stop()
    mended: list[bool] = []

    def mend() -> None:
        server().start()
        mended.append(True)

    yield Trouble(postgres, mend, "cannot be reached: check host and port")
    if not mended:
        server().start()


def in_recovery(postgres: str, hot_standby: str, reason: str) -> Iterator[Trouble]:
    """A server that is a standby until it is promoted."""
    signal = server().directory / "data" / "standby.signal"
    promoted: list[bool] = []

    def mend() -> None:
        server()._run("pg_ctl", "-w", "-s", "promote")
        promoted.append(True)

    set_hot_standby(hot_standby)
    server().stop()
    signal.touch()
    signal.chmod(0o666)  # the server removes it, and runs as somebody else
    server().start()
    yield Trouble(postgres, mend, reason)
    if not promoted:
        mend()
    set_hot_standby("on")
    server().restart()


def set_hot_standby(value: str) -> None:
    server().execute(f"ALTER SYSTEM SET hot_standby = {value}")


def standby(postgres: str) -> Iterator[Trouble]:
    yield from in_recovery(postgres, "on", "name the primary server in the URL")


def starting_up(postgres: str) -> Iterator[Trouble]:
    yield from in_recovery(postgres, "off", "ended the connection or does not answer")


def silent(postgres: str) -> Iterator[Trouble]:
    """A port that takes connections and says nothing, until it leads to the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        opened: list[bool] = []
        port = listener.getsockname()[1]
        stack.callback(listener.shutdown, socket.SHUT_RDWR)
        url = f"{postgres.replace(str(server().port), str(port))}?connect_timeout=1"

        def mend() -> None:
            opened.append(True)
            threading.Thread(target=forward, args=(listener,), daemon=True).start()

        yield Trouble(url, mend, "ended the connection or does not answer")


def forward(listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
            upstream = socket.create_connection(("127.0.0.1", server().port))
        except OSError:
            return
        for ends in ((client, upstream), (upstream, client)):
            threading.Thread(target=pump, args=ends, daemon=True).start()


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def wrong_password(postgres: str) -> Iterator[Trouble]:
    with role(postgres, password="another") as (name, url):
        execute(postgres, f"GRANT ALL ON SCHEMA public TO {name}")
        yield Trouble(
            url,
            lambda: execute(postgres, f"ALTER ROLE {name} PASSWORD '{PASSWORD}'"),
            "refused this user: check user name and password",
        )


def no_right(postgres: str) -> Iterator[Trouble]:
    create_tables(postgres)
    with role(postgres) as (name, url):
        execute(postgres, f"GRANT SELECT, UPDATE, INSERT ON capsule_sdk_heads TO {name}")
        execute(postgres, f"GRANT SELECT ON quantumpipes_capsules TO {name}")
        yield Trouble(
            url,
            lambda: execute(postgres, f"GRANT INSERT ON quantumpipes_capsules TO {name}"),
            "an administrator has to grant the right",
        )


def missing_column(postgres: str) -> Iterator[Trouble]:
    create_tables(postgres)
    execute(postgres, "ALTER TABLE quantumpipes_capsules RENAME domain TO area")
    yield Trouble(
        postgres,
        lambda: execute(postgres, "ALTER TABLE quantumpipes_capsules RENAME area TO domain"),
        "has a table of capsules that lacks something",
    )


def unknown_database(postgres: str) -> Iterator[Trouble]:
    name = f"{database_of(postgres)}_later"
    yield Trouble(
        server().url(name),
        lambda: server().execute(f"CREATE DATABASE {name}"),
        "cannot be found: create the database",
    )
    server().execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def role(postgres: str, password: str = PASSWORD) -> Iterator[tuple[str, str]]:
    """Give name and URL of a user of the database."""
    name = f"u_{database_of(postgres)}"
    execute(postgres, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    yield name, server().url(database_of(postgres), name)
    execute(postgres, f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def execute(url: str, statement: str) -> None:
    server().execute(statement, database_of(url))


def create_tables(url: str) -> None:
    """Have the tables made, and leave them empty."""
    chain = open_chain(url=url)
    chain.append(capsules(1))
    chain.close()
    execute(url, "TRUNCATE quantumpipes_capsules")


@pytest.fixture
def trouble(postgres: str, request: pytest.FixtureRequest) -> Iterator[Trouble]:
    yield from request.param(postgres)


def on_server(url: str) -> str:
    """Return the URL as an administrator has it, of the server itself."""
    return server().url(database_of(url).partition("?")[0])


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]
