"""What came back: a LiteLLM response of any kind -> the facts of its answer. Unknown stays unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from ...content import ContentPolicy, canonical, label, safe
from ...records.call import Answer

__all__ = [
    "Answered",
    "Price",
    "answer_of",
    "cost_of",
    "genai_candidate",
    "get",
    "of_choices",
    "usage_in",
    "usage_of",
]

#: What the Gemini API calls its tokens, as JSON and as an object.
GENAI_TOKENS_IN = ("promptTokenCount", "prompt_token_count")
GENAI_TOKENS_OUT = ("candidatesTokenCount", "candidates_token_count")

#: Prices a model's tokens: (model, usage) -> dollars or None.
Price = Callable[[str, Any], float | None]


def usage_of(value: Any) -> tuple[int | None, int | None]:
    """Return (tokens in, tokens out) as the provider reported them.

    LiteLLM fills in zeros where a provider sent nothing; a call that used no token at all does not exist,
    so zeros alone are unknown.
    """
    found = usage_in(value)
    usage = value if found is None else found
    tokens_in = _first_int(usage, "prompt_tokens", "input_tokens", *GENAI_TOKENS_IN)
    tokens_out = _first_int(usage, "completion_tokens", "output_tokens", *GENAI_TOKENS_OUT)
    if not tokens_in and not tokens_out:
        return None, None
    return tokens_in, tokens_out


def usage_in(value: Any) -> Any:
    """Return the report of tokens in a response or an event, under any of its names."""
    names = ("usage", "usage_metadata", "usageMetadata")
    return next((found for name in names if (found := get(value, name)) is not None), None)


def _first_int(value: Any, *names: str) -> int | None:
    for name in names:
        found = get(value, name)
        if isinstance(found, int) and not isinstance(found, bool):
            return found
    return None


def cost_of(value: Any) -> Decimal | None:
    """Return LiteLLM's dollars, to the 15 digits that a float carries.

    LiteLLM reckons in floats: 7 tokens of $0.0000025 are 0.000017500000000000002 there.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    cost = Decimal(f"{value:.15g}") if isinstance(value, float) else Decimal(value)
    return cost if cost.is_finite() else None


def answer_of(response: Any, policy: ContentPolicy, price: Price) -> Answer:
    """Return the answer that a response of any LiteLLM call holds."""
    hidden = get(response, "_hidden_params")
    hidden = hidden if isinstance(hidden, Mapping) else {}
    cached = hidden.get("cache_hit") is True
    tokens_in, tokens_out = usage_of(response)
    model = get(response, "model") or hidden.get("litellm_model_name")
    cost: Decimal | None
    if cached:
        cost = Decimal(0)
    else:
        cost = cost_of(hidden.get("response_cost"))
        if cost is None and tokens_in is not None:
            cost = cost_of(price(str(model or ""), usage_in(response)))
        if not cost and tokens_in is None:
            cost = None  # zero for no usage is LiteLLM's way to say that it does not know
    result, finish = _result_of(response, policy)
    environment = _facts(
        provider=hidden.get("custom_llm_provider"),
        litellm_call_id=hidden.get("litellm_call_id"),
        api_base=hidden.get("api_base"),
        model_id=hidden.get("model_id"),
        response_id=get(response, "id"),
        response_model=model,
        finish_reason=finish,
    )
    if cached:
        environment["cache_hit"] = True
    return Answer(
        result=result,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_usd=cost,
        environment=environment,
    )


def _facts(**facts: Any) -> dict[str, Any]:
    return {name: label(value) for name, value in facts.items() if value not in (None, "")}


def _result_of(response: Any, policy: ContentPolicy) -> tuple[Any, str | None]:
    """Return what may be sealed of a response, and why the model stopped."""
    choices = get(response, "choices")
    if isinstance(choices, list):
        return of_choices([_choice(choice) for choice in choices], policy)
    candidates = get(response, "candidates")
    if isinstance(candidates, list):
        return of_choices([genai_candidate(item, Answered()) for item in candidates], policy)
    output = get(response, "output")
    if isinstance(output, list):
        return of_choices([_responses_output(output)], policy)
    content = get(response, "content")
    if isinstance(response, Mapping) and isinstance(content, list):
        return of_choices([_anthropic_content(content, response.get("stop_reason"))], policy)
    return _other_result(response, policy), None


class Answered:
    """One choice of an answer, put together from a response or from the pieces of a stream."""

    __slots__ = ("finish", "texts", "tools")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.tools: dict[Any, dict[str, str]] = {}
        self.finish: str | None = None

    def text(self, piece: Any) -> None:
        """Add a piece of text."""
        if isinstance(piece, str) and piece:
            self.texts.append(piece)

    def tool(self, key: Any, name: Any, arguments: Any) -> None:
        """Add a piece of a tool call: its name, and so much of its arguments."""
        call = self.tools.setdefault(key, {"name": "", "arguments": ""})
        if isinstance(name, str) and name:
            call["name"] = name
        if isinstance(arguments, str):
            call["arguments"] += arguments
        elif arguments:
            call["arguments"] += canonical(safe(arguments))

    def sealed(self, policy: ContentPolicy) -> Any:
        """Return the text; with tool calls and the reason to stop where the model asked for tools."""
        text = policy.text("".join(self.texts))
        if not self.tools:
            return text
        return {
            "text": text,
            "tool_calls": [
                {"name": label(call["name"]), "arguments": policy.text(call["arguments"])}
                for call in self.tools.values()
            ],
            "finish_reason": label(self.finish) if self.finish else None,
        }


def of_choices(choices: list[Answered], policy: ContentPolicy) -> tuple[Any, str | None]:
    """Return the result of one choice, or the list of them, and the first reason to stop."""
    finish = next((choice.finish for choice in choices if choice.finish), None)
    results = [choice.sealed(policy) for choice in choices]
    return (results[0] if len(results) == 1 else results), finish


def _choice(choice: Any) -> Answered:
    answered = Answered()
    message = get(choice, "message")
    answered.text(get(message, "content") if message is not None else get(choice, "text"))
    for index, call in enumerate(get(message, "tool_calls") or ()):
        function = get(call, "function")
        answered.tool(index, get(function, "name"), get(function, "arguments"))
    legacy = get(message, "function_call")
    if legacy is not None:
        answered.tool("function_call", get(legacy, "name"), get(legacy, "arguments"))
    finish = get(choice, "finish_reason")
    answered.finish = str(finish) if finish else None
    return answered


def _responses_output(output: list[Any]) -> Answered:
    answered = Answered()
    for index, item in enumerate(output):
        if get(item, "type") == "function_call":
            answered.tool(index, get(item, "name"), get(item, "arguments"))
            answered.finish = "tool_calls"
        for part in get(item, "content") or ():
            answered.text(get(part, "text"))
    return answered


def _anthropic_content(content: list[Any], stop: Any) -> Answered:
    answered = Answered()
    for index, block in enumerate(content):
        if get(block, "type") == "tool_use":
            answered.tool(index, get(block, "name"), get(block, "input"))
        answered.text(get(block, "text"))
    answered.finish = str(stop) if stop else None
    return answered


def genai_candidate(candidate: Any, answered: Answered) -> Answered:
    """Add what a candidate of the Gemini API says, or a piece of one that is streamed."""
    for part in get(get(candidate, "content"), "parts") or ():
        answered.text(get(part, "text"))
        call = get(part, "functionCall") or get(part, "function_call")
        if call is not None:
            answered.tool(len(answered.tools), get(call, "name"), get(call, "args"))
    finish = get(candidate, "finishReason") or get(candidate, "finish_reason")
    if finish:
        answered.finish = str(getattr(finish, "value", finish))
    return answered


def _other_result(response: Any, policy: ContentPolicy) -> Any:
    """Return the result of what is no chat: vectors by their shape, bytes by digest, the rest as it is."""
    content = get(response, "content")
    if isinstance(content, bytes):
        return policy.value(content)
    text = get(response, "text")
    if isinstance(text, str):
        return policy.text(text)
    results = get(response, "results")
    if isinstance(results, list):
        return policy.value([_plain(item) for item in results])
    data = get(response, "data")
    if isinstance(data, list):
        vectors = [get(item, "embedding") for item in data]
        if vectors and isinstance(vectors[0], list | str):
            return {"embeddings": len(vectors), "dimensions": len(vectors[0])}
        return policy.value([_plain(item) for item in data])
    return policy.value(_plain(response))


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else value


def get(value: Any, name: str) -> Any:
    """Return an attribute or an entry; ``None`` where there is none or reading it fails."""
    if isinstance(value, Mapping):
        return value.get(name)
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - a property of a foreign response object may raise anything
        return None
