"""What can be set: names, defaults, environment variables, checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal

from .content import ContentPolicy, Limits
from .errors import ConfigurationError

__all__ = ["PREFIX", "Settings", "is_disabled"]

PREFIX = "CAPSULE_SDK_"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one recorder. Each has a variable ``CAPSULE_SDK_<NAME>``, except ``redact``.

    Attributes:
        url: the store: a path, ``sqlite:///…`` or ``postgresql://…``; ``None`` is qp-capsule's default
            database.
        agent_id: agent of records made outside every scope that names one.
        domain: likewise for the domain.
        content: ``"full"`` seals texts, ``"digest"`` their SHA3-256, ``"omit"`` neither text nor digest.
        messages: ``"hash"`` seals the messages of LLM calls as hashes, but for the user's last one; ``"full"``
            as they are, as far as ``content`` lets them be.
        redact: called with every text of the content before it is sealed; returns what may be sealed.
        max_text: bytes (UTF-8) of one text that are sealed; the rest is proven by its digest.
        swallow_errors: ``False`` makes the end of the outermost task wait for the commit and raise
            `RecordingError` when it fails.
        settle_timeout: seconds that an ended task waits for calls still open under it.
        exit_timeout: seconds that the end of the process waits for the chain.
        journal: directory of the journals; ``None`` is ``journal`` beside a SQLite file, and in qp-capsule's
            data directory for every other store.
        checkpoint: directory that signed checkpoints of the chain are written to, best on another machine's
            disk; ``None``: none are written.
        checkpoint_capsules: capsules after which the next one is written.
        checkpoint_seconds: longest time in seconds before a capsule is covered by one.

    """

    url: str | None = None
    agent_id: str | None = None
    domain: str | None = None
    content: Literal["full", "digest", "omit"] = "full"
    messages: Literal["hash", "full"] = "hash"
    redact: Callable[[str], str] | None = None
    max_text: int = 16_384
    swallow_errors: bool = True
    settle_timeout: float = 5.0
    exit_timeout: float = 10.0
    journal: str | None = None
    checkpoint: str | None = None
    checkpoint_capsules: int = 1000
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in _ACCEPTED:
            _check(f"{name}=", name, getattr(self, name))

    @classmethod
    def from_environment(
        cls, overrides: Mapping[str, Any], environ: Mapping[str, str] | None = None
    ) -> Settings:
        """Read ``CAPSULE_SDK_*``; what ``overrides`` holds (and is not ``None``) wins.

        Raises:
            ConfigurationError: a setting that does not exist, or a value it cannot take.

        """
        environ = os.environ if environ is None else environ
        known = {field.name: field.default for field in fields(cls)}
        for name in overrides:
            if name not in known:
                close = get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]}=?" if close else f"it takes {', '.join(known)}"
                raise ConfigurationError(f"there is no setting {name}=; {hint}")
        values: dict[str, Any] = {
            name: _parsed(name, text, default)
            for name, default in known.items()
            if name != "redact" and (text := environ.get(PREFIX + name.upper()))
        }
        values |= {name: value for name, value in overrides.items() if value is not None}
        return replace(cls(), **values)

    def policy(self) -> ContentPolicy:
        """Return what these settings let through into a capsule."""
        return ContentPolicy(
            mode=self.content, redact=self.redact, limits=Limits(text=self.max_text)
        )


_WORDS = {"content": ("full", "digest", "omit"), "messages": ("hash", "full")}

#: What each setting accepts, as a message says it.
_ACCEPTED = {
    "url": "a path, 'sqlite:///…' or 'postgresql://…'",
    "agent_id": "a text",
    "domain": "a text",
    "content": "'full', 'digest' or 'omit'",
    "messages": "'hash' or 'full'",
    "redact": "a function from text to text",
    "max_text": "a whole number of bytes, at least 1",
    "swallow_errors": "True or False",
    "settle_timeout": "a number of seconds, at least 0",
    "exit_timeout": "a number of seconds, at least 0",
    "journal": "a directory",
    "checkpoint": "a directory",
    "checkpoint_capsules": "a whole number of capsules, at least 1",
    "checkpoint_seconds": "a number of seconds, at least 0",
}


def _check(shown: str, name: str, value: object) -> None:
    if not _accepts(name, value):
        raise ConfigurationError(f"{shown}{value!r} cannot be used; give {_ACCEPTED[name]}")


def _accepts(name: str, value: object) -> bool:
    match name:
        case "content" | "messages":
            return value in _WORDS[name]
        case "redact":
            return value is None or callable(value)
        case "max_text" | "checkpoint_capsules":
            return type(value) is int and value >= 1
        case "swallow_errors":
            return isinstance(value, bool)
        case "settle_timeout" | "exit_timeout" | "checkpoint_seconds":
            return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        case _:
            return value is None or isinstance(value, str)


def _parsed(name: str, text: str, default: object) -> object:
    variable = PREFIX + name.upper()
    value: object = text
    if isinstance(default, bool):
        return _boolean(variable, text)
    if isinstance(default, int | float):
        with suppress(ValueError):
            value = type(default)(text)
    _check(f"{variable}=", name, value)
    return value


def _boolean(variable: str, text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ConfigurationError(f"{variable}={text!r} cannot be used; give 1 or 0")


def is_disabled() -> bool:
    """Tell whether ``CAPSULE_SDK_DISABLED`` turns the whole SDK into a pass-through.

    Raises:
        ConfigurationError: it says neither yes nor no.

    """
    return _boolean(PREFIX + "DISABLED", os.environ.get(PREFIX + "DISABLED", ""))
