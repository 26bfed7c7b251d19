"""docs/commands.md shows what the commands say of themselves.

To write it anew after a change: ``python tests/test_docs.py``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from capsule_sdk.cli import capsuled
from capsule_sdk.evidence.verifying.findings import Finding, Reason

COMMANDS = Path(__file__).parent.parent / "docs" / "commands.md"
WIDTH = 90
_HELP = re.compile(r"```text\n\$ capsuled( \w+)? --help\n.*?```", re.DOTALL)
_CODES = re.compile(r"\| code \| .*?\n\n", re.DOTALL)


def help_of(name: str) -> str:
    """Return what ``capsuled NAME --help`` prints."""
    command = capsuled.commands[name] if name else capsuled
    parent = click.Context(
        capsuled, info_name="capsuled", terminal_width=WIDTH, max_content_width=WIDTH
    )
    context = click.Context(
        command, parent=parent if name else None, info_name=name or "capsuled",
        terminal_width=WIDTH, max_content_width=WIDTH,
    )  # fmt: skip
    context.help_option_names = ["-h", "--help"]
    return command.get_help(context)


def written_anew(text: str) -> str:
    """Return the page with what the commands and the verifier say today."""

    def block(found: re.Match[str]) -> str:
        name = (found[1] or "").strip()
        return f"```text\n$ capsuled{f' {name}' if name else ''} --help\n{help_of(name)}\n```"

    codes = "".join(
        f"| `{reason}` | {Finding(reason).severity} | {Finding(reason).sentence} |\n"
        for reason in Reason
    )
    table = f"| code | severity | meaning |\n|---|---|---|\n{codes}\n"
    return _CODES.sub(lambda _: table, _HELP.sub(block, text))


def test_the_page_shows_what_each_command_says_of_itself() -> None:
    text = COMMANDS.read_text("utf-8")
    assert text == written_anew(text), "python tests/test_docs.py writes it anew"


def test_the_page_shows_every_command() -> None:
    shown = [(found[1] or "").strip() for found in _HELP.finditer(COMMANDS.read_text("utf-8"))]
    assert shown == ["", *capsuled.commands]


if __name__ == "__main__":
    COMMANDS.write_text(written_anew(COMMANDS.read_text("utf-8")), "utf-8")
    sys.exit(0)
