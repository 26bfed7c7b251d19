"""No foreign code is run by recording a value (P3): nothing of the user's types, in no position."""

from __future__ import annotations

import collections
import ctypes
import dataclasses
import functools
import ipaddress
import os
import re
import sqlite3
import subprocess
import threading
import types
import urllib.error
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from time import process_time
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

import pydantic
import pytest
import tripwires
from conftest import Chain
from sealable import Plain, assert_sealable

from capsule_sdk import capsule_scope, capsuled, from_arg
from capsule_sdk.content import ContentPolicy, canonical, label, safe

VALUES = tripwires.tripwires()


def kept(value: Any) -> Any:
    return value


@pytest.fixture(params=VALUES, ids=str)
def wire(request: pytest.FixtureRequest) -> Any:
    return VALUES[request.param]


def test_the_wires_are_live() -> None:
    with tripwires.armed():
        str(VALUES["object"])
        isinstance(VALUES["object"], int)
        VALUES["dict"].items  # noqa: B018
    assert {"__str__", "__class__", "items"} <= set(tripwires.hits)


# ── every special method, in every position ───────────────────────────────────────────────────────


def test_reading_a_value_runs_nothing_of_its_type(wire: Any) -> None:
    inside: list[Any] = [wire, (wire, 1), {"k": wire}, {"x": [wire]}]
    holder = dataclasses.make_dataclass("Holder", ["held"])(wire)
    with tripwires.armed():
        for mode in ("full", "digest", "omit"):
            policy = ContentPolicy(mode, redact=kept)  # type: ignore[arg-type]
            for value in (wire, inside, holder, types.MappingProxyType({"a": wire})):
                assert_sealable(policy.value(value))
        label(wire)
        safe(ValueError(wire))
        safe(types.SimpleNamespace(a=wire))
    assert tripwires.hits == []


def test_a_key_or_a_member_of_a_set_is_neither_hashed_nor_compared(wire: Any) -> None:
    try:
        keyed, member = {wire: 1, "other": 2}, {wire, "other"}
    except TypeError:
        pytest.skip("its base cannot be hashed")
    with tripwires.armed():
        sealed = [
            safe(keyed),
            safe(member),
            safe(member),
            safe(keyed.keys()),
        ]
    assert tripwires.hits == []
    assert len(sealed[0]) == 2


def test_a_class_with_a_metaclass_is_sealed_by_name_unasked(wire: Any) -> None:
    cls = type(wire)
    with tripwires.armed():
        sealed = safe([cls, {"k": cls}])
    assert tripwires.hits == []
    assert "Wired" in sealed[0]


def test_a_decorated_call_runs_nothing_of_arguments_defaults_and_results(
    chain: Chain, wire: Any
) -> None:
    @capsuled
    def called(first: Any, second: Any = wire, *rest: Any, **more: Any) -> Any:
        return wire

    @capsuled(capsule_type="tool", session_id=from_arg("first"), request_from="first")
    def named(first: Any) -> Any:
        return wire, 200

    @capsuled
    def yields() -> Iterator[Any]:
        yield wire

    @capsuled
    async def awaited(first: Any) -> Any:
        return wire

    driven = awaited(wire)
    with tripwires.armed():
        given = called(wire, wire, wire, more=wire)
        named(wire)
        items = list(yields())
        with pytest.raises(StopIteration) as stopped:
            driven.send(None)
    assert tripwires.hits == []
    assert given is wire
    assert items[0] is wire
    assert stopped.value.value is wire
    assert len(chain.capsules()) == 4
    chain.verify()


def test_what_a_task_is_told_runs_nothing_of_it(chain: Chain, wire: Any) -> None:
    environment = {"fact": wire, "facts": [wire]}
    with (
        tripwires.armed(),
        capsule_scope(
            "told",
            environment=environment,
            session_id=kept(wire)
            if not issubclass(type(wire), (dict, list, tuple, set, bytes)) and not callable(wire)
            else None,
        ) as task,
    ):
        task.tool(wire, wire, wire, wire, duration_ms=wire)
        task.tool("t", {"a": wire}, result=wire, error=wire)
        task.reason(
            wire,
            options=[wire, {"description": wire, "selected": wire}],
            selected=wire,
            reasoning=wire,
            confidence=wire,
        )
        task.reason("more", options=wire)
        task.metric(wire, wire)
        task.side_effect(wire)
        task.summary = wire
        task.block(wire)
    assert tripwires.hits == []
    chain.one("told")
    chain.verify()


@pytest.mark.parametrize(
    "name", [name for name in VALUES if isinstance(VALUES[name], BaseException)]
)
def test_an_exception_on_its_way_is_not_asked_what_it_says(chain: Chain, name: str) -> None:
    error = VALUES[name]

    @capsuled
    def fails() -> None:
        raise error

    with tripwires.armed():
        try:
            fails()
        except BaseException:
            tripwires.disarm()
    assert set(tripwires.hits) <= {"issubclass"}  # Python's own, as it is raised
    assert chain.one("fails")["outcome"]["error"].startswith("Wired")


def test_the_arguments_of_an_exception_are_read_as_values_are(chain: Chain, wire: Any) -> None:
    @capsuled
    def fails() -> None:
        raise ValueError("odd", wire)

    with tripwires.armed(), pytest.raises(ValueError):  # noqa: PT011
        try:
            fails()
        finally:
            tripwires.disarm()
    assert tripwires.hits == []
    assert chain.one("fails")["outcome"]["error"].startswith('ValueError: ["odd",')


# ── exceptions keep what they say ─────────────────────────────────────────────────────────────────


def raised(make: Callable[[], Any]) -> BaseException:
    try:
        make()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"), ValueError(), ValueError("a", 1), KeyError("k"), OSError(2, "gone"),
        raised(lambda: Path("/no/such/file").read_text()), raised(lambda: os.rmdir(b"/no/such")),  # noqa: PTH106
        raised(b"\xff".decode), raised(lambda: compile("a b", "f", "exec")),
        raised(lambda: __import__("no_such_module")), raised(lambda: [].nothing),  # type: ignore[attr-defined]
        subprocess.CalledProcessError(1, ["ls", "-l"]), subprocess.TimeoutExpired("ls", 5),
        ExceptionGroup("two", [ValueError("x"), KeyError("y")]), SystemExit(3), StopIteration("done"),
        Decimal(1) and raised(lambda: int("x")), raised(lambda: re.compile("(")),
        sqlite3.OperationalError("no such table"), urllib.error.URLError("refused"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_pythons_own_exceptions_say_what_str_says(error: BaseException) -> None:
    text = str(error)
    assert safe(error) == (f"{type(error).__name__}: {text}" if text else type(error).__name__)


def test_other_exceptions_are_sealed_by_what_they_were_made_of() -> None:
    class Shop(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise AssertionError("run")

    class Refused(Exception):  # noqa: N818
        def __init__(self, *, detail: str) -> None:
            self.detail = detail

        def __str__(self) -> str:
            raise AssertionError("run")

    assert safe(Shop("no tea")) == "Shop: no tea"
    assert safe(Shop("no tea", 3)) == 'Shop: ["no tea",3]'
    assert safe(Shop({"api_key": "sk-1"})) == 'Shop: {"api_key":"[secret]"}'
    assert safe(Shop(Plain())) == "Shop: <sealable.Plain object>"
    assert safe(Shop(ValueError("inner"))) == "Shop: ValueError: inner"
    assert safe(Shop()) == "Shop"
    assert safe(Refused(detail="no seats")) == "Refused: no seats"
    loop = Shop()
    loop.args = (loop,)
    assert_sealable(safe(loop))


def test_what_an_exception_holds_is_sealed_beside_what_it_was_made_of() -> None:
    class Refused(Exception):  # noqa: N818
        def __init__(self, *args: Any, **held: Any) -> None:
            self.__dict__ |= held

        def __str__(self) -> str:
            raise AssertionError("run")

    class Coded(Exception):  # noqa: N818
        def __init__(self, text: str, **held: Any) -> None:
            super().__init__(text)
            self.__dict__ |= held

    assert safe(Refused(404, detail="no desk")) == "Refused: 404, detail: no desk"
    assert safe(Refused(status_code=404, detail="no desk")) == "Refused: no desk, status_code: 404"
    assert safe(Refused(404, "no desk", code=404, msg="no desk")) == "Refused: no desk, code: 404"
    assert safe(Refused(seat="3a", left=0)) == "Refused: seat: 3a, left: 0"
    assert safe(Refused(seat="3a", api_key="sk-1")) == "Refused: seat: 3a, api_key: [secret]"
    assert safe(Refused(Plain(), reason="late", status=9)) == (
        'Refused: late, status: 9, args: ["<sealable.Plain object>"]'
    )
    assert safe(Refused(7, detail={"token": "t", "at": 3})) == (
        'Refused: 7, detail: {"at":3,"token":"[secret]"}'
    )
    assert safe(Coded("closed", code=7, seat="3a")) == "Coded: closed, code: 7"
    assert safe(Coded("closed: E7", code="E7")) == "Coded: closed: E7"
    assert ContentPolicy("omit").value(Refused(seat="3a", left=2)) == (
        "Refused: seat: [omitted], left: 2"
    )
    assert len(str(safe(Refused(**{f"n{n}": "x" * 9_999 for n in range(999)})))) < 25_000
    loop = Refused("x")
    loop.__dict__["detail"] = {"again": loop}
    assert_sealable(safe(loop))


@pytest.mark.parametrize(
    "error",
    [
        ValueError([7] * 3_000_000), ValueError(*[7] * 3_000_000), KeyError(10**5000),
        ValueError([[7] * 3_000_000]), KeyError("x" * 9_000_000), OSError(3, "y", "x" * 9_000_000),
        subprocess.CalledProcessError(1, ["x"] * 3_000_000), ExceptionGroup("g", [KeyError(10**5000)]),
    ],
    ids=range(8),
)  # fmt: skip
def test_an_exception_made_of_much_is_sealed_soon(error: BaseException) -> None:
    start = process_time()
    sealed = safe(error)
    assert process_time() - start < 0.5
    assert "unrepresentable" not in str(sealed)
    assert len(str(sealed)) < 20_000


def test_what_an_exception_was_made_of_is_content_as_any_value_is() -> None:
    assert safe(RuntimeError(b"file")) == (
        'RuntimeError: {"bytes":4,"sha3_256":"'
        '31351f546dc73cfc2229b8c11272a4e6f156113b3ae60973e0740ec1d369ff1f"}'
    )
    header = ("X-Api-Key", "sk-1")
    for error in (
        ValueError(header),
        KeyError("no", header),
        LookupError([header]),
        OSError(*header),
    ):
        assert "sk-1" not in str(safe(error))
        assert "[secret]" in str(safe(error))


def test_a_process_that_failed_says_so_whatever_it_has_written() -> None:
    error = subprocess.CalledProcessError(
        3, ["ls", *"abcdefghijklmnopqrstuvw"], b"x" * 99_999, b"no"
    )
    assert safe(error) == f"CalledProcessError: {error}"


def test_a_class_is_not_of_the_standard_library_for_its_modules_name() -> None:
    class Wrong(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise AssertionError("run")

    for name in ("token", "profile", "subprocess", "queue.errors"):
        Wrong.__module__ = name
        assert safe(Wrong("no")) == "Wrong: no"


def test_an_exception_that_a_validator_has_raised_is_not_asked_by_way_of_pydantic() -> None:
    asked = []

    class Full(ValueError):  # noqa: N818
        def __str__(self) -> str:
            asked.append(self)  # by pydantic itself too, when it raises
            return "full"

    class Seat(pydantic.BaseModel):
        row: int

        @pydantic.field_validator("row")
        @classmethod
        def there_is_one(cls, row: int) -> int:
            raise Full(row) if row > 5 else ValueError("taken")

    told = raised(lambda: Seat(row=3))
    assert safe(told) == "ValidationError: Seat: row: Value error, taken"
    told = raised(lambda: Seat(row=9))
    asked.clear()
    assert safe(told) == 'ValidationError: 1 validation error for Seat, raised: ["Full: 9"]'
    assert asked == []


def test_what_a_pydantic_model_refuses_is_said_without_the_input() -> None:
    class Order(pydantic.BaseModel):
        item: str
        count: int

    class Loud:
        def __repr__(self) -> str:
            raise AssertionError("run")

    error = raised(lambda: Order(item="tea", count=Loud()))
    assert safe(error) == "ValidationError: Order: count: Input should be a valid integer"


# ── what is known to be inert is read ─────────────────────────────────────────────────────────────


class Zone(tzinfo):
    """A time zone that would have to be asked."""

    def utcoffset(self, _: Any) -> timedelta:
        raise AssertionError("run")


@pytest.mark.parametrize(
    ("value", "sealed"),
    [
        (datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Vienna")), "2026-07-01T10:00:00+00:00"),
        (datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))), "2026-07-01T10:00:00+00:00"),
        (datetime(2026, 7, 1, 12, 0, 0, 5, tzinfo=Zone()), "2026-07-01T12:00:00.000005 <test_inert.Zone>"),
        (time(12, 30, tzinfo=UTC), "12:30:00+00:00"),
        (time(12, 30, tzinfo=Zone()), "12:30:00 <test_inert.Zone>"),
        (date(2026, 7, 1), "2026-07-01"),
        (ZoneInfo("Europe/Vienna"), "Europe/Vienna"),
        (UTC, "UTC"),
        (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
        (ipaddress.ip_network("2001:db8::/32"), "2001:db8::/32"),
        (re.compile("a+"), "a+"),
        (Path("/tmp/a b"), "/tmp/a b"),
        (PureWindowsPath("C:\\x", "y"), "C:\\x\\y"),
        (slice(1, None, 2), [1, None, 2]),
        (1 - 2j, "(1-2j)"),
        (collections.ChainMap({"a": 1}, {"token": "t"}), [{"a": 1}, {"token": "[secret]"}]),
        (collections.UserDict({"token": "t"}), {"token": "[secret]"}),
        (collections.OrderedDict(b=1, a=2).keys(), ["a", "b"]),
        ({"a": [1]}.items(), [["a", [1]]]),
        (Plain().__repr__, "sealable.Plain.__repr__"),
        (dict.fromkeys, "dict.fromkeys"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_inert_values_of_the_standard_library(value: Any, sealed: Any) -> None:
    assert safe(value) == sealed


def test_the_fields_of_models_are_read_where_they_are_held() -> None:
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Slotted:
        a: int
        _secret: str

    @attrs.define(slots=False)
    class Loose:
        a: int

        def __getattribute__(self, name: str) -> Any:
            raise AssertionError("run")

    @dataclasses.dataclass
    class Lazy:
        a: int
        rows: Any = None

    Lazy.rows = property(lambda self: pytest.fail("run"), lambda self, value: None)  # type: ignore[assignment]
    assert safe([Slotted(1, "s"), Lazy(2)]) == [
        {"a": 1, "_secret": "[secret]"}, {"a": 2, "rows": "<not loaded>"},
    ]  # fmt: skip
    assert safe(Loose(1)) == {"a": 1}


def test_proxies_mocks_and_handles_are_sealed_as_their_type() -> None:
    wrapt = pytest.importorskip("wrapt")
    buffer = memoryview(b"abc")
    buffer.release()
    target = Plain()
    for value, sealed in (
        (wrapt.ObjectProxy({"a": 1}), "ObjectProxy object>"),
        (mock.MagicMock(spec=dict), "<unittest.mock.MagicMock object>"),
        (threading.Lock(), "<_thread.lock object>"),
        (threading.local(), "<_thread._local object>"),
        (weakref.proxy(target), "object>"),
        (weakref.ref(target), "object>"),
        (ctypes.c_int(5), "<ctypes.c_int object>"),
        (ctypes.cast(8, ctypes.POINTER(ctypes.c_int)), "LP_c_int object>"),
        (functools.partial(pytest.fail, "run"), "<functools.partial object>"),
        (buffer, "<memoryview: unrepresentable>"),
        (map(pytest.fail, ["run"]), "<map object>"),
    ):
        assert safe(value).endswith(sealed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mock.NonCallableMock, "_get_child_mock", lambda *_, **__: pytest.fail("run"))
        assert "Mock" in safe(mock.Mock())


def test_lazy_values_of_libraries_stay_lazy() -> None:
    werkzeug = pytest.importorskip("werkzeug.local")
    functional = pytest.importorskip("django.utils.functional")
    ran: list[str] = []

    @capsuled
    def given(value: Any) -> Any:
        return value

    for value in (
        werkzeug.LocalProxy(lambda: ran.append("proxy") or {}),
        functional.SimpleLazyObject(lambda: ran.append("django") or {}),
        functional.lazystr("x"),
    ):
        given(value)
        given([value])
        safe({"k": value, "l": {"m": value}})
    assert ran == []


def test_a_response_that_is_being_streamed_is_not_read() -> None:
    httpx = pytest.importorskip("httpx")

    def body() -> Iterator[bytes]:
        pytest.fail("run")
        yield b""

    response = httpx.Response(200, content=body())
    assert safe(response) == "<httpx.Response object>"
    assert not response.is_stream_consumed


def test_pages_of_an_interface_are_not_fetched() -> None:
    paginate = pytest.importorskip("botocore.paginate")
    pages = paginate.PageIterator(
        lambda **_: pytest.fail("run"), "t", "o", ["m"], ["r"], [], "l", 1, None, 1, {}
    )
    assert safe([pages])[0].startswith("<botocore.paginate.PageIterator")


def test_arrays_are_sealed_with_their_head_and_tables_with_their_columns() -> None:
    numpy = pytest.importorskip("numpy")
    assert safe(numpy.array([[1, 2], [3, 4]])) == {
        "type": "numpy.ndarray", "dtype": "int64", "shape": [2, 2], "values": [[1, 2], [3, 4]],
    }  # fmt: skip
    large = safe(numpy.zeros((1000, 1000)))
    assert (large["shape"], len(large["values"])) == ([1000, 1000], 1000)
    assert large["values"][-1] == "[cut: 999 of 1000000 entries kept]"
    assert safe([numpy.float32(0.5), numpy.int64(3), numpy.bool_(True), numpy.float64(2.5)]) == [
        0.5,
        3,
        True,
        2.5,
    ]
    assert_sealable(safe([numpy.longdouble(1.5), numpy.datetime64("2026-01-01"), numpy.array(5)]))
    wire = tripwires.wired(object)()
    objects = numpy.array([wire, None], dtype=object)
    with tripwires.armed():
        assert safe(objects)["values"][1] is None
    assert tripwires.hits == []

    class Mapped(numpy.ndarray):
        def tolist(self) -> Any:
            pytest.fail("run")

    assert "Mapped object>" in safe(numpy.zeros(3).view(Mapped))


def test_frames_are_described() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    sealed = safe(frame)
    assert (sealed["shape"], sealed["columns"]) == ([3, 2], ["a", "b"])
    assert safe(frame["a"])["shape"] == [3]
    assert safe(pandas.Timestamp("2026-01-01T00:00:00Z")) == "2026-01-01T00:00:00+00:00"
    assert "NaT" in canonical(safe([pandas.NaT]))


def test_polars_frames_are_described_and_plans_are_not_run() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, 2]})
    assert safe(frame)["shape"] == [2, 1]
    assert safe(frame)["columns"] == ["a"]
    assert safe(frame["a"])["shape"] == [2]
    assert "LazyFrame object>" in safe(frame.lazy())


def test_rows_that_were_fetched_are_read() -> None:
    sa = pytest.importorskip("sqlalchemy")
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        rows = connection.execute(sa.text("select 1 as a, 'x' as b")).all()
        assert safe(rows) == [[1, "x"]]
    plain = sqlite3.connect(":memory:")
    plain.row_factory = sqlite3.Row
    assert safe(plain.execute("select 1 as a, 't' as token").fetchone()) == {
        "a": 1,
        "token": "[secret]",
    }
    plain.close()


# ── the real ones that ran queries ────────────────────────────────────────────────────────────────


def test_entities_of_sqlalchemy_show_what_is_loaded_and_load_nothing(chain: Chain) -> None:
    sa = pytest.importorskip("sqlalchemy")
    orm = pytest.importorskip("sqlalchemy.orm")
    proxies = pytest.importorskip("sqlalchemy.ext.associationproxy")
    registry = orm.registry()
    parents = sa.Table("parent", registry.metadata, sa.Column("id", sa.Integer, primary_key=True),
                       sa.Column("name", sa.String))  # fmt: skip
    children = sa.Table("child", registry.metadata, sa.Column("id", sa.Integer, primary_key=True),
                        sa.Column("name", sa.String),
                        sa.Column("parent_id", sa.ForeignKey("parent.id")))  # fmt: skip

    @dataclasses.dataclass
    class Parent:
        name: str
        children: list[Any] = dataclasses.field(default_factory=list)
        id: int | None = None

    class Child:
        def __init__(self, name: str) -> None:
            self.name = name

        def __repr__(self) -> str:
            return f"Child({self.name})"

    Parent.names = proxies.association_proxy("children", "name")  # type: ignore[attr-defined]
    registry.map_imperatively(Parent, parents, properties={"children": orm.relationship(Child)})
    registry.map_imperatively(Child, children)
    engine = sa.create_engine("sqlite://")
    registry.metadata.create_all(engine)

    @capsuled
    def plan(value: Any) -> Any:
        return value

    with orm.Session(engine) as session:
        session.add(Parent("p", [Child("c")]))
        session.commit()
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    with orm.Session(engine) as session:
        parent = session.scalars(sa.select(Parent)).one()
        statements.clear()
        plan(parent)
        assert safe(parent) == {"name": "p", "children": "<not loaded>", "id": 1}
        names = parent.names  # type: ignore[attr-defined]
        statements.clear()
        plan(names)
        plan(session.query(Parent))
        plan(sa.select(Parent))
        session.expire(parent)
        plan(parent)
        assert safe(parent)["name"] == "<not loaded>"
        assert statements == []
        child = parent.children[0]
        assert safe(parent)["children"] == [safe(child)]
        session.expire(child)
        statements.clear()
        plan(child)
        plan([child, {"k": child}])
        assert statements == []
    chain.verify()


def test_a_dict_that_another_thread_changes_is_read_without_asking_its_keys() -> None:
    shared: dict[Any, int] = {}
    stop = threading.Event()
    keys = [(number, PurePosixPath(str(number))) for number in range(300)]

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            shared[keys[number % 300]] = number
            shared.pop(keys[(number * 7) % 300], None)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(200):
            assert_sealable(
                safe([shared, shared.keys(), shared.items(), types.MappingProxyType(shared)])
            )
    finally:
        stop.set()
        thread.join()
