"""The ``capsuled`` command: looks at chains; `capsuled recover` alone adds to one.

Exit codes: 0 done; 1 it could not be done, or all is not well, and a line says why and what to do; 2 the
command line is wrong.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import shutil
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from capsule_sdk import __version__
from capsule_sdk.errors import CapsuleSDKError
from capsule_sdk.evidence.export import export_chain, read_chain
from capsule_sdk.evidence.status import status_of
from capsule_sdk.evidence.tree import render_tree
from capsule_sdk.recording.default import recover, store_and_journals
from capsule_sdk.recording.recovery import Found

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

    recover = commands.add_parser(
        "recover",
        help="bring what processes that are no more left behind into the chain",
        description="Bring what processes that are no more left in their journals into the chain, as the"
        " next process that records there would do. Safe to run at any time, and twice.",
    )
    _add_database(recover, tenant=False)
    _add_journals(recover)
    recover.set_defaults(run=_recover)

    status = commands.add_parser(
        "status",
        help="tell whether all that was recorded is in the chain",
        description="Tell whether all that was recorded is in the chain: what the store holds, what living"
        " processes have not committed yet, what others left behind. Exit code 0 if all is well, 1 if not.",
    )
    _add_database(status, tenant=False)
    _add_journals(status)
    status.set_defaults(run=_status)
    return parser


def _add_journals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--journal",
        metavar="DIR",
        help="the directory of the journals, where configure(journal=...) chose one (default:"
        " $CAPSULE_SDK_JOURNAL, else `journal` beside the SQLite file or in qp-capsule's data directory)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_database(parser: argparse.ArgumentParser, *, tenant: bool = True) -> None:
    parser.add_argument(
        "--db",
        metavar="PATH_OR_URL",
        help="the database: a path, a sqlite:/// or a postgresql:// URL (default:"
        " $QUANTUMPIPES_DATA_DIR/capsules.db, else ~/.quantumpipes/capsules.db)",
    )
    if not tenant:
        return
    parser.add_argument(
        "--tenant",
        metavar="ID",
        help="the chain of this tenant, in PostgreSQL, where each has its own (default: the global"
        " chain, of the capsules without a tenant)",
    )


def _export(arguments: argparse.Namespace) -> int:
    if arguments.out == "-":
        export_chain(arguments.db, sys.stdout, tenant=arguments.tenant)
        return 0
    count = export_chain(arguments.db, arguments.out, tenant=arguments.tenant)
    sys.stdout.write(f"{count} {'capsule' if count == 1 else 'capsules'} -> {arguments.out}\n")
    return 0


def _tree(arguments: argparse.Namespace) -> int:
    capsules: Iterable[Mapping[str, Any]] = read_chain(arguments.db, tenant=arguments.tenant)
    if arguments.session is not None:
        capsules = (one for one in capsules if _session(one) == arguments.session)
    if arguments.last is not None:
        capsules = deque(capsules, maxlen=arguments.last)
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    sys.stdout.write(f"{render_tree(capsules, width=width) or 'no capsules'}\n")
    return 0


def _recover(arguments: argparse.Namespace) -> int:
    logging.basicConfig(format="%(message)s")
    found = recover(arguments.db, journal=arguments.journal)
    if arguments.json:
        sys.stdout.write(f"{json.dumps(asdict(found))}\n")
    elif found == Found():
        sys.stdout.write("nothing to recover\n")
    else:
        sys.stdout.write(
            f"journals recovered: {found.journals}, left: {found.left}\n"
            f"capsules brought into the chain: {found.capsules}; records that had not ended:"
            f" {found.unfinished}; damaged places: {found.damaged}\n"
        )
    return 1 if found.left or found.damaged else 0


def _status(arguments: argparse.Namespace) -> int:
    store, journals = store_and_journals(arguments.db, journal=arguments.journal)
    status = status_of(arguments.db, store, journals)
    if arguments.json:
        sys.stdout.write(f"{json.dumps(asdict(status))}\n")
        return 1 if status.trouble else 0
    held = f"{status.capsules} capsules" if status.reachable else "cannot be read"
    sealed = f", the last sealed {status.last_sealed}" if status.last_sealed else ""
    lines = [
        f"store      {status.store}: {held}{sealed}",
        f"journals   {journals}",
        *(
            f"  {one.name}  {'living' if one.alive else 'DEAD'}, {one.size} bytes, {one.open} open,"
            f" {one.waiting} waiting, lag {one.lag} s"
            for one in status.journals
        ),
        f"lost       {status.lost}",
        f"cut off    {status.cut_off} (their process ended before they did)",
        *(f"TROUBLE    {trouble}" for trouble in status.trouble),
        *([] if status.trouble else ["all is well"]),
    ]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if status.trouble else 0


def _session(capsule: Mapping[str, Any]) -> object:
    context = capsule.get("context")
    return context.get("session_id") if isinstance(context, Mapping) else None


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of capsules; give 1 or more")
    return int(text)
