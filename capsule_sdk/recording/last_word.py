"""The last word of a process: which records are not in the chain, what became of them, and what will.

Nothing is called safe here that was not seen on disk; the look at it is `Safekeeping.account`'s.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..logs import tell

__all__ = ["Kept", "say"]


class Kept(NamedTuple):
    """What a look at the disk has shown of records that are not in the chain.

    Attributes:
        safe: how many are in the journal, with how they ended.
        ends: of how many others it holds only that they began.
        lost: how many are on no disk at all.
        noted: where these two are noted for whoever comes next; ``None`` where nothing can be written.
        doubt: why it is not certain that what is in the journal is on the disk; ``None`` where it is.
        unseen: how many others were written to the journal, at which nobody can look now.
        journal: the journal, where there is one.

    """

    safe: int = 0
    ends: int = 0
    lost: int = 0
    noted: Path | None = None
    doubt: str | None = None
    unseen: int = 0
    journal: Path | None = None


def say(kept: Kept) -> None:
    """Say the last word: what the next process finds, and what nobody will."""
    where = {} if kept.journal is None else {"journal": str(kept.journal)}
    if kept.safe and kept.doubt is not None:
        tell(
            "error",
            "records are not in the chain at the end of the process; they are written to the journal, and"
            " the disk could not confirm it: the next process, or `capsuled recover`, brings in what is there",
            records=kept.safe,
            error=kept.doubt,
            **where,
        )
    elif kept.safe:
        tell(
            "error",
            "records are not in the chain at the end of the process; they are in the journal, and the next"
            " process, or `capsuled recover`, brings them in once the chain can be written",
            records=kept.safe,
            **where,
        )
    if kept.unseen:
        tell(
            "error",
            "records are not in the chain at the end of the process, and it is not known whether they are safe:"
            " they were written to the journal, and nobody can look at it now; make it readable again, and the"
            " next process, or `capsuled recover`, brings in what is there",
            records=kept.unseen,
            **where,
        )
    lost = {"lost": kept.lost, **({"only_begun": kept.ends} if kept.ends else {})}
    if kept.noted is not None:
        tell(
            "error",
            "records are lost at the end of the process: neither the store nor the disk took them; the next"
            " process, or `capsuled recover`, seals how many",
            **lost,
            noted_in=str(kept.noted),
        )
    elif kept.lost or kept.ends:
        event = (
            "records are lost at the end of the process: neither the store nor the disk took them, and their"
            " number cannot be written anywhere: it stands here only; name a directory that this process can"
            " write with CAPSULE_SDK_JOURNAL"
        )
        tell("error", event, **lost)
        with suppress(Exception):  # a log may lie on the same disk
            os.write(2, f"capsule_sdk: {kept.lost + kept.ends} {event}\n".encode())
