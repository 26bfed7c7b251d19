"""Refusals: whether an error says that a policy, a guardrail or a budget has refused the call.

LiteLLM maps a refusal to one class in one version and to another in the next. So what the provider said counts
as well: the codes, types and reasons in its error, wherever LiteLLM keeps them. Its message does not: it may
quote the user.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ...content.inert import held

__all__ = ["blocked"]

_cause = BaseException.__dict__["__cause__"].__get__

#: Classes of such errors.
CLASSES = frozenset(
    {
        "BlockedPiiEntityError",
        "BudgetExceededError",
        "ContentPolicyViolationError",
        "GuardrailInterventionNormalStringError",
        "GuardrailRaisedException",
        "RejectedRequestError",
    }
)

#: What providers call a refusal, in lower case and without separators.
CODES = frozenset(
    {
        "blockedprompt",
        "blocklist",
        "contentblocked",
        "contentfilter",  # OpenAI, Azure
        "contentfiltered",
        "contentmoderation",
        "contentpolicyviolation",  # OpenAI: images, moderated prompts
        "guardrailintervened",  # Bedrock
        "imagesafety",
        "moderationblocked",  # OpenAI: gpt-image
        "prohibitedcontent",  # Gemini
        "promptblocked",
        "promptblockedexception",
        "recitation",  # Gemini
        "responsibleaiconfigurationerror",
        "responsibleaipolicyviolation",  # Azure: innererror.code
        "safety",  # Gemini
        "safetyviolation",
        "spii",  # Gemini
    }
)

#: Messages that are all that a provider says of a refusal.
MESSAGES = frozenset({"Output blocked by content filtering policy"})  # Anthropic

#: Where a provider's error says what it is.
NAMES = frozenset(
    {
        "blockReason",
        "block_reason",
        "code",
        "finishReason",
        "finish_reason",
        "reason",
        "status",
        "stop_reason",
        "type",
    }
)
#: Attributes in which errors keep what the provider said.
KEPT = ("body", "error", "detail", "provider_specific_fields", "innererror")
#: How deep an error's body is looked into, how many of its values, and how many errors behind an error.
DEPTH, BREADTH, CAUSES = 6, 200, 5
#: Characters of a message that are read as JSON, and what LiteLLM puts before the body that it quotes there.
TEXT = 65_536
BODY = re.compile(r"(?:^|Exception(?: -|:)? ?)(?=\{)")


def blocked(error: BaseException, told: Any = None) -> bool:
    """Tell whether this error, or what its provider ``told``, is a refusal by policy, guardrail or budget."""
    return any(_is_refusal(one) for one in _behind(error)) or _says_so(told, DEPTH, [BREADTH])


def _behind(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and those that it was made of."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen and len(seen) < CAUSES:
        seen.add(id(found))
        yield found
        original = held(found, "original_exception")
        found = original if isinstance(original, BaseException) else _cause(found)


def _is_refusal(error: BaseException) -> bool:
    if any(kind.__name__ in CLASSES for kind in type(error).__mro__):
        return True
    said = [{name: held(error, name) for name in ("code", "type")}]
    said += [held(error, name) for name in KEPT]
    said.append(_json_in(held(error, "message")))
    left = [BREADTH]
    return any(_says_so(value, DEPTH, left) for value in said)


def _says_so(value: Any, depth: int, left: list[int]) -> bool:
    """Tell whether what a provider said holds one of the codes."""
    left[0] -= 1
    if depth == 0 or left[0] < 0:
        return False
    if type(value) is dict:
        return any(
            (name in NAMES and _is_code(item))
            or (name == "message" and type(item) is str and item in MESSAGES)
            or _says_so(item, depth - 1, left)
            for name, item in value.items()
        )
    if type(value) is list or type(value) is tuple:
        return any(_says_so(item, depth - 1, left) for item in value)
    return False


def _is_code(value: Any) -> bool:
    return type(value) is str and len(value) < 80 and re.sub(r"[\W_]", "", value).lower() in CODES


def _json_in(text: Any) -> Any:
    """Return the body of an error that its message quotes."""
    found = BODY.search(text) if type(text) is str else None
    if found is None:
        return None
    try:
        return json.JSONDecoder().raw_decode(text[found.end() :][:TEXT])[0]
    except (ValueError, RecursionError):
        return None
