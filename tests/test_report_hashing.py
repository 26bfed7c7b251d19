"""The report's page hashes JSON of every spelling as Python does, and refuses what Python refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from report_support import browser, report  # noqa: F401 - a fixture

from capsule_sdk.content import canonical

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["__proto__", "\x7f", "\x1f\b\f", "\u2028", "\uffff", "\U0001f642", "é", "e\u0301"]
)
NUMBERS = st.one_of(
    st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
    st.floats().map(json.dumps),
    st.integers().map(str),
    st.sampled_from(
        ["-0", "-0.0", "0e0", "1E400", "-1e400", "1e16", "1e-5", "123456789012345678", "5e-324"]
    ),
)
WORDS = st.sampled_from(["true", "false", "null"])
SPACE = st.sampled_from(["", " ", "\n\t", "\r"])


def spelled(text: str, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)


STRINGS = st.builds(spelled, TEXTS, st.booleans())
DOCUMENTS = st.recursive(
    NUMBERS | WORDS | STRINGS,
    lambda inner: st.one_of(
        st.builds(
            lambda items, space: f"[{space}{f',{space}'.join(items)}]",
            st.lists(inner, max_size=4),
            SPACE,
        ),
        st.builds(
            lambda items, space: (
                f"{{{space}{f'{space},'.join(f'{key}:{space}{value}' for key, value in items)}}}"
            ),
            st.lists(st.tuples(STRINGS, inner), max_size=4),
            SPACE,
        ),
    ),
    max_leaves=12,
)


#: Each example is a batch already: there is nothing to be won by making it smaller, but minutes to lose.
BATCHES = settings(max_examples=60, phases=(Phase.explicit, Phase.reuse, Phase.generate))


def as_python(text: str) -> str | None:
    """What Python hashes of a text; None where it is not JSON, or has no bytes."""
    try:
        found = canonical(json.loads(text))
        found.encode()
    except ValueError:
        return None
    return found


@pytest.fixture(scope="module")
def as_page(
    browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[list[str]], list[str | None]]:
    page = browser.new_page()
    page.goto(report(tmp_path_factory.mktemp("report") / "r.html", [], {}).as_uri())
    each = "(text) => { try { return capsuledReport.canonical(text); } catch { return null; } }"
    return lambda texts: page.evaluate(f"(texts) => texts.map({each})", texts)


@given(st.lists(DOCUMENTS, min_size=10, max_size=40))
@BATCHES
def test_json_of_every_spelling_is_hashed_as_python_hashes_it(
    as_page: Any, texts: list[str]
) -> None:
    assert as_page(texts) == [as_python(text) for text in texts]


@given(st.lists(st.text('{}[]":,\\u0d8-+.eEtfn1 \n', max_size=8), min_size=40, max_size=80))
@BATCHES
def test_what_python_refuses_as_json_the_page_refuses_and_nothing_else(
    as_page: Any, texts: list[str]
) -> None:
    assert as_page(texts) == [as_python(text) for text in texts]


def test_keys_are_sorted_by_code_point_and_the_last_of_two_counts(as_page: Any) -> None:
    text = '{"\U0001f642":1,"\uff5e":2,"a":3,"a":4,"aa":5}'
    assert as_page([text]) == [as_python(text)] == ['{"a":4,"aa":5,"\uff5e":2,"\U0001f642":1}']


def test_halves_of_characters_cannot_be_hashed_and_depth_does_not_matter(as_page: Any) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    assert as_page([r'"\ud800"', r'"\ud83d\ude42"', deep, "9" * 4301]) == [
        None,
        '"\U0001f642"',
        deep,
        None,
    ]
