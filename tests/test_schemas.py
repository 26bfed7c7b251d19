"""Formats that are given as classes: other JSON schemas are told otherwise, and no code is run."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Optional, TypeVar

import pytest
from annotated_types import Gt, Len
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    WithJsonSchema,
    field_validator,
)
from pydantic import dataclasses as pydantic_dataclasses
from pydantic.json_schema import Examples
from typing_extensions import TypeAliasType, TypedDict

from capsule_sdk.calls.question import question_of
from capsule_sdk.content import ContentPolicy, canonical

BOTH = (0, 1)
WORD = ("yes", "no")


def model(annotation: Any = str, name: str = "Model", **more: Any) -> Any:
    space = {
        "__annotations__": {"a": annotation},
        "__module__": __name__,
        "__qualname__": name,
        **more,
    }
    return type(name, (BaseModel,), space)


def told(format_: Any, policy: ContentPolicy | None = None) -> Any:
    given = {"messages": [], "response_format": format_}
    return question_of(
        given, policy or ContentPolicy(), beside=lambda _: False, model="m"
    ).arguments


def _takes(kind: Any) -> Any:
    def check(cls: Any, value: Any) -> Any:
        raise AssertionError("run")

    return model(a_check=field_validator("a", mode="before", json_schema_input_type=kind)(check))


PAIRS: dict[str, Callable[[int], Any]] = {
    "extra of a field": lambda i: model(a=Field(json_schema_extra={"hint": [{"x": WORD[i]}]})),
    "examples": lambda i: model(a=Field(examples=[{"deep": WORD[i]}])),
    "title of a field": lambda i: model(a=Field(title=WORD[i])),
    "deprecated": lambda i: model(a=Field(deprecated=bool(i))),
    "a default that is null, or none": lambda i: model(Optional[str], **({"a": None} if i else {})),  # noqa: UP045
    "a default that is made": lambda i: model(list, **({"a": Field(default_factory=list)} if i else {})),
    "a default that is a list": lambda i: model(list, a=Field(default=[[WORD[i]]])),
    "a default that is an object": lambda i: model(dict, a={"x": i}),
    "a default that is a false": lambda i: model(bool | None, a=(False, None)[i]),
    "title of a model": lambda i: model(model_config=ConfigDict(title=WORD[i])),
    "extra of a model": lambda i: model(model_config=ConfigDict(json_schema_extra={"d": WORD[i]})),
    "what a model forbids": lambda i: model(model_config=ConfigDict(extra=("forbid", "allow")[i])),
    "what a model below forbids": lambda i: model(
        list[model(name="Below", model_config=ConfigDict(extra=("forbid", "allow")[i]))]
    ),
    "aliases that are made": lambda i: model(
        model_config=ConfigDict(alias_generator=(str.upper, lambda name: name * 2)[i])
    ),
    "constraint in a list": lambda i: model(list[Annotated[int, Field(ge=i)]]),
    "description in a dict": lambda i: model(dict[str, Annotated[int, Field(description=WORD[i])]]),
    "constraint of annotated_types": lambda i: model(tuple[Annotated[str, Len(i + 1, 9)], ...]),
    "two constraints": lambda i: model(list[Annotated[int, Gt(0), Field(le=9 + i)]]),
    "a schema that is given": lambda i: model(Annotated[Any, WithJsonSchema({"type": ("string", "null")[i]})]),
    "examples beside": lambda i: model(Annotated[str, Examples([WORD[i]])]),
    "a union by a word": lambda i: model(
        Annotated[_A | _B, Field(discriminator=("kind", "sort")[i])]
    ),
    "dataclass": lambda i: model(dataclasses.make_dataclass("D", [(("x", "y")[i], int)])),
    "default in a dataclass": lambda i: model(dataclasses.make_dataclass("D", [("x", int, i)])),
    "default made in a dataclass": lambda i: model(
        dataclasses.make_dataclass(
            "D", [("x", list, dataclasses.field(**({"default_factory": list} if i else {})))]
        )
    ),
    "dataclass of pydantic's": lambda i: model(
        pydantic_dataclasses.dataclass(type("D", (), {"__annotations__": {("x", "y")[i]: int}}))
    ),
    "class below a dataclass": lambda i: model(
        dataclasses.make_dataclass("D", [("x", list[model((int, str)[i], "Below")])])
    ),
    "TypedDict": lambda i: model(TypedDict("D", {("x", "y")[i]: int})),
    "what a TypedDict requires": lambda i: model(TypedDict("D", {"x": (int, NotRequired[int])[i]})),
    "named tuple": lambda i: model(NamedTuple("D", [(("x", "y")[i], int)])),
    "enum": lambda i: model(enum.IntEnum("E", {"A": i + 1})),
    "enum in a Literal": lambda i: model(Literal[tuple(_Colour)[i]]),
    "NewType": lambda i: model(NewType("N", (int, str)[i])),
    "root": lambda i: type("R", (RootModel[(list[int], list[str])[i]],), {"__module__": __name__}),
    "what a validator takes": lambda i: _takes((int, str)[i]),
    "a secret's shape": lambda i: model(Literal["password=Zw8hunter" + WORD[i]]),
    "a key of a provider": lambda i: model(a=Field(pattern="sk-proj-" + "aB3dE6" * 9 + WORD[i])),
    "a number": lambda i: model(a=Field(default=(0.1, 0.2)[i])),
    "two classes of one name": lambda i: model(
        tuple[model(int, "Same"), model((int, str)[i], "Same")]
    ),
}  # fmt: skip


class _Colour(enum.Enum):
    RED, BLUE = "r", "b"


class _A(BaseModel):
    kind: Literal["a"]
    sort: Literal["c"]


class _B(BaseModel):
    kind: Literal["b"]
    sort: Literal["d"]


@pytest.mark.parametrize("name", PAIRS)
def test_classes_with_different_schemas_have_different_hashes(name: str) -> None:
    one, other, again = (PAIRS[name](i) for i in (0, 1, 0))
    assert one.model_json_schema() != other.model_json_schema()
    assert told(one)["request_hash"] != told(other)["request_hash"]
    if "aliases" not in name:
        assert told(one) == told(again)
    assert "untold" not in told(one)["parameters"]["response_format"]


def test_formats_of_no_model_are_told_as_well() -> None:
    shapes = [
        list[model()], list[model(int)], dict[str, model()], TypedDict("D", {"x": int}),
        TypedDict("D", {"y": int}), model() | None,
        enum.Enum("E", {"A": 1}), enum.Enum("E", {"A": 2}), list[int], list[str],
    ]  # fmt: skip
    assert len({told(shape)["request_hash"] for shape in shapes}) == len(shapes)


class _Code:
    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.str_schema()

    @classmethod
    def __get_pydantic_json_schema__(cls, *_: Any) -> Any:
        raise AssertionError("run")


class _Own(BaseModel):
    a: str

    @classmethod
    def __get_pydantic_json_schema__(cls, *_: Any) -> Any:
        raise AssertionError("run")


def _run(_: Any) -> Any:
    raise AssertionError("run")


_T = TypeVar("_T")


@pytest.mark.parametrize(
    "format_",
    [
        _Own,
        model(_Code),
        model(list[_Code]),
        model(Annotated[str, _Code()]),
        model(a=Field(json_schema_extra=_run)),
        model(model_config=ConfigDict(json_schema_extra=_run)),
        model(model_config=ConfigDict(model_title_generator=_run)),
        model(dataclasses.make_dataclass("D", [("x", "_Colour")])),
        model(TypeAliasType("Many", list[_T], type_params=(_T,))[int]),
        list[TypeAliasType("Many", set[_T], type_params=(_T,))[int]],  # type: ignore[misc]
    ],
)
def test_what_cannot_be_told_without_running_code_is_named(format_: Any) -> None:
    shape = told(format_)["parameters"]["response_format"]
    assert shape["untold"], shape


def _doubled(value: Any, join: Callable[[Any, Any], Any]) -> Any:
    for _ in range(16):
        value = join(value, value)
    return value


def _within_itself() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    "format_",
    [
        model(a=Field(json_schema_extra={"x": _within_itself()})),
        dataclasses.make_dataclass("D", [("x", list)], namespace={"x": None}),
        model(a=Field(json_schema_extra={"x": _doubled(1, lambda a, b: [a, b])})),
        tuple[_doubled(int, lambda a, b: tuple[a, b])],
    ],
)
def test_formats_without_an_end_are_told_in_bounded_time_and_size(format_: Any) -> None:
    if dataclasses.is_dataclass(format_):  # a default that holds itself, which no decorator takes
        dataclasses.fields(format_)[0].default = _within_itself()
    shape = told(format_)["parameters"]["response_format"]
    assert shape["untold"]
    assert len(canonical(shape)) < 300_000


def test_a_bound_of_any_length_is_told() -> None:
    formats = [
        dataclasses.make_dataclass("D", [("x", Annotated[int, Gt(10**digits)])])
        for digits in (5000, 5001)
    ]
    assert told(formats[0])["request_hash"] != told(formats[1])["request_hash"]


def test_code_that_says_nothing_of_the_schema_is_neither_run_nor_named() -> None:
    shape = told(model(Annotated[str, AfterValidator(_run)], a=Field(default_factory=_run)))
    assert "untold" not in shape["parameters"]["response_format"]


def test_a_secret_in_a_schema_is_hashed_and_not_sealed() -> None:
    secret = "password=" + "Zw8hunter"
    sealed = told(model(Literal[secret], a=Field(default=secret, examples=[{"b": secret}])))
    assert "Zw8hunter" not in canonical(sealed)
    assert "[secret]" in canonical(sealed)
    redacted = [
        told(model(Literal[secret + end]), ContentPolicy(redact=lambda _: "#"))["request_hash"]
        for end in "ab"
    ]
    assert redacted[0] == redacted[1]
