"""One record, looked at by itself: is it a capsule, is it what was sealed, who sealed it.

Pure: an entry and public keys in, facts and faults out; it runs in as many processes as there are cores.
The document that is stored is hashed, never a model of it that was written out anew (CPS 3.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeGuard

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from capsule_sdk.index_keys import domain_key, session_key, tenant_key
from capsule_sdk.vocabulary import RECORDS_LOST

from ..formats.entries import SEAL_FIELDS, UUID, Columns, Entry, moment, section
from ..selection import Selection
from .document import Repeated, content_hash, decode, decode_repeated
from .findings import Reason
from .shape import is_hash, misfit

__all__ = ["Facts", "PublicKey", "check_record"]

#: A fault: its code, and what exactly was found.
Fault = tuple[Reason, str]

#: In ``outcome.metrics.ended`` of a record that is there, and how it ended is not.
_LOST: Final = "lost"
_SIGNATURE_BYTES: Final = 64  # RFC 8032
_MOST: Final = 2**63  # what a database can count to
#: Characters of a detail: what is wrong with many large records shall not fill the memory.
_LONGEST_DETAIL: Final = 500


class PublicKey(NamedTuple):
    """An Ed25519 public key that is trusted.

    Attributes:
        raw: its 32 bytes.
        names: what records call it.
        unnamed: whether records that name no key that is known may be of it. One that is no longer in use
            has been named by whatever it sealed.

    """

    raw: bytes
    names: tuple[str, ...]
    unnamed: bool = True


class _Seal(NamedTuple):
    """What CPS puts beside the content; anything may stand in it."""

    hash: Any
    signature: Any
    signature_pq: Any
    signed_at: Any
    signed_by: Any

    @property
    def claimed(self) -> str:
        """The hash that it carries; empty where it carries none."""
        return self.hash if isinstance(self.hash, str) else ""


class Commitment(NamedTuple):
    """What a task says of its direct children (``outcome.metrics.children``)."""

    started: int
    ended: int
    digest: str


class Facts(NamedTuple):
    """What one record says, as far as the whole chain is judged by it.

    Attributes:
        sequence: its number; ``None`` where it has none that can be used.
        id: its id, in lower case; ``None`` where it has none.
        previous_hash: the hash that it continues; ``None`` where it says that it continues none.
        hash: the hash that it carries; empty where it carries none.
        parent_id: the task that it belongs to.
        counted: whether that task counts it among its children.
        children: what it says of its own children.
        silent: whether it says nothing of children although it may have some, being no call of a model.
        started_at: when it began, in seconds since 1970, UTC; ``None`` where it does not say.
        signed_at: when it was sealed, likewise; the seal does not cover it.
        signer: which of the keys its signature fits.
        lost: how many records it says could not be recorded.
        approval: whether it says that a human approved it.
        post_quantum: whether something stands in the place of a second signature, which is not looked at.
        of_tenant: whether it says whose it is, where the database finds it by that; ``None`` elsewhere.
        faults: what is wrong with it.

    """

    sequence: int | None = None
    id: str | None = None
    previous_hash: str | None = None
    hash: str = ""
    parent_id: str | None = None
    counted: bool = True
    children: Commitment | None = None
    silent: bool = False
    started_at: float | None = None
    signed_at: float | None = None
    signer: int | None = None
    lost: int = 0
    approval: bool = False
    post_quantum: bool = False
    of_tenant: bool | None = None
    faults: tuple[Fault, ...] = ()


def check_record(
    entry: Entry, keys: Sequence[PublicKey] | None, selection: Selection | None = None
) -> Facts:
    """Return what a record says and what is wrong with it. Never raises, whatever the entry holds.

    One record that nobody has foreseen MUST NOT hide what is wrong with all others.

    Args:
        entry: as it is stored.
        keys: public keys to check its signature with; ``None`` leaves the signature unchecked.
        selection: what it is said to have been selected for.

    """
    try:
        return _checked(entry, keys, selection)
    except Exception as error:  # noqa: BLE001 - see above
        return _unjudged(f"it cannot be judged ({type(error).__name__}: {error})")


def _checked(entry: Entry, keys: Sequence[PublicKey] | None, selection: Selection | None) -> Facts:
    document, fault = _read(entry)
    if document is None:
        return _unjudged(fault)
    faults: list[Fault] = [(Reason.MALFORMED, fault)] if fault else []
    seal = _Seal(*(entry.seal or [document.pop(name, None) for name in SEAL_FIELDS]))
    signed_at = _moment(seal.signed_at)
    if misfits := misfit(document) or _unreadable_seal(seal, signed_at):
        faults.append((Reason.MALFORMED, misfits))
    if entry.columns is not None:
        faults += _astray(document, entry.columns)
    if selection is not None and not selection.matches(document):
        faults.append((Reason.SELECTION_INCOMPLETE, ""))
    faults += _content_faults(document, seal.claimed)
    signer = None
    if keys is not None:
        signer, fault_of_signature = _signer(seal, keys)
        faults += fault_of_signature
    facts = _facts(document, seal, signed_at, signer, faults)
    if entry.columns is None or not entry.columns.of_tenants:
        return facts
    return facts._replace(of_tenant=_tells_its_tenant(document))


def _unjudged(why: str) -> Facts:
    return Facts(faults=((Reason.MALFORMED, why[:_LONGEST_DETAIL]),))


def _read(entry: Entry) -> tuple[dict[str, Any] | None, str]:
    """Return the object that an entry holds, and what is wrong with it as JSON; nothing, if it is empty."""
    if entry.fault is not None:
        return None, entry.fault
    fault = ""
    try:
        try:
            value = decode(entry.text)
        except Repeated as repeated:
            fault = f"the name {str(repeated)[:80]!r} stands twice in one object, of which readers take one"
            value = decode_repeated(entry.text)
    except RecursionError:
        return None, "nested too deeply"
    except ValueError as error:
        return None, f"no JSON: {error}"
    if not isinstance(value, dict):
        return None, f"no JSON object but {type(value).__name__}"
    return value, fault


# -- is it what was sealed ------------------------------------------------------------------------


def _content_faults(document: dict[str, Any], claimed: str) -> list[Fault]:
    try:
        found = content_hash(document, claimed)
    except UnicodeEncodeError:
        return [(Reason.MALFORMED, "it holds half a character, which has no bytes to hash")]
    except (ValueError, RecursionError) as error:  # NaN, which is not JSON; nested too deeply
        return [(Reason.MALFORMED, f"it cannot be hashed: {error}")]
    if found == claimed:
        return []
    return [(Reason.HASH_MISMATCH, f"sealed {claimed or 'nothing'}, found {found}")]


# -- who sealed it --------------------------------------------------------------------------------


def _signer(seal: _Seal, keys: Sequence[PublicKey]) -> tuple[int | None, list[Fault]]:
    """Return which key the signature fits; the record's own word on it is only where to begin."""
    if not seal.signature:
        return None, [(Reason.SIGNATURE_MISSING, "")]
    try:
        signature, message = bytes.fromhex(seal.signature), seal.claimed.encode()
    except (TypeError, ValueError):
        return None, [(Reason.SIGNATURE_INVALID, "it is not hexadecimal")]
    if len(signature) != _SIGNATURE_BYTES:
        return None, [(Reason.SIGNATURE_INVALID, f"it has not {_SIGNATURE_BYTES} bytes")]
    name, signed = seal.signed_by, signature + message
    named = [place for place, key in enumerate(keys) if name in key.names]
    for place in (*named, *range(len(keys))):
        try:
            crypto_sign_open(signed, keys[place].raw)
        except (BadSignatureError, ValueError):
            continue
        if place in named or (not named and keys[place].unnamed):
            return place, []
        return place, [(Reason.SIGNER_MISMATCH, f"it names {_shown(name)}")]
    reason = Reason.SIGNATURE_INVALID if named or not name else Reason.KEY_UNKNOWN
    return None, [(reason, f"it names {_shown(name)}")]


def _unreadable_seal(seal: _Seal, signed_at: float | None) -> str | None:
    for name, value in zip(SEAL_FIELDS, seal, strict=True):
        if value is not None and not (isinstance(value, str) and _is_unicode(value)):
            return f"its {name} is not a text"
    if seal.signed_at and signed_at is None:
        return "its signed_at is not a date and time"
    return None


# -- is it found by what it is ---------------------------------------------------------------------


def _astray(document: dict[str, Any], columns: Columns) -> list[Fault]:
    """Compare what the row is found by with what was sealed."""
    sealed = [document.get(name) for name in ("sequence", "id", "type", "previous_hash")]
    session = section(document, "context").get("session_id")
    if session is None and list(columns) == [
        *sealed,
        None,
        None,
        None,
        False,
    ]:  # all that most rows have
        return []
    return list(_compared(document, columns))


def _compared(document: dict[str, Any], columns: Columns) -> Iterator[Fault]:
    environment = section(section(document, "context"), "environment")
    session = section(document, "context").get("session_id")
    domain, tenant = document.get("domain"), environment.get("tenant_id")
    absent = () if columns.of_tenants else (None,)  # in SQLite two of the columns are missing
    whose: tuple[object, ...] = (*dict.fromkeys((tenant_key(tenant), tenant)), *absent)
    if columns.of_tenants and not _tells_its_tenant(document):
        whose = (
            columns.tenant_id,
        )  # nothing was sealed that it could differ from: said in another place
    pairs = (
        ("sequence", columns.sequence, (document.get("sequence"),)),
        ("id", columns.id, (document.get("id"),)),
        ("type", columns.type, (document.get("type"),)),
        ("previous_hash", columns.previous_hash, (document.get("previous_hash"),)),
        # qp-capsule's own writers put the value there as it is.
        ("session_id", columns.session_id, (session, session_key(session))),
        ("domain", columns.domain, (domain, domain_key(domain), *absent)),
        ("tenant_id", columns.tenant_id, whose),
    )
    for name, found, allowed in pairs:
        if found not in allowed:
            yield (
                Reason.COLUMN_MISMATCH,
                f"{name}: {_shown(found)} is stored, {_shown(allowed[0])} is sealed",
            )


def _tells_its_tenant(document: dict[str, Any]) -> bool:
    """Tell whether a record says whose it is, be it nobody's; those sealed before capsuled had that do not."""
    return "tenant_id" in section(section(document, "context"), "environment")


# -- what it says ---------------------------------------------------------------------------------


def _facts(
    document: dict[str, Any],
    seal: _Seal,
    signed_at: float | None,
    signer: int | None,
    faults: list[Fault],
) -> Facts:
    sequence, previous = document.get("sequence"), document.get("previous_hash")
    context, trigger = section(document, "context"), section(document, "trigger")
    metrics = section(section(document, "outcome"), "metrics")
    lost = metrics.get(RECORDS_LOST) if document.get("type") == "system" else None
    children = _commitment(metrics.get("children"))
    if children is None and _is_commitment(metrics.get("children")):
        faults.append((Reason.CHILDREN_MISMATCH, "what it says of them contradicts itself"))
    if metrics.get("ended") == _LOST:
        faults.append((Reason.END_LOST, ""))
    return Facts(
        sequence=sequence if _is_count(sequence) else None,
        id=_id(document.get("id")),
        previous_hash=previous if previous is None or isinstance(previous, str) else "?",
        hash=seal.claimed,
        parent_id=_id(document.get("parent_id")),
        counted=section(context, "environment").get("counted_by_parent") is not False,
        children=children,
        silent="children" not in metrics and trigger.get("source") != "litellm",
        started_at=_moment(trigger.get("timestamp")),
        signed_at=signed_at,
        signer=signer,
        lost=lost if _is_count(lost) else 0,
        approval=section(document, "authority").get("type") == "human_approved",
        post_quantum=bool(seal.signature_pq),
        faults=tuple((reason, detail[:_LONGEST_DETAIL]) for reason, detail in faults),
    )


def _commitment(value: object) -> Commitment | None:
    """Read what our own tasks say; other programs may mean something else by ``children``."""
    if not _is_commitment(value):
        return None
    found = Commitment(**value)
    counts = _is_count(found.started) and _is_count(found.ended) and found.ended <= found.started
    return found if counts and is_hash(found.digest) else None


def _is_commitment(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and value.keys() == {"started", "ended", "digest"}


def _id(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    key = value.lower()
    return key if UUID.fullmatch(key) else None


def _is_unicode(text: str) -> bool:
    """Tell whether a text has bytes: half a character, or a byte that was no UTF-8, has none."""
    return text.isascii() or text == text.encode(errors="replace").decode()


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _MOST


def _moment(value: object) -> float | None:
    """Return seconds since 1970; a time without a zone is meant as UTC."""
    try:
        return moment(value).timestamp()
    except (OverflowError, TypeError, ValueError):
        return None


def _shown(value: object) -> str:
    is_short = value is None or isinstance(value, str | int | float)
    return repr(value)[:80] if is_short else f"a {type(value).__name__}"
