"""Stats: what capsules add up to, in all and by agent, model, authority, outcome, day and more. Pure.

What a call used is counted on the call, never again on the tasks that sum it up. What is unknown stays unknown:
it is counted as such, and not as nothing. Memory grows with the number of agents, models and so on alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context, Decimal
from typing import Final

from .summary import Summary

__all__ = ["DIMENSIONS", "Stats", "Totals", "stats_of"]

#: Digits in which amounts of `Summary.cost` add up exactly, however many there are.
_EXACT: Final = Context(prec=120)
_LONGEST_KEY = 200  # characters of a name; whoever invents longer ones shall not fill the memory


@dataclass(slots=True)
class Totals:
    """Sums over capsules.

    Attributes:
        capsules: how many there are.
        tasks: how many of them are neither calls through LiteLLM nor of type ``system``.
        llm_calls: how many of them are calls of a model.
        failures: how many of them failed.
        tokens_in: tokens of the prompts of those calls.
        tokens_out: tokens of their answers.
        tokens_unknown: calls that told neither.
        cost: US dollars for those calls, exactly.
        cost_unknown: calls whose cost is unknown.
        call_ms: how long those calls took, in milliseconds.
        task_ms: how long tasks took that belong to no other task, in milliseconds.

    """

    capsules: int = 0
    tasks: int = 0
    llm_calls: int = 0
    failures: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_unknown: int = 0
    cost: Decimal = Decimal(0)
    cost_unknown: int = 0
    call_ms: int = 0
    task_ms: int = 0

    def add(self, summary: Summary) -> None:
        """Add one capsule."""
        self.capsules += 1
        self.failures += summary.status == "failure"
        duration = round(summary.duration_ms or 0)
        if summary.llm_call:
            self._add_call(summary, duration)
        elif summary.children_started is None and (summary.name or "").startswith("litellm."):
            self.cost = self._with(summary.cost)
        elif summary.type != "system":
            self.tasks += 1
            self.task_ms += 0 if summary.parent_id else duration

    def _with(self, cost: Decimal | None) -> Decimal:
        return self.cost if cost is None else _EXACT.add(self.cost, cost)

    def _add_call(self, summary: Summary, duration: int) -> None:
        self.llm_calls += 1
        self.call_ms += duration
        self.tokens_in += summary.tokens_in or 0
        self.tokens_out += summary.tokens_out or 0
        self.tokens_unknown += summary.tokens_in is None and summary.tokens_out is None
        if summary.cost is None:
            self.cost_unknown += 1
        else:
            self.cost = self._with(summary.cost)


#: What a capsule can be counted under. A model is that of a call: a task is under none.
DIMENSIONS: Final[Mapping[str, Callable[[Summary], str | None]]] = {
    "agent": lambda one: one.agent,
    "model": lambda one: one.model,
    "authority": lambda one: one.authority,
    "outcome": lambda one: one.status,
    "day": lambda one: one.started.date().isoformat() if one.started else None,
    "domain": lambda one: one.domain,
    "session": lambda one: one.session,
}


@dataclass(slots=True)
class Stats:
    """What capsules add up to.

    Attributes:
        total: all of them.
        groups: for each dimension, those of each value; ``None`` is for those that name none.
        first: when the first of them began, UTC.
        last: when the last of them began, UTC.

    """

    total: Totals = field(default_factory=Totals)
    groups: dict[str, dict[str | None, Totals]] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None

    def ordered(self, dimension: str) -> list[tuple[str | None, Totals]]:
        """Return the groups of a dimension: days as they came, everything else with the most capsules first."""
        groups = self.groups[dimension].items()
        if dimension == "day":
            return sorted(groups, key=lambda group: group[0] or "")
        return sorted(groups, key=lambda group: (-group[1].capsules, group[0] or ""))


def stats_of(summaries: Iterable[Summary], by: Sequence[str]) -> Stats:
    """Add up.

    Args:
        summaries: each is looked at once.
        by: names out of `DIMENSIONS`.

    """
    stats = Stats(groups={dimension: {} for dimension in by})
    for summary in summaries:
        stats.total.add(summary)
        for dimension, groups in stats.groups.items():
            if dimension == "model" and not summary.llm_call:
                continue
            key = DIMENSIONS[dimension](summary)
            key = key and key[:_LONGEST_KEY]
            groups.setdefault(key, Totals()).add(summary)
        if (started := summary.started) is not None:
            stats.first = min(started, stats.first or started)
            stats.last = max(started, stats.last or started)
    return stats
