"""Secrets inside texts, found by their shape or by the name in front: in settings, JSON, URLs, headers.

A text passes through here on the caller's thread, and hardly any holds a secret. So three searches in C say
first that it cannot: it has no run of twenty letters and digits, as every key of a provider has; no word such
as ``password`` in front of a ``:`` or ``=``; no ``://`` before an ``@``. Only where one of them finds something
are the patterns tried, each of which takes linear time.

The kinds of secrets are those of detect-secrets and gitleaks. Their engines take too long for a caller who
waits (decision 21). What damages an ordinary text is as much of a fault as a secret that stays.
"""

from __future__ import annotations

import re
from typing import Final

from .secret_keys import SECRET, without_hooks, without_keys, without_private_keys
from .secret_names import names_secret

__all__ = ["SECRET", "may_be_header", "without_secrets"]

_SHORT: Final = 20  # characters: below there is no key of a provider
#: In small letters: without one of these there is neither a name of a secret nor a header.
_WORDS: Final = (
    b"pass", b"key", b"token", b"secret", b"auth", b"pwd", b"cookie", b"bearer", b"credential", b"jwt", b"sig",
    b"identified by",
)  # fmt: skip

# ── URLs ──────────────────────────────────────────────────────────────────────────────────────────

# A number behind the colon is a port, unless all up to the @ may be a password.
_USER = re.compile(
    r"""(://[^\s/:@"'<>?\#()\[\]|`]{0,256}+:)(?![0-9]{1,5}[,;|)\]}`'])[^\s/"'<>]+(?=@)(?!@sha256:)"""
)
#: Of databases and queues, whose passwords are written as they are, slashes included.
_SERVER = re.compile(
    r"\b((?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|valkey|amqps?|mssql|clickhouse|smtps?|ldaps?)"
    r"""(?:\+\w{1,20})?://[^\s/:"'<>]{0,256}+:)(?:[^\s"'<>]|'(?![,;)\]}])){1,256}(?=@)""",
    re.IGNORECASE,
)
_USER_ALONE = re.compile(
    r"(://)(?=[\w.-]{0,40}?(?=[A-Za-z]{0,15}[0-9])[A-Za-z0-9]{16})[\w.-]{20,512}+(?=@|:x-oauth-basic@)"
)
_SIGNATURES = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature"})

# ── settings, headers, JSON and programs, by the name in front ────────────────────────────────────

_NAMED = re.compile(
    r"(?<![\w.-])(?P<name>[\w.-]{2,256}+)(?P<quote>\\{0,7}[\"'])?\]?\*{0,2}[ \t]{0,32}+(?P<sign>[:=])",
    re.ASCII,
)
_ESCAPED_END = r"(?!\\[nrt])"  # in the repr of a text, or in JSON, a line ends like this
_VALUE = re.compile(
    r'(?P<slashes>\\{1,7})"(?P<escaped>(?:(?!(?P=slashes)")[^\n])++)'
    r"""|[bfruN@]{0,2}(?P<three>\"{3}|'{3})(?P<long>(?:(?!(?P=three))[\s\S]){1,4096}+)"""
    r'|[bfruN@]{0,2}"(?P<double>(?:[^"\\\n]|\\.)++)'
    r"|[bfruN@]{0,2}'(?P<single>(?:[^'\\\n]|\\.)++)"
    r"|`(?P<ticks>[^`\n]++)"
    rf"|(?P<bare>(?:{_ESCAPED_END}[^\s\"'`,;&<>(){{}}\[\]|])++)",
)
_HEADER = re.compile(
    rf"(?P<scheme>[A-Za-z][\w-]{{1,24}})[ ]+(?P<token>(?:{_ESCAPED_END}[^\s\"',;&<>(){{}}\[\]|`])++)"
)
_SCHEMES = frozenset(
    {"apikey", "api-key", "basic", "bearer", "bot", "digest", "geniekey", "key", "negotiate", "oauth", "splunk",
     "ssws", "token"}
)  # fmt: skip
_COOKIES = re.compile(r"[\w!#$%&*+.^|~-]{1,128}=(?:(?!\\[nr])[^\n\"'])*+")
_CLOSING = re.compile(r"\s*[,)\]}:;+]")
_ANNOTATION = re.compile(r"[ ]{0,2}(?:str|bytes|string|SecretStr)[ ]{0,2}=[ ]{0,2}(?=[\"'])")

_PAIR = re.compile(
    r"""[(\[]\s{0,4}b?(["'])(?P<name>[\w.-]{2,128})\1\s{0,4},\s{0,4}b?(["'])(?P<value>[^"'\n]+)\3\s{0,4}[)\]]"""
)
_NAMED_VALUE = re.compile(
    r"""\b(?:name|key|header)["']?\s{0,8}[:=]\s{0,8}["']?(?P<name>[\w.-]{2,128})["']?,?\s{1,64}"""
    r"""["']?value["']?\s{0,8}[:=]\s{0,8}(?:"(?P<value>[^"\n]+)|'(?P<single>[^'\n]+)|(?P<bare>[^\s"']+))""",
    re.IGNORECASE,
)
_BEARER = re.compile(
    r"(\bbearer[ ]+)(?=[^\s0-9]{0,256}[0-9])[A-Za-z0-9_.~+/=-]{16,}", re.IGNORECASE
)
_OPTION = re.compile(r"(?<!\S)--([A-Za-z][\w-]{1,63})[ ]{1,32}[\"']?([^\s\"'<\[$-][^\s\"']*)")
_CURL = re.compile(
    r"(\bcurl\b[^\n]{0,300}?\s(?:-u|--user)[ =]?[\"']?[^\s:\"']{1,128}:)(?!//)[^\s\"']+"
)
_SQL = re.compile(r"""(\b(?:password|identified by)\s{1,8}(["']))[^"'\n]+(?=\2)""", re.IGNORECASE)

_LIKELY: Final = 6  # characters of a secret without quotes
_TELLING = re.compile(r"[^A-Za-z._-]|[a-z][A-Z]")  # no word is written like that
_PLACEHOLDER = re.compile(
    r"(?:(?:Basic|Bearer|Token) )?(?:\$\{?[\w.]*\}?|\$\{\{.*\}\}|\$\([^()]*\)|<[^<>]*>|\{\{?[^{}]*\}\}?"
    r"|%\(\w+\)s|%s|[*.x•]+|your[-_ ].*|\[secret\].*)",
    re.IGNORECASE,
)
_LINE: Final = 256  # characters of a line that are looked at in front of a name

#: Values that are none: what a program, a type or a setting has in the place of one.
_NOTHING = frozenset(
    {
        "any", "auto", "basic", "bearer", "bool", "bytes", "default", "digest", "disabled", "empty",
        "enabled", "es256", "false", "hs256", "include", "int", "nil", "no", "none", "null", "number", "oauth2",
        "object", "off", "omit", "on", "optional", "required", "rs256", "same-origin", "secretstr", "str",
        "string", "text", "true", "undefined", "yes",
    }
)  # fmt: skip


def without_secrets(text: str) -> str:
    """Return a text with ``[secret]`` in the place of each secret in it that has a known shape.

    >>> without_secrets("connect to postgresql://app:hunter2@db/prod")
    'connect to postgresql://app:[secret]@db/prod'
    >>> without_secrets("DB_PASSWORD=hunter2 max_tokens=7")
    'DB_PASSWORD=[secret] max_tokens=7'
    """
    if len(text) < _SHORT and ":" not in text and "=" not in text:
        return text
    raw = text.encode("utf-8", "surrogatepass")
    small = raw.lower()
    if _has_sign(small):
        for word in _WORDS:
            if word in small:
                text = _without_named(text, small)
                break
    if b"curl" in small:
        text = _CURL.sub(rf"\1{SECRET}", text)
    if b"://" in raw:
        if b"@" in raw:
            for pattern in (_SERVER, _USER_ALONE, _USER):
                text = pattern.sub(rf"\1{SECRET}", text)
        text = without_hooks(text)
    return without_keys(text, raw)


def _has_sign(small: bytes) -> bool:
    """Tell whether there is one of the signs that stand between a name and its secret, or a word that does."""
    return (
        b":" in small
        or b"=" in small
        or b"(" in small
        or b"[" in small
        or b"--" in small
        or b"bearer" in small
        or b"identified by" in small
        or b"password" in small
    )


def _without_named(text: str, small: bytes) -> str:
    """Replace what a word in front of it calls a secret; ``small`` is the text in small letters."""
    if b"private key" in small:
        text = without_private_keys(text)
    if b":" in small or b"=" in small:
        text = _NAMED_VALUE.sub(_second, text) if b"value" in small else text
        text = _behind_names(text)
    if b"," in small:
        text = _PAIR.sub(_second, text)
    if b"bearer" in small:
        text = _BEARER.sub(rf"\1{SECRET}", text)
    if b"--" in small:
        text = _OPTION.sub(_option, text)
    if b"identified by" in small or b"password '" in small:
        text = _SQL.sub(rf"\1{SECRET}", text)
    return text


def _second(pair: re.Match[str]) -> str:
    """Replace the second of a name and its value, where the name names a secret."""
    value = str(pair.lastgroup)
    if not names_secret(pair["name"]) or _is_nothing(pair[value]):
        return pair[0]
    start, end = (place - pair.start() for place in pair.span(value))
    if (
        value == "value"
        and pair[0].endswith("]")
        and pair[value].replace("-", "_").isidentifier()
        and "-" not in pair["name"]
    ):
        return pair[0]  # a list of two names: ["password", "email-address"]
    return f"{pair[0][:start]}{SECRET}{pair[0][end:]}"


def _option(found: re.Match[str]) -> str:
    if not names_secret(found[1]) or _is_nothing(found[2]):
        return found[0]
    return found[0][: found.start(2) - found.start()] + SECRET


def _behind_names(text: str) -> str:
    """Replace values behind the name of a secret and ``:`` or ``=``."""
    parts: list[str] = []
    done = 0
    for found in _NAMED.finditer(text):
        name = found["name"]
        if not names_secret(name) and not (found["sign"] == "=" and name.lower() in _SIGNATURES):
            continue
        place = _value(text, found) if found.end() > done else None
        if place is not None:
            parts += (text[done : place[0]], SECRET)
            done = place[1]
    return "".join([*parts, text[done:]]) if parts else text


def _value(text: str, named: re.Match[str]) -> tuple[int, int] | None:
    """Return where the secret behind a name and its separator lies; ``None`` if there is none."""
    name, sign, start = named["name"], named["sign"], named.end()
    while text[start : start + 1] in (" ", "\t", "=", ">", "*") and start < named.end() + _LINE:
        start += 1
    if sign == ":":
        if text[named.start() - 1 : named.start()] == ":":
            return None  # urn:ietf:params:oauth:…
        if typed := _ANNOTATION.match(text, start):
            start = typed.end()
        if "cookie" in name.lower() and (cookies := _COOKIES.match(text, start)):
            return cookies.span()
        if (header := _HEADER.match(text, start)) and _is_header(name, header):
            return header.span()
    value = _VALUE.match(text, start)
    return value.span(str(value.lastgroup)) if value and _is_value(text, named, value) else None


def _is_header(name: str, header: re.Match[str]) -> bool:
    """Tell ``Authorization: Bearer abc`` from two words."""
    if _is_nothing(header["token"]):
        return False
    known = header["scheme"].lower() in _SCHEMES
    return known or ("auth" in name.lower() and _is_telling(header["token"]))


def _is_value(text: str, named: re.Match[str], value: re.Match[str]) -> bool:
    kind = str(value.lastgroup)
    said = value[kind]
    if kind == "bare":
        return _is_bare_secret(text, named, value)
    if named["name"].lower() == "token" and not _is_telling(said):
        return False  # a piece of a text
    if _is_nothing(said) or (kind == "ticks" and (named["sign"] == "=" or not _is_telling(said))):
        return False
    # A quote that closes the text before it: input('Password: '), …
    return named["quote"] is not None or kind == "long" or not _CLOSING.match(said)


def may_be_header(name: str, value: str) -> bool:
    """Tell a header that stands as a list of two from two names: ``["password", "email"]``."""
    header = "-" in name or name.lower() in ("authorization", "cookie")
    return header or not value.replace("-", "_").replace(" ", "_").isidentifier()


def _is_nothing(said: str) -> bool:
    return said.strip().lower() in _NOTHING or _PLACEHOLDER.fullmatch(said) is not None


def _is_telling(said: str) -> bool:
    return len(said) >= _LIKELY and _TELLING.search(said) is not None


def _is_bare_secret(text: str, named: re.Match[str], value: re.Match[str]) -> bool:
    """Tell a secret without quotes from a word, a type, a variable or a call."""
    said, after = value[0], text[value.end() : value.end() + 1]
    sign, separator = named["sign"], named.end() - 1
    if _is_nothing(said) or said.startswith("$") or after in ("(", "[", "{"):
        return False
    path = said.rstrip(":").replace(".", "_")
    if (
        path.isidentifier()
        and ("." in said or not said.isupper())
        and names_secret(said.rstrip(":"))
    ):
        return False  # api_key=settings.api_key
    if named["name"] in ("PWD", "OLDPWD") and said.startswith("/"):
        return False
    if sign == "=" and value.start() == separator + 1 and after not in (")", ",", "`"):
        return True  # a setting, a connection string, the query of a URL
    if _is_telling(said):
        return "|" not in text[value.end() : value.end() + 2]  # a type: AuthTypes | None
    line = max(text.rfind("\n", max(0, separator - _LINE), separator) + 1, separator - _LINE, 0)
    alone = text[line:separator].strip(" \t-\"'") == named["name"] and after in (
        "",
        "\n",
        "\r",
        "\\",
    )
    return alone and sign == ":"  # a line of YAML, or a header
