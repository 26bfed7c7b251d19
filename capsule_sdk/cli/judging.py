"""Judging one chain for a command: with the keys and checkpoints that it has, and a bar while it takes time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from capsule_sdk.evidence.sources import Source
from capsule_sdk.evidence.verifying.checkpoints import KnownCheckpoint
from capsule_sdk.evidence.verifying.keys import TrustedKey
from capsule_sdk.evidence.verifying.verify import Verdict, verify

__all__ = ["Judging"]


@dataclass(frozen=True, slots=True)
class Judging:
    """How chains are judged.

    Attributes:
        trusted: the keys that the user named, else those of this machine; ``None`` checks no signature.
        selection: what is read holds some records of a chain.
        processes: how many check records; 0 does all in one.
        quiet: show no bar.

    """

    trusted: Sequence[TrustedKey] | None
    selection: bool
    processes: int
    quiet: bool

    def verdict_on(self, source: Source, checkpoints: Sequence[KnownCheckpoint]) -> Verdict:
        """Judge a chain.

        Raises:
            EvidenceError: it cannot be read.

        """
        with _progress(source, shown=not self.quiet) as progress:
            return verify(
                source,
                self.trusted,
                checkpoints=checkpoints,
                selection=self.selection,
                processes=self.processes,
                progress=progress,
            )


@contextmanager
def _progress(source: Source, *, shown: bool) -> Iterator[Callable[[int], object]]:
    console = Console(stderr=True)
    if not (shown and console.is_terminal and sys.stdout.isatty()):
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("checking", total=source.count())
        yield lambda done: bar.update(task, completed=done)
