"""A user's program that does what it is told, for tests in which its database goes away.

    python postgresql_programs.py DIRECTORY

Each line of its input is a JSON list, a command and its arguments; it answers with a line of JSON. When the
input ends the program does too, like every other: at the end of its code. Its store and its settings are in
the ``CAPSULE_SDK_…`` variables. In DIRECTORY it keeps two files that survive it: ``log``, what the SDK has
logged, and ``returned``, the name of each call that has returned; a name there is a promise that the chain
has to keep.
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import capsule_sdk
from capsule_sdk import capsule_scope, capsuled, flush, get_recorder

returned: int  # a file


def report(name: str) -> None:
    os.write(returned, f"{name}\n".encode())


@capsuled(name="call")
def call(name: str) -> str:
    """A call; its name is the request of its capsule."""
    return name


@capsuled(name="batch")
def batch(name: str) -> str:
    """A call with three under it."""
    for number in range(3):
        report(call(f"{name}-{number}"))
    return name


@capsuled(name="batch")
async def abatch(name: str) -> str:
    """The same in an event loop, all three at once."""

    @capsuled(name="call")
    async def acall(name: str) -> str:
        await asyncio.sleep(0)
        return name

    for done in await asyncio.gather(*(acall(f"{name}-{number}") for number in range(3))):
        report(done)
    return name


# -- commands ----------------------------------------------------------------------------------------


def calls(*names: str) -> list[float]:
    """Make calls, and answer with the seconds that each took."""
    seconds = []
    for name in names:
        began = time.perf_counter()
        call(name)
        seconds.append(time.perf_counter() - began)
        report(name)
    return seconds


def crowd(process: str, batches: int, pause: float) -> None:
    """Make batches of four capsules, a quarter in each of: three threads, an event loop in a fourth."""

    def in_thread(names: list[str]) -> None:
        for name in names:
            report(batch(name))
            time.sleep(pause)

    def in_loop(names: list[str]) -> None:
        async def one_by_one() -> None:
            for name in names:
                report(await abatch(name))
                await asyncio.sleep(pause)

        asyncio.run(one_by_one())

    names = [f"{process}-{number}" for number in range(batches)]
    threads = [
        threading.Thread(target=work, args=(names[start::4],))
        for start, work in ((1, in_thread), (2, in_thread), (3, in_loop))
    ]
    for thread in threads:
        thread.start()
    in_thread(names[0::4])
    for thread in threads:
        thread.join()


def models(process: str, count: int, pause: float) -> None:
    """Call a model, sync and async in turn, with a logger on a `Capsules` and nothing configured."""
    import litellm
    from qp_capsule import Capsules

    litellm.callbacks = [capsule_sdk.CapsuleLogger(capsules=Capsules(os.environ["STORE"]))]
    report("ready")

    async def ask(number: int) -> None:
        name = f"{process}-{number}"
        options: dict[str, Any] = {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": name}],
            "mock_response": "so be it",
        }
        if number % 2:
            answer: Any = litellm.completion(**options)
        else:
            answer = await litellm.acompletion(**options)
        assert answer.choices[0].message.content == "so be it"
        report(name)
        await asyncio.sleep(pause)

    async def main() -> None:
        for number in range(count):
            await ask(number)

    asyncio.run(main())


def tenants(process: str, count: int) -> None:
    """Make nested tasks, each level of another tenant, or of none."""
    for number in range(count):
        with (
            capsule_scope("outer", request=f"{process}-{number}"),
            capsule_scope("acme", tenant_id="acme", request=f"{process}-{number}"),
        ):
            report(call(f"{process}-{number}"))  # of acme too
            with capsule_scope("globex", tenant_id="globex", request=f"{process}-{number}"):
                pass
            report(call(f"{process}-{number}"))


def stats() -> dict[str, Any]:
    return asdict(get_recorder().stats())


def in_child(name: str) -> None:
    """Record in a child, and end badly if that is not durable."""
    calls(f"{name}-0", f"{name}-1")
    left = flush(20)
    if left:
        report(f"{name} has {left} left")
    sys.exit(left)


def fork(name: str) -> list[int]:
    """Fork while a thread records; parent and child record and flush. Answer with how both went."""
    stop = threading.Event()

    def go_on() -> None:
        number = 0
        while not stop.wait(0.001):
            calls(f"{name}-thread-{number}")
            number += 1

    thread = threading.Thread(target=go_on)
    thread.start()
    statuses = []
    for number in range(5):
        pid = os.fork()
        if not pid:
            calls(f"{name}-child-{number}")
            os._exit(flush(20))  # a child that ends like its parent would read on from its input
        calls(f"{name}-parent-{number}")
        statuses.append(flush(20))
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set()
    thread.join()
    return [*statuses, flush(20)]


def fork_away(name: str) -> list[int]:
    """Fork while nothing can be flushed yet, record in both, and flush: it is there by then."""
    pid = os.fork()
    if not pid:
        calls(f"{name}-child")
        os._exit(flush(30))
    calls(f"{name}-parent")
    return [flush(30), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


def processes(name: str, method: str) -> list[int | None]:
    """Do the same with multiprocessing, whose children end by themselves."""
    context: Any = multiprocessing.get_context(method)
    with capsule_scope("parent", request=f"{name}-parent"):
        report(f"{name}-parent")
        children = [context.Process(target=in_child, args=(f"{name}-{n}",)) for n in range(2)]
        for child in children:
            child.start()
        calls(f"{name}-meanwhile")
    statuses: list[int | None] = [flush(20)]
    for child in children:
        child.join(30)
        statuses.append(child.exitcode)
    return statuses


COMMANDS: dict[str, Callable[..., Any]] = {
    work.__name__: work
    for work in (calls, crowd, models, tenants, stats, flush, fork, fork_away, processes)
}


def prepare(directory: Path) -> None:
    global returned  # noqa: PLW0603 - a program's own
    returned = os.open(directory / "returned", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    logging.basicConfig(
        filename=directory / "log", level=logging.INFO, format="%(name)s %(levelname)s %(message)s"
    )


def main() -> None:
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(COMMANDS[name](*arguments)), flush=True)


if __name__ in {"__main__", "__mp_main__"}:  # the latter is a child that was spawned
    prepare(Path(sys.argv[1]))
if __name__ == "__main__":
    main()
