"""The writer: links, seals and commits a group of capsules as one, or leaves the chain as it was.

- The head MUST be read inside the transaction that adds to it, and that transaction MUST exclude
  every other writer: so the chain cannot fork.
- A capsule whose id is in the chain MUST NOT be added again: so a commit whose outcome is unknown
  can be repeated.
- A capsule that was not committed MUST NOT look sealed: its seal is taken off again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qp_capsule import Capsule, Seal

from capsule_sdk.errors import CapsuleRejected

from .sealing import SealGuard, stored_text, unseal
from .store import ChainStore, ChainTransaction, UnstorableRow, session_key

__all__ = ["ChainWriter"]


class ChainWriter:
    """Appends to the chain of one store with one seal. Safe to use from any thread."""

    def __init__(self, store: ChainStore, seal: Seal) -> None:
        self._store = store
        self._seal = SealGuard(seal)

    @property
    def identity(self) -> str:
        """The identity of the store."""
        return self._store.identity

    def append(self, capsules: Sequence[Capsule]) -> None:
        """Link, seal and durably commit the capsules in the given order, all or nothing.

        Raises:
            ChainUnavailable: nothing was added, or it is not known whether it was; the same call
                may succeed later and adds nothing twice.
            CapsuleRejected: this one can never be added; nothing of the group was.
            ConfigurationError: the signing key cannot be used.

        """
        if not capsules:
            return
        self._seal.prepare()
        try:
            with self._store.transaction() as transaction:
                self._add(transaction, capsules)
        except BaseException:
            for capsule in capsules:
                unseal(capsule)
            raise

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def _add(self, transaction: ChainTransaction, capsules: Sequence[Capsule]) -> None:
        held = transaction.present(str(capsule.id) for capsule in capsules)
        sequence, previous_hash = transaction.head() or (-1, None)
        rows = []
        for capsule in capsules:
            key = str(capsule.id)
            if key in held:
                continue
            held.add(key)
            sequence += 1
            capsule.sequence, capsule.previous_hash = sequence, previous_hash
            self._seal.seal(capsule)
            rows.append(_row(capsule))
            previous_hash = capsule.hash
        try:
            transaction.insert(rows)
        except UnstorableRow as error:
            raise CapsuleRejected(rows[error.index]["id"], str(error)) from error


def _row(capsule: Capsule) -> dict[str, Any]:
    return {
        "id": str(capsule.id),
        "type": capsule.type.value,
        "sequence": capsule.sequence,
        "previous_hash": capsule.previous_hash,
        "data": stored_text(capsule),
        "hash": capsule.hash,
        "signature": capsule.signature,
        "signature_pq": capsule.signature_pq,
        "signed_at": capsule.signed_at.isoformat() if capsule.signed_at else None,
        "signed_by": capsule.signed_by,
        "session_id": session_key(capsule.context.session_id),
    }
