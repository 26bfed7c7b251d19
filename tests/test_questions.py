"""What was asked, as data: hashes, roles, tools, messages, whatever the wire format. Without LiteLLM."""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import math
import re
import time
import uuid
import weakref
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tripwires
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model
from sealable import values

from capsule_sdk.calls.conversation import sealed_messages
from capsule_sdk.calls.hashing import as_redacted, prompt_hash, tools_digest
from capsule_sdk.calls.memory import Memory, Remembering, prefixes_of, whose
from capsule_sdk.calls.prompts import last_user_text, roles_of
from capsule_sdk.calls.question import Question, hashes_of, question_of
from capsule_sdk.content import ContentPolicy, Limits, canonical
from capsule_sdk.records.attribution import NOBODY

DOCS = Path(__file__).parent.parent / "docs" / "hashes.md"


def ask(arguments: dict[str, Any], mode: Any = "full", **more: Any) -> Question:
    more = {"model": str(arguments.get("model")), "beside": lambda _: False} | more
    return question_of(arguments, ContentPolicy(mode), **more)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


class Message(BaseModel):
    """A message as an SDK returns it."""

    role: str
    content: str | None = None
    tool_calls: list[Any] | None = None


# -- prompt_hash -----------------------------------------------------------------------------------


def test_a_message_that_a_model_returned_has_the_hash_of_the_same_message_as_it_is_sent() -> None:
    text = {"role": "assistant", "content": "b"}
    assert prompt_hash([user("a"), Message(**text)]) == prompt_hash([user("a"), text])
    call: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    assert prompt_hash([Message(**call)]) == prompt_hash([call])


def test_hashing_runs_no_code_of_a_message() -> None:
    class Foreign(Message):
        def model_dump(self, **_: Any) -> Any:
            raise AssertionError("run")

    class Entries(dict[str, Any]):
        def items(self) -> Any:
            raise AssertionError("run")

    plain = {"role": "user", "content": "a"}
    assert prompt_hash([Foreign(**plain), Entries(plain)]) == prompt_hash([plain, plain])


def test_no_code_of_what_was_asked_runs_whatever_it_is_a_subclass_of() -> None:
    text, items, entries = map(tripwires.wired, (str, list, dict))
    part = entries({"type": text("text"), "text": text("Hi")})
    message = entries({"role": text("user"), "content": items([part]), "name": None})
    given = {
        "messages": items([message]),
        "tools": items([{"type": "function", "function": {"name": "f"}}]),
        "extra_body": entries({"system": text("Be kind.")}),
    }
    with tripwires.armed():
        question = ask(given)
        last = last_user_text(question.prompt)
        in_full, _ = sealed_messages(question.prompt, ContentPolicy())
        redacted = as_redacted(question.prompt, ContentPolicy(redact=lambda text: text))
    assert tripwires.hits == []
    assert (last, question.arguments["roles"]) == ("Hi", ["system", "user"])
    plain = {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": None}
    assert in_full == redacted == [plain]
    assert question.prompt_hash == prompt_hash([plain])
    assert question.arguments["tools"]["names"] == ["f"]


class _Claiming:
    """Says that it is a dict, as a proxy and a mock do."""

    __class__ = dict  # type: ignore[assignment]


def test_what_only_says_that_it_is_a_dict_costs_no_question() -> None:
    asked = ask({"messages": [user("a"), _Claiming()], "extra_body": _Claiming()}).arguments
    sealed, _ = sealed_messages([_Claiming()], ContentPolicy())
    said = "<test_questions._Claiming object>"
    assert (asked["parameters"], sealed) == ({"extra_body": said}, [said])


class _Hashed(type(BaseModel)):  # type: ignore[misc]
    def __hash__(cls) -> int:
        raise AssertionError("run")


def test_a_class_of_a_message_is_neither_hashed_nor_kept_alive() -> None:
    def ask_for_one() -> Any:
        made = _Hashed("Made", (Message,), {"__module__": __name__})
        message = made(role="user", content="a")
        asked = ask({"messages": [message], "response_format": made})
        assert asked.prompt_hash == prompt_hash([user("a")])
        assert asked.arguments["roles"] == ["user"]
        assert asked.arguments["parameters"]["response_format"]["fields"]["role"] == "str"
        return weakref.ref(made)

    made = ask_for_one()
    for _ in range(3):
        gc.collect()
    assert made() is None


@given(st.lists(values, max_size=4))
def test_a_hash_is_that_of_what_json_writes_however_it_is_written(prompt: list[Any]) -> None:
    try:
        text = json.dumps(prompt, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        wanted = hashlib.sha3_256(text.encode()).hexdigest()
    except (TypeError, ValueError):
        return
    assert prompt_hash(prompt) == wanted
    assert tools_digest(prompt) == tools_digest(prompt) == wanted


def test_tools_that_only_resemble_others_have_a_digest_of_their_own() -> None:
    shapes: list[Any] = [
        1,
        1.0,
        True,
        None,
        math.nan,
        "1",
        [],
        {},
        "\ud800",
        "\ufffd",
        1e16,
        10**16,
    ]
    digests = {tools_digest([{"name": "a", "x": shape}]) for shape in shapes for _ in range(2)}
    assert len(digests) == len(shapes) - 1  # half a character is hashed as U+FFFD
    tools = [{"name": "a"}]
    before = tools_digest(tools)
    tools[0]["name"] = "b"
    assert tools_digest(tools) != before


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_hashed_as_they_are_sealed(number: float) -> None:
    text = canonical({"model": "None", "top_p": ContentPolicy().value(number)})
    hashed = ask({"top_p": number}).arguments["request_hash"]
    assert hashed == hashlib.sha3_256(text.encode()).hexdigest()


# -- request_hash ----------------------------------------------------------------------------------


def test_the_vector_of_the_documentation() -> None:
    """docs/hashes.md: the request, the text that is hashed and both hashes; and the rule done by hand."""
    text = DOCS.read_text()
    request = json.loads(text.split("```json\n")[1].split("```")[0])
    below = text.split("The `prompt_hash` is over")[1]
    wanted_prompt, hashed, wanted = re.findall(r"^    (\S.*)$", below, re.MULTILINE)
    question = ask(request)
    assert (question.prompt_hash, question.arguments["request_hash"]) == (wanted_prompt, wanted)
    assert hashlib.sha3_256(hashed.encode()).hexdigest() == wanted
    names = question.arguments["parameters"]
    kept = {**request, "stream": True, "user": "ana"}  # a body that was kept, with more in it
    assert hashes_of(kept, model="gpt-4o", parameters=names) == (wanted_prompt, wanted)


BASE: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "system", "content": "a"}, user("b")],
    "temperature": 0.5,
    "tools": [{"type": "function", "function": {"name": "f", "description": "d"}}],
}
DIFFERENT: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.6},
    "system prompt": {"messages": [{"role": "system", "content": "A"}, user("b")]},
    "tool definition": {
        "tools": [{"type": "function", "function": {"name": "f", "description": "e"}}]
    },
    "tool choice": {"tool_choice": "required"},
    "response_format": {"response_format": {"type": "json_object"}},
    "a word deep in a schema": {
        "response_format": {"schema": {"a": {"b": {"c": {"d": [{"enum": ["x" * 20_000 + "y"]}]}}}}}
    },
    "previous_response_id": {"previous_response_id": "r"},
    "system beside": {"system": "s"},
    "instructions": {"instructions": "s"},
    "seed": {"seed": 0},
    "a provider's own": {"top_k_of_tomorrow": [1]},
    "in extra_body": {"extra_body": {"k": 1}},
    "in extra_body, other": {"extra_body": {"k": 2}},
    "config": {"config": {"temperature": 0.5}},
    "config's system": {"config": {"system_instruction": {"parts": [{"text": "x"}]}}},
    "a tool's result": {"messages": [*BASE["messages"], {"role": "tool", "content": "1"}]},
    "a name": {"messages": [BASE["messages"][0], {**user("b"), "name": "ana"}]},
    "model": {"model": "n"},
    "documents": {"documents": ["x"]},
    "prediction": {"prediction": {"type": "content", "content": "x"}},
}


def test_whatever_determines_the_answer_is_in_the_hash_and_shows_in_the_capsule() -> None:
    told = {"": ask(BASE)} | {name: ask({**BASE, **more}) for name, more in DIFFERENT.items()}
    assert len({question.arguments["request_hash"] for question in told.values()}) == len(told)
    assert len({canonical(question.arguments) for question in told.values()}) == len(told)


@pytest.mark.parametrize(
    "more", [{"top_p": None}, {"temperature": 0.50}, {"tools": tuple(BASE["tools"])}]
)
def test_what_makes_no_difference_makes_none_in_the_hash(more: dict[str, Any]) -> None:
    assert ask({**BASE, **more}).arguments["request_hash"] == ask(BASE).arguments["request_hash"]
    turned = dict(reversed(BASE.items()))
    assert ask(turned).arguments["request_hash"] == ask(BASE).arguments["request_hash"]


def test_what_is_beside_the_question_is_neither_sealed_nor_hashed() -> None:
    beside = {"timeout": 3, "api_key": "CANARY", "client": object()}
    question = ask({**BASE, **beside}, beside={"timeout", "client"}.__contains__)
    assert question == ask(BASE)
    assert "CANARY" not in canonical(question.arguments)


def test_a_secret_within_a_parameter_is_in_no_hash() -> None:
    one, other = (
        ask({**BASE, "extra_body": {"auth_token": secret, "k": 1}}) for secret in ("a", "b")
    )
    assert one.arguments == other.arguments
    assert one.arguments["parameters"]["extra_body"] == {"auth_token": "[secret]", "k": 1}


def test_omit_tells_neither_hash_nor_text() -> None:
    question = ask({**BASE, "system": "CANARY", "stop": "CANARY", "documents": ["CANARY"]}, "omit")
    assert question.prompt_hash is None
    assert question.arguments == {
        "roles": ["system", "system", "user"],
        "parameters": {
            "temperature": 0.5,
            "system": "[omitted]",
            "stop": "[omitted]",
            "documents": "[omitted]",
        },
        "tools": {"names": ["f"]},
    }


@given(st.dictionaries(st.text(max_size=8), values, max_size=5))
@settings(max_examples=100)
def test_any_arguments_of_any_kind_are_told_and_hashed(arguments: dict[str, Any]) -> None:
    question = ask({**arguments, "model": "m"})
    assert len(str(question.arguments["request_hash"])) == 64
    json.dumps(question.arguments, allow_nan=False)


class Step(BaseModel):
    why: Literal["a", "b"] | None = None
    next: Step | None = None


def test_a_model_asked_for_by_its_class_is_told_by_its_fields() -> None:
    def with_fields(**fields: Any) -> Any:
        return ask({**BASE, "response_format": create_model("Plan", **fields)}).arguments

    one = with_fields(steps=(list[Step], ...), cost=(float, 0.0))
    format_: Any = one["parameters"]["response_format"]
    assert format_["class"].endswith(".Plan")
    assert format_["fields"]["cost"] == {"type": "float", "default": 0}
    assert format_["fields"]["steps"].startswith("list[")
    why = {"type": "Union[Literal['a', 'b'], NoneType]", "default": None}
    assert format_["classes"][f"{__name__}.Step"]["why"] == why
    assert with_fields(cost=(int, 0))["request_hash"] != one["request_hash"]
    assert with_fields(steps=(list[Step], ...), cost=(float, 0.0)) == one
    plain: Any = ask({**BASE, "response_format": dict}).arguments["parameters"]
    assert plain["response_format"] == "builtins.dict"


class Other:
    """Somebody's own, of which no code may run."""

    def __repr__(self) -> str:
        raise AssertionError


class Mood(Enum):
    GOOD, BAD = "good", "bad"


class Report(BaseModel):
    """A report of the weather."""

    city: str = Field(description="its name", max_length=9, pattern="[a-z]+")
    mood: Mood
    by: Annotated[str, Other()]


def test_descriptions_constraints_and_values_are_part_of_what_was_asked() -> None:
    told: Any = ask({**BASE, "response_format": Report}).arguments["parameters"]["response_format"]
    assert told["fields"]["city"] == {
        "type": "str",
        "description": "its name",
        "constraints": ["MaxLen(max_length=9)", "_PydanticGeneralMetadata(pattern='[a-z]+')"],
    }
    assert told["fields"]["by"] == {"type": "str", "constraints": [f"{__name__}.Other"]}
    assert told["classes"] == {f"{__name__}.Mood": {"values": ["good", "bad"]}}
    assert told["descriptions"] == {f"{__name__}.Report": "A report of the weather."}


def test_how_a_request_is_sent_is_no_part_of_it_wherever_that_stands() -> None:
    plain = ask({**BASE, "extra_body": {"top_k": 4}}).arguments
    sent = {
        "headers": {"X-Any": "S3CRET"},
        "extra_headers": {"x": "S3CRET"},
        "http_options": {"a": 1},
    }
    assert ask({**BASE, "extra_body": {"top_k": 4, **sent}}).arguments == plain
    redacted: Any = ask({**BASE, "extra_body": {"api_key": "S3CRET"}}).arguments["parameters"]
    assert redacted["extra_body"] == {"api_key": "[secret]"}


# -- tools and roles -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"tools": [{"type": "function", "function": {"name": "chat"}}]}, ["chat"]),
        ({"tools": [{"type": "custom", "custom": {"name": "shell"}}]}, ["shell"]),
        ({"tools": [{"type": "function", "name": "flat"}]}, ["flat"]),
        ({"tools": [{"type": "web_search_preview"}]}, ["web_search_preview"]),
        ({"tools": [{"type": "mcp", "server_label": "files"}]}, ["files"]),
        ({"tools": [{"name": "claude", "input_schema": {}}]}, ["claude"]),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, ["bash"]),
        ({"tools": [{"function_declarations": [{"name": "a"}, {"name": "b"}]}]}, ["a", "b"]),
        ({"tools": [{"functionDeclarations": [{"name": "c"}]}, {"googleSearch": {}}]},
         ["c", "googleSearch"]),
        ({"config": {"tools": [{"code_execution": {}}]}}, ["code_execution"]),
        ({"functions": [{"name": "legacy"}]}, ["legacy"]),
        ({"functions": [{"name": "b"}], "tools": [{"name": "a"}]}, ["b", "a"]),
        ({"tools": [len]}, ["len"]),
        ({"tools": [42]}, ["int"]),
        ({"extra_body": {"tools": [{"name": "hidden"}]}}, ["hidden"]),
    ],
)  # fmt: skip
def test_tools_of_every_dialect_by_name(arguments: dict[str, Any], names: list[str]) -> None:
    tools: Any = ask({"messages": [user("x")], **arguments}).arguments["tools"]
    assert tools["names"] == names
    assert len(tools["digest"]) == 64


def test_many_tools_are_bounded() -> None:
    tools: Any = ask({"tools": [{"name": f"t{n}"} for n in range(500)]}).arguments["tools"]
    assert tools["names"][127:] == ["t127", "[cut: 128 of 500 entries kept]"]


def test_roles_of_every_dialect_and_of_a_long_conversation() -> None:
    assert roles_of([user("a"), Message(role="assistant", content="b")]) == ["user", "assistant"]
    assert roles_of("text") == ["user"]
    assert roles_of(["a", "b"], is_chat=False) is None
    assert roles_of([{"type": "function_call_output", "output": "x"}]) == ["function_call_output"]
    assert roles_of([{"role": "model", "parts": []}], before=["system"]) == ["system", "model"]
    turns = [user("q"), {"role": "assistant", "content": "a"}] * 50
    assert roles_of(turns) == {
        "counts": {"user": 50, "assistant": 50},
        "last": ["user", "assistant"] * 4,
    }


# -- messages="full" -------------------------------------------------------------------------------

PNG = b"\x89PNG" + bytes(range(256)) * 4
B64 = base64.b64encode(PNG).decode()
SEALED = {
    "media_type": "image/png",
    "bytes": len(PNG),
    "sha3_256": hashlib.sha3_256(PNG).hexdigest(),
}


def sealed(message: Any, policy: ContentPolicy | None = None) -> Any:
    (entry,), _ = sealed_messages([message], policy or ContentPolicy())
    return entry


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64}"}}, "image_url.url"),
        ({"type": "image_url", "image_url": f"data:image/png;base64,{B64}"}, "image_url"),
        ({"type": "input_image", "image_url": f"data:image/png;base64,{B64}"}, "image_url"),
        ({"type": "file", "file": {"file_data": f"data:image/png;base64,{B64}"}}, "file.file_data"),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}},
         "source.data"),
        ({"inline_data": {"mime_type": "image/png", "data": B64}}, "inline_data.data"),
        ({"inlineData": {"mimeType": "image/png", "data": B64}}, "inlineData.data"),
        ({"type": "tool_result", "content": [{"source": {"media_type": "image/png", "data": B64}}]},
         "content.0.source.data"),
        ({"output": {"image_url": f"data:image/png;base64,{B64}"}}, "output.image_url"),
        ({"of": {"tomorrow": [f"data:image/png;base64,{B64}"]}}, "of.tomorrow.0"),
    ],
)  # fmt: skip
def test_media_become_their_digest_size_and_type(part: Any, place: str) -> None:
    for mode in ("full", "digest"):
        found = sealed({"role": "user", "content": [part]}, ContentPolicy(mode))["content"][0]  # type: ignore[arg-type]
        for step in place.split("."):
            found = found[int(step) if step.isdigit() else step]
        assert found == SEALED


def test_media_in_other_forms() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": B64, "format": "wav"}}
    assert sealed({"content": [audio]})["content"][0]["input_audio"]["data"]["media_type"] == "wav"
    raw = sealed({"parts": [{"inline_data": {"mime_type": "image/png", "data": PNG}}]})
    assert raw["parts"][0]["inline_data"]["data"]["bytes"] == len(PNG)
    url = sealed({"content": [{"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}]})
    assert url["content"][0]["image_url"]["url"] == "https://x.org/a.png"
    plain = {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "hello"},
    }
    assert sealed({"content": [plain]})["content"][0]["source"]["data"] == "hello"
    percent = sealed(user("data:text/plain,a%20b"))["content"]
    assert (percent["media_type"], percent["bytes"]) == ("text/plain", 3)
    for text in ("data: none of a URL", "data:image/png;base64,!!!", "data:"):
        assert sealed(user(text))["content"] == text


def test_labels_stay_and_texts_are_under_the_policy() -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"name":"X"}'},
    }
    message = {"role": "assistant", "content": "secret text", "name": "ana", "tool_calls": [call]}
    found = sealed(message, ContentPolicy("digest"))
    assert (found["role"], found["name"]) == ("assistant", "ana")
    assert found["content"].startswith("sha3-256:")
    assert found["tool_calls"][0]["id"] == "call_1"
    assert found["tool_calls"][0]["function"]["name"] == "f"
    assert found["tool_calls"][0]["function"]["arguments"].startswith("sha3-256:")
    used = {"type": "tool_use", "id": "t", "name": "f", "input": {"name": "Ana", "type": "patient"}}
    block = sealed({"role": "assistant", "content": [used]}, ContentPolicy("digest"))["content"][0]
    assert (block["name"], block["id"]) == ("f", "t")
    assert all(text.startswith("sha3-256:") for text in block["input"].values())
    redacting = ContentPolicy(redact=lambda text: text.replace("secret", "***"))
    assert sealed(message, redacting)["content"] == "*** text"
    assert sealed({"tool_call_id": "c", "content": [{"text": "my secret"}]}, redacting) == {
        "tool_call_id": "c",
        "content": [{"text": "my ***"}],
    }


def test_messages_that_a_model_returned_are_read_by_their_fields() -> None:
    found = sealed(Message(role="assistant", content="b"))
    assert (found["role"], found["content"]) == ("assistant", "b")
    assert "tool_calls" not in found


def test_the_whole_is_bounded_and_the_oldest_lose_their_texts_first() -> None:
    messages = [user(f"{number:04} " + "x" * 10_000) for number in range(300)]
    found: Any = sealed_messages(messages, ContentPolicy())[0]
    assert len(canonical(found)) < (1 << 20) + 60_000
    assert found[-1]["content"].startswith("0299 x")
    assert found[0]["content"] == (
        f"sha3-256:{hashlib.sha3_256(messages[0]['content'].encode()).hexdigest()} (10005 bytes)"
    )
    many: Any = sealed_messages([user("x")] * 5_000, ContentPolicy())[0]
    assert many[0] == "[cut: 2000 of 5000 entries kept]"
    assert len(many) == 2_001


def test_hostile_messages_cost_bounded_time() -> None:
    wide: list[Any] = []
    wide.extend([wide] * 1_000)
    deep: dict[str, Any] = {}
    deep["content"] = [deep, deep]
    image = user("data:image/png;base64," + base64.b64encode(bytes(20 << 20)).decode())
    started = time.perf_counter()
    for message in (wide, deep, image, {"content": object()}, None, 5):
        sealed(message, ContentPolicy(limits=Limits(total=2_000)))
    assert sealed(image)["content"]["bytes"] == 20 << 20
    assert time.perf_counter() - started < 15


def test_generators_and_iterators_are_not_consumed() -> None:
    for mode in ("full", "digest", "omit"):
        messages = (user(text) for text in "ab")
        parts = iter([{"type": "text", "text": "a"}])
        remembering = Remembering(Memory(), "session")
        ask({"messages": messages}, mode, remembering=remembering)
        ask({"messages": [{"role": "user", "content": parts}]}, mode, remembering=remembering)
        assert len(list(messages)) == 2
        assert len(list(parts)) == 1


# -- what an earlier capsule holds -----------------------------------------------------------------


@given(st.lists(values, max_size=6))
@settings(max_examples=200)
def test_the_hash_of_a_beginning_is_the_prompt_hash_it_had(messages: list[Any]) -> None:
    hashes = prefixes_of(messages)
    for count, found in enumerate(hashes, start=1):
        assert found == prompt_hash(messages[:count])


class Chat:
    """Capsules of one process, which remember each other."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.capsules: dict[str, Question] = {}

    def ask(self, arguments: dict[str, Any], whose: Any = "session") -> dict[str, Any]:
        remembering = Remembering(self.memory, whose)
        question = ask({"model": "m", **arguments}, remembering=remembering)
        capsule = uuid.uuid4()
        remembering.kept_by(capsule)
        self.capsules[str(capsule)] = question
        return question.arguments

    def rebuilt(self, arguments: dict[str, Any]) -> list[Any]:
        """Do what a reader does."""
        if "continues" not in arguments:
            return list(arguments["messages"])
        earlier = self.capsules[arguments["continues"]["capsule_id"]]
        assert earlier.prompt_hash == arguments["continues"]["hash"]
        assert earlier.message_count == arguments["continues"]["message_count"]
        return self.rebuilt(earlier.arguments) + arguments["messages"]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=30))
@settings(max_examples=200)
def test_a_conversation_can_be_rebuilt_whatever_way_it_went(steps: list[tuple[bool, int]]) -> None:
    """Turns are added, taken back, repeated; each capsule gives the whole of what was sent."""
    chat, messages = Chat(), [user("0")]
    for number, (added, back) in enumerate(steps):
        messages = messages[: max(1, len(messages) - back)]
        if added:
            messages = [*messages, user(str(number))]
        assert chat.rebuilt(chat.ask({"messages": messages, "system": "s"})) == [
            {"role": "system", "content": "s"},
            *messages,
        ]


def test_a_hundred_turns_cost_what_is_new_in_each() -> None:
    chat, alone = Chat(), 0
    messages: list[Any] = [{"role": "system", "content": "You are kind. " * 100}]
    tools = [
        {"type": "function", "function": {"name": f"f{n}", "description": "x" * 300}}
        for n in range(10)
    ]
    sizes = []
    for turn in range(100):
        messages = [*messages, user(f"question {turn} " * 20)]
        sizes.append(len(canonical(chat.ask({"messages": messages, "tools": tools}))))
        alone += len(canonical(Chat().ask({"messages": messages, "tools": tools})))
        messages = [*messages, {"role": "assistant", "content": f"answer {turn} " * 40}]
    assert sum(sizes) < alone / 20
    assert max(sizes[1:]) < 2_500


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (({"messages": [user("a")]}, "s1"), ({"messages": [user("a"), user("b")]}, "s2")),
        (({"messages": [user("a")], "system": "x"}, "s"), ({"messages": [user("a")], "system": "y"}, "s")),
        (({"messages": [user("a")]}, "s"), ({"messages": [user("a")], "system": "y"}, "s")),
        (({"messages": [user("a")]}, "s"), ({"messages": [user("A"), user("b")]}, "s")),
        (({"messages": [user("a"), user("b")]}, "s"), ({"messages": [user("a")]}, "s")),
    ],
)  # fmt: skip
def test_what_does_not_begin_alike_or_is_another_conversation_is_sealed_whole(
    one: Any, other: Any
) -> None:
    chat = Chat()
    chat.ask(*one)
    assert "continues" not in chat.ask(*other)


def test_a_retry_is_not_named_by_what_follows() -> None:
    chat = Chat()
    chat.ask({"messages": [user("a")]})
    retried = [chat.ask({"messages": [user("a")]})["continues"]["capsule_id"] for _ in range(3)]
    assert set(retried) == {next(iter(chat.capsules))}


def test_of_nobodys_conversation_nothing_is_remembered() -> None:
    chat = Chat()
    assert whose(NOBODY, None) is None
    for _ in range(2):
        told = chat.ask({"messages": [user("a")], "tools": [{"name": "f"}]}, whose(NOBODY, None))
        assert "continues" not in told
        assert "definitions" in told["tools"]


@pytest.mark.parametrize(
    "messages",
    [[user(f"m{n}") for n in range(2_001)], [user("x" * 15_000) for _ in range(120)]],
    ids=["too many", "too large"],
)
def test_a_capsule_that_holds_a_conversation_cut_is_never_named(messages: list[Any]) -> None:
    chat = Chat()
    for more in ([], [user("new")]):
        assert "continues" not in chat.ask({"messages": [*messages, *more]})
    assert "continues" not in chat.ask({"messages": messages[:50]})
    told = chat.ask({"messages": [*messages, user("new")]})
    assert told["continues"]["message_count"] == 50


def test_it_forgets_the_oldest() -> None:
    chat = Chat()
    for number in range(5_000):
        chat.memory.keep([number], uuid.uuid4())
    assert chat.memory.find(0) is None
    assert chat.memory.find(4_999) is not None
    assert len(chat.memory._known) <= 4_096
