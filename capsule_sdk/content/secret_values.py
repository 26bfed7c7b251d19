"""Which values may be secrets, by how they are written: `hunter2`, and not `required`, `$PASSWORD` or `str`.

Leaf: standard library only. Where a name and a sign such as ``=`` stand in front, all is a secret that is not
nothing; the less there is in front, the more the value has to say itself.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_nothing", "is_random", "is_telling"]

_LIKELY: Final = 6  # characters of a secret without quotes
_TELLING = re.compile(r"[^A-Za-z._-]|[a-z][A-Z]")  # no word is written like that
_PLACEHOLDER = re.compile(
    r"(?:(?:Basic|Bearer|Token) )?(?:\$\{?[\w.:]*\}?|\$\{\{.*\}\}|\$\([^()]*\)|<[^<>]*>|\{\{?[^{}]*\}\}?"
    r"|%\(\w+\)s|%s|%\w+%|@\w+@|[*.x•]+|your[-_ ].*|\[secret\].*)",
    re.IGNORECASE,
)
#: A letter and a digit or a sign that no word has; no path, address, call, type with its size, range or moment.
_RANDOM = re.compile(
    r"(?![/.~$-])(?!\w*\([^()]*\)$)(?!\w{1,12}://)(?![0-9][0-9.,:/-]*[A-Za-z%]{0,6}$)(?![A-Za-z][\w.-]*\.[a-z]{2,4}$)"
    r"(?=[^A-Za-z]{0,128}[A-Za-z])(?=[^0-9!#$%^&*+=~?@]{0,128}[0-9!#$%^&*+=~?@])"
    r"[^\s()<>{}\[\]|`\"']{6,512}(?<![:,;?])"
)

#: Values that are none: what a program, a type or a setting has in the place of one.
_NOTHING = frozenset(
    {
        "any", "argon2", "argon2id", "auto", "base64", "basic", "bcrypt", "bearer", "bool", "bytes", "default",
        "digest", "disabled", "empty", "enabled", "es256", "false", "hs256", "include", "int", "int32", "int64",
        "nil", "no", "none", "null", "number", "oauth1", "oauth2", "object", "off", "omit", "on", "optional",
        "pbkdf2", "required", "rs256", "same-origin", "scrypt", "secretstr", "sha1", "sha256", "sha512", "str",
        "string", "text", "true", "undefined", "uuid4", "varchar", "yes",
    }
)  # fmt: skip


def is_nothing(said: str) -> bool:
    """Tell what stands in the place of a value, and is none: a type, a variable, a placeholder."""
    return said.strip().lower() in _NOTHING or _PLACEHOLDER.fullmatch(said) is not None


def is_telling(said: str) -> bool:
    """Tell what is no word: it has a digit, a sign or a hump, and is not short."""
    return len(said) >= _LIKELY and _TELLING.search(said) is not None


def is_random(said: str) -> bool:
    """Tell what looks like a password or a key where only a place says that it may be one: a cell, a line."""
    return _RANDOM.fullmatch(said) is not None and not is_nothing(said)
