"""Totals: what the LLM calls of a subtree add up to. What a provider did not report stays unknown."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

__all__ = ["Totals"]

_ABSURD = 30  # digits before the point, beyond which adding would round or overflow


@dataclass(slots=True)
class Totals:
    """Sums over LLM calls; the two ``…_unknown`` count calls that a sum leaves out."""

    llm_calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usage_unknown: int = 0
    cost_usd: Decimal = Decimal(0)
    cost_unknown: int = 0
    latency_ms: int = 0

    @classmethod
    def of_call(
        cls,
        tokens_in: int | None,
        tokens_out: int | None,
        cost_usd: Decimal | None,
        latency_ms: int,
        *,
        asks_model: bool = True,
    ) -> Totals:
        """Return what one call contributes. A cost that cannot be added up counts as unknown.

        One that asks no model is not counted: of such a call no tokens are expected, only what it has cost.
        """
        if cost_usd is not None and not (cost_usd.is_finite() and cost_usd.adjusted() < _ABSURD):
            cost_usd = None
        if not asks_model:
            return cls(cost_usd=cost_usd or Decimal(0))
        return cls(
            llm_calls=1,
            tokens_in=tokens_in or 0,
            tokens_out=tokens_out or 0,
            usage_unknown=int(tokens_in is None or tokens_out is None),
            cost_usd=cost_usd or Decimal(0),
            cost_unknown=int(cost_usd is None),
            latency_ms=latency_ms,
        )

    def add(self, other: Totals) -> None:
        """Add another subtree to this one."""
        self.llm_calls += other.llm_calls
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        self.usage_unknown += other.usage_unknown
        self.cost_usd += other.cost_usd
        self.cost_unknown += other.cost_unknown
        self.latency_ms += other.latency_ms
