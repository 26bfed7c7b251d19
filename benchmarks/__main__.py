"""Measure this machine: what is recorded, what it costs the caller, how fast the chain takes it.

    python -m benchmarks            # a table, and benchmarks.json beside where you stand
    python -m benchmarks decorator  # some of it; the names are those of the functions below

It takes the `dev` extra (OpenTelemetry, a PostgreSQL from PyPI) and runs in the project's folder. Ends with
status 1 if a single call was lost or recorded twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HOME = Path(tempfile.mkdtemp(prefix="capsuled-bench-"))
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["QUANTUMPIPES_DATA_DIR"] = str(HOME)

import litellm  # noqa: E402 - after its environment is set
from litellm.integrations.custom_logger import CustomLogger  # noqa: E402
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import (  # noqa: E402
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from qp_capsule import (  # noqa: E402
    Capsule,
    CapsuleChain,
    CapsuleStorage,
    Seal,
)
from qp_capsule.storage_pg import PostgresCapsuleStorage  # noqa: E402

from benchmarks.costs import added, measure  # noqa: E402
from benchmarks.measuring import alternate, each, fsync_ms, spread  # noqa: E402
from benchmarks.processes import processes  # noqa: E402
from benchmarks.records import full_capsule  # noqa: E402
from benchmarks.verifying import verifying  # noqa: E402
from capsule_sdk import CapsuleLogger, capsuled, configure, flush, get_recorder  # noqa: E402
from capsule_sdk.chain import open_chain  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import postgres_support  # noqa: E402 - the server that the tests have

CALLS = 1_000
MESSAGES = [{"role": "user", "content": "x" * 150}]
LISTS = (
    "callbacks", "success_callback", "_async_success_callback",
    "failure_callback", "_async_failure_callback", "input_callback",
)  # fmt: skip
table: dict[str, str] = {}
wrong = 0


def only(logger: CustomLogger) -> None:
    """Have LiteLLM call this logger and no other."""
    for name in LISTS:
        setattr(litellm, name, [])
    litellm.callbacks = [logger]


def ask(**options: Any) -> Any:
    """Make one call that LiteLLM answers itself."""
    return litellm.completion("gpt-4o", messages=MESSAGES, mock_response="y" * 300, **options)


async def aask() -> Any:
    """Make one call likewise, in a coroutine."""
    return await litellm.acompletion("gpt-4o", messages=MESSAGES, mock_response="y" * 300)


async def wide(calls: int, width: int) -> None:
    """Make calls, so many at a time."""
    gate = asyncio.Semaphore(width)

    async def one() -> None:
        async with gate:
            await aask()

    await asyncio.gather(*(one() for _ in range(calls)))


def counts() -> None:
    """Recorded exactly once, of N."""
    global wrong  # noqa: PLW0603 - the verdict of the run
    logger = CapsuleLogger()
    only(logger)

    def eight_threads() -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: ask(), range(CALLS)))

    ways = {
        "sequential": lambda: [ask() for _ in range(CALLS)],
        "8 threads": eight_threads,
        "async, 50 wide": lambda: asyncio.run(wide(CALLS, 50)),
        "sync streams": lambda: [list(ask(stream=True)) for _ in range(CALLS // 4)],
    }
    for name, run in ways.items():
        expected = CALLS // 4 if "streams" in name else CALLS
        before = get_recorder().stats().committed
        run()
        left = flush()
        recorded = get_recorder().stats().committed - before
        wrong += left + abs(recorded - expected)
        table[f"calls recorded, {name}"] = f"{recorded} of {expected}"


def caller() -> None:
    """What a call costs its caller, beside a logger whose hooks are empty."""
    loggers = CustomLogger(), CapsuleLogger()

    def side(logger: CustomLogger) -> float:
        only(logger)
        try:
            return each(ask, 100)
        finally:
            flush()

    empty, ours = alternate(lambda: side(loggers[0]), lambda: side(loggers[1]))
    table["litellm.completion, empty logger, µs"] = spread(empty, 0)
    table["litellm.completion, CapsuleLogger, µs"] = spread(ours, 0)


class NoExporter(SpanExporter):
    """Takes spans and does nothing with them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Do nothing."""
        return SpanExportResult.SUCCESS


def decorator() -> None:
    """What ``@capsuled`` costs around a function that does nothing, journal included, beside a span."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(NoExporter()))
    tracer = provider.get_tracer("benchmarks")

    def bare() -> None:
        pass

    async def abare() -> None:
        pass

    def span() -> None:
        with tracer.start_as_current_span("bare"):
            bare()

    async def aspan() -> None:
        with tracer.start_as_current_span("bare"):
            await abare()

    def side(call: Any) -> float:
        """Measure a burst; what is behind it, a writer or an exporter, comes to rest before the next."""
        try:
            return each(call, 200)
        finally:
            flush()
            provider.force_flush()

    async def aeach(call: Any) -> float:
        start = time.perf_counter()
        for _ in range(200):
            await call()
        return (time.perf_counter() - start) / 200 * 1e6

    def aside(call: Any) -> float:
        try:
            return asyncio.run(aeach(call))
        finally:
            flush()
            provider.force_flush()

    names = (
        "a function that does nothing",
        "the same in an OpenTelemetry span",
        "the same with @capsuled",
    )
    sync = [lambda c=c: side(c) for c in (bare, span, capsuled(bare))]
    asynchronous = [lambda c=c: aside(c) for c in (abare, aspan, capsuled(abare))]
    for what, sides in (("sync", sync), ("async", asynchronous)):
        figures = alternate(*sides, rounds=25)
        for name, taken in zip(names, figures, strict=True):
            table[f"{name}, {what}, µs"] = spread(taken, 2)
        plain, spanned, capsules = (statistics.median(taken) for taken in figures)
        ratio = (capsules - plain) / (spanned - plain)
        table[f"@capsuled, of the cost of a span, {what}"] = f"{ratio:.2f}"


def costs() -> None:
    """What recording adds to the processor time of the calling thread; see `benchmarks.costs`."""
    here = Path(__file__).parents[1]
    table.update(added(measure({"unrecorded": None, "here": here}, rounds=3, processes=2)))


def chain() -> None:
    """Durable capsules a second."""
    number = 256
    seal = Seal()
    ours = open_chain(url=HOME / "ours.db")
    theirs = CapsuleStorage(HOME / "theirs.db")

    def made() -> list[Capsule]:
        return [full_capsule() for _ in range(number)]

    def rate(seconds: float) -> float:
        return number / seconds

    def group() -> float:
        capsules = made()
        start = time.perf_counter()
        ours.append(capsules)
        return rate(time.perf_counter() - start)

    def one_by_one() -> float:
        capsules, reference = made(), CapsuleChain(theirs)

        async def store() -> float:
            start = time.perf_counter()
            for one in capsules:
                await reference.seal_and_store(one, seal=seal)
            taken = time.perf_counter() - start
            await theirs.close()
            return taken

        return rate(asyncio.run(store()))

    def bare_seal() -> float:
        capsules = made()
        start = time.perf_counter()
        for one in capsules:
            seal.seal(one)
        return rate(time.perf_counter() - start)

    grouped, single, sealed = alternate(group, one_by_one, bare_seal)
    ours.close()
    table["durable capsules a second, ours, groups of 256"] = spread(grouped, 0)
    table["durable capsules a second, seal_and_store"] = spread(single, 0)
    table["the ceiling: Seal.seal alone, a second"] = spread(sealed, 0)


def postgresql() -> None:
    """Durable capsules a second in PostgreSQL, beside ``seal_and_store`` on the same server."""
    server = postgres_support.server()
    server.execute("ALTER SYSTEM SET fsync = on")
    server.restart()
    for name in ("ours", "theirs"):
        server.execute(f"CREATE DATABASE {name}")
    seal = Seal()
    chain = open_chain(url=server.url("ours"))

    def group(number: int) -> float:
        capsules = [full_capsule() for _ in range(number)]
        start = time.perf_counter()
        chain.append(capsules)
        return number / (time.perf_counter() - start)

    def one_by_one() -> float:
        capsules = [full_capsule() for _ in range(64)]

        async def store() -> float:
            theirs = PostgresCapsuleStorage(server.url("theirs"))
            reference = CapsuleChain(theirs)
            await theirs.count()
            start = time.perf_counter()
            for one in capsules:
                await reference.seal_and_store(one, seal=seal)
            taken = time.perf_counter() - start
            await theirs.close()
            return taken

        return 64 / asyncio.run(store())

    grouped, alone, single = alternate(lambda: group(256), lambda: group(1), one_by_one)
    chain.close()
    table["PostgreSQL, durable capsules a second, ours, groups of 256"] = spread(grouped, 0)
    table["PostgreSQL, durable capsules a second, ours, one by one"] = spread(alone, 0)
    table["PostgreSQL, durable capsules a second, seal_and_store"] = spread(single, 0)


def several() -> None:
    """One process beside four on one chain."""
    global wrong  # noqa: PLW0603 - the verdict of the run
    lines, faults = processes(HOME)
    table.update(lines)
    wrong += faults


def verify() -> None:
    """Verification of 100,000 capsules, beside ``capsule verify``."""
    global wrong  # noqa: PLW0603 - the verdict of the run
    lines, faults = verifying(HOME)
    table.update(lines)
    wrong += faults


def imports() -> None:
    """How long an import takes, in a process of its own."""

    def side(what: str) -> float:
        code = (
            f"import time; t = time.perf_counter(); import {what}; print(time.perf_counter() - t)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        return float(run.stdout) * 1e3

    names = "structlog, wrapt, anyio", "structlog, wrapt, anyio, capsule_sdk"
    for name, figures in zip(names, alternate(*(lambda n=n: side(n) for n in names)), strict=True):
        table[f"import {name}, ms"] = spread(figures)


def main() -> int:
    """Measure all, print the table, write the JSON."""
    configure(url=HOME / "capsules.db")
    table["fsync of 4 kB, ms"] = f"{fsync_ms(HOME):.2f}"
    figures = (counts, caller, decorator, costs, chain, several, postgresql, verify, imports)
    asked = [figure for figure in figures if figure.__name__ in sys.argv[1:]]
    for figure in asked or figures:
        figure()
    width = max(map(len, table))
    for name, value in table.items():
        print(f"{name:<{width}}  {value}")
    Path("benchmarks.json").write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
