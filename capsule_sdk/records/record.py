"""Record: what an open task and an open LLM call have in common until they are capsules.

``parent_id`` names the task it hangs under; ``parent`` is that task where it lives here and counts this
record in its sums and its commitment, which is so within one recorder. A record is opened once, settled
once (how it ended is decided by whoever comes first), and only then turned into a capsule by `capsules`. It
holds data, never the user's own objects.
"""

from __future__ import annotations

import os
import random
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar
from uuid import UUID, SafeUUID

from ..clocks import monotonic
from ..content import instance, type_name
from ..forks import Stage, at_fork
from .related import related

if TYPE_CHECKING:
    from ..content import ContentPolicy
    from .attribution import Attribution
    from .task import Task
    from .totals import Totals

__all__ = ["Ended", "Record", "how_it_ended", "sealed_error"]


#: `uuid.uuid4` asks the system each time and lets go of the interpreter for it: while the writer is busy, its
#: caller would wait for a whole switch interval (5 ms) to get it back. One seed for each process does as well.
_random = random.Random(os.urandom(32))  # noqa: S311 - an id has to be unique, it need not be secret
at_fork(Stage.REST, in_child=lambda _: _random.seed(os.urandom(32)))


def _new_id() -> UUID:
    """Return a random UUID (RFC 9562, version 4), made past the constructor: its checks take 2 µs."""
    number = _random.getrandbits(128) & _NOT_VERSION_OR_VARIANT | _VERSION_4_VARIANT_1
    new = object.__new__(UUID)
    object.__setattr__(new, "int", number)
    object.__setattr__(new, "is_safe", _UNKNOWN)
    return new


_UNKNOWN = SafeUUID.unknown
_NOT_VERSION_OR_VARIANT = ~((0xF << 76) | (0x3 << 62))
_VERSION_4_VARIANT_1 = (0x4 << 76) | (0x2 << 62)


class Ended:
    """Why a record is ``partial``: the values of ``outcome.metrics["ended"]``."""

    CANCELLED: ClassVar = "cancelled"
    INTERRUPTED: ClassVar = "interrupted"
    EXITED: ClassVar = "system exit"
    CLOSED: ClassVar = "closed"
    ABANDONED: ClassVar = "abandoned"
    PROCESS_EXIT: ClassVar = "process exit"


_ENDINGS: dict[type[BaseException], str] = {
    KeyboardInterrupt: Ended.INTERRUPTED,
    SystemExit: Ended.EXITED,
    GeneratorExit: Ended.CLOSED,
}


def how_it_ended(error: BaseException) -> str | None:
    """Return why a record that ended with ``error`` is partial; ``None`` for an ordinary failure.

    Whatever is no `Exception` and none of Python's own three is a framework's cancellation
    (``asyncio.CancelledError``, ``trio.Cancelled``).
    """
    if instance(error, Exception):  # and not what it says itself, as `isinstance` would
        return None
    for kind, ended in _ENDINGS.items():
        if instance(error, kind):
            return ended
    return Ended.CANCELLED


#: Letters from which on a message that stands in another one's is the same, as of who wraps and raises it anew.
TELLING = 12


def sealed_error(
    error: BaseException | str,
    policy: ContentPolicy,
    *,
    alone: bool = False,
    said: str | None = None,
) -> str:
    """Return an error as it is sealed: the type's name, and the message as ``policy`` lets it be.

    Below it, a line each: its notes, the exceptions of a group, and its cause, or else the exception that was
    being handled, each with its own. What says nothing new is left out. ``alone``, of
    an exception of LiteLLM, leaves all of it out: behind it are only its own retellings.
    ``said`` is its message, where somebody knows better what it says.
    """
    if said is None:  # of an exception the policy makes a text without running its own __str__
        text: str = policy.text(error)  # type: ignore[arg-type]
    else:
        text = f"{type_name(type(error))}: {policy.text(said)}"
    if alone or not issubclass(type(error), BaseException):
        return text
    lines, room = [text], policy.limits.text - len(text)
    for depth, relation, other in related(error):  # type: ignore[arg-type]
        said = policy.text(other)  # type: ignore[arg-type]
        message = said.partition(": ")[2]
        if len(message) > TELLING and any(message in line for line in lines):
            continue
        room -= len(said)
        if room < 0:
            lines.append("… and more")
            break
        lines.append(f"{'  ' * depth}{relation}{said}")
    return "\n".join(lines)


class Record(ABC):
    """One thing that happens and will be one capsule."""

    #: Whether its error is sealed without what stands behind it; see `sealed_error`.
    tells_alone: ClassVar[bool] = False

    __slots__ = (
        "__weakref__",
        "_clock",
        "attribution",
        "backlog_place",
        "capsule_type",
        "closed",
        "counted",
        "duration_ms",
        "ended",
        "error",
        "handed_over",
        "id",
        "journaled",
        "lost",
        "parent",
        "parent_id",
        "placed",
        "policy",
        "started",
        "status",
        "weight",
    )

    def __init__(
        self,
        *,
        parent: Task | None,
        attribution: Attribution,
        capsule_type: str,
        policy: ContentPolicy,
    ) -> None:
        self.id = _new_id()
        self.parent = parent
        self.parent_id: UUID | None = parent.id if parent is not None else None
        #: Whether the task it hangs under commits to it. False where that task lives in another process or
        #: store.
        self.counted = True
        #: Sealed under the policy, as all that a record holds is: it may be written anywhere.
        self.attribution = attribution.sealed_under(policy)
        self.capsule_type = capsule_type
        self.policy = policy
        #: Seconds since 1970, of the system's clock.
        self.started = time.time()
        self._clock = monotonic()
        self.duration_ms = 0
        self.closed = False
        #: Why its capsule, or one below it, is only a stand-in.
        self.lost: str | None = None
        #: Whether its end is in the journal, and the bytes that were written of it there.
        self.journaled = False
        #: Whether it lies where the writer takes it from.
        self.handed_over = False
        self.weight = 0
        #: Whether its capsule is complete, in line for the chain: sums and commitment are final.
        self.placed = False
        #: Its place in the backlog, counted from 1; 0 while it waits in memory.
        self.backlog_place = 0
        self.status = "pending"
        self.ended: str | None = None
        self.error: str | None = None

    @property
    def started_at(self) -> datetime:
        """When it started, in UTC."""
        return datetime.fromtimestamp(self.started, UTC)

    def stop_clock(self) -> None:
        """Take the time from start to now, in whole milliseconds."""
        self.duration_ms = int((monotonic() - self._clock) * 1000)

    def settle(self, status: str, *, error: str | None = None, ended: str | None = None) -> None:
        """Write down how it ended. Called once, by whoever took the record from its recorder."""
        self.closed = True
        self.stop_clock()
        self.status = status
        self.error = error
        self.ended = ended

    def settle_with(self, error: BaseException, said: str | None = None) -> None:
        """Settle as ``error`` says: an `Exception` is a failure, anything else cut it short.

        ``said`` is its message; see `sealed_error`.
        """
        ended = how_it_ended(error)
        self.settle(
            "failure" if ended is None else "partial",
            error=sealed_error(error, self.policy, alone=self.tells_alone, said=said),
            ended=ended,
        )

    def cut_short(self, ended: str) -> None:
        """Settle as partial, with what is known by now."""
        self.settle("partial", ended=ended)

    @abstractmethod
    def totals(self) -> Totals:
        """Return what this adds to the task above it."""

    @abstractmethod
    def release(self) -> None:
        """Let go of what was asked and answered: the capsule is safe, and the user may keep this for long."""
