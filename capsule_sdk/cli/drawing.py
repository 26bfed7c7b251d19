"""Drawing: lines in colour on a terminal, plain text in a pipe, and a pager where they do not fit.

A line is a sequence of spans, each a text and the name of a style: markup is never parsed, so that none in
the data takes effect. The texts have to be printable already (`capsule_sdk.outward`).
``NO_COLOR``, ``TERM=dumb`` and ``COLUMNS`` are honoured as rich does.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, islice
from typing import Final

import click
from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from capsule_sdk.evidence.showing import wording
from capsule_sdk.evidence.showing.summary import Summary
from capsule_sdk.outward import one_line

__all__ = [
    "NOTHING",
    "NOT_VERIFIED",
    "Paper",
    "Span",
    "columns",
    "cut",
    "figures",
    "mark_span",
    "name_spans",
    "pager_option",
    "status_style",
    "words_spans",
]

#: What is said below what is shown.
NOT_VERIFIED: Final = "not verified here: `capsuled verify` does that"
#: What stands where there is nothing.
NOTHING: Final = "—"
#: A text, and the name of its style as rich has it.
Span = tuple[str, str]

_STATUS_STYLES = {
    "success": "green",
    "failure": "bold red",
    "blocked": "bold magenta",
    "partial": "yellow",
    "pending": "blue",
}
_AUTHORITY_STYLES = {"human_approved": "bold cyan", "policy": "blue", "escalated": "bold yellow"}

pager_option = click.option(
    "--no-pager", is_flag=True, help="Print all at once, on a terminal too."
)


class Paper:
    """What is drawn on: how wide it is, whether anybody looks at it, and whether it takes colours.

    Attributes:
        terminal: whether it is one; if not, it is a pipe or a file, for other programs.
        width: its columns; in a pipe those of ``COLUMNS``, else 100.
        height: its lines.

    """

    def __init__(self) -> None:
        console = Console()
        self.terminal = console.is_terminal
        self.width, self.height = shutil.get_terminal_size((100, 24))
        self._styled = console.color_system is not None and not console.no_color

    def line(self, spans: Iterable[Span]) -> str:
        """Return the line as it is written here."""
        if not self._styled:
            return "".join(text for text, _ in spans).rstrip()
        return "".join(
            _style(style).render(text, color_system=ColorSystem.STANDARD) for text, style in spans
        )

    def print(self, lines: Iterable[str], *, paged: bool = False) -> None:
        """Write the lines.

        Args:
            lines: as `line` gives them.
            paged: show them in the user's pager if this is a terminal on which they do not fit.

        """
        rest = iter(lines)
        if paged and self.terminal and sys.stdin.isatty() and sys.stdout.isatty():
            head = list(islice(rest, self.height))
            if len(head) == self.height:
                _page(_joined(chain(head, rest)), styled=self._styled)
                return
            rest = iter(head)
        for line in rest:
            sys.stdout.write(f"{line}\n")


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines with ends between them; click puts one behind the last."""
    for number, line in enumerate(lines):
        yield f"\n{line}" if number else line


def _page(lines: Iterator[str], *, styled: bool) -> None:
    before = os.environ.get("LESS")
    if before is None:
        os.environ["LESS"] = "-RS" if styled else "-S"  # lines are cut to the width already
    try:
        click.echo_via_pager(lines, color=styled)
    finally:
        if before is None:
            os.environ.pop("LESS", None)


@cache
def _style(name: str) -> Style:
    return Style.parse(name)


def cut(spans: Iterable[Span], width: int) -> list[Span]:
    """Return the line in exactly so many columns: cut with an ellipsis, or filled up with blanks."""
    fitting: list[Span] = []
    room = width
    for text, style in spans:
        taken = cell_len(text)
        if taken > room:
            if room > 0:
                fitting.append((f"{set_cell_size(text, room - 1)}…", style))
            elif fitting:
                last, last_style = fitting[-1]
                fitting[-1] = (f"{set_cell_size(last, cell_len(last) - 1)}…", last_style)
            return fitting
        fitting.append((text, style))
        room -= taken
    return [*fitting, (" " * room, "")]


def status_style(status: str | None) -> str:
    """Return the style of an outcome."""
    return _STATUS_STYLES.get(status or "", "yellow")


def mark_span(summary: Summary) -> Span:
    """Return the sign of an outcome in its colour."""
    return wording.mark(summary.status), status_style(summary.status)


def name_spans(summary: Summary) -> list[Span]:
    """Return what was called, and the model where it was one."""
    name = one_line(summary.name) or "(no name)"
    if not summary.llm_call:
        return [(name, "bold")]
    return [(name, ""), (f" {one_line(summary.model)}".rstrip(), "cyan")]


def words_spans(summary: Summary) -> list[Span]:
    """Return what is told of a record after its name: how it ended, who allowed it, what was asked."""
    status, error = summary.status, one_line(summary.error)
    told = [
        (wording.authority(summary), _AUTHORITY_STYLES.get(summary.authority or "", "yellow")),
        (error, "red"),
        (f'"{words}"' if (words := wording.words(summary)) else "", "dim"),
    ]
    # the sign of a failure needs no word where the error says it
    if status != "success" and not (status == "failure" and error):
        told.insert(0, (one_line(status) or "no status", status_style(status)))
    return [(f"  {text}", style) for text, style in told if text]


def figures(summary: Summary, places: int = 0) -> tuple[str, str, str]:
    """Return duration, tokens and cost as texts, the cost with so many decimal places at least.

    ``+1?`` behind a sum means that it leaves out one call; ``~`` that somebody has estimated a number.
    """
    return (
        wording.duration(summary.duration_ms),
        wording.tokens(summary),
        wording.cost(summary, places),
    )


def columns(texts: Sequence[str], widths: Sequence[int]) -> str:
    """Return texts side by side, each to the right of its column."""
    fitting = (
        text if len(text) <= width else f"{text[: width - 1]}…"
        for text, width in zip(texts, widths, strict=True)
    )
    return "".join(f"  {text:>{width}}" for text, width in zip(fitting, widths, strict=True))
