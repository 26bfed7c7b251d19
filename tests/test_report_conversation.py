"""The report draws a call as a conversation, as the command does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from looking import EVIL
from report_support import (
    Show,
    browser,  # noqa: F401 - a fixture
    manifest,
    report,
    sealed,
    show,  # noqa: F401 - a fixture
)
from talking import ANSWERS, MESSAGES, call, link, said

from capsule_sdk.evidence.showing.conversation import conversation_of


def opened(show: Show, folder: Path, *made: Any) -> tuple[Any, list[dict[str, Any]]]:
    records = sealed(made, folder)
    return show(report(folder / "r.html", records, manifest())).page, records


def pick(page: Any, number: int) -> None:
    row = page.locator(f"#row-{number}")
    row.scroll_into_view_if_needed()
    page.evaluate(
        "() => new Promise(requestAnimationFrame)"
    )  # the rows are drawn anew after scrolling
    row.click()
    page.wait_for_selector(f"#detail .kicker:has-text('number {number}')")


def turns(page: Any) -> list[list[str]]:
    """Return who speaks and what kinds of parts each turn has, from the page."""
    return page.eval_on_selector_all(  # type: ignore[no-any-return]
        "#detail .turns > li",
        """items => items.map((item) => [
            item.querySelector(".speaker").textContent,
            ...[...item.querySelectorAll(".said > div")].map(
                (part) => part.querySelector(".what")?.textContent ?? ""),
        ])""",
    )


def test_every_shape_has_the_turns_and_parts_that_the_command_draws(
    show: Show, tmp_path: Path
) -> None:
    made = [
        call({"roles": ["user"]}, result, key=number)
        for number, (result, _) in enumerate(ANSWERS, 1)
    ]
    made += [
        call({"messages": [message]}, "ok", key=100 + number)
        for number, (message, _) in enumerate(MESSAGES)
    ]
    page, records = opened(show, tmp_path, *made)
    for number, record in enumerate(records):
        pick(page, number)
        talk = conversation_of(record)
        assert talk is not None
        drawn = [[turn.speaker or "?", *(part.kind for part in turn.parts)] for turn in talk.turns]
        assert turns(page) == drawn


def test_it_goes_through_what_earlier_capsules_hold(show: Show, tmp_path: Path) -> None:
    page, _ = opened(
        show,
        tmp_path,
        call(said("first"), "a", key=1, hashed="aa"),
        call({**said("second"), **link(1, "aa")}, "b", key=2, hashed="bb"),
        call({**said("third"), **link(2, "bb")}, "c", key=3),
        call({**said("fourth"), **link(2, "other")}, "d", key=4),
    )
    pick(page, 2)
    text = page.inner_text("#detail .talk")
    assert text.index("first") < text.index("second") < text.index("third")
    assert text.rstrip().endswith("c")
    assert "not here" not in text
    pick(page, 3)
    text = page.inner_text("#detail .talk")
    assert "second" not in text
    assert (
        "The beginning is held by capsule 00000000-0000-0000-0000-000000000002, which is not here."
        in text
    )


def test_what_is_drawn_is_not_repeated_but_stands_in_the_raw_record(
    show: Show, tmp_path: Path
) -> None:
    page, _ = opened(show, tmp_path, call(said("only once"), {"refusal": "never twice"}, key=1))
    pick(page, 0)
    sections = page.inner_text("#detail").split("Raw record")[0]
    assert sections.count("only once") == sections.count("never twice") == 1
    assert "only once" in page.locator("#detail .raw pre").text_content()


def test_an_old_capsule_and_a_task_have_no_conversation(show: Show, tmp_path: Path) -> None:
    page, _ = opened(show, tmp_path, call({"model": "gpt-4o", "message_count": 1}, "text", key=1))
    pick(page, 0)
    assert page.locator("#detail .talk").count() == 0


def test_estimates_and_the_end_are_told(show: Show, tmp_path: Path) -> None:
    page, _ = opened(
        show, tmp_path, call({"roles": ["user"]}, "ok", key=1, tokens_estimated={"tokens_in": 12})
    )
    pick(page, 0)
    assert "Tokens about 12 → ?, estimated: the provider reported none." in page.inner_text(
        "#detail .talk"
    )


@pytest.mark.parametrize(
    "evil", [EVIL, "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>"]
)
def test_nothing_in_it_is_markup_or_rearranges_the_page(
    show: Show, tmp_path: Path, evil: str
) -> None:
    """The fixture fails on every dialog, error and request."""
    named = {"role": evil, "content": [{"type": evil, "text": evil}], evil: evil,
             "tool_calls": [{"name": evil, "arguments": evil}]}  # fmt: skip
    arguments = {
        "messages": [named],
        "tools": {"names": [evil]},
        "parameters": {evil: evil},
        **link(1, evil),
    }
    page, _ = opened(
        show, tmp_path, call(arguments, {"text": evil, "other": [{"type": evil}]}, key=1)
    )
    pick(page, 0)
    talk = page.locator("#detail .talk")
    assert talk.locator("img, script").count() == 0
    assert "\u202e" not in talk.text_content()
