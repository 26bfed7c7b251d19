"""``capsuled tree``: on a terminal, in a pipe, as JSON; out of every source."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from chain_support import capsule, capsules
from litellm_support import LITELLM_NOISE
from looking import COMMAND, ESCAPE, EVIL, columns_of, plain, shown, work
from postgres_support import postgres
from qp_capsule import AuthoritySection, Capsule, OutcomeSection, ReasoningSection, TriggerSection
from rich.cells import cell_len

from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.evidence.exporting.export import export_chain

if TYPE_CHECKING:
    from conftest import Chain
    from litellm_support import LLM

__all__ = ["postgres"]

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

Output = pytest.CaptureFixture[str]


def tree(capsys: Output, *arguments: str) -> list[str]:
    assert main(["tree", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def names(lines: list[str]) -> list[str]:
    return [line.split("  [")[0] for line in lines]


def put(capsules: list[Capsule], url: Any = None) -> None:
    made = open_chain(url=url)
    made.append(capsules)
    made.close()


def test_in_a_pipe_it_is_plain_text(
    llm: LLM, chain: Chain, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(llm, chain)
    monkeypatch.setenv("COLUMNS", "150")
    lines = tree(capsys)
    assert names(lines) == [
        "✓  work.<locals>.rebalance",
        "├─ ✓  litellm.completion openai/gpt-4o",
        "├─ ✓  approve",
        "│  └─ ✓  litellm.completion openai/gpt-4o",
        "└─ ⊘ blocked  check limits",
        "✗ failure  work.<locals>.answer",
        "├─ ✗ failure  litellm.completion openai/gpt-4o",
        "└─ ✓  litellm.completion openai/model-without-a-price",
        "✓  litellm.completion openai/gpt-4o",
    ]
    assert '120→45 tokens  $0.00075  human_approved by ana@example.com  "sell' in lines[3]


def test_sums_that_leave_out_calls_say_so_and_what_is_estimated_is_told_from_what_was_reported(
    chain: Chain, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(source: str, **metrics: Any) -> Capsule:
        outcome = OutcomeSection(status="success", metrics=metrics)
        return capsule(trigger=TriggerSection(source=source), outcome=outcome)

    children = {"started": 2}
    put(
        [
            of("some", children=children, tokens_in=11, tokens_out=7, usage_unknown=1, cost_unknown=2,
               cost_usd="0.5"),
            of("all", children=children, usage_unknown=2, cost_unknown=2),
            of("litellm", tokens_estimated={"tokens_in": 12, "tokens_out": 30}),
            of("none", children=children, tokens_in=3, tokens_out=4, cost_usd="0.25"),
        ]
    )  # fmt: skip
    monkeypatch.setenv("COLUMNS", "150")
    some, all_of_them, call, none = tree(capsys)
    assert "11→7 tokens + 1 call unknown  $0.5 + 2 calls unknown" in some
    assert "tokens of 2 calls unknown  cost of 2 calls unknown" in all_of_them
    assert "~12→~30 tokens (estimated)" in call
    assert "unknown" not in none
    drawn = plain(shown("tree", columns=100))
    assert "11→7 +1?" in drawn[0]
    assert "$0.50 +2?" in drawn[0]
    assert "~12→~30" in drawn[2]


def test_on_a_terminal_figures_stand_in_columns_and_the_rest_is_cut(llm: LLM, chain: Chain) -> None:
    work(llm, chain)
    printed = shown("tree", columns=90)
    assert ESCAPE.search(printed)
    lines = plain(printed)
    assert len(lines) == 11
    assert max(map(len, lines)) == 90
    assert len({len(line) for line in lines if "$0." in line}) == 1, "amounts end in one column"
    assert (
        len({len(line.rpartition("→")[0]) for line in lines if "10→2 " in line and "+" not in line})
        == 1
    )
    assert columns_of([lines[1]], "openai/gpt-4o") == {len("├─ ✓ litellm.completion ")}
    assert "nobody knows" in next(line for line in lines if "answer" in line)
    assert lines[-1] == "9 capsules, not verified here: `capsuled verify` does that"


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_colours_gets_none(llm: LLM, chain: Chain, variable: dict[str, str]) -> None:
    work(llm, chain)
    printed = shown("tree", **variable)
    assert "\x1b" not in printed
    assert "approve  human_approved by ana@example.com" in printed


def test_a_narrow_terminal_has_everything_on_one_line_each(llm: LLM, chain: Chain) -> None:
    work(llm, chain)
    lines = plain(shown("tree", columns=50))
    assert max(map(len, lines[:9])) <= 50
    assert any("litellm.completion openai/gpt-4o  " in line for line in lines)


def test_what_does_not_fit_goes_through_the_pager_with_its_colours(chain: Chain) -> None:
    put(capsules(30))
    pager = {"PAGER": "sed s/^/paged:/"}
    printed = shown("tree", lines=20, **pager)
    assert printed.count("paged:") == 32
    assert ESCAPE.search(printed)
    assert "paged:" not in shown("tree", lines=40, **pager), "it fits"
    assert "paged:" not in shown("tree", "--no-pager", lines=20, **pager)
    assert "\x1b" not in shown("tree", lines=20, **pager, NO_COLOR="1")


def test_what_could_steer_a_terminal_does_not_reach_it_and_markup_is_text(chain: Chain) -> None:
    put(
        [
            capsule(
                trigger=TriggerSection(source=EVIL, request=EVIL),
                authority=AuthoritySection(type=EVIL, approver=EVIL),
                reasoning=ReasoningSection(model=EVIL),
                outcome=OutcomeSection(status=EVIL, error=EVIL),
            )
        ]
    )
    lines = plain(shown("tree", columns=300))
    assert "[bold red]" in lines[0]


def test_wide_characters_do_not_push_the_figures_out_of_their_columns(chain: Chain) -> None:
    put(
        [
            capsule(trigger=TriggerSection(source=source, request="漢字🙂" * 40))
            for source in ("漢字", "abc")
        ]
    )
    first, second, *_ = plain(shown("tree", columns=80))
    assert cell_len(first) == cell_len(second) == 80


def test_json_is_nested_and_has_the_fields_of_each(llm: LLM, chain: Chain, capsys: Output) -> None:
    made = work(llm, chain)
    roots = json.loads("".join(tree(capsys, "--json")))
    assert [root["id"] for root in roots] == [
        made[name]["id"] for name in ("rebalance", "answer", "alone")
    ]
    approve = roots[0]["children"][1]
    assert (approve["name"], approve["authority"], approve["cost"]) == (
        "approve",
        "human_approved",
        "0.00075",
    )
    assert [call["request"] for call in approve["children"]] == ["sell, tokens120/45 please"]
    assert tree(capsys, "--json", "--agent", "nobody") == ["[]"]


def test_json_of_a_deep_tree_is_whole(chain: Chain, capsys: Output) -> None:
    made = capsules(1500)
    for number, one in enumerate(made):
        one.id = UUID(int=number + 1)
        one.parent_id = UUID(int=number) if number else None
    put(made)
    text = "".join(tree(capsys, "--json"))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)  # Python reads JSON by recursion
    try:
        (node,) = json.loads(text)
    finally:
        sys.setrecursionlimit(limit)
    for _ in range(1499):
        (node,) = node["children"]
    assert node["name"] == "task-1499"


def test_a_selection_or_the_last_of_it(llm: LLM, chain: Chain, capsys: Output) -> None:
    made = work(llm, chain)
    assert len(tree(capsys, "--session", "morning")) == 5
    assert names(tree(capsys, "--task", made["approve"]["id"])) == [
        "✓  approve",
        "└─ ✓  litellm.completion openai/gpt-4o",
    ]
    assert names(tree(capsys, "--session", "evening", "--last", "1")) == [
        "✗ failure  work.<locals>.answer"
    ]
    assert tree(capsys, "--session", "night") == ["no capsules"]


def test_any_source_gives_the_same_tree(
    llm: LLM, chain: Chain, capsys: Output, tmp_path: Path, postgres: str
) -> None:
    work(llm, chain)
    expected = tree(capsys)
    export_chain(chain.url, tmp_path / "chain.json")
    assert tree(capsys, "--db", str(tmp_path / "chain.json")) == expected
    assert main(["export", str(tmp_path / "bundle.zip")]) == 0
    capsys.readouterr()
    assert tree(capsys, "--db", str(tmp_path / "bundle.zip")) == expected
    put([Capsule.from_dict(one) for one in chain.stored()], postgres)
    assert tree(capsys, "--db", postgres) == expected


def test_what_is_no_capsule_is_a_line_too(chain: Chain, capsys: Output, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"id": "a", "trigger": {"source": "fine"}}\n{"id": \n{"id": "c"}\n')
    assert names(tree(capsys, "--db", str(broken)))[:2] == [
        "? no status  fine",
        "? record 1 is not a capsule",
    ]


def test_a_reader_that_goes_away_is_no_error(chain: Chain) -> None:
    put([capsule("x" * 100) for _ in range(3000)])
    process = subprocess.Popen(
        [*COMMAND, "tree"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 0
