"""Task: the capsule in the making that a scope or a decorated call fills, and its commitment to children.

Invariants: a child is started under a task before the task is sealed or not at all; nothing is
written to a task after it has ended. The lock is re-entrant because a generator that dies in
garbage collection may end its task inside any line of the same thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from .. import content
from ..errors import TaskClosedError
from ..forks import Stage, at_fork
from ..logs import guarded, tell
from ..threads import RLock
from .labels import labelled
from .record import Record, sealed_error
from .totals import Totals

if TYPE_CHECKING:
    from ..content import ContentPolicy
    from .attribution import Attribution

__all__ = ["Task", "children_digest", "fraction"]

_LONGEST = 1e12  # milliseconds, about 30 years


def fraction(value: Any) -> float:
    """Return one of CPS's own float fields: 0.0 to 1.0, to four decimals."""
    return round(_number(value), 4)


def _number(value: Any, most: float = 1.0) -> float:
    """Return a number of a type that is known to be one, or of a text, from 0 to ``most``; 0 for all else."""
    known = content.safe(value)
    try:
        number = float(known) if isinstance(known, str | int | float) else 0.0
    except (ValueError, OverflowError):
        return 0.0
    return 0.0 if isnan(number) else min(most, max(0.0, number))


def _each(options: Any) -> list[Any]:
    """Return options one by one; a foreign collection counts as one, for only its own code could walk it."""
    for kind in (list, tuple):
        if content.instance(options, kind):
            return list(kind.__iter__(options))
    single = content.instance(options, (str, bytes, dict, int, float))
    return [options] if single or not content.is_builtin(options) else list(options)


def is_fraction(value: Any) -> bool:
    """Tell whether a value is what `fraction` seals as it is."""
    kind: type = type(value)  # compared by `is`, here and elsewhere: `in` would ask a metaclass
    return (kind is int or kind is float) and 0 <= value <= 1


class Keeper(Protocol):
    """The recorder of a task, as the task sees it."""

    def note(self, task: Task, field: str) -> None:
        """Keep what has been written to ``field`` of an open task."""
        ...


#: For what belongs together in the fields of a task, of all tasks: it is held for a few instructions, and one
#: lock can be made anew in a forked child, where another thread of the parent may have held it.
_lock = RLock()


def _renew_lock(_: object) -> None:
    global _lock  # noqa: PLW0603 - see above
    _lock = RLock()


at_fork(Stage.REST, in_child=_renew_lock)


def _uuids(ids: bytes) -> list[UUID]:
    return [UUID(bytes=ids[start : start + 16]) for start in range(0, len(ids), 16)]


def children_digest(ids: Iterable[UUID | str]) -> str:
    """Return the commitment to a task's direct children.

    SHA3-256, in hexadecimal, over their ids in lower case, sorted, each followed by a line feed;
    the digest of nothing where there are none.
    """
    lines = "".join(f"{child}\n" for child in sorted(str(child) for child in ids))
    return hashlib.sha3_256(lines.encode()).hexdigest()


class Task(Record):
    """One open record of the user's own code. Made by ``@capsuled`` and ``capsule_scope``.

    Every method raises `TaskClosedError` once the task has ended. Texts and values are taken when
    they are given, so that what happens to them later changes nothing.
    """

    __slots__ = (
        "_started",
        "_summary",
        "arguments",
        "blocked",
        "metrics",
        "name",
        "open_children",
        "options",
        "reasoning",
        "recorder",
        "request",
        "result",
        "side_effects",
        "subtree",
        "tool_calls",
    )

    #: False on the task that `current_task` gives outside every task: it takes all and records
    #: nothing.
    recording: bool = True

    def __init__(
        self,
        name: str,
        *,
        parent: Task | None,
        attribution: Attribution,
        capsule_type: str,
        policy: ContentPolicy,
        request: str = "",
        arguments: Any = None,
    ) -> None:
        super().__init__(
            parent=parent, attribution=attribution, capsule_type=capsule_type, policy=policy
        )
        self.name = labelled(name)
        self.request = request
        self.arguments = arguments
        self.result: Any = None
        self.reasoning: dict[str, Any] = {}
        self.options: list[dict[str, Any]] = []
        self.tool_calls: list[dict[str, Any]] = []
        self.side_effects: list[str] = []
        self.metrics: dict[str, Any] = {}
        self.blocked: str | None = None
        self._summary = ""
        #: The ids of its direct children, 16 bytes each: there can be millions under a task that lives for
        #: weeks.
        self._started = bytearray()
        self.open_children = 0
        #: Its recorder; a call recorded elsewhere names it as parent but is not counted by it.
        self.recorder: Keeper | None = None
        self.subtree = Totals()

    def __repr__(self) -> str:
        return f"<Task {self.name!r} {self.id} {self.status}>"

    # -- what the user writes ---------------------------------------------------------------------

    def reason(
        self,
        analysis: str = "",
        *,
        options: Sequence[str | Mapping[str, Any]] = (),
        selected: str = "",
        reasoning: str = "",
        confidence: float | None = None,
    ) -> None:
        """Say why (CPS 1.3).

        Args:
            analysis: the situation as it was understood.
            options: what was considered, as texts or as mappings with the fields of a CPS option
                (``description``, ``pros``, ``cons``, ``feasibility``, ``rejection_reason`` …).
            selected: the option taken, by its text or its ``id``.
            reasoning: why that one.
            confidence: 0.0 to 1.0. A value outside is brought to the nearer end, which is all that CPS 1.3
                can hold; what was given is sealed in ``outcome.metrics.confidence_given``, and said in the log.

        """
        self._check_open("reason")
        with guarded("task.reason"):
            text = self.policy.text
            for name, given in (
                ("analysis", analysis),
                ("selected_option", selected),
                ("reasoning", reasoning),
            ):
                if given is not None and (taken := text(given)):
                    self._put("reasoning", name, taken)
            if confidence is not None:
                sealed = fraction(confidence)
                self._put("reasoning", "confidence", sealed)
                if not is_fraction(confidence):
                    told = self.policy.value(confidence)
                    # No error: it may be a model's own answer, and the call around it has done its work.
                    tell(
                        "warning", "confidence is no number from 0.0 to 1.0: the nearest is sealed instead",
                        task=self.name, given=told, sealed=sealed,
                    )  # fmt: skip
                    self._put("metrics", "confidence_given", told)
            for option in _each(options):
                self._add("options", self._option(option, selected))

    def _option(self, option: str | Mapping[str, Any], selected: str) -> dict[str, Any]:
        # To compare: `selected` names an option as the user wrote it, not as it is sealed.
        fields = content.safe(option)
        if not isinstance(fields, dict):
            fields = {"description": fields}
        taken = self.policy.value(option)
        if not isinstance(taken, dict):
            taken = {"description": taken}
        name = content.safe(selected)
        chosen = bool(name) and name in (fields.get("id"), fields.get("description"))
        return {**taken, "selected": bool(fields.get("selected", chosen))}

    def tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        result: Any = None,
        error: BaseException | str | None = None,
        *,
        duration_ms: int = 0,
    ) -> None:
        """Record one tool call of this task (CPS 1.5), successful unless ``error`` is given."""
        self._check_open("tool")
        with guarded("task.tool"):
            taken = self.policy.value({} if arguments is None else arguments)
            call = {
                "tool": content.label(name),
                "arguments": taken if isinstance(taken, dict) else {"arguments": taken},
                "result": self.policy.value(result),
                "success": error is None,
                "duration_ms": int(_number(duration_ms, most=_LONGEST)),
                "error": None if error is None else sealed_error(error, self.policy),
            }
            self._add("tool_calls", call)

    def side_effect(self, text: str) -> None:
        """Record something that this task changed in the world (CPS 1.6)."""
        self._check_open("side_effect")
        self._add("side_effects", self.policy.text(text))

    def metric(self, key: str, value: float | str | bool | None) -> None:
        """Record a figure under ``outcome.metrics``; the SDK's own names win over it."""
        self._check_open("metric")
        self._put("metrics", content.label(key), self.policy.value(value))

    @property
    def summary(self) -> str:
        """The brief summary of the outcome (CPS 1.6); assign it while the task is open."""
        return self._summary

    @summary.setter
    def summary(self, text: str) -> None:
        self._check_open("summary")
        self._summary = self.policy.text(text)
        self._note("summary")

    def block(self, reason: str) -> None:
        """Say that policy refused this: the outcome becomes ``blocked``, ``reason`` its error."""
        self._check_open("block")
        self.blocked = self.policy.text(reason)
        self._note("blocked")

    def _add(self, field: str, value: Any) -> None:
        """Write to one of the lists, and keep that: both, before another thread does."""
        with _lock:
            getattr(self, field).append(value)
            self._note(field)

    def _put(self, field: str, key: str, value: Any) -> None:
        """Write to one of the mappings, likewise."""
        with _lock:
            getattr(self, field)[key] = value
            self._note(field)

    def _note(self, field: str) -> None:
        if self.recorder is not None:
            self.recorder.note(self, field)

    def _check_open(self, what: str) -> None:
        if self.closed:
            raise TaskClosedError(
                f"{what}: the task {self.name!r} has ended ({self.status}) and its capsule is complete; "
                "write to it inside its `with` block or its decorated call"
            )

    # -- how it ends ------------------------------------------------------------------------------

    def settle(self, status: str, *, error: str | None = None, ended: str | None = None) -> None:
        """Write down how it ended; what `block` said stays."""
        if self.blocked is not None:
            status, error = "blocked", self.blocked
        super().settle(status, error=error, ended=ended)

    def adopt(self, child: UUID) -> bool:
        """Note that ``child`` has started directly under this task; refused once it has ended."""
        with _lock:
            if self.closed:
                return False
            self._started += child.bytes
            self.open_children += 1
            return True

    def children(self) -> list[UUID]:
        """Return the ids of all that was started directly under this task."""
        with _lock:
            ids = bytes(self._started)
        return _uuids(ids)

    def commit_to(self, ids: Iterable[UUID], open_children: int) -> None:
        """Take these as all that was started directly under this task, of which so many have not ended."""
        with _lock:
            self._started = bytearray().join(child.bytes for child in ids)
            self.open_children = open_children

    def has_adopted(self, child: UUID) -> bool:
        """Tell whether ``child`` counts as started under this task."""
        wanted = child.bytes
        with _lock:
            found = self._started.find(wanted)
            while found % 16 and found >= 0:
                found = self._started.find(wanted, found + 1)
            return found >= 0

    def waits(self) -> bool:
        """Tell whether children are still open.

        Under the lock, though one number is read: a child that was being adopted while the task closed is
        counted when the lock is free, and from then on there can be no other.
        """
        with _lock:
            return self.open_children > 0

    def child_ended(self) -> int:
        """Note that one direct child is complete; return how many are still open."""
        with _lock:
            self.open_children -= 1
            return self.open_children

    def commitment(self) -> dict[str, Any]:
        """Return ``children``: how many started, how many had ended, and the digest of their ids."""
        with _lock:
            ids, still_open = bytes(self._started), self.open_children
        started = _uuids(ids)
        return {
            "started": len(started),
            "ended": len(started) - still_open,
            "digest": children_digest(started),
        }

    def totals(self) -> Totals:
        """Return the sums over the whole subtree."""
        return self.subtree

    def release(self) -> None:
        """Let go of all texts and values, and of the ids of the children."""
        self.request, self.arguments, self.result = "", None, None
        self.reasoning, self.metrics = {}, {}
        self.options, self.tool_calls, self.side_effects = [], [], []
        self._started = bytearray()
