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
from collections.abc import Iterator
from typing import Final, NamedTuple

from .secret_commands import without_logins, without_oracle, without_set
from .secret_keys import SECRET, without_hooks, without_keys, without_private_keys
from .secret_markup import without_markup
from .secret_names import names_secret
from .secret_values import is_nothing, is_random, is_telling

__all__ = ["SECRET", "may_be_header", "without_secrets"]

_SHORT: Final = 20  # characters: below there is no key of a provider

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
_SETTING = ("set", "env ", "login ", "user", "variable", "requirepass")  # without a sign
_SIGNATURES = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature"})

# ── settings, headers, JSON and programs, by the name in front ────────────────────────────────────

#: The sign, a quote, and the name, in a text that is read from its end: there are fewer signs than words.
_DEMAN = re.compile(
    r"([:=])[ \t]{0,32}+\*{0,2}\]?(?:`|([\"']\\{0,7}))?([\w.-]{2,256}+)(?![\w.-])",
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
_SQL = re.compile(r"""(\b(?:password|identified by)\s{1,8}(["']))[^"'\n]+(?=\2)""", re.IGNORECASE)

_ENDS: Final = frozenset("\r\n\\|>")  # of a line whose value is below
_LINE: Final = 256  # characters of a line that are looked at in front of a name

_END: Final = (
    r"(?:\r?\n|(?:\\{1,7}r)?\\{1,7}n)"  # of a line; inside a text that is quoted it is escaped
)
_ESCAPED_LINE: Final = rf"(?:(?!{_END})[^\n\"])++"
#: YAML's texts of several lines, and a value on the line behind its name.
_BLOCK = re.compile(
    rf"[ \t]{{0,8}}+[|>][-+0-9]{{0,2}}[ \t]{{0,8}}+(?:\#[^\n\\]{{0,200}}+)?(?P<end>(?P<real>\r?\n)|{_END})"
    rf"(?P<indent>[ \t]{{1,64}}+)(?P<line>(?(real)[^\n]++|{_ESCAPED_LINE}))"
)
_REST = {True: re.compile(r"[^\n]*+"), False: re.compile(rf"(?:{_ESCAPED_LINE})?+")}
_NEXT_LINE = re.compile(
    rf"[ \t]{{0,8}}+(?:{_END}[ \t]{{0,64}}+){{1,2}}(?P<quote>\\{{0,7}}[\"'`])?(?P<value>[^\s\"'`\\,]{{6,512}}+)"
    r"(?(quote)\\{0,7}[\"'`])(?=[ \t]{0,8}[,;]?(?:\s|\\{1,7}[rn]|\Z|[\"')\]}]))"
)


class _Name(NamedTuple):
    """The name of a secret in a text, with the sign behind it."""

    name: str
    sign: str
    start: int
    end: int  # behind the sign
    quoted: bool


def without_secrets(text: str) -> str:
    """Return a text with ``[secret]`` in the place of each secret in it that has a known shape.

    >>> without_secrets("connect to postgresql://app:hunter2@db/prod")
    'connect to postgresql://app:[secret]@db/prod'
    >>> without_secrets("DB_PASSWORD=hunter2 max_tokens=7")
    'DB_PASSWORD=[secret] max_tokens=7'
    """
    if len(text) < _SHORT and not (":" in text or "=" in text or " -" in text):
        return text
    raw = text.encode("utf-8", "surrogatepass")
    small = raw.lower().decode("latin-1")  # a search in a text is quicker than one in bytes
    if _has_sign(small):
        if _has_word(small):
            text = _without_named(text, small)
        elif "=" in small and "sig" in small:
            text = _behind_names(text)
    if "-" in small and (" -" in small or ("[" in small and "'-" in small)):
        text = without_logins(text, small)
    if "/" in text:
        if "@" in text:
            text = without_oracle(text)
        if "://" in text:
            if "@" in text:
                for pattern in (_SERVER, _USER_ALONE, _USER):
                    text = pattern.sub(rf"\1{SECRET}", text)
            text = without_hooks(text)
    return without_keys(text, raw)


def _has_sign(small: str) -> bool:
    """Tell whether there is one of the signs that stand between a name and its secret, or a word that does."""
    return (
        ":" in small
        or "=" in small
        or "_" in small
        or "(" in small
        or "[" in small
        or "<" in small
        or "|" in small
        or "%" in small
        or ("-" in small and "--" in small)
        or "bearer" in small
        or "password" in small
        or (("'" in small or '"' in small) and "identified by" in small)
    )


def _has_word(small: str) -> bool:
    """Tell whether there may be a name of a secret, or a header that holds one."""
    return (
        "pass" in small
        or "key" in small
        or "token" in small
        or "auth" in small
        or "secret" in small
        or "cookie" in small
        or "pwd" in small
        or "bearer" in small
        or "credential" in small
        or "jwt" in small
        or (("'" in small or '"' in small) and "identified by" in small)
    )


def _without_named(text: str, small: str) -> str:
    """Replace what a word in front of it calls a secret; ``small`` is the text in small letters."""
    if "private key" in small:
        text = without_private_keys(text)
    if ":" in small or "=" in small:
        text = _NAMED_VALUE.sub(_second, text) if "value" in small else text
        text = _behind_names(text)
    if "<" in small or "|" in small or "%" in small:
        text = without_markup(text, small)
    for word in _SETTING:
        if word in small:
            text = without_set(text)
            break
    if "," in small:
        text = _PAIR.sub(_second, text)
    if "bearer" in small:
        text = _BEARER.sub(rf"\1{SECRET}", text)
    if "identified by" in small or "password '" in small:
        text = _SQL.sub(rf"\1{SECRET}", text)
    return text


def _second(pair: re.Match[str]) -> str:
    """Replace the second of a name and its value, where the name names a secret."""
    value = str(pair.lastgroup)
    if not names_secret(pair["name"]) or is_nothing(pair[value]):
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


def _names(text: str) -> Iterator[_Name]:
    """Yield the names of secrets that stand in front of ``:`` or ``=``."""
    size, found = len(text), list[tuple[str, str, int, int, bool]]()
    for match in _DEMAN.finditer(text[::-1]):
        name = match[3][::-1]
        if names_secret(name) or (match[1] == "=" and name.lower() in _SIGNATURES):
            start, end = size - match.end(), size - match.start()
            found.append((name, match[1], start, end, match[2] is not None))
    for told in reversed(found):
        yield _Name(*told)


def _behind_names(text: str) -> str:
    """Replace values behind the name of a secret and ``:`` or ``=``."""
    parts: list[str] = []
    done = 0
    for found in _names(text):
        place = _value(text, found) if found.end > done else None
        if place is not None:
            parts += (text[done : place[0]], SECRET)
            done = place[1]
    return "".join([*parts, text[done:]]) if parts else text


def _value(text: str, named: _Name) -> tuple[int, int] | None:
    """Return where the secret behind a name and its separator lies; ``None`` if there is none."""
    name, sign, start = named.name, named.sign, named.end
    if text[start : start + 1] in _ENDS or text[start : start + 2].strip()[:1] in _ENDS:
        lines = _below(text, named)
        if lines is not None:
            return lines
    while text[start : start + 1] in (" ", "\t", "=", ">", "*") and start < named.end + _LINE:
        start += 1
    if sign == ":":
        if text[named.start - 1 : named.start] == ":":
            return None  # urn:ietf:params:oauth:…
        if typed := _ANNOTATION.match(text, start):
            start = typed.end()
        if "cookie" in name.lower() and (cookies := _COOKIES.match(text, start)):
            return cookies.span()
        if (header := _HEADER.match(text, start)) and _is_header(name, header):
            return header.span()
    value = _VALUE.match(text, start)
    return value.span(str(value.lastgroup)) if value and _is_value(text, named, value) else None


def _below(text: str, named: _Name) -> tuple[int, int] | None:
    """Return where the secret lies that stands on the lines below its name."""
    if named.sign == ":" and (block := _BLOCK.match(text, named.end)):
        if is_nothing(block["line"]):
            return None
        end, begin = block.end(), block["end"] + block["indent"]
        rest = _REST[block["real"] is not None]
        while text.startswith(begin, end):  # the other lines of it
            line = rest.match(text, end + len(begin))
            end = line.end() if line else len(text)
        return block.start("line"), end
    line = _NEXT_LINE.match(text, named.end)
    if line is None or not is_random(line["value"]) or line["value"][0] in "#&!@":
        return None
    return line.span("value")


def _is_header(name: str, header: re.Match[str]) -> bool:
    """Tell ``Authorization: Bearer abc`` from two words."""
    if is_nothing(header["token"]):
        return False
    known = header["scheme"].lower() in _SCHEMES
    return known or ("auth" in name.lower() and is_telling(header["token"]))


def _is_value(text: str, named: _Name, value: re.Match[str]) -> bool:
    kind = str(value.lastgroup)
    said = value[kind]
    if kind == "bare":
        return _is_bare_secret(text, named, value)
    if named.name.lower() == "token" and not is_telling(said):
        return False  # a piece of a text
    if is_nothing(said) or (kind == "ticks" and (named.sign == "=" or not is_telling(said))):
        return False
    # A quote that closes the text before it: input('Password: '), …
    return named.quoted or kind == "long" or not _CLOSING.match(said)


def may_be_header(name: str, value: str) -> bool:
    """Tell a header that stands as a list of two from two names: ``["password", "email"]``."""
    header = "-" in name or name.lower() in ("authorization", "cookie")
    return header or not value.replace("-", "_").replace(" ", "_").isidentifier()


def _is_bare_secret(text: str, named: _Name, value: re.Match[str]) -> bool:
    """Tell a secret without quotes from a word, a type, a variable or a call."""
    said, after = value[0], text[value.end() : value.end() + 1]
    sign, separator = named.sign, named.end - 1
    if is_nothing(said) or said.startswith("$") or after in ("(", "[", "{"):
        return False
    path = said.rstrip(":").replace(".", "_")
    if (
        path.isidentifier()
        and ("." in said or not said.isupper())
        and names_secret(said.rstrip(":"))
    ):
        return False  # api_key=settings.api_key
    if named.name in ("PWD", "OLDPWD") and said.startswith("/"):
        return False
    if sign == "=" and value.start() == separator + 1 and after not in (")", ",", "`"):
        return True  # a setting, a connection string, the query of a URL
    if is_telling(said):
        return "|" not in text[value.end() : value.end() + 2]  # a type: AuthTypes | None
    line = max(text.rfind("\n", max(0, separator - _LINE), separator) + 1, separator - _LINE, 0)
    alone = text[line:separator].strip(" \t-\"'") == named.name and after in (
        "",
        "\n",
        "\r",
        "\\",
    )
    return alone and sign == ":"  # a line of YAML, or a header
