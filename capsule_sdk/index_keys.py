"""Index keys: what stands in the columns that a capsule is found by. A leaf, for who writes and who verifies.

A value that does not fit its column MUST NOT keep a capsule out of the chain: a UUID made of it stands in the
column instead. The content holds the whole value.
"""

from __future__ import annotations

import uuid
from typing import Final

__all__ = [
    "DOMAIN_WIDTH",
    "SESSION_NAMESPACE",
    "SESSION_WIDTH",
    "TENANT_WIDTH",
    "domain_key",
    "session_key",
    "tenant_key",
]

#: Characters that qp-capsule's columns hold.
SESSION_WIDTH: Final = 36
DOMAIN_WIDTH: Final = 50
TENANT_WIDTH: Final = 36

#: A value that does not fit becomes ``uuid5(namespace, value)`` in its column, so that anybody who
#: knows the whole value, which only the content holds, can find its rows.
SESSION_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:capsule-sdk:session-id")
DOMAIN_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:capsule-sdk:domain")
TENANT_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:capsule-sdk:tenant-id")


def session_key(session_id: object) -> str | None:
    """Return what the session column holds."""
    return _index_key(session_id, SESSION_WIDTH, SESSION_NAMESPACE)


def domain_key(domain: object) -> str | None:
    """Return what the domain column holds, which PostgreSQL does not let be null."""
    return _index_key("" if domain is None else domain, DOMAIN_WIDTH, DOMAIN_NAMESPACE)


def tenant_key(tenant_id: object) -> str | None:
    """Return what the tenant column holds; ``None`` is the global chain."""
    return _index_key(tenant_id, TENANT_WIDTH, TENANT_NAMESPACE)


def _index_key(value: object, width: int, namespace: uuid.UUID) -> str | None:
    if value is None:
        return None
    text = str(value)
    fits = len(text) <= width and "\0" not in text  # PostgreSQL takes no NUL
    # Half a character has no bytes: no store of ours holds one, but a file that was altered may.
    return text if fits else str(uuid.uuid5(namespace, text.encode(errors="replace").decode()))
