"""The loopback provider answers the real LiteLLM on every route, and obeys its steering words.

Each test also shows the keyword arguments that bring LiteLLM to a local server.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from provider import Logged, Provider

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import asks the network

import litellm

litellm.suppress_debug_info = True

# LiteLLM's own noise: pydantic serializer warnings on stream events, HTTP clients it never closes
pytestmark = pytest.mark.filterwarnings("ignore")

GPT = "openai/gpt-4o"
CLAUDE = "anthropic/claude-sonnet-4-5"
HELLO = ["hello", " wor", "ld!"]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]

Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run a coroutine in the one loop of this module, which LiteLLM's cached clients live in."""
    with asyncio.Runner() as runner:
        yield lambda call: runner.run(_awaited(call))


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


@pytest.fixture
def to(provider: Provider) -> dict[str, Any]:
    """Give what brings any LiteLLM call here; ``max_retries=0`` keeps openai from retrying."""
    return {"api_base": provider.base_url, "api_key": "sk-loopback", "max_retries": 0}


def says(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


async def gathered(stream: Awaitable[AsyncIterator[Any]], chunks: list[Any]) -> list[Any]:
    async for chunk in await stream:
        chunks.append(chunk)  # noqa: PERF401 - what came before an error is kept
    return chunks


def texts(chunks: list[Any]) -> list[str]:
    """The pieces of text in the chunks of a chat stream."""
    return [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]


def deltas(events: list[Any]) -> list[str]:
    """The pieces of text in the events of a Responses stream."""
    return [e.delta for e in events if e.type == "response.output_text.delta"]


# --- chat ----------------------------------------------------------------------------------------


def test_chat_says_hello_world_for_twelve_tokens(provider: Provider, to: dict[str, Any], run: Run):
    answers = [
        litellm.completion(GPT, **says("plain"), **to),
        run(litellm.acompletion(GPT, **says("plain"), **to)),
        litellm.completion(CLAUDE, **says("plain"), **to),
    ]
    for answer in answers:
        assert answer.choices[0].message.content == "hello world!"
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (10, 2)
    assert Logged("chat/completions", "gpt-4o", "plain") in provider.requests
    assert Logged("messages", "claude-sonnet-4-5", "plain") in provider.requests
    assert provider.count("plain") == 3


def test_chat_offers_several_choices(to: dict[str, Any]):
    assert len(litellm.completion(GPT, n=3, **says("plain"), **to).choices) == 3


def test_chat_answers_json_when_asked(to: dict[str, Any]):
    answer = litellm.completion(GPT, response_format={"type": "json_object"}, **says("x"), **to)
    assert json.loads(answer.choices[0].message.content) == {"answer": "hello world!"}


@pytest.mark.parametrize("model", [GPT, CLAUDE])
def test_calltool_calls_the_tool_until_its_result_follows(model: str, to: dict[str, Any]):
    turns = says("calltool please")["messages"]
    asked = litellm.completion(model, messages=turns, tools=TOOLS, **to).choices[0]
    call = asked.message.tool_calls[0]
    assert asked.finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "weather",
        {"city": "Paris"},
    )
    turns += [asked.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    told = litellm.completion(model, messages=turns, tools=TOOLS, **to).choices[0]
    assert told.message.content == "hello world!"


def test_calltool_streams_the_call(to: dict[str, Any]):
    stream = litellm.completion(GPT, stream=True, tools=TOOLS, **says("calltool"), **to)
    whole = litellm.stream_chunk_builder(list(stream)).choices[0]
    assert whole.finish_reason == "tool_calls"
    assert json.loads(whole.message.tool_calls[0].function.arguments) == {"city": "Paris"}


@pytest.mark.parametrize("model", [GPT, CLAUDE, "openai/responses/gpt-4o"])
def test_chat_streams_three_chunks(model: str, to: dict[str, Any], run: Run):
    assert texts(list(litellm.completion(model, stream=True, **says("x"), **to))) == HELLO
    call = litellm.acompletion(model, stream=True, **says("x"), **to)
    assert texts(run(gathered(call, []))) == HELLO


@pytest.mark.parametrize(
    ("text", "options", "usage"),
    [
        ("x", None, None),
        ("x", {"include_usage": True}, (10, 2)),
        ("tokens7/5", {"include_usage": True}, (7, 5)),
    ],
)
def test_a_stream_tells_usage_when_asked(text, options, usage, to: dict[str, Any]):
    stream = litellm.completion(GPT, stream=True, stream_options=options, **says(text), **to)
    told = [c.usage for c in stream if getattr(c, "usage", None)]
    assert [(u.prompt_tokens, u.completion_tokens) for u in told] == ([usage] if usage else [])


# --- steering words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("say:Paris", "Paris"),
        ("echo", "gpt-4o"),
        ("long3", "word0 word1 word2"),
        ("unsay:nothing fail500x xslow9", "hello world!"),
        ("now say:yes in slow0.01 time", "yes"),
    ],
)
def test_the_text_steers_the_answer(text: str, answer: str, to: dict[str, Any]):
    assert litellm.completion(GPT, **says(text), **to).choices[0].message.content == answer
    assert "".join(texts(list(litellm.completion(GPT, stream=True, **says(text), **to)))) == answer


def test_only_the_last_user_message_steers(to: dict[str, Any]):
    turns = [
        {"role": "user", "content": "fail500"},
        {"role": "user", "content": [{"type": "text", "text": "say:fine"}]},
        {"role": "assistant", "content": "fail500"},
    ]
    answer = litellm.completion(GPT, messages=turns, **to)
    assert answer.choices[0].message.content == "fine"


def test_long_streams_as_many_chunks(to: dict[str, Any]):
    assert len(texts(list(litellm.completion(GPT, stream=True, **says("long40"), **to)))) == 40


def test_tokens_and_nousage_steer_the_usage(provider: Provider, to: dict[str, Any]):
    usage = litellm.completion(GPT, **says("tokens3/4"), **to).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 4, 7)
    assert "usage" not in post(provider, "chat/completions", **says("nousage"))[1]


def test_usagechunk_sends_usage_unasked(provider: Provider):
    assert '"prompt_tokens"' in post(provider, "completions", prompt="usagechunk", stream=True)[1]
    assert '"prompt_tokens"' not in post(provider, "completions", prompt="x", stream=True)[1]


@pytest.mark.parametrize(
    ("text", "model", "error"),
    [
        ("fail500", GPT, litellm.InternalServerError),
        ("fail500", CLAUDE, litellm.InternalServerError),
        ("fail400", GPT, litellm.BadRequestError),
        ("fail401", GPT, litellm.AuthenticationError),
        ("fail429", GPT, litellm.RateLimitError),
        ("policy400", GPT, litellm.BadRequestError),  # from 1.110 on it is no more than that
        ("drop", GPT, litellm.InternalServerError),
        ("x", "openai/bad", litellm.InternalServerError),
    ],
)
def test_failures_become_litellms_errors(text, model, error, to: dict[str, Any], run: Run):
    with pytest.raises(error):
        litellm.completion(model, **says(text), **to)
    with pytest.raises(error):
        run(litellm.acompletion(model, stream=True, **says(text), **to))


def test_slow_outlasts_a_timeout(to: dict[str, Any], run: Run):
    with pytest.raises(litellm.Timeout):
        litellm.completion(GPT, timeout=0.1, **says("slow0.5"), **to)
    with pytest.raises(litellm.Timeout):
        run(litellm.acompletion(GPT, timeout=0.1, **says("slow0.5"), **to))


@pytest.mark.parametrize("word", ["miderr", "middrop"])
def test_a_stream_breaks_after_two_chunks(word: str, to: dict[str, Any], run: Run):
    chunks: list[Any] = []
    with pytest.raises(litellm.exceptions.MidStreamFallbackError):
        chunks.extend(litellm.completion(GPT, stream=True, **says(word), **to))
    assert texts(chunks) == HELLO[:2]
    chunks = []
    with pytest.raises(litellm.exceptions.MidStreamFallbackError):
        run(gathered(litellm.acompletion(GPT, stream=True, **says(word), **to), chunks))
    assert texts(chunks) == HELLO[:2]


def test_midslow_pauses_before_the_third_chunk(to: dict[str, Any]):
    stream = litellm.completion(GPT, stream=True, **says("midslow0.3"), **to)
    began = time.monotonic()
    assert texts([next(stream), next(stream)]) == HELLO[:2]
    assert time.monotonic() - began < 0.25
    assert texts([next(stream)]) == HELLO[2:]
    assert time.monotonic() - began >= 0.29


def test_flaky_fails_as_often_as_told(provider: Provider, to: dict[str, Any], run: Run):
    del to["max_retries"]  # openai retries twice by itself, then LiteLLM does, through tenacity
    assert litellm.completion(GPT, num_retries=2, **says("flaky4-sync"), **to).choices
    assert provider.count("flaky4-sync") == 5
    assert run(litellm.acompletion(GPT, num_retries=2, **says("flaky4-async"), **to)).choices
    assert provider.count("flaky4-async") == 5


def test_flaky_counts_across_threads(provider: Provider):
    with ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(post, provider, "completions", prompt="flaky25-k") for _ in range(60)]
    assert sorted(call.result()[0] for call in calls) == [200] * 35 + [500] * 25


# --- the other routes ----------------------------------------------------------------------------


def test_text_completion(to: dict[str, Any], run: Run):
    model = "text-completion-openai/gpt-3.5-turbo-instruct"
    answer = litellm.text_completion(model=model, prompt="x", **to)
    assert (answer.choices[0].text, answer.usage.total_tokens) == ("hello world!", 12)
    stream = litellm.text_completion(model=model, prompt="x", stream=True, **to)
    assert [c.choices[0].text for c in stream if c.choices[0].text] == HELLO
    call = litellm.atext_completion(model=model, prompt="x", stream=True, **to)
    assert [c.choices[0].text for c in run(gathered(call, [])) if c.choices[0].text] == HELLO


def test_embedding(to: dict[str, Any], run: Run):
    wanted = {"model": "openai/text-embedding-3-small", "input": ["a", "b"]} | to
    for answer in (litellm.embedding(**wanted), run(litellm.aembedding(**wanted))):
        assert [e["embedding"] for e in answer.data] == [[0.1, 0.2, 0.3]] * 2
        assert answer.usage.prompt_tokens == 10


def test_images(provider: Provider, to: dict[str, Any], run: Run):
    wanted = {"model": "openai/dall-e-3", "prompt": "a cat"} | to
    assert litellm.image_generation(**wanted).data[0].url
    assert run(litellm.aimage_generation(**wanted)).data[0].url
    edit = {"model": "openai/gpt-image-1", "prompt": "say:edit", "image": io.BytesIO(b"\x89PNG")}
    assert litellm.image_edit(**edit, **to).data[0].url
    assert provider.requests[-1] == Logged("images/edits", "gpt-image-1", "say:edit")
    assert litellm.image_variation(model="openai/dall-e-2", image=b"\x89PNG", **to).data[0].url


def test_audio(provider: Provider, to: dict[str, Any], run: Run):
    heard = {"model": "openai/whisper-1", "file": ("a.wav", b"RIFF\r\n--\r\n")} | to
    assert litellm.transcription(**heard).text == "hello world!"
    assert run(litellm.atranscription(prompt="say:hey", **heard)).text == "hey"
    assert provider.requests[-1] == Logged("audio/transcriptions", "whisper-1", "say:hey")
    spoken = {"model": "openai/tts-1", "input": "x", "voice": "alloy"} | to
    assert litellm.speech(**spoken).content.startswith(b"ID3")
    assert run(litellm.aspeech(**spoken)).content.startswith(b"ID3")


def test_moderation(to: dict[str, Any], run: Run):
    del to["max_retries"]  # moderation() builds its own client of api_base and api_key alone
    assert not litellm.moderation(input="x", **to).results[0].flagged
    assert litellm.moderation(input="flagme", **to).results[0].flagged
    model = "omni-moderation-latest"
    assert run(litellm.amoderation(input="flagme", model=model, **to)).results[0].flagged


@pytest.mark.parametrize("model", ["cohere/rerank-v3.5", "jina_ai/jina-reranker-v2-base-en"])
def test_rerank(model: str, to: dict[str, Any], run: Run):
    wanted = {"model": model, "query": "x", "documents": ["a", "b", "c"], "top_n": 2} | to
    for answer in (litellm.rerank(**wanted), run(litellm.arerank(**wanted))):
        assert [r["index"] for r in answer.results] == [0, 1]
    with pytest.raises(litellm.InternalServerError):
        litellm.rerank(**wanted | {"query": "fail500"})


def test_responses(to: dict[str, Any], run: Run):
    wanted = {"model": GPT, "input": "x"} | to
    for answer in (litellm.responses(**wanted), run(litellm.aresponses(**wanted))):
        assert answer.output[0].content[0].text == "hello world!"
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 2)
    turns = [{"role": "user", "content": [{"type": "input_text", "text": "calltool"}]}]
    tools = [{"type": "function", "name": "weather", "parameters": SCHEMA}]
    asked = litellm.responses(model=GPT, input=turns, tools=tools, **to)
    assert (asked.output[0].type, asked.output[0].name) == ("function_call", "weather")
    with pytest.raises(litellm.InternalServerError):
        litellm.responses(model=GPT, input="fail500", **to)


def test_responses_stream(to: dict[str, Any], run: Run):
    wanted = {"model": GPT, "input": "x", "stream": True} | to
    for events in (
        list(litellm.responses(**wanted)),
        run(gathered(litellm.aresponses(**wanted), [])),
    ):
        assert [str(getattr(e.type, "value", e.type)) for e in events] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            *["response.output_text.delta"] * 3,
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert deltas(events) == HELLO
        assert events[-1].response.usage.total_tokens == 12


@pytest.mark.parametrize("word", ["miderr", "middrop"])
def test_a_responses_stream_breaks_after_two_deltas(word: str, to: dict[str, Any], run: Run):
    events: list[Any] = []
    call = litellm.aresponses(model=GPT, input=word, stream=True, **to)
    with pytest.raises(Exception, match=r"as told: 500|not completed"):
        run(gathered(call, events))
    assert deltas(events) == HELLO[:2]


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_anthropic_messages(model: str, to: dict[str, Any], run: Run):
    wanted = {"model": model, "max_tokens": 50} | to
    answer = run(litellm.anthropic_messages(**says("x"), **wanted))
    assert answer["content"][0]["text"] == "hello world!"
    assert answer["usage"]["output_tokens"] == 2
    with pytest.raises(litellm.InternalServerError):
        run(litellm.anthropic_messages(**says("fail500"), **wanted))


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_anthropic_messages_stream(model: str, to: dict[str, Any], run: Run):
    if model == CLAUDE:  # its stream iterator imports the proxy, hence needs litellm[proxy]
        name = "litellm.llms.anthropic.pass_through.messages.streaming_iterator"
        pytest.importorskip(name, exc_type=ModuleNotFoundError)

    def events(word: str, chunks: list[bytes]) -> list[dict[str, Any]]:
        wanted = {"model": model, "max_tokens": 50, "stream": True} | says(word) | to
        run(gathered(litellm.anthropic_messages(**wanted), chunks))
        # the chunks are bytes as the network brought them, with any number of events in each
        lines = b"".join(chunks).splitlines()
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]

    whole = events("x", [])
    said = [e["delta"]["text"] for e in whole if e["type"] == "content_block_delta"]
    assert said == HELLO
    assert (whole[0]["type"], whole[-1]["type"]) == ("message_start", "message_stop")
    assert events("miderr", [])[-1]["type"] == "error"  # an event, where chat raises an exception
    broken: list[bytes] = []
    if model == CLAUDE:
        with pytest.raises(Exception, match="not completed"):
            events("middrop", broken)
        assert b" wor" in b"".join(broken)
    else:
        assert events("middrop", broken)[-1]["type"] == "error"


# --- the server ----------------------------------------------------------------------------------


def post(provider: Any, route: str, **body: Any) -> tuple[int, str]:
    """Post without LiteLLM, and give status and body."""
    connection = http.client.HTTPConnection(provider.base_url.split("/")[2])
    try:
        connection.request("POST", f"/v1/{route}", json.dumps({"model": "m"} | body))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_routes_do_without_the_prefix_and_connections_stay_open(provider: Provider):
    connection = http.client.HTTPConnection(provider.base_url.split("/")[2])
    for path in ("/chat/completions", "/v1/chat/completions", "/v1/v1/messages?beta=true"):
        connection.request("POST", path, json.dumps({"model": "m"} | says("x")))
        answer = connection.getresponse()
        assert (answer.status, "hello world!" in answer.read().decode()) == (200, True)
        assert connection.sock is not None
    connection.close()
    assert post(provider, "nowhere")[0] == 404


def test_a_client_that_leaves_is_no_incident(provider: Provider, capfd: pytest.CaptureFixture):
    host, port = provider.base_url.split("/")[2].split(":")
    body = json.dumps({"model": "m", "stream": True} | says("midslow0.1 long50")).encode()
    for sent in (body, body[:9]):
        client = socket.create_connection((host, int(port)))
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        client.sendall(sent)
        assert sent != body or client.recv(100)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset
        client.close()
    time.sleep(0.3)
    assert capfd.readouterr().err == ""


def test_stopping_ends_what_is_under_way():
    with Provider() as provider, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, provider, "chat/completions", **says("slow30"))
        while not provider.requests:
            time.sleep(0.01)
        began = time.monotonic()
        provider.stop()
        waiting.exception()
        assert time.monotonic() - began < 5


def test_a_process_of_its_own_tells_what_it_received():
    with Provider.start_process() as provider, ThreadPoolExecutor(50) as pool:
        calls = [pool.submit(post, provider, "completions", prompt=f"n{i}") for i in range(500)]
        assert {call.result()[0] for call in calls} == {200}
        assert Logged("completions", "m", "n7") in provider.requests
        assert (provider.count("n499"), len(provider.requests)) == (1, 500)
    with pytest.raises(OSError, match="refused"):
        post(provider, "completions", prompt="x")


def test_the_script_ends_when_its_stdin_closes():
    script = [sys.executable, str(Path(__file__).with_name("provider.py")), "--port", "0"]
    done = subprocess.run(script, input=b"", capture_output=True, timeout=20, check=True)
    assert done.stdout.startswith(b"http://127.0.0.1:")
    assert done.stdout.strip().endswith(b"/v1")
    assert done.stderr == b""
