"""Records to capsules: the six sections of CPS as the design has them, valid, hashed alike everywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qp_capsule import compute_hash, validate_capsule
from recording import make_call, make_task
from sealable import texts, values

from capsule_sdk import Authority
from capsule_sdk.content import ContentPolicy, safe
from capsule_sdk.records.attribution import Attribution
from capsule_sdk.records.call import Answer, LLMCall, Request
from capsule_sdk.records.capsules import capsule_of, stand_in
from capsule_sdk.records.record import Record, how_it_ended
from capsule_sdk.records.task import Task, children_digest
from capsule_sdk.scopes.options import attribution_of
from capsule_sdk.settings import Settings

WHEN = datetime(2026, 3, 1, 12, 30, 45, 678901, tzinfo=UTC)
WHO = Attribution(
    agent_id="trading-bot",
    domain="finance",
    session_id="session-1",
    user_id="ana",
    correlation_id="corr-1",
    tenant_id="tenant-1",
    environment={"region": "eu"},
    authority=Authority("human-approved", approver="ana@example.com"),
    overridden=(Authority("policy", policy_reference="P-7"),),
)


def at(record: Record, milliseconds: int = 1234) -> None:
    record.started = WHEN.timestamp()
    record.duration_ms = milliseconds


def document(record: Record) -> dict[str, Any]:
    capsule = capsule_of(record)
    assert validate_capsule(capsule).ok
    return capsule.to_dict()


def a_call(answer: Answer | None = None, parent: Task | None = None) -> LLMCall:
    call = LLMCall(
        Request("acompletion", "gpt-4o", "What now?", "ab" * 32, 3, {"provider": "openai"}),
        parent=parent,
        attribution=WHO,
        capsule_type="chat",
        policy=Settings().policy(),
    )
    if answer is not None:
        call.answer = answer
    return call


# -- an LLM call ----------------------------------------------------------------------------------


def test_a_call_that_succeeded_section_by_section() -> None:
    answer = Answer(
        result="Sell.",
        tokens_in=12,
        tokens_out=3,
        cost_usd=Decimal("0.0000250"),
        environment={"cache_hit": False},
    )
    call = a_call(answer)
    call.settle("success")
    at(call)
    made = document(call)
    assert made["id"] == str(call.id)
    assert (made["type"], made["domain"], made["parent_id"]) == ("chat", "finance", None)
    assert made["trigger"] == {
        "type": "user_request",
        "source": "litellm",
        "timestamp": "2026-03-01T12:30:45.678901+00:00",
        "request": "What now?",
        "correlation_id": "corr-1",
        "user_id": "ana",
    }
    assert made["context"] == {
        "agent_id": "trading-bot",
        "session_id": "session-1",
        "environment": {
            "region": "eu",
            "model": "gpt-4o",
            "call_type": "acompletion",
            "provider": "openai",
            "cache_hit": False,
            "tenant_id": "tenant-1",
        },
    }
    assert made["reasoning"] == {
        "analysis": "LLM acompletion via LiteLLM",
        "options": [],
        "options_considered": [],
        "selected_option": "acompletion",
        "reasoning": "Routed to gpt-4o",
        "confidence": 0.0,
        "model": "gpt-4o",
        "prompt_hash": "ab" * 32,
    }
    assert made["authority"] == {
        "type": "human_approved",
        "approver": "ana@example.com",
        "policy_reference": None,
        "chain": [{"type": "policy", "policy_reference": "P-7"}],
        "escalation_reason": None,
    }
    assert made["execution"] == {
        "tool_calls": [
            {
                "tool": "litellm.acompletion",
                "arguments": {"model": "gpt-4o", "message_count": 3},
                "result": "Sell.",
                "success": True,
                "duration_ms": 1234,
                "error": None,
            }
        ],
        "duration_ms": 1234,
        "resources_used": {"tokens_in": 12, "tokens_out": 3, "cost": "0.000025"},
    }
    assert made["outcome"] == {
        "status": "success",
        "result": "Sell.",
        "summary": "Completed: gpt-4o",
        "error": None,
        "side_effects": [],
        "metrics": {
            "tokens_in": 12,
            "tokens_out": 3,
            "latency_ms": 1234,
            "cost_usd": "0.000025",
        },
    }


def test_a_call_under_a_task_was_triggered_by_the_agent() -> None:
    task = make_task()
    call = a_call(parent=task)
    call.settle("success")
    made = document(call)
    assert made["parent_id"] == str(task.id)
    assert made["trigger"]["type"] == "agent"
    assert "counted_by_parent" not in made["context"]["environment"]


def test_a_call_that_failed_says_why_and_leaves_unknown_what_is_unknown() -> None:
    call = a_call()
    call.settle_with(TimeoutError("30 s are over"))
    made = document(call)
    assert made["outcome"]["status"] == "failure"
    assert made["outcome"]["error"] == "TimeoutError: 30 s are over"
    assert made["outcome"]["summary"] == "Failed: gpt-4o"
    assert made["execution"]["tool_calls"][0]["success"] is False
    assert made["execution"]["tool_calls"][0]["error"] == "TimeoutError: 30 s are over"
    assert made["execution"]["resources_used"] == {
        "tokens_in": None,
        "tokens_out": None,
        "cost": None,
    }
    assert made["outcome"]["metrics"]["cost_usd"] is None


def test_zero_tokens_that_a_provider_reports_are_zero_and_not_unknown() -> None:
    call = a_call(Answer(tokens_in=0, tokens_out=0, cost_usd=Decimal(0)))
    call.settle("success")
    assert document(call)["execution"]["resources_used"] == {
        "tokens_in": 0,
        "tokens_out": 0,
        "cost": "0",
    }


@pytest.mark.parametrize(
    ("error", "status", "ended"),
    [
        (ValueError("x"), "failure", None),
        (KeyboardInterrupt(), "partial", "interrupted"),
        (SystemExit(1), "partial", "system exit"),
        (GeneratorExit(), "partial", "closed"),
        (BaseException("Cancelled"), "partial", "cancelled"),
    ],
)
def test_how_a_record_ended(error: BaseException, status: str, ended: str | None) -> None:
    for record in (make_call(), make_task()):
        record.settle_with(error)
        outcome = document(record)["outcome"]
        assert (outcome["status"], outcome["metrics"].get("ended")) == (status, ended)
    assert how_it_ended(error) == ended


def test_a_call_that_policy_blocked_and_one_that_was_cut_short() -> None:
    blocked, cut = a_call(), a_call(Answer(result="Se"))
    blocked.settle("blocked", error="budget exceeded")
    cut.cut_short("abandoned")
    assert document(blocked)["outcome"]["summary"] == "Blocked: gpt-4o"
    assert document(blocked)["outcome"]["error"] == "budget exceeded"
    made = document(cut)["outcome"]
    assert (made["status"], made["result"]) == ("partial", "Se")
    assert made["metrics"]["ended"] == "abandoned"
    assert made["summary"] == "Cut short: gpt-4o"


def test_attempts_are_counted_where_there_were_several() -> None:
    call = a_call()
    call.attempts = ("timeout", "ok")
    call.settle("success")
    assert document(call)["context"]["environment"]["attempts"] == 2


# -- a task ---------------------------------------------------------------------------------------


def test_a_task_section_by_section() -> None:
    task = make_task(
        "app.rebalance",
        attribution=WHO,
        request="Rebalance A",
        arguments={"portfolio": "A"},
    )
    task.reason(
        "Two ways",
        options=[
            "sell",
            {"id": "hold", "description": "wait", "feasibility": 1, "pros": "cheap", "cons": [1]},
        ],
        selected="sell",
        reasoning="Momentum",
        confidence=0.75,
    )
    task.tool("lookup", {"q": "A"}, result=[1], duration_ms=5)
    task.tool("buy", error=ValueError("closed"))
    task.side_effect("order 17 placed")
    task.metric("orders", 1)
    task.metric("llm_calls", 99)
    task.subtree.add(a_call(Answer(tokens_in=1, tokens_out=2, cost_usd=Decimal("0.1"))).totals())
    child = make_call(task)
    task.adopt(child.id)
    task.child_ended()
    task.result = {"done": True}
    task.settle("success")
    at(task)
    made = document(task)
    assert made["trigger"]["source"] == "app.rebalance"
    assert made["trigger"]["request"] == "Rebalance A"
    assert made["context"]["environment"] == {
        "region": "eu",
        "arguments": {"portfolio": "A"},
        "tenant_id": "tenant-1",
    }
    reasoning = made["reasoning"]
    assert (reasoning["analysis"], reasoning["reasoning"]) == ("Two ways", "Momentum")
    assert (reasoning["selected_option"], reasoning["confidence"]) == ("sell", 0.75)
    assert [option["id"] for option in reasoning["options"]] == ["opt_0", "hold"]
    assert [option["selected"] for option in reasoning["options"]] == [True, False]
    assert reasoning["options"][1]["feasibility"] == 1.0
    assert (reasoning["options"][1]["pros"], reasoning["options"][1]["cons"]) == (["cheap"], ["1"])
    assert made["execution"]["tool_calls"] == [
        {
            "tool": "lookup",
            "arguments": {"q": "A"},
            "result": [1],
            "success": True,
            "duration_ms": 5,
            "error": None,
        },
        {
            "tool": "buy",
            "arguments": {},
            "result": None,
            "success": False,
            "duration_ms": 0,
            "error": "ValueError: closed",
        },
    ]
    assert made["execution"]["resources_used"] == {
        "tokens_in": 1,
        "tokens_out": 2,
        "cost": "0.1",
    }
    assert made["outcome"] == {
        "status": "success",
        "result": {"done": True},
        "summary": "Completed: app.rebalance (1 LLM call)",
        "error": None,
        "side_effects": ["order 17 placed"],
        "metrics": {
            "orders": 1,
            "llm_calls": 1,
            "tokens_in": 1,
            "tokens_out": 2,
            "cost_usd": "0.1",
            "latency_ms": 0,
            "children": {"started": 1, "ended": 1, "digest": children_digest([child.id])},
        },
    }


def test_a_task_without_calls_used_nothing() -> None:
    task = make_task()
    task.settle("success")
    made = document(task)
    assert made["execution"]["resources_used"] == {}
    metrics = made["outcome"]["metrics"]
    assert (metrics["llm_calls"], metrics["tokens_in"], metrics["cost_usd"]) == (0, 0, "0")
    assert (made["context"]["agent_id"], made["domain"]) == ("agent", "agents")
    assert made["authority"]["type"] == "autonomous"


def test_what_the_user_said_of_the_outcome_stays() -> None:
    task = make_task("t")
    task.summary = "Sold A"
    task.block("limit reached")
    task.settle("success")
    outcome = document(task)["outcome"]
    assert (outcome["status"], outcome["error"]) == ("blocked", "limit reached")
    assert outcome["summary"] == "Sold A"


def test_a_tool_task_is_a_tool_call_itself() -> None:
    task = make_task("search", capsule_type="tool", arguments={"q": "x"})
    task.tool("inner")
    task.result = ["y"]
    task.settle("success")
    inner, itself = document(task)["execution"]["tool_calls"]
    assert inner["tool"] == "inner"
    assert (itself["tool"], itself["arguments"], itself["result"]) == ("search", {"q": "x"}, ["y"])
    assert itself["success"] is True


# -- stand-ins ------------------------------------------------------------------------------------


def test_a_stand_in_has_the_id_the_parent_and_the_tenant_of_what_it_stands_for() -> None:
    parent = make_task()
    call = a_call(parent=parent)
    call.settle("success")
    capsule = stand_in(call, "ValueError: no")
    assert validate_capsule(capsule).ok
    made = capsule.to_dict()
    assert (made["id"], made["parent_id"]) == (str(call.id), str(parent.id))
    assert (made["type"], made["domain"]) == ("system", "finance")
    assert made["context"]["environment"] == {"tenant_id": "tenant-1"}
    assert made["outcome"]["metrics"] == {"records_lost": 1, "status_of_lost": "success"}


def test_a_stand_in_leaves_out_what_a_store_might_have_refused() -> None:
    task = make_task(attribution=Attribution(domain="d" * 51, tenant_id="t" * 37))
    made = stand_in(task, "\ud800" + "x" * 10_000).to_dict()
    assert made["domain"] == "agents"
    assert made["context"]["environment"] == {}
    assert len(made["outcome"]["error"]) < 2200


def test_a_record_that_nothing_is_defined_for_is_refused() -> None:
    class Odd(Record):
        def totals(self) -> Any: ...

    task = make_task()
    with pytest.raises(TypeError, match="Odd"):
        capsule_of(
            Odd(
                parent=None,
                attribution=task.attribution,
                capsule_type="agent",
                policy=task.policy,
            )
        )


# -- any content, and another language ------------------------------------------------------------

Rehash = Callable[[list[dict[str, Any]]], list[str]]


@pytest.fixture(scope="module")
def rehash() -> Iterator[Rehash]:
    """Hash documents in JavaScript, from their JSON text alone."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = Path(__file__).with_name("rehash.js")
    process = subprocess.Popen(
        [node, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def hashes(documents: list[dict[str, Any]]) -> list[str]:
        for made in documents:
            stdin.write(json.dumps(made) + "\n")
            stdin.flush()
        return [stdout.readline().strip() for _ in documents]

    yield hashes
    stdin.close()
    process.wait(10)
    stdout.close()


names = st.none() | texts
policies = st.builds(ContentPolicy, mode=st.sampled_from(["full", "digest", "omit"]))
attributions = st.builds(
    lambda environment, named: attribution_of({**named, "environment": environment}),
    st.dictionaries(texts, values, max_size=3),
    st.fixed_dictionaries(
        dict.fromkeys(("agent_id", "domain", "session_id", "user_id", "tenant_id"), names)
    ),
)
statuses = st.sampled_from(["success", "failure", "partial", "blocked"])
numbers = st.none() | st.integers() | st.integers(0, 10_000)


@st.composite
def any_task(draw: st.DrawFn) -> Record:
    policy = draw(policies)
    task = Task(
        draw(texts),
        parent=draw(st.none() | st.builds(make_task)),
        attribution=draw(attributions),
        capsule_type=draw(st.sampled_from(["agent", "tool", "workflow", "system"])),
        policy=policy,
        request=policy.text(draw(texts)),
        arguments=policy.value(draw(values)),
    )
    options = draw(
        st.lists(
            texts
            | st.fixed_dictionaries(
                {},
                optional=dict.fromkeys(
                    (
                        *("id", "description", "pros", "cons", "risks", "selected"),
                        *("estimated_impact", "feasibility", "rejection_reason"),
                    ),
                    values,
                ),
            ),
            max_size=3,
        )
    )
    task.reason(
        draw(texts),
        options=options,
        selected=draw(texts),
        reasoning=draw(texts),
        confidence=draw(st.none() | st.floats()),
    )
    task.tool(
        draw(texts),
        draw(st.dictionaries(texts, values, max_size=3)),
        result=draw(values),
        error=draw(st.none() | texts),
        duration_ms=draw(st.integers(0, 1000)),
    )
    task.metric(draw(texts), draw(st.floats() | st.integers() | texts))
    task.side_effect(draw(texts))
    task.summary = draw(texts)
    for _ in range(draw(st.integers(0, 3))):
        task.subtree.add(draw(any_call()).totals())
    task.result = policy.value(draw(values))
    task.settle(draw(statuses), error=draw(st.none() | texts.map(policy.text)))
    return task


@st.composite
def any_call(draw: st.DrawFn) -> Record:
    policy = draw(policies)
    call = LLMCall(
        Request(
            draw(texts),
            draw(texts),
            policy.text(draw(texts)),
            draw(st.none() | st.just("ab" * 32)),
            draw(st.integers(0, 50)),
            safe_mapping(draw(st.dictionaries(texts, values, max_size=3))),
        ),
        parent=draw(st.none() | st.builds(make_task)),
        attribution=draw(attributions),
        capsule_type="chat",
        policy=policy,
    )
    call.answer = Answer(
        policy.value(draw(values)),
        draw(numbers),
        draw(numbers),
        draw(st.none() | st.decimals()),
        environment=safe_mapping(draw(st.dictionaries(texts, values, max_size=3))),
    )
    call.settle(draw(statuses), error=draw(st.none() | texts.map(policy.text)))
    return call


def safe_mapping(value: dict[Any, Any]) -> dict[str, Any]:
    made = safe(value)
    assert isinstance(made, dict)
    return made


@settings(max_examples=50, deadline=None)
@given(records=st.lists(any_task() | any_call(), min_size=1, max_size=3))
def test_any_record_gives_a_valid_capsule_that_javascript_hashes_to_the_same(
    rehash: Rehash, records: list[Record]
) -> None:
    capsules = [capsule_of(record) for record in records]
    capsules += [stand_in(record, record.error or "") for record in records]
    for capsule in capsules:
        result = validate_capsule(capsule)
        assert result.ok, result
    documents = [capsule.to_dict() for capsule in capsules]
    assert rehash(documents) == [compute_hash(made) for made in documents]


def test_the_other_language_would_notice_a_number_that_it_prints_otherwise(rehash: Rehash) -> None:
    task = make_task()
    task.settle("success")
    made = document(task)
    assert rehash([made]) == [compute_hash(made)]
    for value in (2.5e-05, 1.0, 2**60):
        odd = {**made, "outcome": {**made["outcome"], "result": value}}
        assert rehash([odd]) != [compute_hash(odd)]
