"""Attribution: whom and what a record belongs to, as the scopes around it say. Immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


#: The attribution outside every scope.
NOBODY = Attribution()
