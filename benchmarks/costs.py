"""What recording costs in processor time, beside the same calls unrecorded, and beside another checkout.

    python -m benchmarks.costs                            # this checkout
    python -m benchmarks.costs --against ../other-checkout  # and the ratio of both

It prints a table, and writes costs.json beside where you stand.

Every side is a process of its own with the same Python and the same LiteLLM; they take turns, round by round,
and new processes are started several times. What counts is the processor time of the calling thread: what
others do on the machine does not add to it, and its minimum hardly moves. Unrecorded calls are those of a
LiteLLM with a logger that does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
Figures = dict[str, list[float]]


class Side:
    """One process that measures, with the SDK of one checkout or with none."""

    def __init__(self, checkout: Path | None, url: str, folder: Path) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if "CAPSULE_SDK" not in name and name != "PYTHONDONTWRITEBYTECODE"
        }
        environment |= {"PYTHONPATH": str(checkout or ""), "PYTHONHASHSEED": "0"}
        program = HERE / "benchmarks" / "costing.py"
        self._process = subprocess.Popen(
            [sys.executable, program, folder, url, "recorded" if checkout else "bare"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )
        self._line()

    def _line(self) -> str:
        if not (line := self._process.stdout.readline()):
            raise SystemExit(f"a process that measures has ended with {self._process.wait()}")
        return line

    def round(self) -> Figures:
        """Measure everything once."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        figures: Figures = json.loads(self._line())
        return figures

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()


def measure(
    checkouts: Mapping[str, Path | None], *, rounds: int, processes: int
) -> dict[str, Figures]:
    """Return the figures of each checkout by its name; ``None`` is no SDK at all."""
    taken: dict[str, Figures] = {name: {} for name in checkouts}
    sys.path.insert(0, str(HERE / "tests"))
    from provider import Provider  # noqa: PLC0415 - that of the tests

    with Provider.start_process() as provider:
        for _ in range(processes):
            with ExitStack() as stack:
                sides = {}
                for name, checkout in checkouts.items():
                    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="capsuled-"))
                    sides[name] = Side(checkout, provider.base_url, Path(folder))
                    stack.callback(sides[name].close)
                for _ in range(rounds):
                    for name, side in sides.items():
                        for figure, values in side.round().items():
                            taken[name].setdefault(figure, []).extend(values)
    return taken


def lines(taken: Mapping[str, Figures]) -> dict[str, str]:
    """Return the table: least and median µs of each side, what recording adds to the least, and ratios."""
    bare, new, old = taken["unrecorded"], taken["here"], taken.get("there")
    cells = [*_HEAD, *_HEAD_AGAINST] if old is not None else list(_HEAD)
    table = {"µs of processor time a call: least (median)": "".join(map(_CELL, cells))}
    for figure, figures in new.items():
        share = min(figures) - min(bare[figure])
        cells = [_spread(bare[figure]), _spread(figures), f"{share:.0f}"]
        if old is not None:
            before = min(old[figure]) - min(bare[figure])
            medians = statistics.median(figures) / statistics.median(old[figure])
            ratio = min(figures) / min(old[figure])
            cells += [_spread(old[figure]), f"{before:.0f}", f"{ratio:.2f}", f"{medians:.2f}"]
        table[figure] = "".join(map(_CELL, cells))
    return table


_HEAD = "unrecorded", "recorded", "added"
_HEAD_AGAINST = "there", "added", "ratio", "of medians"
_CELL = "{:>16}".format


def added(taken: Mapping[str, Figures]) -> dict[str, str]:
    """Return a line for each figure: the µs that recording adds to the least, and the medians of both sides."""
    bare, here = taken["unrecorded"], taken["here"]
    return {
        f"{figure}: processor time added, µs": (
            f"{min(figures) - min(bare[figure]):.0f}"
            f" (medians: {statistics.median(figures):.0f}, unrecorded {statistics.median(bare[figure]):.0f})"
        )
        for figure, figures in here.items()
    }


def summary(taken: Mapping[str, Figures]) -> dict[str, dict[str, dict[str, float]]]:
    """Return least and median µs of each figure on each side, and their ratios to the other checkout's."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for figure in taken["here"]:
        sides = {
            name: {"least": min(side[figure]), "median": statistics.median(side[figure])}
            for name, side in taken.items()
        }
        if (there := sides.get("there")) is not None:
            here = sides["here"]
            sides["ratio"] = {kind: round(here[kind] / there[kind], 3) for kind in here}
        found[figure] = sides
    return found


def _spread(figures: Sequence[float]) -> str:
    return f"{min(figures):.0f} ({statistics.median(figures):.0f})"


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn with this")
    parser.add_argument("--rounds", type=int, default=8, help="of each process")
    parser.add_argument("--processes", type=int, default=3, help="of each side, one after another")
    options = parser.parse_args()
    checkouts: dict[str, Path | None] = {"unrecorded": None, "here": HERE}
    if options.against is not None:
        checkouts["there"] = options.against.resolve()
    taken = measure(checkouts, rounds=options.rounds, processes=options.processes)
    table = lines(taken)
    width = max(map(len, table))
    for name, cells in table.items():
        print(f"{name:<{width}}{cells}")
    Path("costs.json").write_text(json.dumps(summary(taken), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
