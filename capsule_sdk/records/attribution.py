"""Attribution: whom and what a record belongs to, as the scopes around it say. Immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from .authority import Authority

__all__ = ["NOBODY", "Attribution"]

EMPTY: Mapping[str, Any] = MappingProxyType({})


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
        changes: dict[str, Any] = {
            name: value
            for name in (
                "agent_id",
                "domain",
                "session_id",
                "user_id",
                "correlation_id",
                "tenant_id",
            )
            if (value := getattr(inner, name)) is not None
        }
        if inner.environment:
            changes["environment"] = {**self.environment, **inner.environment}
        if inner.authority is not None:
            changes["authority"] = inner.authority
            replaced = () if self.authority is None else (self.authority,)
            changes["overridden"] = (*self.overridden, *replaced, *inner.overridden)
        return replace(self, **changes) if changes else self


#: The attribution outside every scope.
NOBODY = Attribution()
