"""Chains beside each other: which of them lie in one database, and how messages name them.

In PostgreSQL each tenant has a chain of its own, and so have the capsules without a tenant; a file holds one.
A tenant was named by users of the program, or by whoever can edit the table: the name is shown, never trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final

from capsule_sdk.chain.location import is_postgresql
from capsule_sdk.chain.reading import ChainLength, Glance, columns_of
from capsule_sdk.errors import ChainUnavailable, ConfigurationError, EvidenceError

__all__ = ["chains_beside", "chains_in", "elsewhere", "listed", "name_of", "tenants_with"]

#: Chains that a message names; a database may hold thousands.
_LISTED: Final = 8


def name_of(tenant: str | None) -> str:
    """Return what messages call a chain; what is not printable in the tenant's name is escaped."""
    return "the global chain" if tenant is None else f"tenant {tenant!r}"


def listed(chains: Sequence[ChainLength]) -> str:
    """Return the names and lengths of chains for one sentence: the first few, and how many more."""
    named = [
        f"{name_of(one.tenant)} ({one.capsules:,} capsule{'' if one.capsules == 1 else 's'})"
        for one in chains[:_LISTED]
    ]
    more = len(chains) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def chains_in(url: str) -> list[ChainLength]:
    """Return the chains that lie in a PostgreSQL database, the global one first.

    Raises:
        EvidenceError: it cannot be read.

    """
    with _glance(url) as glance:
        return glance.chains()


@contextmanager
def _glance(url: str) -> Iterator[Glance]:
    try:
        with closing(Glance(url)) as glance:
            yield glance
    except (ChainUnavailable, ConfigurationError) as error:
        raise EvidenceError(str(error)) from error


def tenants_with(url: str, start: str, tenant: str | None) -> list[str | None]:
    """Return the tenants, but this one, in whose chains the ids of capsules begin so.

    Raises:
        EvidenceError: the database cannot be read.

    """
    own = columns_of(tenant)
    with _glance(url) as glance:
        return [one for one in glance.tenants_with(start) if one not in own]


def chains_beside(url: str, tenant: str | None) -> list[ChainLength]:
    """Return those of them that are not the chain of this tenant.

    Raises:
        EvidenceError: the database cannot be read.

    """
    own = columns_of(tenant)
    return [one for one in chains_in(url) if one.tenant not in own]


def elsewhere(name: str, source: object, tenant: str | None) -> str | None:
    """Say why nothing is found in a chain that has no capsules; ``None`` where nothing at all lies there.

    Args:
        name: what to call the place.
        source: a path or a URL.
        tenant: whose chain was looked for; ``None`` is the global one.

    Raises:
        EvidenceError: the database cannot be read.

    """
    others = chains_beside(str(source), tenant) if is_postgresql(source) else []
    if tenant is not None:
        found = f"; the chains here: {listed(others)}" if others else ""
        return f"{name} holds no capsules of tenant {tenant!r}: check the spelling{found}"
    if others:
        return (
            f"{name} holds no capsules without a tenant: name the tenant whose chain you mean with --tenant;"
            f" the chains here: {listed(others)}"
        )
    return None
