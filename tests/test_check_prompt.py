"""``capsuled check-prompt``: kept messages against the hashes of a capsule, through LiteLLM over HTTP."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from litellm_support import LITELLM_NOISE, LLM, user

from capsule_sdk import capsule_scope
from capsule_sdk.cli import main

if TYPE_CHECKING:
    from conftest import Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief. ünï → 漢字 🙂"},
    {"role": "user", "content": [{"type": "text", "text": "What is this?"}]},
    {"role": "assistant", "content": "A question."},
    {"role": "user", "content": "And this?"},
]
REQUEST: dict[str, Any] = {
    "model": "openai/gpt-4o",
    "messages": MESSAGES,
    "tools": [TOOL],
    "temperature": 0.25,
    "max_tokens": 64,
    "response_format": {"type": "json_object"},
}
Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check(chain: Chain, llm: LLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Record REQUEST, and compare a file with its capsule."""
    llm.ask(**copy.deepcopy(REQUEST))
    (capsule,) = chain.capsules()

    def compare(kept: object, *, code: int, wanted: str = capsule["id"][:8]) -> dict[str, Any]:
        file = tmp_path / "kept.json"
        file.write_text(kept if isinstance(kept, str) else json.dumps(kept), "utf-8")
        assert main(["check-prompt", wanted, str(file), "--db", str(chain.url), "--json"]) == code
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    return compare


def changed(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(REQUEST), **fields}


def test_the_messages_and_the_request_that_were_sent_are_the_same(check: Check) -> None:
    assert check(MESSAGES, code=0)["compared"] == "the messages"
    assert check(REQUEST, code=0)["compared"] == "the request"
    assert check(json.dumps(REQUEST, indent=8, sort_keys=True, ensure_ascii=False), code=0)["same"]
    for wanted in ("0", "capsule://chain/0"):
        assert check(MESSAGES, code=0, wanted=wanted)["same"]


def test_messages_that_were_kept_with_the_nulls_of_a_client_librarys_objects(check: Check) -> None:
    kept = [{**message, "tool_calls": None, "refusal": None} for message in MESSAGES]
    told = check(kept, code=0)
    assert told["notes"] == ["it fits without what is null in its messages"]
    assert check(changed(messages=kept), code=0)["compared"] == "the request"
    kept[0]["refusal"] = "no"
    assert check(kept, code=1)["same"] is False


@pytest.mark.parametrize(
    "edit",
    [
        lambda messages: messages[0].update(content="Be brief. ünï → 漢字 🙃"),
        lambda messages: messages[3].update(content="And this? "),
        lambda messages: messages[3].update(name="ana"),
        lambda messages: messages[1]["content"].append({"type": "text", "text": ""}),
        lambda messages: messages.reverse(),
        lambda messages: messages.pop(),
    ],
)
def test_messages_that_differ_in_anything_are_told_apart(
    check: Check, edit: Callable[[Any], object]
) -> None:
    kept = copy.deepcopy(MESSAGES)
    edit(kept)
    told = check(kept, code=1)
    assert told["same"] is False
    assert told["differences"]
    assert check(changed(messages=kept), code=1)["differences"]


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (changed(temperature=0.5), "'temperature' is another"),
        (changed(seed=7), "the capsule has no 'seed'"),
        ({key: value for key, value in REQUEST.items() if key != "max_tokens"}, "the file has no 'max_tokens'"),
        (changed(model="openai/gpt-4"), "the model is 'openai/gpt-4o' in the capsule, 'openai/gpt-4'"),
        (changed(tools=[]), "the tools offered are others: the file has none"),
        (changed(tools=[{**TOOL, "strict": True}]), "their definitions have another digest"),
        (changed(response_format={"type": "text"}), "'response_format' is another"),
        (changed(messages=MESSAGES[:2]), "the capsule has 4 messages, the file 2"),
        (changed(messages=[*MESSAGES[:3], {"role": "tool", "content": "And this?"}]),
         "message 4 is of 'user' in the capsule, of 'tool' in the file"),
    ],
)  # fmt: skip
def test_what_differs_is_named(check: Check, kept: object, sentence: str) -> None:
    assert any(sentence in told for told in check(kept, code=1)["differences"])


def test_what_is_part_of_no_question_is_left_out_aloud(check: Check) -> None:
    told = check(changed(timeout=30, api_key="sk-1234567890", stream=False), code=0)
    assert told["notes"] == ["part of no question, and not compared: api_key, stream, timeout"]


def test_a_name_that_the_capsule_does_not_know_is_a_difference_and_the_rest_is_told(
    check: Check,
) -> None:
    told = check(changed(drop_params=True), code=1)
    assert told["differences"] == ["the capsule has no 'drop_params'"]
    assert told["notes"] == ["all that the capsule names is the same"]


def test_a_request_without_a_model_is_compared_by_its_prompt_and_said_to_be(check: Check) -> None:
    told = check({"messages": MESSAGES}, code=0)
    assert told["notes"] == ["the file names no model: the prompt alone was compared"]


def test_a_text_is_the_one_message_of_a_user_and_a_line_break_more_is_said(
    chain: Chain, llm: LLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("Which way?", '["a list, as text"]'):
        llm.ask(messages=user(text))
        number = len(chain.capsules()) - 1
        file = tmp_path / "prompt.txt"
        for content, note in (
            (text, "as the one message of a user"),
            (f"{text}\n", "without the line break"),
        ):
            file.write_text(content)
            assert main(["check-prompt", str(number), str(file), "--db", str(chain.url)]) == 0
            assert note in capsys.readouterr().out
        file.write_text(f"{text}\n\n")
        assert main(["check-prompt", str(number), str(file), "--db", str(chain.url)]) == 1


def test_what_cannot_be_told_is_exit_code_2(
    chain: Chain, llm: LLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsule_scope("no call"):
        pass
    chain.configure(content="omit")
    llm.ask(messages=user("secret"))
    chain.capsules()
    kept = tmp_path / "kept.json"

    def told(number: str, content: str | bytes) -> str:
        kept.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert main(["check-prompt", number, str(kept), "--db", str(chain.url)]) == 2
        printed = capsys.readouterr()
        return printed.out + printed.err

    messages = json.dumps(user("secret"))
    assert "not of a call to a model" in told("0", messages)
    assert "holds no hash of its prompt" in told("1", messages)
    assert "names 'role' twice" in told(
        "1", '[{"role": "user", "role": "user", "content": "secret"}]'
    )
    assert "holds nothing" in told("1", " \n")
    assert "not UTF-8" in told("1", b"\xff\xfe{")
    assert main(["check-prompt", "1", str(tmp_path / "none"), "--db", str(chain.url)]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_capsule_of_before_the_request_hash_tells_of_the_messages_alone(
    check: Check, chain: Chain
) -> None:
    import sqlite3

    with sqlite3.connect(chain.url) as connection:
        ((data,),) = connection.execute("SELECT data FROM capsules").fetchall()
        record = json.loads(data)
        del record["execution"]["tool_calls"][0]["arguments"]["request_hash"]
        connection.execute("UPDATE capsules SET data = ?", (json.dumps(record),))
    connection.close()
    assert check(MESSAGES, code=0)["same"]
    told = check(REQUEST, code=2)
    assert told["same"] is None
    assert "no hash over the rest" in told["notes"][0]


def test_hostile_names_in_a_file_steer_no_terminal(
    check: Check, chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kept.json"
    file.write_text(json.dumps(changed(**{"\x1b[2J\u202e": 1})))
    assert main(["check-prompt", "0", str(file), "--db", str(chain.url)]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
