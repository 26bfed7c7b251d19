"""The bridge: any storage, on one loop, one capsule at a time, none lost and none twice."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from chain_support import assert_one_unbroken_chain, capsule, capsules, finish, start
from qp_capsule import (
    Capsule,
    Capsules,
    CapsuleStorage,
    CapsuleStorageProtocol,
    CapsuleType,
    Seal,
    SealError,
    StorageError,
)
from recording import in_threads
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.pool import StaticPool

import capsule_sdk
from capsule_sdk import capsule_scope
from capsule_sdk.chain import Chain, bridge, chain_identity, open_chain
from capsule_sdk.chain.bridge import BridgedChain
from capsule_sdk.errors import CapsuleRejected, ChainUnavailable


class MemoryStorage:
    """One list per tenant, bound to the loop that used it first, with faults to order."""

    def __init__(self) -> None:
        self.chains: defaultdict[str | None, list[Capsule]] = defaultdict(list)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.threads: set[int] = set()
        self.closed = 0
        self.before_storing: list[Exception] = []
        self.after_storing: list[Exception] = []

    async def _here(self) -> None:
        loop = asyncio.get_running_loop()
        assert self.loop in {None, loop}, "called from another event loop"
        self.loop = loop
        self.threads.add(threading.get_ident())
        await asyncio.sleep(0)

    async def store(self, capsule: Capsule, tenant_id: str | None = None) -> Capsule:
        await self._here()
        assert capsule.is_sealed()
        if self.before_storing:
            raise self.before_storing.pop(0)
        chain = self.chains[tenant_id]
        if capsule.sequence != len(chain) or any(one.id == capsule.id for one in chain):
            raise conflict()
        chain.append(Capsule.from_sealed_dict(capsule.to_sealed_dict()))
        if self.after_storing:
            raise self.after_storing.pop(0)
        return capsule

    async def get(self, capsule_id: str | UUID, tenant_id: str | None = None) -> Capsule | None:
        await self._here()
        found = [one for one in self.chains[tenant_id] if str(one.id) == str(capsule_id)]
        return found[0] if found else None

    async def get_latest(self, tenant_id: str | None = None) -> Capsule | None:
        await self._here()
        return self.chains[tenant_id][-1] if self.chains[tenant_id] else None

    async def get_all_ordered(self, tenant_id: str | None = None) -> Sequence[Capsule]:
        return self.chains[tenant_id]

    async def list(
        self,
        limit: int = 100,
        offset: int = 0,
        type_filter: CapsuleType | None = None,
        tenant_id: str | None = None,
    ) -> Sequence[Capsule]:
        raise AssertionError("the bridge does not list")

    async def count(
        self, type_filter: CapsuleType | None = None, tenant_id: str | None = None
    ) -> int:
        return len(self.chains[tenant_id])

    async def close(self) -> None:
        await self._here()
        self.closed += 1
        self.loop = None

    def assert_whole(self, length: int, tenant_id: str | None = None) -> None:
        chain = self.chains[tenant_id]
        assert [one.sequence for one in chain] == list(range(length))
        assert [one.previous_hash for one in chain[1:]] == [one.hash for one in chain[:-1]]
        assert len({one.id for one in chain}) == length
        assert all(Seal().verify(one) for one in chain)


def conflict() -> Exception:
    return IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed"))


@pytest.fixture
def storage() -> MemoryStorage:
    made = MemoryStorage()
    assert isinstance(made, CapsuleStorageProtocol)
    return made


@pytest.fixture
def chain(storage: MemoryStorage) -> Any:
    made = open_chain(Capsules(storage=storage))
    assert isinstance(made, BridgedChain)
    yield made
    made.close()
    assert not [t for t in threading.enumerate() if t.name == "capsule-sdk-bridge"]


def test_capsules_reach_the_storage_linked_and_sealed(chain: Chain, storage: MemoryStorage) -> None:
    chain.append(capsules(3))
    chain.append(capsules(2))
    chain.append([])
    storage.assert_whole(5)


def test_every_call_runs_on_one_loop_whichever_thread_appends(
    chain: Chain, storage: MemoryStorage
) -> None:
    threads = [threading.Thread(target=chain.append, args=[capsules(5)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    storage.assert_whole(30)
    assert len(storage.threads) == 1
    assert threading.get_ident() not in storage.threads


def test_it_can_be_used_by_code_that_runs_on_a_loop_itself(
    chain: Chain, storage: MemoryStorage
) -> None:
    async def main() -> None:
        chain.append(capsules(2))

    asyncio.run(main())
    storage.assert_whole(2)


def test_its_loop_runs_from_the_opening_on_for_the_end_of_a_process_starts_no_thread(
    storage: MemoryStorage,
) -> None:
    before = threading.active_count()
    chain = open_chain(Capsules(storage=storage))
    assert threading.active_count() == before + 1
    assert not storage.threads
    chain.close()
    assert threading.active_count() == before


def test_close_closes_the_storage_on_its_loop_and_a_later_append_opens_it_again(
    chain: Chain, storage: MemoryStorage
) -> None:
    chain.append(capsules(1))
    chain.close()
    chain.close()
    assert storage.closed == 1
    chain.append(capsules(1))
    storage.assert_whole(2)


# -- failures -------------------------------------------------------------------------------------


def test_a_storage_that_fails_is_reported_and_the_retry_adds_nothing_twice(
    chain: Chain, storage: MemoryStorage
) -> None:
    chain.append(capsules(1))
    group = capsules(3)
    storage.before_storing = [ConnectionError("gone")]
    with pytest.raises(ChainUnavailable, match="MemoryStorage failed: ConnectionError: gone"):
        chain.append(group)
    assert not group[0].is_sealed()
    chain.append(group)
    storage.assert_whole(4)


def test_a_store_whose_success_was_not_reported_is_not_repeated(
    chain: Chain, storage: MemoryStorage
) -> None:
    group = capsules(3)
    storage.after_storing = [TimeoutError("no answer")]
    with pytest.raises(ChainUnavailable, match="no answer"):
        chain.append(group)
    chain.append(group)
    storage.assert_whole(3)


def test_what_another_process_had_stored_is_not_stored_again(storage: MemoryStorage) -> None:
    group = capsules(3)
    for _ in range(2):
        chain = open_chain(Capsules(storage=storage))
        chain.append(group)
        chain.close()
    storage.assert_whole(3)


def test_conflicts_beyond_the_three_tries_of_qp_capsule_lose_nothing(
    chain: Chain, storage: MemoryStorage
) -> None:
    storage.before_storing = [conflict() for _ in range(10)]
    chain.append(capsules(2))
    storage.assert_whole(2)


def test_conflicts_without_end_are_reported(
    chain: Chain, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "_CONFLICT_PATIENCE", 0.1)
    storage.before_storing = [conflict() for _ in range(1000)]
    group = capsules(1)
    with pytest.raises(ChainUnavailable, match="ChainConflictError"):
        chain.append(group)
    assert not group[0].is_sealed()
    storage.before_storing.clear()
    chain.append(group)
    storage.assert_whole(1)


def test_a_conflict_after_a_success_that_was_not_reported_ends_the_retries(
    chain: Chain, storage: MemoryStorage
) -> None:
    """The storage stored it and then said there was a conflict: the id tells."""
    storage.after_storing = [conflict()]
    chain.append(capsules(1))
    storage.assert_whole(1)


def test_what_the_storage_can_never_hold_is_rejected_by_name(
    chain: Chain, storage: MemoryStorage
) -> None:
    too_long = DataError("INSERT", {}, Exception("value too long for character varying(36)"))
    wrapped = StorageError("Failed to store capsule: DataError")
    wrapped.__cause__ = too_long
    one, poison = capsules(2)
    for error in (too_long, wrapped):
        chain.append([one])
        storage.before_storing = [error]
        with pytest.raises(CapsuleRejected) as raised:
            chain.append([one, poison])
        assert raised.value.capsule_id == str(poison.id)
    storage.assert_whole(1)


@pytest.mark.parametrize("value", [{1, 2}, "\ud800", {10: 1, 9: 2}])
def test_what_cannot_be_sealed_or_read_back_is_rejected_by_name(
    chain: Chain, storage: MemoryStorage, value: Any
) -> None:
    one, poison = capsules(2)
    poison.outcome.result = value
    with pytest.raises(CapsuleRejected) as raised:
        chain.append([one, poison])
    assert raised.value.capsule_id == str(poison.id)
    storage.assert_whole(1)


def test_a_seal_that_fails_for_every_capsule_blames_none(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Capsules(storage=storage)
    chain = open_chain(both)

    def fail(_: Capsule) -> Capsule:
        raise SealError("no answer from the key")

    monkeypatch.setattr(both.seal, "seal", fail)
    with pytest.raises(ChainUnavailable, match="no answer from the key"):
        chain.append(capsules(1))
    monkeypatch.undo()
    chain.close()


# -- tenants, other storages, forks ---------------------------------------------------------------


def test_each_tenant_has_a_chain_of_its_own(chain: Chain, storage: MemoryStorage) -> None:
    group = capsules(9)
    for number, one in enumerate(group):
        if tenant := [None, "acme", 7][number % 3]:
            one.context.environment["tenant_id"] = tenant
    chain.append(group)
    for tenant in (None, "acme", "7"):
        storage.assert_whole(3, tenant)


def test_a_storage_that_changes_what_qp_capsules_does_is_asked_itself(tmp_path: Path) -> None:
    class Counting(CapsuleStorage):
        stored = 0

        async def store(self, capsule: Capsule, tenant_id: str | None = None) -> Capsule:
            type(self).stored += 1
            return await super().store(capsule, tenant_id)

    chain = open_chain(Capsules(storage=Counting(tmp_path / "chain.db")))
    chain.append(capsules(3))
    chain.close()
    chain.append(capsules(1))
    chain.close()
    assert Counting.stored == 4
    assert_one_unbroken_chain(tmp_path / "chain.db", 4)


def test_qp_capsules_database_in_memory_is_not_written_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = CapsuleStorage(Path(":memory:"), poolclass=StaticPool)
    chain = open_chain(Capsules(storage=storage))
    chain.append(capsules(2))
    chain.close()
    assert not Path(":memory:").exists()


def test_the_same_storage_is_one_identity_and_another_is_another(storage: MemoryStorage) -> None:
    one, same, other = (Capsules(storage=s) for s in (storage, storage, MemoryStorage()))
    chain = open_chain(one)
    assert chain_identity(one) == chain_identity(same) == chain.identity
    chain.close()
    assert chain_identity(other) != chain_identity(one)
    assert chain_identity(one).startswith("storage:")


def test_a_postgresql_storage_is_known_by_its_database(storage: MemoryStorage) -> None:
    storage.database_url = "postgresql+asyncpg://ana:secret@db/audit"  # type: ignore[attr-defined]
    assert chain_identity(Capsules(storage=storage)) == "postgresql://db:5432/audit"


def test_a_forked_child_gets_a_loop_and_connections_of_its_own(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from chain_support import capsules
from qp_capsule import Capsules, CapsuleStorage
from capsule_sdk.chain import open_chain
class Own(CapsuleStorage): pass
chain = open_chain(Capsules(storage=Own(Path(sys.argv[1]))))
chain.append(capsules(2))
child = os.fork()
if child == 0:
    chain.append(capsules(3))
    chain.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
chain.append(capsules(1))
chain.close()
"""
    finish(start(code, tmp_path / "chain.db"), timeout=30)
    assert_one_unbroken_chain(tmp_path / "chain.db", 6)


def test_a_process_ends_although_nobody_closed_the_chain(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from chain_support import capsules
from qp_capsule import Capsules, CapsuleStorage
from capsule_sdk.chain import open_chain
class Own(CapsuleStorage): pass
open_chain(Capsules(storage=Own(Path(sys.argv[1])))).append(capsules(2))
"""
    process = start(code, tmp_path / "chain.db")
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert_one_unbroken_chain(tmp_path / "chain.db", 2)


def test_a_capsule_is_not_changed_but_for_its_place_and_seal(
    chain: Chain, storage: MemoryStorage
) -> None:
    one = capsule()
    before = one.to_dict()
    chain.append([one])
    assert one.to_dict() == before | {"sequence": 0, "previous_hash": None}
    assert one.is_sealed()


# -- under a recorder ------------------------------------------------------------------------------


class Faulty(MemoryStorage):
    """One that can be told to hang, and that refuses calls that overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = threading.Event()
        self._busy = False

    async def _here(self) -> None:
        assert not self._busy, "calls overlap"
        self._busy = True
        await super()._here()
        while self.hangs.is_set():
            await asyncio.sleep(0.005)
        self._busy = False


@pytest.fixture
def faulty() -> Any:
    storage = Faulty()
    yield storage
    storage.hangs.clear()
    storage.before_storing.clear()


def requests(storage: MemoryStorage) -> list[str]:
    return [one.trigger.request for one in storage.chains[None]]


def test_threads_and_loops_record_in_their_order_and_children_first(faulty: Faulty) -> None:
    capsule_sdk.configure(Capsules(storage=faulty))
    faulty.before_storing = [ConnectionError("gone"), conflict()]

    def work(number: int) -> None:
        async def in_loop() -> None:
            async with capsule_scope("parent", request=f"{number} parent 2"):
                for child in range(3):
                    with capsule_scope("child", request=f"{number} child {child} of 2"):
                        await asyncio.sleep(0)

        with capsule_scope("parent", request=f"{number} parent 1"):
            for child in range(3):
                with capsule_scope("child", request=f"{number} child {child} of 1"):
                    pass
        asyncio.run(in_loop())

    in_threads(4, work)
    assert capsule_sdk.flush() == 0
    faulty.assert_whole(32)
    for number in range(4):
        of_thread = [request for request in requests(faulty) if request.startswith(f"{number} ")]
        assert of_thread == [
            f"{number} {what}"
            for parent in (1, 2)
            for what in (*(f"child {child} of {parent}" for child in range(3)), f"parent {parent}")
        ]
    assert len(faulty.threads) == 1


@pytest.mark.internal_errors
def test_flush_and_shutdown_return_in_time_while_the_storage_hangs(faulty: Faulty) -> None:
    recorder = capsule_sdk.configure(Capsules(storage=faulty), exit_timeout=0.2)
    faulty.hangs.set()
    for _ in range(3):
        with capsule_scope("task"):
            pass
    began = time.monotonic()
    assert capsule_sdk.flush(0.2) == 3
    assert recorder.shutdown() == 3
    with capsule_scope("task"):
        pass
    assert asyncio.run(capsule_sdk.aflush(0.2)) == 4
    assert time.monotonic() - began < 3
    faulty.hangs.clear()
    assert capsule_sdk.flush() == 0
    faulty.assert_whole(4)


@pytest.mark.internal_errors
def test_a_storage_that_raises_for_ever_keeps_its_records_in_the_journal(
    faulty: Faulty, tmp_path: Path
) -> None:
    recorder = capsule_sdk.configure(Capsules(storage=faulty))
    faulty.before_storing = [ConnectionError("gone") for _ in range(1000)]
    with capsule_scope("task"):
        pass
    assert capsule_sdk.flush(0.3) == 1
    stats = recorder.stats()
    assert stats.journal_size > 0
    assert stats.store_away is not None
    journals = list(tmp_path.glob("journal/*.records/*/records-*"))
    assert b'"task"' in b"".join(path.read_bytes() for path in journals)
    faulty.before_storing.clear()
    assert capsule_sdk.flush() == 0
    faulty.assert_whole(1)


@pytest.mark.internal_errors
@pytest.mark.parametrize("stand_in_fails", [False, True])
def test_one_record_that_a_storage_fails_with_in_its_own_words_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in_fails: bool
) -> None:
    monkeypatch.setattr("capsule_sdk.chain.bridge._PATIENCE", 0.1)
    monkeypatch.setattr("capsule_sdk.recording.outbox.RETRY_MOST", 0.05)

    class Picky(MemoryStorage):
        async def store(self, capsule: Any, *arguments: Any, **named: Any) -> Any:
            bad = capsule.trigger.source == "bad" or str(capsule.id) in refused
            if bad and (stand_in_fails or capsule.trigger.request == "poison"):
                refused.add(str(capsule.id))
                raise TypeError("no such thing can be kept here")
            return await super().store(capsule, *arguments, **named)

    refused: set[str] = set()
    storage = Picky()
    recorder = capsule_sdk.configure(Capsules(storage=storage))
    with capsule_scope("above"):
        with capsule_scope("first"):
            pass
        with capsule_scope("bad", request="poison"):
            pass
    with capsule_scope("after"):
        pass
    assert capsule_sdk.flush(20) == 0
    kept = Counter(one.trigger.source for one in storage.chains[None])
    assert (kept["above"], kept["first"], kept["after"]) == (1, 1, 1)
    (key,) = refused
    assert [one for one in storage.chains[None] if str(one.id) == key] or stand_in_fails
    stats = recorder.stats()
    assert stats.failed == 1
    assert stats.lost == (1 if stand_in_fails else 0)
    assert stats.store_away is None


@pytest.mark.internal_errors
def test_a_storage_that_takes_nothing_is_away_and_no_record_is_blamed_for_it(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsule_sdk.chain.bridge._PATIENCE", 0.0)
    recorder = capsule_sdk.configure(Capsules(storage=faulty))
    faulty.before_storing = [ConnectionError("gone") for _ in range(12)]
    for _ in range(3):
        with capsule_scope("task"):
            pass
    assert capsule_sdk.flush(20) == 0
    assert recorder.stats().failed == 0
    faulty.assert_whole(3)


def test_a_storage_that_its_user_closes_in_between_is_used_again(tmp_path: Path) -> None:
    class Own(CapsuleStorage):
        pass

    storage = Own(tmp_path / "chain.db")
    capsule_sdk.configure(Capsules(storage=storage))
    for number in range(3):
        with capsule_scope(f"task {number}"):
            pass
        assert capsule_sdk.flush() == 0
        asyncio.run(storage.close())
    capsule_sdk.shutdown()
    assert_one_unbroken_chain(tmp_path / "chain.db", 3)


def test_the_journal_of_another_storage_lies_in_the_data_directory_under_the_name_of_its_class(
    tmp_path: Path, faulty: Faulty
) -> None:
    capsule_sdk.configure(Capsules(storage=faulty))
    with capsule_scope("task"):
        (directory,) = tmp_path.glob("journal/*.records")
        assert f"{Faulty.__module__}.{Faulty.__qualname__}" in directory.name
        assert str(id(faulty)) not in directory.name
    assert capsule_sdk.flush() == 0


# -- an outage is nobody's fault (decision 25) ------------------------------------------------------


class Hours:
    """A clock that goes on by two seconds with each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 2.0
        return self.now


class Away(MemoryStorage):
    """Takes nothing, takes all, or what it is told."""

    def __init__(self, takes: Callable[[Capsule], bool]) -> None:
        super().__init__()
        self.takes = takes

    async def store(self, capsule: Capsule, tenant_id: str | None = None) -> Capsule:
        if not self.takes(capsule):
            raise TypeError("in words of its own")
        return await super().store(capsule, tenant_id)


def appended(chain: BridgedChain, group: list[Capsule], tries: int) -> int:
    """Append as the recorder does: again and again until all are there; return how many were rejected."""
    rejected = 0
    for _ in range(tries):
        try:
            chain.append(group)
        except ChainUnavailable:
            continue
        except CapsuleRejected as error:
            rejected += 1
            group = [one for one in group if str(one.id) != error.capsule_id]
        else:
            return rejected
    raise AssertionError("it never ends")


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Hours:
    clock = Hours()
    monkeypatch.setattr(bridge, "monotonic", clock)
    return clock


def test_an_outage_of_hours_puts_no_stand_in_in_the_place_of_a_good_record(hours: Hours) -> None:
    storage = Away(lambda _: False)
    chain, group = BridgedChain(Capsules(storage=storage), "away"), capsules(5)
    for _ in range(300):
        with pytest.raises(ChainUnavailable):
            chain.append(group)
    assert hours.now > 500
    storage.takes = lambda _: True
    assert chain.append(group) == 5
    chain.close()


@pytest.mark.parametrize("back", range(30, 52))
def test_an_outage_that_ends_in_any_moment_blames_nobody(hours: Hours, back: int) -> None:
    """Also in the middle of the judgement, and where it goes away once more behind that."""
    for again in (0, 1, 2):
        calls = itertools.count()
        storage = Away(
            lambda _, calls=calls, again=again: (
                (number := next(calls)) >= back and number - back - 1 not in range(again)
            )
        )
        chain, group = BridgedChain(Capsules(storage=storage), "away"), capsules(3)
        assert appended(chain, group, 100) == 0
        assert len(storage.chains[None]) == 3
        chain.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_storage_that_comes_and_goes_blames_nobody(hours: Hours, seed: int) -> None:
    luck = random.Random(seed)
    storage = Away(lambda _: luck.random() < 0.3)
    chain = BridgedChain(Capsules(storage=storage), "away")
    assert appended(chain, capsules(20), 1000) == 0
    chain.close()


@pytest.mark.parametrize("behind", [1, 2, 7])
def test_a_record_that_fails_by_itself_is_told_from_an_outage(hours: Hours, behind: int) -> None:
    group = capsules(2 + behind)
    bad = group[1]
    storage = Away(lambda one: one.id != bad.id)
    chain = BridgedChain(Capsules(storage=storage), "picky")
    assert appended(chain, list(group), 100) == 1
    assert len(storage.chains[None]) == 1 + behind
    chain.close()
