"""``capsuled show``: all that one capsule holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.formats.entries import SEAL_FIELDS, Entry
from capsule_sdk.evidence.showing.continuing import earlier_of
from capsule_sdk.evidence.showing.conversation import Conversation, conversation_of
from capsule_sdk.evidence.showing.lookup import Kin, Relatives, field_of, find, kin_of
from capsule_sdk.evidence.showing.summary import Summary, summary_of
from capsule_sdk.evidence.showing.uri import SCHEME
from capsule_sdk.evidence.showing.wording import authority
from capsule_sdk.evidence.sources import open_source
from capsule_sdk.outward import escaped_json, one_line

from .conversing import conversation_lines, without_conversation
from .drawing import (
    NOT_VERIFIED,
    Paper,
    Span,
    figures,
    mark_span,
    name_spans,
    pager_option,
    status_style,
)
from .fields import fields
from .options import database_option, json_option, print_json, tenant_option

__all__ = ["show"]

#: The six sections of CPS 1.1 to 1.6.
_SECTIONS = ("trigger", "context", "reasoning", "authority", "execution", "outcome")
_SEAL = "seal"
_RELATIVES = 30  # children that are listed, and parents


@click.command()
@click.argument("wanted", metavar="ID|SEQUENCE|URI")
@database_option
@tenant_option
@click.option(
    "--section",
    type=click.Choice([*_SECTIONS, _SEAL]),
    help="Only this section; with --json, as one JSON value.",
)
@pager_option
@json_option
def show(
    *,
    wanted: str,
    source: str | None,
    tenant: str | None,
    section: str | None,
    no_pager: bool,
    as_json: bool,
) -> None:
    """Show one capsule: its six sections, its seal, its parent and its children.

    ID may be cut to its first characters, four at least, as long as one capsule alone begins so. A URI
    (capsule://sha3_…, capsule://ID, capsule://CHAIN/SEQUENCE) may name a field after a #: that alone is shown.
    --json prints the record exactly as it is stored; on a terminal, what could steer it is escaped.

    Nothing is verified: that is what `capsuled verify` does.
    """
    chain = open_source(source, tenant=tenant)
    entry = find(chain, wanted)
    record = entry.record()
    if record is None:
        fault = one_line(entry.fault) or "it is no JSON object"
        raise EvidenceError(
            f"what is stored as {wanted!r} is no capsule ({fault}): see `capsuled verify`"
        )
    paper = Paper()
    way = wanted.partition("#")[2] if wanted.startswith(SCHEME) else ""
    if way or section:
        part = field_of(record, way) if way else _section(record, str(section))
        if as_json:
            print_json(part)
        else:
            paper.print(map(paper.line, fields(part, paper)), paged=not no_pager)
    elif as_json:
        _print_stored(entry, paper)
    else:
        earlier, missing = earlier_of(chain, record)
        talk = conversation_of(record, earlier, missing=missing)
        paper.print(
            map(paper.line, _capsule(record, kin_of(chain, record, _RELATIVES), talk, paper)),
            paged=not no_pager,
        )


def _print_stored(entry: Entry, paper: Paper) -> None:
    """Print the record byte by byte as it is stored; but a terminal MUST NOT be steered by it."""
    text = entry.record_text()
    if paper.terminal:
        text = escaped_json(text)
    click.echo(text.encode("utf-8", "surrogateescape"))


def _section(record: Mapping[str, Any], name: str) -> object:
    return {key: record.get(key) for key in SEAL_FIELDS} if name == _SEAL else record.get(name)


def _capsule(
    record: Mapping[str, Any], kin: Kin, talk: Conversation | None, paper: Paper
) -> Iterator[list[Span]]:
    summary = summary_of(record)
    yield from _heading(summary)
    yield from _family(summary, kin)
    if talk is not None:
        yield []
        yield [("conversation", "bold")]
        yield from conversation_lines(talk, paper)
        record = without_conversation(record, talk)
    rest = {key: value for key, value in record.items() if key not in {*_SECTIONS, *SEAL_FIELDS}}
    parts = [(name, record.get(name)) for name in _SECTIONS]
    for name, value in [*parts, ("record", rest), (_SEAL, _section(record, _SEAL))]:
        yield []
        yield [(name, "bold")]
        yield from fields(value, paper, indent=2)
    yield []
    yield [(NOT_VERIFIED, "dim")]


def _heading(summary: Summary) -> Iterator[list[Span]]:
    yield _named(summary)
    taken, tokens, cost = figures(summary)
    began = f"{summary.started:%Y-%m-%d %H:%M:%SZ}" if summary.started else ""
    told = (
        one_line(summary.type) or "no type",
        authority(summary),
        began,
        taken,
        tokens and f"{tokens} tokens",
        cost,
    )
    status = one_line(summary.status) or "no status"
    rest = "".join(f", {text}" for text in told if text)
    yield [("  ", ""), (status, status_style(summary.status)), (rest, "")]
    if summary.error:
        yield [("  ", ""), (one_line(summary.error), "red")]


def _family(summary: Summary, kin: Kin) -> Iterator[list[Span]]:
    if summary.parent_id:
        yield []
        yield [("parent", "bold")]
        yield from _listed(kin.parents, "see `capsuled verify`")
        if not kin.parents.count:
            yield [(f"  {one_line(summary.parent_id)}, not in the chain", "yellow")]
    if kin.children.count or summary.children_started:
        yield []
        started = (
            "" if summary.children_started is None else f" of {summary.children_started:,} started"
        )
        yield [("children", "bold"), (f"  {kin.children.count:,} here{started}", "dim")]
        yield from _listed(kin.children, "`capsuled tree --task ID`")


def _listed(relatives: Relatives, elsewhere: str) -> Iterator[list[Span]]:
    yield from map(_relative, relatives.first)
    if more := relatives.count - len(relatives.first):
        yield [(f"  … and {more:,} more: {elsewhere}", "dim")]


def _relative(summary: Summary) -> list[Span]:
    return [("  ", ""), *_named(summary)]


def _named(summary: Summary) -> list[Span]:
    number = "#?" if summary.sequence is None else f"#{summary.sequence}"
    known = f"  {number}  {one_line(summary.id) or 'without id'}"
    return [mark_span(summary), (" ", ""), *name_spans(summary), (known, "dim")]
