"""``capsuled recover`` and ``capsuled status``: for whoever keeps the recording running."""

from __future__ import annotations

import logging
import shlex
from dataclasses import asdict
from pathlib import Path

import click

from capsule_sdk.errors import CapsuleSDKError
from capsule_sdk.evidence.chains import name_of
from capsule_sdk.evidence.showing.wording import counted
from capsule_sdk.evidence.status import Status, status_of
from capsule_sdk.outward import one_line
from capsule_sdk.recording.default import recover as bring_in
from capsule_sdk.recording.default import store_and_journals
from capsule_sdk.recording.recovery import Found
from capsule_sdk.recording.whereabouts import elsewhere_of, instead_of, labels_of

from .options import journal_option, json_option, print_json, store_option, while_somebody_reads

__all__ = ["recover", "status", "waiting_for"]

_LIFE = {True: "living", False: "DEAD", None: "NOT READABLE"}


@click.command()
@store_option
@journal_option
@json_option
def recover(source: str | None, journal: str | None, as_json: bool) -> int:
    """Bring in what dead processes left in their journals.

    The next process that records there would do the same. Safe to run at any time, and twice. Exit code 1 if
    something is damaged, was lost, or could not be brought in.
    """
    logging.basicConfig(format="%(message)s")
    found = bring_in(source, journal=journal)
    with while_somebody_reads():
        if as_json:
            print_json(asdict(found))
        elif found == Found():
            click.echo("nothing to recover")
        else:
            click.echo(f"journals recovered: {found.journals}, left: {found.left}")
            click.echo(
                f"capsules brought into the chain: {found.capsules}; records that had not ended:"
                f" {found.unfinished}; damaged places: {found.damaged}"
            )
            if found.left:
                click.echo(
                    f"NOT BROUGHT IN, and left as it is: {counted(found.left, 'place')}; the log line names"
                    " each. Once the chain can be written, run this as the user whose processes they were"
                )
            if found.refused:
                click.echo(
                    f"NOT BELIEVED, and left as they are: {counted(found.refused, 'place')} where somebody else"
                    " may have laid journals; the log line names each, and what to do"
                )
            if found.lost or found.ends_lost:
                click.echo(
                    f"LOST, as the chain says now: {_losses(counted(found.lost, 'record'), found.ends_lost)}"
                )
    return 1 if any((found.left, found.refused, found.damaged, found.lost, found.ends_lost)) else 0


@click.command()
@store_option
@journal_option
@json_option
def status(source: str | None, journal: str | None, as_json: bool) -> int:
    """Tell whether all that was recorded is in the chain.

    What the store holds, what living processes have not committed yet, what others left behind, and what is
    lost. Exit code 0 if nothing waits for anybody, 1 if something does, 2 if there is no such database.
    Losses that the chain itself speaks of are counted, and change no exit code: `capsuled verify` names them.
    Whether the chain is whole is its affair, too.
    """
    store, journals = store_and_journals(source, journal=journal)
    found = status_of(
        source,
        store,
        journals,
        elsewhere=elsewhere_of(journals),
        instead=lambda: instead_of(journals),
        labels=labels_of(journals),
    )
    with while_somebody_reads():
        if as_json:
            print_json({**asdict(found), "chains": [one._asdict() for one in found.chains]})
        else:
            for line in _lines(found, str(journals)):
                click.echo(line)
    return 1 if found.trouble else 0


def waiting_for(database: Path) -> str:
    """Say that dead processes have recorded something for a database that does not exist yet.

    Nothing where nothing waits in their journals, or that cannot be told.
    """
    try:
        store, journals = store_and_journals(database)
        found = status_of(database, store, journals, instead=lambda: instead_of(journals))
    except (CapsuleSDKError, OSError):
        return ""
    dead = [one for one in found.journals if one.alive is False]
    waits = any(one.open or one.waiting for one in dead)
    if not waits and not any(one.lost for one in dead):
        return ""
    command = f"capsuled recover --db {shlex.quote(str(database))}"
    if not waits:
        return f". Records are lost, as the journals at {journals} say: `{command}` seals how many"
    return f". What was recorded waits in the journals at {journals}: `{command}` brings it into the chain"


def _lines(found: Status, journals: str) -> list[str]:
    if found.capsules is None:
        held = "cannot be read"
    else:
        held = counted(found.capsules, "capsule") if found.reachable else "is not there"
    sealed = f", the last sealed {one_line(found.last_sealed)}" if found.last_sealed else ""
    chains = [
        f"  {one_line(name_of(one.tenant))}: {counted(one.capsules, 'capsule')},"
        f" head {one_line(str(one.head))[:16]}"
        for one in found.chains
    ]
    return [
        f"store      {found.store}: {held}{sealed}",
        *(chains if len(chains) > 1 or any(one.tenant for one in found.chains) else ()),
        f"journals   {journals}",
        *(
            f"  {one_line(one.name)}  {_LIFE[one.alive]}, {one.size} bytes, {one.open} open,"
            f" {one.waiting} waiting, lag {one.lag} s{f', {one.lost} LOST' if one.lost else ''}"
            for one in found.journals
        ),
        f"lost       {_lost(found)}",
        "cut off    "
        + (
            "unknown"
            if found.cut_off is None
            else f"{found.cut_off} in the chain (their process ended before they did)"
        ),
        *(f"TROUBLE    {one_line(trouble)}" for trouble in found.trouble),
        *(f"note       {one_line(note)}" for note in found.notes),
        *([] if found.trouble else [_last(found)]),
    ]


def _lost(found: Status) -> str:
    """Say what the chain says is lost, and what the journals say beyond that."""
    more = sum(one.lost for one in found.journals)
    said = "unknown" if found.lost is None else _losses(str(found.lost), found.ends_lost or 0)
    return f"{said}; {more} more that the chain does not say yet" if more else said


def _losses(lost: str, ends_lost: int) -> str:
    return f"{lost}; and of {ends_lost} others how they ended" if ends_lost else lost


def _last(found: Status) -> str:
    if found.lost or found.ends_lost:
        command = f"capsuled verify{' --all-tenants' if len(found.chains) > 1 else ''}"
        return f"nothing waits, and the chain says what is lost: {command} names it"
    return "all is well"
