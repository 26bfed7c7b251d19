"""Messages: a list of content blocks and a reason to stop."""

from __future__ import annotations

from typing import Final

from .blocks import read_block
from .choice import Choice
from .reading import NOISE, Taken

__all__ = ["ECHOES", "read_message"]

ECHOES: Final = NOISE | {
    "amazon-bedrock-invocationmetrics", "amazon-bedrock-invocationMetrics", "container", "model",
    "service_tier", "stop_sequence", "type", "usage",
}  # fmt: skip


def read_message(entry: Taken) -> list[Choice]:
    """Return what a message says."""
    choice = Choice()
    for block in entry.items("content"):
        read_block(choice, block)
    choice.ends(entry.take("stop_reason"))
    details = Taken(entry.take("stop_details"))
    if choice.finish.lower() == "refusal":
        kind, words = details.take("category", "type"), details.take("explanation")
        choice.blocks(reason=kind, explanation=words)
    choice.rest(details.rest(), of="stop_details")
    return [choice]
