"""What was asked for stands in the capsule of a call, whatever way LiteLLM was called, and no more of it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import litellm
import pytest
import tripwires
from litellm_support import LITELLM_NOISE, LLM, reference_hash, run, user

from capsule_sdk import capsule_scope, flush
from capsule_sdk.adapters.litellm.asked import attribution_of

if TYPE_CHECKING:
    from conftest import Capsule, Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
ASKED: dict[str, Any] = {
    "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "say:hi"}],
    "temperature": 0.5,
    "max_tokens": 7,
    "tools": TOOLS,
    "tool_choice": "auto",
    "stop": ["x"],
    "extra_headers": {"X-Plain": "CANARY"},
    "extra_body": {"api_key": "CANARY", "top_k": 3},
    "metadata": {"note": "CANARY"},
    "user": "ana",
}


def asked(capsule: Capsule) -> dict[str, Any]:
    arguments: dict[str, Any] = capsule["execution"]["tool_calls"][0]["arguments"]
    return arguments


def calls(chain: Chain) -> list[Capsule]:
    flush()
    return [capsule for capsule in chain.capsules() if capsule["trigger"]["source"] == "litellm"]


def raw(chain: Chain) -> bytes:
    flush()
    return b"".join(path.read_bytes() for path in chain.data_dir.rglob("*") if path.is_file())


MODEL = "openai/gpt-4o"


def _router(llm: LLM) -> Any:
    deployment = {"model_name": "g", "litellm_params": {"model": MODEL, **llm.at}}
    return litellm.Router(model_list=[deployment])


WAYS: dict[str, Callable[[LLM], Any]] = {
    "sync": lambda llm: llm.ask(**ASKED),
    "stream": lambda llm: list(llm.ask(stream=True, **ASKED)),
    "async": lambda llm: run(functools.partial(llm.aask, **ASKED)),
    "router": lambda llm: _router(llm).completion(model="g", **ASKED),
    "async router": lambda llm: run(
        functools.partial(_router(llm).acompletion, model="g", **ASKED)
    ),
    "by events": lambda llm: run(
        lambda: litellm.main.acompletion(
            MODEL,
            ASKED["messages"],
            **{k: v for k, v in ASKED.items() if k != "messages"},
            **llm.at,
        )
    ),
    "fallbacks": lambda llm: llm.ask(fallbacks=["openai/gpt-4"], **ASKED),
    "retries": lambda llm: litellm.completion_with_retries(
        model=MODEL, num_retries=1, **llm.at, **ASKED
    ),
    "null": lambda llm: llm.ask(seed=None, top_p=None, timeout=9, **ASKED),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_question_is_told_alike_whatever_way_it_takes(chain: Chain, llm: LLM, way: str) -> None:
    WAYS[way](llm)
    (call,) = calls(chain)
    assert call["outcome"]["status"] == "success"
    prompt_hash = call["reasoning"]["prompt_hash"]
    assert prompt_hash == reference_hash(ASKED["messages"])
    parameters = {
        "temperature": 0.5,
        "max_tokens": 7,
        "tool_choice": "auto",
        "stop": ["x"],
        "extra_body": {"api_key": "[secret]", "top_k": 3},
    }
    digest = reference_hash(TOOLS)
    assert asked(call) == {
        "model": MODEL,
        "message_count": 2,
        "roles": ["system", "user"],
        "parameters": parameters,
        "tools": {"names": ["weather"], "digest": digest},
        "request_hash": reference_hash(
            {**parameters, "model": MODEL, "messages": prompt_hash, "tools": digest}
        ),
    }
    for word in (b"CANARY", b"be kind", b"sk-test"):
        assert word not in raw(chain)
    chain.verify()


def test_other_entry_points_say_what_they_asked_for(chain: Chain, llm: LLM) -> None:
    at = llm.at
    litellm.responses(
        model=MODEL, input="say:hi", instructions="CANARY", previous_response_id="r-1",
        tools=[{"type": "web_search_preview"}], **at,
    )  # fmt: skip
    run(
        lambda: litellm.anthropic_messages(
            model="anthropic/claude-3-5-sonnet-20240620", messages=user("say:hi"), max_tokens=5,
            system="CANARY", tools=[{"name": "w", "input_schema": {"type": "object"}}], **at,
        )
    )  # fmt: skip
    litellm.embedding(
        model="openai/text-embedding-3-small", input=["CANARY", "b"], dimensions=3, **at
    )
    litellm.rerank(model="cohere/rerank-v3.5", query="q", documents=["CANARY"], top_n=1, **at)
    litellm.speech(model="openai/tts-1", input="x", voice="alloy", **at)
    litellm.image_generation(model="openai/dall-e-3", prompt="cat", size="1024x1024", **at)
    found = [asked(call) for call in calls(chain)]
    assert [
        (told.get("roles"), told["parameters"].keys(), told.get("tools", {}).get("names"))
        for told in found
    ] == [
        (["system", "user"], {"instructions", "previous_response_id"}, ["web_search_preview"]),
        (["system", "user"], {"system", "max_tokens"}, ["w"]),
        (None, {"dimensions"}, None),
        (None, {"documents", "top_n"}, None),
        (None, {"voice"}, None),
        (None, {"size"}, None),
    ]
    assert len({told["request_hash"] for told in found}) == len(found)
    chain.verify()


@pytest.mark.parametrize("content", ["digest", "omit"])
@pytest.mark.parametrize("messages", ["hash", "full"])
def test_no_text_where_none_may_be(chain: Chain, llm: LLM, content: str, messages: str) -> None:
    chain.configure(content=content, messages=messages)
    tools = [{"type": "function", "function": {"name": "f", "description": "CANARY"}}]
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"title": "CANARY"}}}
    llm.ask(
        messages=[{"role": "system", "content": "CANARY"}, *user("CANARY say:hi")],
        tools=tools, stop="CANARY", response_format=schema,
    )  # fmt: skip
    (call,) = calls(chain)
    assert b"CANARY" not in raw(chain)
    assert ("request_hash" in asked(call)) is (content == "digest")
    assert ("messages" in asked(call)) is (content == "digest" and messages == "full")


def test_what_litellm_makes_of_the_prompt_is_asked(chain: Chain, llm: LLM) -> None:
    """Its prompt templates change the text that is sent: they are parameters, and in the hash."""
    templates: list[dict[str, Any]] = [
        {}, {"roles": {"user": {"pre_message": "U:"}}}, {"initial_prompt_value": "Be kind."},
        {"final_prompt_value": "Now:"}, {"bos_token": "<s>"}, {"eos_token": "</s>"},
        {"ensure_alternating_roles": True},
    ]  # fmt: skip
    for given in templates:
        llm.ask("same", mock_response="ok", **given)
    told = [asked(call) for call in calls(chain)]
    assert len({arguments["request_hash"] for arguments in told}) == len(templates)
    for given, arguments in zip(templates, told, strict=True):
        assert given.keys() <= arguments.get("parameters", {}).keys()


def test_a_private_call_wins_over_full(chain: Chain, llm: LLM) -> None:
    chain.configure(messages="full")
    llm.ask("CANARY", turn_off_message_logging=True)
    llm.ask("CANARY", **{"no-log": True})
    assert b"CANARY" not in raw(chain)
    llm.ask("CANARY")
    told = [asked(call) for call in calls(chain)]
    assert ["messages" in arguments for arguments in told] == [False, False, True]
    assert "continues" not in told[-1]


def test_the_whole_conversation(chain: Chain, llm: LLM) -> None:
    """System prompt, a tool call and its result, an image: each turn holds what is new."""
    chain.configure(messages="full", redact=lambda text: text.replace("PRIVATE", "####"))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages: list[Any] = [
        {"role": "system", "content": "card PRIVATE"},
        {"role": "user", "content": [{"type": "text", "text": "look PRIVATE"}, image]},
    ]
    with capsule_scope("chat", session_id="s"):
        answer = llm.ask(messages=messages, tools=TOOLS)
        messages += [answer.choices[0].message, {"role": "user", "content": "and now?"}]
        llm.ask(messages=messages, tools=TOOLS)
        call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ]
        llm.ask(messages=messages, tools=TOOLS)
    first, second, third = (asked(call) for call in calls(chain))
    ids = [call["id"] for call in calls(chain)]
    assert first["messages"][0] == {"role": "system", "content": "card ####"}
    text, picture = first["messages"][1]["content"]
    assert text == {"type": "text", "text": "look ####"}
    assert picture["image_url"]["url"]["bytes"] == 8
    assert first["tools"]["definitions"] == TOOLS
    assert second["continues"] == {
        "capsule_id": ids[0],
        "message_count": 2,
        "hash": calls(chain)[0]["reasoning"]["prompt_hash"],
    }
    assert [message["role"] for message in second["messages"]] == ["assistant", "user"]
    assert second["tools"]["definitions_in"] == third["tools"]["definitions_in"] == ids[0]
    assert third["continues"]["capsule_id"] == ids[1]
    assert third["messages"] == messages[-2:]
    assert (third["message_count"], third["roles"][-1]) == (6, "tool")
    assert b"PRIVATE" not in raw(chain)
    chain.verify()


def test_nobody_elses_capsule_is_named(chain: Chain, llm: LLM) -> None:
    """Another session, user, tenant, agent or store; and without a session another task."""
    chain.configure(messages="full")
    others: list[dict[str, Any]] = [
        {"session_id": "1"}, {"session_id": "2"}, {"session_id": "1", "user_id": "u"},
        {"session_id": "1", "tenant_id": "t"}, {"session_id": "1", "agent_id": "a"}, {}, {},
    ]  # fmt: skip
    for options in others:
        with capsule_scope("task", **options):
            llm.ask("same")
    chain.configure(messages="full")
    with capsule_scope("task", session_id="1"):
        llm.ask("same")
    assert not [call for call in calls(chain) if "continues" in asked(call)]
    with capsule_scope("task", session_id="1"):
        llm.ask("same")
    assert asked(calls(chain)[-1])["continues"]["message_count"] == 1


def test_threads_and_tasks_of_one_session_refer_to_what_is_there(chain: Chain, llm: LLM) -> None:
    chain.configure(messages="full")

    def talk(number: int) -> None:
        messages = user(f"start {number % 2}")
        for turn in range(5):
            with capsule_scope("turn", session_id="shared"):
                llm.ask(messages=messages, mock_response="ok")
            messages = [*messages, {"role": "assistant", "content": "ok"}, *user(f"{turn}")]

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flush()
    by_id = {call["id"]: call for call in calls(chain)}
    assert len(by_id) == 40

    def rebuilt(call: Capsule) -> list[Any]:
        told = asked(call)
        if "continues" not in told:
            return list(told["messages"])
        earlier = by_id[told["continues"]["capsule_id"]]
        assert earlier["reasoning"]["prompt_hash"] == told["continues"]["hash"]
        return rebuilt(earlier) + told["messages"]

    for call in by_id.values():
        assert reference_hash(rebuilt(call)) == call["reasoning"]["prompt_hash"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_remembers_nothing(chain: Chain, llm: LLM) -> None:
    chain.configure(messages="full")
    with capsule_scope("turn", session_id="s"):
        llm.ask("same", mock_response="ok")
    flush()
    child = os.fork()
    if child == 0:
        try:
            with capsule_scope("turn", session_id="s"):
                llm.ask("same", mock_response="ok")
            flush()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert ["continues" in asked(call) for call in calls(chain)] == [False, False]


def test_a_killed_process_leaves_the_whole_question(chain: Chain, llm: LLM) -> None:
    """The journal has it from the moment the call begins, and a task's arguments too."""
    from capsule_sdk import capsuled
    from capsule_sdk.recording.default import recover

    chain.configure(messages="full")
    flush()
    child = os.fork()
    if child == 0:

        @capsuled(session_id="s")
        def work(question: str, depth: int = 3) -> None:
            litellm.completion(
                model=MODEL, messages=user(question), seed=7, mock_delay=60, mock_response="x"
            )

        threading.Timer(3, os.kill, (os.getpid(), signal.SIGKILL)).start()
        work("why")
        os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    recover()
    (call,) = calls(chain)
    assert call["outcome"]["status"] == "failure"
    assert asked(call)["parameters"] == {"seed": 7, "mock_delay": 60}
    assert asked(call)["messages"] == user("why")
    assert len(asked(call)["request_hash"]) == 64
    (task,) = [capsule for capsule in chain.capsules() if capsule["type"] == "agent"]
    assert task["context"]["environment"]["arguments"] == {"question": "why", "depth": 3}


def test_strange_messages_are_left_as_they_are(chain: Chain, llm: LLM) -> None:
    """pydantic messages, tuples, generators: what LiteLLM gets is what was given."""
    chain.configure(messages="full")
    parts = iter([{"type": "text", "text": "a"}])
    message = litellm.Message(role="user", content="say:hi")
    llm.ask(messages=[message])
    llm.ask(messages=({"role": "user", "content": "say:hi"},), mock_response="ok")
    with contextlib.suppress(Exception):  # one LiteLLM takes it, the other does not
        llm.ask(messages=[{"role": "user", "content": parts}])
    told = [asked(call) for call in calls(chain)]
    assert [arguments["messages"][0]["role"] for arguments in told[:1]] == ["user"]
    assert told[0]["messages"][0]["content"] == "say:hi"
    assert all(len(arguments["request_hash"]) == 64 for arguments in told)


def test_no_code_of_the_metadata_of_a_call_runs() -> None:
    text, entries = map(tripwires.wired, (str, dict))
    given = {"metadata": entries({"session_id": text("s-1"), "user_id": text("ana")})}
    with tripwires.armed():
        named = attribution_of(given)
    assert tripwires.hits == []
    assert (named.session_id, named.user_id) == ("s-1", "ana")
