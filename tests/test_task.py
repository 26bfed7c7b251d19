"""Task: what the user writes into one, how it ends, and how it commits to its children."""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Capsule, Chain

from capsule_sdk import Task, capsule_scope, capsuled
from capsule_sdk.errors import CapsuleSDKError, TaskClosedError
from capsule_sdk.records.task import children_digest, fraction


def test_reasons_are_sealed_as_cps_words_them(chain: Chain) -> None:
    with capsule_scope("decide") as task:
        task.reason(
            "the market fell",
            options=[
                "sell",
                {"id": "hold", "description": "keep", "pros": ["cheap"], "feasibility": 0.75},
            ],
            selected="hold",
            reasoning="fees",
            confidence=0.9,
        )
    reasoning = chain.one("decide")["reasoning"]
    assert reasoning["analysis"] == "the market fell"
    assert reasoning["selected_option"] == "hold"
    assert reasoning["reasoning"] == "fees"
    assert reasoning["confidence"] == 0.9
    sell, hold = reasoning["options"]
    assert (sell["description"], sell["selected"]) == ("sell", False)
    assert (hold["id"], hold["description"], hold["selected"]) == ("hold", "keep", True)
    assert (hold["pros"], hold["feasibility"]) == (["cheap"], 0.75)


def test_reasons_given_bit_by_bit_add_up_and_the_last_word_stands(chain: Chain) -> None:
    with capsule_scope("decide") as task:
        task.reason("first", options=["a"])
        task.reason("second", options=["b"], confidence=0.2)
        task.reason(selected="b", confidence=7)
    reasoning = chain.one("decide")["reasoning"]
    assert (reasoning["analysis"], reasoning["selected_option"]) == ("second", "b")
    assert [option["description"] for option in reasoning["options"]] == ["a", "b"]
    assert reasoning["confidence"] == 1.0


def test_an_option_may_say_itself_whether_it_was_taken(chain: Chain) -> None:
    with capsule_scope("decide") as task:
        task.reason(options=[{"description": "a", "selected": True}, {"description": "b"}])
    options = chain.one("decide")["reasoning"]["options"]
    assert [option["selected"] for option in options] == [True, False]


@pytest.mark.parametrize(
    "options", ["one text", {"description": "one text"}, ("one text",), iter(["one text"])]
)
def test_options_may_be_one_or_many(chain: Chain, options: Any) -> None:
    with capsule_scope("decide") as task:
        task.reason(options=options)
    (option,) = chain.one("decide")["reasoning"]["options"]
    assert option["description"] == "one text"


@pytest.mark.parametrize(
    "odd",
    [
        {"pros": "one", "cons": None, "risks": [1], "feasibility": "high", "id": 5},
        {"description": {"a": 1}, "estimated_impact": "big", "selected": "yes"},
        {"feasibility": math.nan, "unknown": object()},
        5,
        None,
    ],
)
def test_an_option_of_odd_shape_is_kept_and_loses_no_capsule(chain: Chain, odd: Any) -> None:
    with capsule_scope("decide") as task:
        task.reason(options=[odd])
    capsule = chain.one("decide")
    assert len(capsule["reasoning"]["options"]) == 1
    assert capsule["type"] == "agent"
    chain.verify()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (0.123456, 0.1235), (2, 1.0), (-1, 0.0), (math.nan, 0.0), (math.inf, 1.0),
        ("0.5", 0.5), ("high", 0.0), (None, 0.0), (10**400, 1.0), (True, 1.0),
    ],
)  # fmt: skip
def test_a_fraction_is_between_zero_and_one_whatever_is_given(given: Any, kept: float) -> None:
    assert fraction(given) == kept


def test_tools_side_effects_metrics_and_summary_are_sealed(chain: Chain) -> None:
    with capsule_scope("work") as task:
        task.tool("lookup", {"id": 1}, result=[1, 2], duration_ms=12)
        task.tool("send", error=ValueError("refused"))
        task.tool("read", error="gone")
        task.side_effect("mail sent")
        task.metric("rows", 3)
        task.metric("ratio", 0.5)
        task.metric("children", "not the user's")
        task.summary = "all done"
        assert task.summary == "all done"
    capsule = chain.one("work")
    lookup, send, read = capsule["execution"]["tool_calls"]
    assert (lookup["arguments"], lookup["result"], lookup["success"]) == ({"id": 1}, [1, 2], True)
    assert lookup["duration_ms"] == 12
    assert (send["success"], send["error"]) == (False, "ValueError: refused")
    assert (read["success"], read["error"]) == (False, "gone")
    outcome = capsule["outcome"]
    assert outcome["side_effects"] == ["mail sent"]
    assert outcome["summary"] == "all done"
    assert outcome["metrics"]["rows"] == 3
    assert outcome["metrics"]["ratio"] == 0.5
    assert outcome["metrics"]["children"]["started"] == 0


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__


def test_no_value_that_is_written_into_a_task_raises_or_loses_the_capsule(chain: Chain) -> None:
    with capsule_scope("odd") as task:
        hostile: Any = Hostile()
        task.reason(hostile, options=[hostile], selected=hostile, reasoning=hostile)
        task.tool(hostile, hostile, hostile, hostile)
        task.tool("list", [1, 2])  # type: ignore[arg-type]
        task.side_effect(hostile)
        task.metric(hostile, hostile)
        task.summary = hostile
    capsule = chain.one("odd")
    assert capsule["type"] == "agent"
    assert capsule["execution"]["tool_calls"][1]["arguments"] == {"arguments": [1, 2]}
    chain.verify()


def test_options_and_durations_of_the_wrong_type_are_kept_as_far_as_they_go(chain: Chain) -> None:
    with capsule_scope("odd") as task:
        task.reason("kept", options=5)  # type: ignore[arg-type]
        task.tool("a", duration_ms="long")  # type: ignore[arg-type]
        task.tool("b", duration_ms=float("inf"))  # type: ignore[arg-type]
    capsule = chain.one("odd")
    assert capsule["reasoning"]["analysis"] == "kept"
    assert [option["description"] for option in capsule["reasoning"]["options"]] == ["5"]
    assert [call["duration_ms"] for call in capsule["execution"]["tool_calls"]] == [0, 10**12]


def test_values_are_taken_when_they_are_given(chain: Chain) -> None:
    arguments: dict[str, Any] = {"items": [1]}
    with capsule_scope("work") as task:
        task.tool("t", arguments)
        arguments["items"].append(2)
    assert chain.one("work")["execution"]["tool_calls"][0]["arguments"] == {"items": [1]}


def test_a_blocked_task_says_why_however_it_ends(chain: Chain) -> None:
    with capsule_scope("returns") as task:
        task.block("over the limit")
    with pytest.raises(PermissionError), capsule_scope("raises") as task:
        task.block("over the limit")
        raise PermissionError
    for capsule in chain.capsules():
        assert capsule["outcome"]["status"] == "blocked"
        assert capsule["outcome"]["error"] == "over the limit"


def assign_summary(task: Task) -> None:
    task.summary = "late"


@pytest.mark.parametrize(
    "write",
    [
        lambda task: task.reason("late"),
        lambda task: task.tool("late"),
        lambda task: task.side_effect("late"),
        lambda task: task.metric("late", 1),
        lambda task: task.block("late"),
        assign_summary,
    ],
)
def test_what_is_written_after_a_task_has_ended_is_refused(chain: Chain, write: Any) -> None:
    with capsule_scope("ended") as task:
        pass
    before = chain.one("ended")
    with pytest.raises(TaskClosedError, match="the task 'ended' has ended \\(success\\)") as caught:
        write(task)
    assert isinstance(caught.value, CapsuleSDKError)
    assert isinstance(caught.value, RuntimeError)
    assert chain.one("ended") == before


# -- the commitment to children --------------------------------------------------------------------


def commitments(capsules: list[Capsule]) -> dict[str, dict[str, Any]]:
    """Recompute from the links alone what each task has to commit to."""
    below: defaultdict[str, list[str]] = defaultdict(list)
    for capsule in capsules:
        if capsule["parent_id"] is not None:
            below[capsule["parent_id"]].append(capsule["id"])
    return {
        capsule["id"]: {
            "started": len(below[capsule["id"]]),
            "ended": len(below[capsule["id"]]),
            "digest": hashlib.sha3_256(
                b"".join(f"{child}\n".encode() for child in sorted(below[capsule["id"]]))
            ).hexdigest(),
        }
        for capsule in capsules
    }


def test_each_task_commits_to_its_direct_children_and_sums_up_nothing_twice(chain: Chain) -> None:
    @capsuled
    def branch(depth: int) -> None:
        for _ in range(depth):
            branch(depth - 1)

    with capsule_scope("root"):
        threads = [threading.Thread(target=capsule_sdk_bound(branch), args=(2,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        branch(3)
        for thread in threads:
            thread.join()
    capsules = chain.capsules()
    assert len(capsules) == 1 + 4 * 5 + 16
    expected = commitments(capsules)
    for capsule in capsules:
        assert capsule["outcome"]["metrics"]["children"] == expected[capsule["id"]]


def capsule_sdk_bound(fn: Any) -> Any:
    from capsule_sdk import bind_scope

    return bind_scope(fn)


def test_a_child_still_open_is_named_and_counted_as_not_ended(chain: Chain) -> None:
    chain.configure(settle_timeout=0.05)

    @capsuled
    def endless() -> Any:
        while True:
            yield 1

    with capsule_scope("parent"):
        generator = endless()
        next(generator)
    (parent,) = chain.capsules()
    children = parent["outcome"]["metrics"]["children"]
    assert (children["started"], children["ended"]) == (1, 0)
    generator.close()
    child = chain.one("endless")
    assert child["parent_id"] == parent["id"]
    assert children["digest"] == children_digest([child["id"]])


def test_tasks_come_after_their_children_in_the_chain(chain: Chain) -> None:
    with capsule_scope("a"), capsule_scope("b"), capsule_scope("c"):
        pass
    assert chain.sources() == ["c", "b", "a"]


def test_a_task_without_calls_has_sums_of_zero_and_its_own_duration(chain: Chain) -> None:
    with capsule_scope("work"):
        threading.Event().wait(0.02)
    capsule = chain.one("work")
    metrics = capsule["outcome"]["metrics"]
    assert set(metrics) == {
        "llm_calls", "tokens_in", "tokens_out", "cost_usd", "latency_ms", "children",
    }  # fmt: skip
    assert (metrics["llm_calls"], metrics["cost_usd"]) == (0, "0")
    assert capsule["execution"]["duration_ms"] >= 20


def test_the_trigger_is_a_user_request_outside_and_an_agent_inside_a_task(chain: Chain) -> None:
    with capsule_scope("outer", request="please"), capsule_scope("inner"):
        pass
    outer, inner = chain.one("outer")["trigger"], chain.one("inner")["trigger"]
    assert (outer["type"], outer["request"]) == ("user_request", "please")
    assert (inner["type"], inner["request"]) == ("agent", "")


@pytest.mark.parametrize("content", ["omit", "digest"])
def test_texts_stay_out_of_the_chain_where_the_content_mode_says_so(
    chain: Chain, content: str
) -> None:
    chain.configure(content=content)

    @capsuled(capsule_type="tool")
    def work(text: str) -> dict[str, str]:
        return {"text": "private"}

    work("private")
    with pytest.raises(ValueError, match="private"), capsule_scope("b", request="private") as task:
        task.reason("private", options=["private"], selected="private", reasoning="private")
        task.tool("t", {"a": "private"}, "private", "private")
        task.side_effect("private")
        task.summary = "private"
        raise ValueError("private")
    assert len(chain.capsules()) == 2
    assert "private" not in str(chain.capsules())
    chain.verify()


@pytest.mark.parametrize(
    ("given", "sealed"), [(8, 1.0), (-0.5, 0.0), ("high", 0.0), (1.5, 1.0), (True, 1.0)]
)
def test_a_confidence_outside_of_what_cps_can_hold_is_bounded_said_and_sealed_as_it_was_given(
    chain: Chain, caplog: pytest.LogCaptureFixture, given: Any, sealed: float
) -> None:
    with capsule_scope("odd") as task:
        task.reason("why", confidence=given)
    capsule = chain.one("odd")
    assert capsule["reasoning"]["confidence"] == sealed
    kept = capsule["outcome"]["metrics"]["confidence_given"]
    assert kept in (given, str(given))
    assert "confidence is no number from 0.0 to 1.0" in caplog.text
    assert f"given={kept!r} sealed={sealed}" in caplog.text
    with capsule_scope("plain") as task:
        task.reason("why", confidence=1)
    assert "confidence_given" not in chain.one("plain")["outcome"]["metrics"]


# -- errors with what belongs to them --------------------------------------------------------------


def raised_by(work: Callable[[], Any]) -> BaseException:
    try:
        work()
    except BaseException as error:
        return error
    raise AssertionError


def error_of(chain: Chain, work: Callable[[], Any]) -> str:
    with contextlib.suppress(BaseException), capsule_scope("failing"):
        work()
    error: str = chain.one("failing")["outcome"]["error"]
    return error


def test_an_error_names_its_group_notes_causes_and_contexts(chain: Chain) -> None:
    def rooted() -> None:
        try:
            raise LookupError("the-root")
        except LookupError as error:
            wrapped = RuntimeError("wrapped")
            wrapped.add_note("a-note")
            raise wrapped from error

    def handling() -> None:
        try:
            raise LookupError("first trouble")
        except LookupError:
            raise ValueError("second trouble")  # noqa: B904

    def fails() -> None:
        inner = ExceptionGroup("inner", [OSError("deep inside")])
        raise BaseExceptionGroup("outer", [raised_by(rooted), raised_by(handling), inner])

    assert error_of(chain, fails).splitlines() == [
        "ExceptionGroup: outer (3 sub-exceptions)",
        "- RuntimeError: wrapped",
        "  note: a-note",
        "  caused by LookupError: the-root",
        "- ValueError: second trouble",
        "  while handling LookupError: first trouble",
        "- ExceptionGroup: inner (1 sub-exception)",
        "  - OSError: deep inside",
    ]
    chain.verify()


def test_a_suppressed_context_is_not_named_and_what_is_only_wrapped_is_said_once(
    chain: Chain,
) -> None:
    def fails() -> None:
        try:
            raise LookupError("not to be told")
        except LookupError:
            try:
                raise ValueError("the same long message") from None
            except ValueError as error:
                raise RuntimeError(f"upstream: {error}") from error

    assert error_of(chain, fails) == "RuntimeError: upstream: the same long message"


def test_the_errors_around_an_error_are_redacted_bounded_and_run_no_code_of_theirs(
    chain: Chain,
) -> None:
    class Hostile(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise SystemError

        __repr__ = __str__
        exceptions = __cause__ = property(__str__)  # type: ignore[assignment]

        def __getattribute__(self, name: str) -> Any:
            raise SystemError

    chain.configure(redact=lambda text: text.replace("4711", "[pin]"))

    def fails() -> None:
        error: BaseException = ValueError("innermost 4711")
        for depth in range(50):
            error, cause = RuntimeError(f"level number {depth}"), error
            error.__cause__ = cause
        noted = ValueError("noted")
        noted.__notes__ = ["pin 4711", object(), Hostile("x")]  # type: ignore[list-item]
        many = [ValueError(f"number {number} of them") for number in range(1000)]
        raise ExceptionGroup("all", [Hostile("said"), noted, error, *many])

    said = error_of(chain, fails)
    assert "Hostile: said" in said
    assert "pin [pin]" in said
    assert "4711" not in said
    assert said.endswith("… and more")
    assert len(said.splitlines()) < 30
