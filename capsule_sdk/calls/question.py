"""What was asked for: the arguments of a call -> what CPS 1.5 says of them (``tool_calls[0].arguments``).

Everything among the arguments that may determine the answer is told: the prompt by its hash and the roles of
its messages, the tools by their names and digest, other content by its digest, and every parameter as it is,
known or not. What is none of that (keys, addresses, clients, headers, a framework's own) is the adapter's to
name: it says nothing of the question, and is neither sealed nor hashed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..content import JSON, ContentPolicy, label
from ..content.readers import Marker
from ..logs import guarded
from .conversation import sealed_messages, taken_apart
from .hashing import as_redacted, prompt_hash, request_hash, tools_digest
from .memory import Remembering, prefixes_of
from .objects import get
from .parts import PROMPTS, TOOLS, Parts
from .prompts import roles_of

__all__ = ["REDACTED", "Question", "hashes_of", "question_of"]

#: Names of tools that are listed.
NAMES = 128
#: In ``arguments.hashed``: the hashes are of what ``redact`` left. Without it, of what was sent.
REDACTED = "redacted"


class Question(NamedTuple):
    """What was asked for, as it may be sealed.

    Attributes:
        prompt: the prompt as it was given.
        prompt_hash: SHA3-256 over the canonical JSON of all messages, as ``redact`` leaves them; ``None`` where
            texts are omitted.
        message_count: how many messages there are.
        arguments: the rest of ``tool_calls[0].arguments``: roles, parameters, tools, request_hash.

    """

    prompt: Any
    prompt_hash: str | None
    message_count: int
    arguments: dict[str, Any]


def question_of(
    given: Mapping[str, Any],
    policy: ContentPolicy,
    *,
    beside: Callable[[str], bool],
    model: str,
    is_chat: bool = True,
    remembering: Remembering | None = None,
) -> Question:
    """Return what these arguments ask for.

    Args:
        given: the arguments of the call by name; ``None`` counts as not given.
        policy: what of it may be sealed.
        beside: tells whether an argument of this name says nothing of what is asked.
        model: the model as the caller named it.
        is_chat: whether a bare text among the messages is the user's.
        remembering: what earlier capsules hold, where the messages are to be sealed; else they are only hashed.

    """
    hashing = policy.mode != "omit"
    parts = Parts(given, beside=beside, hashing=hashing, is_chat=is_chat, policy=policy)
    arguments = _arguments(parts, policy)
    hashed = None
    if hashing:
        prefixes: Sequence[str] = ()
        if remembering is not None and parts.messages is parts.prompt:
            prefixes = prefixes_of(as_redacted(parts.messages, policy))
        hashed = prefixes[-1] if prefixes else prompt_hash(as_redacted(parts.prompt, policy))
        if policy.redact is not None:
            arguments["hashed"] = REDACTED
        arguments["request_hash"] = _request_hash(parts, model, hashed, arguments, policy)
        if remembering is not None:
            with guarded("call.messages"):
                _add_in_full(arguments, parts, policy, prefixes, remembering)
    return Question(parts.prompt, hashed, len(parts.messages), arguments)


def hashes_of(
    request: Mapping[str, Any],
    *,
    model: str,
    parameters: Iterable[str],
    redact: Callable[[str], str] | None = None,
) -> tuple[str, str]:
    """Return the prompt_hash and the request_hash that a kept request has, to compare with those of a capsule.

    Args:
        request: the arguments of the call, or the body of the request, as it was kept.
        model: the model as the capsule names it.
        parameters: the names in the capsule's ``parameters``: all others say nothing of what was asked.
        redact: what ``configure(redact=...)`` had, where the capsule says ``"hashed": "redacted"``.

    """
    told = {*parameters, *PROMPTS, *TOOLS}
    question = question_of(
        request, ContentPolicy(redact=redact), beside=lambda name: name not in told, model=model
    )
    return str(question.prompt_hash), str(question.arguments["request_hash"])


def _arguments(parts: Parts, policy: ContentPolicy) -> dict[str, JSON]:
    """Return what is told in every case."""
    arguments: dict[str, JSON] = {}
    before = ["system"] * len(parts.system)
    if roles := roles_of(parts.prompt, before=before, is_chat=parts.is_chat):
        arguments["roles"] = roles
    if parts.parameters:
        arguments["parameters"] = policy.value(parts.parameters)
    if parts.tools:
        tools: dict[str, JSON] = {"names": _names(parts.tools)}
        if parts.hashing:
            tools["digest"] = (
                tools_digest(parts.tools)
                if policy.redact is None
                else prompt_hash(as_redacted(parts.tools, policy))
            )
        arguments["tools"] = tools
    return arguments


def _request_hash(
    parts: Parts, model: str, hashed: str, arguments: Mapping[str, Any], policy: ContentPolicy
) -> str:
    ours: Callable[[str], str] = str if policy.redact is None else Marker  # not for `redact` to see
    determining = {**parts.parameters, "model": ours(model)}
    if parts.prompt_name is not None:
        determining[parts.prompt_name] = ours(hashed)
    if parts.tools:
        determining["tools"] = ours(arguments["tools"]["digest"])
    return request_hash(determining, policy)


def _add_in_full(
    arguments: dict[str, Any],
    parts: Parts,
    policy: ContentPolicy,
    prefixes: Sequence[str],
    remembering: Remembering,
) -> None:
    """Add the messages and other content, as far as no earlier capsule holds them."""
    beside = tuple(parts.system_digests)
    earlier = remembering.beginning(prefixes, beside)
    new = [{"role": "system", "content": text} for text in parts.system] + parts.messages
    if earlier is not None:
        capsule, count = earlier
        new = parts.messages[count:]
        arguments["continues"] = {
            "capsule_id": str(capsule),
            "message_count": count,
            "hash": prefixes[count - 1],
        }
    arguments["messages"], held_whole = sealed_messages(new, policy, is_chat=parts.is_chat)
    if new and held_whole:  # without new ones the earlier capsule is as good for whoever comes next
        remembering.holds(prefixes, beside)
    if parts.content:
        redacting = parts.policy.redact is not None
        content = {
            name: taken_apart(value, redacting=redacting) for name, value in parts.content.items()
        }
        arguments["content"] = policy.value(content)
    if parts.tools:
        offered = arguments["tools"]
        holder = remembering.tools(offered["digest"])
        if holder is not None:
            offered["definitions_in"] = str(holder)
        else:
            offered["definitions"] = policy.value(parts.tools)
            remembering.holds_tools(offered["digest"])


def _names(tools: list[Any]) -> list[JSON]:
    """Return the names of the tools offered, in order; a tool without one by its type."""
    names: list[JSON] = list(_each_name(tools))
    if len(names) > NAMES:
        names[NAMES:] = [f"[cut: {NAMES} of {len(names)} entries kept]"]
    return names


def _each_name(tools: list[Any]) -> Iterator[str]:
    """Yield a name for each tool: OpenAI's, Anthropic's, of the Responses API and of Gemini."""
    for tool in tools:
        if type(tool) is dict and type(function := tool.get("function")) is dict:  # most are
            yield label(function.get("name") or "function", limit=128)
            continue
        declared = get(tool, "function_declarations") or get(tool, "functionDeclarations")
        if isinstance(declared, list | tuple):  # Gemini: several in one
            yield from _each_name(list(declared))
            continue
        within = get(tool, "function") or get(tool, "custom") or tool
        name = get(within, "name") or get(tool, "server_label") or get(tool, "type")
        if isinstance(name, str):
            yield label(name, limit=128)
        elif isinstance(tool, Mapping) and tool:  # Gemini: {"google_search": {}}
            yield label(next(iter(tool)), limit=128)
        else:
            yield label(getattr(tool, "__name__", None) or type(tool).__name__, limit=128)
