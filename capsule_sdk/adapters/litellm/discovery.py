"""Discovery: which functions of LiteLLM make a call, where it offers them, and whether they ask a model.

An entry point is a function that LiteLLM has decorated with its `client`, or one that stands before such a
function. Those that LiteLLM does not decorate are listed here. No function is called, and no module imported
that is not listed: discovery looks at what LiteLLM has loaded.

The tests keep a list of what is found in each promised version, so that a new entry point is a red test.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from ...logs import log

__all__ = ["Entry", "asks_model", "entries", "module_named", "sync_name", "wrappers"]

#: Entry points that LiteLLM has not decorated, by the module that offers them.
UNDECORATED: dict[str, tuple[str, ...]] = {
    "litellm": (
        "completion", "acompletion", "embedding", "aembedding", "responses", "aresponses",
        "anthropic_messages", "completion_with_retries", "acompletion_with_retries",
        "responses_with_retries", "aresponses_with_retries", "moderation", "ocr", "aocr",
        "cancel_batch", "acancel_batch", "list_fine_tuning_jobs", "alist_fine_tuning_jobs",
        "create_assistants", "acreate_assistants", "get_assistants", "aget_assistants",
        "delete_assistant", "adelete_assistant", "create_thread", "acreate_thread", "get_thread",
        "aget_thread", "add_message", "a_add_message", "get_messages", "aget_messages",
        "run_thread", "arun_thread", "run_thread_stream", "arun_thread_stream",
        "anthropic_messages_handler",
    ),
    "litellm.anthropic_interface.messages": ("create", "acreate"),
}  # fmt: skip

#: Modules that a LiteLLM may load later than others; what they offer has to be found now.
LATE = ("litellm.google_genai", "litellm.interactions", "litellm.vector_stores")

#: Parts of LiteLLM whose functions are theirs alone: providers, servers, loggers, and what they share.
PRIVATE = frozenset({
    "caching", "integrations", "litellm_core_utils", "llms", "proxy", "router", "router_rust",
    "router_strategy", "router_utils", "rust_bridge", "secret_managers", "types", "utils",
})  # fmt: skip

#: Names that say what they do only together with the module that offers them.
GENERIC = frozenset({
    "cancel", "create", "delete", "get", "list", "list_versions", "retrieve", "retrieve_content",
    "search", "update",
})  # fmt: skip

#: Calls for which a model works, though they read like one of `MANAGING`.
ASKING = frozenset({
    "anthropic.messages.create", "create_batch", "create_fine_tuning_job", "create_interaction",
    "create_run", "generate_content", "generate_content_stream", "interactions.create",
    "video_create_character",
})  # fmt: skip

#: Words in the name of a call that reads, lists, keeps or removes something at a provider, and asks no model.
MANAGING = frozenset({
    "add", "cancel", "content", "create", "delete", "file", "get", "list", "retrieve", "search",
    "secret", "session", "skills", "status", "update", "upload",
})  # fmt: skip
#: Calls that ask no model either, without such a word. What `ingest` has embedded are calls of their own.
OTHERS = frozenset({"code_interpreter_tool", "ingest", "run_code"})


class Entry(NamedTuple):
    """An entry point, in one of the places where it can be had.

    Attributes:
        name: what it is called in a capsule: ``completion``, ``interactions.acreate``.
        module: the module that offers it.
        attribute: its name there.
        function: the function.
        inner: whether LiteLLM's own functions look it up there too, for a call that is under way already.

    """

    name: str
    module: types.ModuleType
    attribute: str
    function: Any
    inner: bool


@functools.cache
def asks_model(name: str) -> bool:
    """Tell whether a model works for calls of the entry point with this name.

    One that nobody knows yet is taken for such a call: it is better counted with an unknown cost than not.
    """
    name = sync_name(name)
    if name in ASKING:
        return True
    words = name.rpartition(".")[2].split("_")
    return name not in OTHERS and not any(word in MANAGING for word in words)


def sync_name(name: str) -> str:
    """Return the name without the ``a`` of an async twin."""
    place, dot, last = name.rpartition(".")
    if last.startswith("a_"):
        last = last[2:]
    elif last.startswith("a") and last not in ("add_message", "anthropic_messages"):
        last = last[1:]
    return f"{place}{dot}{last}"


def entries() -> Iterator[Entry]:
    """Yield all entry points of this LiteLLM, first where users find them."""
    places = dict.fromkeys((*UNDECORATED, *LATE, *_places()))
    named: dict[int, str] = {}
    for place in sorted(
        places, key=lambda place: (place.endswith(".main"), place.count("."), place)
    ):
        module = module_named(place)
        if module is None:
            continue
        inner = place.rpartition(".")[2] in ("main", "endpoint_factory")
        for attribute, function in list(vars(module).items()):
            listed = attribute in UNDECORATED.get(place, ())
            if attribute.startswith("_") or not isinstance(function, types.FunctionType):
                continue
            if listed or _is_decorated(function):
                name = named.setdefault(id(function), _name(place, attribute))
                yield Entry(name, module, attribute, function, inner)


def _places() -> Iterator[str]:
    """Yield the packages of LiteLLM that are loaded, and their ``main`` modules, unless they are private."""
    for name, module in list(sys.modules.items()):
        parts = name.split(".")
        if parts[0] != "litellm" or (len(parts) > 1 and parts[1] in PRIVATE):
            continue
        if parts[-1] == "main" or hasattr(module, "__path__"):
            yield name


def module_named(name: str) -> Any:
    """Return a module of LiteLLM; ``None`` where this one has none of that name, or none that can be loaded."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - an optional part of LiteLLM that does not load here
        log.debug("entry points left out", module=name, error=repr(error))
        return None


def _is_decorated(function: Any) -> bool:
    """Tell whether LiteLLM's `client` has made this function, or one that it stands before."""
    made = wrappers()
    for _ in range(4):
        if getattr(function, "__code__", None) in made:
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def wrappers() -> tuple[types.CodeType, ...]:
    """Return the code of the functions that LiteLLM's `client` makes: a sync one, and an async one."""
    import litellm.utils as utils  # noqa: PLC0415, PLR0402 - the module, not what it exports

    code = getattr(getattr(utils, "client", None), "__code__", None)
    return tuple(
        const for const in getattr(code, "co_consts", ()) if isinstance(const, types.CodeType)
    )


def _name(place: str, attribute: str) -> str:
    """Return what an entry point is called in a capsule."""
    if place == "litellm" or sync_name(attribute) not in GENERIC:
        return attribute
    package = place.removeprefix("litellm.").removesuffix(".main")
    return f"{package.replace('anthropic_interface', 'anthropic')}.{attribute}"
