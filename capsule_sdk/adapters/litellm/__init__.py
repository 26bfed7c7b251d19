"""LiteLLM: ``litellm.callbacks = [CapsuleLogger()]`` makes every call to a model one capsule.

The caller's own outcome decides how a call ended: LiteLLM's public entry points are wrapped (`entries`),
returned streams are traced (`streams`), and LiteLLM's hooks only add what they alone know, and stand in
for functions that were taken from LiteLLM before they were wrapped (`hooks`).
"""

from __future__ import annotations

try:
    import litellm as _litellm  # noqa: F401 - the adapter is of no use without it
except ImportError as error:
    raise ImportError("CapsuleLogger needs LiteLLM: pip install capsuled") from error

from .logger import CapsuleLogger

__all__ = ["CapsuleLogger"]
