"""The writer: links, seals and commits groups; nothing is lost, doubled, torn or forked."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from chain_support import (
    assert_one_unbroken_chain,
    assert_verified,
    capsule,
    capsules,
    finish,
    qp_capsule_command,
    rows,
    start,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qp_capsule import (
    Capsule,
    Capsules,
    CapsuleStorage,
    ReasoningOption,
    ReasoningSection,
    Seal,
    SealError,
    content_for_hash,
)

from capsule_sdk.chain import open_chain
from capsule_sdk.chain.store import ChainTransaction, SQLiteStore
from capsule_sdk.chain.writer import ChainWriter
from capsule_sdk.errors import CapsuleRejected, ChainUnavailable


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "chain.db"


@pytest.fixture
def writer(db: Path, tmp_path: Path) -> Iterator[ChainWriter]:
    made = ChainWriter(SQLiteStore(db), Seal(tmp_path / "key"))
    yield made
    made.close()


def read_with_qp_capsule(db: Path) -> list[Capsule]:
    async def read() -> list[Capsule]:
        storage = CapsuleStorage(db)
        try:
            return list(await storage.get_all_ordered())
        finally:
            await storage.close()

    return asyncio.run(read())


# -- what a chain is ------------------------------------------------------------------------------


def test_groups_become_one_chain_in_the_order_given(db: Path, writer: ChainWriter) -> None:
    first, second = capsules(5), capsules(3)
    writer.append(first)
    writer.append(second)
    assert [row[3] for row in rows(db)] == [str(one.id) for one in first + second]
    assert_one_unbroken_chain(db, 8)


def test_the_capsules_given_carry_their_place_and_seal_afterwards(writer: ChainWriter) -> None:
    group = capsules(2)
    writer.append(group)
    assert [one.sequence for one in group] == [0, 1]
    assert group[1].previous_hash == group[0].hash
    assert all(one.is_sealed() for one in group)


def test_qp_capsule_reads_back_what_was_appended(db: Path, writer: ChainWriter) -> None:
    group = [
        capsule(),
        capsule(
            parent_id=UUID(int=7),
            reasoning=ReasoningSection(
                options=[ReasoningOption(id="a", feasibility=0.5, selected=True)], confidence=0.25
            ),
        ),
    ]
    writer.append(group)
    assert [one.to_sealed_dict() for one in read_with_qp_capsule(db)] == [
        one.to_sealed_dict() for one in group
    ]


def test_two_programs_can_take_turns_on_one_chain(db: Path, writer: ChainWriter) -> None:
    async def theirs() -> None:
        made = Capsules(storage=CapsuleStorage(db))
        await made.chain.seal_and_store(capsule("theirs"), seal=made.seal)
        await made.close()

    for _ in range(3):
        writer.append(capsules(2))
        asyncio.run(theirs())
    assert_one_unbroken_chain(db, 9)


def test_the_seal_and_the_file_of_given_capsules_are_used(tmp_path: Path) -> None:
    given_capsules = Capsules(str(tmp_path / "given.db"))
    chain = open_chain(given_capsules)
    one = capsule()
    chain.append([one])
    chain.close()
    assert given_capsules.seal.verify(one)
    assert len(rows(tmp_path / "given.db")) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), JSON))
def test_any_json_content_verifies_after_it_was_read_back(
    db: Path, writer: ChainWriter, content: dict[str, Any]
) -> None:
    one = capsule()
    one.context.environment = content
    writer.append([one])
    (read,) = read_with_qp_capsule(db)[-1:]
    assert content_for_hash(read) is not None
    assert Seal(db.with_name("key")).verify(read)


# -- once and only once ---------------------------------------------------------------------------


def test_a_group_that_is_there_already_is_not_added_again(db: Path, writer: ChainWriter) -> None:
    group = capsules(4)
    writer.append(group)
    writer.append(group)
    writer.append([*group[2:], capsule("new"), *group[:2]])
    assert_one_unbroken_chain(db, 5)


def test_an_id_twice_in_one_group_is_one_capsule(db: Path, writer: ChainWriter) -> None:
    one, other = capsules(2)
    writer.append([one, other, one])
    assert_one_unbroken_chain(db, 2)


def test_more_ids_than_one_query_takes_are_looked_up(db: Path, writer: ChainWriter) -> None:
    group = capsules(1100)
    writer.append(group)
    writer.append(group)
    assert len(rows(db)) == 1100


def test_a_commit_whose_success_was_not_reported_is_not_repeated(db: Path, tmp_path: Path) -> None:
    class Unclear(SQLiteStore):
        @contextmanager
        def transaction(self, tenants: Any = ()) -> Iterator[ChainTransaction]:
            with super().transaction(tenants) as transaction:
                yield transaction
            if not rows_reported:
                rows_reported.append(len(rows(db)))
                raise ChainUnavailable("the answer to COMMIT did not arrive")

    rows_reported: list[int] = []
    writer = ChainWriter(Unclear(db), Seal(tmp_path / "key"))
    group = capsules(3)
    with pytest.raises(ChainUnavailable):
        writer.append(group)
    assert rows_reported == [3]
    assert not any(one.is_sealed() for one in group)
    writer.append([*group, capsule("next")])
    writer.close()
    assert_one_unbroken_chain(db, 4)


# -- capsules that cannot be taken ----------------------------------------------------------------

loop: list[Any] = []
loop.append(loop)
deep: list[Any] = []
for _ in range(100_000):
    deep = [deep]

UNFIT: dict[str, tuple[str, Any]] = {
    "what is not JSON": ("outcome.result", {1, 2}),
    "a lone surrogate": ("trigger.request", "\ud800"),
    "a circle": ("outcome.result", loop),
    "too much depth": ("outcome.result", deep),
    "keys that sort otherwise once they are text": ("context.environment", {10: 1, 9: 2}),
    "two keys that become one": ("context.environment", {1: "a", "1": "b"}),
    "keys that cannot be sorted": ("context.environment", {1: "a", "b": "b"}),
    "a parent that is no UUID": ("parent_id", "task-7"),
    "an id that is no UUID": ("id", "task-7"),
    "a type that CPS does not know": ("type", "banana"),
    "a time that is text": ("trigger.timestamp", "noon"),
    "a section that is missing": ("outcome", None),
}


def poisoned(unfit: str) -> Capsule:
    field, value = UNFIT[unfit]
    poison = capsule("poison")
    owner: Any = poison
    *sections, name = field.split(".")
    for section in sections:
        owner = getattr(owner, section)
    setattr(owner, name, value)
    return poison


@pytest.mark.parametrize("unfit", UNFIT)
def test_one_unfit_capsule_is_named_and_keeps_nothing_else_out(
    db: Path, writer: ChainWriter, unfit: str
) -> None:
    poison = poisoned(unfit)
    before, after = capsules(2, "before"), capsules(2, "after")
    writer.append(capsules(1))
    with pytest.raises(CapsuleRejected) as raised:
        writer.append([*before, poison, *after])
    assert raised.value.capsule_id == str(poison.id)
    assert raised.value.reason
    assert not any(one.is_sealed() or one.sequence for one in [*before, poison, *after])
    assert len(rows(db)) == 1
    writer.append([*before, *after])
    assert_one_unbroken_chain(db, 5)


@pytest.mark.parametrize("unfit", UNFIT)
def test_an_unfit_capsule_is_found_before_the_chain_is_locked(
    db: Path, writer: ChainWriter, unfit: str
) -> None:
    with pytest.raises(CapsuleRejected):
        writer.append([poisoned(unfit)])
    assert not db.exists()


def test_a_capsule_that_the_database_refuses_is_named(db: Path, writer: ChainWriter) -> None:
    writer.append(capsules(1))
    with writer._store._file.connection() as connection:  # type: ignore[attr-defined]
        raw: Any = connection.connection.dbapi_connection
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    before, poison, after = capsule(), capsule("x" * 200_000), capsule()
    with pytest.raises(CapsuleRejected, match="too big") as raised:
        writer.append([before, poison, after])
    assert raised.value.capsule_id == str(poison.id)
    writer.append([before, after])
    assert_one_unbroken_chain(db, 3)


def test_a_seal_that_fails_for_every_capsule_blames_none_of_them(db: Path, tmp_path: Path) -> None:
    class Broken(Seal):
        broken = True

        def seal(self, capsule: Capsule) -> Capsule:
            if self.broken:
                raise SealError("the module that holds the key does not answer")
            return super().seal(capsule)

    seal = Broken(tmp_path / "key")
    writer = ChainWriter(SQLiteStore(db), seal)
    group = capsules(2)
    with pytest.raises(ChainUnavailable, match="does not answer"):
        writer.append(group)
    seal.broken = False
    writer.append(group)
    writer.close()
    assert_one_unbroken_chain(db, 2)


# -- many writers, and ends without warning -------------------------------------------------------


def test_threads_share_one_writer(db: Path, writer: ChainWriter) -> None:
    def work() -> None:
        for _ in range(10):
            writer.append(capsules(3))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_one_unbroken_chain(db, 240)


def test_four_processes_write_one_chain_without_fork_or_loss(db: Path) -> None:
    code = """
import sys
from chain_support import capsule, race
from capsule_sdk.chain import open_chain
def work(process):
    chain = open_chain(url=sys.argv[1])
    for number in range(100):
        chain.append([capsule(f"{process}-{number}")])
    chain.close()
race(4, work)
"""
    finish(start(code, db))
    assert_one_unbroken_chain(db, 400)
    done = qp_capsule_command("verify", "--db", db, "--signatures")
    assert done.returncode == 0, done.stdout


def test_a_writer_of_qp_capsule_at_the_same_time_cannot_fork_the_chain(
    db: Path, writer: ChainWriter
) -> None:
    """It may lose capsules of its own (three tries); the chain and ours stay whole."""
    writer.append(capsules(1))
    code = """
import asyncio, sys
from pathlib import Path
from chain_support import capsule
from qp_capsule import Capsules, CapsuleStorage
async def main():
    made = Capsules(storage=CapsuleStorage(Path(sys.argv[1])))
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
    other = start(code, db)
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    ours = 1
    while other.poll() is None:
        writer.append(capsules(2))
        ours += 2
        time.sleep(0.005)
    (printed,) = finish(other)
    assert_one_unbroken_chain(db, ours + int(printed))


def test_a_writer_killed_at_any_moment_leaves_whole_groups_and_a_chain_that_goes_on(
    db: Path, tmp_path: Path
) -> None:
    code = """
import os, random, signal, sys, time
from chain_support import capsules, rows
from capsule_sdk.chain import open_chain
dice, stored = random.Random(7), 0
for _ in range(12):
    reports, report = os.pipe()
    child = os.fork()
    if child == 0:
        chain = open_chain(url=sys.argv[1])
        while True:
            chain.append(capsules(7))
            os.write(report, b"x")
    os.close(report)
    os.read(reports, 1)
    time.sleep(dice.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    reported = 1 + len(os.read(reports, 100_000))
    os.close(reports)
    before, stored = stored, len(rows(sys.argv[1]))
    assert stored % 7 == 0, "a group was torn"
    assert stored >= before + 7 * reported, "a reported commit is gone"
print(stored)
"""
    (printed,) = finish(start(code, db))
    writer = ChainWriter(SQLiteStore(db), Seal(tmp_path / "key"))
    writer.append(capsules(1))
    writer.close()
    assert_one_unbroken_chain(db, int(printed) + 1)


def test_a_capsule_changed_after_the_fact_is_seen(db: Path, writer: ChainWriter) -> None:
    """The check behind all the others can fail."""
    writer.append(capsules(3))
    writer.close()
    connection = sqlite3.connect(db)
    connection.execute("UPDATE capsules SET data = replace(data, 'do task-1', 'do evil')")
    connection.commit()
    connection.close()
    with pytest.raises(AssertionError, match="hash mismatch"):
        assert_verified("--db", db, "--full")
