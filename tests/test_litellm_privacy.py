"""What was asked not to be logged is in no byte of the database; the capsule is there all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm_support import LITELLM_NOISE, expect_one, run

from capsule_sdk import CapsuleLogger, capsule_scope, capsuled, current_task

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

#: The question, with a word of its own; the model answers with another.
ASKED, ANSWERED = "PRIVATEQUESTION", "PRIVATEANSWER"
TEXT = f"{ASKED} say:{ANSWERED}"


def raw(chain: Any) -> bytes:
    """Return every byte of the database and of what SQLite keeps beside it."""
    chain.capsules()
    return b"".join(path.read_bytes() for path in sorted(chain.data_dir.glob("capsules.db*")))


def assert_private(chain: Any) -> Any:
    capsule = expect_one(chain, "task", "success")
    data = raw(chain)
    assert ASKED.encode() not in data
    assert ANSWERED.encode() not in data
    assert capsule["outcome"]["metrics"]["tokens_in"] == 10
    assert capsule["reasoning"]["prompt_hash"] is None
    return capsule


def ask(llm: Any, way: str, **options: Any) -> None:
    with capsule_scope("task"):
        if way == "sync":
            llm.ask(TEXT, **options)
        elif way == "sync stream":
            list(llm.ask(TEXT, stream=True, stream_options={"include_usage": True}, **options))
        elif way == "async":
            run(lambda: llm.aask(TEXT, **options))
        else:

            async def read() -> None:
                stream = await llm.aask(
                    TEXT, stream=True, stream_options={"include_usage": True}, **options
                )
                async for _ in stream:
                    pass

            run(read)


WAYS = pytest.mark.parametrize("way", ["sync", "async", "sync stream", "async stream"])


@WAYS
def test_the_texts_are_there_where_nobody_objects(chain: Any, llm: Any, way: str) -> None:
    ask(llm, way)
    capsule = expect_one(chain, "task", "success")
    assert ASKED.encode() in raw(chain)
    assert capsule["outcome"]["result"] == ANSWERED


@WAYS
def test_turned_off_for_litellm(chain: Any, llm: Any, way: str) -> None:
    litellm.turn_off_message_logging = True
    ask(llm, way)
    assert_private(chain)


@WAYS
def test_turned_off_for_a_call(chain: Any, llm: Any, way: str) -> None:
    ask(llm, way, turn_off_message_logging=True)
    assert_private(chain)


@pytest.mark.parametrize(
    "attribute", [("turn_off_message_logging", True), ("message_logging", False)]
)
@WAYS
def test_turned_off_on_the_logger(
    chain: Any, llm: Any, way: str, attribute: tuple[str, bool]
) -> None:
    setattr(llm.logger, *attribute)
    ask(llm, way)
    assert_private(chain)


@WAYS
def test_no_log(chain: Any, llm: Any, way: str) -> None:
    ask(llm, way, **{"no-log": True})
    assert_private(chain)


def test_kept_functions_that_have_only_events_are_private_too(chain: Any, llm: Any) -> None:
    async def main() -> None:
        with capsule_scope("task"):
            await litellm.main.acompletion(
                "openai/gpt-4o",
                [{"role": "user", "content": TEXT}],
                turn_off_message_logging=True,
                **llm.at,
            )

    run(main)
    assert_private(chain)


@pytest.mark.parametrize("content", ["omit", "digest"])
def test_content_modes(chain: Any, llm: Any, content: str) -> None:
    chain.configure(content=content)
    with capsule_scope("task"):
        llm.ask(TEXT)
    capsule = expect_one(chain, "task", "success")
    assert ASKED.encode() not in raw(chain)
    assert ANSWERED.encode() not in raw(chain)
    start = "[omitted]" if content == "omit" else "sha3-256:"
    assert capsule["trigger"]["request"].startswith(start)
    assert capsule["outcome"]["result"].startswith(start)
    assert (capsule["reasoning"]["prompt_hash"] is None) == (content == "omit")


@pytest.mark.parametrize("content", ["omit", "digest"])
def test_an_error_keeps_its_type_where_its_message_echoes_the_prompt(
    chain: Any, llm: Any, content: str
) -> None:
    chain.configure(content=content)
    with capsule_scope("task"), pytest.raises(litellm.BadRequestError, match=ASKED):
        litellm.completion(f"nosuch{ASKED}/x", [{"role": "user", "content": ASKED}])
    capsule = expect_one(chain, "task", "failure")
    name, _, message = capsule["outcome"]["error"].partition(": ")
    assert name == "BadRequestError"
    assert message.startswith("[omitted]" if content == "omit" else "sha3-256:")
    assert capsule["execution"]["tool_calls"][0]["error"] == capsule["outcome"]["error"]


def test_a_task_that_fails_keeps_the_type_of_its_error(chain: Any) -> None:
    chain.configure(content="omit")
    with pytest.raises(ValueError, match=ASKED), capsule_scope("task") as task:
        task.tool("search", error=KeyError(ASKED))
        raise ValueError(ASKED)
    capsule = chain.one("task")
    assert capsule["outcome"]["error"] == "ValueError: [omitted]"
    assert capsule["execution"]["tool_calls"][0]["error"] == "KeyError: [omitted]"
    assert ASKED.encode() not in raw(chain)


def test_redaction(chain: Any, llm: Any) -> None:
    chain.configure(redact=lambda text: text.replace("PRIVATE", "[name]"))
    with capsule_scope("task"):
        llm.ask(TEXT)
    capsule = expect_one(chain, "task", "success")
    assert capsule["outcome"]["result"] == "[name]ANSWER"
    assert b"PRIVATE" not in raw(chain)


def test_redaction_that_raises_seals_no_text(chain: Any, llm: Any) -> None:
    def redact(text: str) -> str:
        raise LookupError(text)

    chain.configure(redact=redact)
    with capsule_scope("task"):
        llm.ask(TEXT)
    capsule = expect_one(chain, "task", "success")
    assert capsule["outcome"]["result"] == "[redaction failed: LookupError]"
    assert b"PRIVATE" not in raw(chain)


def test_secrets_in_the_arguments_of_a_tool_and_in_the_call(chain: Any, llm: Any) -> None:
    with capsule_scope("task") as task:
        task.tool(
            "login", {"user": "ana", "password": "SECRETWORD", "nested": {"api_key": "SECRETWORD"}}
        )
        llm.ask(api_key="SECRETWORD", extra_headers={"Authorization": "Bearer SECRETWORD"})
    expect_one(chain, "task", "success")
    assert b"SECRETWORD" not in raw(chain)


def test_a_private_logger_beside_an_open_one_on_another_chain(
    chain: Any, llm: Any, tmp_path: Path
) -> None:
    from qp_capsule import Capsules, CapsuleStorage

    from capsule_sdk.evidence.exporting.export import read_chain

    other = CapsuleLogger(Capsules(storage=CapsuleStorage(tmp_path / "open.db")))
    llm.logger.turn_off_message_logging = True
    litellm.callbacks = [llm.logger, other]
    with capsule_scope("task"):
        llm.ask(TEXT)
    assert_private(chain)
    assert other.recorder().flush(10) == 0
    assert ASKED in json.dumps(list(read_chain(tmp_path / "open.db")))


# ── secrets that stand inside texts ───────────────────────────────────────────────────────────────

#: Put together here, so that no scanner takes this file for a leak.
KEY = "sk-" + "ant-api03-" + "aB3dE6" * 12
PASSWORD = "Zw8-swordfish"
SECRETS = f"key {KEY} and postgresql://app:{PASSWORD}@db/x"


@pytest.mark.parametrize("messages", ["hash", "full"])
def test_secrets_inside_texts_are_in_no_byte_of_the_chain(
    chain: Any, llm: Any, messages: str
) -> None:
    chain.configure(messages=messages)
    function = {"name": "log_in", "arguments": json.dumps({"a": SECRETS})}
    called = {"id": "c1", "type": "function", "function": function}
    asked = [
        {"role": "system", "content": SECRETS},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"password": PASSWORD})},
        {"role": "user", "content": [{"type": "text", "text": SECRETS}]},
    ]
    tool = {"type": "function", "function": {"name": "log_in", "description": SECRETS}}

    @capsuled(name="tool")
    def work(connect_to: str, headers: list[Any]) -> str:
        current_task().reason(SECRETS, options=[SECRETS], selected=SECRETS)
        current_task().tool("other", {"a": SECRETS}, SECRETS)
        llm.ask(messages=asked, tools=[tool], mock_response=f"it is {SECRETS}", suffix=SECRETS)
        raise ValueError(SECRETS)

    with pytest.raises(ValueError, match="key"):
        work(SECRETS, [["Authorization", f"Bearer {PASSWORD}"]])
    with capsule_scope("scope", request=SECRETS, environment={"url": SECRETS}) as task:
        task.side_effect(SECRETS)
    capsules = chain.capsules()
    assert len(capsules) == 3
    data = raw(chain) + json.dumps(capsules).encode()
    assert KEY.encode() not in data
    assert PASSWORD.encode() not in data
    assert data.count(b"[secret]") > 10
    chain.verify()
