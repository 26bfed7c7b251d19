"""``capsuled keys``: the public keys of this machine, for whoever checks what was sealed with them."""

from __future__ import annotations

import json
import sys

import click

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.exporting.keyring import keyring_here
from capsule_sdk.evidence.formats.replacing import as_text, replacing
from capsule_sdk.evidence.showing.wording import counted

__all__ = ["keys"]


@click.group()
def keys() -> None:
    """Hand out the public keys of this machine."""


@keys.command()
@click.argument("out", default="-")
def export(out: str) -> None:
    """Write the public keys that capsules were sealed with here, of all epochs.

    OUT is the file, or - for standard output, as it is without OUT. `capsuled verify --pubkey-file OUT` takes
    it. After `capsule keys rotate` one key is not enough: older capsules fit older keys. No private key is in
    it. Hand it over another way than the chain: whoever can alter both can make them fit.
    """
    document = keyring_here()
    count = len(document["epochs"])
    if not count:
        raise EvidenceError(
            "there is no key here yet: one is made when the first capsule is sealed; set"
            " QUANTUMPIPES_DATA_DIR as your program has it, if it has its keys elsewhere"
        )
    text = json.dumps(document, indent=2)
    if out == "-":
        sys.stdout.write(f"{text}\n")
        return
    with replacing(out) as file, as_text(file) as writer:
        writer.write(f"{text}\n")
    click.echo(f"{counted(count, 'public key')} -> {out}")
