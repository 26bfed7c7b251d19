"""The report's page as its readers use it: what it shows, with keys and mouse, and on paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey
from report_support import (
    Show,
    browser,  # noqa: F401 - a fixture
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


def test_the_summary_adds_up_calls_exactly_and_no_task_twice(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path, 12)
    calls = [record["outcome"]["metrics"] for record in records if record["type"] == "chat"]
    calls[0]["cost_usd"], calls[1]["cost_usd"], calls[2]["cost_usd"] = (
        2.5e-05,
        "0.1",
        1e3,
    )  # as others spell it
    shown = show(report(tmp_path / "r.html", records, manifest(public_key(signing_key(tmp_path)))))
    figures = dict(
        zip(
            shown.page.locator(".figures dt").all_inner_texts(),
            shown.page.locator(".figures .value").all_inner_texts(),
            strict=True,
        )
    )
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
    assert shown.verdict == "whole", "numbers and spaces are as they were stored"
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
    for _ in range(200):
        nested = {"deeper": [nested]}
    records[8]["outcome"]["metrics"]["nested"] = nested
    key = signing_key(tmp_path)
    rechain(records, key)
    says = manifest(public_key(key), source=HOSTILE[0], selection={"agent": HOSTILE[1]})
    says["keys"][0].update(name=HOSTILE[0], origin=HOSTILE[5])
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
    shown = show(report(tmp_path / "r.html", records, manifest("0" * 63 + "3")))
    assert shown.verdict == "open", "a key that is no point on the curve is left aside"
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
    assert shown.verdict == "whole"
    assert not any(url.startswith("blob:") for url in shown.requests)
    assert shown.search("norddeutsche").startswith("9 of")


@pytest.mark.load
def test_ten_thousand_capsules_stay_usable(open_day: Any) -> None:
    shown = open_day(1_110, script=LONG_TASKS)
    assert shown.verdict == "whole"
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
