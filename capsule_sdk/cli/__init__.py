"""The ``capsuled`` command: looks at chains; `capsuled recover` alone adds to one.

Exit codes: 0 done, and all is well; 1 looked, and something is wrong; 2 it could not be done, and a line says
why and what to do, or the command line is wrong.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from capsule_sdk import __version__
from capsule_sdk.errors import CapsuleSDKError, ChainMissing

from .backup import backup
from .check_prompt import check_prompt
from .checkpoint import checkpoint
from .export import export, report
from .keys import keys
from .options import complain, while_somebody_reads
from .show import show
from .stats import stats
from .tail import tail
from .tree import tree
from .upkeep import recover, status, waiting_for
from .verify import verify

__all__ = ["main"]

FAILED = 2
_INTERRUPTED = 130  # as shells have it for SIGINT


class _InThisOrder(click.Group):
    """Lists the commands as they were added: the most wanted first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InThisOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="capsuled", message="%(prog)s %(version)s")
def capsuled() -> None:
    """Look at the capsules that your agents left, and check them."""


_LOOKING = (tree, show, tail, stats, verify, checkpoint, check_prompt, export, report)
_KEEPING = (status, recover, backup, keys)
for _command in (*_LOOKING, *_KEEPING):
    capsuled.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (the process's own by default); return its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    arguments = list(sys.argv[1:] if argv is None else argv)
    code: object = 0
    try:
        # not its main(), which makes an error of a reader that has gone away
        with while_somebody_reads(), capsuled.make_context("capsuled", arguments) as context:
            code = capsuled.invoke(context)
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.ClickException as error:
        error.show()
        code = FAILED
    except ChainMissing as error:
        code = _failed(f"{error}{waiting_for(error.path)}")
    except CapsuleSDKError as error:
        code = _failed(str(error))
    except (KeyboardInterrupt, click.Abort):
        code = _INTERRUPTED
    except PermissionError as error:
        code = _failed(f"{error}: run this as its owner, or make it yours (chown, chmod)")
    except Exception as error:  # noqa: BLE001 - never an exit code that says more than is known
        code = _failed(f"an error of its own, please report it: {type(error).__name__}: {error}")
    return code if isinstance(code, int) else 0


def _failed(why: str) -> int:
    complain(why)
    return FAILED
