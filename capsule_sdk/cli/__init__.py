"""The ``capsuled`` command: looks at chains, never writes to them.

Exit codes: 0 done; 1 it could not be done, and one line on stderr says why and what to do; 2 the
command line is wrong.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from capsule_sdk import __version__
from capsule_sdk.errors import CapsuleSDKError
from capsule_sdk.evidence.export import export_chain, read_chain
from capsule_sdk.evidence.tree import render_tree

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (the process's own by default); return its exit code."""
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except CapsuleSDKError as error:
        sys.stderr.write(f"capsuled: {error}\n")
        return 1
    except BrokenPipeError:  # the reader has seen enough; what is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="capsuled", description="Look at the capsules that your agents left."
    )
    parser.add_argument("--version", action="version", version=f"capsuled {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    export = commands.add_parser(
        "export",
        help="write a chain to a JSON file that `capsule verify` checks",
        description="Write the chain as a JSON array: check it with `capsule verify --full FILE`.",
    )
    export.add_argument(
        "out",
        nargs="?",
        default="chain.json",
        metavar="OUT",
        help="the file to write, - for standard output (default: %(default)s)",
    )
    _add_database(export)
    export.set_defaults(run=_export)

    tree = commands.add_parser(
        "tree",
        help="show the capsules, each under the task that made it",
        description="Show one line for each capsule, each under the task that made it.",
    )
    _add_database(tree)
    tree.add_argument("--session", metavar="ID", help="only the capsules of this session")
    tree.add_argument("--last", type=_count, metavar="N", help="only the last N capsules")
    tree.set_defaults(run=_tree)
    return parser


def _add_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--db",
        metavar="PATH_OR_URL",
        help="the database: a path or sqlite:/// URL (default: $QUANTUMPIPES_DATA_DIR/capsules.db,"
        " else ~/.quantumpipes/capsules.db)",
    )


def _export(arguments: argparse.Namespace) -> int:
    if arguments.out == "-":
        export_chain(arguments.db, sys.stdout)
        return 0
    count = export_chain(arguments.db, arguments.out)
    sys.stdout.write(f"{count} {'capsule' if count == 1 else 'capsules'} -> {arguments.out}\n")
    return 0


def _tree(arguments: argparse.Namespace) -> int:
    capsules: Iterable[Mapping[str, Any]] = read_chain(arguments.db)
    if arguments.session is not None:
        capsules = (one for one in capsules if _session(one) == arguments.session)
    if arguments.last is not None:
        capsules = deque(capsules, maxlen=arguments.last)
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    sys.stdout.write(f"{render_tree(capsules, width=width) or 'no capsules'}\n")
    return 0


def _session(capsule: Mapping[str, Any]) -> object:
    context = capsule.get("context")
    return context.get("session_id") if isinstance(context, Mapping) else None


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of capsules; give 1 or more")
    return int(text)
