"""What the tests of the recorder share: records made as an adapter makes them, and a chain with faults."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from qp_capsule import Capsule

from capsule_sdk.chain import Chain, open_chain
from capsule_sdk.journal.location import journal_root
from capsule_sdk.recording.recorder import Recorder
from capsule_sdk.records.attribution import NOBODY, Attribution
from capsule_sdk.records.call import Answer, LLMCall, Request
from capsule_sdk.records.record import Record
from capsule_sdk.records.task import Task
from capsule_sdk.settings import Settings

USAGE = Answer(result="hi", tokens_in=10, tokens_out=5, cost_usd=Decimal("0.000025"))


def make_task(name: str = "task", parent: Task | None = None, **fields: Any) -> Task:
    settings = Settings()
    return Task(
        name,
        parent=parent,
        attribution=fields.pop("attribution", NOBODY),
        capsule_type=fields.pop("capsule_type", "agent"),
        policy=settings.policy(),
        **fields,
    )


def make_call(parent: Task | None = None, attribution: Attribution = NOBODY) -> LLMCall:
    return LLMCall(
        Request("completion", "gpt-4o", "hello", "ab" * 32, 1, {"provider": "openai"}),
        parent=parent,
        attribution=attribution,
        capsule_type="chat",
        policy=Settings().policy(),
    )


def begin_task(recorder: Recorder, name: str = "task", parent: Task | None = None) -> Task:
    task = make_task(name, parent)
    recorder.begin(task)
    return task


def begin_call(recorder: Recorder, parent: Task | None = None) -> LLMCall:
    call = make_call(parent)
    recorder.begin(call)
    return call


def end(
    recorder: Recorder, record: Record, status: str = "success", answer: Answer | None = None
) -> bool:
    """Settle a record if nobody has yet, and say whether this was the one who did."""
    if not recorder.claim(record):
        return False
    if isinstance(record, LLMCall):
        record.answer = USAGE if answer is None else answer
    record.settle(status)
    recorder.finish(record)
    return True


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run ``work(number)`` in so many threads at once, and raise what one of them raised."""
    failures: list[BaseException] = []
    gate = threading.Barrier(count)

    def run(number: int) -> None:
        gate.wait()
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


class FaultyChain:
    """A real chain, and before each append to it a fault that a test puts there."""

    def __init__(self, url: Any) -> None:
        self.url = url
        self.inner: Chain = open_chain(None, url)
        self.fault: Callable[[Sequence[Capsule]], None] | None = None
        self.groups: list[list[Capsule]] = []
        self.opened = 0

    def open(self) -> FaultyChain:
        self.opened += 1
        return self

    @property
    def identity(self) -> str:
        return self.inner.identity

    def append(self, capsules: Sequence[Capsule]) -> int:
        self.groups.append(list(capsules))
        if self.fault is not None:
            self.fault(capsules)
        return self.inner.append(capsules)

    def fold(self) -> bool:
        return self.inner.fold()

    def close(self) -> None:
        self.inner.close()

    def recorder(self, **settings: Any) -> Recorder:
        root = journal_root(self.identity, Path(os.devnull))
        return Recorder(Settings(**settings), self.open, lambda: self.identity, lambda: root)


def assert_tree_is_whole(capsules: list[dict[str, Any]]) -> None:
    """Each capsule once, linked; every task commits to exactly the capsules that hang under it."""
    ids = [capsule["id"] for capsule in capsules]
    assert len(set(ids)) == len(ids), "a record is in the chain twice"
    assert [capsule["sequence"] for capsule in capsules] == list(range(len(capsules)))
    previous: str | None = None
    below: defaultdict[str, list[str]] = defaultdict(list)
    for capsule in capsules:
        assert capsule["previous_hash"] == previous
        previous = capsule["hash"]
        if capsule["parent_id"] and capsule["context"]["environment"].get(
            "counted_by_parent", True
        ):
            below[capsule["parent_id"]].append(capsule["id"])
    for capsule in capsules:
        if "children" in capsule["outcome"]["metrics"]:
            started = sorted(below[capsule["id"]])
            commitment = capsule["outcome"]["metrics"]["children"]
            text = "".join(f"{child}\n" for child in started)
            assert commitment["digest"] == hashlib.sha3_256(text.encode()).hexdigest()
            assert commitment["started"] == len(started)
            assert commitment["ended"] <= commitment["started"]


def assert_children_first(capsules: list[dict[str, Any]]) -> None:
    place = {capsule["id"]: capsule["sequence"] for capsule in capsules}
    for capsule in capsules:
        if capsule["parent_id"] in place:
            assert capsule["sequence"] < place[capsule["parent_id"]]
