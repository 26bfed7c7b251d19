"""What a provider has told is sealed, not what LiteLLM has made of it; over HTTP, through the real LiteLLM."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import litellm
import pytest
from litellm_support import LITELLM_NOISE, LLM, calls, expect_one, run, user

if TYPE_CHECKING:
    from conftest import Capsule, Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

WORDS = "no-milk-left"


def ask(llm: LLM, route: str, answer: Any, *, streamed: bool = False, **options: Any) -> None:
    """Have the provider give this answer (JSON, a list of events, a page), and read it to its end."""
    text = (
        f"shape:{answer if isinstance(answer, str) else json.dumps(answer, separators=(',', ':'))}"
    )
    base = llm.provider.base_url
    at: dict[str, Any] = {"api_base": base, "api_key": "sk-test", **options}
    found: Any
    if route == "responses":
        found = litellm.responses(model="openai/gpt-4o", input=text, stream=streamed, **at)
    elif route == "messages":
        at["api_base"] = base.removesuffix("/v1")

        async def read() -> None:
            answer: Any = await litellm.anthropic_messages(
                model="anthropic/claude-sonnet-4-5",
                messages=user(text),
                max_tokens=50,
                stream=streamed,
                **at,
            )
            if streamed:
                async for _ in answer:
                    pass

        run(read)
        return
    elif route == "gemini":
        contents = [{"role": "user", "parts": [{"text": text}]}]
        name = "generate_content_stream" if streamed else "generate_content"
        found = getattr(litellm.google_genai, name)(
            model="gemini/gemini-2.5-flash", contents=contents, **at
        )
    else:  # a model, by completion
        if route.startswith("anthropic/"):
            at["api_base"] = base.removesuffix("/v1")
        if route.startswith("openai/"):
            at["max_retries"] = 0
        found = litellm.completion(
            model=route, messages=user(text), stream=streamed, num_retries=0, **at
        )
    if streamed:
        for _ in found:
            pass


def only(chain: Chain) -> Capsule:
    [call] = calls(chain.capsules())
    return call


# -- errors with HTTP status 200 ------------------------------------------------------------------------

ERRORS: list[Any] = [
    {"error": {"message": WORDS, "type": "server_error", "code": "503"}},
    {"error": WORDS},
    {"error": {"code": 7, "details": WORDS}},
    {"errors": [{"message": WORDS}]},
    {"detail": [{"msg": WORDS}]},
    {"object": "error", "message": WORDS, "code": 40303},
    {"id": "x", "object": "chat.completion", "choices": [], "error": {"message": WORDS}},
    f"<html>{WORDS}</html>",
]


@pytest.mark.parametrize("answer", ERRORS, ids=str)
@pytest.mark.parametrize(
    "model", ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "deepseek/deepseek-chat"]
)
def test_an_error_with_status_200_is_sealed_with_the_words_of_the_provider(
    chain: Chain, llm: LLM, model: str, answer: Any
) -> None:
    with contextlib.suppress(Exception):
        ask(llm, model, answer)
    call = only(chain)
    assert call["outcome"]["status"] == "failure"
    assert WORDS in call["outcome"]["error"]


@pytest.mark.parametrize("error", [{"message": WORDS, "code": 3}, WORDS], ids=str)
def test_an_error_that_comes_first_in_a_stream_is_sealed_with_its_words(
    chain: Chain, llm: LLM, error: Any
) -> None:
    with contextlib.suppress(Exception):
        ask(llm, "openai/gpt-4o", [{"error": error}], streamed=True)
    call = only(chain)
    assert call["outcome"]["status"] == "failure"
    assert WORDS in call["outcome"]["error"]


def test_a_refusal_with_status_200_is_blocked(chain: Chain, llm: LLM) -> None:
    with contextlib.suppress(Exception):
        ask(llm, "openai/gpt-4o", {"error": {"message": WORDS, "type": "content_filter"}})
    call = only(chain)
    assert call["outcome"]["status"] == "blocked"
    assert WORDS in call["outcome"]["error"]


def test_the_words_of_an_earlier_error_are_not_those_of_a_later_call(
    chain: Chain, llm: LLM
) -> None:
    """A call that is made while an error is handled has that error behind its own."""
    try:
        ask(llm, "openai/gpt-4o", {"error": WORDS})
    except Exception:
        with contextlib.suppress(Exception):
            llm.ask("fail500", max_retries=0)
    first, second = calls(chain.capsules())
    assert WORDS in first["outcome"]["error"]
    assert WORDS not in second["outcome"]["error"]


def test_the_words_of_an_error_are_content(chain: Chain, llm: LLM) -> None:
    chain.configure(content="digest")
    with contextlib.suppress(Exception):
        ask(llm, "openai/gpt-4o", {"error": WORDS})
    assert WORDS not in json.dumps(only(chain))


def test_an_answer_of_words_about_errors_is_none(chain: Chain, llm: LLM) -> None:
    llm.ask("say hello")
    assert expect_one(chain, None, "success")["outcome"]["error"] is None
