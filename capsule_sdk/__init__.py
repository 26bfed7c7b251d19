"""Evidence for what AI agents do: every LLM call, tool and task as one signed, hash-chained capsule.

    import litellm
    from capsule_sdk import CapsuleLogger, capsule_scope, capsuled

    litellm.callbacks = [CapsuleLogger()]

    @capsuled(agent_id="trading-bot", domain="finance")
    async def rebalance(portfolio: str) -> str: ...

Public names only. Importing this touches no file, starts no thread, and imports neither LiteLLM nor SQLAlchemy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .recording.default import aflush, configure, flush, get_recorder, shutdown
from .records.authority import Authority
from .records.task import Task
from .scopes.decorator import bind_scope, capsuled
from .scopes.log_lines import add_capsule_ids
from .scopes.options import from_arg
from .scopes.scope import capsule_scope, current_scope, current_task

if TYPE_CHECKING:
    from .adapters.litellm import CapsuleLogger

__all__ = [
    "Authority",
    "CapsuleLogger",
    "Task",
    "add_capsule_ids",
    "aflush",
    "bind_scope",
    "capsule_scope",
    "capsuled",
    "configure",
    "current_scope",
    "current_task",
    "flush",
    "from_arg",
    "get_recorder",
    "shutdown",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "CapsuleLogger":  # LiteLLM takes seconds to import; only those who use it wait
        from .adapters.litellm import CapsuleLogger  # noqa: PLC0415

        return CapsuleLogger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
