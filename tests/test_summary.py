"""Summaries: a record in fields, whatever it holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from chain_support import capsule
from hypothesis import given
from hypothesis import strategies as st
from litellm_support import LITELLM_NOISE
from looking import work
from qp_capsule import (
    CapsuleType,
    ExecutionSection,
    OutcomeSection,
    ReasoningSection,
    TriggerSection,
)

from capsule_sdk.evidence.showing.summary import FIELDS, Summary, as_json, row, summary_of

if TYPE_CHECKING:
    from conftest import Chain
    from litellm_support import LLM

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE


def test_a_call_and_the_task_it_hangs_under_in_fields(llm: LLM, chain: Chain) -> None:
    made = work(llm, chain)
    call, task = (summary_of(made[name]) for name in ("sell, tokens120/45 please", "approve"))
    assert (call.name, call.llm_call, call.model) == ("litellm.completion", True, "openai/gpt-4o")
    assert (task.name, task.llm_call, task.model) == ("approve", False, None)
    assert call.parent_id == task.id
    for one in (call, task):
        assert (one.agent, one.domain, one.session) == ("trader", "finance", "morning")
        assert (one.authority, one.approver) == ("human_approved", "ana@example.com")
        assert (one.status, one.tokens_in, one.tokens_out, one.cost) == (
            "success",
            120,
            45,
            Decimal("0.00075"),
        )
        assert one.started is not None
        assert one.signed_at is not None
        assert one.started <= one.signed_at
        assert one.started.tzinfo is UTC
    assert (call.children_started, task.children_started) == (None, 1)
    assert (call.sequence, task.sequence) == (1, 2)
    assert call.request == "sell, tokens120/45 please"


def test_what_was_not_reported_is_unknown_and_not_zero(llm: LLM, chain: Chain) -> None:
    made = work(llm, chain)
    failed, unpriced = summary_of(made["now fail500"]), summary_of(made["hello"])
    assert (failed.status, failed.tokens_in, failed.tokens_out, failed.cost) == (
        "failure",
        None,
        None,
        None,
    )
    assert "as told: 500" in str(failed.error)
    assert (unpriced.tokens_in, unpriced.tokens_out, unpriced.cost) == (10, 2, None)


def test_a_record_of_another_program_that_names_a_model_is_a_call_of_it() -> None:
    one = capsule(
        type=CapsuleType.CHAT,
        trigger=TriggerSection(source="my-client"),
        reasoning=ReasoningSection(model="m"),
        execution=ExecutionSection(resources_used={"tokens_in": 3, "cost": "0.5"}),
        outcome=OutcomeSection(status="success"),
    )
    found = summary_of(one.to_dict())
    assert (found.name, found.llm_call, found.model) == ("my-client", True, "m")
    assert (found.tokens_in, found.tokens_out, found.cost) == (3, None, Decimal("0.5"))


def test_a_task_that_is_called_as_the_adapter_is_stays_a_task(chain: Chain) -> None:
    from capsule_sdk import capsule_scope

    with capsule_scope("litellm"):
        pass
    assert not summary_of(chain.one("litellm")).llm_call


@pytest.mark.parametrize(
    ("sealed", "cost"),
    [
        ("0.000000250", Decimal("0.000000250")),
        (3, Decimal(3)),
        (0.1, Decimal("0.1")),
        *(
            (nothing, None)
            for nothing in ("", "x", "NaN", "Infinity", "1e30", "1e-31", True, [], 10**400)
        ),
        (float("nan"), None),
    ],
)
def test_a_cost_is_exact_or_unknown(sealed: Any, cost: Decimal | None) -> None:
    found = summary_of({"outcome": {"metrics": {"cost_usd": sealed}}}).cost
    assert found == cost
    assert cost is None or str(found) == str(cost)


@pytest.mark.parametrize(
    ("sealed", "moment"),
    [
        ("2026-01-02T03:04:05+01:00", datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        *((nothing, None) for nothing in ("", "yesterday", 5, None, "0001-01-01T00:00:00+14:00")),
    ],
)
def test_times_are_in_utc_or_unknown(sealed: Any, moment: datetime | None) -> None:
    assert summary_of({"trigger": {"timestamp": sealed}}).started == moment


@pytest.mark.parametrize("absurd", [True, -1, 2**63, float("nan"), float("inf"), "7", [7], {}])
def test_figures_that_are_none_are_unknown(absurd: Any) -> None:
    found = summary_of(
        {
            "sequence": absurd,
            "execution": {"duration_ms": absurd, "resources_used": {"tokens_in": absurd}},
            "outcome": {"metrics": {"children": {"started": absurd}}},
        }
    )
    assert (found.sequence, found.duration_ms, found.tokens_in, found.children_started) == (
        None,
    ) * 4


def test_a_row_has_a_text_for_each_field() -> None:
    one = summary_of(
        {
            "sequence": 7,
            "trigger": {"timestamp": "2026-01-02T03:04:05Z", "request": "line\nline \ud800"},
            "outcome": {"metrics": {"cost_usd": "0.000000250", "children": {}}},
        }
    )
    texts = dict(zip(FIELDS, row(one), strict=True))
    assert {name: text for name, text in texts.items() if text} == {
        "sequence": "7",
        "started": "2026-01-02T03:04:05+00:00",
        "llm_call": "false",
        "cost": "0.000000250",
        "request": "line\nline ?",
    }


NAMES = """id parent_id sequence type domain trigger context reasoning outcome execution authority
    metrics children started duration_ms tokens_in tokens_out cost_usd cost timestamp status tool_calls
    tool source request model error resources_used signed_at agent_id"""
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(
        [
            "litellm",
            "litellm.x",
            "success",
            "1e999999999",
            "2026-01-01",
            "9999-12-31T23:59:59-14:00",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(ANYTHING)
def test_whatever_a_record_holds_it_has_a_summary_that_can_be_written_down(record: Any) -> None:
    found = summary_of(record)
    assert len(row(found)) == len(FIELDS)
    "".join(row(found)).encode()
    assert json.loads(json.dumps(as_json(found), allow_nan=False)).keys() == set(FIELDS)


@pytest.mark.parametrize("nothing", [None, 7, "text", [], {}])
def test_what_is_no_record_says_nothing(nothing: Any) -> None:
    assert summary_of(nothing) == Summary()
