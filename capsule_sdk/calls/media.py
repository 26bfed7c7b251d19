"""Media: images, recordings and files in questions and answers, which are sealed by digest and size.

One shape for all of them: ``{"media_type": …, "bytes": …, "sha3_256": …}``. The digest is that of the decoded
content, so that whoever kept the file can compare it. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from ..content import label
from ..content.readers import Marker

__all__ = ["decoded", "digested", "in_data_url"]

_URL_SAFE: Final = {ord("-"): "+", ord("_"): "/", **{ord(blank): None for blank in "\r\n\t "}}
_TO_TRANSLATE: Final = "-_\r\n\t "


def decoded(text: str) -> bytes | None:
    """Return the content of a base64 text, also of several put one behind the other; ``None`` if it is none.

    Either alphabet (RFC 4648), broken into lines or not, padded or not.
    """
    if any(character in text for character in _TO_TRANSLATE):
        text = text.translate(_URL_SAFE)
    try:
        end = text.find("=")
        if end < 0:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        if not text[end:].strip("="):
            return base64.b64decode(text, validate=True)
        pieces = re.findall("[^=]+=*", text)
        return b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except (ValueError, binascii.Error):
        return None


def in_data_url(url: str) -> tuple[bytes, str] | None:
    """Return the content and the media type of a ``data:`` URL (RFC 2397); ``None`` if it is none."""
    head, comma, _ = url[:1024].partition(",")
    if not comma or head[:5] != "data:":
        return None
    start = len(head) + 1
    if not head.endswith(";base64"):
        return unquote_to_bytes(url[start:]), head[5:]
    content = decoded(url[start:])
    return None if content is None else (content, head[5:].removesuffix(";base64"))


def digested(content: bytes, media_type: Any = "", *, hashing: bool = True) -> dict[str, Any]:
    """Return what stands for a medium.

    Args:
        content: its bytes.
        media_type: as it was told; of what nobody told, none is made up.
        hashing: whether its digest may be told.

    """
    kind = {"media_type": Marker(label(media_type))} if media_type else {}
    digest = {"sha3_256": Marker(hashlib.sha3_256(content).hexdigest())} if hashing else {}
    return {**kind, "bytes": len(content), **digest}
