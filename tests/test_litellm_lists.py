"""Which loggers record: those in LiteLLM's callback lists. And whose word counts for agent and domain."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm_support import LITELLM_NOISE, expect, expect_one, pairs, run
from qp_capsule import Capsules, CapsuleStorage

import capsule_sdk
from capsule_sdk import CapsuleLogger, capsule_scope, capsuled
from capsule_sdk.evidence.exporting.export import read_chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE


def call_both(llm: Any, **options: Any) -> None:
    """Make a sync and an async call, and a failing one of each."""
    for text in ("hi", "fail500"):
        try:
            llm.ask(text, **options)
        except litellm.InternalServerError:
            assert text == "fail500"

    async def main() -> None:
        for text in ("hi", "fail500"):
            try:
                await llm.aask(text, **options)
            except litellm.InternalServerError:
                assert text == "fail500"

    run(main)


ALL = [(None, "success"), (None, "failure")] * 2


def elsewhere(path: Path, **options: Any) -> CapsuleLogger:
    """Return a logger for a chain of its own."""
    return CapsuleLogger(Capsules(storage=CapsuleStorage(path)), **options)


# -- lists -----------------------------------------------------------------------------------------


def test_a_logger_in_no_list_records_nothing(chain: Any, llm: Any) -> None:
    litellm.callbacks = []
    CapsuleLogger()
    call_both(llm)
    expect(chain, [])


def test_a_logger_that_is_taken_off_every_list_stops(chain: Any, llm: Any) -> None:
    call_both(llm)
    expect(chain, ALL)
    litellm.callbacks = []
    for name in ("input", "success", "failure", "_async_success", "_async_failure"):
        getattr(litellm, f"{name}_callback").remove(llm.logger)
    call_both(llm)
    expect(chain, ALL)


def test_emptied_callbacks_leave_it_in_the_lists_litellm_has_copied_it_to(
    chain: Any, llm: Any
) -> None:
    call_both(llm)
    litellm.callbacks = []
    call_both(llm)
    expect(chain, ALL * 2)


@pytest.mark.parametrize(
    "name", ["success_callback", "failure_callback", "_async_success_callback"]
)
def test_one_list_is_enough(chain: Any, llm: Any, name: str) -> None:
    litellm.callbacks = []
    setattr(litellm, name, [llm.logger])
    call_both(llm)
    expect(chain, ALL)


def test_the_same_logger_twice_in_a_list(chain: Any, llm: Any) -> None:
    litellm.callbacks = [llm.logger, llm.logger]
    call_both(llm)
    expect(chain, ALL)


def test_two_loggers_on_one_chain_give_one_capsule_with_the_first_ones_defaults(
    chain: Any, llm: Any
) -> None:
    litellm.callbacks = [
        CapsuleLogger(agent_id="first", domain="one"),
        CapsuleLogger(agent_id="second", domain="two"),
    ]
    call_both(llm)
    for capsule in expect(chain, ALL):
        assert (capsule["context"]["agent_id"], capsule["domain"]) == ("first", "one")


def test_two_loggers_on_two_chains_give_one_capsule_each(
    chain: Any, llm: Any, tmp_path: Path
) -> None:
    other = elsewhere(tmp_path / "other.db", agent_id="other")
    litellm.callbacks = [llm.logger, other]
    call_both(llm)
    expect(chain, ALL)
    assert capsule_sdk.flush(10) == 0
    assert sorted(pairs(list(read_chain(tmp_path / "other.db"))), key=str) == sorted(ALL, key=str)


def test_a_logger_for_one_call(chain: Any, llm: Any) -> None:
    litellm.callbacks = []
    with capsule_scope("task"):
        llm.ask(callbacks=[llm.logger])
    expect(chain, [("task", "success")])


def test_an_instance_that_replaces_another(chain: Any, llm: Any) -> None:
    llm.ask()
    litellm.callbacks = [CapsuleLogger()]
    llm.ask()
    expect(chain, [(None, "success")] * 2)


# -- callbacks beside it ---------------------------------------------------------------------------


class Failing(CustomLogger):
    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        raise RuntimeError("on purpose")

    log_success_event = log_failure_event = log_pre_api_call

    async def async_log_success_event(self, *_: Any) -> None:
        raise RuntimeError("on purpose")

    async_log_failure_event = async_log_success_event


class Slow(CustomLogger):
    def log_success_event(self, *_: Any, **__: Any) -> None:
        time.sleep(0.2)

    async def async_log_success_event(self, *_: Any, **__: Any) -> None:
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("sibling", [Failing, Slow])
def test_a_sibling_that_fails_or_is_slow(
    chain: Any, llm: Any, sibling: type[CustomLogger], first: bool
) -> None:
    litellm.callbacks = [sibling(), llm.logger] if first else [llm.logger, sibling()]
    call_both(llm)
    expect(chain, ALL)


def test_a_plain_function_beside_it(chain: Any, llm: Any) -> None:
    litellm.success_callback = [lambda *_: None]
    call_both(llm)
    expect(chain, ALL)


# -- whose word counts -----------------------------------------------------------------------------


def belongs(capsule: Any) -> tuple[str, str]:
    return capsule["context"]["agent_id"], capsule["domain"]


def test_precedence_of_agent_and_domain(chain: Any, llm: Any) -> None:
    def ask(**scope: Any) -> None:
        with capsule_scope("task", **scope):
            llm.ask()

    ask()  # the logger's defaults
    chain.configure(agent_id="configured", domain="configured")
    ask()  # configure wins over the logger's defaults
    litellm.callbacks = [CapsuleLogger(agent_id="logger", domain="logger")]
    ask()  # what the logger was given wins over configure
    ask(agent_id="outer")
    with capsule_scope("outer", agent_id="outer", domain="outer"):
        ask(agent_id="inner")

    found = [belongs(capsule) for capsule in expect(chain, [("task", "success")] * 5)]
    assert found == [
        ("litellm", "chat"),
        ("configured", "configured"),
        ("logger", "logger"),
        ("outer", "logger"),
        ("inner", "outer"),
    ]


def test_a_decorator_outside_and_a_scope_inside(chain: Any, llm: Any) -> None:
    @capsuled(agent_id="decorator", domain="decorator")
    def task() -> None:
        llm.ask()
        with capsule_scope("inside", domain="inside"):
            llm.ask()

    task()
    outer, inner = expect(chain, [("task", "success"), ("inside", "success")])
    assert belongs(outer) == ("decorator", "decorator")
    assert belongs(inner) == ("decorator", "inside")


def test_arguments_of_the_call_name_session_user_and_correlation_only(chain: Any, llm: Any) -> None:
    metadata = {
        "session_id": "call",
        "agent_id": "intruder",
        "domain": "intruder",
        "authority": "human-approved",
    }
    with capsule_scope("task", session_id="scope", user_id="scope", agent_id="mine", domain="mine"):
        llm.ask(metadata=metadata, user="ana")
    capsule = expect_one(chain, "task", "success")
    assert capsule["context"]["session_id"] == "call"
    assert capsule["trigger"]["user_id"] == "ana"
    assert belongs(capsule) == ("mine", "mine")
    assert capsule["authority"]["type"] == "autonomous"
    assert metadata.keys() >= {"session_id", "agent_id", "domain", "authority"}
    assert not [key for key in metadata if "capsule" in key]


def test_the_type_of_the_capsules(chain: Any, llm: Any) -> None:
    litellm.callbacks = [CapsuleLogger(capsule_type="tool")]  # type: ignore[arg-type]
    llm.ask()
    assert expect_one(chain, None, "success")["type"] == "tool"
    with pytest.raises(capsule_sdk.errors.ConfigurationError, match="does not exist; use one of"):
        CapsuleLogger(capsule_type="no such")  # type: ignore[arg-type]
