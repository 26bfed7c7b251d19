"""A call to a model is one capsule: what it says, what it hangs under, and that the caller notices nothing."""

from __future__ import annotations

import asyncio
import inspect
import traceback
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import litellm
import pytest
import wrapt
from litellm_support import (
    CANCELLERS,
    LITELLM_NOISE,
    LLM,
    expect,
    expect_one,
    reference_hash,
    run,
    usage,
    user,
)

from capsule_sdk import capsule_scope, capsuled
from capsule_sdk.adapters.litellm.answered import answer_of
from capsule_sdk.adapters.litellm.flight import current
from capsule_sdk.content import ContentPolicy

if TYPE_CHECKING:
    from conftest import Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

Ask = Callable[..., Any]

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


# -- what the capsule says -------------------------------------------------------------------------


def test_outside_every_scope(chain: Chain, ask: Ask) -> None:
    assert ask("hi").choices[0].message.content == "hello world!"
    call = expect_one(chain, None, "success")
    assert call["type"] == "chat"
    assert (call["domain"], call["context"]["agent_id"]) == ("chat", "litellm")
    assert call["trigger"]["type"] == "user_request"
    assert call["authority"]["type"] == "autonomous"
    assert usage(call) == (10, 2, "0.000045")


def test_every_section(chain: Chain, ask: Ask) -> None:
    messages = [{"role": "system", "content": "Sei höflich 🙂"}, *user("first"), *user("hi")]
    with capsule_scope(
        "plan",
        agent_id="trader",
        domain="finance",
        session_id="s-1",
        user_id="u-1",
        correlation_id="c-1",
        tenant_id="t-1",
        environment={"desk": "rates"},
        authority="human-approved",
        approver="ana@example.com",
    ) as task:
        answer = ask(messages=messages)
    call = expect_one(chain, "plan", "success")
    name = call["context"]["environment"]["call_type"]
    assert name in ("completion", "acompletion")

    assert call["parent_id"] == str(task.id)
    assert call["domain"] == "finance"
    trigger, context = call["trigger"], call["context"]
    assert trigger["type"] == "agent"
    assert trigger["source"] == "litellm"
    assert trigger["request"] == "hi"
    assert (trigger["user_id"], trigger["correlation_id"]) == ("u-1", "c-1")
    assert trigger["timestamp"].endswith("+00:00")
    assert (context["agent_id"], context["session_id"]) == ("trader", "s-1")
    facts = {
        "model": "openai/gpt-4o",
        "stream": False,
        "provider": "openai",
        "response_model": "gpt-4o",
        "response_id": answer.id,
        "litellm_call_id": answer._hidden_params["litellm_call_id"],
        "finish_reason": "stop",
        "attempts": 1,
        "desk": "rates",
        "tenant_id": "t-1",
    }
    assert context["environment"].items() >= facts.items()
    reasoning = call["reasoning"]
    assert reasoning["model"] == "openai/gpt-4o"
    assert reasoning["prompt_hash"] == reference_hash(messages)
    assert reasoning["selected_option"] == name
    assert name in reasoning["analysis"]
    assert reasoning["confidence"] == 0.0
    assert call["authority"]["type"] == "human_approved"
    assert call["authority"]["approver"] == "ana@example.com"
    [tool] = call["execution"]["tool_calls"]
    assert tool["tool"] == f"litellm.{name}"
    request_hash = tool["arguments"].pop("request_hash")
    assert request_hash == reference_hash(
        {"messages": reasoning["prompt_hash"], "model": "openai/gpt-4o"}
    )
    assert tool["arguments"] == {
        "model": "openai/gpt-4o",
        "message_count": 3,
        "roles": [message["role"] for message in messages],
    }
    assert tool["result"] == call["outcome"]["result"] == "hello world!"
    assert tool["success"] is True
    assert call["outcome"]["error"] is None
    assert call["outcome"]["metrics"]["latency_ms"] == call["execution"]["duration_ms"] > 0
    assert usage(call) == (10, 2, "0.000045")


def test_under_the_innermost_open_task(chain: Chain, llm: LLM) -> None:
    @capsuled(agent_id="outer-agent")
    async def work() -> None:
        await llm.aask()
        with capsule_scope("approve", authority="policy", policy_reference="P-7"):
            await llm.aask()
            with capsule_scope(session_id="only attributes", record=False):
                await llm.aask()
        await asyncio.to_thread(llm.ask)

    run(work)
    llm.ask()
    found = expect(
        chain,
        [
            ("work", "success"),
            ("work", "success"),
            ("approve", "success"),
            ("approve", "success"),
            (None, "success"),
        ],
    )
    assert [call["context"]["agent_id"] for call in found] == ["outer-agent"] * 4 + ["litellm"]
    authorities = [call["authority"]["type"] for call in found]
    assert authorities == ["autonomous", "autonomous", "policy", "policy", "autonomous"]
    assert {call["context"]["session_id"] for call in found[2:4]} == {None, "only attributes"}


def test_several_answers_are_a_list(chain: Chain, ask: Ask) -> None:
    ask(n=3)
    call = expect_one(chain, None, "success")
    assert call["outcome"]["result"] == ["hello world!"] * 3
    assert usage(call) == (10, 2, "0.000045")


def test_what_the_model_asks_of_tools(chain: Chain, ask: Ask) -> None:
    ask("calltool", tools=[WEATHER])
    assert expect_one(chain, None, "success")["outcome"]["result"] == {
        "text": "",
        "tool_calls": [{"name": "weather", "arguments": '{"city": "Paris"}'}],
        "finish_reason": "tool_calls",
    }


def without_nulls(value: Any) -> Any:
    """A message as it is sent; the content of one that only calls tools is null there."""
    if isinstance(value, list):
        return [without_nulls(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    kept = {k: without_nulls(v) for k, v in value.items() if v is not None}
    return {**kept, "content": None} if "content" in value and value["content"] is None else kept


def test_the_result_of_a_tool_and_the_message_that_asked_for_it(chain: Chain, llm: LLM) -> None:
    """A message object that the model returned has the hash of the dict that is equal, and stays as it is."""
    message = llm.ask("calltool", tools=[WEATHER]).choices[0].message
    before = message.model_dump()
    answer = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    messages = [*user("calltool"), message, answer]
    llm.ask(messages=messages, tools=[WEATHER])
    call = expect(chain, [(None, "success")] * 2)[1]
    assert call["outcome"]["result"] == "hello world!"
    sent = without_nulls(before)
    assert call["reasoning"]["prompt_hash"] == reference_hash([*user("calltool"), sent, answer])
    assert call["execution"]["tool_calls"][0]["arguments"]["message_count"] == 3
    assert messages[1] is message
    assert message.model_dump() == before


def test_legacy_function_call() -> None:
    """No model of today answers so, but a response may still look so."""
    response = litellm.ModelResponse(
        choices=[
            litellm.Choices(
                finish_reason="function_call",
                message=litellm.Message(
                    content=None, function_call={"name": "weather", "arguments": '{"city": "Rom"}'}
                ),
            )
        ]
    )
    assert answer_of(response, ContentPolicy(), lambda model, usage: None).result == {
        "text": "",
        "tool_calls": [{"name": "weather", "arguments": '{"city": "Rom"}'}],
        "finish_reason": "function_call",
    }


def test_json_mode(chain: Chain, ask: Ask) -> None:
    ask(response_format={"type": "json_object"})
    assert expect_one(chain, None, "success")["outcome"]["result"] == '{"answer": "hello world!"}'


def test_images_in_a_message_go_by_their_kind(chain: Chain, ask: Ask) -> None:
    messages = user("")
    messages[0]["content"] = [{"type": "text", "text": "what is this?"}, IMAGE]
    ask(messages=messages)
    call = expect_one(chain, None, "success")
    assert call["trigger"]["request"] == "what is this?\n[image_url]"
    assert call["reasoning"]["prompt_hash"] == reference_hash(messages)


@pytest.mark.parametrize(
    ("text", "model", "expected"),
    [
        ("tokens7/0", "openai/gpt-4o", (7, 0, "0.0000175")),
        ("nousage", "openai/gpt-4o", (None, None, None)),
        ("hi", "openai/without-a-price", (10, 2, None)),
    ],
)
def test_unknown_is_null_and_never_zero(
    chain: Chain, ask: Ask, text: str, model: str, expected: Any
) -> None:
    ask(text, model)
    assert usage(expect_one(chain, None, "success")) == expected


def test_arguments_by_position(chain: Chain, llm: LLM) -> None:
    litellm.completion("openai/gpt-4o", user("hi"), **llm.at)
    run(lambda: litellm.acompletion("openai/gpt-4o", user("hi"), **llm.at))
    for call in expect(chain, [(None, "success")] * 2):
        assert call["trigger"]["request"] == "hi"
        assert call["reasoning"]["prompt_hash"] == reference_hash(user("hi"))


# -- what the call itself says of whom it belongs to -----------------------------------------------


def test_session_user_and_correlation_of_the_call_win(chain: Chain, ask: Ask) -> None:
    claims = {"agent_id": "root", "domain": "root", "authority": "human-approved", "approver": "me"}
    names = {"session_id": "s-call", "correlation_id": "c-call"}
    with capsule_scope(
        "plan", agent_id="trader", session_id="s-1", user_id="u-1", correlation_id="c-1"
    ):
        ask(user="u-call", metadata={**names, **claims})
        ask()
    named, unnamed = expect(chain, [("plan", "success")] * 2)
    for call, suffix in ((named, "call"), (unnamed, "1")):
        assert call["context"]["session_id"] == f"s-{suffix}"
        assert call["trigger"]["user_id"] == f"u-{suffix}"
        assert call["trigger"]["correlation_id"] == f"c-{suffix}"
        assert call["context"]["agent_id"] == "trader"
        assert call["domain"] == "chat"
        assert (call["authority"]["type"], call["authority"]["approver"]) == ("autonomous", None)


def test_litellms_own_names_for_session_and_trace(chain: Chain, ask: Ask) -> None:
    ask(litellm_session_id="s-2", litellm_trace_id="t-2")
    call = expect_one(chain, None, "success")
    assert call["context"]["session_id"] == "s-2"
    assert call["trigger"]["correlation_id"] == "t-2"


def test_shared_metadata_stays_the_users_own(chain: Chain, llm: LLM) -> None:
    """LiteLLM itself adds keys to it: the same ones with and without us."""

    async def call_twice(metadata: dict[str, Any]) -> None:
        for _ in range(2):
            await llm.aask(metadata=metadata)
            await asyncio.to_thread(llm.ask, metadata=metadata)

    shared = {"mine": 1}
    run(lambda: call_twice(shared))
    expect(chain, [(None, "success")] * 4)
    litellm.callbacks, unrecorded = [], {"mine": 1}
    for name in ("success_callback", "failure_callback", "input_callback"):
        setattr(litellm, name, [])
        setattr(litellm, f"_async_{name}", [])
    run(lambda: call_twice(unrecorded))
    assert shared.keys() == unrecorded.keys()
    assert not [key for key in shared if "capsule" in key]
    expect(chain, [(None, "success")] * 4)


def test_the_same_call_id_three_times(chain: Chain, ask: Ask) -> None:
    for _ in range(3):
        ask(litellm_call_id="SAME")
    found = expect(chain, [(None, "success")] * 3)
    assert {call["context"]["environment"]["litellm_call_id"] for call in found} == {"SAME"}
    assert len({call["id"] for call in found}) == 3


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_an_error_of_the_provider(chain: Chain, ask: Ask, status: int) -> None:
    with capsule_scope("plan"), pytest.raises(Exception, match="as told") as caught:
        ask(f"fail{status}")
    call = expect_one(chain, "plan", "failure")
    error = call["outcome"]["error"]
    assert error == call["execution"]["tool_calls"][0]["error"]
    assert error == f"{caught.type.__name__}: {caught.value}"
    assert f"as told: {status}" in error
    assert call["execution"]["tool_calls"][0]["success"] is False
    assert call["outcome"]["result"] is None
    assert usage(call) == (None, None, None)
    assert call["reasoning"]["prompt_hash"] == reference_hash(user(f"fail{status}"))


def test_a_timeout(chain: Chain, ask: Ask) -> None:
    with pytest.raises(litellm.Timeout) as caught:
        ask("slow1", timeout=0.2)
    call = expect_one(chain, None, "failure")
    assert call["outcome"]["error"] == f"Timeout: {caught.value}"
    assert 150 <= call["execution"]["duration_ms"] < 900


def test_a_connection_that_breaks(chain: Chain, ask: Ask) -> None:
    with pytest.raises(litellm.InternalServerError):
        ask("drop")
    assert expect_one(chain, None, "failure")["outcome"]["error"]


def test_a_refusal_by_policy_is_blocked(chain: Chain, ask: Ask) -> None:
    with pytest.raises(litellm.BadRequestError):  # ContentPolicyViolationError is one, before 1.110
        ask("policy400")
    call = expect_one(chain, None, "blocked")
    assert "as told: content_policy_violation" in call["outcome"]["error"]


@pytest.mark.parametrize(
    "options",
    [{"model": "nosuch/x"}, {"messages": "no list"}, {"mock_timeout": True, "timeout": 0.05}],
)
def test_a_failure_before_anything_is_sent(chain: Chain, ask: Ask, options: Any) -> None:
    with pytest.raises(Exception, match="Provider NOT|no attribute|mock timeout") as caught:
        ask(**options)
    call = expect_one(chain, None, "failure")
    assert call["outcome"]["error"].startswith(f"{caught.type.__name__}: ")
    assert "attempts" not in call["context"]["environment"]


def test_arguments_that_python_refuses(chain: Chain, llm: LLM) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        litellm.embedding(**llm.at)
    expect_one(chain, None, "failure")


# -- mocks -----------------------------------------------------------------------------------------


def test_mocked_answers(chain: Chain, ask: Ask, read: Callable[..., list[Any]]) -> None:
    ask(mock_response="mocked")
    read(mock_response="mocked")
    whole, streamed = expect(chain, [(None, "success")] * 2)
    assert whole["outcome"]["result"] == streamed["outcome"]["result"] == "mocked"
    for one in (whole, streamed):  # LiteLLM's invention, and nobody was paid
        assert usage(one)[:2] == (None, None)
        assert one["outcome"]["metrics"]["cost_usd"] == "0"
        assert one["context"]["environment"]["mocked"] is True
    assert whole["outcome"]["metrics"]["tokens_estimated"] == {"tokens_in": 10, "tokens_out": 20}


def test_a_mocked_error(chain: Chain, ask: Ask) -> None:
    with pytest.raises(litellm.InternalServerError):
        ask(mock_response=Exception("boo"))
    assert "boo" in expect_one(chain, None, "failure")["outcome"]["error"]


# -- cancellation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cancel", CANCELLERS)
def test_a_cancelled_call_is_partial(chain: Chain, llm: LLM, cancel: Callable[..., Any]) -> None:
    async def main() -> None:
        with capsule_scope("plan"):
            await cancel(lambda: llm.aask("slow1"))

    run(main)
    call = expect_one(chain, "plan", "partial")
    assert call["outcome"]["metrics"]["ended"] == "cancelled"
    assert call["outcome"]["result"] is None
    assert usage(call) == (None, None, None)


def test_a_call_still_pending_when_its_loop_ends(chain: Chain, llm: LLM) -> None:
    tasks = []

    async def main() -> None:
        tasks.append(asyncio.create_task(llm.aask("slow1")))
        await asyncio.sleep(0.1)

    asyncio.run(main())
    assert expect_one(chain, None, "partial")["outcome"]["metrics"]["ended"] == "cancelled"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_inside_a_call(
    chain: Chain, llm: LLM, monkeypatch: pytest.MonkeyPatch, interrupt: type[BaseException]
) -> None:
    """As a signal handler raises it: somewhere in LiteLLM's code."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise interrupt

    monkeypatch.setattr("litellm.utils.ProviderConfigManager.get_provider_chat_config", interrupted)
    with pytest.raises(interrupt):
        llm.ask()
    ended = expect_one(chain, None, "partial")["outcome"]["metrics"]["ended"]
    assert ended == {KeyboardInterrupt: "interrupted", SystemExit: "system exit"}[interrupt]


# -- the caller notices nothing --------------------------------------------------------------------


def test_a_coroutine_that_is_closed_unawaited_is_no_call(chain: Chain, llm: LLM) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        llm.aask().close()
        litellm.acompletion(model="openai/gpt-4o", messages=user("hi"), **llm.at).close()
    assert not [str(w.message) for w in warned if "never awaited" in str(w.message)]
    expect(chain, [])
    assert not llm.provider.count("never sent")


def test_a_coroutine_that_is_never_awaited_gets_pythons_one_warning(chain: Chain, llm: LLM) -> None:
    def forget(function: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            function(model="openai/gpt-4o", messages=user("never sent"), **llm.at)
        return [str(w.message) for w in warned if "never awaited" in str(w.message)]

    original = forget(litellm.acompletion.__wrapped__)
    assert forget(litellm.acompletion) == original
    assert len(original) == 1
    expect(chain, [])
    assert not llm.provider.count("never sent")


class Spy:
    """Stands where LiteLLM's own function was, and keeps what it gave and raised."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.gave: list[Any] = []
        self.__name__, self.__qualname__ = original.__name__, original.__qualname__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            result = self.original(*args, **kwargs)
        except BaseException as error:
            self.gave.append(error)
            raise
        if inspect.iscoroutine(result):
            return self._awaited(result)
        self.gave.append(result)
        return result

    async def _awaited(self, coroutine: Any) -> Any:
        try:
            result = await coroutine
        except BaseException as error:
            self.gave.append(error)
            raise
        self.gave.append(result)
        return result


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch, llm: LLM) -> list[Spy]:
    found = []
    for function in (litellm.completion, litellm.acompletion):
        spy = Spy(function.__wrapped__)
        monkeypatch.setattr(function, "__wrapped__", spy)
        found.append(spy)
    return found


@pytest.mark.parametrize("options", [{}, {"n": 2}, {"stream": True}])
def test_the_caller_gets_the_very_object(
    chain: Chain, ask: Ask, spies: list[Spy], options: Any
) -> None:
    answer = ask(**options)
    [given] = [given for spy in spies for given in spy.gave]
    assert answer is given
    status = "partial" if options.get("stream") else "success"
    del answer, given
    for spy in spies:
        spy.gave.clear()
    expect_one(chain, None, status, within=0.1)


def test_the_caller_gets_the_very_exception(chain: Chain, ask: Ask, spies: list[Spy]) -> None:
    with pytest.raises(litellm.InternalServerError) as caught:
        ask("fail500")
    [given] = [given for spy in spies for given in spy.gave]
    assert caught.value is given
    expect_one(chain, None, "failure")


def test_an_exception_is_as_without_us(chain: Chain, ask: Ask) -> None:
    """Same type, text, status, cause and traceback; our own frames come on top of it."""

    def fail() -> tuple[litellm.RateLimitError, list[str]]:
        with pytest.raises(litellm.RateLimitError) as caught:
            ask("fail429")
        frames = traceback.extract_tb(caught.tb)
        return caught.value, [f.name for f in frames if "capsule_sdk" not in f.filename]

    recorded, frames = fail()
    expect_one(chain, None, "failure")
    litellm.callbacks = []
    litellm.failure_callback = litellm._async_failure_callback = []
    litellm.success_callback = litellm._async_success_callback = litellm.input_callback = []
    plain, plain_frames = fail()
    assert frames == plain_frames
    assert (str(recorded), recorded.args) == (str(plain), plain.args)
    assert recorded.status_code == plain.status_code == 429
    assert type(recorded.__cause__) is type(plain.__cause__)
    assert type(recorded.__context__) is type(plain.__context__)
    assert recorded.__suppress_context__ == plain.__suppress_context__
    assert recorded.__notes__ if hasattr(plain, "__notes__") else not hasattr(recorded, "__notes__")
    expect_one(chain, None, "failure")


def test_nothing_of_ours_stays_in_the_context(chain: Chain, llm: LLM) -> None:
    """Not even while the stream that a call has returned is open."""
    found = []

    async def main() -> None:
        stream = await llm.aask(stream=True)
        found.append(current.get())
        assert [chunk async for chunk in stream]
        found.append(current.get())

    stream = llm.ask(stream=True)
    found.append(current.get())
    list(stream)
    run(main)
    assert found == [None] * 3
    expect(chain, [(None, "success")] * 2)


def test_functions_keep_signature_and_kind(llm: LLM) -> None:
    checked = 0
    for function in list(vars(litellm).values()):
        if not isinstance(function, wrapt.FunctionWrapper):
            continue
        original = getattr(function, "__wrapped__", None)
        if original is None:
            continue
        assert inspect.signature(function) == inspect.signature(original)
        assert inspect.iscoroutinefunction(function) == inspect.iscoroutinefunction(original)
        assert (function.__name__, function.__doc__) == (original.__name__, original.__doc__)
        assert function.__module__ == original.__module__
        assert inspect.isfunction(function) == inspect.isfunction(original)
        checked += 1
    assert checked > 150
    assert inspect.iscoroutinefunction(litellm.acompletion)
    assert "messages" in inspect.signature(litellm.completion).parameters
