"""The bridge: storages that are not ours, driven as qp-capsule drives them, from sync code.

- Every call to the storage MUST run on one event loop in one thread: pools are bound to the loop
  that made them.
- A conflict with another writer MUST NOT lose the capsule: it is tried again on the new head.
- The storage is asked for a capsule's id before each attempt, since nothing else tells whether an
  earlier attempt, perhaps of a process that died, came through.
- A storage may fail with one capsule, in whatever words. That MUST NOT hold up the others: see `_judge`.

How durable a commit is, and whether two hosts can fork the chain, is the storage's own affair. A
process forked from one that has used the storage gets a loop of its own; a storage MUST NOT carry
connections over a fork (those of SQLAlchemy engines are dropped here).
"""

from __future__ import annotations

import os
import random
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import anyio
from anyio.from_thread import BlockingPortal
from qp_capsule import Capsule, Capsules, CapsuleStorage, ChainConflictError, SealError
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import Pool

from capsule_sdk.clocks import monotonic
from capsule_sdk.errors import CapsuleRejected, CapsuleSDKError, ChainUnavailable
from capsule_sdk.forks import Stage, at_fork
from capsule_sdk.threads import Daemon, Lock

from .sealing import SealGuard, draft, unseal
from .table import state_tenant

__all__ = ["BridgedChain"]

_CONFLICT_PATIENCE = 10.0  # seconds of conflicts before the caller is told
_TRIES, _PATIENCE = 5, 30.0  # that one capsule gets, in a row, and seconds, before it is judged
_TRIALS = 3  # that it gets then, each after another one was taken, as long as there are some
_CLOSING_PATIENCE = 2.0  # seconds that closing the storage may take
_abandoned: list[Pool] = []  # of a parent: dropping one would close what the parent uses


class BridgedChain:
    """Appends through ``CapsuleChain.seal_and_store``, one capsule at a time, from any thread."""

    def __init__(self, capsules: Capsules, identity: str) -> None:
        self._capsules = capsules
        self._identity = identity
        self._seal = SealGuard(capsules.seal)
        #: Made here, in the thread that begins the first record: at the end of a process none can be.
        self._loop: _LoopThread | None = _LoopThread()
        self._lock = Lock()
        self._pid = os.getpid()
        self._suspect = _Suspect("")
        _bridges.add(weakref.ref(self, _bridges.discard))

    @property
    def identity(self) -> str:
        """The identity of the storage."""
        return self._identity

    def append(self, capsules: Sequence[Capsule]) -> int:
        """Bring the capsules into the chain one after the other; those before a failure stay.

        Returns:
            How many were added; the others were there already.

        Raises:
            ChainUnavailable: the storage failed; the same call may succeed later and adds nothing
                twice.
            CapsuleRejected: this one can never be added.
            ConfigurationError: the signing key cannot be used.

        """
        if not capsules:
            return 0
        self.notice_fork()
        self._seal.prepare()
        with self._lock:
            if self._loop is None:
                self._loop = _LoopThread()
            added = 0
            for place, capsule in enumerate(capsules, 1):
                try:
                    added += self._loop.portal.call(self._append, capsule)
                except ChainUnavailable as error:
                    self._judge(self._loop, capsule, capsules[place:], error)
                    error.added = added
                    raise
            return added

    def _judge(
        self,
        loop: _LoopThread,
        capsule: Capsule,
        others: Sequence[Capsule],
        error: ChainUnavailable,
    ) -> None:
        """Reject a capsule that fails again and again, while others behind it are taken.

        Where none is taken, or none waits, it is the storage that is away, and all are kept: decision 25. A
        storage that comes and goes is no fault of a capsule, which has to fail each time, in turn with others.
        """
        suspect, key = self._suspect, str(capsule.id)
        if suspect.key != key:
            suspect = self._suspect = _Suspect(key)
        suspect.failures += 1
        if suspect.failures < _TRIES or monotonic() < suspect.since + _PATIENCE:
            return
        rest, again = iter(others), error
        for number in range(_TRIALS):
            try:
                taken = suspect.judged or self._takes_another(loop, rest)
                if not taken and not number:
                    return
            except CapsuleSDKError:
                return
            try:
                loop.portal.call(self._append, capsule)
            except ChainUnavailable as refused:
                again = refused
            else:
                return
        suspect.judged, suspect.failures, suspect.since = True, 0, monotonic()
        raise CapsuleRejected(
            key,
            f"the storage takes others, and failed with this one {_TRIES} times or more: {again}",
        ) from error

    def _takes_another(self, loop: _LoopThread, rest: Iterator[Capsule]) -> bool:
        """Bring the next of these into the chain that is not there; false where there is none.

        Raises:
            CapsuleSDKError: the storage does not take it.

        """
        return any(loop.portal.call(self._append, one) for one in rest)

    def fold(self) -> bool:
        """Return true: what the storage has taken is its affair."""
        return True

    def close(self) -> None:
        """Close the storage on the loop it lived on, and end the loop.

        Raises:
            TimeoutError: it does not close; it is left alone, with its loop.

        """
        self.notice_fork()
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is not None:
                closing = loop.portal.start_task_soon(self._capsules.storage.close)
                try:
                    closing.result(_CLOSING_PATIENCE)
                except TimeoutError:
                    if not closing.done():
                        raise TimeoutError("the storage does not close; it is left alone") from None
                    raise
                finally:
                    if closing.done():
                        loop.stop()

    async def _append(self, capsule: Capsule) -> bool:
        try:
            self._complete(capsule)
            draft(capsule)
            return await self._seal_and_store(capsule)
        except BaseException as error:
            unseal(capsule)
            if isinstance(error, CapsuleSDKError) or not isinstance(error, Exception):
                raise
            raise self._verdict(capsule, error) from error

    def _complete(self, capsule: Capsule) -> None:
        """Have a capsule say whose it is: a storage that is not a file of one chain finds it by that."""
        if not isinstance(self._capsules.storage, CapsuleStorage):
            state_tenant(capsule)

    async def _seal_and_store(self, capsule: Capsule) -> bool:
        chain, storage, seal = self._capsules.chain, self._capsules.storage, self._capsules.seal
        tenant = capsule.context.environment.get("tenant_id")
        tenant_id = None if tenant is None else str(tenant)
        deadline = anyio.current_time() + _CONFLICT_PATIENCE
        while await storage.get(str(capsule.id), tenant_id=tenant_id) is None:
            try:
                await chain.seal_and_store(capsule, seal=seal, tenant_id=tenant_id)
            except ChainConflictError:
                if anyio.current_time() > deadline:
                    raise
                await anyio.sleep(random.uniform(0.001, 0.05))  # noqa: S311 - to part two writers
            else:
                return True
        return False

    def _verdict(self, capsule: Capsule, error: Exception) -> CapsuleSDKError:
        if isinstance(error, SealError):
            return self._seal.blame(capsule, error)
        if any(isinstance(cause, DataError) for cause in _causes(error)):
            return CapsuleRejected(str(capsule.id), f"the storage cannot hold it: {error}")
        storage = type(self._capsules.storage).__name__
        return ChainUnavailable(f"{storage} failed: {type(error).__name__}: {error}")

    def notice_fork(self) -> None:
        """Start afresh in a child; also after forks that ran no hooks."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._lock = Lock()
        self._loop = None
        engine: object = getattr(self._capsules.storage, "_engine", None)
        if isinstance(engine, AsyncEngine):
            _abandoned.append(engine.sync_engine.pool)
            engine.sync_engine.dispose(close=False)


class _Suspect:
    """The capsule that the storage failed with last, and how often, and since when, it has in a row."""

    __slots__ = ("failures", "judged", "key", "since")

    def __init__(self, key: str) -> None:
        self.key = key
        self.failures = 0
        self.since = monotonic()
        #: Whether others were taken while it was not: then only what stands in for it is tried.
        self.judged = False


class _LoopThread:
    """An event loop in a daemon thread.

    Not anyio's ``start_blocking_portal``: that is a generator, and a forked child that finalises
    its copy would wait for ever for a thread it does not have.
    """

    def __init__(self) -> None:
        ready: Future[BlockingPortal] = Future()
        self._thread = Daemon(lambda: _run_loop(ready), "capsule-sdk-bridge")
        self._thread.start()
        self.portal = ready.result()

    def stop(self) -> None:
        self.portal.call(self.portal.stop)
        self._thread.join()


def _run_loop(ready: Future[BlockingPortal]) -> None:
    async def serve() -> None:
        async with BlockingPortal() as portal:
            ready.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        anyio.run(serve)
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


#: All of them, for a forked child. No `weakref.WeakSet`, see `capsule_sdk.recording.forking`.
_bridges: set[weakref.ref[BridgedChain]] = set()


def _after_fork_in_child(_: object) -> None:
    for bridge in [one for ref in list(_bridges) if (one := ref()) is not None]:
        bridge.notice_fork()


at_fork(Stage.REST, in_child=_after_fork_in_child)
