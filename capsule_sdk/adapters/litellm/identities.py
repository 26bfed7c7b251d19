"""Identities: the provider's own id of an answer, where LiteLLM hands on one of its own.

LiteLLM makes up an id for whatever it translates (``chatcmpl-`` and a UUID), and wraps others in base64, with
names of its own (``resp_…``). The provider's id stands in what the provider sent.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

from ...calls.answers.reading import fields, word

__all__ = ["id_in", "id_of", "is_made_up"]

_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
#: What LiteLLM makes up; some providers make up the same.
_MADE_UP: Final = re.compile(rf"([a-z]{{2,10}}[-_])?{_UUID}")
_WRAPPED: Final = re.compile(r"[a-z]{2,12}_([A-Za-z0-9+/=_-]{16,4096})")
_WITHIN: Final = re.compile(r"litellm:.*;(?!model_id)[a-z_]+_id:([^;]+)")


def id_of(told: Any, sent: str | None) -> str | None:
    """Return the provider's id of an answer; ``None`` where it is not known.

    Args:
        told: the id that LiteLLM hands on.
        sent: the one in what the provider sent, ``""`` if there is none; ``None``: nobody saw what it sent.

    """
    if sent:
        return sent
    if not told or is_made_up(told):
        return None
    found = word(unwrapped(told) if isinstance(told, str) else told)
    return found if found and not is_made_up(found) else None


def is_made_up(told: Any) -> bool:
    """Tell whether an id looks like those that LiteLLM makes up."""
    return isinstance(told, str) and _MADE_UP.fullmatch(told) is not None


def id_in(sent: Any) -> str:
    """Return the id in an answer, a chunk or an event of a provider's."""
    held = fields(sent)
    within = fields(held.get("message"))  # of the Messages API's first event
    found = within.get("id") or held.get("id") or held.get("responseId")
    return word(found) if isinstance(found, str) else ""


def unwrapped(told: str) -> str:
    """Return what LiteLLM has wrapped; what it has not, as it is."""
    wrapper = _WRAPPED.fullmatch(told)
    if wrapper is None:
        return told
    try:
        held = base64.b64decode(wrapper[1] + "=" * (-len(wrapper[1]) % 4)).decode()
    except (ValueError, binascii.Error):
        return told
    found = _WITHIN.fullmatch(held)
    return found[1] if found is not None else told
