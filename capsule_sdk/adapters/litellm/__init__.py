"""LiteLLM: ``litellm.callbacks = [CapsuleLogger()]`` makes every call to a model one capsule.

The caller's own outcome decides how a call ended. `discovery` finds LiteLLM's public entry points,
`entries` wraps them, and each call through one is a `flight`, which ends with the value or the exception
that the caller gets, or with the end of the stream that he reads (`streams`; `reading` sees what LiteLLM
reads there, `unstreamed` what comes in the place of one). LiteLLM's events only add what they alone know;
they stand in for functions that were taken from LiteLLM before they were wrapped (`hooks`, `early`).
`selfcheck` says if a newer LiteLLM no longer passes the parts that this relies on.

`asked` and `answered` translate arguments and responses for `capsule_sdk.calls`, `pieces` streamed ones with
what LiteLLM has `dropped` of them; `refusals` tells a block from a failure. `lists` knows which loggers
record a call.
"""

from __future__ import annotations

try:
    import litellm as _litellm  # noqa: F401 - the adapter is of no use without it
except ImportError as error:
    raise ImportError("CapsuleLogger needs LiteLLM: pip install capsuled") from error

from .logger import CapsuleLogger

__all__ = ["CapsuleLogger"]
