"""A notebook: a real kernel, to which cells are sent, and which is interrupted, restarted and killed."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import time
from ast import literal_eval
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chain_support import ROOT

from capsule_sdk.evidence.exporting.export import read_chain

__all__ = ["Notebook", "opened", "storm"]


class Notebook:
    """One kernel, whose chain is in a directory."""

    def __init__(self, home: Path, **environ: str) -> None:
        from jupyter_client.manager import KernelManager

        self.db = home / "capsules.db"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_SDK_")},
            "QUANTUMPIPES_DATA_DIR": str(home),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(home)]),
            "IPYTHONDIR": str(home / "ipython"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            **environ,
        }
        self._manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{home}/kernel")
        self._log = (home / "kernel.log").open("a")
        self._manager.start_kernel(
            env=self.environment, cwd=str(home), stdout=self._log, stderr=self._log
        )
        self._connect()

    def _connect(self) -> None:
        self._client = self._manager.blocking_client()
        self._client.start_channels(stdin=False)
        self._client.wait_for_ready(timeout=60)
        self._client.iopub_channel.stop()

    @property
    def pid(self) -> int:
        return int(self._manager.provisioner.pid)

    def send(self, code: str, **expressions: str) -> str:
        """Begin a cell; return the id that its reply has."""
        return str(
            self._client.execute(
                code, store_history=False, user_expressions=expressions, stop_on_error=False
            )
        )

    def reply(self, sent: str, seconds: float = 60.0) -> dict[str, Any] | None:
        """Return what became of a cell; nothing where the kernel has not said it in time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                found = self._client.get_shell_msg(timeout=left)
                if found["parent_header"].get("msg_id") == sent:
                    return dict(found["content"])
        return None

    def run(self, code: str, expression: str = "None") -> Any:
        """Run a cell to its end, which has to be good, and return the value of an expression after it."""
        reply = self.reply(self.send(code, value=expression))
        assert reply is not None, "the kernel does not answer"
        assert reply["status"] == "ok", reply
        value = reply["user_expressions"]["value"]
        assert value["status"] == "ok", value
        return literal_eval(value["data"]["text/plain"])

    def fail(self, code: str) -> str:
        """Run a cell that raises; return the name of the exception."""
        reply = self.reply(self.send(code))
        assert reply is not None
        assert reply["status"] == "error", reply
        return str(reply["ename"])

    def interrupt(self) -> None:
        """Press the button."""
        self._manager.interrupt_kernel()

    def restart(self) -> None:
        """Kill the kernel, and begin another one."""
        self._client.stop_channels()
        self._manager.restart_kernel(now=True)
        self._connect()

    def close(self) -> None:
        """End the kernel as closing a notebook does; kill what is left of it."""
        pid = self.pid
        try:
            self._client.stop_channels()
            self._manager.shutdown_kernel(now=False)
        finally:
            self._log.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def opened(home: Path, **environ: str) -> Iterator[Notebook]:
    notebook = Notebook(home, **environ)
    try:
        yield notebook
    finally:
        notebook.close()


FIRST = """
import asyncio, itertools
import capsule_sdk
from capsule_sdk import capsule_scope, capsuled, flush, get_recorder
from capsule_sdk.scopes.node import innermost
begun, numbers = [], itertools.count()

@capsuled(name="cell", request_from="name")
def function(name):
    begun.append(name)

@capsuled(name="cell", request_from="name")
def generator(name):
    begun.append(name)
    yield 1
    yield 2

@capsuled(name="cell", request_from="name")
async def coroutine(name):
    begun.append(name)
    await asyncio.sleep(0)

def scope(name):
    with capsule_scope("cell", request=name):
        begun.append(name)
"""

#: Cells that go on until they are interrupted, or for a while.
CELLS = {
    "functions": "for n in itertools.islice(numbers, 2000): function(f'{n}')",
    "generators": "for n in itertools.islice(numbers, 1000): list(generator(f'{n}'))",
    "scopes": "for n in itertools.islice(numbers, 1500): scope(f'{n}')",
    "nested": "with capsule_scope('outer'):\n"
    "    for n in itertools.islice(numbers, 1000): scope(f'{n}'); function(f'{next(numbers)}')",
    "awaits": "for n in itertools.islice(numbers, 1000): await coroutine(f'{n}')",
    "async scopes": "for n in itertools.islice(numbers, 1000):\n"
    "    async with capsule_scope('cell', request=f'{n}'):\n"
    "        begun.append(f'{n}')\n"
    "        await asyncio.sleep(0)",
    "flushes": "for n in itertools.islice(numbers, 100): function(f'{n}'); flush(5)",
}


def storm(
    notebook: Notebook, chances: random.Random, deadline: float, rounds: int
) -> tuple[Counter[str], list[str]]:
    """Interrupt cells at random moments.

    Returns:
        How often that broke off which kind of cell, and what was broken.

    """
    hits: Counter[str] = Counter()
    problems: list[str] = []
    notebook.run(FIRST)
    notebook.run("function('first')")
    while hits.total() < rounds and time.monotonic() < deadline and not problems:
        kind = chances.choice(list(CELLS))
        sent = notebook.send(CELLS[kind])
        time.sleep(chances.uniform(0.0, 0.06))
        notebook.interrupt()
        reply = notebook.reply(sent, 20)
        if (
            reply is None
        ):  # ipykernel's own lines can be interrupted, too: it answers the next cell then
            answer = notebook.reply(notebook.send("pass"), 20)
            if answer is None:
                problems.append(f"a cell of {kind} does not end after interrupt {hits.total()}")
        elif reply["status"] != "ok":
            hits[kind] += 1
        if hits.total() % 20 == 0 and not problems:
            problems += _state(notebook)
    if not problems:
        notebook.run("function('last')")
        problems += _state(notebook)
        left, names = notebook.run("left = flush(30)", "(left, ' '.join(begun))")
        problems += [f"{left} are not durable in the end"] * bool(left)
        sealed = Counter(one["trigger"]["request"] for one in read_chain(notebook.db))
        wrong = {name: sealed[name] for name in names.split() if sealed[name] != 1}
        if wrong:
            problems.append(f"capsules of what had begun: {dict(list(wrong.items())[:5])}")
    return hits, problems


def _state(notebook: Notebook) -> list[str]:
    current, open_now, lost = notebook.run(
        "stats = get_recorder().stats()", "(innermost() is not None, stats.open, stats.lost)"
    )
    problems = ["a scope is current"] * current
    problems += [f"{open_now} records are open"] * bool(open_now)
    return problems + [f"{lost} records are lost"] * bool(lost)
