"""Every error that this package raises to its users. A leaf.

    CapsuleSDKError
    ├── ConfigurationError   (also ValueError)    a setting or an option is wrong
    │   └── AuthorityError                        an authority that does not exist or is incomplete
    ├── DecorationError      (also TypeError)     @capsuled on something that cannot be recorded
    ├── TaskClosedError      (also RuntimeError)  a task was written to after it had ended
    ├── RecordingError       (also RuntimeError)  strict mode: a capsule is not in the chain
    │   └── CapsuleRejected                       one capsule that no store will ever take
    ├── ChainUnavailable     (also OSError)       the store cannot be reached or locked just now
    └── EvidenceError        (also ValueError)    a chain cannot be read, or evidence written out
        └── ChainMissing                          there is no file where it should be

Of what records, only decoration, configuration and use of a closed task raise. What goes wrong while
recording is logged and counted instead, unless strictness was asked for with ``swallow_errors=False``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .outward import message

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "AuthorityError",
    "CapsuleRejected",
    "CapsuleSDKError",
    "ChainMissing",
    "ChainUnavailable",
    "ConfigurationError",
    "DecorationError",
    "EvidenceError",
    "RecordingError",
    "TaskClosedError",
]


class CapsuleSDKError(Exception):
    """Root of the tree: ``except CapsuleSDKError`` catches whatever this package raises.

    What a chain or a driver has put into its text steers no terminal and shows no password of a URL.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(message(one) if isinstance(one, str) else one for one in args))


class ConfigurationError(CapsuleSDKError, ValueError):
    """A setting, an environment variable or an option has a value that cannot be used."""


class AuthorityError(ConfigurationError):
    """An authority that CPS 1.4 does not know, or one that lacks what its type needs."""


class DecorationError(CapsuleSDKError, TypeError):
    """``@capsuled`` stands on something whose calls cannot be recorded as one task each."""


class TaskClosedError(CapsuleSDKError, RuntimeError):
    """A task was written to after it had ended: its capsule is sealed or about to be."""


class RecordingError(CapsuleSDKError, RuntimeError):
    """Strict mode only: a capsule could not be brought into the chain."""


class CapsuleRejected(RecordingError):  # noqa: N818 - the verdict on one capsule
    """One capsule cannot be sealed or stored, whatever one does; the rest of its group can.

    Attributes:
        capsule_id: the id of that capsule.
        reason: what is wrong with it.

    """

    def __init__(self, capsule_id: str, reason: str) -> None:
        super().__init__(f"capsule {capsule_id} cannot be sealed or stored: {reason}")
        self.capsule_id = capsule_id
        self.reason = reason


class ChainUnavailable(CapsuleSDKError, OSError):  # noqa: N818 - names a state that passes, not a fault
    """The store cannot be reached or locked right now; the same append may succeed later.

    Attributes:
        added: how many of the capsules got there, as far as that is known.

    """

    added = 0


class EvidenceError(CapsuleSDKError, ValueError):
    """A chain could not be read, or what was asked of it could not be written out."""


class ChainMissing(EvidenceError):  # noqa: N818 - names a state: a first process may not have written yet
    """There is no file where a chain should be.

    Attributes:
        path: where it should be.

    """

    def __init__(self, path: Path, remedy: str) -> None:
        super().__init__(f"there is no chain at {path}: {remedy}")
        self.path = path
