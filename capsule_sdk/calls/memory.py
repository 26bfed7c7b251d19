"""Memory: which capsule holds the beginning of a conversation already, so that it is not sealed once more.

A conversation of a hundred turns is sent a hundred times, each time as a whole. A capsule whose messages begin
with exactly those of an earlier one names that one (``continues``) and holds only what is new.

Rules it keeps:

- An earlier capsule is named only if this process made it, for the same chain, tenant, agent, domain and user,
  in the same session, or under the same task where there is none: who may read the one may read the other.
- What is equal is known by SHA3-256 over the canonical JSON of the messages as they were sent, which is the
  earlier capsule's ``prompt_hash``; a reader finds out for himself whether it fits.
- It is bounded, forgets the oldest, and knows nothing after a fork. Single steps of a dict are atomic, so it
  needs no lock, which a fork or an interrupt could leave held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from ..forks import Stage, at_fork
from .hashing import canonical_of

if TYPE_CHECKING:
    from ..records.attribution import Attribution
    from ..records.record import Record

__all__ = ["Memory", "Remembering", "memory_of", "prefixes_of", "whose"]

#: Beginnings, and sets of tools, that are remembered for one chain.
REMEMBERED: Final = 4_096


class Memory:
    """What the capsules of one chain hold: a conversation up to a message, the definitions of tools."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Hashable, UUID] = {}

    def find(self, key: Hashable) -> UUID | None:
        """Return the capsule that holds this."""
        return self._known.get(key)

    def keep(self, keys: Iterable[Hashable], capsule: UUID) -> None:
        """Remember that this capsule holds these."""
        known = self._known
        for key in keys:
            known.pop(key, None)  # to the end, as the newest
            known[key] = capsule
        while len(known) > REMEMBERED:
            try:
                known.pop(next(iter(known)), None)
            except (RuntimeError, StopIteration):  # another thread was faster
                break


class Remembering:
    """What one call asks of a memory, and what its capsule will hold.

    Args:
        memory: that of the chain.
        within: whose conversation it is; what others hold is not looked at. ``None``: nobody knows, so nothing
            is remembered.

    """

    __slots__ = ("_keys", "_memory", "_within")

    def __init__(self, memory: Memory, within: Hashable) -> None:
        self._memory = memory
        self._within = within
        self._keys: list[Hashable] = []

    def beginning(self, hashes: Sequence[str], beside: Hashable) -> tuple[UUID, int] | None:
        """Return the capsule that holds most of these messages, and how many.

        Args:
            hashes: those of the beginnings of the prompt, the shortest first.
            beside: what comes before the messages, and has to be the same.

        """
        for count in range(len(hashes) if self._within is not None else 0, 0, -1):
            found = self._memory.find((self._within, beside, hashes[count - 1]))
            if found is not None:
                return found, count
        return None

    def tools(self, digest: str) -> UUID | None:
        """Return the capsule that holds the definitions of these tools."""
        return self._memory.find((self._within, digest))

    def holds(self, hashes: Sequence[str], beside: Hashable) -> None:
        """Say that the capsule of this call holds these messages, or names the one that does."""
        if hashes:
            self._keys.append((self._within, beside, hashes[-1]))

    def holds_tools(self, digest: str) -> None:
        """Say that the capsule of this call holds the definitions of these tools."""
        self._keys.append((self._within, digest))

    def kept_by(self, capsule: UUID) -> None:
        """Say which capsule that is."""
        if self._within is None:
            return
        self._memory.keep(self._keys, capsule)


def whose(attribution: Attribution, parent: Record | None) -> Hashable:
    """Return whose conversation a call belongs to; ``None`` where nothing tells, and nothing is remembered."""
    if not attribution.session_id and parent is None:
        return None
    return (
        attribution.tenant_id,
        attribution.agent_id,
        attribution.domain,
        attribution.user_id,
        attribution.session_id or (None if parent is None else parent.id),
    )


def prefixes_of(messages: list[Any]) -> Sequence[str]:
    """Return the hashes of the beginnings of a prompt, that of its first message first.

    The last one is its `hashing.prompt_hash`: the canonical JSON of a list is made of those of its entries, so
    one pass over the messages gives all. None where one of them cannot be written as JSON.
    """
    so_far, hashes = hashlib.sha3_256(b"["), []
    try:
        for number, message in enumerate(messages):
            text = canonical_of(message, strictly=True)
            so_far.update((f",{text}" if number else text).encode())
            ended = so_far.copy()
            ended.update(b"]")
            hashes.append(ended.hexdigest())
    except (TypeError, ValueError, RecursionError):
        return ()
    return hashes


_memories: WeakKeyDictionary[Any, Memory] = WeakKeyDictionary()
at_fork(Stage.REST, in_child=lambda _: _memories.clear())


def memory_of(chain: Any) -> Memory:
    """Return the memory of whoever records to one chain; it lives as long as that does."""
    found = _memories.get(chain)
    return _memories.setdefault(chain, Memory()) if found is None else found
