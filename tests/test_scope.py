"""Scopes: what is current, what is inherited, what is restored, and what hangs under what."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
import trio
from conftest import Capsule, Chain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import capsule_sdk
from capsule_sdk import (
    Task,
    capsule_scope,
    capsuled,
    configure,
    current_scope,
    current_task,
    flush,
    logs,
)
from capsule_sdk.errors import ConfigurationError, RecordingError, TaskClosedError
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.records.attribution import NOBODY, Attribution
from capsule_sdk.records.authority import Authority
from capsule_sdk.scopes.log_lines import add_capsule_ids
from capsule_sdk.scopes.node import Scope, innermost, parent_of
from capsule_sdk.scopes.scope import with_defaults

# -- nesting, against a model ----------------------------------------------------------------------

TEXTS = ("agent_id", "domain", "session_id", "user_id", "correlation_id", "tenant_id")
AUTHORITIES = st.sampled_from(["autonomous", "human-approved", "policy", "escalated"])
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.sampled_from(["a", "b", "c"]) for name in TEXTS},
        "environment": st.dictionaries(st.sampled_from("xyz"), st.integers(0, 9), min_size=1),
        "authority": AUTHORITIES,
    },
)
KINDS = st.sampled_from(["scope", "async scope", "unrecorded", "call", "coroutine", "generator"])
TREES: Any = st.recursive(
    st.tuples(KINDS, OPTIONS, st.just(())),
    lambda below: st.tuples(KINDS, OPTIONS, st.lists(below, max_size=3)),
    max_leaves=12,
)

Model = dict[str, Any]
OUTSIDE: Model = {**dict.fromkeys(TEXTS), "environment": {}, "authority": None, "chain": []}


def inside(model: Model, options: dict[str, Any]) -> Model:
    """Nearest enclosing wins, environments merge, overridden authorities leave a trail."""
    merged = {**model, **{name: value for name, value in options.items() if name in TEXTS}}
    merged["environment"] = {**model["environment"], **options.get("environment", {})}
    if "authority" in options:
        merged["authority"] = options["authority"].replace("-", "_")
        if model["authority"] is not None:
            merged["chain"] = [*model["chain"], {"type": model["authority"]}]
    return merged


def seen() -> Model:
    scope = current_scope()
    authority = scope.authority
    return {
        **{name: getattr(scope, name) for name in TEXTS},
        "environment": dict(scope.environment),
        "authority": authority.type if authority is not None else None,
        "chain": [link.as_link() for link in scope.attribution.overridden],
    }


def sealed(capsule: Capsule) -> Model:
    environment = dict(capsule["context"]["environment"])
    return {
        "agent_id": capsule["context"]["agent_id"],
        "domain": capsule["domain"],
        "session_id": capsule["context"]["session_id"],
        "user_id": capsule["trigger"]["user_id"],
        "correlation_id": capsule["trigger"]["correlation_id"],
        "tenant_id": environment.pop("tenant_id", None),
        "environment": environment,
        "authority": capsule["authority"]["type"],
        "chain": capsule["authority"]["chain"],
    }


@dataclasses.dataclass
class Level:
    """One scope of a tree, and what was started in it."""

    around: Level | None
    model: Model
    options: dict[str, Any]
    task: Task | None
    open: bool = True
    started: Context = dataclasses.field(default_factory=copy_context)

    def outwards(self) -> Iterator[Level]:
        level: Level | None = self
        while level is not None:
            yield level
            level = level.around

    def outlived(self) -> Model:
        """Identity as it was, authority of those that are open yet."""
        authorities = [
            level.options["authority"].replace("-", "_")
            for level in self.outwards()
            if level.open and "authority" in level.options
        ]
        nearest, *trail = authorities or [None]
        return {**self.model, "authority": nearest, "chain": [{"type": t} for t in trail[::-1]]}

    def said(self) -> Model:
        """Who it is for, as those say that are open yet."""
        nearest = next((level.model for level in self.outwards() if level.open), Model())
        return {name: nearest.get(name) for name in ("session_id", "user_id", "tenant_id")}

    def parents(self) -> tuple[Task | None, Any]:
        """The nearest open task, and the innermost one that has ended."""
        ended = None
        for level in self.outwards():
            if level.task is not None and level.open:
                return level.task, ended
            if level.task is not None:
                ended = ended or level.task.id
        return None, ended


class Nesting:
    """Runs a tree of scopes and calls, and checks at each point what is current."""

    def __init__(self) -> None:
        self.expected: dict[str, tuple[Model, str | None]] = {}
        self.level: Level | None = None
        self.levels: list[Level] = []

    def check_what_was_started(self) -> None:
        """In a context copied in each scope so far, closed or not, hold its identity and no stale authority."""
        for level in self.levels:

            def started(level: Level = level) -> None:
                assert seen() == level.outlived()
                task, ended = level.parents()
                assert parent_of(innermost()) == (task, ended)
                assert current_task() is task or not current_task().recording
                with capsule_scope("started", session_id="late") as late:
                    expected = {**level.outlived(), **level.said(), "session_id": "late"}
                    assert seen() == expected
                    if ended is not None:
                        facts = {**expected["environment"], "closed_parent": str(ended)}
                        expected["environment"] = facts
                    parent = None if task is None else str(task.id)
                    self.expected[str(late.id)] = (expected, parent)
                assert seen() == level.outlived()

            level.started.run(started)

    def enter(self, node: Any, model: Model, task: Task | None, kind: str) -> None:
        _, options, below = node
        here = inside(model, options)
        assert seen() == here
        mine = current_task()
        if kind == "unrecorded":
            assert mine is (task or mine)
            assert task is not None or not mine.recording
            mine_or_none = task
        else:
            assert mine.recording
            assert mine is not task
            self.expected[str(mine.id)] = (here, None if task is None else str(task.id))
            mine_or_none = mine
        own = mine if kind != "unrecorded" else None
        self.level = Level(self.level, here, options, own)
        self.levels.append(self.level)
        for child in below:
            self.run(child, here, mine_or_none)
            assert seen() == here
            assert current_task() is mine

    def run(self, node: Any, model: Model, task: Task | None) -> None:
        self.run_one(node, model, task)
        level = self.level
        assert level is not None
        level.open, self.level = False, level.around
        self.check_what_was_started()

    def run_one(self, node: Any, model: Model, task: Task | None) -> None:
        kind, options, _ = node
        match kind:
            case "scope":
                with capsule_scope("scope", **options):
                    self.enter(node, model, task, kind)
            case "unrecorded":
                with capsule_scope("scope", record=False, **options) as around:
                    assert around is current_task()
                    self.enter(node, model, task, kind)
            case "call":
                capsuled(self.enter, **options, capture_args=False)(node, model, task, kind)
            case "coroutine" | "async scope":
                with contextlib.suppress(StopIteration):
                    self.coroutine(node, model, task, kind).send(None)
            case _:
                assert list(self.generator(node, model, task, kind)) == [1]

    async def coroutine(self, node: Any, model: Model, task: Task | None, kind: str) -> None:
        if kind == "async scope":
            async with capsule_scope("scope", **node[1]):
                self.enter(node, model, task, kind)
        else:

            @capsuled(**node[1])
            async def call() -> None:
                self.enter(node, model, task, kind)

            await call()

    def generator(self, node: Any, model: Model, task: Task | None, kind: str) -> Any:
        @capsuled(**node[1])
        def call() -> Any:
            self.enter(node, model, task, kind)
            yield 1

        for item in call():
            assert seen() == model
            yield item


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(trees=st.lists(TREES, max_size=3))
def test_any_nesting_inherits_overrides_and_restores_exactly(chain: Chain, trees: Any) -> None:
    nesting = Nesting()
    for tree in trees:
        nesting.run(tree, OUTSIDE, None)
        assert seen() == OUTSIDE
        assert innermost() is None
    found = {capsule["id"]: capsule for capsule in chain.capsules()}
    for identity, (model, parent) in nesting.expected.items():
        filled = {
            **model,
            "agent_id": model["agent_id"] or "agent",
            "domain": model["domain"] or "agents",
            "authority": model["authority"] or "autonomous",
        }
        assert sealed(found[identity]) == filled
        assert found[identity]["parent_id"] == parent


ATTRIBUTIONS = st.builds(
    Attribution,
    agent_id=st.sampled_from([None, "", "agent"]),
    domain=st.sampled_from([None, "", "domain"]),
    session_id=st.sampled_from([None, "s"]),
    environment=st.sampled_from([{}, {"a": 1}]),
    authority=st.sampled_from([None, Authority("policy")]),
)


@given(ATTRIBUTIONS, st.sampled_from([None, "", "house"]), st.sampled_from([None, "", "home"]))
def test_what_no_scope_names_is_as_configured_and_nothing_else_changes(
    attribution: Attribution, agent_id: str | None, domain: str | None
) -> None:
    recorder = configure(agent_id=agent_id, domain=domain)
    filled = with_defaults(attribution, recorder)
    assert filled == dataclasses.replace(
        attribution,
        agent_id=(agent_id or None) if attribution.agent_id is None else attribution.agent_id,
        domain=(domain or None) if attribution.domain is None else attribution.domain,
    )


@given(ATTRIBUTIONS)
def test_the_outermost_scope_sets_what_it_says(attribution: Attribution) -> None:
    assert Scope(None, attribution).attribution == NOBODY.overlaid(attribution)


def test_configured_agent_and_domain_stand_behind_every_scope(chain: Chain) -> None:
    chain.configure(agent_id="configured", domain="house")
    with capsule_scope("a"):
        pass
    with capsule_scope("b", agent_id="scoped"):
        pass
    assert [(c["context"]["agent_id"], c["domain"]) for c in chain.capsules()] == [
        ("configured", "house"),
        ("scoped", "house"),
    ]


# -- what is current -------------------------------------------------------------------------------


def test_a_scope_yields_its_task_which_is_current_inside_and_closed_outside(chain: Chain) -> None:
    with capsule_scope("outer") as outer:
        assert current_task() is outer
        with capsule_scope("inner") as inner:
            assert current_task() is inner
            assert inner.parent_id == outer.id
        assert current_task() is outer
    with pytest.raises(TaskClosedError):
        inner.reason("late")
    assert chain.tree() == {"outer": {"inner": {}}}


def test_outside_every_task_the_current_one_takes_everything_and_records_nothing(
    chain: Chain, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the log says so, once for each way to write to it."""
    monkeypatch.setattr("capsule_sdk.logs._told", set())
    task = current_task()
    assert task.recording is False
    task.reason("a", options=["b"], selected="b", confidence=1)
    task.reason("again")
    task.tool("t", {"a": 1}, result=1)
    task.side_effect("s")
    task.metric("m", 1)
    task.summary = "private"
    task.block("no")
    assert task.summary == ""
    assert not task.tool_calls
    assert not task.blocked
    assert current_scope().nearest_task() is None
    assert chain.capsules() == []
    said = [one.getMessage() for one in caplog.records]
    assert len(said) == 6
    assert all("recorded nowhere" in one for one in said)


def test_a_scope_that_does_not_record_yields_the_task_around(chain: Chain) -> None:
    with capsule_scope(record=False, user_id="u") as nobody:
        assert not nobody.recording
        assert current_scope().user_id == "u"
    with capsule_scope("outer") as outer:
        with capsule_scope(record=False, session_id="s") as same:
            assert same is outer
            with capsule_scope("inner"):
                pass
        assert current_scope().session_id is None
    assert chain.tree() == {"outer": {"inner": {}}}
    assert chain.one("outer")["context"]["session_id"] is None
    assert chain.one("inner")["context"]["session_id"] == "s"


def test_an_error_in_a_block_passes_through_and_is_the_tasks_outcome(chain: Chain) -> None:
    error = ValueError("no")
    with pytest.raises(ValueError, match="no") as caught, capsule_scope("block"):
        raise error
    assert caught.value is error
    outcome = chain.one("block")["outcome"]
    assert (outcome["status"], outcome["error"]) == ("failure", "ValueError: no")


def test_a_scope_object_can_be_used_again_but_not_twice_at_once(chain: Chain) -> None:
    scope = capsule_scope("again")
    with scope as first:
        with pytest.raises(ConfigurationError, match="open already; make a new one for each"):
            scope.__enter__()
        assert current_task() is first
    with scope as second:
        assert second is not first
    assert chain.sources() == ["again", "again"]


# -- leaving in odd ways ---------------------------------------------------------------------------


def test_leaving_in_another_context_raises_nothing_and_blames_nobody(chain: Chain) -> None:
    context = copy_context()
    scope = capsule_scope("left elsewhere")
    context.run(scope.__enter__)
    with capsule_scope("here") as here:
        scope.__exit__(None, None, None)  # here it never was current
        assert current_task() is here

    def later(name: str) -> None:
        assert not current_task().recording
        with capsule_scope(name):
            pass

    started_inside = context.copy()
    started_inside.run(later, "started inside")
    context.run(later, "after it")
    left = chain.one("left elsewhere")
    assert chain.tree() == {"here": {}, "left elsewhere": {}, "started inside": {}, "after it": {}}
    environment = chain.one("started inside")["context"]["environment"]
    assert environment == {"closed_parent": left["id"]}
    assert chain.one("after it")["context"]["environment"] == {}


def test_leaving_out_of_order_raises_nothing_and_restores_what_was_outside(chain: Chain) -> None:
    first, second = capsule_scope("first"), capsule_scope("second")
    with capsule_scope("outer") as outer:
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert current_task() is outer
        second.__exit__(None, None, None)
        assert current_task() is outer
    assert chain.tree() == {"outer": {"first": {"second": {}}}}


def test_leaving_twice_or_without_entering_does_nothing(chain: Chain) -> None:
    scope = capsule_scope("x")
    scope.__exit__(None, None, None)
    with scope:
        pass
    scope.__exit__(None, None, None)
    assert chain.sources() == ["x"]


# -- fire and forget -------------------------------------------------------------------------------


def test_a_task_made_in_a_closed_tasks_context_hangs_under_the_nearest_open_one(
    chain: Chain,
) -> None:
    @capsuled
    async def late(gate: asyncio.Event) -> None:
        await gate.wait()
        with capsule_scope("inside late"):
            pass

    async def later(gate: asyncio.Event) -> None:
        await gate.wait()
        await late(gate)

    async def main() -> None:
        gate = asyncio.Event()
        with capsule_scope("outer"):
            with capsule_scope("middle", session_id="s"), capsule_scope("inner"):
                job = asyncio.create_task(later(gate))
                await asyncio.sleep(0)
            gate.set()
            await job
        gate = asyncio.Event()
        with capsule_scope("gone"):
            job = asyncio.create_task(later(gate))
            await asyncio.sleep(0)
        gate.set()
        await job

    asyncio.run(main())
    under_outer, under_none = chain.named("late")
    assert under_outer["parent_id"] == chain.one("outer")["id"]
    environment = under_outer["context"]["environment"]
    assert environment["closed_parent"] == chain.one("inner")["id"]
    assert under_outer["context"]["session_id"] == "s"
    assert under_none["parent_id"] is None
    environment = under_none["context"]["environment"]
    assert environment["closed_parent"] == chain.one("gone")["id"]
    for capsule in chain.named("inside late"):
        assert "closed_parent" not in capsule["context"]["environment"]
    chain.verify()


def test_a_coroutine_called_inside_a_scope_and_awaited_after_it_notes_the_closed_one(
    chain: Chain,
) -> None:
    @capsuled
    async def work() -> None: ...

    async def main() -> None:
        with capsule_scope("outer"):
            with capsule_scope("inner"), capsule_scope(record=False):
                waiting = work()
            await waiting

    asyncio.run(main())
    work_capsule = chain.one("work")
    assert work_capsule["parent_id"] == chain.one("outer")["id"]
    environment = work_capsule["context"]["environment"]
    assert environment == {"closed_parent": chain.one("inner")["id"]}


def test_parent_of_names_the_open_task_and_the_closed_one(chain: Chain) -> None:
    assert parent_of(None) == (None, None)
    with capsule_scope("outer") as outer:
        assert parent_of(innermost()) == (outer, None)
        with capsule_scope("inner") as inner:
            context = copy_context()
        assert context.run(lambda: parent_of(innermost())) == (outer, inner.id)

        def unrecorded() -> Any:
            with capsule_scope(record=False):
                return parent_of(innermost())

        assert context.run(unrecorded) == (outer, inner.id)
    assert context.run(lambda: parent_of(innermost())) == (None, inner.id)


def test_a_job_that_restarts_itself_for_ever_keeps_no_chain_of_closed_scopes(chain: Chain) -> None:
    context = copy_context()
    for _ in range(20):

        def job() -> Any:
            with capsule_scope("job"):
                return copy_context()

        context = context.run(job)
    depth, node = 0, context.run(innermost)
    while node is not None:
        depth, node = depth + 1, node.parent
    assert depth == 1
    capsules = chain.capsules()
    assert [c["context"]["environment"].get("closed_parent") for c in capsules] == [
        None,
        *(c["id"] for c in capsules[:-1]),
    ]


# -- threads, tasks, loops -------------------------------------------------------------------------


def test_tasks_and_to_thread_inherit_and_plain_threads_do_not(chain: Chain) -> None:
    def leaf(name: str) -> None:
        with capsule_scope(name):
            pass

    async def aleaf(name: str) -> None:
        await asyncio.sleep(0)
        leaf(name)

    async def main() -> None:
        async with capsule_scope("main"):
            await asyncio.gather(aleaf("gather"), asyncio.create_task(aleaf("create_task")))
            async with asyncio.TaskGroup() as group:
                group.create_task(aleaf("task group"))
            async with anyio.create_task_group() as anyio_group:
                anyio_group.start_soon(aleaf, "anyio")
            await asyncio.to_thread(leaf, "to_thread")
            await anyio.to_thread.run_sync(leaf, "anyio thread")
            thread = threading.Thread(target=leaf, args=("thread",))
            thread.start()
            thread.join()

    asyncio.run(main())
    assert set(chain.tree()) == {"main", "thread"}
    assert set(chain.tree()["main"]) == {
        "gather", "create_task", "task group", "anyio", "to_thread", "anyio thread",
    }  # fmt: skip


def test_scopes_work_under_trio(chain: Chain) -> None:
    async def child(name: str) -> None:
        async with capsule_scope(name):
            await trio.sleep(0)

    async def main() -> None:
        async with capsule_scope("main"), trio.open_nursery() as nursery:
            nursery.start_soon(child, "a")
            nursery.start_soon(child, "b")

    trio.run(main)
    assert set(chain.tree()["main"]) == {"a", "b"}


def test_two_hundred_concurrent_tasks_each_see_their_own_scope(chain: Chain) -> None:
    async def worker(number: int) -> None:
        async with capsule_scope(f"task {number}", session_id=str(number)) as task:
            for _ in range(3):
                await asyncio.sleep(0)
                assert current_task() is task
                assert current_scope().session_id == str(number)

    async def main() -> None:
        await asyncio.gather(*(worker(number) for number in range(200)))

    asyncio.run(main())
    assert {(c["trigger"]["source"], c["context"]["session_id"]) for c in chain.capsules()} == {
        (f"task {number}", str(number)) for number in range(200)
    }


def test_scopes_in_a_pool_of_threads_never_mix(chain: Chain) -> None:
    def worker(number: int) -> None:
        with capsule_scope("outer", session_id=str(number)) as task:
            time.sleep(0.001)
            with capsule_scope("inner"):
                assert current_scope().session_id == str(number)
            assert current_task() is task

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(worker, range(100)))
    sessions = {capsule["id"]: capsule["context"]["session_id"] for capsule in chain.capsules()}
    for capsule in chain.named("inner"):
        assert sessions[capsule["parent_id"]] == capsule["context"]["session_id"]


# -- disabled --------------------------------------------------------------------------------------


def test_while_the_sdk_is_disabled_scopes_do_nothing_and_touch_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("CAPSULE_SDK_DISABLED", "1")

    async def main() -> None:
        async with capsule_scope("a", agent_id="x") as task:
            task.tool("t")
            assert current_task() is task

    with capsule_scope("a", agent_id="x") as task:
        task.reason("why")
        task.summary = "s"
        assert task.recording is False
        assert current_task() is task
        assert current_scope().agent_id is None
    asyncio.run(main())
    assert flush() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_disabled_scope_costs_a_few_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSULE_SDK_DISABLED", "1")
    best = float("inf")
    for _ in range(50):
        start = time.thread_time()  # whatever else the machine has to do
        for _ in range(200):
            with capsule_scope("a"):
                pass
        best = min(best, (time.thread_time() - start) / 200)
    assert best < 15e-6, f"{best * 1e6:.1f} µs"


@pytest.mark.internal_errors
def test_a_switch_that_cannot_be_read_switches_nothing_off(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPSULE_SDK_DISABLED", "maybe")
    with capsule_scope("a") as task:
        assert task.recording
    assert logs.errors == {}


# -- errors inside the SDK -------------------------------------------------------------------------


@pytest.mark.internal_errors
@pytest.mark.parametrize(
    ("target", "counted"),
    [
        ("capsule_sdk.scopes.scope.open_task", "scope.enter"),
        ("capsule_sdk.scopes.scope.get_recorder", "scope.enter"),
        ("capsule_sdk.recording.recorder.Recorder.begin", "scope.enter"),
        ("capsule_sdk.scopes.scope.close_task", "scope.exit"),
        ("capsule_sdk.recording.recorder.Recorder.claim", "scope.exit"),
        ("capsule_sdk.recording.recorder.Recorder.finish", "scope.exit"),
        ("capsule_sdk.records.task.Task.settle", "scope.exit"),
    ],
)
def test_an_error_inside_the_sdk_leaves_the_block_as_it_was_and_the_others_recorded(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, target: str, counted: str
) -> None:
    chain.configure(settle_timeout=0.1)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("injected")

    with capsule_scope("around") as around:
        with monkeypatch.context() as patched:
            patched.setattr(target, broken)
            with capsule_scope("broken"):
                current_task().metric("harmless", 1)
            with pytest.raises(KeyError, match="mine"), capsule_scope("broken"):
                raise KeyError("mine")
        assert current_task() is around
        with capsule_scope("after"):
            pass
    assert logs.errors[counted] == 2
    assert {"around", "after"} <= set(chain.sources())
    chain.capsules()


@pytest.mark.internal_errors
def test_a_task_whose_end_could_not_be_written_says_pending_and_takes_no_more_children(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Task, "settle", lambda *_, **__: 1 / 0)
        with capsule_scope("unsettled") as task:
            pass
    assert task.closed
    assert chain.one("unsettled")["outcome"]["status"] == "pending"


# -- strict mode -----------------------------------------------------------------------------------


def test_in_strict_mode_the_capsule_is_in_the_file_when_the_block_is_left(chain: Chain) -> None:
    chain.configure(swallow_errors=False)
    with capsule_scope("outer"), capsule_scope("inner"):
        pass
    assert [c["trigger"]["source"] for c in chain.stored()] == ["inner", "outer"]

    async def main() -> None:
        async with capsule_scope("async"):
            pass

    for backend in ("asyncio", "trio"):
        before = len(chain.stored())
        anyio.run(main, backend=backend)
        assert len(chain.stored()) == before + 1


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    """Make the strict recorder's chain unwritable for the test; then all of it has to get in."""
    directory = tmp_path / "chain"
    directory.write_text("a file stands where the directory has to be")
    configure(
        url=directory / "capsules.db", swallow_errors=False, settle_timeout=0, exit_timeout=0.2
    )
    yield directory
    directory.unlink()
    directory.mkdir(exist_ok=True)  # the writer may be quicker
    assert flush(20.0) == 0
    assert list(read_chain(directory / "capsules.db"))


def test_in_strict_mode_an_unwritable_chain_is_an_error_of_the_block_and_the_call(
    unwritable: Path,
) -> None:
    @capsuled
    async def coroutine() -> None: ...

    @capsuled
    def generator() -> Any:
        yield 1

    with pytest.raises(RecordingError, match="not in the chain after"), capsule_scope("block"):
        pass
    with pytest.raises(RecordingError):
        capsuled(lambda: 1, name="call")()
    with pytest.raises(RecordingError):
        asyncio.run(coroutine())
    with pytest.raises(RecordingError):
        list(generator())
    assert innermost() is None


def test_in_strict_mode_the_users_own_exception_is_never_replaced(unwritable: Path) -> None:
    error = KeyError("mine")

    @capsuled
    async def coroutine() -> None:
        async with capsule_scope("block"):
            raise error

    for call in (lambda: asyncio.run(coroutine()), lambda: trio.run(coroutine)):
        with pytest.raises(KeyError) as caught:
            call()
        assert caught.value is error
    with pytest.raises(KeyError) as caught, capsule_scope("block"):
        raise error
    assert caught.value is error


@pytest.mark.internal_errors
@pytest.mark.parametrize("broken", ["Recorder.begin", "Task.settle"])
def test_in_strict_mode_nothing_passes_as_recorded_that_is_not(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    chain.configure(swallow_errors=False, settle_timeout=0, exit_timeout=0.2)
    ran: list[str] = []

    def sync() -> None:
        ran.append("sync")

    async def coroutine() -> None:
        ran.append("coroutine")

    def block() -> None:
        with capsule_scope("block"):
            ran.append("block")

    module = "recording.recorder" if broken.startswith("Recorder") else "records.task"
    monkeypatch.setattr(f"capsule_sdk.{module}.{broken}", lambda *_, **__: 1 / 0)
    for call in (capsuled(sync), lambda: asyncio.run(capsuled(coroutine)()), block):
        with pytest.raises(RecordingError, match="the log of capsule_sdk says why"):
            call()
    assert ran == ([] if broken == "Recorder.begin" else ["sync", "coroutine", "block"])
    assert innermost() is None


# -- log lines -------------------------------------------------------------------------------------


def test_log_lines_inside_a_task_carry_its_ids_and_keep_their_own(chain: Chain) -> None:
    lines: list[Any] = []

    def keep(_: Any, __: str, event: Any) -> str:
        lines.append(dict(event))
        return ""

    log = structlog.wrap_logger(structlog.PrintLogger(), processors=[add_capsule_ids, keep])
    log.info("outside")
    with capsule_scope("task", agent_id="a", session_id="s") as task:
        log.info("inside")
        log.info("own", capsule_id="mine", agent_id=None)
    with capsule_scope("unnamed") as unnamed:
        log.info("unnamed")
    assert lines == [
        {"event": "outside"},
        {"event": "inside", "capsule_id": str(task.id), "agent_id": "a", "session_id": "s"},
        {"event": "own", "capsule_id": "mine", "agent_id": None, "session_id": "s"},
        {"event": "unnamed", "capsule_id": str(unnamed.id)},
    ]


def test_the_public_reading_functions_are_the_modules_own() -> None:
    assert capsule_sdk.current_scope is current_scope
    assert repr(current_scope()).startswith("<Scope task=None")
