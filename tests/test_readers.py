"""How a value of each kind is read, however hostile."""

from __future__ import annotations

import array
import collections
import contextlib
import os
import sys
import threading
import types
import uuid
import warnings
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any
from unittest import mock

import pydantic
import pytest
from sealable import (
    Colour,
    Flag,
    Level,
    Order,
    Plain,
    Point,
    Row,
    Silent,
    Slotted,
    assert_sealable,
    sha3,
    some_function,
)

from capsule_sdk.content import ContentPolicy, canonical, label, readers, safe

# ── kinds of values ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "sealed"),
    [
        ((1, "a"), [1, "a"]),
        (range(3), [0, 1, 2]),
        (collections.deque([1, 2]), [1, 2]),
        (array.array("i", [1, 2]), [1, 2]),
        ({"b": 1, "a": 2}.keys(), ["a", "b"]),
        ({"b": 1}.values(), [1]),
        ({"b", "a", 3, 1.0, None}, ["a", "b", 1, 3, None]),
        (frozenset({2, 1}), [1, 2]),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.ChainMap({"a": 1}, {"b": 2}), [{"a": 1}, {"b": 2}]),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.UserString("hi"), "hi"),
        (collections.UserDict(a=1), {"a": 1}),
        (types.SimpleNamespace(a=1, token="t"), {"a": 1, "token": "[secret]"}),
        (b"abc", {"bytes": 3, "sha3_256": sha3(b"abc")}),
        (bytearray(b"abc"), {"bytes": 3, "sha3_256": sha3(b"abc")}),
        (memoryview(b"abc"), {"bytes": 3, "sha3_256": sha3(b"abc")}),
        (memoryview(b"abcdef")[::2], {"bytes": 3, "sha3_256": sha3(b"ace")}),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/tmp/x"), "/tmp/x"),
        (Colour.RED, "red"),
        (Colour.BOTH, ["a", 2]),
        (Level.HIGH, "high"),
        (Flag.A, 1),
        (Point(1, "p"), {"x": 1, "label": "p"}),
        (Order("tea", [Point(1, "q")]), {
            "item": "tea", "parts": [{"x": 1, "label": "q"}], "api_key": "[secret]",
        }),
        (Slotted(1), {"a": 1, "b": None}),
        (Row(name="n", extra_field=2), {
            "name": "n", "password": "[secret]", "when": "2026-01-01T00:00:00+00:00",
            "extra_field": 2,
        }),
        (ValueError("bad"), "ValueError: bad"),
        (ValueError(), "ValueError"),
        (ExceptionGroup("g", [ValueError()]), "ExceptionGroup: g (1 sub-exception)"),
        (Plain(), "<sealable.Plain object>"),
        (Silent(), "<sealable.Silent object>"),
        (Silent, "sealable.Silent"),
        (dict, "builtins.dict"),
        (Order, "sealable.Order"),
        (Row, "sealable.Row"),
        (some_function, "sealable.some_function"),
        (len, "builtins.len"),
        ("".join, "str.join"),
        (os, "os"),
        (2 + 3j, "(2+3j)"),
        (..., "Ellipsis"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_value_is_sealed_as(value: Any, sealed: Any):
    assert safe(value) == sealed
    assert_sealable(safe(value))


def test_attrs_and_pydantic_1_models_are_read_by_their_fields():
    class Attrs:  # what attrs.define leaves on a class
        __attrs_attrs__ = (types.SimpleNamespace(name="a"), types.SimpleNamespace(name="secret"))

        def __init__(self) -> None:
            self.a, self.secret = 1, "s"

    class V1:
        __fields__ = {"a": None}  # noqa: RUF012

        def __init__(self) -> None:
            self.a = 1

    assert safe([Attrs(), V1()]) == [{"a": 1, "secret": "[secret]"}, {"a": 1}]


def test_a_pydantic_model_is_read_without_warnings_and_without_its_own_code():
    class Stubborn(pydantic.BaseModel):
        a: int
        gone: int = 1

        @property
        def computed(self) -> int:
            raise AssertionError

        def model_dump(self, **_: Any) -> Any:
            raise AssertionError

        def __repr__(self) -> str:
            raise AssertionError

    row = Stubborn(a=1)
    del row.gone
    row.__dict__["a"] = "no integer"  # model_dump would warn
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert safe([row, Stubborn.model_construct()]) == [{"a": "no integer"}, {"gone": 1}]


def test_iterators_generators_coroutines_and_files_are_never_consumed(tmp_path: Any):
    iterator = iter([1, 2])
    generator = (number for number in [1, 2])

    async def coroutine() -> None: ...

    running = coroutine()
    with (tmp_path / "f").open("w+") as file:
        file.write("text")
        file.seek(0)
        names = safe([iterator, generator, running, file])
        assert file.read() == "text"
    running.close()
    assert list(iterator) == [1, 2]
    assert list(generator) == [1, 2]
    assert names == [
        "<list_iterator object>", "<generator object>", "<coroutine object>",
        "<_io.TextIOWrapper object>",
    ]  # fmt: skip


def test_a_bytearray_stays_free_to_grow_while_it_is_read():
    data = bytearray(3_000_000)
    seen = []

    class Spy:
        def update(self, part: bytes) -> None:
            data.append(1)  # BufferError if a buffer were held
            seen.append(len(part))

        def hexdigest(self) -> str:
            return "x"

    with mock.patch("capsule_sdk.content.readers.sha3_256", Spy):
        assert safe(data) == {"bytes": 3_000_000, "sha3_256": "x"}
    assert sum(seen) >= 3_000_000


# ── hostile objects ───────────────────────────────────────────────────────────────────────────────


def hostile(error: BaseException) -> list[Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    names = [
        "__repr__", "__str__", "__len__", "__iter__", "__getitem__", "__hash__", "__eq__",
        "__bool__", "__format__", "__int__", "__float__", "__index__", "__contains__", "keys",
        "items", "isoformat", "__sizeof__", "__lt__", "__fspath__",
    ]  # fmt: skip
    methods = dict.fromkeys(names, fail)
    everything = {**methods, "__getattribute__": fail}
    bases: list[tuple[type, tuple[Any, ...]]] = [
        (object, ()), (str, ("s",)), (int, (5,)), (float, (0.5,)), (bytes, (b"b",)),
        (bytearray, (b"b",)), (list, ([1],)), (tuple, ((1,),)), (set, ()), (frozenset, ()),
        (dict, ({"a": 1},)), (Decimal, ("1.5",)), (date, (2026, 1, 1)),
        (datetime, (2026, 1, 1)), (timedelta, (1,)), (Exception, ("e",)),
        (PurePosixPath, ("p",)), (collections.UserDict, ()), (collections.deque, ([1],)),
        (collections.abc.Mapping, ()), (collections.abc.Sequence, ()), (collections.abc.Set, ()),
        (Fraction, (1, 3)), (Row, ()), (Order, ("i",)),
    ]  # fmt: skip
    made = []
    for base, arguments in bases:
        for space in (methods, everything):
            cls = type(f"Evil{base.__name__}", (base,), {})
            kwargs = {"name": "n"} if base is Row else {}
            value = (
                cls(*arguments, **kwargs)
                if not getattr(base, "__abstractmethods__", None)
                else None
            )
            if value is None:
                cls = type(f"Evil{base.__name__}", (base,), dict(methods))
                value = cls()
            with contextlib.suppress(TypeError):
                for name, method in space.items():
                    setattr(cls, name, method)
            made.append(value)
    return made


@pytest.mark.parametrize(
    "error", [ValueError("x"), RecursionError("x"), RuntimeError("x"), MemoryError()]
)
@pytest.mark.parametrize("mode", ["full", "digest", "omit"])
def test_objects_whose_every_method_raises_become_a_marker(error: Exception, mode: Any):
    for value in hostile(error):
        sealed = ContentPolicy(mode).value({"before": 1, "evil": value, "after": 2})
        assert_sealable(sealed)
        assert (sealed["before"], sealed["after"]) == (1, 2)
        assert len(label(value)) < 600


def test_containers_are_read_past_the_methods_of_a_subclass():
    def fail(*_: Any) -> Any:
        raise ValueError

    names = ("__len__", "__iter__", "__getitem__", "keys", "items", "__bool__", "__repr__")
    for base, held, sealed in [
        (list, [1, 2], [1, 2]),
        (tuple, (1, 2), [1, 2]),
        (dict, {"a": 1}, {"a": 1}),
        (bytes, b"abc", {"bytes": 3, "sha3_256": sha3(b"abc")}),
        (bytearray, b"abc", {"bytes": 3, "sha3_256": sha3(b"abc")}),
    ]:
        assert safe(type("Evil", (base,), dict.fromkeys(names, fail))(held)) == sealed


def test_keys_of_unknown_types_lose_no_entry():
    assert sorted(safe({Silent(): 1, "b": 2, Silent(): 3}).values()) == [1, 2, 3]


@pytest.mark.parametrize(
    "lie", [str, int, dict, list, bytes, Exception, type, datetime, bool, None]
)
def test_an_object_that_lies_about_its_class_is_read_by_its_true_one(lie: Any):
    class Liar:
        @property
        def __class__(self) -> Any:
            return lie

    name = f"<{__name__}.{Liar.__qualname__} object>"
    assert safe([Liar(), {"k": Liar()}]) == [name, {"k": name}]
    assert label(Liar()) == name


def test_a_class_whose_metaclass_lies_raises_nothing():
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise ValueError

        def __hash__(cls) -> int:
            raise ValueError

    class Evil(metaclass=Meta):
        pass

    assert canonical(safe([object.__new__(Evil), 1])).endswith('Evil object>",1]')
    assert canonical(safe([Evil, 1])).endswith('Evil",1]')


def test_mocks_are_objects_like_others():
    for value in (mock.Mock(), mock.MagicMock(), mock.AsyncMock(), mock.MagicMock(spec=dict)):
        sealed = safe({"m": value})
        assert_sealable(sealed)
        assert "Mock" in canonical(sealed)


def test_an_attribute_that_is_not_there_does_not_lose_the_other_attributes():
    value = Slotted(1, 2)
    del value.a
    assert safe(value) == {"a": "<not loaded>", "b": 2}
    assert ContentPolicy("omit").value(value) == {"a": "<not loaded>", "b": 2}


def test_containers_another_thread_is_changing_raise_nothing():
    shared_dict: dict[int, int] = {}
    shared_set: set[int] = set()
    shared_deque: collections.deque[int] = collections.deque(maxlen=50)
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            shared_dict[number % 500] = number
            shared_dict.pop((number * 7) % 500, None)
            shared_set.symmetric_difference_update({number % 300})
            shared_deque.append(number)

    thread = threading.Thread(target=churn)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(300):
            assert_sealable(safe({"d": shared_dict, "s": shared_set, "q": shared_deque}))
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_a_container_that_changed_while_it_was_read_is_read_again():
    tries = []

    def changing(value: Any) -> Iterator[int]:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("changed size during iteration")
        return iter(value)

    assert readers._first(changing, [1, 2], 10) == [1, 2]
