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
    0 if chr(code).isascii() and (chr(code).isalnum() or chr(code) in "_.:~-") else 32
    for code in range(256)
)
_CANDIDATE = re.compile(r"[A-Za-z0-9_.:~-]{20,}")

#: Where a key may begin: not inside a word, but behind an escape (``\n``, ``%3D``, ``\u0022``, ``[31m``).
_START = (
    r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=%[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4})"
    r"|(?<=\[[0-9]m)|(?<=\[[0-9]{2}m))"
)
_KEYS: Final = (
    # OpenAI, Anthropic, OpenRouter, DeepSeek …: soon 16 letters and digits on end, which no slug has
    r"sk-(?:ant|proj|svcacct|admin|or|lf)-[\w-]{20,}",
    r"sk-(?:[A-Za-z0-9]{1,15}[-_]){0,5}(?=[A-Za-z]{0,24}[0-9])[A-Za-z0-9]{16}[\w-]*",
    # ElevenLabs
    r"sk_[a-f0-9]{48}",
    # Amazon
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])", r"ABSK[A-Za-z0-9]{40,}",
    r"bedrock-api-key-[\w-]{20,}",
    # Google
    r"AIza[\w-]{35}", r"ya29\.[\w.-]{20,}", r"GOCSPX-[\w-]{20,}", r"AQ\.Ab8[\w-]{20,}",
    r"(?<=1//)0[\w-]{38,}",
    # Entra ID
    r"(?<=[0-9]Q~)[\w.~-]{31,34}",
    r"gh[pousr]_[A-Za-z0-9]{20,}", r"github_pat_\w{22,}",
    # GitLab
    r"gl(?:pat|ptt|rt|dt|cbt|ft|ffct|soat|agent|imt|oas)-[\w-]{20,}", r"GR1348941[\w-]{20}",
    # Slack
    r"xox[a-z](?:\.xox[a-z])?-[\w-]{15,}", r"xapp-[0-9]-[\w-]{15,}",
    # Stripe
    r"[rs]k_(?:live|test|prod)_[A-Za-z0-9]{12,}", r"whsec_[A-Za-z0-9]{24,}",
    # SendGrid, Brevo
    r"SG\.[\w-]{16,}\.[\w-]{16,}", r"xkeysib-[a-f0-9]{40,}",
    # Mailgun, Mailchimp
    r"key-[a-f0-9]{32}", r"[a-f0-9]{32}-us[0-9]{1,2}(?![A-Za-z0-9])",
    # Twilio
    r"SK[a-f0-9]{32}(?![A-Za-z0-9])",
    # Square
    r"sq0(?:atp|csp)-[\w-]{22,}", r"EAAA[A-Za-z0-9_-]{60}",
    # Shopify
    r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}",
    r"npm_[A-Za-z0-9]{36}", r"pypi-[\w-]{40,}", r"rubygems_[a-f0-9]{48}",
    r"hf_[A-Za-z0-9]{30,}", r"gsk_[A-Za-z0-9]{32,}", r"xai-[A-Za-z0-9]{32,}",
    r"r8_[A-Za-z0-9]{32,}",
    r"csk-[A-Za-z0-9]{40,}", r"tgp_v1_[\w-]{30,}", r"jina_[A-Za-z0-9]{40,}", r"e2b_[a-f0-9]{32,}",
    r"fc-[a-f0-9]{32}",
    r"nvapi-[\w-]{32,}", r"pplx-[A-Za-z0-9]{32,}", r"tvly-[\w-]{16,}", r"lsv2_[a-z]{2}_\w{32,}",
    r"pcsk_\w{32,}",
    r"dckr_[po]at_[\w-]{20,}", r"do[opr]_v1_[a-f0-9]{64}", r"dapi[a-f0-9]{32}",
    r"hv[brs]\.[\w-]{24,}",
    r"glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}", r"sb(?:p|_secret)_[\w-]{30,}", r"pul-[a-f0-9]{40}",
    r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}", r"NRAK-[A-Z0-9]{27}", r"lin_api_[A-Za-z0-9]{32,}",
    r"(?:ntn|secret)_[A-Za-z0-9]{40,}", r"figd_[\w-]{36,}", r"AT[AC]TT3[\w-]{60,}",
    r"ATBB[A-Za-z0-9]{28,}",
    r"sntry[su]_[\w-]{30,}", r"phx_[A-Za-z0-9]{32,}", r"tskey-[a-z]+-[\w-]{20,}",
    r"dp\.(?:ct|[ps]t|sa|scim|audit)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{30,}",
    r"pscale_[a-z]+_[\w-]{30,}", r"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,}",
    r"AGE-SECRET-KEY-1[A-Z0-9]{50,}",
    # Fireworks, Brave, Voyage, RunPod, Weights & Biases, Apify, LangSmith's old ones, Astra
    r"fw_(?=[A-Za-z]{0,20}[0-9])[A-Za-z0-9]{20,}",
    r"BSA(?=[A-Za-z_-]{0,20}[0-9])[\w-]{24,40}(?![\w-])",
    r"pa-(?=[A-Za-z_-]{0,40}[0-9])(?=[a-z0-9_-]{0,40}[A-Z])[\w-]{43}(?![\w-])",
    r"rpa_[A-Za-z0-9]{30,}",
    r"wandb_v1_\w{60,}", r"apify_api_[A-Za-z0-9]{34,}", r"ls__[a-f0-9]{32}",
    r"AstraCS:[A-Za-z0-9]{20,}",
    # Cloudflare, Vercel, Render, Fly, Heroku, Neon, Atlas, Alibaba, Octopus, Prefect, Airtable, HubSpot
    r"cf[aku]t?_[A-Za-z0-9]{40}[a-f0-9]{8}", r"v1\.0-[a-f0-9]{24}-[a-f0-9]{100,}",
    r"vc[acikpr]_[\w-]{40,}",
    r"rnd_[A-Za-z0-9]{28}(?![A-Za-z0-9])", r"fo1_[\w-]{43}", r"HRKU-AA[\w-]{50,}",
    r"napi_[A-Za-z0-9]{64}", r"mdb_sa_sk_[\w-]{40}",
    r"LTAI[A-Za-z0-9]{17,21}(?![A-Za-z0-9])", r"API-[A-Z0-9]{26}(?![A-Z0-9])",
    r"pnu_[A-Za-z0-9]{36}",
    r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}", r"pat-(?:eu|na)[0-9]-[a-f0-9]{8}-[a-f0-9-]{27}",
    r"amzn\.mws\.[a-f0-9-]{36}",
    # CircleCI, Buildkite, Artifactory, Sourcegraph, SonarQube, Bitbucket, Dynatrace, New Relic, Discord
    r"CCIPAT_[A-Za-z0-9]{22}_[a-f0-9]{40}", r"bkua_[a-z0-9]{40}", r"AKCp[A-Za-z0-9]{60,}",
    r"cmVmd[A-Za-z0-9]{59}",
    r"sgp_(?:[A-Za-z0-9]{5,16}_)?[a-f0-9]{40}", r"sq[apu]_[a-f0-9]{40}", r"BBDC-[\w-]{40,}",
    r"dt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}",
    r"NR(?:II|IQ)-[\w-]{25,}", r"[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,}",
    # Figma, Contentful, Typeform, Adobe, Readme, Shippo, EasyPost, Flutterwave, Meta, Zoho, Plaid, 1Password
    r"figp_[\w-]{40,}", r"CFPAT-[\w-]{43}", r"tfp_[\w-]{40,}", r"p8e-[a-z0-9]{32}",
    r"rdme_[a-z0-9]{70}", r"shippo_[a-z]{4}_[a-f0-9]{40}",
    r"EZ[AT]K[A-Za-z0-9]{54}", r"FLWSECK(?:_TEST)?-[a-z0-9]{12,}", r"EAA[A-Z][A-Za-z0-9]{100,}",
    r"1000\.[a-f0-9]{32}\.[a-f0-9]{32}",
    r"access-(?:sandbox|development|production)-[a-f0-9]{8}-[a-f0-9-]{27}",
    r"A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}",
    # a JSON web token
    r"(?<![\w-])(?:ops_|glc_|sk\.)?eyJ[\w-]{10,}+(?:\.[\w-]*+){1,4}",
    # Telegram
    r"(?:bot)?[0-9]{8,10}:AA[\w-]{33}",
)  # fmt: skip


def _one_of(patterns: tuple[str, ...]) -> str:
    """Return a pattern for all of these, by their first letters: each is tried only where it may begin."""
    groups: dict[str, list[str]] = {}
    for pattern in patterns:
        letter = pattern[0] if pattern[0].isalnum() and pattern[1] not in "?*+{" else ""
        groups.setdefault(letter, []).append(pattern[len(letter) :])
    return "|".join(f"{letter}(?:{'|'.join(rest)})" for letter, rest in groups.items())


_KEY: Final = f"{_START}(?:{_one_of(_KEYS)})"
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
    if raw.translate(_RUNS).find(_RUN) < 0:
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
