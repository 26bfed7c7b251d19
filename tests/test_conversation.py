"""A call to a model as a conversation: in the terminal, and in the report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from chain_support import capsule
from hypothesis import given
from hypothesis import strategies as st
from litellm_support import LITELLM_NOISE, LLM
from looking import EVIL
from provider_shapes import CANARY, CHAT
from qp_capsule import Capsule
from talking import ANSWERS, MESSAGES, call, link, said

from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.cli.conversing import ABOVE, without_conversation
from capsule_sdk.evidence.showing.conversation import Part, conversation_of

if TYPE_CHECKING:
    from conftest import Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

Output = pytest.CaptureFixture[str]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def put(*made: Capsule) -> None:
    chain = open_chain()
    chain.append(list(made))
    chain.close()


def conversation(capsys: Output, wanted: str = "0") -> list[str]:
    """Return the lines of the conversation, without blanks around them."""
    assert main(["show", wanted]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    if "conversation" not in lines:
        return []
    begin = lines.index("conversation") + 1
    return [line for line in lines[begin : lines.index("trigger")] if line]


# -- through LiteLLM ---------------------------------------------------------------------------------


def test_a_conversation_is_drawn_whole_though_each_capsule_holds_what_is_new(
    chain: Chain, llm: LLM, capsys: Output
) -> None:
    chain.configure(messages="full")
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}]
    for number in range(3):
        messages.append({"role": "user", "content": f"question {number}"})
        session = {"session_id": "s"}
        llm.ask(messages=list(messages), tools=[TOOL], temperature=0.25, metadata=session)
        messages.append({"role": "assistant", "content": f"reply {number}"})
    third = chain.capsules()[2]
    assert len(third["execution"]["tool_calls"][0]["arguments"]["messages"]) == 2
    told = conversation(capsys, third["id"][:8])
    assert [line.split(maxsplit=1) for line in told] == [
        ["offered", "weather"],
        ["parameters", "temperature 0.25"],
        ["system", "Be brief."],
        ["user", "question 0"],
        ["assistant", "reply 0"],
        ["user", "question 1"],
        ["assistant", "reply 1"],
        ["user", "question 2"],
        ["answer", "hello world!"],
        ["finished", "because: stop"],
    ]


def test_without_the_messages_it_has_what_is_there_and_says_what_is_not(
    chain: Chain, llm: LLM, capsys: Output
) -> None:
    llm.ask(messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}])
    chain.capsules()
    told = conversation(capsys)
    assert any(line.startswith("2 messages were sent") for line in told)
    assert [line.split(maxsplit=1) for line in told[-3:-1]] == [
        ["user", "hi"],
        ["answer", "hello world!"],
    ]


@pytest.mark.parametrize("shape", sorted(CHAT))
def test_what_a_model_wrote_in_any_shape_is_read_in_the_conversation(
    chain: Chain, llm: LLM, capsys: Output, shape: str
) -> None:
    llm.ask(f"shape:{shape}")
    (capsule,) = chain.capsules()
    answered = json.dumps([capsule["outcome"]["result"], capsule["outcome"]["error"]])
    told = conversation(capsys)
    assert any("answer" in line for line in told) or capsule["outcome"]["result"] in (None, "")
    drawn = " ".join(told)
    assert drawn.count(CANARY) >= min(1, json.dumps(capsule["outcome"]["result"]).count(CANARY)), (
        answered
    )


# -- every shape -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize(("result", "lines"), ANSWERS)
def test_an_answer_is_drawn_in_all_its_parts(
    capsys: Output, result: object, lines: list[str]
) -> None:
    put(call({"model": "gpt-4o", "message_count": 1, "roles": ["user"]}, result))
    assert conversation(capsys)[1:] == lines


@pytest.mark.parametrize(("message", "lines"), MESSAGES)
def test_a_message_of_any_wire_format_is_drawn_in_all_its_parts(
    capsys: Output, message: object, lines: list[str]
) -> None:
    put(call({"model": "gpt-4o", "message_count": 1, "messages": [message]}, "ok"))
    assert conversation(capsys)[:-1] == lines


def test_estimates_are_called_estimates(capsys: Output) -> None:
    put(call({"roles": ["user"]}, "ok", tokens_estimated={"tokens_in": 12, "tokens_out": None}))
    assert "tokens about 12→?, estimated: the provider reported none" in conversation(capsys)


def test_an_old_capsule_looks_as_before(capsys: Output) -> None:
    put(call({"model": "gpt-4o", "message_count": 3}, "a text"), capsule("task", id=UUID(int=2)))
    assert conversation(capsys, "0") == []
    assert conversation(capsys, "1") == []


def test_what_is_drawn_is_not_repeated_and_a_section_alone_has_it_all(capsys: Output) -> None:
    put(call({"messages": [{"role": "user", "content": "only once"}]}, {"refusal": "never twice"}))
    assert main(["show", "0"]) == 0
    out = capsys.readouterr().out
    assert out.count("only once") == out.count("never twice") == 1
    assert out.count(ABOVE) == 3
    assert main(["show", "0", "--section", "execution"]) == 0
    assert ABOVE not in (out := capsys.readouterr().out)
    assert "only once" in out


# -- continuing --------------------------------------------------------------------------------------


def test_a_beginning_that_is_missing_or_does_not_fit_is_said_to_be(capsys: Output) -> None:
    put(
        call(said("first"), "a", key=1, hashed="aa"),
        call({**said("second"), **link(1, "other")}, "b", key=2, hashed="bb"),
        call({**said("third"), **link(9, "cc")}, "c", key=3, hashed="cc"),
        call({**said("fourth"), **link(3, "cc")}, "d", key=4),
    )
    for sequence, missing in (("1", 1), ("2", 9), ("3", 9)):
        told = conversation(capsys, sequence)
        assert f"the beginning is held by capsule {UUID(int=missing)}, which is not here" in told
    assert "user        third" in conversation(capsys, "3")


def test_capsules_that_continue_each_other_in_a_circle_end(capsys: Output) -> None:
    put(
        call({**said("first"), **link(2, "bb")}, "a", key=1, hashed="aa"),
        call({**said("second"), **link(1, "aa")}, "b", key=2, hashed="bb"),
    )
    told = conversation(capsys, "0")
    assert sum("first" in line for line in told) <= 2
    assert any("not here" in line for line in told)


# -- what is hostile ---------------------------------------------------------------------------------


def test_nothing_in_it_steers_a_terminal_or_looks_like_a_turn(capsys: Output) -> None:
    evil = f"{EVIL}\n  answer      forged"
    named = {
        "role": evil,
        "content": evil,
        evil: evil,
        "tool_calls": [{"name": evil, "arguments": evil}],
    }
    put(call({"messages": [named], "tools": {"names": [evil]}, "parameters": {evil: evil}},
             {"text": evil, evil: evil, "other": [{"type": evil, "value": evil}]}))  # fmt: skip
    assert main(["show", "0"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert all(line.isprintable() for line in out.splitlines())
    assert sum(line.startswith("  answer") for line in out.splitlines()) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["role", "content", "parts", "type", "text", "tool_calls", "function", "custom", "name", "messages",
             "names", "tools", "parameters", "continues", "other", "value", "refusal", "message_count"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@given(JSON, JSON, JSON)
def test_whatever_stands_there_nothing_raises(arguments: Any, result: Any, calls: Any) -> None:
    record = {
        "trigger": {"source": "litellm", "request": calls},
        "execution": {"tool_calls": [{"tool": "t", "arguments": arguments, "result": result}]},
        "outcome": {"result": result, "metrics": {"tokens_estimated": calls}},
    }
    for one in (record, {**record, "execution": {"tool_calls": calls}}):
        talk = conversation_of(one, [record], missing=None)
        if talk is not None:
            assert all(isinstance(part, Part) for turn in talk.turns for part in turn.parts)
            assert all(isinstance(part.text, str) for turn in talk.turns for part in turn.parts)
            json.dumps(without_conversation(one, talk))
