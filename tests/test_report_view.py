"""The report's page as its readers use it: what it shows, with keys and mouse, and on paper."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey
from report_support import (
    Show,
    browser,  # noqa: F401 - a fixture
    command,
    day,
    manifest,
    public_key,
    rechain,
    report,
    show,  # noqa: F401 - a fixture
    signing_key,
)

LONG_TASKS = """
  globalThis.longest = 0;
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) globalThis.longest = Math.max(globalThis.longest, task.duration);
  }).observe({ type: "longtask", buffered: true });
"""
SEARCH = """(words) => new Promise((resolve) => {
  const field = document.getElementById("search");
  const began = performance.now();
  const answered = new MutationObserver(() => resolve(performance.now() - began));
  answered.observe(document.getElementById("count"), { childList: true });
  field.value = words;
  field.dispatchEvent(new Event("input", { bubbles: true }));
})"""
NO_WORKER = "globalThis.Worker = class { constructor() { throw new Error('no workers here'); } };"


@pytest.fixture
def open_day(show: Show, tmp_path: Path) -> Callable[..., Any]:
    """Open a report of a whole, signed day."""

    def open_it(rounds: int = 2, **options: Any) -> Any:
        records = day(tmp_path, rounds)
        return show(
            report(tmp_path / "r.html", records, manifest(public_key(signing_key(tmp_path)))),
            **options,
        )

    return open_it


# ── what it shows ─────────────────────────────────────────────────────────────────────────────────


def figures_of(shown: Any) -> dict[str, str]:
    """Return the figures of the summary, and what is noted on one under its name and `?`."""
    found = {}
    for figure in shown.page.locator(".figures > div").all():
        name, value = figure.locator("dt").inner_text(), figure.locator(".value").inner_text()
        found[name], found[f"{name}?"] = value, "".join(figure.locator(".note").all_inner_texts())
    return found


def test_the_summary_adds_up_calls_exactly_and_no_task_twice(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path, 12)
    calls = [record["outcome"]["metrics"] for record in records if record["type"] == "chat"]
    calls[0]["cost_usd"], calls[1]["cost_usd"], calls[2]["cost_usd"] = (
        2.5e-05,
        "0.1",
        1e3,
    )  # as others spell it
    shown = show(report(tmp_path / "r.html", records, manifest(public_key(signing_key(tmp_path)))))
    figures = figures_of(shown)
    assert figures["Capsules"] == str(len(records))
    assert figures["LLM calls"] == str(len(calls))
    assert figures["Tokens in"] == f"{sum(call['tokens_in'] or 0 for call in calls):,}"
    assert (
        figures["Cost"]
        == f"${sum(Decimal(str(call['cost_usd'] or 0)) for call in calls).normalize()}"
    )
    failures = sum(record["outcome"]["status"] == "failure" for record in records)
    assert figures["Failures"] == str(failures) != "0"
    words = [
        drawing.get_attribute("aria-label") for drawing in shown.page.locator("svg[role=img]").all()
    ]
    assert any("Human approved" in text for text in words)
    assert any("gpt-4o-mini" in text for text in words)


# What the sections of a record may hold, in the corners where two readers could differ.
TOKENS = [None, 0, 7, -1, 1.0, True, "7", [7], 2**53 + 1, 2**63 - 1, 2**63, 10**400]
COSTS: list[Any] = [
    None, 0, 3, 0.1, 2.5e-05, 1e16, True, [], 2**63 - 1, 2**63, float("nan"), float("inf"), "0.000000250",
    "1e3", " 0.1\x1f", "1_0", ".5", "5.", "+1", "-2.25", "\u0663.\u0665", "", "x", "NaN", "1e29", "1e30",
    "1e-30", "1e-31", "0e30", "0x1", "1,5", "\ufeff1",
]  # fmt: skip
NAMES: list[Any] = [
    None,
    "",
    "litellm",
    "litellm.completion",
    "m",
    "my-client",
    5,
    5.0,
    True,
    [],
    10**19,
]
CORNERS: dict[str, list[Any]] = {
    "type": ["chat", "agent", "system", "tool", None],
    "trigger.source": NAMES,
    "reasoning.model": [None, "", "m", "m", "n", 5, True, []],
    "execution.tool_calls": [None, [], [5], [{"tool": "litellm.x"}], [{"tool": "other"}], [{"tool": 5}], {}],
    "execution.resources_used": [None, {}, [], {"tokens_in": 5}, {"cost": "0.5"}],
    "outcome.metrics": [None, {}, [], {"tokens_out": 5}],
    "outcome.status": [None, "failure", "success", 5],
}  # fmt: skip
USED = {"tokens_in": TOKENS, "tokens_out": TOKENS, "cost_usd": COSTS, "cost": COSTS}


def cornered(record: Any, chance: random.Random) -> None:
    """Put odd things where a reader finds what was called and what it used."""
    for section in ("trigger", "reasoning", "execution", "outcome"):
        record[section] = dict(record[section])
    for name, values in CORNERS.items():
        section, _, key = name.rpartition(".")
        if chance.random() < 0.5:
            (record[section] if section else record)[key] = chance.choice(values)
    for section, key in (("execution", "resources_used"), ("outcome", "metrics")):
        if chance.random() < 0.7:
            names = [name for name in USED if chance.random() < 0.6]
            record[section][key] = {name: chance.choice(USED[name]) for name in names}
    if chance.random() < 0.3 and isinstance(record["outcome"]["metrics"], dict):
        record["outcome"]["metrics"]["children"] = chance.choice([None, {}, {"started": 1}, [], 0])


def figures_as_stats(found: Any) -> dict[str, str]:
    """What the page shows where `capsuled stats --json` says this."""
    total = found["total"]

    def unknown(calls: int) -> str:
        return f"unknown for {calls} call{'' if calls == 1 else 's'}" if calls else ""

    return {
        "Capsules": f"{total['capsules']:,}",
        "Tasks": f"{total['tasks']:,}",
        "LLM calls": f"{total['llm_calls']:,}",
        "Failures": f"{total['failures']:,}",
        "Tokens in": f"{total['tokens_in']:,}",
        "Tokens in?": unknown(total["tokens_unknown"]),
        "Tokens out": f"{total['tokens_out']:,}",
        "Cost?": unknown(total["cost_unknown"]) or "exact sum",
    }


@pytest.mark.parametrize("seed", range(12))
def test_what_a_call_is_and_what_it_used_is_what_the_command_says(
    seed: int, show: Show, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    records = day(tmp_path, 3)
    for record in records:
        cornered(record, chance)
    path = report(tmp_path / "r.html", records, manifest(public_key(signing_key(tmp_path))))
    stats = command("stats", "--db", str(path))
    shown = show(path)
    figures = figures_of(shown)
    expected = figures_as_stats(stats)
    assert {name: figures[name] for name in expected} == expected
    assert Decimal(figures["Cost"].removeprefix("$")) == Decimal(stats["total"]["cost"])
    models = {
        one["model"] or "(no model named)": (f"{one['llm_calls']:,}", Decimal(one["cost"]))
        for one in stats["by"]["model"]
        if one["llm_calls"]
    }
    rows = shown.page.locator(".models tbody tr").all()
    found = {
        row.locator("th").inner_text(): [cell.inner_text() for cell in row.locator("td").all()]
        for row in rows
    }
    assert found.keys() == models.keys()
    for name, (calls, _, _, cost, *_) in found.items():
        amount = Decimal(0) if cost == "unknown" else Decimal(cost.removeprefix("$"))
        assert (calls, amount) == models[name]


def test_filters_and_search_show_matches_with_the_tasks_around_them(open_day: Any) -> None:
    shown = open_day(3)
    shown.page.select_option("#filter-model", "gpt-4o-mini")
    shown.page.wait_for_selector("#count:has-text('match')")
    assert shown.page.inner_text("#count").startswith("3 of")
    assert shown.rows()[:3] == ["desk.rebalance", "research.brief", "gpt-4o-mini"]
    assert shown.page.locator(".row.around .title").all_inner_texts()[:2] == [
        "desk.rebalance",
        "research.brief",
    ]
    assert shown.search("ASTER rating").startswith("1 of")
    assert shown.search("no such words").startswith("0 of")
    shown.page.click("#clear")
    shown.page.wait_for_selector("#count:not(:has-text('match'))")
    shown.page.select_option("#filter-check", "broken")
    shown.page.wait_for_selector("#count:has-text('0 of')")


def test_a_capsule_is_shown_with_its_sections_seal_and_exact_text(
    show: Show, tmp_path: Path
) -> None:
    records: list[Any] = day(tmp_path)
    records[0] = text = json.dumps(records[0]).replace('"confidence": 0.0', '"confidence":   0.0')
    shown = show(report(tmp_path / "r.html", records, manifest(public_key(signing_key(tmp_path)))))
    assert shown.findings() == set(), "numbers and spaces are as they were stored"
    shown.page.locator("#row-0").click()
    shown.page.wait_for_selector("#detail h3")
    heads = shown.page.locator("#detail h4").all_inner_texts()
    assert [head.split()[0] for head in heads][:6] == [
        "Trigger",
        "Context",
        "Reasoning",
        "Authority",
        "Execution",
        "Outcome",
    ]
    shown.page.click("#detail summary")
    assert shown.page.inner_text("#detail pre") == text
    shown.page.click("text=Copy exact text")
    shown.page.wait_for_selector("text=Copied.")


def test_an_approval_is_called_an_assertion(open_day: Any) -> None:
    shown = open_day()
    shown.page.locator(".rows .row", has_text="approve trade").first.click()
    shown.page.wait_for_selector("#detail h3")
    assert "asserted this approval" in shown.page.inner_text("#detail")


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{7*7}} ${alert(1)} <!-- <![CDATA[ ]]>",
    "javascript:alert(1)",
    "\x00\x07\x1b[31mred\x9b",
    "\u202egpj.exe\u2066\u200f",
    "x" * 1_000_000,
]


def test_hostile_records_are_shown_as_text_and_run_nothing(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path)
    for record, text in zip(records, HOSTILE, strict=False):
        record["trigger"].update(source=text, request=text)
        record["context"]["agent_id"] = record["authority"]["type"] = text
        record["reasoning"]["model"] = record["domain"] = text
        record["outcome"]["metrics"] = {
            text[:99]: text,
            "__proto__": {"polluted": text},
            "cost_usd": text,
        }
    nested: Any = "bottom"
    for _ in range(100):
        nested = {"deeper": [nested]}
    records[8]["outcome"]["metrics"]["nested"] = nested
    key = signing_key(tmp_path)
    rechain(records, key)
    says = manifest(public_key(key), selection={"agent": HOSTILE[1]})
    says["source"] = says["keys"][0]["name"] = HOSTILE[0]
    shown = show(report(tmp_path / "r.html", records, says))
    assert shown.verdict == "broken"  # they are not of the one agent that the file claims
    assert {code for code, _ in shown.findings()} == {"selection_incomplete"}
    assert HOSTILE[0] in shown.page.inner_text("h1")
    shown.page.click("#expand")
    for record, text in zip(records, HOSTILE, strict=False):
        shown.page.evaluate("document.querySelector('.grid').focus()")
        shown.page.locator(f"#row-{record['sequence']}").click()
        shown.page.wait_for_selector(f"#detail .kicker:text('number {record['sequence']}')")
        shown_text = shown.page.inner_text("#detail")
        assert text[:20] in shown_text or "U+0000" in shown_text or "U+202E" in shown_text
        assert not set(shown_text) & set("\x00\x07\x1b\x9b\u202e\u2066\u200f")
    shown.page.locator("#detail button", has_text="Show all 1,000,000 characters").first.click()
    shown.page.locator("#row-8").click()
    shown.page.wait_for_selector("#detail .kicker:text('number 8')")
    assert "deeper" in shown.page.inner_text("#detail")
    elements = "document.querySelectorAll('main img, main script, main iframe, [onerror]').length"
    assert shown.page.evaluate(elements) == 0
    assert shown.page.evaluate("({}).polluted") is None


def test_a_script_that_was_put_into_the_file_does_not_run(show: Show, tmp_path: Path) -> None:
    path = report(tmp_path / "r.html", day(tmp_path), {})
    path.write_text(
        path.read_text().replace("<main>", "<main><script>globalThis.intruder = 1</script>")
    )
    shown = show(path)
    assert shown.page.evaluate("globalThis.intruder") is None
    assert any("Content Security Policy" in failure for failure in shown.failures)
    shown.failures.clear()


# ── how it is used ────────────────────────────────────────────────────────────────────────────────


def active(shown: Any) -> str:
    """Return the name of the row that the keyboard is at, as a screen reader finds it."""
    row = shown.page.get_attribute(".grid", "aria-activedescendant")
    return str(shown.page.inner_text(f"#{row} .title"))


def test_the_tree_is_used_with_the_keyboard_alone(open_day: Any) -> None:
    shown = open_day()
    press = shown.page.keyboard.press
    press("/")
    assert shown.page.evaluate("document.activeElement.id") == "search"
    press("Escape")
    assert shown.page.evaluate("document.activeElement.className") == "grid"
    assert active(shown) == "desk.rebalance"
    press("ArrowRight")
    assert active(shown) == "research.brief"
    press("ArrowLeft")
    assert shown.page.locator(".row.active").get_attribute("aria-expanded") == "false"
    press("ArrowRight")
    press("ArrowRight")
    assert active(shown) == "market.quotes"
    assert shown.page.locator(".row.active").get_attribute("aria-level") == "3"
    press("ArrowLeft")
    assert active(shown) == "research.brief"
    press("End")
    last = active(shown)
    press("ArrowDown")
    assert active(shown) == last
    press("Home")
    press("Enter")
    shown.page.wait_for_selector("#detail h3")
    assert shown.page.inner_text("#detail-title") == "desk.rebalance"
    press("Escape")
    assert not shown.page.is_visible("#detail")
    assert shown.page.evaluate("document.activeElement.className") == "grid"


def test_the_tree_tells_assistive_technology_what_it_is(open_day: Any) -> None:
    page = open_day().page
    assert page.get_by_role("treegrid").count() == page.get_by_role("main").count() == 1
    assert page.get_by_role("search").count() == page.get_by_role("banner").count() == 1
    row = page.locator(".rows .row").nth(1)
    described = [
        row.get_attribute(f"aria-{name}") for name in ("level", "posinset", "setsize", "expanded")
    ]
    assert described == ["2", "1", "3", "true"]
    named = "(fields) => fields.map((field) => field.labels.length > 0 || Boolean(field.ariaLabel))"
    assert all(page.eval_on_selector_all("input, select", named))


def test_light_and_dark_follow_the_system_until_one_is_chosen(open_day: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    dark, light = "rgb(20, 21, 23)", "rgb(250, 249, 246)"
    page = open_day(color_scheme="dark").page
    assert page.evaluate(paper) == dark
    page.click("#theme")
    assert page.evaluate(paper) == light
    page.click("#theme")
    page.emulate_media(color_scheme="light")
    assert page.evaluate(paper) == dark
    page.click("#theme")
    assert page.evaluate(paper) == light


def test_the_print_holds_the_tree_up_to_a_bound_and_says_what_is_left_out(open_day: Any) -> None:
    shown = open_day(60)
    capsules = int(shown.page.inner_text("#count").split()[0])
    assert shown.page.pdf(format="A4").startswith(b"%PDF")
    shown.page.emulate_media(media="print")
    assert shown.page.locator("#printed tbody tr").count() == 500 < capsules
    assert f"{capsules - 500} capsules of {capsules} are left out" in shown.page.inner_text(
        "#printed"
    )
    assert shown.page.is_visible("#verdict-title")
    assert not shown.page.is_visible("#filters")
    assert not shown.page.is_visible("#tree")


def test_the_print_holds_the_findings_up_to_a_bound_too(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path, 8)
    says = manifest("0" * 63 + "3")
    says["keys"].append({"public_key": "not a key"})
    shown = show(report(tmp_path / "r.html", records, says))
    assert shown.verdict == "broken", "a key that is not a point on the curve fits nothing"
    assert "1 key of the file, which no signature can" in shown.page.inner_text("#checks")
    shown = show(report(tmp_path / "r.html", records, manifest(public_key(SigningKey(b"o" * 32)))))
    assert shown.page.locator("li.finding").count() == 5
    shown.page.pdf(format="A4")
    shown.page.emulate_media(media="print")
    assert shown.page.locator("li.finding").count() == 50 < len(records)
    assert f"{len(records) - 50} more findings of this kind are left out" in shown.page.inner_text(
        "#findings"
    )


def test_a_browser_without_workers_checks_beside_the_page(open_day: Any) -> None:
    shown = open_day(script=NO_WORKER)
    assert shown.judgement() == ("open", set())
    assert not any(url.startswith("blob:") for url in shown.requests)
    assert shown.search("norddeutsche").startswith("9 of")


@pytest.mark.load
def test_ten_thousand_capsules_stay_usable(open_day: Any) -> None:
    shown = open_day(1_110, script=LONG_TASKS)
    assert shown.judgement() == ("open", set())
    assert shown.page.inner_text("#count").startswith("10,0")
    assert shown.page.evaluate(SEARCH, "argue against the proposal for solent water") < 1_000
    assert " of 10,0" in shown.page.inner_text("#count")
    shown.page.click("#clear")
    shown.page.click("#expand")
    for place in range(0, 360_000, 40_000):
        shown.page.evaluate(f"document.querySelector('.grid').scrollTop = {place}")
    shown.page.wait_for_timeout(100)
    assert shown.page.locator(".rows .row").count() < 100
    assert shown.page.evaluate("longest") < 1_000
