"""Secrets that are known by themselves: keys of providers, by their beginnings, private keys, addresses.

Leaf: standard library only. Every pattern starts at a place that no other match of it can share, or is
bounded, so that a text takes linear time.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["SECRET", "without_hooks", "without_keys", "without_private_keys"]

SECRET: Final = "[secret]"  # noqa: S105  stands where one stood

_SHORTEST: Final = 20  # characters of the shortest key of a provider
_RUN: Final = b"\0" * _SHORTEST
#: Characters of keys become ``\0``, others a space.
_RUNS: Final = bytes(
    0 if chr(code).isascii() and (chr(code).isalnum() or chr(code) in "_.:-") else 32
    for code in range(256)
)
_CANDIDATE = re.compile(r"[A-Za-z0-9_.:-]{20,}")

#: Where a key may begin: not inside a word, but behind an escape (``\n``, ``%3D``, ``\u0022``, ``[31m``).
_START = (
    r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=%[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4})"
    r"|(?<=\[[0-9]m)|(?<=\[[0-9]{2}m))"
)
_KEY: Final = (
    _START + "(?:"
    # OpenAI, Anthropic, OpenRouter, DeepSeek …: soon 16 letters and digits on end, which no slug has
    r"sk-(?:ant|proj|svcacct|admin|or|lf)-[\w-]{20,}"
    r"|sk-(?:[A-Za-z0-9]{1,15}[-_]){0,5}(?=[A-Za-z]{0,24}[0-9])[A-Za-z0-9]{16}[\w-]*"
    r"|sk_[a-f0-9]{48}"  # ElevenLabs
    r"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])|ABSK[A-Za-z0-9]{40,}"  # Amazon
    r"|bedrock-api-key-[\w-]{20,}"
    r"|AIza[\w-]{35}|ya29\.[\w.-]{20,}|GOCSPX-[\w-]{20,}|AQ\.Ab8[\w-]{20,}"  # Google
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{22,}"
    r"|gl(?:pat|ptt|rt|dt|cbt|ft|soat|agent|imt|oas)-[\w-]{20,}"  # GitLab
    r"|xox[a-z](?:\.xox[a-z])?-[\w-]{15,}|xapp-[0-9]-[\w-]{15,}"  # Slack
    r"|[rs]k_(?:live|test|prod)_[A-Za-z0-9]{12,}|whsec_[A-Za-z0-9]{24,}"  # Stripe
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|xkeysib-[a-f0-9]{40,}"  # SendGrid, Brevo
    r"|key-[a-f0-9]{32}|[a-f0-9]{32}-us[0-9]{1,2}(?![A-Za-z0-9])"  # Mailgun, Mailchimp
    r"|SK[a-f0-9]{32}(?![A-Za-z0-9])"  # Twilio
    r"|sq0(?:atp|csp)-[\w-]{22,}|EAAA[A-Za-z0-9_-]{60}"  # Square
    r"|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"  # Shopify
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{40,}|rubygems_[a-f0-9]{48}"
    r"|hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{32,}|xai-[A-Za-z0-9]{32,}|r8_[A-Za-z0-9]{32,}"
    r"|csk-[a-z0-9]{40,}|tgp_v1_[\w-]{30,}|jina_[A-Za-z0-9]{40,}|e2b_[a-f0-9]{32,}|fc-[a-f0-9]{32}"
    r"|nvapi-[\w-]{32,}|pplx-[A-Za-z0-9]{32,}|tvly-[\w-]{16,}|lsv2_[a-z]{2}_\w{32,}|pcsk_\w{32,}"
    r"|dckr_[po]at_[\w-]{20,}|do[opr]_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}|hv[brs]\.[\w-]{24,}"
    r"|glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}|sb(?:p|_secret)_[\w-]{30,}|pul-[a-f0-9]{40}"
    r"|PMAK-[a-f0-9]{24}-[a-f0-9]{34}|NRAK-[A-Z0-9]{27}|lin_api_[A-Za-z0-9]{32,}"
    r"|(?:ntn|secret)_[A-Za-z0-9]{40,}|figd_[\w-]{36,}|AT[AC]TT3[\w-]{60,}|ATBB[A-Za-z0-9]{28,}"
    r"|sntry[su]_[\w-]{30,}|phx_[A-Za-z0-9]{32,}|tskey-[a-z]+-[\w-]{20,}|dp\.[ps]t\.[A-Za-z0-9]{30,}"
    r"|pscale_[a-z]+_[\w-]{30,}|[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,}|AGE-SECRET-KEY-1[A-Z0-9]{50,}"
    r"|(?<![\w-])(?:ops_|glc_|sk\.)?eyJ[\w-]{10,}+(?:\.[\w-]*+){1,4}"  # a JSON web token
    r"|(?:bot)?[0-9]{8,10}:AA[\w-]{33}"  # Telegram
    ")"
)
#: A key, or else all up to where the next may begin: behind an escape, or the word.
_KEY_OR_WORD = re.compile(
    rf"({_KEY})|(?<=\\)(?:[nrtbf]|u[0-9A-Fa-f]{{4}})|(?<=%)[0-9A-Fa-f]{{2}}|(?<=\[)[0-9]{{1,2}}m|[A-Za-z0-9]++"
)
_HOOK = re.compile(
    r"(hooks\.slack\.com/(?:services|workflows|triggers)/"
    r"|discord(?:app)?\.com/api/(?:v[0-9]+/)?webhooks/[0-9]+/|\.webhook\.office\.com/webhookb2/)[\w/@-]{20,}"
)
#: Only in front of what a key is made of: a program may ask for the first line alone.
_PRIVATE_KEY = re.compile(
    r"(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)"
    r"(?=(?:\s|\\+[nr]){0,8}(?:[A-Za-z0-9+/=]{16}|Proc-Type|Version|Comment|DEK-Info))"
    r"(?:(?:(?!-----)[\s\S]){0,8000}+(?=-----END)"
    # one that is cut has no end: as far as its lines go
    r"|(?:\s|\\+[nr])*+(?:(?:[A-Za-z0-9+/=]{16,}+|[A-Za-z-]{4,20}: [^\s\\]{1,80}+)(?:\s|\\+[nr])*+)*+)"
)


def without_keys(text: str, raw: bytes) -> str:
    """Return a text without keys of providers; ``raw``, it in UTF-8, says first whether there can be any."""
    if _RUN not in raw.translate(_RUNS):
        return text
    parts: list[str] = []
    done = 0
    for run in _CANDIDATE.finditer(text):
        for found in _KEY_OR_WORD.finditer(text, run.start(), run.end()):
            if found[1] is not None:
                parts += (text[done : found.start()], SECRET)
                done = found.end()
    return "".join([*parts, text[done:]]) if parts else text


def without_private_keys(text: str) -> str:
    """Return a text without the bodies of private keys (RFC 7468), those that were cut included."""
    return _PRIVATE_KEY.sub(rf"\1{SECRET}", text)


def without_hooks(text: str) -> str:
    """Return a text without the secret part of addresses that whoever knows them may post to."""
    return _HOOK.sub(rf"\1{SECRET}", text)
