"""Attribution: whom and what a record belongs to, as the scopes around it say. Immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .authority import Authority
from .labels import labelled

if TYPE_CHECKING:
    from ..content import ContentPolicy

__all__ = ["NOBODY", "Attribution"]

EMPTY: Mapping[str, Any] = MappingProxyType({})
_NAMES = ("agent_id", "domain", "session_id", "user_id", "correlation_id", "tenant_id")
#: Among the facts, what the SDK itself has put there.
_OWN = frozenset({"closed_parent"})
#: Characters of a name from which on its answer is not kept.
_LONG = 256


class _LongError(Exception):
    """One of the names is too long to be kept."""


def _cleaned(names: tuple[Any, ...]) -> dict[str, str]:
    """Return those of these labels that must not be written as they are, as they may be."""
    both = zip(_NAMES, names, strict=True)
    return {
        name: clean for name, told in both if told is not None and (clean := labelled(told)) != told
    }


@lru_cache(maxsize=1024)
def _cleaned_of_few(names: tuple[Any, ...]) -> dict[str, str]:
    """Do the same for names that come again and again; nothing is kept where it raises."""
    if any(told is not None and len(told) >= _LONG for told in names):
        raise _LongError
    return _cleaned(names)


@dataclass(frozen=True, slots=True)
class Attribution:
    """What code runs under. ``None`` means that no scope has said anything about it.

    ``overridden`` holds the authorities that inner scopes replaced, outermost first: the trail that
    CPS keeps in ``authority.chain``.
    """

    agent_id: str | None = None
    domain: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    correlation_id: str | None = None
    tenant_id: str | None = None
    environment: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    authority: Authority | None = None
    overridden: tuple[Authority, ...] = ()

    def overlaid(self, inner: Attribution) -> Attribution:
        """Return what holds inside a scope that sets ``inner``: what it leaves open is inherited."""
        if inner is NOBODY:
            return self
        replaced: tuple[Authority, ...] = ()
        if inner.authority is not None and self.authority is not None:
            replaced = (self.authority,)
        return Attribution(
            self.agent_id if inner.agent_id is None else inner.agent_id,
            self.domain if inner.domain is None else inner.domain,
            self.session_id if inner.session_id is None else inner.session_id,
            self.user_id if inner.user_id is None else inner.user_id,
            self.correlation_id if inner.correlation_id is None else inner.correlation_id,
            self.tenant_id if inner.tenant_id is None else inner.tenant_id,
            {**self.environment, **inner.environment} if inner.environment else self.environment,
            self.authority if inner.authority is None else inner.authority,
            self.overridden
            if inner.authority is None
            else (*self.overridden, *replaced, *inner.overridden),
        )

    def sealed_under(self, policy: ContentPolicy) -> Attribution:
        """Return this as a record may hold it: labels without secrets, and content as ``policy`` lets it be.

        Content are the texts among the facts, and why an authority was escalated. What was sealed already comes
        back as it is under a policy that keeps everything.
        """
        if self is NOBODY:
            return self
        names = (
            self.agent_id,
            self.domain,
            self.session_id,
            self.user_id,
            self.correlation_id,
            self.tenant_id,
        )
        changed: dict[str, Any] = {}
        try:
            changed |= _cleaned_of_few(names)
        except (TypeError, _LongError):
            changed |= _cleaned(names)
        if self.environment and (policy.mode != "full" or policy.redact is not None):
            changed["environment"] = {
                name: value if name in _OWN else policy.value(value)
                for name, value in self.environment.items()
            }
        if self.authority is not None:
            changed["authority"] = self.authority.sealed_under(policy)
        if self.overridden:
            changed["overridden"] = tuple(link.sealed_under(policy) for link in self.overridden)
        return replace(self, **changed) if changed else self


#: The attribution outside every scope.
NOBODY = Attribution()
