"""Programs that end, are interrupted, or fork in the middle of calls: each call is exactly one capsule."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from litellm_support import calls, pairs

from capsule_sdk.evidence.exporting.export import read_chain

if TYPE_CHECKING:
    from litellm_programs import Programs

pytest_plugins = ["litellm_support", "litellm_programs"]


class Runner:
    """Runs programs of this test."""

    def __init__(self, programs: Programs, directory: Path, base_url: str) -> None:
        self._programs, self._directory, self._base_url = programs, directory, base_url

    def __call__(self, program: str, *, code: int | set[int] = 0) -> str:
        """Run a program; return what it printed."""
        return self._programs.run(self._directory, self._base_url, program, code=code).stdout

    def calls(self, *expected: tuple[str | None, str]) -> list[Any]:
        """Assert that these calls are in the chain; return their capsules in chain order."""
        capsules = list(read_chain(self._directory / "capsules.db"))
        assert Counter(pairs(capsules)) == Counter(expected)
        return calls(capsules)


@pytest.fixture
def run(programs: Programs, provider: Any, tmp_path: Path) -> Runner:
    return Runner(programs, tmp_path, provider.base_url)


def ended(capsule: Any) -> str | None:
    value = capsule["outcome"]["metrics"].get("ended")
    return None if value is None else str(value)


def test_a_stream_and_a_daemon_thread_that_are_open_at_the_end(run: Runner) -> None:
    run("""
with capsule_scope("main"):
    stream = ask(stream=True)
    next(stream)

def hang():
    with capsule_scope("thread"):
        ask("slow10")

threading.Thread(target=hang, daemon=True).start()
time.sleep(0.5)
""")
    capsules = run.calls(("main", "partial"), ("thread", "partial"))
    assert [ended(capsule) for capsule in capsules] == ["process exit"] * 2
    results = {capsule["outcome"]["result"] for capsule in capsules}
    assert results == {"hello", None}


def test_an_async_stream_that_is_open_when_its_loop_ends(run: Runner) -> None:
    run("""
async def main():
    global stream
    with capsule_scope("task"):
        stream = await aask(stream=True)
        await anext(stream)

asyncio.run(main())
""")
    (capsule,) = run.calls(("task", "partial"))
    assert ended(capsule) == "process exit"
    assert capsule["outcome"]["result"] == "hello"


def test_a_task_that_is_pending_when_its_loop_ends(run: Runner) -> None:
    run("""
async def pending():
    with capsule_scope("pending"):
        await aask("slow10")

async def main():
    global kept
    kept = asyncio.create_task(pending())
    await asyncio.sleep(0.3)

asyncio.run(main())
""")
    (capsule,) = run.calls(("pending", "partial"))
    assert ended(capsule) == "cancelled"


def test_calls_that_are_made_last_of_all(run: Runner) -> None:
    run("""
asyncio.run(aask())
ask()
""")
    run.calls(*[(None, "success")] * 2)


def test_a_fork_with_a_stream_open_in_the_parent(run: Runner) -> None:
    printed = run("""
with capsule_scope("parent"):
    stream = ask(stream=True)
    next(stream)
settled()
pid = os.fork()
if not pid:
    del stream
    gc.collect()
    with capsule_scope("child"):
        ask()
    print("child done", flush=True)
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
del stream
""")
    assert printed == "child done\n"
    capsules = run.calls(("child", "success"), ("parent", "partial"))
    assert {ended(capsule) for capsule in capsules} == {None, "abandoned"}


def test_a_fork_in_which_the_child_reads_the_parents_stream(run: Runner) -> None:
    run("""
stream = ask(stream=True)
next(stream)
settled()
pid = os.fork()
if not pid:
    del stream
    asyncio.run(aask())
    sys.exit()
os.waitpid(pid, 0)
list(stream)
""")
    run.calls((None, "success"), (None, "success"))


def test_an_interrupt_in_a_sync_call_reaches_the_user(run: Runner) -> None:
    printed = run("""
interrupt_after(0.5)
try:
    with capsule_scope("task"):
        ask("slow10")
except KeyboardInterrupt:
    print("interrupted")
""")
    assert printed == "interrupted\n"
    (capsule,) = run.calls(("task", "partial"))
    assert ended(capsule) == "interrupted"


def test_an_interrupt_in_an_async_call_reaches_the_user(run: Runner) -> None:
    printed = run("""
async def main():
    with capsule_scope("task"):
        await aask("slow10")

interrupt_after(0.5)
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
""")
    assert printed == "interrupted\n"
    (capsule,) = run.calls(("task", "partial"))
    assert ended(capsule) == "cancelled"


def test_an_interrupt_in_a_stream_ends_the_program(run: Runner) -> None:
    run(
        """
with capsule_scope("task"):
    for chunk in ask("midslow10", stream=True):
        if " wor" in str(chunk):
            interrupt_after(0.2)
""",
        code={1, -signal.SIGINT},  # Python ends itself by the signal where it can
    )
    (capsule,) = run.calls(("task", "partial"))
    assert ended(capsule) == "interrupted"
    assert capsule["outcome"]["result"] == "hello wor"


def test_a_callback_that_exits_the_program(run: Runner) -> None:
    run(
        """
from litellm.integrations.custom_logger import CustomLogger

class Exits(CustomLogger):
    def log_pre_api_call(self, model, messages, kwargs):
        sys.exit(3)

litellm.callbacks.append(Exits())
with capsule_scope("task"):
    ask()
""",
        code=3,
    )
    (capsule,) = run.calls(("task", "partial"))
    assert ended(capsule) == "system exit"


def test_an_exit_in_a_callback_of_another_thread_changes_nothing(run: Runner) -> None:
    run("""
from litellm.integrations.custom_logger import CustomLogger

class Exits(CustomLogger):
    def log_success_event(self, *args, **kwargs):
        sys.exit(3)

litellm.callbacks.append(Exits())
ask()
""")
    run.calls((None, "success"))


def test_a_pool_for_callbacks_that_is_full_loses_nothing(run: Runner) -> None:
    run("""
from litellm.integrations.custom_logger import CustomLogger

class Slow(CustomLogger):
    def log_success_event(self, *args, **kwargs):
        dropped.wait(2)

dropped = threading.Event()
litellm.callbacks.append(Slow())
with capsule_scope("task"):
    for _ in range(300):
        ask()
dropped.set()
""")
    run.calls(*[("task", "success")] * 300)
