"""What Python and other people's code do by a function's type, they do to a decorated one."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import dataclasses
import functools
import inspect
import logging
import pickle
import subprocess
import sys
import textwrap
import traceback
import types
import typing
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from conftest import Chain

from capsule_sdk import bind_scope, capsule_scope, capsuled, flush, get_recorder
from capsule_sdk.errors import DecorationError
from capsule_sdk.scopes.unseen import KNOWN

unseen_only = pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.version_info[:2] not in KNOWN,
    reason="the frame of the SDK is known to be hidden on these versions alone",
)


class Listener:
    def __init__(self, name: str = "listener") -> None:
        self.name = name

    @capsuled
    def on_event(self, sender: object = None, **facts: object) -> str:
        return self.name

    @classmethod
    @capsuled
    def on_class(cls, sender: object = None, **facts: object) -> str:
        return cls.__name__

    @capsuled
    @classmethod
    def on_class_above(cls, sender: object = None, **facts: object) -> str:
        return cls.__name__

    @capsuled
    @functools.lru_cache  # noqa: B019 - one that is no function
    def cached(self, sender: object = None) -> str:
        return self.name


# -- bound methods ---------------------------------------------------------------------------------

BOUND: list[Callable[[Listener], Any]] = [
    lambda it: it.on_event,
    lambda it: it.on_class,
    lambda it: it.on_class_above,
    lambda it: it.cached,
]


@pytest.mark.parametrize("taken", BOUND)
def test_a_bound_method_is_pythons_own_and_can_be_made_again_kept_weakly_and_compared(
    chain: Chain, taken: Callable[[Listener], Any]
) -> None:
    listener = Listener()
    method = taken(listener)
    again = type(method)(method.__func__, method.__self__)
    by_hand = types.MethodType(method.__func__, method.__self__)
    kept = weakref.WeakMethod(method)()
    assert kept is not None
    assert again() == by_hand() == kept() == method()
    assert method == taken(listener) == again
    assert hash(method) == hash(taken(listener))
    assert {method: 1}[taken(listener)] == 1
    listeners = [method]
    listeners.remove(taken(listener))
    assert len(chain.capsules()) == 4
    chain.verify()


def test_a_weakly_kept_method_dies_with_its_object(chain: Chain) -> None:
    listener = Listener()
    kept = weakref.WeakMethod(listener.on_event)
    listener.on_event()
    flush()
    del listener
    assert kept() is None


@pytest.mark.parametrize("package", ["blinker", "django.dispatch"])
def test_signals_call_decorated_methods(chain: Chain, package: str) -> None:
    signal: Any = pytest.importorskip(package).Signal()
    listener = Listener()
    signal.connect(listener.on_event)
    assert [value for _, value in signal.send("sender")] == ["listener"]
    assert chain.sources() == ["on_event"]


# -- what Python does by a function's type ---------------------------------------------------------


def test_implicit_class_methods_and_static_methods_stay_so(chain: Chain) -> None:
    made: list[str] = []

    class Plugin:
        @capsuled
        def __init_subclass__(cls, **options: object) -> None:
            made.append(cls.__name__)

        @capsuled(name="item")
        def __class_getitem__(cls, item: object) -> tuple[str, object]:
            return cls.__name__, item

        @capsuled
        def __new__(cls, x: int) -> typing.Self:
            return super().__new__(cls)

    class Sub(Plugin, key=1):  # type: ignore[call-arg]
        pass

    assert made == ["Sub"]
    assert Sub[int] == ("Sub", int)
    assert type(Sub(1)) is Sub
    requests = {c["trigger"]["source"].rpartition(".")[2]: c["trigger"] for c in chain.capsules()}
    assert requests["__init_subclass__"]["request"] == '{"key":1}'
    assert "Sub" not in requests["item"]["request"]
    assert requests["__new__"]["request"] == '{"x":1}'


def test_operators_context_managers_and_iteration_find_decorated_methods(chain: Chain) -> None:
    class Money:
        def __init__(self, amount: int) -> None:
            self.amount = amount

        @capsuled
        def __add__(self, other: Money) -> Money:
            return Money(self.amount + other.amount)

        @capsuled
        def __lt__(self, other: Money) -> bool:
            return self.amount < other.amount

        @capsuled
        def __contains__(self, amount: int) -> bool:
            return amount == self.amount

        @capsuled
        async def __aenter__(self) -> Money:
            return self

        @capsuled
        async def __aexit__(self, *_: object) -> None: ...

        @capsuled
        async def __aiter__(self) -> AsyncIterator[int]:
            yield self.amount

        @capsuled
        def __await__(self) -> Generator[Any, Any, None]:
            yield from asyncio.sleep(0).__await__()

        @capsuled
        def __set_name__(self, owner: type, name: str) -> None:
            self.name = name

    class Holder:
        money = Money(1)

    async def main() -> list[int]:
        async with Money(1) as inner:
            await inner
            return [amount async for amount in inner]

    assert (Money(1) + Money(2)).amount == 3
    assert min(Money(2), Money(1)).amount == 1
    assert 5 in Money(5)
    assert asyncio.run(main()) == [1]
    assert Holder.money.name == "money"


def test_protocols_abstract_methods_and_dataclass_fields_see_a_function(chain: Chain) -> None:
    @typing.runtime_checkable
    class Goes(typing.Protocol):
        @capsuled
        def go(self) -> str: ...

    class Base(abc.ABC):
        @capsuled
        @abc.abstractmethod
        def go(self) -> str: ...

    @dataclasses.dataclass
    class Car(Base):
        hook: Callable[[int], int] = capsuled(lambda x: x + 1)  # noqa: RUF009

        @capsuled
        def go(self) -> str:
            return "went"

    assert inspect.isabstract(Base)
    assert isinstance(Car(), Goes)
    assert Car().hook(1) == 2
    assert inspect.getfullargspec(capsuled(lambda a, b=1, *, c: 0)).args == ["a", "b"]


def test_a_method_whose_first_parameter_has_another_name_is_recorded_without_its_instance(
    chain: Chain,
) -> None:
    class Meta(type):
        @capsuled
        def make(klass, size: int) -> int:  # noqa: N804
            return size

    class Odd(metaclass=Meta):
        @capsuled
        def method(this, size: int) -> int:  # noqa: N805
            return size

        @classmethod
        @capsuled
        def on_class(klass, size: int) -> int:  # noqa: N804
            return size

        @staticmethod
        @capsuled
        def static(size: int) -> int:
            return size

    odd = Odd()
    assert [odd.method(1), Odd.method(odd, 2), Odd.on_class(3), odd.static(4), Odd.make(5)] == [
        1, 2, 3, 4, 5,
    ]  # fmt: skip
    assert [c["trigger"]["request"] for c in chain.capsules()] == [
        f'{{"size":{number}}}' for number in range(1, 6)
    ]


def test_a_generator_made_awaitable_above_the_decorator_can_be_awaited(chain: Chain) -> None:
    @types.coroutine
    @capsuled
    def old_style() -> Any:
        yield from asyncio.sleep(0).__await__()
        return 3

    async def main() -> int:
        found: int = await old_style()
        return found

    assert asyncio.run(main()) == 3
    assert len(chain.capsules()) == 1


# -- code that is shipped by value -----------------------------------------------------------------

SHIPPED = """
    import asyncio, functools, pickle, subprocess, sys
    import cloudpickle
    from capsule_sdk import capsuled, from_arg

    @capsuled(agent_id="shipped", session_id=from_arg("x"), user_id=lambda given: f"user {given['x']}")
    def of_main(x):
        return x + 1

    class Agent:
        base = 3
        @capsuled
        def method(self, x):
            return self.base + x
        @classmethod
        @capsuled
        def on_class(cls, x):
            return cls.base + x
        @capsuled
        @staticmethod
        def static(x):
            return x
        @capsuled
        async def coroutine(self, x):
            return x
        @capsuled
        def generator(self, x):
            yield x

    def closure(n):
        @capsuled(name="closure")
        def inner(x):
            return x + n
        return inner

    @capsuled(name="factorial")
    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)

    work = [of_main, functools.partial(of_main), capsuled(lambda x: x, name="lambda"), closure(2), factorial,
            Agent().method, Agent.on_class, Agent.static, Agent().coroutine, Agent().generator,
            capsuled(functools.partial(pow, 2), name="partial")]
    other = [sys.executable, "-c", sys.argv[1]]
    done = subprocess.run(other, input=cloudpickle.dumps(work), capture_output=True)
    print(done.stdout.decode().split(), done.stderr.decode())
"""


ELSEWHERE = """
import asyncio, inspect, pickle, sys
for call in pickle.load(sys.stdin.buffer):
    found = call(2)
    if inspect.iscoroutine(found):
        found = asyncio.run(found)
    print(list(found) if inspect.isgenerator(found) else found)
"""


def test_what_cloudpickle_ships_takes_the_recording_along(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cloudpickle")
    monkeypatch.setenv("CAPSULE_SDK_URL", str(chain.url))
    program = tmp_path / "shipping.py"
    program.write_text(textwrap.dedent(SHIPPED))
    done = subprocess.run(
        [sys.executable, str(program), ELSEWHERE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    printed = ["3", "3", "2", "4", "2", "5", "5", "2", "2", "[2]", "4"]
    assert done.stdout.strip() == str(printed), done.stderr
    capsules = chain.capsules()
    names = sorted(c["trigger"]["source"] for c in capsules)
    assert names == sorted(
        ["of_main", "of_main", "lambda", "closure", "factorial", "factorial", "Agent.method",
         "Agent.on_class", "Agent.static", "Agent.coroutine", "Agent.generator", "partial"]
    )  # fmt: skip
    of_main = next(c for c in capsules if c["trigger"]["source"] == "of_main")
    assert of_main["context"]["agent_id"] == "shipped"
    assert of_main["context"]["session_id"] == "2"
    assert of_main["trigger"]["user_id"] == "user 2"


def test_joblib_workers_record(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("joblib")
    monkeypatch.setenv("CAPSULE_SDK_URL", str(chain.url))
    program = tmp_path / "working.py"
    program.write_text(
        textwrap.dedent("""
        import joblib
        from capsule_sdk import capsuled

        @capsuled
        def work(x):
            return x * x

        print(joblib.Parallel(n_jobs=2)(joblib.delayed(work)(x) for x in range(6)))
        """)
    )
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == str([x * x for x in range(6)]), done.stderr
    from capsule_sdk.recording.default import recover

    recover(chain.url)  # what a worker had not sealed when joblib ended it
    assert chain.sources() == ["work"] * 6


def test_what_is_bound_to_a_scope_refuses_to_be_shipped_by_value(chain: Chain) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    with capsule_scope("around"):
        bound = bind_scope(functools.partial(max, 1))
    with pytest.raises(TypeError, match="bind_scope"):
        cloudpickle.dumps(bound)
    with pytest.raises(TypeError, match="bind_scope"):
        pickle.dumps(bound)


# -- what looks at the stack -----------------------------------------------------------------------


@unseen_only
def test_who_counts_frames_arrives_at_the_callers_line(chain: Chain) -> None:
    records: list[logging.LogRecord] = []
    logger = logging.getLogger("stack")
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)

    @capsuled
    def looking() -> tuple[str, str, int | None]:
        logger.warning("here", stacklevel=2)
        warnings.warn("old", DeprecationWarning, stacklevel=2)
        above = sys._getframe(1)
        return above.f_code.co_name, inspect.stack(0)[1].function, above.f_lineno

    def caller() -> tuple[str, str, int | None]:
        return looking()

    line = caller.__code__.co_firstlineno + 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert caller() == ("caller", "caller", line)
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)
    assert (records[0].funcName, records[0].lineno) == ("caller", line)


@unseen_only
def test_a_traceback_holds_the_users_frames_alone(chain: Chain) -> None:
    @capsuled
    def inner() -> None:
        raise ValueError("inner")

    @capsuled
    def outer() -> None:
        inner()

    with pytest.raises(ValueError, match="inner") as caught:
        outer()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[1:] == ["outer", "inner"]


@pytest.mark.parametrize("install", [sys.settrace, sys.setprofile])
@pytest.mark.parametrize("fails", ["", "in the call", "before it"])
def test_tracers_and_profilers_see_as_many_returns_as_calls(
    chain: Chain, install: Callable[[Any], None], fails: str
) -> None:
    def user(_: object) -> str:
        if fails == "before it":
            raise KeyboardInterrupt
        return "u"

    @capsuled(user_id=user)
    def traced() -> None:
        if fails:
            raise ValueError

    open_frames: list[str] = []
    balanced = True

    def look(frame: types.FrameType, event: str, _: object) -> Any:
        nonlocal balanced
        if event == "call":
            open_frames.append(frame.f_code.co_name)
        elif event == "return" and open_frames:
            balanced &= open_frames.pop() == frame.f_code.co_name
        return look

    traced_before = sys.gettrace(), sys.getprofile()
    install(look)
    try:
        traced()
    except (ValueError, KeyboardInterrupt):
        pass
    finally:
        install(traced_before[install is sys.setprofile])
    assert balanced
    assert open_frames == []


# -- deep recursion --------------------------------------------------------------------------------


def test_recursion_to_the_limit_is_recorded_to_the_last_call_and_loses_half_of_its_depth_at_most(
    chain: Chain,
) -> None:
    @capsuled(capture_args=False)
    def down(number: int) -> int:
        return 0 if number == 0 else 1 + down(number - 1)

    assert down(1) == 1
    limit = (sys.getrecursionlimit() - len(inspect.stack(0))) // 2
    reached, made = 0, 2
    for depth in (limit - 12, limit):
        try:
            reached = down(depth)
        except RecursionError:
            break
        made += depth + 1
    assert reached >= limit - 12
    assert flush() == 0
    recorder = get_recorder()
    assert recorder.stats().errors == 0
    capsules = chain.capsules()
    finished = [c for c in capsules if c["outcome"]["status"] == "success"]
    assert len(finished) == made
    chain.verify()


def test_a_scope_at_the_limit_is_recorded(chain: Chain) -> None:
    ran: list[int] = []

    def down(number: int) -> None:
        try:
            down(number + 1)
        except RecursionError:
            with capsule_scope("at the limit"):
                ran.append(number)

    with contextlib.suppress(RecursionError):
        down(0)
    assert ran
    assert chain.sources() == ["at the limit"] * len(ran)


def test_what_lazily_dispatches_is_refused_below_and_works_above(chain: Chain) -> None:
    class Shown:
        @functools.singledispatchmethod
        @capsuled
        def show(self, value: object) -> str:
            return "object"

        @show.register
        @capsuled
        def _(self, value: int) -> str:
            return "int"

        @capsuled
        def add(self, a: int, b: int) -> int:
            return a + b

        add_one = functools.partialmethod(add, 1)

    assert (Shown().show(1), Shown().show("a"), Shown().add_one(2)) == ("int", "object", 3)
    with pytest.raises(DecorationError, match="cannot be called"):
        capsuled(functools.singledispatchmethod(lambda self: 0))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_a_recorded_function_that_takes_on_the_attributes_of_another_stays_itself(
    chain: Chain,
) -> None:
    """As in a decorator that records what it makes, over a function that is recorded already."""

    @capsuled(name="inner")
    def add(a: int) -> int:
        return a + 1

    @functools.wraps(add)
    @capsuled(name="outer")
    def twice(a: int) -> int:
        return 2 * add(a)

    assert twice(1) == 4
    assert chain.sources() == ["inner", "outer"]


def test_a_function_that_is_given_all_of_another_one_is_that_one(chain: Chain) -> None:
    """As modules are reloaded in place: code and attributes, since a closure cannot be assigned."""

    def made(value: int) -> Callable[[], int]:
        @capsuled(name=f"version {value}")
        def edited() -> int:
            return value

        return edited

    held: Any = made(1)
    assert held() == 1
    for value in (2, 3):
        later: Any = made(value)
        held.__code__, held.__dict__ = later.__code__, later.__dict__
        assert held() == later() == value
    assert chain.sources() == ["version 1"] + ["version 2"] * 2 + ["version 3"] * 2
