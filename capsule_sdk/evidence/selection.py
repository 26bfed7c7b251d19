"""Selection: some records of a chain, and what may be claimed of them. Pure.

A selection of a whole task holds all that was recorded under it, which can be proven: each task names its
children. Of any other selection only its records are proven, each by its own seal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from capsule_sdk.errors import EvidenceError

from .formats.entries import UUID, Entry, moment, section

__all__ = ["Selection", "select", "subtree"]

_ANY_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Selection:
    """What records have to be; without any condition, all of them.

    Attributes:
        task: the id of a task: this one, and all that belongs to it.
        agent: ``context.agent_id``.
        domain: ``domain``.
        session: ``context.session_id``.
        user: ``trigger.user_id``.
        status: ``outcome.status``.
        since: they began at this time or later.
        until: they began before this time.

    """

    task: str | None = None
    agent: str | None = None
    domain: str | None = None
    session: str | None = None
    user: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def from_claim(cls, claim: Mapping[str, Any]) -> Selection:
        """Read what a manifest claims that its records were selected for. Nobody has signed it.

        Raises:
            EvidenceError: that is no selection.

        """
        known = {field.name for field in fields(cls)}
        if not claim.keys() <= known or not all(isinstance(value, str) for value in claim.values()):
            raise EvidenceError("it claims to be a selection of a kind that does not exist")
        if not UUID.fullmatch(claim.get("task", _ANY_ID).lower()):
            raise EvidenceError("its task is not an id")
        try:
            times = {name: moment(claim[name]) for name in ("since", "until") if name in claim}
        except ValueError:
            raise EvidenceError("its since or until is not a date") from None
        return cls(**{**claim, **times})

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) is not None for field in fields(self))

    def claim(self) -> dict[str, str] | None:
        """Return the conditions, for a manifest; ``None`` where there are none."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) for name, value in given.items() if value is not None} or None

    def matches(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a record meets all conditions but that of the task; see `subtree`."""
        context, trigger, outcome = (
            section(record, name) for name in ("context", "trigger", "outcome")
        )
        wanted = (
            (self.agent, context.get("agent_id")),
            (self.domain, record.get("domain")),
            (self.session, context.get("session_id")),
            (self.user, trigger.get("user_id")),
            (self.status, outcome.get("status")),
        )
        if any(value is not None and value != found for value, found in wanted):
            return False
        return self._is_in_time(trigger.get("timestamp"))

    def _is_in_time(self, timestamp: object) -> bool:
        if self.since is None and self.until is None:
            return True
        try:
            began = moment(timestamp)
        except (TypeError, ValueError):
            return False
        return (self.since is None or began >= self.since) and (
            self.until is None or began < self.until
        )


def select(entries: Callable[[], Iterable[Entry]], selection: Selection) -> Iterator[Entry]:
    """Yield the entries that a selection takes, in chain order. What is not a JSON object is in none.

    Args:
        entries: gives those of the chain; called twice where a task was asked for, whose records may stand
            before it.
        selection: what they have to be.

    Raises:
        EvidenceError: there is no such task.

    """
    if not selection:
        yield from entries()
        return
    ids = None
    if selection.task is not None:
        records = (record for entry in entries() if (record := entry.record()) is not None)
        ids = subtree(selection.task.lower(), map(_kinship, records))
        if not ids:
            raise EvidenceError(
                f"there is no task {selection.task} in the chain: give its whole id"
            )
    for entry in entries():
        record = entry.record()
        if record is None or not selection.matches(record):
            continue
        if ids is None or _kinship(record)[0] in ids:
            yield entry


def _kinship(record: Mapping[str, Any]) -> tuple[str, str | None]:
    parent = record.get("parent_id")
    return str(record.get("id")).lower(), str(parent).lower() if parent else None


def subtree(task: str, parents: Iterable[tuple[str, str | None]]) -> set[str]:
    """Return the ids of a task and of all that belongs to it, however deep.

    Args:
        task: its id.
        parents: the id of each record, with that of the task it belongs to; in any order.

    Returns:
        Nothing where the task itself is not among them.

    """
    children: dict[str, list[str]] = {}
    found = False
    for key, parent in parents:
        found = found or key == task
        if parent is not None:
            children.setdefault(parent, []).append(key)
    ids: set[str] = set()
    waiting = [task] if found else []
    while waiting:
        key = waiting.pop()
        if key not in ids:
            ids.add(key)
            waiting += children.get(key, ())
    return ids
