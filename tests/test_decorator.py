"""``@capsuled`` changes nothing about what it stands on, and records each call as one task."""

from __future__ import annotations

import abc
import asyncio
import copy
import dataclasses
import functools
import inspect
import multiprocessing
import pickle
import sys
import traceback
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import decorated
import pytest
from conftest import Capsule, Chain
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from capsule_sdk import capsule_scope, capsuled, configure, current_task, flush, from_arg
from capsule_sdk.errors import CapsuleSDKError, ConfigurationError, DecorationError
from capsule_sdk.recording.recorder import Recorder
from capsule_sdk.records.attribution import NOBODY
from capsule_sdk.scopes.recipe import Recipe

# -- one of each, at module level so that it can be pickled ----------------------------------------


def plain(portfolio: str, limit: int = 3, *rest: int, deep: bool = False, **more: str) -> list[str]:
    """Rebalance."""
    return [portfolio] * limit


async def coroutine(portfolio: str, limit: int = 3) -> list[str]:
    """Rebalance."""
    return [portfolio] * limit


def generator(portfolio: str) -> Iterator[str]:
    """Rebalance."""
    yield portfolio


async def async_generator(portfolio: str) -> AsyncIterator[str]:
    """Rebalance."""
    yield portfolio


KINDS = [plain, coroutine, generator, async_generator]


@capsuled
def square(number: int) -> int:
    return number * number


@capsuled
async def asquare(number: int) -> int:
    return number * number


def add(first: int, second: int) -> int:
    return first + second


added = capsuled(functools.partial(add, 1), agent_id="adder")


class Calculator:
    def __init__(self, base: int) -> None:
        self.base = base

    @capsuled
    def plus(self, number: int) -> int:
        return self.base + number

    @capsuled
    @classmethod
    def made(cls, base: int) -> Calculator:
        return cls(base)

    @classmethod
    @capsuled
    def made_below(cls, base: int) -> Calculator:
        return cls(base)

    @capsuled
    @staticmethod
    def twice(number: int) -> int:
        return 2 * number

    @staticmethod
    @capsuled
    def twice_below(number: int) -> int:
        return 2 * number

    @capsuled
    def __call__(self, number: int) -> int:
        return self.base * number


# -- to all appearances ----------------------------------------------------------------------------


@pytest.mark.parametrize("decorate", [capsuled, capsuled(), capsuled(agent_id="a")])
@pytest.mark.parametrize("fn", KINDS)
def test_a_decorated_function_looks_like_the_function(
    chain: Chain, fn: Callable[..., Any], decorate: Callable[..., Any]
) -> None:
    made = decorate(fn)
    for look in (
        inspect.iscoroutinefunction,
        asyncio.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        inspect.isfunction,
        inspect.signature,
        inspect.getsource,
        inspect.getdoc,
        typing.get_type_hints,
        callable,
    ):
        assert look(made) == look(fn), look
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__",
                 "__defaults__", "__kwdefaults__"):  # fmt: skip
        assert getattr(made, name) == getattr(fn, name)
    assert inspect.unwrap(made) is fn


def test_a_call_returns_the_same_object(chain: Chain) -> None:
    value = object()
    assert capsuled(lambda: value, name="sync")() is value

    @capsuled
    async def asynchronous() -> object:
        return value

    assert asyncio.run(asynchronous()) is value


@pytest.mark.parametrize("kind", [ValueError, KeyError, StopAsyncIteration, AssertionError])
def test_an_exception_passes_through_as_the_same_object_with_a_traceback_that_ends_in_the_users_frame(
    chain: Chain, kind: type[Exception]
) -> None:
    error = kind("from inside")

    def raises_error() -> None:
        raise error

    @capsuled
    def sync() -> None:
        raises_error()

    @capsuled
    async def coro() -> None:
        raises_error()

    @capsuled
    def gen() -> Iterator[None]:
        raises_error()
        yield

    for call in (sync, lambda: asyncio.run(coro()), lambda: next(gen())):
        error.__traceback__ = None
        with pytest.raises(kind) as caught:
            call()
        assert caught.value is error
        assert error.__cause__ is None
        assert error.__context__ is None
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert frames[-1] == "raises_error"
        assert len([name for name in frames if name in {"sync", "coro", "gen"}]) == 1
    assert {capsule["outcome"]["status"] for capsule in chain.capsules()} == {"failure"}
    assert {capsule["outcome"]["error"] for capsule in chain.capsules()} == {
        f"{kind.__name__}: {error}"
    }


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(3), "system exit"),
        (GeneratorExit(), "closed"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
@pytest.mark.parametrize("kind", ["function", "coroutine", "scope"])
def test_what_is_no_exception_cuts_the_task_short_and_passes_through(
    chain: Chain, error: BaseException, ended: str, kind: str
) -> None:
    @capsuled(name="work")
    def function() -> None:
        raise error

    @capsuled(name="work")
    async def coro() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        if kind == "function":
            function()
        elif kind == "scope":
            with capsule_scope("work"):
                raise error
        else:
            coro().send(None)
    assert caught.value is error
    outcome = chain.one("work")["outcome"]
    assert (outcome["status"], outcome["metrics"]["ended"]) == ("partial", ended)


def test_decorated_functions_take_attributes_and_compare_like_functions(chain: Chain) -> None:
    def marked() -> None: ...

    marked.below = 1  # type: ignore[attr-defined]
    made: Any = capsuled(marked)
    made.marker = 1
    assert (made.marker, made.below) == (1, 1)
    assert {made: 1}[made] == 1
    assert made != square


# -- pickling, copying -----------------------------------------------------------------------------

PICKLED: list[Callable[[], Any]] = [
    lambda: square,
    lambda: asquare,
    lambda: Calculator.twice,
    lambda: Calculator.twice_below,
    lambda: functools.partial(square, 3),
]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("made", PICKLED)
def test_decorated_functions_are_pickled_by_name(
    chain: Chain, made: Callable[[], Any], protocol: int
) -> None:
    again = pickle.loads(pickle.dumps(made(), protocol))
    if isinstance(again, functools.partial):
        again, before = again.func, made().func
    else:
        before = made()
    assert again is before


def test_methods_are_pickled_with_their_instance_and_stay_decorated(chain: Chain) -> None:
    plus = pickle.loads(pickle.dumps(Calculator(5).plus))
    made = pickle.loads(pickle.dumps(Calculator.made))
    assert plus(2) == 7
    assert made(4).base == 4
    assert chain.sources() == ["plus", "made"]


def test_a_decorated_partial_is_pickled_by_its_contents_and_stays_decorated(chain: Chain) -> None:
    again = pickle.loads(pickle.dumps(added))
    assert again(2) == 3
    assert chain.one("add")["context"]["agent_id"] == "adder"


def test_a_nested_function_is_refused_by_pickle_like_any(chain: Chain) -> None:
    @capsuled
    def nested() -> None: ...

    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(nested)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_multiprocessing_pool_runs_decorated_functions_and_methods(
    chain: Chain, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPSULE_SDK_URL", str(chain.url))
    with capsule_scope("before"):
        pass
    flush()
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(decorated.square, range(4)) == [0, 1, 4, 9]
        assert pool.map(decorated.Adder(1).plus, range(4)) == [1, 2, 3, 4]
        pool.close()
        pool.join()
    sources = chain.sources()
    assert (sources.count("square"), sources.count("plus")) == (4, 4)


def test_copies_of_a_function_are_the_function_and_copies_of_a_partial_are_decorated(
    chain: Chain,
) -> None:
    assert copy.copy(square) is square
    assert copy.deepcopy(square) is square
    for copied in (copy.copy(added), copy.deepcopy(added)):
        assert copied(2) == 3
    calculator = Calculator(5)
    bound = copy.deepcopy(calculator.plus)
    calculator.base = 0
    assert bound(1) == 6
    assert copy.copy(calculator.plus)(1) == 1
    assert copy.deepcopy({"tool": square})["tool"](2) == 4
    assert chain.sources() == ["add", "add", "plus", "plus", "square"]


# -- on everything that can be called --------------------------------------------------------------


def test_methods_static_and_class_methods_are_recorded_without_their_instance(chain: Chain) -> None:
    calculator = Calculator(5)
    assert calculator.plus(1) == 6
    assert Calculator.plus(calculator, 2) == 7
    assert Calculator.made(1).base == 1
    assert calculator.made(2).base == 2
    assert Calculator.made_below(3).base == 3
    assert Calculator.twice(4) == calculator.twice(4) == 8
    assert Calculator.twice_below(4) == calculator.twice_below(4) == 8
    assert calculator(3) == 15
    assert [
        (capsule["trigger"]["source"], capsule["trigger"]["request"])
        for capsule in chain.capsules()
    ] == [
        ("Calculator.plus", '{"number":1}'),
        ("Calculator.plus", '{"number":2}'),
        ("Calculator.made", '{"base":1}'),
        ("Calculator.made", '{"base":2}'),
        ("Calculator.made_below", '{"base":3}'),
        *[("Calculator.twice", '{"number":4}')] * 2,
        *[("Calculator.twice_below", '{"number":4}')] * 2,
        ("Calculator.__call__", '{"number":3}'),
    ]


def test_callable_objects_partials_lambdas_builtins_and_bound_methods_are_recorded(
    chain: Chain,
) -> None:
    class Tool:
        def __call__(self, text: str) -> str:
            return text.upper()

    class AsyncTool:
        async def __call__(self, text: str) -> str:
            return text.upper()

        def method(self, text: str) -> str:
            return text

    assert capsuled(Tool())("a") == "A"
    assert asyncio.run(capsuled(AsyncTool())("b")) == "B"
    assert capsuled(AsyncTool().method)("c") == "c"
    assert capsuled(functools.partial(plain, limit=1))("d") == ["d"]
    assert asyncio.run(capsuled(functools.partial(coroutine, limit=1))("e")) == ["e"]
    assert capsuled(lambda text: text)("f") == "f"
    assert capsuled(len)("ggg") == 3
    items: list[str] = []
    capsuled(items.append)("h")
    assert items == ["h"]
    assert capsuled(functools.lru_cache(add))(1, 2) == 3
    assert capsuled(print, name="print")() is None
    assert [
        (capsule["trigger"]["source"].rpartition(".")[2], capsule["trigger"]["request"])
        for capsule in chain.capsules()
    ] == [
        ("Tool", "a"),
        ("AsyncTool", "b"),
        ("method", "c"),
        ("plain", "d"),
        ("coroutine", "e"),
        ("<lambda>", "f"),
        ("len", "ggg"),
        ("append", "h"),
        ("add", '{"first":1,"second":2}'),
        ("print", ""),
    ]


def test_what_binds_to_no_instance_undecorated_does_not_bind_decorated(chain: Chain) -> None:
    class Holder:
        partial = capsuled(functools.partial(add, 1))
        builtin = capsuled(len)

    assert Holder().partial(2) == 3
    assert Holder().builtin("ab") == 2


def test_inheritance_super_and_overrides_are_one_task_each(chain: Chain) -> None:
    class Base:
        @capsuled
        def run(self, text: str) -> str:
            return f"base {text}"

        @capsuled
        async def arun(self, text: str) -> str:
            return f"base {text}"

    class Derived(Base):
        @capsuled
        def run(self, text: str) -> str:
            return "derived " + super().run(text)

        async def arun(self, text: str) -> str:
            return "derived " + await super().arun(text)

    assert Derived().run("x") == "derived base x"
    assert asyncio.run(Derived().arun("x")) == "derived base x"
    assert chain.tree() == {"run": {"run": {}}, "arun": {}}


def test_abstract_methods_stay_abstract_and_dataclasses_stay_dataclasses(chain: Chain) -> None:
    class Tool(abc.ABC):
        @capsuled
        @abc.abstractmethod
        def above(self) -> str: ...

        @abc.abstractmethod
        @capsuled
        def below(self) -> str: ...

    assert Tool.__abstractmethods__ == {"above", "below"}
    with pytest.raises(TypeError, match="abstract"):
        Tool()  # type: ignore[abstract]

    @dataclasses.dataclass
    class Order:
        amount: int = 1
        note: str = "n"

        @capsuled
        def total(self, factor: int) -> int:
            return self.amount * factor

    assert [field.name for field in dataclasses.fields(Order)] == ["amount", "note"]
    assert Order(2).total(3) == 6
    assert chain.sources() == ["total"]


def test_properties_and_cached_properties_stand_above_the_decorator(chain: Chain) -> None:
    class Account:
        @property
        @capsuled
        def balance(self) -> int:
            return 5

        @functools.cached_property
        @capsuled
        def history(self) -> list[int]:
            return [1]

        def __repr__(self) -> str:
            raise AssertionError("the instance is no argument")

    account = Account()
    assert account.balance == 5
    assert account.history is account.history
    assert [capsule["trigger"]["request"] for capsule in chain.capsules()] == ["", ""]


def test_recursion_is_a_chain_of_tasks_of_at_most_five_frames_each(chain: Chain) -> None:
    @capsuled(capture_args=False)
    def countdown(number: int) -> int:
        return 0 if number == 0 else countdown(number - 1)

    assert countdown(3) == 0
    parents = {capsule["id"]: capsule["parent_id"] for capsule in chain.capsules()}
    assert len(parents) == 4
    assert sum(parent in parents for parent in parents.values()) == 3
    here = len(inspect.stack(0))
    assert countdown((sys.getrecursionlimit() - here) // 5) == 0


def test_one_callable_may_be_decorated_twice(chain: Chain) -> None:
    assert capsuled(capsuled(add, name="inner"), name="outer")(1, 2) == 3
    assert chain.tree() == {"outer": {"inner": {}}}


def test_other_decorators_may_stand_above_and_below(chain: Chain) -> None:
    def shouting(fn: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> str:
            return fn(*args, **kwargs).upper()

        return wrapper

    @shouting
    @capsuled
    def below(text: str) -> str:
        return text

    @capsuled
    @shouting
    def above(text: str) -> str:
        return text

    assert below("a") + above("b") == "AB"
    assert [capsule["outcome"]["result"] for capsule in chain.capsules()] == ["a", "B"]
    assert [capsule["trigger"]["request"] for capsule in chain.capsules()] == ["a", "b"]


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        (Calculator, "decorate its methods"),
        (property(lambda self: 1), "put it below @property"),
        (7, "cannot be called"),
        ("agent", "@capsuled\\(agent_id=\\.\\.\\.\\)"),
        (functools.cached_property(lambda self: 1), "below other decorators"),
    ],
)
def test_what_cannot_be_recorded_is_refused_at_decoration_and_told_what_to_do(
    target: Any, advice: str
) -> None:
    for decorate in (capsuled, capsuled(agent_id="a")):
        with pytest.raises(DecorationError, match=advice) as caught:
            decorate(target)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, CapsuleSDKError)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"agent": "a"}, "no option 'agent'; did you mean 'agent_id'?"),
        ({"zzz": 1}, "it takes agent_id, approver, authority,"),
        ({"record": False}, "no option 'record'"),
        ({"capsule_type": "robot"}, "capsule_type='robot' must be one of agent, tool"),
        ({"capture_args": "no"}, "capture_args='no' must be True or False"),
        ({"agent_id": 5}, "agent_id=5 must be a text"),
        ({"agent_id": from_arg("x")}, "only @capsuled takes from_arg"),
        ({"environment": [1]}, r"environment=\[1\] must be a mapping"),
        ({"request_from": 5}, "request_from=5 must be an argument's name or a function"),
    ],
)
def test_a_wrong_option_is_refused_at_decoration_and_told_what_to_do(
    options: dict[str, Any], advice: str
) -> None:
    with pytest.raises(ConfigurationError, match=advice.replace("?", r"\?")):
        capsuled(**options)


@pytest.mark.parametrize("options", [{"request_from": "nam"}, {"user_id": from_arg("nam")}])
def test_an_argument_that_does_not_exist_is_refused_at_decoration(options: dict[str, Any]) -> None:
    with pytest.raises(
        DecorationError, match="names the argument 'nam', but .*add takes first, second"
    ):
        capsuled(**options)(add)


def test_an_argument_that_names_a_secret_cannot_become_a_request_or_an_id() -> None:
    def login(api_key: str, **more: str) -> None: ...

    for options in ({"request_from": "api_key"}, {"user_id": from_arg("api_key")}):
        with pytest.raises(DecorationError, match="whose name is that of a secret"):
            capsuled(**options)(login)  # type: ignore[call-overload]


# -- calls that do not fit -------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [coroutine, generator, async_generator, add])
@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"other": 2}), ((1,), {"portfolio": 2})]
)
def test_arguments_that_do_not_fit_raise_pythons_own_error_at_the_call_and_are_one_failure(
    chain: Chain, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError) as expected:
        fn(*args, **kwargs)
    with pytest.raises(TypeError) as caught:
        capsuled(fn)(*args, **kwargs)
    assert str(caught.value) == str(expected.value)
    (capsule,) = chain.capsules()
    assert capsule["outcome"]["status"] == "failure"
    assert capsule["outcome"]["error"] == f"TypeError: {expected.value}"


# -- what is recorded of a call --------------------------------------------------------------------


def test_the_request_is_the_first_text_else_all_arguments_as_json(chain: Chain) -> None:
    @capsuled
    def work(first: Any = 1, second: Any = None, *rest: Any, **more: Any) -> None: ...

    work(1, "two", "three")
    work(1, 2)
    work([1], more=2)
    work()
    work("")
    work(1, 2, 3, 4)
    assert [capsule["trigger"]["request"] for capsule in chain.capsules()] == [
        "two",
        '{"first":1,"second":2}',
        '{"first":[1],"more":2}',
        "",
        "",
        '{"first":1,"rest":[3,4],"second":2}',
    ]


def arguments(capsule: Capsule) -> Any:
    return capsule["context"]["environment"].get("arguments")


def test_all_arguments_are_sealed_defaults_included_whatever_the_request_is(chain: Chain) -> None:
    class Desk:
        @capsuled(session_id=from_arg("session"), request_from="question")
        def ask(
            self,
            question: str,
            session: str,
            *rest: int,
            limit: int = 3,
            api_key: str = "CANARY",
            **more: str,
        ) -> None: ...

        @classmethod
        @capsuled
        def of(cls, first: str, second: list[int] | None = None) -> None: ...

    Desk().ask("why", "s-1", 7, 8, tone="kind")
    Desk.of("a")

    @capsuled(request_from=lambda _: "other")
    def chosen(text: str, depth: int = 1) -> None: ...

    @capsuled(capture_args=False)
    def closed(text: str, depth: int = 1) -> None: ...

    @capsuled
    async def body(body: dict[str, Any], user: str, mode: str = "fast") -> None: ...

    chosen("x")
    closed("CANARY")
    asyncio.run(body({"q": 1}, "ana"))
    ask, of, *functions = chain.capsules()
    assert arguments(ask) == {
        "question": "why",
        "session": "s-1",
        "rest": [7, 8],
        "limit": 3,
        "api_key": "[secret]",
        "tone": "kind",
    }
    assert (ask["trigger"]["request"], ask["context"]["session_id"]) == ("why", "s-1")
    assert arguments(of) == {"first": "a", "second": None}
    assert [arguments(function) for function in functions] == [
        {"text": "x", "depth": 1},
        None,
        {"body": {"q": 1}, "user": "ana", "mode": "fast"},
    ]
    assert functions[0]["trigger"]["request"] == "other"
    chain.verify()
    for file in chain.data_dir.rglob("*"):
        assert not file.is_file() or b"CANARY" not in file.read_bytes()


def test_the_arguments_of_a_tool_stand_in_its_call_alone(chain: Chain) -> None:
    @capsuled(capsule_type="tool")
    def look_up(city: str, units: str = "metric") -> None: ...

    look_up("Paris")
    capsule = chain.one("look_up")
    (call,) = capsule["execution"]["tool_calls"]
    assert call["arguments"] == {"city": "Paris", "units": "metric"}
    assert arguments(capsule) is None


@pytest.mark.parametrize("content", ["digest", "omit"])
def test_arguments_and_defaults_are_content(chain: Chain, content: Any) -> None:
    chain.configure(content=content)

    @capsuled
    def work(given: str, default: str = "CANARY", number: int = 1) -> None: ...

    work("CANARY")
    assert arguments(chain.one("work"))["number"] == 1
    for file in chain.data_dir.rglob("*"):
        assert not file.is_file() or b"CANARY" not in file.read_bytes()


class Signatures:
    """One method for each kind of signature."""

    def nothing(self) -> None: ...
    def two(self, a: Any, b: Any = 1) -> None: ...
    def by_position(self, a: Any, /, b: Any = 1) -> None: ...
    def many(self, a: Any = 0, *rest: Any, b: Any = 1) -> None: ...
    def open_ended(self, a: Any, /, *args: Any, **options: Any) -> None: ...
    def by_name(self, *, b: Any = 2, a: Any = 1) -> None: ...


@given(
    st.sampled_from([name for name in vars(Signatures) if not name.startswith("_")]),
    st.lists(st.integers(), max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "x", "rest"]), st.integers()),
    st.sampled_from(["instance", "class", "bound"]),
)
@settings(max_examples=400)
def test_arguments_get_the_names_that_inspect_gives_them_in_the_order_of_the_signature(
    method: str, args: list[Any], kwargs: dict[str, Any], through: str
) -> None:
    instance = Signatures()
    function, bound_method = getattr(Signatures, method), getattr(instance, method)
    try:
        bound = inspect.signature(bound_method).bind(*args, **kwargs)
    except TypeError:
        reject()
    expected: dict[str, Any] = {}
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            for name, value in bound.arguments.get(parameter.name, {}).items():
                expected[f"**{name}" if name in expected else name] = value
        elif parameter.name in bound.arguments:
            expected[parameter.name] = bound.arguments[parameter.name]
    match through:
        case "instance":
            found = Recipe(function, {}, NOBODY).bind(instance, tuple(args), kwargs)
        case "class":
            found = Recipe(function, {}, NOBODY).bind(None, (instance, *args), kwargs)
        case _:
            found = Recipe(bound_method, {}, NOBODY).bind(instance, tuple(args), kwargs)
    assert found == expected
    order = [name for name in found if not name.startswith("**")]
    assert order == [name for name in expected if not name.startswith("**")]


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("mode", ["full", "digest", "omit"])
def test_a_call_without_arguments_has_no_request_in_any_mode(
    chain: Chain, mode: str, capture: bool
) -> None:
    chain.configure(content=mode)
    given_nothing: list[Any] = []

    @capsuled(capture_args=capture, request_from=lambda bound: given_nothing.append(dict(bound)))
    def asked() -> None: ...

    capsuled(lambda: None, name="plain", capture_args=capture, capsule_type="tool")()
    asked()
    assert given_nothing == [{}]  # a function of the arguments is asked even if there are none
    assert {capsule["trigger"]["request"] for capsule in chain.capsules()} == {""}
    (call,) = chain.one("plain")["execution"]["tool_calls"]
    assert call["arguments"] == {}


def test_request_from_is_the_name_of_an_argument_or_a_function_of_them(chain: Chain) -> None:
    def work(ticket: int, question: str = "why?", detail: Any = None) -> None: ...

    capsuled(request_from="question")(work)(1)
    capsuled(request_from=from_arg("ticket"))(work)(7)
    capsuled(request_from=lambda given: f"#{given['ticket']}")(work)(8)
    capsuled(request_from="detail")(work)(1, detail={"a": [1]})
    capsuled(request_from="detail")(work)(1)
    assert [capsule["trigger"]["request"] for capsule in chain.capsules()] == [
        "why?",
        "7",
        "#8",
        '{"a":[1]}',
        "",
    ]


def test_ids_come_from_arguments_their_defaults_and_functions(chain: Chain) -> None:
    @capsuled(
        session_id=from_arg("site"),
        user_id=lambda given: given["user"]["id"],
        tenant_id=from_arg("tenant"),
        correlation_id="fixed",
    )
    def work(site: int, user: dict[str, Any], tenant: str = "default tenant") -> None:
        with capsule_scope("inside"):
            pass

    work(5, {"id": "u-1"})
    for capsule in chain.capsules():
        assert capsule["context"]["session_id"] == "5"
        assert capsule["trigger"]["user_id"] == "u-1"
        assert capsule["trigger"]["correlation_id"] == "fixed"
        assert capsule["context"]["environment"]["tenant_id"] == "default tenant"


def test_an_argument_of_none_leaves_what_the_scope_around_says(chain: Chain) -> None:
    @capsuled(session_id=from_arg("session"))
    def work(session: str | None = None) -> None: ...

    with capsule_scope("around", session_id="outer"):
        work()
        work("inner")
    assert [c["context"]["session_id"] for c in chain.named("work")] == ["outer", "inner"]


@pytest.mark.internal_errors
@pytest.mark.parametrize("kind", ["function", "coroutine", "generator"])
def test_an_error_in_a_users_option_function_leaves_the_call_and_the_record_as_they_were(
    chain: Chain, kind: str
) -> None:
    from capsule_sdk import logs

    def broken(given: Any) -> str:
        raise LookupError("option")

    options: Any = {"session_id": broken, "request_from": broken, "name": "work"}
    if kind == "function":
        assert capsuled(**options)(lambda text: text)("a") == "a"
    elif kind == "coroutine":
        assert asyncio.run(capsuled(**options)(coroutine)("a", 1)) == ["a"]
    else:
        assert list(capsuled(**options)(generator)("a")) == ["a"]
    assert chain.one("work")["trigger"]["request"] == "a"
    assert logs.errors == {"decorator.session_id": 1, "decorator.request_from": 1}


def test_a_tool_records_its_own_call(chain: Chain) -> None:
    @capsuled(capsule_type="tool")
    def transfer(iban: str, amount: float) -> dict[str, Any]:
        if amount < 0:
            raise ValueError("negative")
        return {"booked": amount}

    transfer("DE1", amount=2.5)
    with pytest.raises(ValueError, match="negative"):
        transfer("DE1", -1)
    done, failed = chain.capsules()
    assert done["type"] == "tool"
    (call,) = done["execution"]["tool_calls"]
    assert call["tool"].endswith("transfer")
    assert call["arguments"] == {"iban": "DE1", "amount": 2.5}
    assert (call["result"], call["success"], call["error"]) == ({"booked": 2.5}, True, None)
    (call,) = failed["execution"]["tool_calls"]
    assert (call["success"], call["error"]) == (False, "ValueError: negative")


def test_arguments_and_results_are_not_recorded_where_that_is_switched_off(chain: Chain) -> None:
    @capsuled(capsule_type="tool", capture_args=False, capture_result=False)
    def work(text: str) -> str:
        return "private result"

    work("private argument")
    (capsule,) = chain.capsules()
    assert "private" not in str(capsule)
    assert capsule["execution"]["tool_calls"][0]["arguments"] == {}


def test_a_secret_never_reaches_the_chain_whatever_way_it_is_given(chain: Chain) -> None:
    @capsuled(capsule_type="tool")
    def login(password: str, user: int = 1, **more: Any) -> dict[str, str]:
        return {"access_token": password}

    login("hunter2")
    login("hunter2", name="ana")
    login(password="hunter2", api_key="hunter2", nested={"Authorization": "hunter2"})
    with capsule_scope("scope", environment={"secret": "hunter2"}) as task:
        task.tool("call", {"password": "hunter2"}, {"token": "hunter2"})
        task.reason("why", options=[{"description": "a", "password": "hunter2"}])
    assert [capsule["trigger"]["request"] for capsule in chain.named("login")][:2] == [
        '{"password":"[secret]"}',
        "ana",
    ]
    for file in chain.data_dir.rglob("*"):
        if file.is_file():
            assert b"hunter2" not in file.read_bytes(), file.name


def test_more_keyword_arguments_than_are_sealed_still_give_a_capsule(chain: Chain) -> None:
    @capsuled
    def work(**more: Any) -> None: ...

    work(**{f"key{number:04}": number for number in range(1500)}, text="the request")
    assert chain.one("work")["trigger"]["request"] == "the request"


def test_a_keyword_that_is_named_like_a_positional_only_argument_is_kept_beside_it(
    chain: Chain,
) -> None:
    @capsuled(capsule_type="tool")
    def work(name: str, /, **more: str) -> None: ...

    work("first", name="second")
    (call,) = chain.one("work")["execution"]["tool_calls"]
    assert call["arguments"] == {"name": "first", "**name": "second"}


def test_children_hang_under_the_call_that_made_them_in_threads_of_a_task(chain: Chain) -> None:
    @capsuled
    def leaf(number: int) -> int:
        return number

    @capsuled
    async def branch(number: int) -> int:
        await asyncio.sleep(0)
        assert current_task().name.endswith("branch")
        return await asyncio.to_thread(leaf, number)

    @capsuled
    async def root() -> list[int]:
        return await asyncio.gather(*(asyncio.create_task(branch(n)) for n in range(20)))

    assert asyncio.run(root()) == list(range(20))
    assert [len(chain.children(capsule)) for capsule in chain.named("branch")] == [1] * 20
    assert len(chain.children(chain.one("root"))) == 20


def test_two_hundred_tasks_with_scopes_of_their_own_never_mix(chain: Chain) -> None:
    @capsuled(request_from="name")
    async def leaf(name: str) -> None:
        await asyncio.sleep(0)

    @capsuled(session_id=from_arg("name"), request_from="name")
    async def worker(name: str) -> None:
        await asyncio.sleep(0)
        async with capsule_scope(f"scope {name}", user_id=f"user {name}"):
            await asyncio.sleep(0)
            await leaf(name)

    async def main() -> None:
        with capsule_scope("main"):
            await asyncio.gather(*(worker(str(number)) for number in range(200)))

    asyncio.run(main())
    capsules = chain.capsules()
    assert len(capsules) == 601
    by_id = {capsule["id"]: capsule for capsule in capsules}
    for capsule in chain.named("leaf"):
        name = capsule["trigger"]["request"]
        scope = by_id[capsule["parent_id"]]
        assert scope["trigger"]["source"] == f"scope {name}"
        assert capsule["context"]["session_id"] == name
        assert capsule["trigger"]["user_id"] == f"user {name}"
        assert by_id[scope["parent_id"]]["trigger"]["request"] == name
    chain.verify()


# -- disabled --------------------------------------------------------------------------------------


def test_while_the_sdk_is_disabled_the_decorator_returns_the_function_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAPSULE_SDK_DISABLED", "1")
    assert capsuled(plain) is plain
    assert capsuled(agent_id="a")(coroutine) is coroutine
    method = staticmethod(plain)
    assert capsuled(method) is method
    with pytest.raises(DecorationError):
        capsuled(Calculator)


# -- errors inside the SDK -------------------------------------------------------------------------


@pytest.mark.internal_errors
@pytest.mark.parametrize(
    ("target", "attribute", "counted"),
    [
        ("capsule_sdk.scopes.runs", "open_task", "decorator.start"),
        ("capsule_sdk.scopes.runs", "close_task", "decorator.succeed"),
        ("capsule_sdk.records.task.Task", "settle", "decorator.succeed"),
        ("capsule_sdk.recording.recorder.Recorder", "begin", "decorator.start"),
        ("capsule_sdk.recording.recorder.Recorder", "claim", "decorator.succeed"),
        ("capsule_sdk.recording.recorder.Recorder", "finish", "decorator.succeed"),
        ("capsule_sdk.scopes.recipe.Recipe", "bind", "decorator.start"),
    ],
)
@pytest.mark.parametrize("kind", ["function", "coroutine", "generator", "async generator"])
def test_an_error_inside_the_sdk_leaves_the_call_as_it_was_and_every_other_record_gets_in(
    chain: Chain,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    attribute: str,
    counted: str,
    kind: str,
) -> None:
    from capsule_sdk import logs

    async def drain() -> list[str]:
        return [item async for item in capsuled(async_generator)("x")]

    def call() -> Any:
        match kind:
            case "function":
                return capsuled(plain)("x", 1)
            case "coroutine":
                return asyncio.run(capsuled(coroutine)("x", 1))
            case "generator":
                return list(capsuled(generator)("x"))
            case _:
                return asyncio.run(drain())

    chain.configure(settle_timeout=0.1)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("injected")

    call()
    with capsule_scope("around") as around:
        with monkeypatch.context() as patched:
            patched.setattr(f"{target}.{attribute}", broken)
            assert call() == ["x"]
            assert current_task() is around
        call()
    assert logs.errors[counted] == 1
    assert set(logs.errors) <= {counted, "decorator.fail"}  # a call that dies unended tries again
    sources = chain.sources()
    name = {"function": "plain"}.get(kind, kind.replace(" ", "_"))
    assert sources.count(name) >= 2
    assert "around" in sources


# -- strict mode -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["function", "coroutine", "generator", "async generator"])
def test_in_strict_mode_the_capsule_is_in_the_file_when_the_call_returns(
    chain: Chain, kind: str
) -> None:
    chain.configure(swallow_errors=False)

    async def arun() -> int:
        if kind == "coroutine":
            await capsuled(coroutine)("x")
        else:
            assert [item async for item in capsuled(async_generator)("x")] == ["x"]
        return len(chain.stored())

    if kind == "function":
        capsuled(plain)("x")
        assert len(chain.stored()) == 1
    elif kind == "generator":
        assert list(capsuled(generator)("x")) == ["x"]
        assert len(chain.stored()) == 1
    else:
        assert asyncio.run(arun()) == 1


def test_a_function_recorded_from_many_threads_gives_one_capsule_a_call(chain: Chain) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(square, range(200))) == sum(n * n for n in range(200))
    assert chain.sources() == ["square"] * 200


def test_configure_in_the_middle_of_a_call_loses_nothing(chain: Chain) -> None:
    @capsuled
    def work() -> Recorder:
        return configure(url=chain.url, agent_id="later")

    work()
    assert chain.sources() == ["work"]
