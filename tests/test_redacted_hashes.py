"""With ``redact`` no hash that is sealed confirms a guess at what was taken out; through LiteLLM over HTTP."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from chain_support import assert_verified
from litellm_support import LITELLM_NOISE, LLM

from capsule_sdk import capsule_scope
from capsule_sdk.cli import main
from capsule_sdk.content import ContentPolicy, canonical

if TYPE_CHECKING:
    from conftest import Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

#: What stands in each place that a question has; the two differ in what is redacted alone.
NUMBERS: Final = ("4111 1111", "5500 0000")


def redact(text: str) -> str:
    for number in NUMBERS:
        text = text.replace(number, "[card]")
    return text


def request(number: str) -> dict[str, Any]:
    said = f"my card is {number}"
    return {
        "model": "openai/gpt-4o",
        "messages": [
            {"role": "system", "content": said},
            {"role": "user", "content": [{"type": "text", "text": said}]},
        ],
        "tools": [
            {"type": "function", "function": {"name": "pay", "description": said, "parameters": {}}},
        ],
        "temperature": 0.25,
        "stop": [said],
        "prediction": {"type": "content", "content": said},
    }  # fmt: skip


def arguments_of(capsule: dict[str, Any]) -> dict[str, Any]:
    return dict(capsule["execution"]["tool_calls"][0]["arguments"])


def hashes_in(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from hashes_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from hashes_in(one)
    elif isinstance(value, str):
        words = value.replace("sha3-256:", " ").split()
        yield from (
            word for word in words if len(word) == 64 and set(word) <= set("0123456789abcdef")
        )


@pytest.mark.parametrize("content", ["full", "digest"])
@pytest.mark.parametrize("messages", ["hash", "full"])
def test_two_questions_that_differ_in_what_is_redacted_have_the_same_hashes(
    chain: Chain, llm: LLM, messages: str, content: str
) -> None:
    chain.configure(redact=redact, messages=messages, content=content)
    for number in NUMBERS:
        with capsule_scope("task"):
            llm.ask(**copy.deepcopy(request(number)))
    calls = [one for one in chain.capsules() if one["trigger"]["source"] == "litellm"]
    assert len(calls) == 2
    told = [arguments_of(one) for one in calls]
    assert [one["hashed"] for one in told] == ["redacted"] * 2
    assert calls[0]["reasoning"]["prompt_hash"] == calls[1]["reasoning"]["prompt_hash"]
    assert told[0] == told[1]
    # and none is one that whoever guesses the number could make
    sealed = {word for one in calls for word in hashes_in([one["reasoning"], arguments_of(one)])}
    for number in NUMBERS:
        asked = request(number)
        for value in (*asked.values(), *asked["messages"], f"my card is {number}", number):
            texts = [canonical(value), json.dumps(value, sort_keys=True), str(value)]
            assert not sealed & {hashlib.sha3_256(text.encode()).hexdigest() for text in texts}
    assert_verified("--db", str(chain.url), "--full")


def test_without_redact_the_hashes_are_as_they_were(chain: Chain, llm: LLM) -> None:
    with capsule_scope("task"):
        llm.ask(**copy.deepcopy(request(NUMBERS[0])))
    (call,) = [one for one in chain.capsules() if one["trigger"]["source"] == "litellm"]
    text = json.dumps(
        request(NUMBERS[0])["messages"], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert call["reasoning"]["prompt_hash"] == hashlib.sha3_256(text.encode()).hexdigest()
    assert "hashed" not in arguments_of(call)


def test_a_redact_that_raises_hashes_no_text(chain: Chain, llm: LLM) -> None:
    def failing(text: str) -> str:
        raise LookupError(text)

    chain.configure(redact=failing)
    for number in NUMBERS:
        with capsule_scope("task"):
            llm.ask(**copy.deepcopy(request(number)))
    calls = [one for one in chain.capsules() if one["trigger"]["source"] == "litellm"]
    assert calls[0]["reasoning"]["prompt_hash"] == calls[1]["reasoning"]["prompt_hash"]
    assert arguments_of(calls[0])["request_hash"] == arguments_of(calls[1])["request_hash"]


def test_a_conversation_goes_on_where_its_beginning_is_redacted(chain: Chain, llm: LLM) -> None:
    chain.configure(redact=redact, messages="full")
    first = request(NUMBERS[0])["messages"]
    with capsule_scope("task", session_id="s"):
        llm.ask(model="openai/gpt-4o", messages=copy.deepcopy(first))
        then = [
            *first,
            {"role": "assistant", "content": "no"},
            {"role": "user", "content": NUMBERS[0]},
        ]
        llm.ask(model="openai/gpt-4o", messages=copy.deepcopy(then))
    begun, goes_on = (one for one in chain.capsules() if one["trigger"]["source"] == "litellm")
    told = arguments_of(goes_on)["continues"]
    assert (told["capsule_id"], told["hash"]) == (begun["id"], begun["reasoning"]["prompt_hash"])


def test_check_prompt_calls_the_function_that_the_program_had(
    chain: Chain,
    llm: LLM,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    chain.configure(redact=redact)
    llm.ask(**copy.deepcopy(request(NUMBERS[0])))
    (call,) = chain.capsules()
    kept = tmp_path / "kept.json"

    def check(value: object, *options: str) -> tuple[int, dict[str, Any]]:
        kept.write_text(json.dumps(value))
        capsys.readouterr()
        code = main(
            ["check-prompt", call["id"], str(kept), "--db", str(chain.url), "--json", *options]
        )
        return code, json.loads(capsys.readouterr().out or "{}")

    function = ("--redact", "test_redacted_hashes:redact")
    asked = request(NUMBERS[0])
    code, told = check(asked)
    assert (code, told["same"]) == (2, None)
    assert "--redact" in told["notes"][-1]
    for value in (
        asked,
        asked["messages"],
        json.loads(redact(json.dumps(asked))),
        request(NUMBERS[1]),
    ):
        assert check(value, *function)[0] == 0
    assert check(json.loads(redact(json.dumps(asked)))["messages"])[0] == 0
    assert check({**asked, "temperature": 0.5}, *function)[0] == 1
    assert check([{"role": "user", "content": "else"}], *function)[0] == 1
    assert check(asked, "--redact", "no_such_module:f")[0] == 2


def test_bytes_that_may_be_a_text_have_no_digest_beside_what_is_redacted() -> None:
    for value in (NUMBERS[0].encode(), bytearray(NUMBERS[0].encode()), memoryview(b"1234")):
        assert ContentPolicy(redact=redact).value([value]) == [{"bytes": len(value)}]
    picture = bytes(range(256)) * 8
    assert ContentPolicy(redact=redact).value(picture) == {
        "bytes": len(picture), "sha3_256": hashlib.sha3_256(picture).hexdigest(),
    }  # fmt: skip
