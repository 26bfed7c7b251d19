"""What can be set: names, defaults, environment variables, checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal

from .content import ContentPolicy, Limits
from .content.secret_shapes import without_secrets
from .errors import ConfigurationError
from .logs import tell_once
from .outward import without_password

__all__ = ["PREFIX", "Settings", "is_disabled", "refuse_unknown", "say_once"]

PREFIX = "CAPSULE_SDK_"
_DISABLED = f"{PREFIX}DISABLED"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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

    def __repr__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        given["url"] = without_password(self.url)
        told = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return without_secrets(f"Settings({told})")

    @classmethod
    def from_environment(
        cls, overrides: Mapping[str, Any], environ: Mapping[str, str] | None = None
    ) -> Settings:
        """Read ``CAPSULE_SDK_*``; what ``overrides`` holds (and is not ``None``) wins.

        A variable that cannot be used is said once in a process, and what stands in for it is the default or
        what seals less; in strict mode it raises.

        Raises:
            ConfigurationError: an override that does not exist, or a value it cannot take; in strict mode a
                variable likewise.

        """
        environ = os.environ if environ is None else environ
        known = {field.name: field.default for field in fields(cls)}
        refuse_unknown("configure", [name for name in overrides if name not in known], known)
        given = {name: value for name, value in overrides.items() if value is not None}
        values, problems = _from_variables(environ, known, given)
        made = replace(cls(), **(values | given))
        if problems and not made.swallow_errors:
            raise ConfigurationError("; ".join(problems))
        for problem in problems:
            say_once(problem)
        return made

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


def _from_variables(
    environ: Mapping[str, str], known: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return what the variables set, and what is wrong with them; of what is ``given`` nobody asks them."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    # Settings that seal as little as they can, until somebody says clearly how much.
    least: set[str] = set()
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or not text:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name == "disabled":
            if _boolean(text) is None:
                problems.append(
                    f"{variable}={text!r} cannot be used; give 1 or 0; until then it records"
                )
        elif name not in known or name == "redact":
            problem, meant = _unknown(variable, name, known)
            problems.append(problem)
            if meant in _SEALING and given.get(meant) is None:
                least.add("messages" if meant == "messages" else "content")
        elif name not in given:
            try:
                values[name] = _parsed(name, text, known[name])
            except ConfigurationError as error:
                instead = _LEAST.get(name, known[name])
                values[name] = instead
                problems.append(f"{error}; until then it is {instead!r}")
    for name in sorted(least - set(given) - set(values)):
        values[name] = _LEAST[name]
        problems.append(f"until that is clear, {name} is {_LEAST[name]!r}")
    return values, problems


#: What decides how much of a text is sealed: a variable that seems to mean one of these seals less, never more.
_SEALING = frozenset({"content", "messages", "redact"})
_LEAST: dict[str, Any] = {"content": "omit", "messages": "hash"}


def _unknown(variable: str, name: str, known: Mapping[str, Any]) -> tuple[str, str | None]:
    if name == "redact":
        return f"{variable} sets nothing: give the function to configure(redact=...)", name
    close = get_close_matches(name, [*known, "disabled"], 1)
    if not close:
        return f"{variable} sets nothing: there is no such setting", None
    meant = close[0]
    hint = "configure(redact=...)" if meant == "redact" else PREFIX + meant.upper()
    return f"{variable} sets nothing; did you mean {hint}?", meant


def refuse_unknown(where: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    """Refuse keywords that do not exist, and say which was meant.

    Raises:
        ConfigurationError: there is one.

    """
    names = list(known)
    for name in unknown:
        close = get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]}=?" if close else f"it takes {', '.join(names)}"
        raise ConfigurationError(f"{where} has no setting {name}=; {hint}")


def say_once(problem: str) -> None:
    """Log what is wrong with the settings, once in a process however many recorders are made."""
    tell_once("error", "a setting cannot be used", problem=problem)


def _parsed(name: str, text: str, default: object) -> object:
    value: object = text
    if isinstance(default, bool):
        value = _boolean(text)
    elif isinstance(default, int | float):
        with suppress(ValueError):
            value = type(default)(text)
    if not _accepts(name, value):
        accepted = "1 or 0" if isinstance(default, bool) else _ACCEPTED[name]
        raise ConfigurationError(f"{PREFIX}{name.upper()}={text!r} cannot be used; give {accepted}")
    return value


def _boolean(text: str) -> bool | None:
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def is_disabled() -> bool:
    """Tell whether ``CAPSULE_SDK_DISABLED`` turns the whole SDK into a pass-through.

    A value that is neither yes nor no does not; the first recorder that is made says so.
    """
    said = os.environ.get(_DISABLED)
    return said is not None and _boolean(said) is True
