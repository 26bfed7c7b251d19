"""PostgreSQL and all that users do with it at once: tenants, strictness, texts of any kind, forks."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
from outage_support import (
    Programs,
    names,
    programs,
    recovered,
    requests,
)
from postgres_support import assert_whole, postgres, read_with_qp_capsule, rows, server
from recording import assert_tree_is_whole, until

import capsule_sdk
from capsule_sdk import Authority, capsule_scope, capsuled, current_task, flush
from capsule_sdk.cli import main
from capsule_sdk.errors import RecordingError
from capsule_sdk.evidence.exporting.export import read_chain

__all__ = ["postgres", "programs"]

# -- tenants ----------------------------------------------------------------------------------------


def test_processes_with_nested_tenants_write_a_whole_chain_for_each_of_them(
    postgres: str, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    started = [programs(postgres) for _ in range(3)]
    for number, program in enumerate(started):
        program.tell("tenants", str(number), 40)
    programs.until_returned(40)
    server().restart("immediate")
    for program in started:
        program.answer()
        program.end()
    calls = {f"{process}-{number}": 1 for process in range(3) for number in range(40)}
    by_source: dict[str, dict[str, int]] = {}
    for tenant, sources in ((None, ["outer"]), ("acme", ["acme", "call"]), ("globex", ["globex"])):
        chain = list(read_chain(postgres, tenant=tenant))
        for source in sources:
            found = [c["trigger"]["request"] for c in chain if c["trigger"]["source"] == source]
            by_source[source] = Counter(found)
        assert {c["trigger"]["source"] for c in chain} == set(sources)
        assert_whole(postgres, len(chain), tenant)
        assert main(["tree", "--db", postgres, *(["--tenant", tenant] if tenant else [])]) == 0
        tree = capsys.readouterr().out
        assert all(source in tree for source in sources)
        assert len(tree.splitlines()) == len(chain)
    assert by_source == {
        "outer": calls, "acme": calls, "globex": calls, "call": dict.fromkeys(calls, 2),
    }  # fmt: skip
    everything = {
        capsule["id"]: capsule
        for tenant in (None, "acme", "globex")
        for capsule in read_chain(postgres, tenant=tenant)
    }
    above = {"acme": "outer", "call": "acme", "globex": "acme"}
    for capsule in everything.values():
        parent = everything.get(capsule["parent_id"])
        assert above.get(capsule["trigger"]["source"]) == (parent and parent["trigger"]["source"])


# -- strict mode ------------------------------------------------------------------------------------


def stored(url: str) -> list[str]:
    """Return the names of what is in the table at this moment, read by another connection."""
    return [json.loads(data)["trigger"]["source"] for (data,) in rows(url, "data")]


@capsuled(name="inner")
def inner() -> None:
    pass


@capsuled(name="outer")
def outer() -> None:
    inner()


@capsuled(name="outer")
async def aouter() -> None:
    inner()


RUNS: dict[str, Callable[[], object]] = {
    "sync": outer,
    "asyncio": lambda: asyncio.run(aouter()),
    "trio": lambda: trio.run(aouter),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_in_strict_mode_what_has_returned_is_in_the_table_or_an_error_says_that_it_is_not_yet(
    postgres: str, run: Callable[[], object]
) -> None:
    capsule_sdk.configure(url=postgres, swallow_errors=False, settle_timeout=0.5, exit_timeout=0.5)
    for count in range(1, 6):
        run()
        assert stored(postgres) == ["inner", "outer"] * count
    with server().stopped("immediate"):
        began = time.monotonic()
        with pytest.raises(RecordingError, match="still queued"):
            run()
        assert 0.9 < time.monotonic() - began < 1 + 2
    until(lambda: len(stored(postgres)) == 12)
    run()
    assert stored(postgres) == ["inner", "outer"] * 7
    assert_whole(postgres, 14)


# -- what does not fit ------------------------------------------------------------------------------

AWKWARD = {
    "long": "l" * 10_000,
    "long in bytes": "漢🙂" * 5_000,
    "NUL": "nul\0nul\0",
    "surrogates": "lone \ud800 and \udfff",
    "all of it": "\0\ud83d" * 5_000,
}


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_texts_that_do_not_fit_anywhere_are_recorded_wherever_a_user_can_put_them(
    postgres: str, text: str
) -> None:
    capsule_sdk.configure(url=postgres)
    authority = Authority("escalated", approver=text, policy_reference=text, escalation_reason=text)
    attribution: dict[str, Any] = {
        "agent_id": text, "domain": text, "session_id": text, "user_id": text, "tenant_id": text,
        "correlation_id": text, "environment": {text: text, "list": [text, {text: [text]}]},
    }  # fmt: skip

    @capsuled(capsule_type="tool", name=text, authority=authority, **attribution)
    def tool(argument: str, **more: str) -> dict[str, str]:
        return {argument: argument, **more}

    @capsuled(name=text, **attribution)
    def failing() -> None:
        raise ValueError(text)

    with capsule_scope(text, request=text, authority=authority, **attribution):
        task = current_task()
        task.reason(text, options=[text], selected=text, reasoning=text, confidence=0.5)
        task.tool(text, arguments={text: text}, result={text: [text]})
        task.tool(text, error=text)
        task.side_effect(text)
        task.metric(text, text)
        task.summary = text
        tool(text, **{text: text})
        with pytest.raises(ValueError, match=re.escape(text)):
            failing()
        with capsule_scope(text, **attribution):
            current_task().block(text)
    assert flush() == 0
    stats = capsule_sdk.get_recorder().stats()
    assert (stats.committed, stats.failed, stats.lost, stats.errors) == (4, 0, 0, 0)
    (tenant,) = {row[0] for row in rows(postgres, "tenant_id")}
    found = read_with_qp_capsule(postgres, tenant)
    assert [one.type.value for one in found] == ["tool", "agent", "agent", "agent"]
    assert [one.outcome.status for one in found] == ["success", "failure", "blocked", "success"]
    whole = re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)
    for one in found:
        name = one.domain
        assert name == one.context.session_id == one.context.environment["tenant_id"]
        if len(text) < 100:
            assert name == whole
        else:  # of a name that long the head is kept, and the digest of all of it
            assert name[:100] == whole[:100]
            assert hashlib.sha3_256(whole.encode()).hexdigest() in name
    assert_whole(postgres, 4, tenant)


@pytest.mark.parametrize("tenant", ["l" * 600, "lone \ud800"], ids=["long", "surrogate"])
def test_the_chain_of_a_tenant_is_read_by_the_id_that_the_user_gave_it(
    postgres: str, tenant: str
) -> None:
    capsule_sdk.configure(url=postgres)
    with capsule_scope("task", tenant_id=tenant, request="transfer"):
        pass
    assert flush() == 0
    assert requests(postgres, tenant) == ["transfer"]


def test_texts_of_a_megabyte_are_stored_whole_where_the_user_wants_that(
    postgres: str,
) -> None:
    capsule_sdk.configure(url=postgres, max_text=2_000_000)
    text = "é\0🙂x" * 140_000
    assert 1_000_000 < len(text.encode()) < 2_000_000

    @capsuled(name="big")
    def big(argument: str) -> str:
        return argument

    with capsule_scope("above"):
        for _ in range(12):  # more than goes into one group
            big(text)
    assert flush() == 0
    *found, above = read_with_qp_capsule(postgres)
    assert above.trigger.source == "above"
    assert {one.trigger.source for one in found} == {"big"}
    assert [one.trigger.request for one in found] == [text] * 12
    assert [one.outcome.result for one in found] == [text] * 12
    assert_whole(postgres, 13)


# -- forks ------------------------------------------------------------------------------------------


def assert_left_nothing_but_journals(programs: Programs, url: str) -> None:
    """A child that ended by ``os._exit`` could not remove its journal; all that it says is there."""
    before = requests(url)
    assert recovered(url)["left"] == 0
    assert requests(url) == before
    assert not programs.journals()


def test_parent_and_child_of_a_fork_record_on_and_their_flushes_return(
    postgres: str, programs: Programs
) -> None:
    program = programs(postgres)
    program.ask("calls", "before")
    statuses = program.ask("fork", "f")
    assert statuses == [0] * 11
    program.end()
    expected = ["before", *names("f-child", 5), *names("f-parent", 5)]
    made = Counter(requests(postgres))
    assert set(expected) <= made.keys()
    assert made == dict.fromkeys(program.returned(), 1)
    assert_left_nothing_but_journals(programs, postgres)
    assert_whole(postgres, len(made))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_record_like_their_parent(
    postgres: str, programs: Programs, method: str
) -> None:
    program = programs(postgres)
    program.ask("calls", "before")
    assert program.ask("processes", "p", method) == [0] * 3
    program.end()
    children = {f"p-{child}-{number}" for child in range(2) for number in range(2)}
    expected = {"before", "p-parent", "p-meanwhile", *children}
    assert Counter(requests(postgres)) == dict.fromkeys(expected, 1)
    assert_whole(postgres, len(expected))
    assert_tree_is_whole(list(read_chain(postgres)))
    assert not programs.journals()


def test_a_fork_while_the_store_is_away_keeps_nobody_waiting_and_loses_nothing(
    postgres: str, programs: Programs
) -> None:
    program = programs(postgres)
    with server().stopped():
        program.ask("calls", "before")
        program.tell("fork_away", "f")
        began = time.monotonic()
        programs.until_returned(3)
        assert time.monotonic() - began < 5
    assert program.answer() == [0, 0]
    program.end()
    assert Counter(requests(postgres)) == dict.fromkeys(["before", "f-child", "f-parent"], 1)
    assert_left_nothing_but_journals(programs, postgres)
    assert_whole(postgres, 3)
