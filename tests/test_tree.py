"""The tree: every record in one line under the task that made it, whatever the records hold."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from chain_support import capsule
from hypothesis import given
from hypothesis import strategies as st
from qp_capsule import (
    AuthoritySection,
    CapsuleType,
    ExecutionSection,
    OutcomeSection,
    ReasoningSection,
    ToolCall,
    TriggerSection,
)

from capsule_sdk.evidence.showing.tree import render_tree


def record(number: int, parent: int | None = None, **fields: Any) -> dict[str, Any]:
    """A capsule that started in its ``number``-th second."""
    made = capsule(f"task-{number}", id=UUID(int=number), **fields).to_dict()
    made["parent_id"] = None if parent is None else str(UUID(int=parent))
    made["trigger"]["timestamp"] = f"2026-01-01T00:{number // 60:02}:{number % 60:02}+00:00"
    return made


def names(tree: str) -> list[str]:
    """Branch and name of each line."""
    return [line.replace("✓  ", "").split("[")[0].rstrip() for line in tree.splitlines()]


def test_children_hang_under_their_parents_in_the_order_they_started() -> None:
    records = [record(5, 1), record(3, 2), record(2, 1), record(4, 2), record(1), record(6)]
    assert names(render_tree(records)) == [
        "task-1",
        "├─ task-2",
        "│  ├─ task-3",
        "│  └─ task-4",
        "└─ task-5",
        "task-6",
    ]


def test_a_task_shows_what_it_was_how_it_ended_and_what_it_cost() -> None:
    one = capsule(
        trigger=TriggerSection(source="rebalance", request="rebalance my portfolio"),
        execution=ExecutionSection(duration_ms=2140),
        outcome=OutcomeSection(
            status="success",
            metrics={"tokens_in": 120, "tokens_out": 45, "cost_usd": "0.0021"},
        ),
    )
    assert render_tree([one.to_dict()]) == (
        '✓  rebalance  [agent]  2.1 s  120→45 tokens  $0.0021  "rebalance my portfolio"'
    )


def test_an_llm_call_is_named_by_its_entry_point_and_model() -> None:
    one = capsule(
        type=CapsuleType.CHAT,
        trigger=TriggerSection(source="litellm", request="hi"),
        reasoning=ReasoningSection(model="gpt-4o"),
        execution=ExecutionSection(
            tool_calls=[ToolCall(tool="litellm.acompletion")],
            duration_ms=300,
            resources_used={"tokens_in": 7, "tokens_out": None},
        ),
        authority=AuthoritySection(
            type="human_approved", approver="ana@example.com", policy_reference="POL-7"
        ),
        outcome=OutcomeSection(status="failure", error="refused"),
    )
    assert render_tree([one.to_dict()], width=200) == (
        "✗ failure  litellm.acompletion gpt-4o  [chat]  300 ms  7→? tokens"
        '  human_approved by ana@example.com (POL-7)  "hi"'
    )


@pytest.mark.parametrize(
    ("status", "mark"),
    [
        ("success", "✓  "),
        ("failure", "✗ failure  "),
        ("blocked", "⊘ blocked  "),
        ("partial", "◐ partial  "),
        ("pending", "… pending  "),
        ("odd", "? odd  "),
        ("", "? no status  "),
    ],
)
def test_the_mark_tells_how_it_ended(status: str, mark: str) -> None:
    one = capsule(outcome=OutcomeSection(status=status)).to_dict()
    assert render_tree([one]).startswith(mark)


@pytest.mark.parametrize(
    ("milliseconds", "shown"), [(0, "0 ms"), (999, "999 ms"), (1000, "1.0 s"), (90_000, "1.5 min")]
)
def test_durations_are_in_the_unit_that_reads_well(milliseconds: int, shown: str) -> None:
    one = capsule(execution=ExecutionSection(duration_ms=milliseconds)).to_dict()
    assert f"  {shown}  " in render_tree([one])


def test_a_record_whose_parent_is_not_there_stands_at_the_root_and_says_so() -> None:
    tree = render_tree([record(2, 1), record(3, 2)])
    assert names(tree) == ["task-2", "└─ task-3"]
    assert tree.splitlines()[0].endswith("(under 00000000, not shown here)")


def test_a_parent_that_started_more_than_is_shown_says_so() -> None:
    parent = record(1)
    parent["outcome"]["metrics"]["children"] = {"started": 3, "ended": 3}
    assert "(1 of 3 children shown)" in render_tree([parent, record(2, 1)])
    assert "shown" not in render_tree([parent, *(record(n, 1) for n in (2, 3, 4))])


def test_records_in_a_circle_are_shown_once_each() -> None:
    tree = render_tree([record(1, 2), record(2, 3), record(3, 1), record(4, 4), record(5)])
    assert sorted(name.lstrip("│├└─ ") for name in names(tree)) == [
        f"task-{number}" for number in range(1, 6)
    ]
    assert tree.count("its parents form a circle") == 2


def test_records_with_one_id_are_both_shown() -> None:
    assert len(render_tree([record(1), record(1), record(2, 1)]).splitlines()) == 3


def test_thousands_of_levels_are_drawn_in_lines_of_bounded_width() -> None:
    records = [record(1), *(record(number, number - 1) for number in range(2, 3600))]
    lines = render_tree(records).splitlines()
    assert len(lines) == 3599
    assert max(map(len, lines)) < 200


def test_lines_are_cut_to_the_width_and_notes_are_not() -> None:
    one = record(2, 1)
    one["trigger"]["request"] = "long " * 100
    (line,) = render_tree([one], width=80).splitlines()
    assert len(line) == 80
    assert "…  (under" in line


def test_what_could_steer_a_terminal_does_not_reach_it() -> None:
    evil = "\x1b[2J\x1b]0;title\x07a\u202eb\nc\r\x9bd\u2028e"
    one = capsule(
        evil,
        trigger=TriggerSection(source=evil, request=evil),
        authority=AuthoritySection(type=evil, approver=evil),
        outcome=OutcomeSection(status=evil, metrics={"cost_usd": evil, "tokens_in": evil}),
    ).to_dict()
    one["type"] = one["parent_id"] = evil
    assert render_tree([one], width=1000).isprintable()


@pytest.mark.parametrize(
    "broken",
    [
        None,
        7,
        [],
        {},
        {"id": None, "trigger": [], "outcome": "x", "execution": 3, "authority": None},
        {"execution": {"tool_calls": [None], "duration_ms": "x"}, "trigger": {"timestamp": 5}},
        {"execution": {"tool_calls": {"a": 1}, "duration_ms": True}},
        {"outcome": {"metrics": {"children": {"started": "many"}, "tokens_in": [1]}}},
        {"trigger": {"timestamp": "2026-01-01T00:00:00"}, "parent_id": {}},
    ],
)
def test_a_malformed_record_is_one_line_like_the_others(broken: Any) -> None:
    lines = render_tree([record(1), broken, record(2, 1)]).splitlines()
    assert len(lines) == 3
    assert all(lines)


NAMES = """id parent_id trigger outcome execution metrics children started duration_ms tokens_in
    timestamp status tool_calls tool source request authority type"""
SECTIONS = st.sampled_from(NAMES.split())
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(SECTIONS, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(SECTIONS, ANYTHING, max_size=6), max_size=6))
def test_any_records_give_one_line_each(records: list[dict[str, Any]]) -> None:
    assert len(render_tree(records).splitlines()) == len(records)


def test_no_records_are_no_text() -> None:
    assert render_tree([]) == ""
