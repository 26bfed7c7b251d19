"""The writer: links, seals and commits a group of capsules as one, or leaves the chain as it was.

- The head MUST be read inside the transaction that adds to it, and that transaction MUST exclude
  every other writer: so the chain cannot fork.
- A capsule whose id is in the chain MUST NOT be added again: so a commit whose outcome is unknown
  can be repeated.
- A capsule that was not committed MUST NOT look sealed: its seal is taken off again.
- The lock MUST NOT be held for what can be done without it.

A group whose capsules belong to several tenants goes into several chains, in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from nacl.signing import SigningKey
from qp_capsule import Capsule, Seal

from capsule_sdk.clocks import monotonic
from capsule_sdk.errors import CapsuleRejected, ChainUnavailable, ConfigurationError
from capsule_sdk.logs import errors, tell

from .sealing import Draft, SealGuard, draft, unseal
from .store import ChainStore, ChainTransaction, HeadMoved, UnstorableRow
from .table import row_of

__all__ = ["ChainWriter"]

#: Seconds of conflicts with programs that take no lock before the caller is told.
CONFLICT_PATIENCE: Final = 10.0
#: Of how many chains the end is kept.
_ENDS: Final = 1024


class ChainWriter:
    """Appends to the chains of one store with one seal. Safe to use from any thread."""

    def __init__(self, store: ChainStore, seal: Seal) -> None:
        self._store = store
        self._seal = SealGuard(seal)
        #: Where each chain ended when this process had last added to it.
        self._ends: dict[str | None, tuple[int, str]] = {}

    @property
    def identity(self) -> str:
        """The identity of the store."""
        return self._store.identity

    def append(self, capsules: Sequence[Capsule]) -> int:
        """Link, seal and durably commit the capsules in the given order, all or nothing.

        Returns:
            How many were added; the others were there already.

        Raises:
            ChainUnavailable: nothing was added, or it is not known whether it was; the same call
                may succeed later and adds nothing twice.
            CapsuleRejected: this one can never be added; nothing of the group was.
            ConfigurationError: the signing key cannot be used.

        """
        if not capsules:
            return 0
        self._seal.prepare()
        try:
            for capsule in capsules:
                self._store.complete(capsule)
            drafts = [draft(capsule) for capsule in capsules]
            tenants = {self._store.tenant_of(capsule) for capsule in capsules}
            with self._store.transaction(tenants) as transaction:
                added = self._add(transaction, drafts)
        except BaseException:
            for capsule in capsules:
                unseal(capsule)
            raise
        self._remember(capsules)
        with suppress(ChainUnavailable, ConfigurationError):  # as the next append would say
            self._seal.prepare()  # where all was taken away meanwhile: no chain without its key
        return added

    def tenant_of(self, capsule: Capsule) -> str | None:
        """Tell in which of its chains the store keeps this capsule."""
        return self._store.tenant_of(capsule)

    def first_hash(self, tenant: str | None) -> str | None:
        """Return the hash of the first capsule of a chain, or ``None`` where there is none.

        Raises:
            ChainUnavailable: the store cannot be read.

        """
        with self._store.transaction({tenant}) as transaction:
            return transaction.first(tenant)

    def signing_key(self) -> SigningKey:
        """Return the key that seals, as it lies in its file.

        Raises:
            ConfigurationError: the file is no key.
            OSError: there is none, or it cannot be read.

        """
        return self._seal.signing_key()

    def fold(self) -> bool:
        """Put all that was committed where a copy of the store finds it; false if that has to wait."""
        return self._store.fold()

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def _add(self, transaction: ChainTransaction, drafts: Sequence[Draft]) -> int:
        deadline = monotonic() + CONFLICT_PATIENCE
        while True:
            rows = self._link(transaction, drafts)
            try:
                transaction.insert(rows)
            except UnstorableRow as error:
                raise CapsuleRejected(rows[error.index]["id"], str(error)) from error
            except HeadMoved as error:
                if monotonic() > deadline:
                    raise ChainUnavailable(f"{self.identity} {error}") from error
            else:
                return len(rows)

    def _remember(self, capsules: Sequence[Capsule]) -> None:
        if len(self._ends) > _ENDS:
            self._ends.clear()
        for capsule in capsules:
            if capsule.hash:  # else it was there already
                self._ends[self._store.tenant_of(capsule)] = capsule.sequence, capsule.hash

    def _compare(self, tenant: str | None, sequence: int, head: str | None) -> None:
        """Say it where a chain ends before the place up to which this process has written it."""
        known = self._ends.get(tenant)
        if known is None or sequence > known[0] or (sequence, head) == known:
            return
        del self._ends[tenant]
        errors["chain.cut"] += 1
        tell(
            "error",
            "the chain ends before what this process has committed to it: the store was emptied, cut, or"
            " replaced by another; what is missing is not recorded anew: keep the old store, if there is one",
            store=self.identity,
            **({} if tenant is None else {"tenant": tenant}),
            committed=known[0] + 1,
            found=sequence + 1,
        )

    def _link(self, transaction: ChainTransaction, drafts: Sequence[Draft]) -> list[dict[str, Any]]:
        """Link and seal those that are not there yet, each in the chain of its tenant."""
        held = transaction.present(str(draft.capsule.id) for draft in drafts)
        heads: dict[str | None, tuple[int, str | None]] = {}
        rows = []
        for one in drafts:
            capsule, key = one.capsule, str(one.capsule.id)
            if key in held:
                continue
            held.add(key)
            tenant = self._store.tenant_of(capsule)
            if tenant not in heads:
                heads[tenant] = transaction.head(tenant) or (-1, None)
                self._compare(tenant, *heads[tenant])
            sequence, previous_hash = heads[tenant]
            capsule.sequence, capsule.previous_hash = sequence + 1, previous_hash
            self._seal.seal(capsule)
            heads[tenant] = capsule.sequence, capsule.hash
            rows.append(row_of(capsule, one.linked_text()))
        return rows
