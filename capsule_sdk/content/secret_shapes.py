"""Secrets inside texts, found by their shape: keys of providers, private keys, passwords in URLs and settings.

A text passes through here on the caller's thread, and hardly any holds a secret. So three searches in C say
first that it cannot: it has no run of twenty letters and digits, as every key of a provider has; no word such
as ``password`` in front of a ``:`` or ``=``; no ``://`` before an ``@``. Only where one of them finds something
are the patterns tried. Each is bounded, so that no text takes more than linear time.

The kinds of secrets are those of detect-secrets and gitleaks. Their engines take too long for a caller who
waits (decision 21).
"""

from __future__ import annotations

import re
from typing import Final

from .secret_names import names_secret

__all__ = ["SECRET", "without_secrets"]

SECRET: Final = "[secret]"  # noqa: S105  stands where one stood

_SHORTEST: Final = 20  # characters of the shortest key of a provider
_RUN: Final = b"\0" * _SHORTEST
#: Characters of keys become ``\0``, others a space.
_RUNS: Final = bytes(
    0 if chr(code).isascii() and (chr(code).isalnum() or chr(code) in "_.:-") else 32
    for code in range(256)
)

#: In small letters: without one of these there is neither a name of a secret nor a header.
_WORDS: Final = (
    b"pass", b"key", b"token", b"secret", b"auth", b"pwd", b"cookie", b"bearer", b"credential", b"jwt", b"sig",
    b"identified by",
)  # fmt: skip

# ── keys of providers, each known by its beginning ────────────────────────────────────────────────

_CANDIDATE = re.compile(r"[A-Za-z0-9_.:-]{20,}")
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    # OpenAI, Anthropic, OpenRouter, DeepSeek …: soon 16 letters and digits on end, which no slug has
    r"sk-(?:ant|proj|svcacct|admin|or)-[\w-]{20,}"
    r"|sk-(?:[A-Za-z0-9]{1,15}[-_]){0,5}(?=[A-Za-z]{0,15}[0-9])[A-Za-z0-9]{16}[\w-]*"
    r"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"  # Amazon
    r"|AIza[\w-]{35}|ya29\.[\w.-]{20,}|GOCSPX-[\w-]{20,}"  # Google
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{22,}"
    r"|gl(?:pat|ptt|rt|dt|cbt|ft|soat|agent|imt|oas)-[\w-]{20,}"  # GitLab
    r"|xox[a-z](?:\.xox[a-z])?-[\w-]{15,}|xapp-[0-9]-[\w-]{15,}"  # Slack
    r"|[rs]k_(?:live|test|prod)_[A-Za-z0-9]{12,}|whsec_[A-Za-z0-9]{24,}"  # Stripe
    r"|SG\.[\w-]{16,}\.[\w-]{16,}"  # SendGrid
    r"|key-[a-f0-9]{32}|[a-f0-9]{32}-us[0-9]{1,2}(?![A-Za-z0-9])"  # Mailgun, Mailchimp
    r"|SK[a-f0-9]{32}(?![A-Za-z0-9])"  # Twilio
    r"|sq0(?:atp|csp)-[\w-]{22,}|EAAA[\w-]{60}"  # Square
    r"|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"  # Shopify
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{40,}|rubygems_[a-f0-9]{48}"
    r"|hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{32,}|xai-[A-Za-z0-9]{32,}|r8_[A-Za-z0-9]{32,}"
    r"|nvapi-[\w-]{32,}|pplx-[A-Za-z0-9]{32,}|tvly-[\w-]{16,}|lsv2_[a-z]{2}_\w{32,}|pcsk_\w{32,}"
    r"|dckr_[po]at_[\w-]{20,}|do[opr]_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}|hv[brs]\.[\w-]{24,}"
    r"|glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}|sbp_[a-f0-9]{40}|pul-[a-f0-9]{40}|PMAK-[a-f0-9]{24}-[a-f0-9]{34}"
    r"|NRAK-[A-Z0-9]{27}|lin_api_[A-Za-z0-9]{32,}|ntn_[A-Za-z0-9]{40,}|figd_[\w-]{36,}|ATATT3[\w-]{60,}"
    r"|AGE-SECRET-KEY-1[A-Z0-9]{50,}"
    r"|eyJ[\w-]{10,2000}+(?:\.[\w-]*+){2,4}"  # a JSON web token
    r"|[0-9]{8,10}:AA[\w-]{33}"  # Telegram
    r")"
)
_PRIVATE_KEY = re.compile(
    r"(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)"
    r"(?:(?!-----END|…\[cut: )[\s\S])*+"  # one that is cut has no end
)

# ── URLs ──────────────────────────────────────────────────────────────────────────────────────────

_USER = re.compile(r"""(://[^\s/:@"'<>]{0,256}+:)[^\s/"'<>]{1,1024}(?=@)""")
_USER_ALONE = re.compile(r"(://)(?=[A-Za-z_.-]{0,19}[0-9])[\w.-]{20,512}+(?=@)")
_HOOK = re.compile(
    r"(hooks\.slack\.com/(?:services|workflows)/|discord(?:app)?\.com/api/webhooks/[0-9]+/)[\w/-]{20,}"
)
_SIGNATURES = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature"})

# ── settings, headers, JSON and programs, by the name in front ────────────────────────────────────

_NAMED = re.compile(r"(?<![\w.-])([\w.-]{2,256}+)\\?[\"']?[ \t]{0,8}+[:=]", re.ASCII)
_VALUE = re.compile(
    r'\\"(?P<escaped>(?:(?!\\")[^\n]){1,4096})'
    r'|"(?P<double>(?:[^"\\\n]|\\.){1,4096})'
    r"|'(?P<single>(?:[^'\\\n]|\\.){1,4096})"
    r"|(?P<scheme>(?:Basic|Bearer|Digest|Negotiate|ApiKey|Token)[ ]+[^\s\"',;]{1,4096})"
    r"|(?P<bare>[^\s\"'`,;&<>(){}\[\]|]{1,4096})",
    re.IGNORECASE,
)
_LINE = re.compile(r"[^\n\"']{1,4096}")
_BEARER = re.compile(r"(\bbearer[ ]+)[A-Za-z0-9_.~+/=-]{16,}", re.IGNORECASE)
_OPTION = re.compile(r"(?<!\S)--([A-Za-z][\w-]{1,63})[ ]+[\"']?([^\s\"'-][^\s\"']{0,1023})")
_CURL = re.compile(r"((?<!\S)(?:-u|--user)[ =]?[\"']?[^\s:\"']{1,256}:)[^\s\"']{1,1024}")
_SQL = re.compile(r"(\b(?:password|identified by)\s{1,8}')[^'\n]{1,1024}(?=')", re.IGNORECASE)

_LIKELY: Final = 6  # characters of a secret without quotes
_TELLING = re.compile(r"[^A-Za-z._-]|[a-z][A-Z]")  # no word is written like that

#: Values that are none: what a program, a type or a placeholder has in the place of one.
_NOTHING = frozenset(
    {
        "any", "bool", "bytes", "false", "int", "nil", "none", "null", "object", "optional", "required",
        "secretstr", "str", "string", "text", "true", "undefined",
    }
)  # fmt: skip


def without_secrets(text: str) -> str:
    """Return a text with ``[secret]`` in the place of each secret in it that has a known shape.

    >>> without_secrets("connect to postgresql://app:hunter2@db/prod")
    'connect to postgresql://app:[secret]@db/prod'
    >>> without_secrets("DB_PASSWORD=hunter2 max_tokens=7")
    'DB_PASSWORD=[secret] max_tokens=7'
    """
    named = ":" in text or "=" in text
    if not named and len(text) < _SHORTEST:
        return text
    raw = text.encode("utf-8", "surrogatepass")
    small = raw.lower()
    for word in _WORDS:
        if word in small:
            text = _without_named(text, small)
            break
    if b"curl" in small:
        text = _CURL.sub(rf"\1{SECRET}", text)
    if b"://" in raw:
        if b"@" in raw:
            text = _USER_ALONE.sub(rf"\1{SECRET}", _USER.sub(rf"\1{SECRET}", text))
        text = _HOOK.sub(rf"\1{SECRET}", text)
    if _RUN in raw.translate(_RUNS):
        text = _CANDIDATE.sub(_without_keys, text)
    return text


def _without_keys(run: re.Match[str]) -> str:
    return _KEY.sub(SECRET, run[0])


def _without_named(text: str, small: bytes) -> str:
    """Replace what a word in front of it calls a secret; ``small`` is the text in small letters."""
    if b"private key" in small:
        text = _PRIVATE_KEY.sub(rf"\1{SECRET}", text)
    if b":" in small or b"=" in small:
        text = _behind_names(text)
    if b"bearer" in small:
        text = _BEARER.sub(rf"\1{SECRET}", text)
    if b"--" in small:
        text = _OPTION.sub(_option, text)
    if b"identified by" in small or b"password '" in small:
        text = _SQL.sub(rf"\1{SECRET}", text)
    return text


def _option(found: re.Match[str]) -> str:
    if not names_secret(found[1]):
        return found[0]
    return found[0][: found.start(2) - found.start()] + SECRET


def _behind_names(text: str) -> str:
    """Replace values behind the name of a secret and ``:`` or ``=``."""
    parts: list[str] = []
    done = 0
    for found in _NAMED.finditer(text):
        name = found[1]
        separator = found.end() - 1
        if not names_secret(name) and not (text[separator] == "=" and name.lower() in _SIGNATURES):
            continue
        place = _value(text, name, separator) if separator >= done else None
        if place is not None:
            parts += (text[done : place[0]], SECRET)
            done = place[1]
    return "".join([*parts, text[done:]]) if parts else text


def _value(text: str, name: str, separator: int) -> tuple[int, int] | None:
    """Return where the secret behind a name and its separator lies; ``None`` if there is none."""
    start = separator + 1
    while text[start : start + 1] in (" ", "\t", "=", ">"):
        start += 1
    if "cookie" in name.lower() and text[separator] == ":" and (line := _LINE.match(text, start)):
        return line.span()
    value = _VALUE.match(text, start)
    if value is None:
        return None
    kind = str(value.lastgroup)
    if value[kind].startswith((SECRET, "$", "{{", "<")):
        return None  # a variable, or a placeholder
    if kind == "bare" and not _is_bare_secret(text, name, separator, value):
        return None
    return value.span(kind)


def _is_bare_secret(text: str, name: str, separator: int, value: re.Match[str]) -> bool:
    """Tell a secret without quotes from a word, a type, a variable or a call."""
    said, after = value["bare"], text[value.end() : value.end() + 1]
    if said.lower() in _NOTHING or after in ("(", "[", "{"):
        return False
    if said.replace(".", "_").isidentifier() and names_secret(said):
        return False  # api_key=settings.api_key
    if text[separator] == "=" and value.start() == separator + 1 and after not in (")", ","):
        return True  # a setting, a connection string, the query of a URL
    if len(said) >= _LIKELY and _TELLING.search(said):
        return True
    line = text.rfind("\n", 0, separator) + 1
    alone = text[line:separator].strip(" \t-\"'") == name and after in ("", "\n", "\r")
    return alone and text[separator] == ":"  # a line of YAML, or a header
