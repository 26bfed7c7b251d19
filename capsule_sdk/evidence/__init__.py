"""Evidence: reading a chain, never writing it.

    from capsule_sdk.evidence import given_keys, open_source, verify

    verdict = verify(open_source("chain.json"), given_keys([public_key]))

formats      how records lie in files
sources      whatever holds a chain, opened for reading; selection: some of its records
showing      trees, sums and single records, for people
verifying    the verdict
exporting    files for somebody else
asking       whether a question that was kept is the one that was sealed
status       whether all that was recorded is in the chain

The names below are imported when they are first used: the processes that check records have no need of most.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exporting.export import export_chain, read_chain
    from .selection import Selection
    from .showing.tree import render_tree
    from .sources import open_source
    from .verifying.checkpoints import read_checkpoints
    from .verifying.keys import given_keys, keys_here
    from .verifying.verify import verify

__all__ = [
    "Selection",
    "export_chain",
    "given_keys",
    "keys_here",
    "open_source",
    "read_chain",
    "read_checkpoints",
    "render_tree",
    "verify",
]

_HOMES = {
    "Selection": ".selection",
    "export_chain": ".exporting.export",
    "given_keys": ".verifying.keys",
    "keys_here": ".verifying.keys",
    "open_source": ".sources",
    "read_chain": ".exporting.export",
    "read_checkpoints": ".verifying.checkpoints",
    "render_tree": ".showing.tree",
    "verify": ".verifying.verify",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
