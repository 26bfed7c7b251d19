"""``capsuled stats``: what agents did and what it cost, added up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from capsule_sdk.evidence.selection import select
from capsule_sdk.evidence.showing.stats import DIMENSIONS, Stats, Totals, stats_of
from capsule_sdk.evidence.showing.summary import Summary, summary_of
from capsule_sdk.evidence.showing.wording import decimal_places, duration, money
from capsule_sdk.evidence.sources import open_source
from capsule_sdk.outward import one_line

from .drawing import NOT_VERIFIED, NOTHING, Paper
from .options import (
    database_option,
    json_option,
    print_json,
    selection_of,
    selection_options,
    tenant_option,
)

__all__ = ["stats"]

Figure = Callable[[Totals], str]

_DEFAULT = ("agent", "model", "authority", "outcome", "day")
_UNKNOWN: Final = {"tokens unknown", "cost unknown"}
#: Columns that a narrow terminal does without.
_FIRST_TO_GO: Final = (
    "task time", "LLM time", "tasks", "tokens out", "tokens in", "tokens unknown", "failed",
)  # fmt: skip
_UNBOUNDED: Final = 10_000  # columns


@click.command()
@database_option
@tenant_option
@selection_options
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(list(DIMENSIONS)),
    help="What to count by; may be given several times.  [default: agent, model, authority, outcome, day]",
)
@json_option
def stats(
    *, source: str | None, tenant: str | None, by: Sequence[str], as_json: bool, **options: Any
) -> None:
    """Add up capsules, LLM calls, tokens, cost, failures and time.

    Tokens and cost are those of the LLM calls: tasks, which sum up the calls under them, are not counted again.
    A call whose cost is unknown is counted as such. Days are those of UTC on which a record began; LLM time is
    the time of all calls together, task time that of the tasks that belong to no other task.
    """
    chain, selection = open_source(source, tenant=tenant), selection_of(options)
    entries = select(chain.entries, selection)
    summaries = (_as_root(summary_of(entry.record()), selection.task) for entry in entries)
    found = stats_of(summaries, tuple(dict.fromkeys(by or _DEFAULT)))
    if as_json:
        print_json(_as_dict(found))
    elif not found.total.capsules:
        click.echo("no capsules")
    else:
        _show(found)


def _as_root(summary: Summary, task: str | None) -> Summary:
    """Take the task that was chosen out of the one that it belongs to, whose time is not counted here."""
    chosen = task is not None and summary.id is not None and summary.id.lower() == task.lower()
    return summary._replace(parent_id=None) if chosen else summary


def _as_dict(found: Stats) -> dict[str, Any]:
    return {
        "total": _figures(found.total),
        "first": None if found.first is None else found.first.isoformat(),
        "last": None if found.last is None else found.last.isoformat(),
        "by": {
            dimension: [
                {dimension: key, **_figures(totals)} for key, totals in found.ordered(dimension)
            ]
            for dimension in found.groups
        },
    }


def _figures(totals: Totals) -> dict[str, int | str]:
    return {**asdict(totals), "cost": f"{totals.cost:f}"}


def _show(found: Stats) -> None:
    paper = Paper()
    # In a pipe nothing is wrapped or cut: whoever reads it has all the room there is.
    console = Console(highlight=False, width=paper.width if paper.terminal else _UNBOUNDED)
    columns = _columns(found)
    table = _table(found, columns)
    for name in _FIRST_TO_GO:
        if (
            console.measure(table, options=console.options.update(width=_UNBOUNDED)).maximum
            <= console.width
        ):
            break
        columns.pop(name, None)
        table = _table(found, columns)
    with console.capture() as drawn:
        console.print(table)
    paper.print(line.rstrip() for line in drawn.get().splitlines())
    paper.print(["", paper.line([(f"{_period(found)}{NOT_VERIFIED}", "dim")])])


def _columns(found: Stats) -> dict[str, Figure]:
    """Return the columns: those of what is unknown only where something is."""
    all_totals = [totals for _, totals in _rows(found) if totals is not None]
    places = max(decimal_places(totals.cost) for totals in all_totals)
    columns: dict[str, Figure] = {
        "capsules": lambda one: _number(one.capsules),
        "tasks": lambda one: _number(one.tasks),
        "LLM calls": lambda one: _number(one.llm_calls),
        "failed": lambda one: _number(one.failures),
        "tokens in": lambda one: _number(one.tokens_in),
        "tokens out": lambda one: _number(one.tokens_out),
        "tokens unknown": lambda one: _number(one.tokens_unknown),
        "cost": lambda one: _cost(one, places),
        "cost unknown": lambda one: _number(one.cost_unknown),
        "LLM time": lambda one: duration(one.call_ms or None),
        "task time": lambda one: duration(one.task_ms or None),
    }
    return {
        name: text for name, text in columns.items() if name not in _UNKNOWN or text(found.total)
    }


def _table(found: Stats, columns: Mapping[str, Figure]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for heading, figure in columns.items():
        texts = [figure(totals) for _, totals in _rows(found) if totals is not None]
        needed = max(map(len, (heading, *texts)))  # rather a name is cut than a figure
        table.add_column(heading, justify="right", no_wrap=True, min_width=needed)
    for name, totals in _rows(found):
        if totals is None:
            table.add_row(name)
        else:
            figures = (_styled(figure(totals), column) for column, figure in columns.items())
            table.add_row(name, *figures)
    return table


def _rows(found: Stats) -> Iterator[tuple[Text, Totals | None]]:
    """Yield what stands in the first column, and the totals beside it."""
    yield Text("all", "bold"), found.total
    for dimension in found.groups:
        yield Text(), None
        yield Text(dimension, "bold"), None
        for key, totals in found.ordered(dimension):
            name, style = (one_line(key), "") if key else ("(none)", "dim")
            # not wrapped but cut: rich takes the room that is missing from columns that may wrap
            yield Text(f"  {name}", style, no_wrap=True, overflow="ellipsis"), totals


def _styled(text: str, column: str) -> Text:
    if not text:
        return Text(NOTHING, "dim")
    return Text(text, "bold red" if column == "failed" else "yellow" if column in _UNKNOWN else "")


def _number(count: int) -> str:
    return f"{count:,}" if count else ""


def _cost(totals: Totals, places: int) -> str:
    if totals.llm_calls == totals.cost_unknown:
        return "?" if totals.llm_calls else ""
    return money(totals.cost, places) or "$0"


def _period(found: Stats) -> str:
    if found.first is None or found.last is None:
        return ""
    first, last = (f"{moment:%Y-%m-%d %H:%M:%SZ}" for moment in (found.first, found.last))
    return f"{first} to {last}; "
