"""``capsuled recover`` and ``capsuled status``: for whoever keeps the recording running."""

from __future__ import annotations

import logging
from dataclasses import asdict

import click

from capsule_sdk.evidence.showing.wording import counted, one_line
from capsule_sdk.evidence.status import Status, status_of
from capsule_sdk.recording.default import recover as bring_in
from capsule_sdk.recording.default import store_and_journals
from capsule_sdk.recording.recovery import Found

from .options import journal_option, json_option, print_json, store_option, while_somebody_reads

__all__ = ["recover", "status"]


@click.command()
@store_option
@journal_option
@json_option
def recover(source: str | None, journal: str | None, as_json: bool) -> int:
    """Bring in what dead processes left in their journals.

    The next process that records there would do the same. Safe to run at any time, and twice.
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
    return 1 if found.left or found.damaged else 0


@click.command()
@store_option
@journal_option
@json_option
def status(source: str | None, journal: str | None, as_json: bool) -> int:
    """Tell whether all that was recorded is in the chain.

    What the store holds, what living processes have not committed yet, what others left behind. Exit code 0
    if all is well, 1 if not. Whether the chain itself is whole is `capsuled verify`'s affair.
    """
    store, journals = store_and_journals(source, journal=journal)
    found = status_of(source, store, journals)
    with while_somebody_reads():
        if as_json:
            print_json(asdict(found))
        else:
            for line in _lines(found, str(journals)):
                click.echo(line)
    return 1 if found.trouble else 0


def _lines(found: Status, journals: str) -> list[str]:
    held = counted(found.capsules, "capsule") if found.reachable else "cannot be read"
    sealed = f", the last sealed {one_line(found.last_sealed)}" if found.last_sealed else ""
    return [
        f"store      {found.store}: {held}{sealed}",
        f"journals   {journals}",
        *(
            f"  {one_line(one.name)}  {'living' if one.alive else 'DEAD'}, {one.size} bytes, {one.open} open,"
            f" {one.waiting} waiting, lag {one.lag} s"
            for one in found.journals
        ),
        f"lost       {found.lost}",
        f"cut off    {found.cut_off} (their process ended before they did)",
        *(f"TROUBLE    {one_line(trouble)}" for trouble in found.trouble),
        *([] if found.trouble else ["all is well"]),
    ]
