"""Options that several commands take, each written once; and what all commands share in printing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.formats.entries import moment
from capsule_sdk.evidence.selection import Selection
from capsule_sdk.evidence.verifying.keys import TrustedKey, given_keys, keys_here
from capsule_sdk.outward import escaped_json, one_line
from capsule_sdk.settings import PREFIX

__all__ = [
    "MOST",
    "STATUSES",
    "URL_VARIABLE",
    "complain",
    "condition_options",
    "database_option",
    "is_on_the_command_line",
    "journal_option",
    "json_option",
    "key_options",
    "print_json",
    "selection_of",
    "selection_options",
    "store_option",
    "tenant_option",
    "trusted_keys",
    "while_somebody_reads",
]

#: The most capsules that can be asked for by their number.
MOST: Final = 1_000_000
#: How a record can have ended (CPS 1.6).
STATUSES: Final = ("success", "failure", "blocked", "partial")

F = TypeVar("F", bound=Callable[..., Any])

#: Where a program put its chain, if no command line says it: one answer for all commands.
URL_VARIABLE: Final = f"{PREFIX}URL"
_BY_DEFAULT: Final = (
    f"[default: ${URL_VARIABLE}, else $QUANTUMPIPES_DATA_DIR/capsules.db, else"
    " ~/.quantumpipes/capsules.db]"
)

database_option = click.option(
    "--db",
    "source",
    metavar="SOURCE",
    envvar=URL_VARIABLE,
    help="What holds the chain: a SQLite file, a postgresql:// URL, or a file that was exported."
    f"  {_BY_DEFAULT}",
)
store_option = click.option(
    "--db",
    "source",
    metavar="DATABASE",
    envvar=URL_VARIABLE,
    help=f"The database: a SQLite file or a postgresql:// URL.  {_BY_DEFAULT}",
)
tenant_option = click.option(
    "--tenant",
    metavar="ID",
    help="The chain of this tenant, in PostgreSQL, where each has its own.  [default: the global chain, of"
    " the capsules without a tenant]",
)
journal_option = click.option(
    "--journal",
    metavar="DIR",
    help="The directory of the journals, where configure(journal=...) chose one.  [default:"
    " $CAPSULE_SDK_JOURNAL, else `journal` beside the SQLite file or in qp-capsule's data directory]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def _moment(text: str) -> datetime:
    try:
        return moment(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a time: write 2026-11-26 or 2026-11-26T10:40:00+01:00"
        ) from None


_TASK = click.option("--task", metavar="ID", help="Only this task and all that belongs to it.")
_CONDITIONS = (
    click.option("--agent", metavar="ID", help="Only records of this agent."),
    click.option("--domain", metavar="NAME", help="Only records of this domain."),
    click.option("--session", metavar="ID", help="Only records of this session."),
    click.option("--user", metavar="ID", help="Only records of this user."),
    click.option(
        "--status", type=click.Choice(STATUSES), metavar="STATUS",
        help=f"Only records that ended so: {', '.join(STATUSES[:-1])} or {STATUSES[-1]}.",
    ),
    click.option(
        "--since", type=_moment, metavar="TIME", help="Only records that began at TIME or later."
    ),
    click.option(
        "--until", type=_moment, metavar="TIME", help="Only records that began before TIME."
    ),
)  # fmt: skip
_KEYS = (
    click.option("--pubkey", "pubkeys", multiple=True, metavar="HEX",
                 help="The public key of whoever sealed the records; may be given several times.  [default: the"
                 " keys that qp-capsule keeps on this machine]"),
    click.option("--pubkey-file", "pubkey_files", multiple=True, metavar="FILE",
                 type=click.Path(path_type=Path), help="A file that holds such a key, or all of them, as"
                 " `capsuled keys export` writes it."),
)  # fmt: skip


def selection_options(command: F) -> F:
    """Add the options that choose records; see `selection_of`."""
    return _all((_TASK, *_CONDITIONS), command)


def condition_options(command: F) -> F:
    """Add those of them that can be judged by one record alone; see `selection_of`."""
    return _all(_CONDITIONS, command)


def key_options(command: F) -> F:
    """Add the options that name public keys; see `trusted_keys`."""
    return _all(_KEYS, command)


def _all(options: Iterable[Callable[[F], F]], command: F) -> F:
    for option in reversed(tuple(options)):
        command = option(command)
    return command


def selection_of(options: dict[str, Any]) -> Selection:
    """Take what `selection_options` brought out of a command's options."""
    names = ("task", "agent", "domain", "session", "user", "status", "since", "until")
    return Selection(**{name: options.pop(name, None) for name in names})


def trusted_keys(pubkeys: Iterable[str], files: Iterable[Path]) -> list[TrustedKey]:
    """Return the keys that were given; without any, those of this machine, of which there may be none.

    Raises:
        EvidenceError: one of them cannot be read.

    """
    return given_keys(pubkeys, files) or keys_here()


def print_json(value: object) -> None:
    """Print one JSON value on a line of its own."""
    sys.stdout.write(f"{escaped_json(json.dumps(value, default=_plain))}\n")


@contextmanager
def while_somebody_reads() -> Iterator[None]:
    """Print; a reader of the pipe who has seen enough and left changes no exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # what is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_on_the_command_line(parameter: str) -> bool:
    """Tell whether the user wrote a parameter himself, and no variable or default set it."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is ParameterSource.COMMANDLINE


def complain(message: str) -> None:
    """Print one line on standard error; what a file or a database has put into it steers no terminal."""
    sys.stderr.write(f"capsuled: {one_line(message)}\n")


def _plain(value: object) -> object:
    if isinstance(value, datetime | Path):
        return str(value)
    raise EvidenceError(f"{type(value).__name__} cannot be printed as JSON")
