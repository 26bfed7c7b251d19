"""An entry: one record of a chain as it is stored. Nothing about it has been checked.

Databases keep content and seal apart, files keep both in one object. Either way the stored text is what
counts (CPS 3.5): it goes out again as it came in, and no number is printed anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

__all__ = ["SEAL_FIELDS", "UUID", "Columns", "Entry", "moment", "section"]

#: What CPS puts beside the content, outside the hash.
SEAL_FIELDS: Final = ("hash", "signature", "signature_pq", "signed_at", "signed_by")
#: How an id is spelled.
UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Columns(NamedTuple):
    """What a database row is found by. The sealed content says the same, or one of them was altered."""

    sequence: object
    id: object
    type: object
    previous_hash: object
    session_id: object
    domain: object = None
    tenant_id: object = None
    #: whether the table has the last two: that of PostgreSQL has, that of SQLite has not
    of_tenants: bool = False


class Entry(NamedTuple):
    """One record as it is stored.

    Attributes:
        text: the content as JSON; where ``seal`` is ``None``, content and seal in one object.
        seal: the columns of the seal, in the order of `SEAL_FIELDS`.
        columns: what its row is found by; ``None`` in a file.
        fault: why the text is not JSON, where that is known already.

    """

    text: str
    seal: tuple[object, ...] | None = None
    columns: Columns | None = None
    fault: str | None = None

    def content(self) -> dict[str, Any] | None:
        """Return what the text holds; ``None`` where that is not a JSON object."""
        if self.fault is not None:
            return None
        try:
            document = json.loads(self.text)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None

    def record(self) -> dict[str, Any] | None:
        """Return content and seal in one; ``None`` where the text is not a JSON object."""
        document = self.content()
        return document if document is None or self.seal is None else {**document, **self._sealed()}

    def record_text(self) -> str:
        """Return content and seal as one JSON object, the content spelled as it is stored.

        The seal stands behind everything else: were there a key of the same name, the later one counts in
        JSON readers, as in qp-capsule.
        """
        if self.seal is None:
            return self.text
        body = self.text.strip()[:-1].rstrip()
        return f"{body}{'' if body == '{' else ', '}{json.dumps(self._sealed())[1:]}"

    def _sealed(self) -> dict[str, str | None]:
        assert self.seal is not None  # noqa: S101 - both callers have looked
        return {
            name: str(value) if value else (None if name == "signed_at" else "")
            for name, value in zip(SEAL_FIELDS, self.seal, strict=True)
        }


def section(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object that stands in another one; an empty one where there is none."""
    value = record.get(name)
    # what JSON gives is told faster than what an abstract class is asked for
    return value if type(value) is dict or isinstance(value, Mapping) else {}


def moment(text: Any) -> datetime:
    """Read a date, or a date and time, as ISO 8601 has it; UTC unless it names another zone.

    Raises:
        TypeError: that is not a text.
        ValueError: that is not a time.

    """
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
