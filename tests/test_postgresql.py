"""PostgreSQL: a chain for each tenant in qp-capsule's table; many writers, and none of them loses."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from chain_support import assert_verified, capsule, capsules, finish, qp_capsule_command, start
from postgres_support import (
    assert_whole,
    database_of,
    postgres,
    read_with_qp_capsule,
    rows,
    server,
)
from qp_capsule import Capsule, Capsules, PostgresCapsuleStorage, Seal
from recording import in_threads, until

import capsule_sdk
from capsule_sdk import capsuled
from capsule_sdk.chain import chain_identity, open_chain, writer
from capsule_sdk.chain.bridge import BridgedChain
from capsule_sdk.chain.location import postgresql_url
from capsule_sdk.chain.postgresql_store import _HEADS, PostgresStore
from capsule_sdk.chain.table import POSTGRESQL_TABLE
from capsule_sdk.chain.writer import ChainWriter
from capsule_sdk.errors import CapsuleRejected, ChainUnavailable
from capsule_sdk.index_keys import tenant_key

__all__ = ["postgres"]


@pytest.fixture
def chain(postgres: str) -> Iterator[Any]:
    made = open_chain(url=postgres)
    yield made
    made.close()


def of_tenant(tenant: object, name: str = "task") -> Capsule:
    made = capsule(name)
    made.context.environment["tenant_id"] = tenant
    return made


def seal_and_store(url: str, *group: Capsule) -> None:
    """As a program does that uses qp-capsule alone."""

    async def run() -> None:
        theirs = Capsules(url)
        for one in group:
            await theirs.chain.seal_and_store(one, seal=theirs.seal)
        await theirs.close()

    asyncio.run(run())


# -- what it is in the database -------------------------------------------------------------------


def schema(url: str) -> list[tuple[Any, ...]]:
    database = database_of(url)
    return server().execute(
        "SELECT column_name, data_type, character_maximum_length, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_name = 'quantumpipes_capsules'"
        " ORDER BY ordinal_position",
        database,
    ) + server().execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'quantumpipes_capsules'"
        " ORDER BY indexname",
        database,
    )


def test_the_schema_is_the_one_qp_capsule_creates(postgres: str, chain: Any) -> None:
    chain.append(capsules(1))
    ours = schema(postgres)
    server().execute("DROP TABLE quantumpipes_capsules", database_of(postgres))
    assert read_with_qp_capsule(postgres) == []
    assert ours == schema(postgres)
    assert len(ours) > 15


def test_a_table_that_qp_capsule_made_is_used_as_it_is(postgres: str, chain: Any) -> None:
    seal_and_store(postgres, *capsules(2, "theirs"))
    before = schema(postgres)
    chain.append(capsules(3))
    seal_and_store(postgres, capsule("theirs"))
    chain.append(capsules(1))
    assert schema(postgres) == before
    assert_whole(postgres, 7)


def test_qp_capsule_reads_back_what_was_appended(postgres: str, chain: Any) -> None:
    group = capsules(3)
    chain.append(group)
    assert [one.to_sealed_dict() for one in read_with_qp_capsule(postgres)] == [
        one.to_sealed_dict() for one in group
    ]
    done = qp_capsule_command("verify", "--pg", postgres, "--full")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_capsule_changed_after_the_fact_is_seen(postgres: str, chain: Any) -> None:
    """The check behind all the others can fail."""
    chain.append(capsules(3))
    server().execute(
        "UPDATE quantumpipes_capsules SET data = replace(data, 'do task-1', 'do evil')",
        database_of(postgres),
    )
    with pytest.raises(AssertionError, match="hash mismatch"):
        assert_verified("--pg", postgres, "--full")


def test_every_spelling_of_the_url_leads_to_one_chain(postgres: str) -> None:
    rest = postgres.removeprefix("postgresql")
    for url in (
        postgres,
        f"postgresql+psycopg{rest}",
        f"postgresql+asyncpg{rest}?ssl=disable",
        f"postgres{rest}?sslmode=disable&application_name=agents",
    ):
        made = open_chain(url=url)
        assert made.identity == chain_identity(url=postgres)
        made.append(capsules(1))
        made.close()
    made = open_chain(url=server().socket_url(database_of(postgres)))
    made.append(capsules(1))
    made.close()
    assert_whole(postgres, 5)


def test_the_storage_of_qp_capsule_is_written_by_us_with_its_seal(postgres: str) -> None:
    given = Capsules(postgres)
    made = open_chain(given)
    assert isinstance(made, ChainWriter)
    assert made.identity == chain_identity(url=postgres) == chain_identity(given)
    assert made._seal._seal is given.seal
    made.append(capsules(1))
    made.close()
    assert_whole(postgres, 1)


def test_a_storage_that_changes_what_qp_capsules_does_is_asked_itself(postgres: str) -> None:
    class Counting(PostgresCapsuleStorage):
        stored = 0

        async def store(self, capsule: Capsule, tenant_id: str | None = None) -> Capsule:
            type(self).stored += 1
            return await super().store(capsule, tenant_id)

    made = open_chain(Capsules(storage=Counting(postgres)))
    assert isinstance(made, BridgedChain)
    made.append(capsules(2))
    made.close()
    assert Counting.stored == 2
    assert_whole(postgres, 2)


def test_what_an_agent_does_is_in_the_database_that_configure_names(postgres: str) -> None:
    @capsuled(tenant_id="acme")
    def task() -> None: ...

    capsule_sdk.configure(url=postgres)
    for _ in range(3):
        task()
    assert capsule_sdk.flush() == 0
    assert_whole(postgres, 3, "acme")


def test_a_process_that_ends_at_once_or_forks_leaves_all_its_capsules(postgres: str) -> None:
    code = """
import os, sys
import capsule_sdk
capsule_sdk.configure(url=sys.argv[1])
for _ in range(3):
    with capsule_sdk.capsule_scope("before"):
        pass
if "fork" in sys.argv and os.fork() != 0:
    os.wait()
with capsule_sdk.capsule_scope("after"):
    pass
"""
    finish(start(code, postgres), start(code, postgres, "fork"))
    assert_whole(postgres, 4 + 5)


def test_commits_are_as_durable_as_the_server_is_told(postgres: str) -> None:
    class Asking(Seal):
        def seal(self, capsule: Capsule) -> Capsule:
            connection = made._store._server._connection  # type: ignore[attr-defined]
            said.append(connection.exec_driver_sql("SHOW synchronous_commit").scalar())
            return super().seal(capsule)

    said: list[str] = []
    for level in ("remote_apply", "on"):
        server().execute(f"ALTER DATABASE {database_of(postgres)} SET synchronous_commit = {level}")
        made = ChainWriter(PostgresStore(postgres), Asking())
        made.append(capsules(1))
        made.close()
    assert said == ["remote_apply", "on"]


# -- values that do not fit -----------------------------------------------------------------------


def test_what_does_not_fit_an_index_column_is_whole_in_the_content(
    postgres: str, chain: Any
) -> None:
    values = ["v" * 51, "nul\0nul", "漢字" * 60, "", "plain"]
    for value in values:
        one = of_tenant(value)
        one.domain = one.context.session_id = value
        one.trigger.request = one.outcome.result = f"\0{value}\0"
        chain.append([one])
    for value in values:
        (found,) = read_with_qp_capsule(postgres, tenant_key(value))
        assert found.domain == found.context.session_id == value
        assert found.context.environment["tenant_id"] == value
        assert found.outcome.result == f"\0{value}\0"
        assert_whole(postgres, 1, value)
    stored = rows(postgres, "domain, session_id, tenant_id")
    assert ("plain", "plain", "plain") in stored
    assert ("", "", "") in stored
    assert len(set(stored)) == 5
    assert all(uuid.UUID(key) for row in stored if row[0] not in {"plain", ""} for key in row)


def test_a_megabyte_is_stored_whole(postgres: str, chain: Any) -> None:
    one = capsule()
    one.outcome.result = "x\0é🙂" * 250_000
    chain.append([one])
    assert read_with_qp_capsule(postgres)[0].outcome.result == one.outcome.result
    assert_whole(postgres, 1)


# -- tenants --------------------------------------------------------------------------------------


def test_each_tenant_has_a_chain_of_its_own_in_the_order_given(postgres: str, chain: Any) -> None:
    tenants = [None, "acme", 7, "t" * 40]
    group = [of_tenant(tenants[number % 4], str(number)) for number in range(20)]
    chain.append(group[:9])
    chain.append(group[9:])
    for place, tenant in enumerate(tenants):
        key = tenant_key(tenant)
        where = "tenant_id IS NULL" if key is None else f"tenant_id = '{key}'"
        expected = [(str(one.id),) for one in group[place::4]]
        assert rows(postgres, "id", where) == expected
        assert_whole(postgres, 5, None if tenant is None else str(tenant))


def test_a_group_of_many_tenants_is_taken_all_or_nothing(postgres: str, chain: Any) -> None:
    chain.append([of_tenant("a"), of_tenant("b")])
    server().execute(
        "ALTER TABLE quantumpipes_capsules ADD CHECK (domain <> 'refused')", database_of(postgres)
    )
    group = [of_tenant("a"), of_tenant("b"), of_tenant("a")]
    poison = of_tenant("b")
    poison.domain = "refused"
    with pytest.raises(CapsuleRejected) as raised:
        chain.append([*group, poison])
    assert raised.value.capsule_id == str(poison.id)
    assert len(rows(postgres)) == 2
    assert not any(one.is_sealed() for one in group)
    chain.append(group)
    assert_whole(postgres, 3, "a")
    assert_whole(postgres, 2, "b")


def test_groups_with_the_same_tenants_do_not_wait_for_each_other(postgres: str) -> None:
    """They take the locks in one order, though a set of names has another one in each process."""
    code = """
import sys
from capsule_sdk.chain.postgresql_store import PostgresStore
store = PostgresStore(sys.argv[1])
with store.transaction({"x"}):
    print("ready", flush=True)
sys.stdin.readline()
for turn in range(60):
    with store.transaction({"x", None, *(f"new-{turn}-{new}" for new in range(40))}):
        pass
store.close()
"""
    processes = [start(code, postgres) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    finish(*processes)
    heads = server().execute("SELECT count(*) FROM capsule_sdk_heads", database_of(postgres))
    assert heads == [(2 + 60 * 40,)]


# -- once and only once ---------------------------------------------------------------------------


def test_a_group_that_is_there_already_is_not_added_again(postgres: str, chain: Any) -> None:
    group = [*capsules(3), of_tenant("acme")]
    chain.append(group)
    chain.append(group)
    chain.append([*group[2:], capsule("new"), *group[:2], group[0]])
    assert_whole(postgres, 4)
    assert_whole(postgres, 1, "acme")


def test_more_ids_than_one_query_takes_are_looked_up(postgres: str, chain: Any) -> None:
    group = capsules(1100)
    chain.append(group)
    chain.append(group)
    assert_whole(postgres, 1100)


# -- many writers ---------------------------------------------------------------------------------


def test_threads_share_one_writer(postgres: str, chain: Any) -> None:
    in_threads(8, lambda _: [chain.append(capsules(3)) for _ in range(8)])  # type: ignore[arg-type]
    assert_whole(postgres, 192)


def test_four_processes_write_one_chain_without_fork_or_loss(postgres: str) -> None:
    code = """
import sys
from chain_support import capsule, race
from capsule_sdk.chain import open_chain
def work(process):
    chain = open_chain(url=sys.argv[1])
    for number in range(200):
        chain.append([capsule(f"{process}-{number}")])
    chain.close()
race(4, work)
"""
    finish(start(code, postgres))
    assert_whole(postgres, 800)


def test_tables_that_another_host_creates_at_the_same_moment_are_used(
    postgres: str, chain: Any
) -> None:
    for table in (POSTGRESQL_TABLE, _HEADS):
        with sa.create_engine(postgresql_url(postgres), poolclass=sa.NullPool).begin() as other:
            table.create(other)
            thread = threading.Thread(target=chain.append, args=[capsules(1)])
            thread.start()
            until(lambda: waits_for_a_lock(postgres))
        thread.join()
        server().execute("DROP TABLE IF EXISTS capsule_sdk_heads", database_of(postgres))
        chain.close()
        chain._store._has_tables = False
    assert_whole(postgres, 2)


def waits_for_a_lock(url: str) -> bool:
    waiting = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted"
    return server().execute(waiting, database_of(url)) == [(1,)]


def test_a_writer_of_qp_capsule_at_the_same_time_cannot_fork_the_chain(
    postgres: str, chain: Any
) -> None:
    """It may lose capsules of its own (three tries); the chain and ours stay whole."""
    chain.append(capsules(1))
    code = """
import asyncio, logging, sys
from chain_support import capsule
from qp_capsule import Capsules
logging.disable()
async def main():
    made = Capsules(sys.argv[1])
    stored = 0
    print("ready", flush=True)
    for _ in range(60):
        try:
            await made.chain.seal_and_store(capsule("theirs"), seal=made.seal)
            stored += 1
        except Exception:
            pass
    await made.close()
    print(stored)
asyncio.run(main())
"""
    other = start(code, postgres)
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    ours = 1
    while other.poll() is None:
        chain.append(capsules(2))
        ours += 2
    (printed,) = finish(other)
    assert ours > 20
    assert_whole(postgres, ours + int(printed))


class Overtaken(Seal):
    """While it seals, a program without our lock adds to the chain; as often as is told."""

    def __init__(self, url: str, times: int) -> None:
        super().__init__()
        self.url, self.times = url, times

    def seal(self, capsule: Capsule) -> Capsule:
        if self.times:
            self.times -= 1
            thread = threading.Thread(target=seal_and_store, args=(self.url, Capsule()))
            thread.start()
            thread.join()
        return super().seal(capsule)


def test_a_group_that_was_overtaken_is_linked_to_the_true_head(postgres: str) -> None:
    seal = Overtaken(postgres, 1)
    made = ChainWriter(PostgresStore(postgres), seal)
    group = [capsule(), of_tenant("acme"), capsule()]
    made.append(group)
    made.close()
    assert [one.sequence for one in group] == [1, 0, 2]
    assert_whole(postgres, 3)
    assert_whole(postgres, 1, "acme")


def test_being_overtaken_without_end_is_reported(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CONFLICT_PATIENCE", 0.0)
    seal = Overtaken(postgres, 100)
    made = ChainWriter(PostgresStore(postgres), seal)
    one = capsule()
    with pytest.raises(ChainUnavailable, match="a program that takes no lock"):
        made.append([one])
    assert not one.is_sealed()
    assert_whole(postgres, 100 - seal.times)
    seal.times = 0
    made.append([one])
    made.close()
    assert one.is_sealed()


# -- forks ----------------------------------------------------------------------------------------


def test_parent_and_child_go_on_with_connections_of_their_own(postgres: str) -> None:
    code = """
import os, sys
from chain_support import capsules
from capsule_sdk.chain import open_chain
chain = open_chain(url=sys.argv[1])
chain.append(capsules(2))
if (child := os.fork()) == 0:
    chain.append(capsules(3))
    chain.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
with chain._store._server.connection() as connection:
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
    connection.rollback()
chain.append(capsules(1))
with chain._store._server.connection() as connection:
    assert pid == connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
chain.close()
"""
    finish(start(code, postgres))
    assert_whole(postgres, 6)


FORK_IN_A_TRANSACTION = """
import ctypes, os, sys, threading, warnings
from chain_support import capsules
from qp_capsule import Seal
from capsule_sdk.chain.postgresql_store import PostgresStore
from capsule_sdk.chain.writer import ChainWriter
warnings.simplefilter("ignore", DeprecationWarning)
class Waiting(Seal):
    def seal(self, capsule):
        if capsule.trigger.source == "task-1":
            under_way.set()
            assert forked.wait(20)
        return super().seal(capsule)
under_way, forked = threading.Event(), threading.Event()
chain = ChainWriter(PostgresStore(sys.argv[1]), Waiting())
thread = threading.Thread(target=chain.append, args=[capsules(3)])
thread.start()
assert under_way.wait(20)
if (child := FORK()) == 0:
    CHILD
forked.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
chain.close()
"""


@pytest.mark.parametrize(
    ("fork", "child", "length"),
    [
        ("os.fork", "sys.exit(0)", 3),
        ("os.fork", "chain.append(capsules(1)); chain.close(); sys.exit(0)", 4),
        # runs none of Python's hooks: there only the use can tell
        ("ctypes.PyDLL(None).fork", "chain.append(capsules(1)); os._exit(0)", 4),
    ],
)
def test_a_child_that_is_forked_in_the_middle_of_a_transaction_does_not_disturb_it(
    postgres: str, fork: str, child: str, length: int
) -> None:
    finish(start(FORK_IN_A_TRANSACTION.replace("FORK", fork).replace("CHILD", child), postgres))
    assert_whole(postgres, length)


def test_a_child_does_not_keep_the_lock_of_a_parent_that_was_killed(
    postgres: str, chain: Any
) -> None:
    chain.append(capsules(1))
    code = """
import os, signal, sys, threading, time, warnings
from chain_support import capsules
from qp_capsule import Seal
from capsule_sdk.chain.postgresql_store import PostgresStore
from capsule_sdk.chain.writer import ChainWriter
warnings.simplefilter("ignore", DeprecationWarning)
class Waiting(Seal):
    def seal(self, capsule):
        under_way.set()
        time.sleep(60)
under_way = threading.Event()
writer = ChainWriter(PostgresStore(sys.argv[1]), Waiting())
threading.Thread(target=writer.append, args=[capsules(1)], daemon=True).start()
assert under_way.wait(20)
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.read()
    os._exit(0)
time.sleep(60)
"""
    parent = start(code, postgres)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "forked\n"
    parent.kill()
    chain.append(capsules(1))
    parent.communicate(timeout=20)
    assert_whole(postgres, 2)


def test_forks_in_the_middle_of_appends_lose_nothing(postgres: str) -> None:
    code = """
import os, sys, threading, warnings
from chain_support import capsules
from capsule_sdk.chain import open_chain
warnings.simplefilter("ignore", DeprecationWarning)
chain = open_chain(url=sys.argv[1])
def work():
    for _ in range(60):
        chain.append(capsules(2))
thread = threading.Thread(target=work)
thread.start()
children = []
while thread.is_alive() and len(children) < 12:
    child = os.fork()
    if child == 0:
        for _ in range(5):
            chain.append(capsules(1))
        chain.close()
        os._exit(0)
    children.append(child)
thread.join()
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
chain.append(capsules(1))
chain.close()
print(121 + 5 * len(children))
"""
    (printed,) = finish(start(code, postgres))
    assert_whole(postgres, int(printed))
