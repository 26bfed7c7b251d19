"""Values for the tests of what may be sealed, and the judge of what came out."""

from __future__ import annotations

import collections
import dataclasses
import enum
import hashlib
import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pydantic
from hypothesis import strategies as st

SAFE_INTEGER = 2**53 - 1


def sha3(data: str | bytes) -> str:
    return hashlib.sha3_256(data.encode() if isinstance(data, str) else data).hexdigest()


def assert_sealable(value: Any) -> None:
    """Assert that every language reads and writes this document alike."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    text.encode()  # UnicodeEncodeError for a lone surrogate
    assert json.loads(text) == value
    stack = [value]
    while stack:
        node = stack.pop()
        assert type(node) in {dict, list, str, int, float, bool, type(None)}
        if type(node) is dict:
            assert all(type(key) is str and max(key, default="") <= "\uffff" for key in node)
            stack.extend(node.values())
        elif type(node) is list:
            stack.extend(node)
        elif type(node) is int:
            assert abs(node) <= SAFE_INTEGER
        elif type(node) is float:
            assert 1e-4 <= abs(node) < 1e15
            assert not node.is_integer()


texts = st.text(st.characters(exclude_categories=[]), max_size=30)  # lone surrogates included
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.decimals()
    | st.binary(max_size=30)
    | st.datetimes()
    | st.dates()
    | st.timedeltas()
    | st.uuids()
    | st.fractions()
    | st.complex_numbers()
)
keys = texts | st.none() | st.booleans() | st.integers() | st.floats() | st.tuples(texts, texts)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner, max_size=6)
        | st.sets(texts | st.integers(), max_size=5)
        | st.builds(collections.deque, st.lists(inner, max_size=4))
    ),
    max_leaves=25,
)


class Colour(enum.Enum):
    RED = "red"
    BOTH = ("a", 2)


class Level(str, enum.Enum):  # noqa: UP042  the older spelling is what users have
    HIGH = "high"


class Flag(enum.IntFlag):
    A = 1


class Point(NamedTuple):
    x: int
    label: str


class Row(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    password: str = "p"
    when: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    _private: str = "hidden"


@dataclasses.dataclass
class Order:
    item: str
    parts: list[Any] = dataclasses.field(default_factory=list)
    api_key: str = "sk-1"


@dataclasses.dataclass(slots=True)
class Slotted:
    a: int
    b: Any = None


class Plain:
    def __repr__(self) -> str:
        return "Plain(é)"


class Silent:
    """An object whose repr is its address."""


def some_function() -> None: ...
