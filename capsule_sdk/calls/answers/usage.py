"""Usage: the tokens that a provider reports, under any of the names they go by. Unknown stays unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from .reading import fields

__all__ = ["Tokens", "tells_reasoning", "tokens_of", "usage_in"]

_IN: Final = (
    "prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count",
    "total_input_tokens",
)  # fmt: skip
_OUT: Final = (
    "completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count",
    "total_output_tokens",
)  # fmt: skip
_CACHED: Final = (
    "cache_read_input_tokens", "prompt_cache_hit_tokens", "cachedContentTokenCount",
    "cached_content_token_count", "total_cached_tokens", "cached_tokens",
)  # fmt: skip
_REASONING: Final = (
    "reasoning_tokens", "thinking_tokens", "thoughtsTokenCount", "thoughts_token_count",
    "total_thought_tokens", "total_reasoning_tokens",
)  # fmt: skip
_REPORTS: Final = ("usage", "usage_metadata", "usageMetadata")
_DETAILS_IN: Final = ("prompt_tokens_details", "input_tokens_details")
_DETAILS_OUT: Final = ("completion_tokens_details", "output_tokens_details")
#: In the JSON of a body; in a text within it the quotation marks are escaped. Names have bounds: what a model
#: says is in the body too, and must not cost quadratic time.
_TELLS_REASONING: Final = re.compile(
    r'(?<!\\)"\w{0,40}(?:reason|thought|think)\w{0,40}token\w{0,40}"\s*:\s*[1-9]', re.IGNORECASE
)


class Tokens(NamedTuple):
    """What a provider reported: tokens in, of which from its cache; tokens out, of which reasoning."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    cached: int | None = None
    reasoning: int | None = None


def tokens_of(value: Any) -> Tokens:
    """Return the tokens of a response, an event, or the report in it.

    Client libraries fill in zeros where a provider sent nothing; a call that used no token at all does not
    exist, so zeros alone are unknown. So are zeros of cached and reasoning tokens.
    """
    found = usage_in(value)
    usage = fields(value if found is None else found)
    tokens_in, tokens_out = _first(usage, _IN), _first(usage, _OUT)
    if not tokens_in and not tokens_out:
        return Tokens()
    return Tokens(
        tokens_in,
        tokens_out,
        _detail(usage, _CACHED, _DETAILS_IN, ("cached_tokens",)),
        _detail(usage, _REASONING, _DETAILS_OUT, ("reasoning_tokens", "thinking_tokens")),
    )


def tells_reasoning(body: str) -> bool:
    """Tell whether an answer's body, as JSON, reports tokens of reasoning under any name."""
    return _TELLS_REASONING.search(body) is not None


def usage_in(value: Any) -> Any:
    """Return the report of tokens in a response or an event, under any of its names."""
    held = fields(value)
    for name in _REPORTS:
        if (found := held.get(name)) is not None:
            return found
    return None


def _first(held: Mapping[Any, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        found = held.get(name)
        if found is not None and isinstance(found, int) and type(found) is not bool and found >= 0:
            return int(found)
    return None


def _detail(
    usage: Mapping[Any, Any],
    names: tuple[str, ...],
    places: tuple[str, ...],
    within: tuple[str, ...],
) -> int | None:
    for place in places:
        details = usage.get(place)
        if details is not None and (found := _first(fields(details), within)):
            return found
    return _first(usage, names) or None
