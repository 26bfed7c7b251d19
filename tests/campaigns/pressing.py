"""Pressing: Ctrl-C in a notebook, at moments drawn by chance; all that its cells began has one capsule."""

from __future__ import annotations

import importlib.util
import random
import tempfile
from pathlib import Path

from notebooks import opened, storm


def run(chances: random.Random, deadline: float, rounds: int = 1_000_000) -> tuple[list[str], str]:
    """Interrupt cells until the deadline; return what was broken, and the figures."""
    if not (importlib.util.find_spec("ipykernel") and importlib.util.find_spec("jupyter_client")):
        return [], "not run: ipykernel or jupyter_client is not installed"
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        opened(Path(directory)) as notebook,
    ):
        hits, problems = storm(notebook, chances, deadline, rounds)
    cells = ", ".join(f"{count} of {kind}" for kind, count in hits.items())
    return problems, f"{hits.total()} cells interrupted: {cells}"
