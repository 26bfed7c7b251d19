"""Any Python value as JSON that every language hashes alike.

Invariants, for every value a user's code can hand over:

- no code of the value's own types runs: never an exception, a query, a consumed iterator, a changed value;
- bounded: depth, entries and bytes of text, in time linear in what is read;
- what is left out says so, by a marker where it stood;
- a value under the name of a secret is in no mode part of the result, nor is a secret inside a text that
  its shape, or the name in front of it, gives away.

Not handled here: how a value of each kind is taken apart (`capsule_sdk.content.readers`), and which field of
a capsule it belongs in (`capsule_sdk.records.capsules`). It runs on the caller's thread, hence the short
ways for plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, get_args

from . import readers
from .canonical_json import (
    JSON,
    SAFE_INTEGER,
    canonical,
    fit,
    real,
    weigh,
)
from .faults import Told
from .inert import type_name
from .readers import Marker
from .secret_entries import EXAMPLES, is_empty, is_pair, is_schema, options_in, values_in
from .secret_names import names_secret
from .secret_shapes import SECRET, without_secrets

__all__ = ["SECRET", "ContentPolicy", "Limits", "Mode", "label", "safe"]

Mode = Literal["full", "digest", "omit"]

_OMITTED: Final = "[omitted]"
_CYCLE: Final = "[cycle]"
_MORE: Final = "…"  # the key under which a cut object says that it is cut
_DEEPEST: Final = 100  # an Enum whose value is itself ends here, long before Python's own limit
_SHORT: Final = 64  # characters of a key or a label below which what it becomes is kept
_FEW: Final = 32  # entries of an object that may be read the short way
_GUESSABLE: Final = 1024  # bytes that `redact` might change whatever they are: no digest is sealed
_BEYOND: Final = 8_192  # characters behind the last one kept that a secret may end in
_LONG: Final = 1024  # characters from which a text counts as more than one entry


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of one value is kept; each at least 1.

    Args:
        text: bytes (UTF-8) kept of one text, 16 KiB by default.
        depth: levels of lists and objects.
        items: entries kept of one list or object.
        total: what a whole value may cost, so that breadth times depth stays bounded: an entry
            costs 1, and every full KiB kept of a text another 1.

    """

    text: int = 16_384
    depth: int = 16
    items: int = 1_000
    total: int = 20_000

    def __post_init__(self) -> None:
        if min(self.text, self.depth, self.items, self.total) < 1:
            raise ValueError(f"every limit must be at least 1: {self}")


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """What of the user's content may be sealed, and how much of it.

    Args:
        mode: `"full"` keeps texts; `"digest"` seals `sha3-256:<hex> (<n> bytes)` in their place,
            over the UTF-8 of the whole; `"omit"` seals `[omitted]`. Numbers, booleans, null,
            keys, names of types and lengths of bytes stay in every mode.
        redact: called with each whole content text before it is cut or digested (never with
            keys). If it raises, or returns no string, `[redaction failed: <type>]` is sealed.
        limits: how much is kept.
        find_secrets: whether secrets inside texts are taken out as well. A hash is over texts as they are.

    >>> ContentPolicy("omit").value({"to": "ana@example.com", "amount": 12.5, "api_key": "sk-1"})
    {'to': '[omitted]', 'amount': 12.5, 'api_key': '[secret]'}

    """

    mode: Mode = "full"
    redact: Callable[[str], str] | None = None
    limits: Limits = Limits()
    find_secrets: bool = True

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):  # a misspelt "omit" must not seal texts
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {self.mode!r}")

    def text(self, value: str) -> str:
        """Return a text that holds content (a prompt, a response) as this policy seals it."""
        if type(value) is str:
            return self._sealed(value, self.limits.text)
        result = self.value(value)  # a subclass of str, or no text at all
        return result if isinstance(result, str) else canonical(result)

    def value(self, value: Any) -> JSON:
        """Return any Python value as JSON; each text under it is content, as in `text`.

        Lists and objects that are cut keep their first entries and a marker that states how many
        there were; it has no digest, which would mean reading all that was to be left unread.
        Sets are sorted by their canonical JSON (a cut one: what it yielded first). Dataclasses,
        pydantic, attrs and msgspec models and named tuples are read by the fields that they hold.
        Other objects are sealed as their type, `<module.Class object>`: whatever more they could
        say, their own code would have to say it.
        """
        kind = type(value)
        if kind is str:
            return self._sealed(value, self.limits.text)
        if (
            value is None
            or kind is bool
            or (kind is int and -SAFE_INTEGER <= value <= SAFE_INTEGER)
        ):
            plain: JSON = value
            return plain
        if (
            kind is dict
            and len(value) <= _FEW
            and self.mode == "full"
            and self.redact is None
            and self.find_secrets
        ):
            flat = self._flat(value)
            if flat is not None:
                return flat
        return _Walk(self).node(value, 0)

    def _flat(self, value: dict[Any, Any]) -> JSON:
        """Return a small object of plain values as walking through it does; ``None`` for every other one."""
        limits, result = self.limits, dict[str, JSON]()
        longest = min(limits.text, _LONG - 1)
        room = min(limits.items, limits.total)
        try:
            for name, entry in value.items():
                if type(name) is not str or len(name) >= _SHORT:
                    return None
                key, secret = _short_key(name)
                kind = type(entry)
                if kind is str and len(entry) <= longest and entry.isascii():
                    result[key] = without_secrets(entry)
                elif kind is float:
                    result[key] = real(entry)
                elif (
                    entry is None
                    or kind is bool
                    or (kind is int and -SAFE_INTEGER <= entry <= SAFE_INTEGER)
                ):
                    result[key] = entry
                else:
                    return None
                if secret or key in ("value", "Value"):  # which a name beside it may make a secret
                    return None
        except RuntimeError:  # another thread has changed it
            return None
        return result if len(result) == len(value) <= room else None

    def redacted(self, value: str) -> str:
        """Return what `redact` leaves of a text, in any mode; a `Marker` where it fails."""
        if self.redact is None:
            return value
        try:
            return str.__str__(self.redact(value))  # TypeError for what is no string
        except Exception as error:  # noqa: BLE001  the user's function may raise anything
            return Marker(f"[redaction failed: {type_name(type(error))}]")

    def _sealed(self, value: str, limit: int) -> str:
        if self.mode == "omit":
            return _OMITTED
        if self.redact is not None and type(value := self.redacted(value)) is Marker:
            return str(value)
        if self.mode == "digest":
            size, sha3 = weigh(value)
            return f"sha3-256:{sha3} ({size} bytes)"
        return _clean(value, limit) if self.find_secrets else fit(value, limit)


_FULL = ContentPolicy()


def safe(value: Any, limits: Limits = _FULL.limits) -> JSON:
    """Return any Python value as JSON, texts and all: `ContentPolicy(limits=limits).value(value)`.

    >>> safe({"n": 2**60, "x": 2.5e-05, "when": {3.0, 1}})
    {'n': '1152921504606846976', 'x': '0.000025', 'when': [1, 3]}
    """
    policy = _FULL if limits is _FULL.limits else ContentPolicy(limits=limits)
    return _Walk(policy).node(value, 0)


def label(value: Any, limit: int = 512) -> str:
    """Return a text that is no content (a name, an id, a model): never redacted or omitted.

    Args:
        value: a text; None becomes `""`, bytes are read as UTF-8, anything else becomes its
            canonical JSON (`5`, `true`, `[1,2]`).
        limit: bytes kept; a longer one ends in the cut marker.

    """
    if type(value) is str:
        return _short_label(value, limit) if len(value) < _SHORT else _clean(value, limit)
    if value is None:
        return ""
    if type(value) is bytes:
        return _clean(value.decode("utf-8", "replace"), limit)
    result = safe(value, Limits(text=limit, depth=4, items=50, total=200))
    return fit(result if isinstance(result, str) else canonical(result), limit)


def _clean(text: str, limit: int) -> str:
    """Return a text without the secrets in it, cut after that: what is cut in two is known no more."""
    head = text if len(text) <= limit + _BEYOND else text[: limit + _BEYOND]
    clean = without_secrets(head)
    if clean == head:
        return fit(text, limit)
    return fit(clean, limit, None if head is text and len(clean) <= limit else text)


_short_label = lru_cache(maxsize=4096)(_clean)  # models, providers, reasons: the same come again


class _Walk:
    """One pass over one value: what it may still cost, and which containers it stands in."""

    __slots__ = ("known", "left", "limits", "open", "plain", "policy")

    def __init__(self, policy: ContentPolicy) -> None:
        self.policy = policy
        self.limits = policy.limits
        self.left = policy.limits.total
        # ASCII texts of up to this length pass as they are; where none may, -1.
        free = policy.mode == "full" and policy.redact is None and policy.find_secrets
        self.plain = min(policy.limits.text, _LONG - 1) if free else -1
        self.open: set[int] = set()
        self.known: dict[int, tuple[Any, Any]] = {}

    def node(self, value: Any, depth: int) -> JSON:
        kind: type = type(value)
        if kind is str:
            return self.text(value)
        if (
            value is None
            or kind is bool
            or (kind is int and -SAFE_INTEGER <= value <= SAFE_INTEGER)
        ):
            plain: JSON = value
            return plain
        try:
            return self.read(value, kind, depth)
        except Exception:  # noqa: BLE001  a buffer may be released, a list changed by another thread
            return f"<{type_name(kind)}: unrepresentable>"

    def read(self, value: Any, kind: type, depth: int) -> JSON:
        known = readers.known.get(id(kind))  # here, and not in a call: it is done for each entry
        shape, read = readers.reader(kind) if known is None else known[1]
        if shape in readers.CONTAINERS:
            return self.container(shape, read, value, depth)
        if shape is readers.INSTEAD:
            return self.node(read(value), depth + 1) if depth < _DEEPEST else _CYCLE
        if shape is readers.ERROR:
            return self.error(read(value), type_name(kind), depth)
        if shape is readers.BYTES:
            size, sha3 = self.once(value, read)
            redact = self.policy.redact and (size <= _GUESSABLE or readers.may_be_text(value))
            omit = self.policy.mode == "omit" or redact
            return {"bytes": size} if omit else {"bytes": size, "sha3_256": sha3}
        plain: JSON = read(value)
        return plain

    def error(self, told: Told, name: str, depth: int) -> str:
        said, details = told
        parts = [self.words(said, depth)]
        for key, value in details:
            text = SECRET if names_secret(key) else fit(self.words(value, depth), _LONG)
            parts.append(f"{key}: {text}")
        message = ", ".join(part for part in parts if part)
        return f"{name}: {message}" if message else name

    def words(self, value: Any, depth: int) -> str:
        if type(value) is str:
            return self.text(value) if value else ""
        sealed = self.node(value, depth + 1) if depth < _DEEPEST else _CYCLE
        return sealed if isinstance(sealed, str) else canonical(sealed)

    def container(self, shape: str, read: Callable[..., Any], value: Any, depth: int) -> JSON:
        if depth >= self.limits.depth:
            return f"[cut: {type_name(type(value))} below depth {self.limits.depth}]"
        if id(value) in self.open:
            return _CYCLE
        room = self.limits.items
        if self.left < room:
            room = max(self.left, 0)
        entries, total = read(value, room)
        self.left -= len(entries)
        self.open.add(id(value))
        try:
            if shape is readers.OBJECT:
                return self.object(entries, total, depth + 1)
            if is_pair(type(value), entries):
                entries[1] = Marker(SECRET)  # a header: ("Authorization", "Bearer …")
            return self.array(entries, total, depth + 1, ordered=shape is readers.ARRAY)
        finally:
            self.open.discard(id(value))

    def object(self, entries: list[Any], total: int, depth: int) -> JSON:
        result: dict[str, JSON] = {}
        plain = self.plain
        for name, value in entries:
            key, secret = (
                _short_key(name) if type(name) is str and len(name) < _SHORT else _key(name)
            )
            if key in result:
                key = _distinct(key, result)
            if secret and not is_empty(value):
                result[key] = self.schema(value, depth) if is_schema(value) else SECRET
            elif type(value) is str and len(value) <= plain and value.isascii():
                result[key] = without_secrets(value)
            else:
                result[key] = self.node(value, depth)
        if "value" in result or "Value" in result:
            result.update(dict.fromkeys(values_in(entries), SECRET))
        if total > len(entries):
            result[_distinct(_MORE, result)] = _cut(entries, total)
        return result

    def schema(self, value: dict[str, Any], depth: int) -> JSON:
        """Return what a JSON schema says of the property that is called like a secret, but for examples."""
        shown = {name: entry for name, entry in value.items() if name not in EXAMPLES}
        told = self.node(shown, depth)
        if isinstance(told, dict):
            told.update(dict.fromkeys(EXAMPLES & value.keys(), SECRET))
        return told

    def array(self, entries: list[Any], total: int, depth: int, *, ordered: bool) -> JSON:
        result = [self.node(entry, depth) for entry in entries]
        for place, start in options_in(entries):
            result[place] = entries[place][:start] + SECRET if start else SECRET
        if not ordered:
            result.sort(key=canonical)
        if total > len(entries):
            result.append(_cut(entries, total))
        return result

    def text(self, value: str) -> str:
        if len(value) <= self.plain and value.isascii():
            return without_secrets(value)
        if len(value) < _LONG:
            return self.policy.text(value)
        sealed: str = self.once(value, self.long_text)
        self.left -= min(len(value), self.limits.text) // _LONG
        return sealed

    def long_text(self, value: str) -> str:
        # When the whole has cost enough, a long text keeps no head, only its digest.
        return self.policy._sealed(value, self.limits.text if self.left > 0 else 0)

    def once(self, value: Any, read: Callable[[Any], Any]) -> Any:
        """Read what may be huge a single time, though it may hang in a thousand places."""
        known = self.known.get(id(value))
        if known is None:
            known = self.known[id(value)] = (value, read(value))  # held, or its id might move on
        return known[1]


def _cut(kept: list[Any], total: int) -> str:
    return f"[cut: {len(kept)} of {total} entries kept]"


def _key(name: Any) -> tuple[str, bool]:
    """Return a key of any type as a string of BMP characters, and whether it names a secret."""
    text = "null" if name is None else label(name)
    if not text.isascii() and max(text) > "\uffff":
        # JavaScript sorts keys by UTF-16 units, Python by code points: they differ above the BMP.
        text = "".join(c if c <= "\uffff" else f"\\u{{{ord(c):x}}}" for c in text)
    return text, names_secret(name if type(name) is str else text)


_short_key = lru_cache(maxsize=4096)(_key)  # of short keys only, so that the cache stays small


def _distinct(key: str, taken: Mapping[str, Any]) -> str:
    """Return `key`, or `key #2` and so on where two keys became alike: no entry is lost."""
    number, free = len(taken) + 1, key
    while free in taken:
        free, number = f"{key} #{number}", number + 1
    return free
