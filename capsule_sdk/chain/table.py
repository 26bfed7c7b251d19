"""The table that holds capsules: qp-capsule's own, column for column and index for index.

It stands in SQLite as ``capsules`` and in PostgreSQL as ``quantumpipes_capsules``. ``data`` holds the
content whole; the other columns are there to find it by. A value that does not fit its index column
MUST NOT keep a capsule out of the chain: a UUID made of it stands in the column instead.
"""

from __future__ import annotations

import uuid
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from qp_capsule import Capsule

__all__ = [
    "POSTGRESQL_TABLE",
    "SESSION_NAMESPACE",
    "SQLITE_TABLE",
    "StoredCapsule",
    "domain_key",
    "row_of",
    "session_key",
    "tenant_key",
    "tenant_of",
]

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
    return text if fits else str(uuid.uuid5(namespace, text))


def row_of(capsule: Capsule, data: str) -> dict[str, Any]:
    """Return the row of a sealed capsule, with the columns of both databases.

    Args:
        capsule: linked and sealed.
        data: its content as JSON.

    """
    return {
        "id": str(capsule.id),
        "type": capsule.type.value,
        "sequence": capsule.sequence,
        "previous_hash": capsule.previous_hash,
        "data": data,
        "hash": capsule.hash,
        "signature": capsule.signature,
        "signature_pq": capsule.signature_pq or "",
        "signed_at": capsule.signed_at.isoformat() if capsule.signed_at else None,
        "signed_by": capsule.signed_by,
        "session_id": session_key(capsule.context.session_id),
        "domain": domain_key(capsule.domain),
        "tenant_id": tenant_of(capsule),
    }


def tenant_of(capsule: Capsule) -> str | None:
    """Return what the tenant column holds for this capsule."""
    environment: object = capsule.context.environment
    return tenant_key(environment.get("tenant_id")) if isinstance(environment, dict) else None


def _table(name: str, *more: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("type", sa.String(20), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False, index=True),
        sa.Column("previous_hash", sa.String(64)),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, index=True),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("signature_pq", sa.Text, nullable=False),
        sa.Column("signed_at", sa.String(40)),
        sa.Column("signed_by", sa.String(32)),
        sa.Column("session_id", sa.String(SESSION_WIDTH), index=True),
        *more,
    )


#: What ``qp_capsule.storage`` creates: one chain.
SQLITE_TABLE: Final = _table(
    "capsules", sa.UniqueConstraint("sequence", name="uq_capsule_sequence")
)

#: What ``qp_capsule.storage_pg`` creates: one chain for each tenant, and the global one.
POSTGRESQL_TABLE: Final = _table(
    "quantumpipes_capsules",
    sa.Column("domain", sa.String(DOMAIN_WIDTH), nullable=False, index=True),
    sa.Column("tenant_id", sa.String(TENANT_WIDTH), index=True),
    sa.UniqueConstraint("tenant_id", "sequence", name="uq_capsule_tenant_sequence"),
    sa.Index(
        "uq_capsule_global_sequence",
        "sequence",
        unique=True,
        postgresql_where=sa.text("tenant_id IS NULL"),
    ),
)


class StoredCapsule(NamedTuple):
    """A capsule as it lies in the table: its content as text, its seal, and what it is found by.

    In a database that somebody has tampered with, any of them may be of any type, or null.
    """

    id: str
    sequence: int
    data: str
    hash: str
    signature: str
    signature_pq: str | None
    signed_at: str | None
    signed_by: str | None
    type: str
    previous_hash: str | None
    session_id: str | None
