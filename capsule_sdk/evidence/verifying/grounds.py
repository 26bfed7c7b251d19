"""Grounds: what one chain is judged by, kept and embedded apart. Pure.

Here alone it is decided which keys and checkpoints count (docs/decisions/0022-who-is-believed.md):

- Keys that whoever judges brought are the only ones. Those in the file are used where there are no others, and
  then nothing is called whole.
- Checkpoints in the file are held against its records, which they may contradict. They are no evidence of how
  long the chain was, and have no part in the judgement on those that were kept.
- What cannot be read in the file is a finding, not the end of looking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from capsule_sdk.chain.checkpoint import parse
from capsule_sdk.errors import EvidenceError

from .brought import IN_THE_FILE, Brought
from .checkpoints import KnownCheckpoint
from .keys import TrustedKey, embedded_key

__all__ = ["Grounds", "grounds_of"]

_MOST: Final = 1_000  # keys or checkpoints that a manifest may name


@dataclass(frozen=True, slots=True)
class Grounds:
    """What one chain is judged by.

    Attributes:
        keys: those that signatures of records are checked with; ``None`` leaves them unchecked.
        kept_keys: those of them that whoever judges brought, with which alone a kept checkpoint is checked.
        kept: checkpoints that whoever judges brought.
        embedded: checkpoints that lie in the file.
        faults: what in the file cannot be read as a checkpoint, in words.

    """

    keys: tuple[TrustedKey, ...] | None
    kept_keys: tuple[TrustedKey, ...]
    kept: tuple[KnownCheckpoint, ...]
    embedded: tuple[KnownCheckpoint, ...]
    faults: tuple[str, ...]


def grounds_of(
    keys: Sequence[TrustedKey] | None,
    checkpoints: Sequence[KnownCheckpoint],
    manifest: Mapping[str, Any] | None,
) -> Grounds:
    """Return what a chain is judged by. Never raises, whatever the manifest holds.

    Args:
        keys: that whoever judges brought; ``None`` leaves signatures unchecked. One that says that it was
            embedded counts as one of the file's.
        checkpoints: likewise.
        manifest: what the file says of itself; ``None`` where it says nothing.

    """
    kept_keys = tuple(key for key in keys or () if key.brought is Brought.KEPT)
    used: tuple[TrustedKey, ...] | None = None
    if keys is not None:
        own = dict.fromkeys([*keys, *_keys_in(manifest or {})])
        used = kept_keys or tuple(own)
    own_checkpoints, faults = _checkpoints_in(manifest or {})
    return Grounds(
        keys=used,
        kept_keys=kept_keys,
        kept=tuple(one for one in checkpoints if one.brought is Brought.KEPT),
        embedded=(
            *(one for one in checkpoints if one.brought is Brought.EMBEDDED),
            *own_checkpoints,
        ),
        faults=tuple(faults),
    )


def _keys_in(manifest: Mapping[str, Any]) -> Iterator[TrustedKey]:
    """Yield the keys in a file; what is none is passed over, since nothing can be sealed with it.

    None of more than anybody has: to try them all on each record would take for ever.
    """
    named = _list(manifest, "keys")
    for one in named if len(named) <= _MOST else ():
        text = one.get("public_key") if isinstance(one, Mapping) else None
        if isinstance(text, str):
            try:
                yield embedded_key(text)
            except EvidenceError:
                continue


def _checkpoints_in(manifest: Mapping[str, Any]) -> tuple[list[KnownCheckpoint], list[str]]:
    """Return the checkpoints in a file, and what of it cannot be read as one."""
    texts = [text for text in _list(manifest, "checkpoints") if isinstance(text, str)]
    found, faults = [], []
    for number, text in enumerate(texts[:_MOST], 1):
        place = f"{IN_THE_FILE}, number {number}"
        try:
            note = parse(text)
        except EvidenceError as error:
            faults.append(f"{place}: {error}")
        else:
            found.append(KnownCheckpoint(note, place, text, Brought.EMBEDDED))
    if len(texts) > _MOST:
        faults.append(f"{IN_THE_FILE} are {len(texts):,}: those beyond {_MOST:,} were not read")
    return found, faults


def _list(manifest: Mapping[str, Any], name: str) -> list[Any]:
    value = manifest.get(name)
    return value if isinstance(value, list) else []
