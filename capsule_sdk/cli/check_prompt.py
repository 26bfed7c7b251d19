"""``capsuled check-prompt``: whether kept messages are those that a capsule holds the hash of."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import cast

import click

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.asking import Answer, compare, read_question
from capsule_sdk.evidence.showing.lookup import find
from capsule_sdk.evidence.sources import open_source
from capsule_sdk.outward import one_line

from .options import database_option, json_option, print_json, tenant_option, while_somebody_reads

__all__ = ["check_prompt"]

_EXIT_CODES = {True: 0, False: 1, None: 2}


@click.command("check-prompt")
@click.argument("wanted", metavar="ID|SEQUENCE|URI")
@click.argument("file", metavar="FILE")
@database_option
@tenant_option
@click.option(
    "--redact",
    metavar="MODULE:FUNCTION",
    help="What the program had as configure(redact=...), where the capsule says that it hashed what that left:"
    " it is imported and called with each text.",
)
@json_option
def check_prompt(
    *,
    wanted: str,
    file: str,
    source: str | None,
    tenant: str | None,
    redact: str | None,
    as_json: bool,
) -> int:
    """Tell whether a question that you kept is the one that a capsule holds the hash of.

    FILE (- for standard input) holds the list of messages as JSON, or the whole request as one object with
    model, messages, tools and parameters, or the prompt as text. It is hashed as it is (docs/hashes.md says
    how), and what differs is named as far as the capsule tells.

    Exit code 0: the same. 1: another one. 2: that cannot be told. Whether the capsule itself was altered is
    `capsuled verify`'s affair.
    """
    record = find(open_source(source, tenant=tenant), wanted).record()
    if record is None:
        raise EvidenceError(f"what is stored as {wanted!r} is no capsule: see `capsuled verify`")
    try:
        answer = compare(record, read_question(_text_of(file)), _function(redact))
    except EvidenceError as error:
        raise EvidenceError(f"{wanted}, {file}: {error}") from error
    with while_somebody_reads():
        if as_json:
            print_json({"capsule_id": record.get("id"), **asdict(answer)})
        else:
            _show(answer)
    return _EXIT_CODES[answer.same]


def _function(name: str | None) -> Callable[[str], str] | None:
    if name is None:
        return None
    module, _, way = name.partition(":")
    try:
        sys.path.insert(0, "")  # as for `python -m`
        found = functools.reduce(getattr, way.split("."), importlib.import_module(module))
    except Exception as error:
        raise EvidenceError(
            f"{name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise EvidenceError(f"{name!r} is no function: write --redact MODULE:FUNCTION")
    return cast("Callable[[str], str]", found)


def _text_of(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise EvidenceError(f"it cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise EvidenceError("it is not UTF-8, as JSON and prompts are") from error


def _show(answer: Answer) -> None:
    verdict = {
        True: f"SAME: {answer.compared} in the file is what was hashed",
        False: f"DIFFERENT: {answer.compared} in the file is not what was hashed",
        None: "NOT TOLD",
    }[answer.same]
    click.echo(verdict.replace("messages in the file is", "messages in the file are"))
    for sentence in (*answer.differences, *answer.notes):
        click.echo(f"  {one_line(sentence)}")
