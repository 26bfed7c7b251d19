"""What the tests of tree, show, tail and stats share: a day of two agents in a chain, and a real terminal.

A module that uses `work` needs ``pytest_plugins = ["litellm_support"]`` and ``pytestmark = LITELLM_NOISE``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import litellm
from chain_support import ROOT

from capsule_sdk import Authority, capsule_scope, capsuled

if TYPE_CHECKING:
    from conftest import Capsule, Chain
    from litellm_support import LLM

COMMAND = [sys.executable, "-X", "dev", "-m", "capsule_sdk.cli"]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
#: What must never reach a terminal: a cleared screen, a title, a C1 control, a change of direction, markup.
EVIL = "\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp.exe[bold red]"


def work(llm: LLM, chain: Chain) -> dict[str, Capsule]:
    """Let two agents work: nine capsules; return them by name, calls by what was asked."""

    @capsuled(agent_id="trader", domain="finance", session_id="morning")
    def rebalance(portfolio: str) -> str:
        llm.ask("what do I have?")
        with capsule_scope("approve", authority="human-approved", approver="ana@example.com"):
            llm.ask("sell, tokens120/45 please")
        policy = Authority("policy", policy_reference="POL-7")
        with capsule_scope("check limits", authority=policy, capsule_type="tool") as task:
            task.block("limit exceeded")
        return "done"

    @capsuled(agent_id="support", session_id="evening")
    def answer(question: str) -> str:
        with contextlib.suppress(litellm.InternalServerError):
            llm.ask("now fail500")
        llm.ask("hello", "openai/model-without-a-price")
        raise ValueError("nobody knows")

    rebalance("my portfolio")
    with contextlib.suppress(ValueError):
        answer("where is my order?")
    llm.ask("alone")
    stored = chain.capsules()
    assert len(stored) == 9
    return {
        (one["trigger"]["request"] if one["trigger"]["source"] == "litellm" else _last(one)): one
        for one in stored
    }


def _last(one: Capsule) -> str:
    return str(one["trigger"]["source"]).rpartition(".")[2]


@contextmanager
def terminal(
    *arguments: str, columns: int = 120, lines: int = 40, **environment: str
) -> Iterator[Terminal]:
    """Run the command in a pseudo-terminal of its own."""
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in _LOOKS}
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env={
            **inherited,
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm-256color",
            "PAGER": "cat",
            **environment,
        },
        stdin=far,
        stdout=far,
        stderr=far,
        start_new_session=True,
    )
    os.close(far)
    try:
        yield Terminal(near, process)
    finally:
        process.kill()
        process.wait()
        os.close(near)


#: Variables that change what a terminal shows.
_LOOKS = {"NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES", "PAGER", "LESS", "COLORTERM"}


class Terminal:
    """What a person in front of it sees."""

    def __init__(self, near: int, process: subprocess.Popen[bytes]) -> None:
        self._near = near
        self.process = process

    def printed(self) -> str:
        """Return all that is printed until the command ends, with lines ending as in a file."""
        return self._read(lambda _: False)

    def until(self, text: str) -> str:
        """Return what is printed until the text appears."""
        seen = self._read(lambda seen: text in seen)
        assert text in seen, seen
        return seen

    def interrupt(self) -> int:
        """Do what Ctrl-C does, and return the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(30)

    def _read(self, enough: Callable[[str], bool]) -> str:
        seen = b""
        deadline = time.monotonic() + 60
        while not enough(seen.decode("utf-8", "replace")) and time.monotonic() < deadline:
            try:
                piece = os.read(self._near, 65_536)
            except OSError:  # Linux has it so when the last program has gone
                break
            if not piece:
                break
            seen += piece
        return seen.decode("utf-8").replace("\r\n", "\n")


def shown(*arguments: str, **options: Any) -> str:
    """Return what the command shows in a terminal, and see that it succeeds."""
    with terminal(*arguments, **options) as screen:
        printed = screen.printed()
        assert screen.process.wait(30) == 0, printed
        return printed


def plain(text: str) -> list[str]:
    """Return lines without the colours; nothing else that steers a terminal may be in them."""
    lines = ESCAPE.sub("", text).splitlines()
    assert all(line.isprintable() for line in lines), lines
    return lines


def columns_of(lines: Sequence[str], text: str) -> set[int]:
    """Return where a text stands in the lines that have it."""
    return {line.index(text) for line in lines if text in line}
