"""Content: any Python value -> JSON that every language hashes alike, bounded, redacted, free of secrets.

``policy`` walks a value, ``readers`` take apart each kind of it (``fields`` models, ``libraries`` arrays and
tables, ``faults`` exceptions, ``texts`` moments and paths) by what ``inert`` can see without running code of
the value's class. ``canonical_json`` writes texts, numbers and moments, ``secret_names`` knows which names
hide their values; ``secret_shapes`` finds secrets in texts, by their own shape (``secret_keys``) or their place
(``secret_markup``, ``secret_commands``). The package imports nothing of the rest of the SDK.
"""

from .canonical_json import JSON, canonical, decimal_text, digest, utc
from .inert import instance, is_builtin, type_name
from .policy import SECRET, ContentPolicy, Limits, Mode, label, safe

__all__ = [
    "JSON",
    "SECRET",
    "ContentPolicy",
    "Limits",
    "Mode",
    "canonical",
    "decimal_text",
    "digest",
    "instance",
    "is_builtin",
    "label",
    "safe",
    "type_name",
    "utc",
]
