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
_HELP = re.compile(r"```text\n\$ capsuled( [\w -]+)? --help\n.*?```", re.DOTALL)
_CODES = re.compile(r"\| code \| .*?\n\n", re.DOTALL)


def help_of(name: str) -> str:
    """Return what ``capsuled NAME --help`` prints."""
    command: click.Command = capsuled
    context = _context(command, None, "capsuled")
    for word in name.split():
        assert isinstance(command, click.Group)
        command = command.commands[word]
        context = _context(command, context, word)
    context.help_option_names = ["-h", "--help"]
    return command.get_help(context)


def _context(command: click.Command, parent: click.Context | None, name: str) -> click.Context:
    width = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    return click.Context(command, parent=parent, info_name=name, **width)


def commands() -> list[str]:
    """Return the names of all commands; of a group, those of the commands in it."""
    names = []
    for name, command in capsuled.commands.items():
        if isinstance(command, click.Group):
            names += [f"{name} {inner}" for inner in command.commands]
        else:
            names.append(name)
    return names


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
    assert shown == ["", *commands()]


if __name__ == "__main__":
    COMMANDS.write_text(written_anew(COMMANDS.read_text("utf-8")), "utf-8")
    sys.exit(0)
