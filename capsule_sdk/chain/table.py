"""The table that holds capsules: qp-capsule's own, column for column and index for index.

It stands in SQLite as ``capsules`` and in PostgreSQL as ``quantumpipes_capsules``. ``data`` holds the
content whole; the other columns are there to find it by (`capsule_sdk.index_keys`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from qp_capsule import Capsule

from capsule_sdk.index_keys import (
    DOMAIN_WIDTH,
    SESSION_WIDTH,
    TENANT_WIDTH,
    domain_key,
    session_key,
    tenant_key,
)

__all__ = [
    "POSTGRESQL_TABLE",
    "SQLITE_TABLE",
    "StoredCapsule",
    "row_of",
    "state_tenant",
    "tenant_of",
]


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


def state_tenant(capsule: Capsule) -> None:
    """Write into a capsule that it is of no tenant, where it does not say: what its row is found by is sealed.

    Without that, whoever can write to the table could move a chain of capsules without tenant under any name.
    """
    environment: object = capsule.context.environment
    if isinstance(environment, dict):
        environment.setdefault("tenant_id", None)


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

    ``domain`` and ``tenant_id`` are ``None`` in SQLite, whose table has no such columns.

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
    domain: str | None
    tenant_id: str | None
