"""Continuing: the earlier capsules in which the beginning of a conversation lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..formats.entries import section
from ..sources import Source
from .conversation import Continued, continued

__all__ = ["earlier_of"]

#: Capsules that one conversation is followed through.
MOST: Final = 500


def earlier_of(
    source: Source, record: Mapping[str, Any]
) -> tuple[list[Mapping[str, Any]], str | None]:
    """Return the capsules that hold the beginning of a conversation, and the one that is missing.

    The chain is read twice: for who continues whom, and for those that are wanted. One fits only if the hash
    of its prompt is the one that it is named with.

    Returns:
        Those capsules, the newest first; and the id of one that is not here, or does not fit.

    """
    first = continued(record)
    if first is None:
        return [], None
    wanted = _followed(source, first)
    held = {one.capsule_id.lower(): one for one in wanted}
    found: dict[str, Mapping[str, Any]] = {}
    for entry in source.entries():
        if '"messages"' not in entry.text:
            continue
        other = entry.record() or {}
        named = held.get(str(other.get("id")).lower())
        if named is not None and section(other, "reasoning").get("prompt_hash") == named.hash:
            found.setdefault(named.capsule_id.lower(), other)
    earlier: list[Mapping[str, Any]] = []
    for one in wanted:
        if one.capsule_id.lower() not in found:
            return earlier, one.capsule_id
        earlier.append(found[one.capsule_id.lower()])
    more = continued(earlier[-1])
    return earlier, None if more is None else more.capsule_id


def _followed(source: Source, first: Continued) -> list[Continued]:
    """Return the capsules that are named one after the other, beginning with ``first``."""
    links: dict[str, Continued] = {}
    for entry in source.entries():
        if '"continues"' in entry.text:
            other = entry.record() or {}
            link = continued(other)
            if link is not None:
                links.setdefault(str(other.get("id")).lower(), link)
    wanted, seen, link = [first], {first.capsule_id.lower()}, links.get(first.capsule_id.lower())
    while link is not None and link.capsule_id.lower() not in seen and len(wanted) < MOST:
        seen.add(link.capsule_id.lower())
        wanted.append(link)
        link = links.get(link.capsule_id.lower())
    return wanted
