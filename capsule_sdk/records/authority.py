"""Authority: who allowed an action (CPS 1.4). Spelling, checks, and what nesting leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..errors import AuthorityError
from .labels import labelled

if TYPE_CHECKING:
    from ..content import ContentPolicy

__all__ = ["Authority", "AuthorityName"]

#: What may be written for an authority's type; the third is CPS's spelling of the second.
AuthorityName: TypeAlias = Literal[
    "autonomous", "human-approved", "human_approved", "policy", "escalated"
]

#: What may be written -> what CPS 1.4 seals.
SPELLINGS = {
    "autonomous": "autonomous",
    "human-approved": "human_approved",
    "human_approved": "human_approved",
    "policy": "policy",
    "escalated": "escalated",
}


@dataclass(frozen=True, slots=True)
class Authority:
    """Under whose authority something is done.

    Args:
        type: ``"autonomous"``, ``"human-approved"`` (sealed in CPS's spelling, ``human_approved``),
            ``"policy"`` or ``"escalated"``.
        approver: who approved it.
        policy_reference: the policy that permitted it.
        escalation_reason: why it needed more than the usual authority.

    Raises:
        AuthorityError: the type is none of these; the message lists them.

    """

    type: AuthorityName = "autonomous"
    approver: str | None = None
    policy_reference: str | None = None
    escalation_reason: str | None = None

    def __post_init__(self) -> None:
        sealed = SPELLINGS.get(self.type) if isinstance(self.type, str) else None
        if sealed is None:
            raise AuthorityError(
                f"authority {self.type!r} does not exist; use one of "
                "'autonomous', 'human-approved', 'policy', 'escalated' (CPS 1.4)"
            )
        object.__setattr__(self, "type", sealed)

    @classmethod
    def from_options(
        cls,
        authority: AuthorityName | Authority | None,
        approver: str | None = None,
        policy_reference: str | None = None,
        escalation_reason: str | None = None,
    ) -> Authority | None:
        """Read the four options of a scope; ``None`` where it sets no authority of its own.

        Raises:
            AuthorityError: an unknown type, or details without the authority they belong to.

        """
        details = {
            "approver": approver,
            "policy_reference": policy_reference,
            "escalation_reason": escalation_reason,
        }
        given = [name for name, value in details.items() if value is not None]
        if isinstance(authority, Authority):
            if given:
                raise AuthorityError(
                    f"{given[0]}= stands beside a whole Authority; put it inside: "
                    f"Authority({authority.type!r}, {given[0]}=...)"
                )
            return authority
        if authority is None:
            if given:
                raise AuthorityError(
                    f"{given[0]}= says nothing without a type; add authority='human-approved' "
                    "(or 'policy', 'escalated')"
                )
            return None
        return cls(authority, approver, policy_reference, escalation_reason)

    def as_link(self) -> dict[str, str]:
        """Return this authority as one link of ``authority.chain`` (CPS 1.4), empty fields left out."""
        link = {
            "type": self.type,
            "approver": self.approver,
            "policy_reference": self.policy_reference,
            "escalation_reason": self.escalation_reason,
        }
        return {name: value for name, value in link.items() if value is not None}

    def sealed_under(self, policy: ContentPolicy) -> Authority:
        """Return this as a record may hold it; the reason is content, as all that people write is."""
        approver, reference, reason = self.approver, self.policy_reference, self.escalation_reason
        if reason is not None:
            kept = policy.mode == "full"
            reason = labelled(policy.redacted(reason)) if kept else policy.text(reason)
        return Authority(
            self.type,
            None if approver is None else labelled(approver),
            None if reference is None else labelled(reference),
            reason,
        )
