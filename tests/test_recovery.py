"""Recovery: whatever the moment at which a process ends, what it had begun is in the chain once, as it
would have been.

A copy of the data directory, taken while nobody writes, is what ``kill -9`` leaves behind at that moment. Real
processes are killed in `test_crash`.
"""

from __future__ import annotations

import shutil
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from recording import FaultyChain, assert_tree_is_whole, begin_call, begin_task, end, until

from capsule_sdk.errors import ChainUnavailable
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.forks import let_go
from capsule_sdk.journal.contents import homes
from capsule_sdk.recording.default import recover
from capsule_sdk.recording.recorder import Recorder
from capsule_sdk.recording.recovery import Found
from capsule_sdk.records.attribution import Attribution
from capsule_sdk.records.authority import Authority
from capsule_sdk.records.call import Answer, LLMCall
from capsule_sdk.records.capsules import capsule_of
from capsule_sdk.records.record import Record
from capsule_sdk.records.state import beginning, ending, note, restored, state
from capsule_sdk.records.task import Task
from capsule_sdk.vocabulary import CUT_OFF

WHO = Attribution(
    agent_id="planner",
    domain="finance",
    session_id="s-1",
    user_id="ana",
    correlation_id="c",
    tenant_id="t",
    environment={"host": "h", "n": [1, None]},
    authority=Authority("human-approved", "ana@example.com"),
    overridden=(Authority("policy", policy_reference="p-7"),),
)
ANSWER = Answer({"text": "hi", "tools": []}, 7, None, Decimal("0.000025"), {"cache_hit": True})


def store_is_away(_: Any) -> None:
    raise ChainUnavailable("away")


def content(capsule: dict[str, Any]) -> dict[str, Any]:
    """Return what a capsule says, without its place in the chain and its seal."""
    sealed = (
        "sequence",
        "previous_hash",
        "hash",
        "signature",
        "signature_pq",
        "signed_at",
        "signed_by",
    )
    return {key: value for key, value in capsule.items() if key not in sealed}


def again(record: Record, *, ended: bool = True) -> Record:
    return restored(beginning(record), [], ending(record) if ended else None)


# -- one record -----------------------------------------------------------------------------------


def full_task() -> Task:
    task = begin_task_alone()
    task.reason("why", options=["a", {"id": "b", "pros": ["x"]}], selected="a", confidence=0.5)
    task.tool("look", {"q": 1}, result=[1, {"a": "é\u2028"}], duration_ms=3)
    task.tool("buy", error=ValueError("closed"))
    task.side_effect("wired 1 USD")
    task.metric("orders", 2)
    task.summary = "done"
    return task


def begin_task_alone(**fields: Any) -> Task:
    from recording import make_task

    return make_task("app.task", attribution=WHO, request="r", arguments={"a": [1]}, **fields)


def call_alone() -> LLMCall:
    from recording import make_call

    call = make_call(attribution=WHO)
    call.attempts = ["gpt-4o", "gpt-4o-mini"]
    call.answer = ANSWER
    return call


def test_a_task_comes_back_as_it_was() -> None:
    task = full_task()
    task.result = {"ok": True}
    task.settle("success")
    assert capsule_of(again(task)).to_dict() == capsule_of(task).to_dict()


def test_a_blocked_task_comes_back_blocked() -> None:
    task = begin_task_alone()
    task.block("over budget")
    task.settle("success")
    assert capsule_of(again(task)).to_dict() == capsule_of(task).to_dict()


def test_a_call_comes_back_as_it_was() -> None:
    call = call_alone()
    call.settle("failure", error="Timeout: no answer")
    assert capsule_of(again(call)).to_dict() == capsule_of(call).to_dict()


def test_an_open_task_comes_back_with_what_was_written_to_it() -> None:
    task = begin_task_alone()
    begun = beginning(task)
    notes = []
    task.tool("look", {"q": 1})
    notes.append(note(task, "tool_calls"))
    task.tool("buy")
    notes.append(note(task, "tool_calls"))
    task.metric("n", 1)
    notes.append(note(task, "metrics"))
    task.summary = "half way"
    notes.append(note(task, "summary"))
    task.reason("because", options=["x"])
    notes += [note(task, "reasoning"), note(task, "options")]
    for said in (notes, [*notes, *notes]):
        back = restored(begun, said, None)
        task.closed = back.closed = False
        assert capsule_of(back).to_dict() == capsule_of(task).to_dict()


def test_state_says_all_at_once() -> None:
    task = full_task()
    children = [begin_task_alone(parent=task) for _ in range(3)]
    for child in children:
        task.adopt(child.id)
    task.child_ended()
    task.subtree.add(call_alone().totals())
    task.settle("success")
    task.placed = True
    back = restored(state(task), [], None)
    assert capsule_of(back).to_dict() == capsule_of(task).to_dict()
    assert isinstance(back, Task)
    assert set(back.children()) == {child.id for child in children}


@pytest.mark.parametrize(
    "change",
    [
        {"id": "no"},
        {"t": None},
        {"type": None, "task": None},
        {"parent": "x"},
        {"for": {"authority": {"type": "x"}}},
        {"children": "zz", "sums": []},
        {"sum": "much", "sums": [0] * 6},
    ],
)
def test_what_tells_of_no_record_is_refused_as_such(change: dict[str, Any]) -> None:
    said = {**beginning(begin_task_alone()), **change}
    if change.get("type", "") is None:
        del said["type"], said["task"]
    with pytest.raises((LookupError, TypeError, ValueError)):
        restored(said, [], None)


# -- a process that ends at any moment ------------------------------------------------------------


class Machine:
    """A program that begins and ends tasks and calls, and whose data directory is copied at some moment."""

    def __init__(self, directory: Path, patience: float) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        self.directory = directory / "live"
        self.directory.mkdir(parents=True)
        self.copy = directory / "copy"
        self.chain = FaultyChain(self.directory / "c.db")
        self.impatient = patience == 0
        self.recorder: Recorder = self.chain.recorder(settle_timeout=patience)
        #: How many calls the sums of each task count so far, by a model of its own.
        self.counted: Counter[UUID] = Counter()
        self.stack: list[Task] = []
        self.calls: list[LLMCall] = []
        self.records: list[Record] = []
        self.step("task")
        self.step("end task")

    def step(self, action: str) -> None:
        parent = self.stack[-1] if self.stack else None
        if action == "task":
            self.stack.append(begin_task(self.recorder, f"task-{len(self.records)}", parent))
            self.records.append(self.stack[-1])
        elif action == "call":
            self.calls.append(begin_call(self.recorder, parent))
            self.records.append(self.calls[-1])
        elif action == "note" and parent is not None:
            parent.tool("tool", {"n": len(self.records)})
        elif action == "end task" and self.stack:
            task = self.stack.pop()
            end(self.recorder, task)
            if self.impatient:
                until(lambda: task.placed)
                self.count(task, self.counted[task.id])
        elif action == "end call" and self.calls:
            call = self.calls.pop(0)
            end(self.recorder, call)
            until(lambda: call.placed)
            self.count(call, 1)
        elif action in ("away", "back"):
            self.chain.fault = store_is_away if action == "away" else None
        elif action == "commit":
            self.recorder.flush(0.05)
        elif action == "drop":
            self.recorder.flush(0.05)
            self.step("rotate")
        elif action == "rotate":
            rounds = self.recorder._rounds
            with rounds._lock, rounds.line.lock:
                journal = rounds.safekeeping._journal
                if journal is not None and journal.is_open:
                    rounds.safekeeping._rotate(journal)

    def count(self, record: Record, calls: int) -> None:
        """Add to the nearest task above that is not sealed (in an impatient machine: not ended)."""
        above = self.under(record)
        while above is not None and above.closed:
            above = self.under(above)
        if above is not None:
            self.counted[above.id] += calls

    def under(self, record: Record) -> Task | None:
        tasks = {one.id: one for one in self.records if isinstance(one, Task)}
        return None if record.parent_id is None else tasks[record.parent_id]

    def crash(self) -> set[str]:
        """Copy what a killed process would leave; return the ids of what had not ended."""
        rounds = self.recorder._rounds
        stilled: list[Any] = []
        rounds.pause(stilled, 10.0)
        try:
            shutil.copytree(self.directory, self.copy, dirs_exist_ok=True)
            for shared in self.copy.rglob("*-shm"):
                shared.unlink()
        finally:
            let_go(stilled)
        return {str(record.id) for record in (*self.stack, *self.calls)}

    def expected(self) -> dict[str, int]:
        """Return what the sums count once all that is open has been cut off, children first."""
        before = Counter(self.counted)
        for call in self.calls:
            self.count(call, 1)
        for task in reversed(self.stack):
            if self.stack.index(task):
                self.counted[self.stack[self.stack.index(task) - 1].id] += self.counted[task.id]
        expected = {str(key): value for key, value in self.counted.items()}
        self.counted = before
        return expected

    def finish(self) -> None:
        self.step("back")
        while self.calls:
            self.step("end call")
        while self.stack:
            self.step("end task")
        assert self.recorder.shutdown() == 0


ACTIONS = [
    *("task", "task", "call", "call", "note", "end task", "end call", "end call"),
    *("commit", "rotate", "drop", "drop", "away", "back"),
]
PATIENT, IMPATIENT = 60.0, 0.0


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    before=st.lists(st.sampled_from(ACTIONS), min_size=5, max_size=30),
    patience=st.sampled_from([PATIENT, IMPATIENT]),
)
@example(before=["task", "call", "end call", "drop"], patience=PATIENT)
@example(
    before=["task", "call", "end call", "drop", "call", "end call", "end task"], patience=PATIENT
)
@example(before=["task", "call", "away", "end call", "rotate"], patience=PATIENT)
@example(
    before=["task", "task", "call", "end task", "drop", "end call", "drop"], patience=IMPATIENT
)
@example(before=["task", "task", "call", "end task", "drop", "rotate"], patience=IMPATIENT)
@example(
    before=["task", "task", "call", "end task", "away", "end call", "rotate"], patience=PATIENT
)
@example(before=["task", "task", "task", "call", "end task"], patience=IMPATIENT)
@example(
    before=["task", "task", "call", "end task", "away", "end call", "commit"], patience=IMPATIENT
)
def test_whatever_the_moment_the_chain_is_whole_and_says_what_happened(
    tmp_path: Path, before: list[str], patience: float
) -> None:
    machine = Machine(tmp_path / "machine", patience)
    for action in before:
        machine.step(action)
    unfinished, counted = machine.crash(), machine.expected()
    machine.finish()
    lived = {capsule["id"]: content(capsule) for capsule in read_chain(machine.chain.url)}

    url = machine.copy / "c.db"
    found = recover(url)
    assert (found.unfinished, found.damaged, found.torn, found.left) == (len(unfinished), 0, 0, 0)
    recovered = list(read_chain(url))
    assert_tree_is_whole(recovered)
    assert {capsule["id"] for capsule in recovered} == {
        str(record.id) for record in machine.records
    }
    under = {str(record.id): record.parent_id for record in machine.records}
    for capsule in recovered:
        parent = under[capsule["id"]]
        assert capsule["parent_id"] == (None if parent is None else str(parent))
        if capsule["id"] in unfinished:
            assert (capsule["outcome"]["status"], capsule["outcome"]["error"]) == (
                "failure",
                CUT_OFF,
            )
            lived_tools = lived[capsule["id"]]["execution"]["tool_calls"]
            if capsule["type"] != "chat":
                assert (
                    capsule["execution"]["tool_calls"]
                    == lived_tools[: len(capsule["execution"]["tool_calls"])]
                )
        elif not _above_unfinished(capsule["id"], unfinished, under):
            mine, theirs = content(capsule), lived[capsule["id"]]
            counts = [one["outcome"]["metrics"].get("llm_calls") for one in (mine, theirs)]
            if machine.impatient and counts[0] != counts[1]:
                continue  # placed anew, and it counts what has ended since: the sums are looked at below
            assert mine == theirs
    below = _sums(recovered)
    for capsule in recovered:
        metrics = capsule["outcome"]["metrics"]
        if "children" in metrics:
            if machine.impatient:
                # What was placed but not committed is placed anew, and may count what has ended since.
                assert metrics["llm_calls"] in {counted.get(capsule["id"], 0), below[capsule["id"]]}
                continue
            assert metrics["llm_calls"] == below[capsule["id"]]
            open_below = sum(str(under[one]) == capsule["id"] for one in unfinished)
            assert metrics["children"]["ended"] == metrics["children"]["started"] - open_below
    assert list(homes(url.parent / "journal" / "c.db.records")) == []
    assert recover(url) == Found()
    assert list(read_chain(url)) == recovered


def _above_unfinished(one: str, unfinished: set[str], under: dict[str, Any]) -> bool:
    for other in unfinished:
        above = under[other]
        while above is not None:
            if str(above) == one:
                return True
            above = under[str(above)]
    return False


def _sums(capsules: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many calls there are in the subtree of each capsule."""
    calls = {c["id"]: int("children" not in c["outcome"]["metrics"]) for c in capsules}
    for capsule in capsules:  # children come first
        if capsule["parent_id"]:
            calls[capsule["parent_id"]] += calls[capsule["id"]]
    return calls
