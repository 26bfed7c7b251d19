"""What may go wrong with PostgreSQL: it is said in one sentence, nothing is lost, and it goes on later."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from chain_support import capsule, capsules, finish, start
from postgres_support import PASSWORD, assert_whole, database_of, postgres, rows, server
from qp_capsule import Capsule, Seal
from recording import until

from capsule_sdk.chain import open_chain
from capsule_sdk.chain.postgresql_store import PostgresStore
from capsule_sdk.chain.writer import ChainWriter
from capsule_sdk.errors import CapsuleRejected, ChainUnavailable

__all__ = ["postgres"]


@pytest.fixture
def chain(postgres: str) -> Iterator[Any]:
    made = open_chain(url=postgres)
    yield made
    made.close()


def execute(url: str, statement: str) -> None:
    server().execute(statement, database_of(url))


def assert_unavailable(chain: Any, sentence: str) -> None:
    """It is said what is wrong, in one line, with the server's own words and without the password."""
    one = capsule()
    with pytest.raises(ChainUnavailable, match=sentence) as raised:
        chain.append([one])
    assert not one.is_sealed()
    text = str(raised.value)
    assert text.startswith(chain.identity)
    assert "\n" not in text
    assert not any(secret in text for secret in (PASSWORD, quote(PASSWORD, safe="")))


# -- the server is away ---------------------------------------------------------------------------


def test_a_server_that_is_away_is_reported_until_it_is_back(postgres: str, chain: Any) -> None:
    chain.append(capsules(1))
    with server().stopped():
        for _ in range(2):
            assert_unavailable(chain, "cannot be reached: check host and port")
    chain.append(capsules(1))
    assert_whole(postgres, 2)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_between_two_appends_is_not_even_noticed(
    postgres: str, chain: Any, mode: str
) -> None:
    chain.append(capsules(1))
    server().restart(mode)
    chain.append(capsules(1))
    assert_whole(postgres, 2)


def append_until_it_succeeds(chain: Any, group: list[Capsule]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return chain.append(group)
        except ChainUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_restarts_in_the_middle_of_appends_lose_and_double_nothing(
    postgres: str, chain: Any
) -> None:
    stop, groups = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            append_until_it_succeeds(chain, capsules(20))
            groups.append(20)

    thread = threading.Thread(target=work)
    thread.start()
    for mode in ("fast", "immediate", "immediate", "fast"):
        time.sleep(random.uniform(0.2, 0.4))
        server().restart(mode)
    time.sleep(0.2)
    stop.set()
    thread.join()
    assert len(groups) > 4
    assert_whole(postgres, sum(groups))


class Interrupted(Seal):
    """Does something in the middle of a transaction, once."""

    def __init__(self, interruption: Callable[[], object]) -> None:
        super().__init__()
        self.interruption: Callable[[], object] | None = interruption

    def seal(self, capsule: Capsule) -> Capsule:
        if self.interruption is not None:
            interruption, self.interruption = self.interruption, None
            interruption()
        return super().seal(capsule)


def terminate(url: str) -> None:
    execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'capsuled'",
    )


@pytest.mark.parametrize("cut", ["terminated", "restarted", "crashed"])
def test_a_connection_that_is_cut_in_the_middle_of_a_transaction(postgres: str, cut: str) -> None:
    cuts: dict[str, Callable[[], object]] = {
        "terminated": lambda: terminate(postgres),
        "restarted": server().restart,
        "crashed": lambda: server().restart("immediate"),
    }
    chain = ChainWriter(PostgresStore(postgres), Interrupted(cuts[cut]))
    group = capsules(3)
    with pytest.raises(ChainUnavailable, match="ended the connection"):
        chain.append(group)
    assert not any(one.is_sealed() or one.sequence for one in group)
    chain.append(group)
    chain.close()
    assert_whole(postgres, 3)


@contextmanager
def wire(cut_at: bytes) -> Iterator[int]:
    """A port that leads to the server; the answer to what holds these bytes does not come back."""

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", server().port))
            threading.Thread(target=pump, args=(client, upstream, cut_at), daemon=True).start()
            threading.Thread(target=pump, args=(upstream, client, b""), daemon=True).start()

    def pump(source: socket.socket, target: socket.socket, mark: bytes) -> None:
        try:
            while data := source.recv(65536):
                if mark and mark in data and not cut:
                    cut.append(True)
                    source.shutdown(socket.SHUT_RDWR)  # the answer has nowhere to go
                    target.sendall(data)
                    time.sleep(0.5)
                    break
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                end.close()

    cut: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    assert cut


def test_a_commit_whose_answer_did_not_arrive_is_not_repeated(postgres: str) -> None:
    open_chain(url=postgres).append(capsules(1))
    with wire(b"COMMIT") as port:
        chain = open_chain(url=postgres.replace(str(server().port), str(port)))
        group = capsules(3)
        with pytest.raises(ChainUnavailable):
            chain.append(group)
        assert not any(one.is_sealed() for one in group)
        chain.append([*group, capsule("next")])
        chain.close()
    assert_whole(postgres, 5)


# -- nothing waits for ever -----------------------------------------------------------------------


def test_a_server_that_never_answers_is_given_up(postgres: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        chain = open_chain(url=f"postgresql://ana@127.0.0.1:{port}/audit?connect_timeout=2")
        began = time.monotonic()
        assert_unavailable(chain, "does not answer")
        assert time.monotonic() - began < 6


def test_connecting_takes_ten_seconds_at_most_unless_the_url_says_otherwise(postgres: str) -> None:
    for options, expected in (("", "10"), ("?connect_timeout=3", "3")):
        chain = open_chain(url=postgres + options)
        with chain._store._server.connection() as connection:  # type: ignore[attr-defined]
            told = connection.connection.dbapi_connection.info.get_parameters()
        assert told["connect_timeout"] == expected
        assert told["tcp_user_timeout"] == "30000"
        chain.close()


def test_a_lock_held_too_long_is_reported_and_the_same_append_succeeds_later(postgres: str) -> None:
    chain = ChainWriter(PostgresStore(postgres, lock_timeout=0.3), Seal())
    chain.append(capsules(1))
    group = capsules(3)
    with psycopg.connect(postgres) as other:
        other.execute("SELECT * FROM capsule_sdk_heads FOR UPDATE")
        assert_unavailable(chain, "is locked by another program")
        other.execute("LOCK TABLE quantumpipes_capsules")
        with pytest.raises(ChainUnavailable, match="is locked by another program"):
            chain.append(group)
    chain.append(group)
    chain.close()
    assert_whole(postgres, 4)


def test_a_writer_that_stops_under_its_lock_does_not_keep_the_others_out(
    postgres: str, chain: Any
) -> None:
    chain.append(capsules(1))
    code = """
import os, signal, sys
from chain_support import capsules
from qp_capsule import Seal
from capsule_sdk.chain import postgresql_store
from capsule_sdk.chain.writer import ChainWriter
from capsule_sdk.errors import ChainUnavailable
postgresql_store._IDLE_TIMEOUT = 1.0
class Stopping(Seal):
    def seal(self, capsule):
        if not stopped:
            stopped.append(True)
            print("under the lock", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().seal(capsule)
stopped = []
chain = ChainWriter(postgresql_store.PostgresStore(sys.argv[1]), Stopping())
group = capsules(2)
try:
    chain.append(group)
except ChainUnavailable as error:
    print(error)
chain.append(group)
chain.close()
"""
    other = start(code, postgres)
    assert other.stdout is not None
    assert other.stdout.readline() == "under the lock\n"
    chain.append(capsules(1))
    os.kill(other.pid, signal.SIGCONT)
    (printed,) = finish(other)
    assert "ended the connection" in printed
    assert_whole(postgres, 4)


# -- rights, names, tables ------------------------------------------------------------------------


@pytest.fixture
def user(postgres: str) -> Iterator[str]:
    """The URL of a user who may do nothing but connect."""
    name = f"u_{database_of(postgres)}"
    execute(postgres, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    yield server().url(database_of(postgres), name)
    execute(postgres, f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_wrong_password_and_an_unknown_user_are_named_as_such(postgres: str) -> None:
    database = database_of(postgres)
    for url in (
        server().url(database, password="wr@ng"),
        server().url(database, user="nobody"),
        f"postgresql://postgres@127.0.0.1:{server().port}/{database}",
    ):
        assert_unavailable(open_chain(url=url), "refused this user: check user name and password")


def test_a_way_in_that_the_server_does_not_allow_is_named_as_such(postgres: str, user: str) -> None:
    hba = server().directory / "data" / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("local all all trust\n")
    try:
        server().execute("SELECT pg_reload_conf()")
        until(lambda: not can_connect(user))
        assert_unavailable(open_chain(url=postgres), "an administrator has to change pg_hba.conf")
    finally:
        hba.write_text(before)
        server().execute("SELECT pg_reload_conf()")
        until(lambda: can_connect(user))
    execute(postgres, f"REVOKE CONNECT ON DATABASE {database_of(postgres)} FROM public")
    assert_unavailable(open_chain(url=user), "an administrator has to grant the right")


def can_connect(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_an_unknown_database_is_named_as_such(postgres: str) -> None:
    chain = open_chain(url=server().url("nowhere"))
    assert_unavailable(chain, "/nowhere cannot be found: create the database")


def test_a_host_that_does_not_exist_is_named_as_such() -> None:
    assert_unavailable(open_chain(url="postgresql://ana@host.invalid/db"), "cannot be reached")
    assert_unavailable(open_chain(url="postgresql:///db?host=/nix"), "cannot be reached")


def test_a_missing_right_is_reported_until_it_is_granted(postgres: str, user: str) -> None:
    chain = open_chain(url=user)
    name = f"u_{database_of(postgres)}"
    denied = "an administrator has to grant the right .permission denied for "
    assert_unavailable(chain, denied + "schema public")
    open_chain(url=postgres).append(capsules(1))  # which creates the tables
    assert_unavailable(chain, denied + "table")
    execute(postgres, f"GRANT SELECT, UPDATE ON capsule_sdk_heads TO {name}")
    execute(postgres, f"GRANT SELECT ON quantumpipes_capsules TO {name}")
    assert_unavailable(chain, denied + "table quantumpipes_capsules")
    execute(postgres, f"GRANT INSERT ON quantumpipes_capsules TO {name}")
    chain.append(capsules(1))  # no right to create, change or delete any of them
    chain.close()
    assert_whole(postgres, 2)


def test_a_table_that_lacks_a_column_is_reported_until_it_has_it(postgres: str, chain: Any) -> None:
    chain.append(capsules(1))
    execute(postgres, "ALTER TABLE quantumpipes_capsules RENAME domain TO area")
    assert_unavailable(chain, 'lacks something.*"domain"')
    one = capsule()
    one.context.session_id = "private"
    with pytest.raises(ChainUnavailable) as raised:
        chain.append([one])
    assert "private" not in "".join(traceback.format_exception(raised.value))
    execute(postgres, "ALTER TABLE quantumpipes_capsules RENAME area TO domain")
    chain.append(capsules(1))
    assert_whole(postgres, 2)


def test_a_column_that_we_do_not_fill_is_the_fault_of_no_capsule(postgres: str, chain: Any) -> None:
    chain.append(capsules(1))
    execute(postgres, "ALTER TABLE quantumpipes_capsules ADD extra int")
    chain.append(capsules(1))
    execute(postgres, "UPDATE quantumpipes_capsules SET extra = 1")
    execute(postgres, "ALTER TABLE quantumpipes_capsules ALTER extra SET NOT NULL")
    assert_unavailable(chain, 'lacks something.*"extra"')


def test_tables_that_somebody_dropped_are_made_again(postgres: str, chain: Any) -> None:
    chain.append(capsules(3))
    execute(postgres, "DELETE FROM capsule_sdk_heads")
    chain.append(capsules(1))
    assert_whole(postgres, 4)
    execute(postgres, "DROP TABLE capsule_sdk_heads")
    assert_unavailable(chain, '"capsule_sdk_heads" does not exist')
    chain.append(capsules(1))
    assert_whole(postgres, 5)
    execute(postgres, "DROP TABLE quantumpipes_capsules")
    assert_unavailable(chain, '"quantumpipes_capsules" does not exist')
    chain.append(capsules(1))
    assert_whole(postgres, 1)


def test_tables_that_cannot_come_into_being_are_not_tried_for_ever(
    postgres: str, chain: Any
) -> None:
    execute(postgres, "CREATE SEQUENCE quantumpipes_capsules")
    assert_unavailable(chain, '"quantumpipes_capsules" already exists')
    execute(postgres, "DROP SEQUENCE quantumpipes_capsules")
    chain.append(capsules(1))
    execute(
        postgres,
        "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER t BEFORE INSERT ON capsule_sdk_heads FOR EACH ROW EXECUTE FUNCTION drop_it()",
    )
    execute(postgres, "DELETE FROM capsule_sdk_heads")
    assert_unavailable(chain, "look for a trigger or row-level security")
    execute(postgres, "DROP TRIGGER t ON capsule_sdk_heads")
    chain.append(capsules(1))
    assert_whole(postgres, 2)


def test_a_server_that_takes_no_writes_is_reported(postgres: str, chain: Any) -> None:
    chain.append(capsules(1))
    chain.close()
    database = database_of(postgres)
    server().execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    assert_unavailable(chain, "name the primary server")


# -- rows that can never be stored ----------------------------------------------------------------


def test_a_capsule_without_a_domain_is_stored(postgres: str, chain: Any) -> None:
    one = capsule()
    one.domain = None  # type: ignore[assignment]
    chain.append([one])
    assert_whole(postgres, 1)


@pytest.mark.parametrize(
    "rule",
    [
        "ALTER session_id TYPE varchar(10)",
        "ADD CHECK (session_id <> 'x-longer-than-that')",
    ],
)
def test_a_capsule_that_the_database_refuses_is_named_and_keeps_nothing_else_out(
    postgres: str, chain: Any, rule: str
) -> None:
    chain.append(capsules(1))
    execute(postgres, f"ALTER TABLE quantumpipes_capsules {rule}")
    before, poison, after = capsules(3)
    poison.context.session_id = "x-longer-than-that"
    with pytest.raises(CapsuleRejected) as raised:
        chain.append([before, poison, after])
    assert raised.value.capsule_id == str(poison.id)
    assert "do task-1" not in raised.value.reason
    assert not before.is_sealed()
    chain.append([before, after])
    assert_whole(postgres, 3)


# -- what is secret stays secret ------------------------------------------------------------------


def test_no_password_and_no_content_is_in_any_log(postgres: str) -> None:
    code = """
import logging, os, sys
logging.basicConfig(level=logging.INFO)
import capsule_sdk
capsule_sdk.configure(url=sys.argv[1])
with capsule_sdk.capsule_scope("transfer", request="the request itself"):
    pass
print(capsule_sdk.flush(2), capsule_sdk.get_recorder(), flush=True)
os._exit(0)  # else it would wait for the store
"""
    open_chain(url=postgres).append(capsules(1))
    server().execute(
        "ALTER TABLE quantumpipes_capsules ADD extra int; UPDATE quantumpipes_capsules SET extra = 1;"
        "ALTER TABLE quantumpipes_capsules ALTER extra SET NOT NULL",
        database_of(postgres),
    )
    urls = [
        postgres,
        server().url(database_of(postgres), password="an0ther-" + PASSWORD),
        postgres.replace(str(server().port), "1"),
    ]
    processes = [start(code, url) for url in urls]
    for process, (out, err) in [(one, one.communicate(timeout=60)) for one in processes]:
        assert process.returncode == 0, err
        assert out.startswith("1 ")
        assert "the store is away" in out + err
        for secret in (PASSWORD, quote(PASSWORD, safe=""), "an0ther", "the request itself"):
            assert secret not in out + err
    assert len(rows(postgres)) == 1
