"""Where the data stands in a report's page: between two pairs of tags, which occur nowhere else in it."""

from __future__ import annotations

from importlib import resources
from typing import Final, NamedTuple

__all__ = ["END", "MANIFEST", "RECORDS", "Page", "page"]

MANIFEST: Final = '<script type="application/json" id="manifest">'
RECORDS: Final = '<script type="text/plain" id="records">'
END: Final = "</script>"


class Page(NamedTuple):
    """The page without its data.

    Attributes:
        head: all up to the manifest.
        middle: what stands between the manifest and the records.
        tail: all behind the records.

    """

    head: str
    middle: str
    tail: str


def page() -> Page:
    """Read the page that was built from ``web/``."""
    text = (
        resources.files("capsule_sdk.evidence.formats.report")
        .joinpath("page.html")
        .read_text(encoding="utf-8")
    )
    head, _, rest = text.partition(MANIFEST)
    middle, _, tail = rest.partition(RECORDS)
    return Page(head + MANIFEST, middle + RECORDS, tail)
