"""Labels: names and ids of a record, as they may be written anywhere: without secrets, and short.

A record takes its labels through here when it is made, so nothing that is written of it, journal, backlog or
chain, has ever seen them otherwise. What has passed once comes back as it is, as a journal is read again.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from ..content import label

__all__ = ["labelled"]

#: Bytes that are kept of a label that is too long.
_KEPT: Final = 512
#: Bytes that are not too long: those kept, and the marker that says that it is cut.
_LONGEST: Final = 640
#: Characters below which the answer is kept in mind: the same labels come with every call.
_SHORT: Final = 128


def labelled(value: Any) -> str:
    """Return a label as a record may hold it.

    >>> labelled("nightly"), labelled("token=hunter2")
    ('nightly', 'token=[secret]')
    """
    return _kept(value) if type(value) is str and len(value) < _SHORT else _labelled(value)


def _labelled(value: Any) -> str:
    whole = label(value, _LONGEST)
    return whole if len(whole.encode("utf-8", "replace")) <= _LONGEST else label(value, _KEPT)


_kept = lru_cache(maxsize=4096)(_labelled)
