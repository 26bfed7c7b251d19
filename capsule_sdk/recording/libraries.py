"""Libraries: what a store takes (SQLAlchemy, qp-capsule, psycopg), imported once, where no signal handler runs.

An import that a signal handler breaks off cannot be made good: Python forgets the package and keeps the modules
in it, and SQLAlchemy's do not come together again. One Ctrl-C at the first record would end all recording.
"""

from __future__ import annotations

from contextlib import suppress

from ..interrupts import undisturbed

__all__ = ["load"]

#: Seconds that are waited for the import, which may wait for one that its caller is in the middle of.
PATIENCE = 30.0
#: What has been imported: for every store, and for PostgreSQL.
_loaded: set[bool] = set()


def load(url: str | None = None) -> None:
    """Import what the store at ``url`` takes. Whoever is interrupted meanwhile finds it there later."""
    is_server = url is not None and url.startswith("postgres")
    if is_server not in _loaded:
        undisturbed(lambda: _load(is_server=is_server), PATIENCE)


def _load(*, is_server: bool) -> None:
    from .. import chain  # noqa: F401, PLC0415 - what all this is for
    from . import checkpointing, outbox, whereabouts  # noqa: F401, PLC0415 - see above

    if is_server:
        with suppress(ImportError):  # said where the store is opened
            import psycopg  # noqa: F401, PLC0415 - see above
    _loaded.add(is_server)
