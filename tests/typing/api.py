"""Checked by mypy --strict and pyright, and never run: what a user's type checker sees of the public names."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_type

from capsule_sdk import (
    Authority,
    Task,
    aflush,
    bind_scope,
    capsule_scope,
    capsuled,
    configure,
    current_scope,
    current_task,
    flush,
    from_arg,
    shutdown,
)


@capsuled
def bare(portfolio: str, *, limit: int = 3) -> list[str]:
    return [portfolio] * limit


@capsuled(agent_id="trading-bot", domain="finance", authority="policy", policy_reference="P-7")
async def coroutine(portfolio: str) -> str:
    return portfolio


@capsuled(session_id=from_arg("site"), user_id=lambda arguments: arguments["site"])
def generator(site: int) -> Generator[int, str, bytes]:
    yield site
    return b""


@capsuled(request_from="site", capture_args=False, environment={"region": "eu"})
async def async_generator(site: int) -> AsyncGenerator[int, str]:
    yield site


class Agent:
    @capsuled
    def method(self, question: str) -> int:
        return len(question)

    @capsuled(name="ask")
    async def ask(self, question: str) -> int:
        return self.method(question)

    @classmethod
    @capsuled
    def below_classmethod(cls, name: str) -> Agent:
        return cls()

    @staticmethod
    @capsuled(capsule_type="tool")
    def below_staticmethod(name: str) -> str:
        return name

    @capsuled
    @staticmethod
    def above_staticmethod(name: str) -> str:
        return name

    @capsuled
    @classmethod
    def above_classmethod(cls, name: str) -> Agent:
        return cls()

    @property
    @capsuled
    def below_property(self) -> int:
        return 1


async def signatures_are_kept() -> None:
    assert_type(bare("a", limit=2), list[str])
    assert_type(await coroutine("a"), str)
    assert_type(generator(1), Generator[int, str, bytes])
    assert_type(async_generator(1), AsyncGenerator[int, str])
    agent = Agent()
    assert_type(agent.method("a"), int)
    assert_type(await agent.ask("a"), int)
    assert_type(Agent.below_classmethod("a"), Agent)
    assert_type(Agent.below_staticmethod("a"), str)
    assert_type(Agent.above_staticmethod("a"), str)
    assert_type(Agent.above_classmethod("a"), Agent)
    assert_type(agent.below_property, int)
    by_call = capsuled(functools.partial(bare, "a"), agent_id="x")
    assert_type(by_call(limit=1), list[str])


def wrong_uses_are_errors() -> None:
    bare(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bare("a", limt=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    capsuled(agent="x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    capsuled(capture_args="no")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    capsule_scope(agent="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    capsule_scope(authority="humn")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    capsule_scope(capsule_type="agnt")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Authority("humn")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    configure(content="omitt")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    configure(messages="ful")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    configure(agentid="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    capsule_scope("x", record="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    capsule_scope(session_id=from_arg("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def scopes_yield_a_task() -> None:
    with capsule_scope("approve", authority="human-approved", approver="ana@example.com") as task:
        assert_type(task, Task)
        task.reason("why", options=["a", {"description": "b"}], selected="a", confidence=0.5)
        task.tool("lookup", {"id": 1}, result=[1], error=None)
        task.side_effect("mail sent")
        task.metric("rows", 3)
        task.summary = "done"
        task.block("limit")
    with capsule_scope(
        authority=Authority("policy", policy_reference="P-1"), record=False
    ) as around:
        assert_type(around, Task)
    assert_type(current_task(), Task)
    assert_type(current_scope().agent_id, str | None)
    assert_type(current_scope().environment, Mapping[str, Any])
    assert_type(current_scope().authority, Authority | None)


def scopes_swallow_no_exception() -> int:
    with capsule_scope("block"):  # were it able to swallow, this would lack a return
        return 1


async def async_scopes_yield_a_task() -> int:
    async with capsule_scope("block", tenant_id="t") as task:
        assert_type(task, Task)
        assert_type(await aflush(1.0), int)
        return 1


async def bound_functions_keep_their_signature() -> None:
    bound: Callable[[str], Coroutine[Any, Any, str]] = bind_scope(coroutine)
    assert_type(await bound("a"), str)
    with ThreadPoolExecutor() as pool:
        assert_type(pool.submit(bind_scope(Agent().method), "a").result(), int)
        loop = asyncio.get_running_loop()
        assert_type(await loop.run_in_executor(pool, bind_scope(Agent().method), "a"), int)


def settings_are_typed() -> None:
    recorder = configure(url="capsules.db", content="digest", swallow_errors=False)
    assert_type(recorder.stats().committed, int)
    assert_type(flush(), int)
    assert_type(shutdown(1.0), int)
