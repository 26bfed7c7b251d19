"""What came back: a LiteLLM response of any kind -> the facts of its answer. Unknown stays unknown.

What it says is read by `capsule_sdk.calls.answers`, which knows the wire formats; here is what LiteLLM adds
to them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ...calls.answers.reading import fields, get
from ...calls.answers.usage import Tokens, tokens_of, usage_in
from ...calls.answers.whole import Whole, read
from ...content import ContentPolicy, label
from ...records.call import Answer
from .dropped import body_of, regained, reported, sent_in
from .identities import id_in, id_of, is_made_up

__all__ = [
    "Price",
    "answer_of",
    "cost_of",
    "facts",
    "facts_of_failure",
    "headers_of",
    "request_id",
    "sealable",
    "shown",
]


#: Prices a model's tokens: (model, usage) -> dollars or None.
Price = Callable[[str, Any], float | None]


def cost_of(value: Any) -> Decimal | None:
    """Return LiteLLM's dollars, to the 15 digits that a float carries.

    LiteLLM reckons in floats: 7 tokens of $0.0000025 are 0.000017500000000000002 there.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    cost = Decimal(f"{value:.15g}") if isinstance(value, float) else Decimal(value)
    return cost if cost.is_finite() else None


def answer_of(
    response: Any,
    policy: ContentPolicy,
    price: Price,
    logging_obj: Any = None,
    address: Any = None,
    *,
    body: Any = None,
) -> Answer:
    """Return the answer that a response of any LiteLLM call holds.

    Args:
        response: what LiteLLM returns.
        policy: what of it may be sealed.
        price: prices the tokens, where LiteLLM has not done so.
        logging_obj: LiteLLM's own object for the call, which may know what the response does not tell.
        address: where LiteLLM has sent the request; what the response holds of that is a guess.
        body: the body of the provider's answer, where somebody has seen it.

    """
    hidden = get(response, "_hidden_params")
    hidden = hidden if type(hidden) is dict or isinstance(hidden, Mapping) else {}
    cached = hidden.get("cache_hit") is True
    held = fields(response)
    if cached:
        body = None
    elif body is None:
        body = body_of(logging_obj)
    tokens = reported(tokens_of(held), body)
    model = held.get("model") or get(response, "model") or hidden.get("litellm_model_name")
    cost: Decimal | None
    if cached:
        cost = Decimal(0)
    else:
        cost = cost_of(hidden.get("response_cost"))
        if cost is None and tokens.tokens_in is not None:
            cost = cost_of(price(str(model or ""), usage_in(held)))
        if not cost and tokens.tokens_in is None:
            cost = None  # zero for no usage is LiteLLM's way to say that it does not know
    whole = read(response, held)
    told, sent = held.get("id") or held.get("responseId"), None
    if isinstance(held.get("choices"), list) and not cached:
        sent = sent_in(body, translated=not is_made_up(told))
        whole = whole if sent is None else regained(whole, sent, response)
    environment = facts(
        provider=hidden.get("custom_llm_provider"),
        litellm_call_id=hidden.get("litellm_call_id"),
        api_base=shown(address),
        model_id=hidden.get("model_id"),
        response_id=id_of(told, None if sent is None else id_in(sent)),
        response_model=model or held.get("modelVersion"),
        finish_reason=whole.finish,
        provider_request_id=request_id(headers_of(response, hidden, logging_obj)),
    )
    if cached:
        environment["cache_hit"] = True
    return sealable(whole, policy, tokens, cost, environment)


def sealable(
    whole: Whole,
    policy: ContentPolicy,
    tokens: Tokens,
    cost: Decimal | None,
    environment: dict[str, Any],
) -> Answer:
    """Return what was read of an answer as ``policy`` lets it be sealed."""
    return Answer(
        result=whole.result(policy),
        tokens_in=tokens.tokens_in,
        tokens_out=tokens.tokens_out,
        cost_usd=cost,
        environment=environment,
        tokens_cached=tokens.cached,
        tokens_reasoning=tokens.reasoning,
        status=whole.verdict.status,
        error=whole.verdict.error(policy),
        ended=whole.verdict.ended,
    )


def facts(**told: Any) -> dict[str, Any]:
    """Return those facts that are told, as labels."""
    return {
        name: text for name, value in told.items() if value is not None and (text := label(value))
    }


def shown(address: Any) -> str | None:
    """Return an address as it may be sealed: without user, password and query."""
    return _shown(address if type(address) is str else str(address or ""))


@functools.lru_cache(maxsize=256)
def _shown(address: str) -> str | None:
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if not parts.netloc:
        return None
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def facts_of_failure(error: BaseException, logging_obj: Any, address: Any) -> dict[str, Any]:
    """Return whom a call that failed had gone to, and under which id the provider knows it."""
    details = fields(get(logging_obj, "model_call_details"))
    answer = get(error, "response")
    places = (
        get(error, "litellm_response_headers"),
        get(answer, "headers"),
        get(error, "headers"),
        details.get("response_headers"),
    )
    return facts(
        provider=details.get("custom_llm_provider") or get(error, "llm_provider"),
        litellm_call_id=details.get("litellm_call_id"),
        api_base=shown(address),
        provider_request_id=request_id(places),
    )


#: Headers in which providers name a request, in the order in which they are believed.
REQUEST_IDS = (
    "x-request-id", "request-id", "apim-request-id", "x-ms-request-id", "x-amzn-requestid",
    "x-amzn-request-id", "x-goog-request-id", "x-generation-id", "cf-ray",
)  # fmt: skip


def headers_of(answer: Any, hidden: Any, logging_obj: Any) -> Iterator[Any]:
    """Yield the headers of a response or stream, from the places where LiteLLM may keep them."""
    yield get(hidden, "additional_headers")
    yield get(hidden, "headers")
    yield get(answer, "_response_headers")
    details = get(logging_obj, "model_call_details")
    yield get(details, "response_headers")
    yield get(get(details, "httpx_response"), "headers")


def request_id(places: Iterable[Any]) -> str | None:
    """Return the provider's own id of the request, from headers or from what LiteLLM keeps of them."""
    for place in places:
        if not place or not (type(place) is dict or isinstance(place, Mapping)):
            continue
        for header in _naming(tuple(place)):
            found = place[header]
            if isinstance(found, str) and found:
                return str(found)
    return None


_RANKS = {name: rank for rank, name in enumerate(REQUEST_IDS)}


@functools.lru_cache(maxsize=256)
def _naming(headers: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the headers that name a request, as they are believed; a provider sends the same every time."""
    found = {
        name: header
        for header in headers
        if (name := str(header).lower().removeprefix("llm_provider-")) in _RANKS
    }
    return tuple(found[name] for name in sorted(found, key=_RANKS.__getitem__))
