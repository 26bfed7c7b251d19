"""Every other entry point of LiteLLM, too, is one capsule a call: the same in scope, status and error."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import litellm
import pytest
from litellm_support import (
    LITELLM_NOISE,
    LLM,
    expect,
    expect_one,
    reference_hash,
    run,
    usage,
    user,
)
from provider_answers import AUDIO

from capsule_sdk import capsule_scope

if TYPE_CHECKING:
    from conftest import Capsule, Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

Usage = tuple[int | None, int | None, str | None]
UNKNOWN: Usage = (None, None, None)

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
ASKED_FOR_PARIS = [{"name": "weather", "arguments": '{"city": "Paris"}'}]


def result(call: Capsule) -> Any:
    return call["outcome"]["result"]


# -- what answers as a whole -----------------------------------------------------------------------


class Route(NamedTuple):
    """An entry point: how it is called, where its prompt stands, and what a capsule says of its answer."""

    name: str
    model: str
    prompt: str
    result: Any
    usage: Usage
    options: dict[str, Any]


IMAGE = {
    "url": "http://127.0.0.1/image.png",
    "b64_json": None,
    "revised_prompt": None,
    "provider_specific_fields": None,
}
SPOKEN = {"bytes": len(AUDIO), "sha3_256": hashlib.sha3_256(AUDIO).hexdigest()}
RANKED = [{"index": 0, "relevance_score": 0.9}, {"index": 1, "relevance_score": 0.8}]
OF_TEXT = "text-completion-openai/gpt-3.5-turbo-instruct"
ROUTES = [
    Route("completion", "openai/gpt-4o", "messages", "hello world!", (10, 2, "0.000045"), {}),
    Route("text_completion", OF_TEXT, "prompt", "hello world!", (10, 2, "0.000019"), {}),
    Route("responses", "openai/gpt-4o", "input", "hello world!", (10, 2, "0.000045"), {}),
    Route(
        "embedding",
        "openai/text-embedding-3-small",
        "input",
        {"embeddings": 1, "dimensions": 3},
        (10, 0, "0.0000002"),
        {},
    ),
    Route("image_generation", "openai/dall-e-3", "prompt", [IMAGE], UNKNOWN, {}),
    Route("speech", "openai/tts-1", "input", SPOKEN, (None, None, "0.00003"), {"voice": "alloy"}),
    Route(
        "rerank",
        "cohere/rerank-english-v3.0",
        "query",
        RANKED,
        (None, None, "0.002"),
        {"documents": ["a", "b"], "return_documents": False},
    ),
]


def call_of(llm: LLM, route: Route, mode: str, text: str) -> Any:
    prompt = user(text) if route.prompt == "messages" else text
    given = {**llm.at, **route.options, "model": route.model, route.prompt: prompt}
    if route.name == "rerank":
        given["api_base"] += "/rerank"
    if route.name == "responses":
        del given["max_retries"]
    if mode == "sync":
        return getattr(litellm, route.name)(**given)
    return run(lambda: getattr(litellm, f"a{route.name}")(**given))


def names(route: Route) -> str:
    return route.name


@pytest.mark.parametrize("route", ROUTES, ids=names)
def test_an_answer(chain: Chain, llm: LLM, route: Route, mode: str) -> None:
    with capsule_scope("plan", authority="policy"):
        call_of(llm, route, mode, "hi")
    call_of(llm, route, mode, "hi")
    inside, outside = expect(chain, [("plan", "success"), (None, "success")])
    assert (inside["authority"]["type"], outside["authority"]["type"]) == ("policy", "autonomous")
    for call in (inside, outside):
        assert result(call) == route.result
        assert usage(call) == route.usage
        assert call["trigger"]["request"] == "hi"
        assert call["reasoning"]["model"] == route.model
        assert call["reasoning"]["prompt_hash"] == reference_hash(
            user("hi") if route.prompt == "messages" else "hi"
        )
        name = route.name if mode == "sync" else f"a{route.name}"
        assert call["context"]["environment"]["call_type"] == name
        assert call["execution"]["tool_calls"][0]["tool"] == f"litellm.{name}"


@pytest.mark.parametrize("route", ROUTES, ids=names)
def test_an_error(chain: Chain, llm: LLM, route: Route, mode: str) -> None:
    with capsule_scope("plan"), pytest.raises(Exception, match="as told: 500") as caught:
        call_of(llm, route, mode, "fail500")
    call = expect_one(chain, "plan", "failure")
    assert call["outcome"]["error"] == f"{caught.type.__name__}: {caught.value}"
    assert result(call) is None
    assert usage(call) == UNKNOWN


@pytest.mark.parametrize("route", ROUTES, ids=names)
def test_beside_a_sync_callback(chain: Chain, llm: LLM, route: Route) -> None:
    """With one there, LiteLLM reports the end of many async calls twice."""
    litellm.success_callback = [lambda kwargs, completion_response, start, end: None]
    call_of(llm, route, "async", "hi")
    with pytest.raises(Exception, match="as told: 500"):
        call_of(llm, route, "async", "fail500")
    expect(chain, [(None, "success"), (None, "failure")])


def test_transcription(chain: Chain, llm: LLM, mode: str) -> None:
    recording = io.BytesIO(b"RIFF....WAVE")
    recording.name = "call.wav"
    model = "openai/whisper-1"
    if mode == "sync":
        litellm.transcription(model=model, file=recording, **llm.at)
    else:
        run(lambda: litellm.atranscription(model=model, file=recording, **llm.at))
    call = expect_one(chain, None, "success")
    assert result(call) == "hello world!"
    assert usage(call) == (None, None, "0.0001")
    assert call["trigger"]["request"] == "[call.wav]"
    digest = hashlib.sha3_256(b"RIFF....WAVE").hexdigest()
    assert call["reasoning"]["prompt_hash"] == reference_hash({"bytes": 12, "sha3_256": digest})


def test_transcription_of_bytes_and_a_failure(chain: Chain, llm: LLM) -> None:
    litellm.transcription(model="openai/whisper-1", file=("a.wav", b"RIFF"), **llm.at)
    litellm.transcription(model="openai/whisper-1", file=b"RIFF", **llm.at)
    with pytest.raises(Exception, match="as told: 500"):
        litellm.transcription(
            model="openai/whisper-1", file=("a.wav", b"RIFF"), prompt="fail500", **llm.at
        )
    found = expect(chain, [(None, "success")] * 2 + [(None, "failure")])
    requests = [call["trigger"]["request"] for call in found]
    assert requests == ["[a.wav]", "[4 bytes]", "fail500"]


def test_speech_can_still_be_read(chain: Chain, llm: LLM) -> None:
    answer = litellm.speech(model="openai/tts-1", input="hi", voice="alloy", **llm.at)
    assert answer.read() == answer.content == AUDIO
    expect_one(chain, None, "success")


def test_moderation(chain: Chain, llm: LLM, mode: str) -> None:
    """The sync function tells LiteLLM's hooks nothing at all."""

    def moderate(text: str) -> Any:
        given = {"model": "omni-moderation-latest", "input": text}
        at = {name: llm.at[name] for name in ("api_base", "api_key")}
        if mode == "sync":
            return litellm.moderation(**given, **at)
        return run(lambda: litellm.amoderation(**given, **at))

    litellm.success_callback = [lambda kwargs, completion_response, start, end: None]
    with capsule_scope("plan"):
        moderate("hi")
        moderate("hi flagme")
    with pytest.raises(Exception, match="as told: 500"):
        moderate("fail500")
    fine, flagged, failed = expect(chain, [("plan", "success")] * 2 + [(None, "failure")])
    assert [result(call)[0]["flagged"] for call in (fine, flagged)] == [False, True]
    assert usage(fine) == UNKNOWN
    assert flagged["reasoning"]["prompt_hash"] == reference_hash("hi flagme")
    assert "as told: 500" in failed["outcome"]["error"]


def test_texts_of_an_embedding(chain: Chain, llm: LLM) -> None:
    texts = ["erstens", "zweitens"]
    litellm.embedding(model="openai/text-embedding-3-small", input=texts, **llm.at)
    call = expect_one(chain, None, "success")
    assert result(call) == {"embeddings": 2, "dimensions": 3}
    assert call["trigger"]["request"] == "erstens\nzweitens"
    assert call["reasoning"]["prompt_hash"] == reference_hash(texts)
    assert call["execution"]["tool_calls"][0]["arguments"]["message_count"] == 2


def test_image_edit(chain: Chain, llm: LLM) -> None:
    image = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    image.name = "cat.png"
    litellm.image_edit(model="openai/gpt-image-1", image=image, prompt="a hat", **llm.at)
    call = expect_one(chain, None, "success")
    assert result(call) == [IMAGE]
    assert call["trigger"]["request"] == "a hat"


# -- text completion, streamed ---------------------------------------------------------------------


@pytest.mark.parametrize("model", [OF_TEXT, "openai/gpt-4o"])
def test_text_completion_streamed(chain: Chain, llm: LLM, mode: str, model: str) -> None:
    """Of a chat model LiteLLM makes a chat of it, which is the same call."""
    given = {**llm.at, "model": model, "prompt": "hi", "stream": True}

    async def read() -> str:
        stream = await litellm.atext_completion(**given)
        return "".join([chunk.choices[0].text or "" async for chunk in stream])

    with capsule_scope("plan"):
        if mode == "sync":
            stream = litellm.text_completion(**given)
            text = "".join(chunk.choices[0].text or "" for chunk in stream)
        else:
            text = run(read)
    assert text == "hello world!"
    call = expect_one(chain, "plan", "success")
    assert result(call) == "hello world!"
    assert usage(call) == UNKNOWN


@pytest.mark.parametrize("model", [OF_TEXT, "openai/gpt-4o"])
def test_text_completion_abandoned(chain: Chain, llm: LLM, model: str) -> None:
    stream = litellm.text_completion(model=model, prompt="hi", stream=True, **llm.at)
    next(stream)
    del stream
    call = expect_one(chain, None, "partial", within=0.1)
    assert result(call) == "hello"


# -- responses -------------------------------------------------------------------------------------


class Responses:
    """Reads ``litellm.responses`` or ``litellm.aresponses``, streamed."""

    def __init__(self, llm: LLM, mode: str) -> None:
        self._at = {name: llm.at[name] for name in ("api_base", "api_key")}
        self._mode = mode

    def read(self, text: str, steps: int | None = None, **options: Any) -> list[str]:
        given = {**self._at, "model": "openai/gpt-4o", "input": text, "stream": True, **options}
        if self._mode == "async":
            return run(lambda: self._aread(given, steps))
        kinds: list[str] = []
        for event in litellm.responses(**given):
            kinds.append(str(event.type))
            if len(kinds) == steps:
                break
        return kinds

    @staticmethod
    async def _aread(given: dict[str, Any], steps: int | None) -> list[str]:
        kinds: list[str] = []
        async for event in await litellm.aresponses(**given):
            kinds.append(str(event.type))
            if len(kinds) == steps:
                break
        return kinds


@pytest.fixture
def responses(llm: LLM, mode: str) -> Responses:
    return Responses(llm, mode)


def test_responses_streamed(chain: Chain, responses: Responses) -> None:
    """LiteLLM reports the end of each twice, once without any context."""
    with capsule_scope("plan"):
        assert len(responses.read("hi")) > 5
    call = expect_one(chain, "plan", "success")
    assert result(call) == "hello world!"
    assert usage(call) == (10, 2, "0.000045")
    assert call["reasoning"]["prompt_hash"] == reference_hash("hi")


def test_responses_streamed_ask_for_tools(chain: Chain, responses: Responses) -> None:
    tool = {"type": "function", "name": "weather", "parameters": PARAMETERS}
    responses.read("calltool", tools=[tool])
    assert result(expect_one(chain, None, "success"))["tool_calls"] == ASKED_FOR_PARIS


@pytest.mark.parametrize("prompt", ["miderr", "middrop"])
def test_responses_with_an_error_in_the_middle(
    chain: Chain, responses: Responses, prompt: str
) -> None:
    with (
        capsule_scope("plan"),
        pytest.raises(Exception, match="as told|closed|completed") as caught,
    ):
        responses.read(prompt)
    call = expect_one(chain, "plan", "failure")
    assert result(call) == "hello wor"
    assert call["outcome"]["error"] == f"{caught.type.__name__}: {caught.value}"
    assert usage(call) == UNKNOWN


@pytest.mark.parametrize(("steps", "text"), [(1, ""), (5, "hello")])
def test_responses_abandoned(chain: Chain, responses: Responses, steps: int, text: str) -> None:
    responses.read("hi", steps=steps)
    call = expect_one(chain, None, "partial", within=0.1)
    assert call["outcome"]["metrics"]["ended"] == "abandoned"
    assert result(call) == text
    assert usage(call) == UNKNOWN


def test_responses_whole(chain: Chain, llm: LLM) -> None:
    tool = {"type": "function", "name": "weather", "parameters": PARAMETERS}
    at = {"model": "openai/gpt-4o", "api_base": llm.at["api_base"], "api_key": "sk-test"}
    messages = [{"role": "user", "content": [{"type": "input_text", "text": "calltool"}]}]
    litellm.responses(input=messages, tools=[tool], **at)
    litellm.responses(input="hi", mock_response="mocked", **at)
    run(lambda: litellm.aresponses(input="hi", mock_response="mocked", **at))
    asked, *mocked = expect(chain, [(None, "success")] * 3)
    assert result(asked)["tool_calls"] == ASKED_FOR_PARIS
    assert asked["trigger"]["request"] == "calltool"
    assert asked["reasoning"]["prompt_hash"] == reference_hash(messages)
    assert [result(call) for call in mocked] == ["mocked"] * 2


# -- messages --------------------------------------------------------------------------------------


@pytest.fixture(params=["anthropic/claude-sonnet-4-5", "openai/gpt-4o"])
def messages(request: pytest.FixtureRequest, llm: LLM) -> Callable[..., Any]:
    """``litellm.anthropic_messages`` on a provider that speaks it, and on one for which LiteLLM translates."""
    at = {"model": request.param, "api_key": "sk-test", "max_tokens": 50}
    at["api_base"] = llm.provider.base_url
    if request.param.startswith("anthropic/"):
        at["api_base"] = llm.provider.base_url.removesuffix("/v1")
    return lambda text, **options: litellm.anthropic_messages(
        messages=user(text), **{**at, **options}
    )


async def _read(stream: AsyncIterator[Any]) -> bytes:
    return b"".join([chunk async for chunk in stream])


TOOL = {"name": "weather", "input_schema": PARAMETERS}
PRICES = {"anthropic": "0.00006", "openai": "0.000045"}


def price(call: Capsule) -> str:
    return PRICES[call["context"]["environment"]["provider"]]


def test_messages(chain: Chain, messages: Callable[..., Any]) -> None:
    with capsule_scope("plan"):
        answer = run(lambda: messages("hi"))
    assert answer["content"][0]["text"] == "hello world!"
    call = expect_one(chain, "plan", "success")
    assert result(call) == "hello world!"
    assert usage(call) == (10, 2, price(call))
    assert call["reasoning"]["prompt_hash"] == reference_hash(user("hi"))


def test_messages_streamed(chain: Chain, messages: Callable[..., Any]) -> None:
    async def main() -> bytes:
        return await _read(await messages("hi", stream=True))

    with capsule_scope("plan"):
        assert b"message_stop" in run(main)
    call = expect_one(chain, "plan", "success")
    assert result(call) == "hello world!"
    assert usage(call) == (10, 2, price(call))
    assert call["context"]["environment"]["finish_reason"] == "end_turn"


def test_messages_ask_for_tools(chain: Chain, messages: Callable[..., Any]) -> None:
    async def main() -> None:
        await messages("calltool", tools=[TOOL])
        await _read(await messages("calltool", tools=[TOOL], stream=True))

    run(main)
    for call in expect(chain, [(None, "success")] * 2):
        [asked] = result(call)["tool_calls"]
        assert asked["name"] == "weather"
        assert asked["arguments"].replace(" ", "") == '{"city":"Paris"}'
        assert result(call)["finish_reason"] == "tool_use"


def test_messages_fail(chain: Chain, messages: Callable[..., Any]) -> None:
    async def main() -> None:
        with pytest.raises(litellm.InternalServerError):
            await messages("fail500")
        with pytest.raises(litellm.InternalServerError):
            await messages("fail500", stream=True)

    run(main)
    for call in expect(chain, [(None, "failure")] * 2):
        assert "as told: 500" in call["outcome"]["error"]


def test_messages_with_an_error_event(chain: Chain, messages: Callable[..., Any]) -> None:
    """The stream ends as if nothing had been: the ``event: error`` frame is all there is."""

    async def main() -> bytes:
        return await _read(await messages("miderr", stream=True))

    with capsule_scope("plan"):
        assert b"event: error" in run(main)
    call = expect_one(chain, "plan", "failure")
    assert "as told: 500" in call["outcome"]["error"]
    assert result(call) == "hello wor"
    assert call["execution"]["tool_calls"][0]["success"] is False


def test_messages_abandoned(chain: Chain, messages: Callable[..., Any]) -> None:
    async def main() -> None:
        async for _ in await messages("midslow0.2", stream=True):
            break

    run(main)
    call = expect_one(chain, None, "partial", within=0.3)
    assert call["outcome"]["metrics"]["ended"] in ("abandoned", "closed")
    assert "hello world!".startswith(result(call))


def test_messages_cancelled(chain: Chain, messages: Callable[..., Any]) -> None:
    async def main() -> None:
        stream = await messages("midslow2", stream=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_read(stream), 0.5)

    run(main)
    call = expect_one(chain, None, "partial", within=0.3)
    assert call["outcome"]["metrics"]["ended"] == "cancelled"
    assert result(call) == "hello wor"


def test_messages_by_their_other_names(chain: Chain, llm: LLM) -> None:
    given = {**llm.at, "model": "openai/gpt-4o", "messages": user("hi"), "max_tokens": 50}
    del given["max_retries"]
    litellm.anthropic.messages.create(**given)
    run(lambda: litellm.anthropic.messages.acreate(**given))
    for call in expect(chain, [(None, "success")] * 2):
        assert result(call) == "hello world!"
        assert usage(call) == (10, 2, "0.000045")


# -- generate_content ------------------------------------------------------------------------------


@pytest.fixture
def contents(llm: LLM) -> Callable[..., Any]:
    """Arguments of ``generate_content``, for a provider for which LiteLLM makes a chat of it."""
    at = {name: llm.at[name] for name in ("api_base", "api_key")}
    return lambda text: {
        "model": "openai/gpt-4o",
        "contents": [{"role": "user", "parts": [{"text": text}]}],
        **at,
    }


def test_generate_content(chain: Chain, contents: Callable[..., Any], mode: str) -> None:
    genai: Any = litellm.google_genai

    def generate(text: str) -> Any:
        if mode == "sync":
            return genai.generate_content(**contents(text))
        return run(lambda: genai.agenerate_content(**contents(text)))

    with capsule_scope("plan"):
        generate("hi")
        # LiteLLM changes its mind about the class
        with pytest.raises(
            (litellm.APIConnectionError, litellm.InternalServerError), match="as told: 500"
        ):
            generate("fail500")
    call, failed = expect(chain, [("plan", "success"), ("plan", "failure")])
    assert result(call) == "hello world!"
    assert usage(call) == (10, 2, "0.000045")
    assert call["trigger"]["request"] == "hi"
    assert call["context"]["environment"]["finish_reason"] == "STOP"
    assert "as told: 500" in failed["outcome"]["error"]


def test_generate_content_streamed(chain: Chain, contents: Callable[..., Any]) -> None:
    async def main() -> None:
        stream = await litellm.google_genai.agenerate_content_stream(**contents("hi"))
        assert [chunk async for chunk in stream]
        stream = await litellm.google_genai.agenerate_content_stream(**contents("hi"))
        await anext(stream)

    with capsule_scope("plan"):
        run(main)
    whole, part = expect(chain, [("plan", "success"), ("plan", "partial")], within=0.1)
    assert (result(whole), result(part)) == ("hello world!", "hello")


# -- bridges ---------------------------------------------------------------------------------------


def test_chat_over_the_responses_api(chain: Chain, llm: LLM, mode: str) -> None:
    given = {**llm.at, "model": "openai/responses/gpt-4o", "messages": user("hi")}

    async def amain() -> None:
        await litellm.acompletion(**given)
        assert [chunk async for chunk in await litellm.acompletion(stream=True, **given)]
        with pytest.raises(litellm.InternalServerError):
            await litellm.acompletion(**{**given, "messages": user("fail500")})

    with capsule_scope("plan"):
        if mode == "async":
            run(amain)
        else:
            litellm.completion(**given)
            assert list(litellm.completion(stream=True, **given))
            with pytest.raises(litellm.InternalServerError):
                litellm.completion(**{**given, "messages": user("fail500")})
    *answered, failed = expect(chain, [("plan", "success")] * 2 + [("plan", "failure")])
    for call in answered:
        assert result(call) == "hello world!"
        assert usage(call) == (10, 2, "0.000045")
        assert call["reasoning"]["prompt_hash"] == reference_hash(user("hi"))
    assert "as told: 500" in failed["outcome"]["error"]
    assert llm.provider.requests[-1].route == "responses"


def test_chat_with_anthropic(chain: Chain, llm: LLM, mode: str) -> None:
    at = {**llm.at, "api_base": llm.provider.base_url.removesuffix("/v1")}
    given = {**at, "model": "anthropic/claude-sonnet-4-5"}

    def read(text: str) -> list[Any]:
        if mode == "sync":
            return list(litellm.completion(messages=user(text), stream=True, **given))
        return run(lambda: aread(text))

    async def aread(text: str) -> list[Any]:
        stream = await litellm.acompletion(messages=user(text), stream=True, **given)
        return [chunk async for chunk in stream]

    read("hi")
    with pytest.raises(Exception, match="as told: 500"):
        read("miderr")
    answered, failed = expect(chain, [(None, "success"), (None, "failure")])
    assert (result(answered), usage(answered)) == ("hello world!", (10, 2, "0.00006"))
    assert result(failed) == "hello wor"


# -- batches ---------------------------------------------------------------------------------------


def test_a_batch_in_its_callers_scope(chain: Chain, llm: LLM) -> None:
    prompts = [user("hi"), user("fail500"), user("say:ho")]
    with capsule_scope("plan", agent_id="trader", authority="policy"):
        answers = litellm.batch_completion(model="openai/gpt-4o", messages=prompts, **llm.at)
    assert isinstance(answers[1], litellm.InternalServerError)
    found = expect(chain, [("plan", "success")] * 2 + [("plan", "failure")])
    assert {result(call) for call in found} == {"hello world!", "ho", None}
    assert {call["context"]["agent_id"] for call in found} == {"trader"}
    assert {call["authority"]["type"] for call in found} == {"policy"}
    hashes = {call["reasoning"]["prompt_hash"] for call in found}
    assert hashes == {reference_hash(prompt) for prompt in prompts}


def test_a_batch_outside_every_scope(chain: Chain, llm: LLM) -> None:
    litellm.batch_completion(model="openai/gpt-4o", messages=[user("hi")] * 2, **llm.at)
    expect(chain, [(None, "success")] * 2)


def test_a_batch_of_models_all_answers(chain: Chain, llm: LLM) -> None:
    models = ["openai/gpt-4o", "openai/bad", "openai/gpt-4o-mini"]
    with capsule_scope("plan"):
        answers = litellm.batch_completion_models_all_responses(
            models=models, messages=user("hi"), **llm.at
        )
    assert len(answers) == 2
    found = expect(chain, [("plan", "success")] * 2 + [("plan", "failure")])
    assert {call["reasoning"]["model"] for call in found} == set(models)


def test_a_batch_of_models_first_answer(chain: Chain, llm: LLM) -> None:
    """LiteLLM does not wait for the others, which end like any call."""
    with capsule_scope("plan"):
        answer = litellm.batch_completion_models(
            models=["openai/gpt-4o", "openai/bad"], messages=user("hi"), **llm.at
        )
    assert answer.choices[0].message.content == "hello world!"
    expect(chain, [("plan", "success"), ("plan", "failure")], within=1.0)
