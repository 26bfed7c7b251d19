"""What was asked for: the arguments of a call -> what CPS 1.5 says of them (``tool_calls[0].arguments``).

Everything among the arguments that may determine the answer is told: the prompt by its hash and the roles of
its messages, the tools by their names and digest, other content by its digest, and every parameter as it is,
known or not. What is none of that (keys, addresses, clients, headers, a framework's own) is the adapter's to
name: it says nothing of the question, and is neither sealed nor hashed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..content import JSON, ContentPolicy, label
from ..content.readers import Marker
from ..content.secret_names import names_secret
from .hashing import content_digest, prompt_hash, request_hash
from .prompts import field, roles_of

__all__ = ["PROMPTS", "Question", "question_of"]

#: Where the prompt of a call stands, by the first of these arguments that it has.
PROMPTS = ("messages", "input", "prompt", "query", "contents", "file", "image", "document")
#: What comes before the messages, by the roles that it has for the model.
SYSTEM = (
    "system",
    "instructions",
    "system_instruction",
    "systemInstruction",
    "litellm_system_prompt",
)
#: Other arguments that hold content: sealed as their digest.
CONTENT = frozenset(
    {
        *PROMPTS, *SYSTEM, "documents", "examples", "input_reference", "mask", "prediction", "prompt_variables",
        "suffix", "assistant_continue_message", "user_continue_message",
    }
)  # fmt: skip
#: Definitions of tools; and arguments that hold further arguments.
TOOLS = ("tools", "functions")
NESTED = ("config", "generation_config", "generationConfig", "extra_body")
#: Names of tools that are listed.
NAMES = 128


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked for, as it may be sealed.

    Attributes:
        prompt: the prompt as it was given.
        prompt_hash: SHA3-256 over the canonical JSON of all messages; ``None`` where texts are omitted.
        message_count: how many messages there are.
        arguments: the rest of ``tool_calls[0].arguments``: roles, parameters, tools, request_hash.

    """

    prompt: Any
    prompt_hash: str | None
    message_count: int
    arguments: dict[str, JSON]


def question_of(
    given: Mapping[str, Any],
    policy: ContentPolicy,
    *,
    beside: Callable[[str], bool],
    model: str,
    is_chat: bool = True,
) -> Question:
    """Return what these arguments ask for.

    Args:
        given: the arguments of the call by name; ``None`` counts as not given.
        policy: what of it may be sealed.
        beside: tells whether an argument of this name says nothing of what is asked.
        model: the model as the caller named it.
        is_chat: whether a bare text among the messages is the user's.

    """
    prompt_name = next((name for name in PROMPTS if given.get(name) is not None), None)
    prompt = None if prompt_name is None else given[prompt_name]
    messages = prompt if isinstance(prompt, list) else [] if prompt is None else [prompt]
    hashed = None if policy.mode == "omit" else prompt_hash(prompt)
    parts = _Parts(hashing=hashed is not None)
    parts.take(
        {
            name: value
            for name, value in given.items()
            if name not in (prompt_name, "model") and not names_secret(name) and not beside(name)
        },
        parts.parameters,
    )
    arguments: dict[str, JSON] = {}
    if roles := roles_of(prompt, before=["system"] * (parts.system * is_chat), is_chat=is_chat):
        arguments["roles"] = roles
    if parts.parameters:
        arguments["parameters"] = policy.value(parts.parameters)
    tools: dict[str, JSON] = {"names": _names(parts.tools)}
    if parts.tools:
        arguments["tools"] = tools
    if hashed is not None:
        determining = {"model": model, **parts.parameters}
        if prompt_name is not None:
            determining[prompt_name] = hashed
        if parts.tools:
            determining["tools"] = tools["digest"] = prompt_hash(parts.tools)
        arguments["request_hash"] = request_hash(determining)
    return Question(prompt, hashed, len(messages), arguments)


class _Parts:
    """The arguments of a call, sorted: parameters, definitions of tools, how many texts of the system."""

    __slots__ = ("hashing", "parameters", "system", "tools")

    def __init__(self, *, hashing: bool) -> None:
        self.hashing = hashing
        self.parameters: dict[str, Any] = {}
        self.tools: list[Any] = []
        self.system = 0

    def take(self, given: Mapping[str, Any], kept: dict[str, Any], *, nested: bool = False) -> None:
        """Sort these arguments, and those that are nested in them."""
        for name, value in given.items():
            if value is None:
                continue
            if name in TOOLS:
                self.tools += value if isinstance(value, list | tuple) else [value]
            elif name in CONTENT:
                self.system += name in SYSTEM
                kept[name] = Marker(content_digest(value) if self.hashing else "[omitted]")
            elif not nested and name in NESTED and (inner := _fields(value)) is not None:
                kept[name] = {}
                self.take(inner, kept[name], nested=True)
            else:
                kept[name] = value


def _fields(value: Any) -> Mapping[str, Any] | None:
    """Return the arguments that an argument holds: those of a mapping, or of a model of pydantic's."""
    if isinstance(value, Mapping):
        return value
    if hasattr(type(value), "__pydantic_fields__"):
        held: dict[str, Any] = object.__getattribute__(value, "__dict__")
        return held
    return None


def _names(tools: list[Any]) -> list[JSON]:
    """Return the names of the tools offered, in order; a tool without one by its type."""
    names: list[JSON] = list(_each_name(tools))
    if len(names) > NAMES:
        names[NAMES:] = [f"[cut: {NAMES} of {len(names)} entries kept]"]
    return names


def _each_name(tools: list[Any]) -> Iterator[str]:
    """Yield a name for each tool: OpenAI's, Anthropic's, of the Responses API and of Gemini."""
    for tool in tools:
        declared = field(tool, "function_declarations") or field(tool, "functionDeclarations")
        if isinstance(declared, list | tuple):  # Gemini: several in one
            yield from _each_name(list(declared))
            continue
        within = field(tool, "function") or field(tool, "custom") or tool
        name = field(within, "name") or field(tool, "server_label") or field(tool, "type")
        if isinstance(name, str):
            yield label(name, limit=128)
        elif isinstance(tool, Mapping) and tool:  # Gemini: {"google_search": {}}
            yield label(next(iter(tool)), limit=128)
        else:
            yield label(getattr(tool, "__name__", None) or type(tool).__name__, limit=128)
