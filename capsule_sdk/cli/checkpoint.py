"""``capsuled checkpoint``: signs how long a chain is and what it ends in, for keeping elsewhere.

Reads the end of the chain and the key, and makes neither. Who keeps what it prints can tell later whether
that part of the chain is still what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click
from nacl.signing import SigningKey
from qp_capsule.paths import default_key_path

from capsule_sdk.chain.checkpoint import Checkpoint, SignedCheckpoint, default_origin, parse, sign
from capsule_sdk.chain.checkpoint_files import path_in, put, read, sizes_in
from capsule_sdk.chain.keys import read_key
from capsule_sdk.chain.location import default_path, is_postgresql, postgresql_identity, sqlite_path
from capsule_sdk.chain.reading import Head, read_head
from capsule_sdk.errors import ChainMissing, ChainUnavailable, ConfigurationError, EvidenceError
from capsule_sdk.evidence.chains import elsewhere
from capsule_sdk.evidence.showing.wording import counted
from capsule_sdk.evidence.sources import entry_of
from capsule_sdk.evidence.verifying.findings import Finding
from capsule_sdk.evidence.verifying.keys import keys_here
from capsule_sdk.evidence.verifying.record import check_record

from .options import complain, json_option, print_json, store_option, tenant_option

__all__ = ["checkpoint"]

_STANDARD_OUTPUT = "-"


@click.command()
@click.argument("out", default=_STANDARD_OUTPUT)
@store_option
@tenant_option
@click.option(
    "--origin",
    metavar="NAME",
    help="What the checkpoint calls the chain; no spaces, no plus sign."
    "  [default: capsule-chain/ and the hash of its first capsule]",
)
@json_option
def checkpoint(
    out: str, source: str | None, tenant: str | None, origin: str | None, as_json: bool
) -> None:
    """Sign how long the chain is and what it ends in.

    Keep what this writes where those who can write to the database cannot: if the chain is cut short or
    written anew later, it no longer agrees. OUT is a file, a directory that gets a file named by the
    length of the chain, or - for standard output.

    The last capsule itself is verified before anything is signed; all that comes before it is not: that
    is what `capsuled verify` does.

    Exit code 1 if the last capsule does not verify, or the chain contradicts the checkpoint in OUT.
    """
    path = None if out == _STANDARD_OUTPUT else Path(out)
    # What is there, before the chain, which grows:
    there = None if path is None or path.is_dir() else _read(path)
    before = sizes_in(path) if path is not None and path.is_dir() else []
    key = _key()
    head = _head(source, tenant)
    _refuse_forged(head)
    made = Checkpoint(
        origin or default_origin(head.first_hash),
        head.capsule.sequence + 1,
        head.capsule.hash,
        datetime.now(UTC),
    )
    note = sign(made, key)
    if path is not None and path.is_dir():
        there = _longest(path, made, before)
        path = path_in(path, made.size)
    if there is not None and there.checkpoint.contradicts(made):
        _fail(
            f"{path} says that the chain had {there.checkpoint.size} capsules and ended in"
            f" {there.checkpoint.head}, and now it has {made.size} and ends in {made.head}: it was cut"
            " short or written anew; keep both as evidence"
        )
    if path is not None:
        note = _keep(path, made, note, there)
    _tell(path, parse(note), bytes(key.verify_key).hex(), note, as_json=as_json)


def _longest(directory: Path, made: Checkpoint, sizes: Sequence[int]) -> SignedCheckpoint | None:
    """Return that of the longest chain among those of the same chain that is not shorter than it is now."""
    for size in sorted((size for size in sizes if size >= made.size), reverse=True):
        found = _read(path_in(directory, size))
        if found is not None and found.checkpoint.origin == made.origin:
            return found
    return _read(path_in(directory, made.size))


def _key() -> SigningKey:
    try:
        path = default_path(default_key_path)
    except ConfigurationError as error:
        raise EvidenceError(str(error)) from error
    try:
        return read_key(path)
    except FileNotFoundError:
        raise EvidenceError(
            f"there is no signing key at {path}: set QUANTUMPIPES_DATA_DIR to what it is for the"
            " program that seals the chain"
        ) from None
    except ConfigurationError as error:
        raise EvidenceError(f"the signing key cannot be used: {error}") from error
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror or error}") from error


def _head(db: str | None, tenant: str | None) -> Head:
    try:
        if is_postgresql(db):
            name, head = postgresql_identity(str(db)), read_head(str(db), tenant)
        else:
            path = sqlite_path(db)
            name = str(path)
            if tenant is not None:
                raise EvidenceError(f"{name} holds one chain, of all tenants: leave out the tenant")
            if not path.is_file():
                raise ChainMissing(path, "name the database with --db")
            head = read_head(path)
    except (ChainUnavailable, ConfigurationError) as error:
        raise EvidenceError(str(error)) from error
    if head is None:
        nothing = f"{name} holds no capsules: there is nothing to sign yet"
        raise EvidenceError(elsewhere(name, db, tenant) or nothing)
    return head


def _refuse_forged(head: Head) -> None:
    """Vouch for no capsule that does not hold by itself."""
    keys = [key.for_checking() for key in keys_here()]
    faults = check_record(entry_of(head.capsule), keys).faults
    if faults:
        reason, detail = faults[0]
        _fail(
            f"the last capsule does not verify, and nothing was signed: {Finding(reason).sentence}"
            f" [{reason}: {detail or head.capsule.id}]"
        )


def _read(path: Path) -> SignedCheckpoint | None:
    """Return the checkpoint that is in the file already."""
    try:
        if path.is_file() and path.stat().st_size:
            return read(path)
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror or error}") from error
    except EvidenceError as error:
        raise EvidenceError(
            f"{path} holds something else and is not overwritten: name another file ({error})"
        ) from error
    return None


def _keep(path: Path, made: Checkpoint, note: str, there: SignedCheckpoint | None) -> str:
    """Write the note, and return what is in the file then: an earlier one that says the same stays."""
    try:
        if path.exists() and not path.is_file():  # a pipe, a device
            path.write_text(note, "utf-8")
            return note
        put(path, made, note, there)
        return path.read_text("utf-8")
    except OSError as error:
        raise EvidenceError(f"{path} cannot be written: {error.strerror or error}") from error


def _tell(
    path: Path | None, signed: SignedCheckpoint, key: str, note: str, *, as_json: bool
) -> None:
    made = signed.checkpoint
    if as_json:
        print_json(
            {
                "origin": made.origin,
                "size": made.size,
                "head": made.head,
                "time": made.time.isoformat(),
                "key": key,
                "file": path,
                "note": note,
            }
        )
    elif path is None:
        click.echo(note.encode(), nl=False)  # a note is UTF-8, whatever the terminal is
    else:
        click.echo(f"{counted(made.size, 'capsule')}, the last {made.head} -> {path}")


def _fail(message: str) -> NoReturn:
    complain(message)
    click.get_current_context().exit(1)
