"""Wording: how what a record says is put on one line, for terminals and pipes alike. Pure.

What a chain holds was partly written by users and models: each text passes through `capsule_sdk.outward`.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from capsule_sdk.outward import one_line

from .summary import Summary

__all__ = [
    "authority",
    "cost",
    "counted",
    "decimal_places",
    "duration",
    "mark",
    "money",
    "outcome",
    "parts",
    "title",
    "tokens",
    "words",
]

_MARKS = {"success": "✓", "failure": "✗", "blocked": "⊘", "partial": "◐", "pending": "…"}


def counted(count: int, noun: str) -> str:
    """Return a number and what it counts, in the plural where it is not one."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def mark(status: str | None) -> str:
    """Return the sign of an outcome; ``?`` for one that CPS does not know."""
    return _MARKS.get(status or "", "?")


def outcome(status: str | None) -> str:
    """Return the sign of an outcome, and for all but success the word."""
    return (
        mark(status) if status == "success" else f"{mark(status)} {one_line(status) or 'no status'}"
    )


def title(summary: Summary) -> str:
    """Return what was called; with the model, where a model was."""
    model = one_line(summary.model) if summary.llm_call else ""
    return f"{one_line(summary.name) or '(no name)'} {model}".rstrip()


def duration(milliseconds: float | None) -> str:
    """Return a time in the unit that reads well; nothing where it is unknown."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    if milliseconds < 6_000_000:
        return f"{milliseconds / 60_000:.1f} min"
    return f"{milliseconds / 3_600_000:,.1f} h"


def tokens(summary: Summary) -> str:
    """Return tokens as ``120→45``, estimated ones as ``~120→~45``, a question mark for what is unknown.

    ``+1?`` behind a task's says that its sum leaves out one call. Nothing where there are none.
    """
    left_out = summary.usage_unknown
    return " ".join(filter(None, (_tokens(summary), f"+{left_out:,}?" if left_out else "")))


def _tokens(summary: Summary) -> str:
    told, sign = (summary.tokens_in, summary.tokens_out), ""
    if told == (None, None):
        told, sign = (summary.estimated_in, summary.estimated_out), "~"
    if not any(told):
        return ""
    return "→".join("?" if count is None else f"{sign}{count}" for count in told)


def cost(summary: Summary, places: int = 0) -> str:
    """Return `money`; ``+1?`` behind a task's says that its sum leaves out one call."""
    left_out = summary.cost_unknown
    known = money(summary.cost, places)
    return " ".join(filter(None, (known, f"+{left_out:,}?" if left_out else "")))


def _used(summary: Summary) -> str:
    """Return the tokens in words."""
    known = _tokens(summary)
    if known:
        known += " tokens"
    if known.startswith("~"):
        known += " (estimated)"
    return _and_left_out(known, summary.usage_unknown, "tokens")


def _and_left_out(known: str, calls: int | None, what: str) -> str:
    """Say of a sum how many calls it leaves out."""
    if not calls:
        return known
    return (
        f"{known} + {counted(calls, 'call')} unknown"
        if known
        else f"{what} of {counted(calls, 'call')} unknown"
    )


def money(cost: Decimal | None, places: int = 0) -> str:
    """Return US dollars to the last digit that was sealed, with zeros up to so many decimal places.

    Nothing where they are unknown or none.
    """
    return f"${cost:,.{max(places, decimal_places(cost))}f}" if cost else ""


def decimal_places(cost: Decimal | None) -> int:
    """Return how many decimal places an amount takes, without zeros at its end."""
    return len(f"{cost:f}".partition(".")[2].rstrip("0")) if cost else 0


def authority(summary: Summary) -> str:
    """Return under whose authority it was done; nothing where the agent acted by itself."""
    kind = one_line(summary.authority)
    if kind in {"", "autonomous"}:
        return ""
    approver = one_line(summary.approver)
    reason = one_line(summary.policy_reference) or one_line(summary.escalation_reason)
    return f"{kind}{f' by {approver}' if approver else ''}{f' ({reason})' if reason else ''}"


def parts(summary: Summary) -> Iterator[str]:
    """Yield what one line of plain text tells of a record; some of it may be empty."""
    yield outcome(summary.status)
    yield title(summary)
    yield f"[{one_line(summary.type) or 'no type'}]"
    yield duration(summary.duration_ms)
    yield _used(summary)
    yield _and_left_out(money(summary.cost), summary.cost_unknown, "cost")
    yield authority(summary)
    told = words(summary)
    yield f'"{told}"' if told else ""


def words(summary: Summary) -> str:
    """Return what was asked for, or what came of it."""
    return one_line(summary.request) or one_line(summary.summary)
