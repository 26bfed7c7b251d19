"""``capsuled stats``: exact sums, each call counted once, nothing unknown counted as nothing."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from chain_support import capsule
from hypothesis import given
from hypothesis import strategies as st
from litellm_support import LITELLM_NOISE
from looking import EVIL, plain, shown, work
from qp_capsule import AuthoritySection, CapsuleType, ContextSection, OutcomeSection, TriggerSection

from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.evidence.showing.stats import DIMENSIONS, stats_of
from capsule_sdk.evidence.showing.summary import Summary

if TYPE_CHECKING:
    from conftest import Chain
    from litellm_support import LLM

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

Output = pytest.CaptureFixture[str]


def stats(capsys: Output, *arguments: str) -> Any:
    assert main(["stats", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def groups(found: Any, dimension: str, *figures: str) -> dict[str, tuple[Any, ...]]:
    return {
        one[dimension]: tuple(one[figure] for figure in figures) for one in found["by"][dimension]
    }


def test_what_calls_used_is_counted_on_the_calls_alone(
    llm: LLM, chain: Chain, capsys: Output
) -> None:
    made = work(llm, chain)
    found = stats(capsys)
    total = found["total"]
    assert (total["capsules"], total["tasks"], total["llm_calls"]) == (9, 4, 5)
    assert (total["tokens_in"], total["tokens_out"], total["tokens_unknown"]) == (150, 51, 1)
    assert (Decimal(total["cost"]), total["cost_unknown"]) == (Decimal("0.00084"), 2)
    assert total["failures"] == 2
    calls = [one for one in made.values() if one["trigger"]["source"] == "litellm"]
    assert total["call_ms"] == sum(one["execution"]["duration_ms"] for one in calls)
    roots = [made["rebalance"], made["answer"]]
    assert total["task_ms"] == sum(one["execution"]["duration_ms"] for one in roots)
    began = sorted(one["trigger"]["timestamp"] for one in made.values())
    assert (found["first"], found["last"]) == (began[0], began[-1])


def test_each_dimension_adds_up_by_its_own(llm: LLM, chain: Chain, capsys: Output) -> None:
    made = work(llm, chain)
    found = stats(capsys)
    assert list(found["by"]) == ["agent", "model", "authority", "outcome", "day"]
    assert groups(found, "agent", "capsules", "llm_calls", "failures", "cost", "cost_unknown") == {
        "trader": (5, 2, 0, "0.000795", 0),
        "support": (3, 2, 2, "0", 2),
        "litellm": (1, 1, 0, "0.000045", 0),
    }
    assert groups(found, "model", "capsules", "tasks", "tokens_in") == {
        "openai/gpt-4o": (4, 0, 140),
        "openai/model-without-a-price": (1, 0, 10),
    }
    assert groups(found, "authority", "capsules", "tokens_in") == {
        "autonomous": (6, 30), "human_approved": (2, 120), "policy": (1, 0),
    }  # fmt: skip
    assert groups(found, "outcome", "capsules") == {
        "success": (6,),
        "failure": (2,),
        "blocked": (1,),
    }
    days = {one["trigger"]["timestamp"][:10] for one in made.values()}
    assert {one["day"] for one in found["by"]["day"]} == days


def test_the_time_of_a_chosen_task_counts_though_it_belongs_to_another(
    llm: LLM, chain: Chain, capsys: Output
) -> None:
    made = work(llm, chain)
    inner = made["approve"]
    assert inner["parent_id"] is not None
    total = stats(capsys, "--task", inner["id"].upper(), "--json")["total"]
    assert total["task_ms"] == round(inner["execution"]["duration_ms"])


def test_what_to_count_by_and_of_which_records_can_be_chosen(
    llm: LLM, chain: Chain, capsys: Output
) -> None:
    work(llm, chain)
    found = stats(
        capsys, "--by", "session", "--by", "domain", "--by", "session", "--agent", "trader"
    )
    assert list(found["by"]) == ["session", "domain"]
    assert groups(found, "session", "capsules") == {"morning": (5,)}
    assert groups(found, "domain", "capsules") == {"finance": (5,)}
    assert groups(stats(capsys, "--by", "session"), "session", "capsules")[None] == (1,)  # type: ignore[index]


def test_in_a_pipe_it_is_one_aligned_table(llm: LLM, chain: Chain, capsys: Output) -> None:
    work(llm, chain)
    assert main(["stats", "--by", "agent"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == (
        "capsules tasks LLM calls failed tokens in tokens out tokens unknown cost cost unknown"
        " LLM time task time"
    )
    assert lines[1].split()[:9] == ["all", "9", "4", "5", "2", "150", "51", "1", "$0.000840"]
    assert [line.split()[0] for line in lines[3:7]] == ["agent", "trader", "support", "litellm"]
    ends = {line.index("$0.") for line in lines if "$0." in line}
    assert len(ends) == 1, "amounts have as many decimal places each, and stand below each other"
    assert lines[5].split()[8] == "?", "no cost of any of its calls is known"
    assert lines[-1].endswith("not verified here: `capsuled verify` does that")


def test_a_narrow_terminal_shows_fewer_columns_and_none_in_part(llm: LLM, chain: Chain) -> None:
    work(llm, chain)
    wide, narrow = plain(shown("stats", columns=180)), plain(shown("stats", columns=70))
    assert "task time" in wide[0]
    assert "task time" not in narrow[0]
    assert "cost unknown" in narrow[0]
    for columns in range(50, 180, 10):
        head = plain(shown("stats", "--by", "agent", columns=columns))[0]
        assert "tokens unknown" in head or "tokens" not in head, (
            "a sum that leaves out calls says so"
        )
    assert "…" not in narrow[0] + narrow[1]
    assert {len(line) for line in narrow if "trader" in line} == {len(narrow[0])}


def test_names_out_of_the_chain_do_not_steer_the_terminal(chain: Chain) -> None:
    made = open_chain()
    evil = capsule(
        type=CapsuleType.CHAT,
        context=ContextSection(agent_id=EVIL, session_id=EVIL),
        authority=AuthoritySection(type=EVIL),
        outcome=OutcomeSection(status=EVIL),
    )
    made.append([evil])
    made.close()
    lines = plain(
        shown("stats", "--by", "agent", "--by", "session", "--by", "outcome", "--by", "authority")
    )
    assert sum("[bold red]" in line for line in lines) == 4


def test_days_are_those_of_utc_in_their_order(chain: Chain, capsys: Output) -> None:
    made = open_chain()
    for moment in ("2026-03-02T23:30:00-05:00", "2026-03-01T12:00:00+00:00"):
        made.append([capsule(trigger=TriggerSection(timestamp=datetime.fromisoformat(moment)))])
    made.close()
    assert [one["day"] for one in stats(capsys)["by"]["day"]] == ["2026-03-01", "2026-03-03"]


def test_a_chain_without_capsules_says_so(llm: LLM, chain: Chain, capsys: Output) -> None:
    work(llm, chain)
    assert main(["stats", "--agent", "nobody"]) == 0
    assert capsys.readouterr().out == "no capsules\n"
    assert stats(capsys, "--agent", "nobody")["total"]["cost"] == "0"


def test_what_cannot_be_counted_by_is_wrong_usage(capsys: Output) -> None:
    assert main(["stats", "--by", "mood"]) == 2
    assert "mood" in capsys.readouterr().err


COSTS = st.none() | st.decimals(-(10**29), 10**29, places=30, allow_nan=False, allow_infinity=False)


SUMMARIES = st.tuples(st.booleans(), COSTS, st.sampled_from([None, "a", "b"])).map(
    lambda parts: Summary(llm_call=parts[0], cost=parts[1], agent=parts[2])
)


@given(st.lists(SUMMARIES))
def test_sums_are_exact_and_groups_add_up_to_the_total(summaries: list[Summary]) -> None:
    found = stats_of(summaries, tuple(DIMENSIONS))
    costs = [one.cost for one in summaries if one.llm_call]
    assert Fraction(found.total.cost) == sum(Fraction(cost) for cost in costs if cost is not None)
    assert found.total.cost_unknown == costs.count(None)
    for dimension in set(DIMENSIONS) - {"model"}:
        parts = [totals for _, totals in found.ordered(dimension)]
        assert sum(one.capsules for one in parts) == len(summaries)
        assert sum((Fraction(one.cost) for one in parts), Fraction(0)) == Fraction(found.total.cost)


def test_memory_is_bounded_by_what_is_told_apart_and_not_by_long_names() -> None:
    found = stats_of(
        (Summary(agent="a" * 10_000 + str(n), cost=Decimal(0)) for n in range(100)), ["agent"]
    )
    assert len(found.groups["agent"]) == 1
