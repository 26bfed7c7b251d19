"""Hold-back: a task is sealed after what was started under it, or ``settle_timeout`` after its end; sums and
commitment are right in each case.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording import (
    FaultyChain,
    assert_children_first,
    assert_tree_is_whole,
    begin_call,
    begin_task,
    end,
    in_threads,
    until,
)

from capsule_sdk.errors import ChainUnavailable
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.recording.recorder import Recorder
from capsule_sdk.records.call import Answer, LLMCall
from capsule_sdk.records.record import Record
from capsule_sdk.records.task import Task, children_digest

FOREVER = 60.0


@pytest.fixture
def faulty(tmp_path: Path) -> FaultyChain:
    return FaultyChain(tmp_path / "holding.db")


def metrics(chain: FaultyChain, record: Record) -> dict[str, Any]:
    found = [c for c in read_chain(chain.url) if c["id"] == str(record.id)]
    assert len(found) == 1, "it is not in the chain"
    metrics: dict[str, Any] = found[0]["outcome"]["metrics"]
    return metrics


def children(*started: Record, ended: int) -> dict[str, Any]:
    return {
        "started": len(started),
        "ended": ended,
        "digest": children_digest(record.id for record in started),
    }


def order(chain: FaultyChain) -> list[str]:
    return [capsule["id"] for capsule in read_chain(chain.url)]


def ids(*records: Record) -> list[str]:
    return [str(record.id) for record in records]


def test_a_task_waits_for_the_call_under_it_and_then_counts_it(faulty: FaultyChain) -> None:
    rec = faulty.recorder(settle_timeout=FOREVER)
    task = begin_task(rec)
    first, second = begin_call(rec, task), begin_call(rec, task)
    end(rec, first)
    end(rec, task)
    assert rec.flush(0.2) == 1
    assert order(faulty) == ids(first)
    end(rec, second)
    assert rec.flush() == 0
    assert order(faulty) == ids(first, second, task)
    found = metrics(faulty, task)
    assert found["children"] == children(first, second, ended=2)
    assert (found["llm_calls"], found["tokens_in"], found["tokens_out"]) == (2, 20, 10)
    assert found["cost_usd"] == "0.00005"
    rec.shutdown()


def test_after_settle_timeout_a_task_is_sealed_with_what_is_known(faulty: FaultyChain) -> None:
    rec = faulty.recorder(settle_timeout=0.25)
    task = begin_task(rec)
    done, late = begin_call(rec, task), begin_call(rec, task)
    end(rec, done)
    end(rec, task)
    closed = time.monotonic()
    until(lambda: task.placed)
    assert 0.2 < time.monotonic() - closed < 2
    assert rec.flush() == 0
    found = metrics(faulty, task)
    assert found["children"] == children(done, late, ended=1)
    assert found["llm_calls"] == 1
    end(rec, late)
    assert rec.flush() == 0
    assert order(faulty) == ids(done, task, late)
    assert metrics(faulty, late)["tokens_in"] == 10
    assert_tree_is_whole(list(read_chain(faulty.url)))
    rec.shutdown()


def test_each_task_is_held_back_for_its_own_time(faulty: FaultyChain) -> None:
    rec = faulty.recorder(settle_timeout=0.4)
    first = begin_task(rec)
    calls = [begin_call(rec, first)]
    end(rec, first)
    time.sleep(0.25)
    second = begin_task(rec)
    calls.append(begin_call(rec, second))
    end(rec, second)
    until(lambda: first.placed)
    assert not second.placed
    until(lambda: second.placed)
    for call in calls:
        end(rec, call)
    assert rec.shutdown() == 0


def test_a_task_whose_call_ends_in_time_does_not_wait_any_longer(faulty: FaultyChain) -> None:
    rec = faulty.recorder(settle_timeout=FOREVER)
    tasks = [begin_task(rec) for _ in range(3)]
    calls = [begin_call(rec, task) for task in tasks]
    for task in tasks:
        end(rec, task)
    end(rec, calls[1])
    until(lambda: tasks[1].placed)
    assert not tasks[0].placed
    assert not tasks[2].placed
    end(rec, calls[0])
    end(rec, calls[2])
    assert rec.shutdown() == 0


def test_tasks_above_wait_for_the_task_that_waits(faulty: FaultyChain) -> None:
    rec = faulty.recorder(settle_timeout=FOREVER)
    outer = begin_task(rec)
    middle = begin_task(rec, parent=outer)
    inner = begin_task(rec, parent=middle)
    call = begin_call(rec, inner)
    for task in (inner, middle, outer):
        end(rec, task)
    assert rec.flush(0.1) == 3
    end(rec, call)
    assert rec.flush() == 0
    assert order(faulty) == ids(call, inner, middle, outer)
    for task, child in ((outer, middle), (middle, inner), (inner, call)):
        assert metrics(faulty, task)["children"] == children(child, ended=1)
        assert metrics(faulty, task)["llm_calls"] == 1
    rec.shutdown()


def test_the_sums_of_a_late_call_go_to_the_nearest_task_that_is_not_sealed(
    faulty: FaultyChain,
) -> None:
    rec = faulty.recorder(settle_timeout=0.05)
    outer = begin_task(rec)
    middle = begin_task(rec, parent=outer)
    inner = begin_task(rec, parent=middle)
    late = begin_call(rec, inner)
    end(rec, inner)
    until(lambda: inner.placed)
    end(rec, late)
    until(lambda: middle.subtree.llm_calls == 1)
    end(rec, middle)
    end(rec, outer)
    assert rec.flush() == 0
    assert metrics(faulty, inner)["llm_calls"] == 0
    assert metrics(faulty, inner)["children"] == children(late, ended=0)
    assert metrics(faulty, middle)["llm_calls"] == 1
    assert metrics(faulty, middle)["children"] == children(inner, ended=1)
    assert metrics(faulty, outer)["llm_calls"] == 1
    assert order(faulty) == ids(inner, late, middle, outer)
    rec.shutdown()


def test_a_call_that_ends_after_all_tasks_above_are_sealed_is_still_recorded(
    faulty: FaultyChain,
) -> None:
    rec = faulty.recorder(settle_timeout=0.05)
    outer = begin_task(rec)
    inner = begin_task(rec, parent=outer)
    late = begin_call(rec, inner)
    end(rec, inner)
    end(rec, outer)
    until(lambda: outer.placed)
    end(rec, late)
    assert rec.flush() == 0
    assert order(faulty) == ids(inner, outer, late)
    assert metrics(faulty, outer)["llm_calls"] == 0
    assert_tree_is_whole(list(read_chain(faulty.url)))
    rec.shutdown()


def test_what_is_placed_stays_as_it_is_while_the_store_is_away(faulty: FaultyChain) -> None:
    rec = faulty.recorder(settle_timeout=0.05)
    away = True

    def fault(_: Any) -> None:
        if away:
            raise ChainUnavailable("away")

    faulty.fault = fault
    outer = begin_task(rec)
    task = begin_task(rec, parent=outer)
    late = begin_call(rec, task)
    end(rec, task)
    until(lambda: task.placed)
    end(rec, late)
    until(lambda: outer.subtree.llm_calls == 1)
    away = False
    end(rec, outer)
    assert rec.flush() == 0
    assert metrics(faulty, task)["children"] == children(late, ended=0)
    assert metrics(faulty, task)["llm_calls"] == 0
    assert metrics(faulty, outer)["llm_calls"] == 1
    rec.shutdown()


def test_a_call_begun_under_an_ended_task_hangs_under_the_nearest_open_one(
    faulty: FaultyChain,
) -> None:
    rec = faulty.recorder()
    outer = begin_task(rec)
    inner = begin_task(rec, parent=outer)
    end(rec, inner)
    higher = begin_call(rec, inner)
    end(rec, higher)
    end(rec, outer)
    under_none = begin_call(rec, inner)
    end(rec, under_none)
    assert rec.flush() == 0
    assert (higher.parent_id, under_none.parent_id) == (outer.id, None)
    assert metrics(faulty, inner)["children"] == children(ended=0)
    assert metrics(faulty, outer)["children"] == children(inner, higher, ended=2)
    rec.shutdown()


def test_what_a_provider_did_not_report_is_counted_as_unknown_and_not_as_zero(
    faulty: FaultyChain,
) -> None:
    rec = faulty.recorder()
    nothing = begin_task(rec)
    some = begin_task(rec)
    end(rec, begin_call(rec, nothing), answer=Answer())
    end(rec, begin_call(rec, some), answer=Answer(tokens_in=7, cost_usd=Decimal("1E-7")))
    end(rec, begin_call(rec, some), answer=Answer())
    end(rec, nothing)
    end(rec, some)
    assert rec.flush() == 0
    found = metrics(faulty, nothing)
    assert (found["tokens_in"], found["tokens_out"], found["cost_usd"]) == (None, None, None)
    assert (found["usage_unknown"], found["cost_unknown"]) == (1, 1)
    found = metrics(faulty, some)
    assert (found["llm_calls"], found["tokens_in"], found["tokens_out"]) == (2, 7, None)
    assert (found["usage_unknown"], found["cost_unknown"]) == (2, 1)
    assert found["cost_usd"] == "0.0000001"
    rec.shutdown()


# -- any program ----------------------------------------------------------------------------------

answers = st.builds(
    Answer,
    tokens_in=st.none() | st.integers(0, 10_000),
    tokens_out=st.none() | st.integers(0, 10_000),
    cost_usd=st.none() | st.decimals(0, 100, places=6),
)
begin = st.tuples(st.sampled_from(["task", "task", "call"]), st.integers(0, 20), st.integers(0, 2))
ending = st.tuples(st.just("end"), st.integers(0, 20), st.integers(0, 2))
programs = st.lists(begin | ending, max_size=30)


class Machine:
    """Runs programs on one chain, each step in the thread it names."""

    def __init__(self, chain: FaultyChain, settle_timeout: float) -> None:
        self.chain = chain
        self.recorder: Recorder = chain.recorder(settle_timeout=settle_timeout)
        self.threads = [ThreadPoolExecutor(1) for _ in range(3)]
        self.seen = 0
        self.records: list[Record] = []
        self.capsules: list[dict[str, Any]] = []

    def run(self, program: list[tuple[str, int, int]], given: list[Answer]) -> None:
        rec = self.recorder
        self.records = []
        for action, index, thread in program:
            self.threads[thread].submit(self.step, action, index, given).result()
        left = [record for record in self.records if not record.closed]
        in_threads(3, lambda n: [self.end(r, given) for r in left[n::3]] and None)
        assert rec.flush() == 0
        self.capsules = []
        if not self.records:
            return
        chain = list(read_chain(self.chain.url))
        assert_tree_is_whole(chain)
        self.capsules, self.seen = chain[self.seen :], len(chain)
        assert {c["id"] for c in self.capsules} == set(ids(*self.records))

    def step(self, action: str, index: int, given: list[Answer]) -> None:
        some = self.records[index % len(self.records)] if self.records else None
        if action == "end":
            if some is not None:
                self.end(some, given)
            return
        parent = some if isinstance(some, Task) else None
        begin = begin_task if action == "task" else begin_call
        self.records.append(begin(self.recorder, parent=parent))

    def end(self, record: Record, given: list[Answer]) -> None:
        end(self.recorder, record, answer=given[record.id.int % len(given)])

    def sums(self, capsule: dict[str, Any]) -> tuple[Any, ...]:
        """What the calls below a task add up to, by nothing but the links in the chain."""
        below, calls = {capsule["id"]}, []
        grown = True
        while grown:
            grown = False
            for other in self.capsules:
                if other["parent_id"] in below and other["id"] not in below:
                    below.add(other["id"])
                    grown = True
                    if other["type"] == "chat":
                        calls.append(other["outcome"]["metrics"])
        return (
            len(calls),
            sum(call["tokens_in"] or 0 for call in calls),
            sum(call["tokens_out"] or 0 for call in calls),
            sum(Decimal(call["cost_usd"] or 0) for call in calls),
            sum(call["tokens_in"] is None or call["tokens_out"] is None for call in calls),
            sum(call["cost_usd"] is None for call in calls),
            sum(call["latency_ms"] for call in calls),
        )


def stated(metrics: dict[str, Any]) -> tuple[Any, ...]:
    return (
        metrics["llm_calls"],
        metrics["tokens_in"] or 0,
        metrics["tokens_out"] or 0,
        Decimal(metrics["cost_usd"] or 0),
        metrics.get("usage_unknown", 0),
        metrics.get("cost_unknown", 0),
        metrics["latency_ms"],
    )


@pytest.fixture(scope="module", params=[FOREVER, 0.0], ids=["patient", "impatient"])
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    directory = tmp_path_factory.mktemp("programs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTUMPIPES_DATA_DIR", str(directory))
        made = Machine(FaultyChain(directory / "capsules.db"), request.param)
        yield made
        made.recorder.shutdown()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(program=programs, answers=st.lists(answers, min_size=1, max_size=5))
def test_whatever_the_program_the_chain_is_whole_and_the_sums_are_those_of_the_leaves(
    machine: Machine, program: list[tuple[str, int, int]], answers: list[Answer]
) -> None:
    machine.run(program, answers)
    patient = machine.recorder.settings.settle_timeout == FOREVER
    if patient:
        assert_children_first(machine.capsules)
    for capsule in machine.capsules:
        if capsule["type"] != "agent":
            continue
        found = capsule["outcome"]["metrics"]
        if patient:
            assert found["children"]["ended"] == found["children"]["started"]
            assert stated(found) == machine.sums(capsule)
        else:
            assert all(a <= b for a, b in zip(stated(found), machine.sums(capsule), strict=True))


def test_the_machine_sees_calls_and_tasks(machine: Machine) -> None:
    """So that the property above cannot hold for want of records."""
    machine.run([("task", 0, 0), ("call", 0, 1), ("end", 0, 2)], [Answer(tokens_in=3)])
    assert sorted(c["type"] for c in machine.capsules) == ["agent", "chat"]
    assert isinstance(machine.records[1], LLMCall)
