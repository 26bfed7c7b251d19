"""The parts of a question: the arguments of a call, sorted into prompt, tools, other content and parameters.

Sorted by their names, which the wire formats of OpenAI, Anthropic, Google and Cohere, and their SDKs, have
given them. What has another name is a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from ..content import ContentPolicy, instance
from ..content.readers import Marker
from ..content.secret_names import names_secret
from .hashing import as_redacted, content_digest
from .objects import entries_of, items_of
from .schemas import shape_of, shape_of_alias

__all__ = ["PROMPTS", "TOOLS", "Parts"]

#: Where the prompt of a call stands, by the first of these arguments that it has.
PROMPTS = ("messages", "input", "prompt", "query", "contents", "file", "image", "document")
#: What comes before the messages, as the system's.
SYSTEM = (
    "system",
    "instructions",
    "system_instruction",
    "systemInstruction",
    "litellm_system_prompt",
)
#: Other arguments that hold content.
CONTENT = frozenset(
    {
        *PROMPTS, *SYSTEM, "assistant_continue_message", "documents", "examples", "input_reference", "mask",
        "prediction", "prompt_variables", "suffix", "user_continue_message",
    }
)  # fmt: skip
#: Definitions of tools; and arguments that hold further arguments.
TOOLS = ("tools", "functions")
NESTED = ("config", "generation_config", "generationConfig", "extra_body")
#: Among these, what is no part of the question: how the request is sent. A header may hold any secret.
SENDING = frozenset(
    {
        "default_headers", "default_query", "extra_headers", "extra_query", "headers", "http_options",
        "httpOptions",
    }
)  # fmt: skip
_AS_IT_IS = ContentPolicy()


class Parts:
    """The arguments of one call, sorted.

    Args:
        given: the arguments by name; ``None`` counts as not given.
        beside: tells whether an argument of this name says nothing of what is asked.
        hashing: whether what holds content may be told by its digest.
        is_chat: whether a bare text among the messages is the user's.
        policy: whose ``redact`` is called on what is told by its digest.

    Attributes:
        prompt_name: the argument that holds the prompt.
        prompt: the prompt as it was given.
        messages: the same as a list.
        parameters: all other arguments by name, with digests in the place of content.
        tools: definitions of the tools offered.
        system: what comes before the messages.
        system_digests: its digests.
        content: other content, by name.

    """

    __slots__ = (
        "content", "hashing", "is_chat", "messages", "parameters", "policy", "prompt", "prompt_name", "system",
        "system_digests", "tools",
    )  # fmt: skip

    def __init__(
        self,
        given: Mapping[str, Any],
        *,
        beside: Callable[[str], bool],
        hashing: bool,
        is_chat: bool,
        policy: ContentPolicy = _AS_IT_IS,
    ) -> None:
        self.policy = policy
        self.hashing, self.is_chat = hashing, is_chat
        self.prompt_name: str | None = None
        for name in PROMPTS:
            if given.get(name) is not None:
                self.prompt_name = name
                break
        self.prompt: Any = None if self.prompt_name is None else given[self.prompt_name]
        self.messages: list[Any] = [] if self.prompt is None else [self.prompt]
        if instance(self.prompt, list):
            self.prompt = self.messages = cast("list[Any]", items_of(self.prompt))
        self.parameters: dict[str, Any] = {}
        self.tools: list[Any] = []
        self.system: list[Any] = []
        self.system_digests: list[str] = []
        self.content: dict[str, Any] = {}
        asked = {
            name: value
            for name, value in given.items()
            if value is not None
            and not beside(name)
            and name not in ("model", self.prompt_name)
            and not names_secret(name)
        }
        self._sort(asked, self.parameters)

    def _sort(self, given: Mapping[str, Any], kept: dict[str, Any], within: str = "") -> None:
        """Sort these arguments, and those that are nested in them."""
        for name, value in given.items():
            if value is None or name in SENDING:
                continue
            if name in TOOLS:
                items = items_of(value)
                self.tools += [value] if items is None else items
            elif name in CONTENT:
                kept[name] = Marker(self._digest(value) if self.hashing else "[omitted]")
                if name in SYSTEM and self.is_chat:
                    self.system.append(value)
                    self.system_digests.append(kept[name])
                else:
                    self.content[within + name] = value
            elif not within and name in NESTED and (inner := entries_of(value)) is not None:
                kept[name] = {}
                self._sort(inner, kept[name], f"{name}.")
            else:
                told = shape_of(value) if instance(value, type) else shape_of_alias(value)
                kept[name] = value if told is None else told

    def _digest(self, value: Any) -> str:
        return content_digest(as_redacted(value, self.policy))
