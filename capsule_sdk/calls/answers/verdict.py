"""Verdict: how a call ended, as its answer itself tells (docs/decisions/0020).

Codes are told by what their words mean, not by a list of them: providers add new ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ...content import ContentPolicy, canonical, safe
from .choice import Choice
from .reading import fields, get, is_void, word

__all__ = ["Verdict", "error_of", "of_choices", "of_finish", "of_status"]


class Verdict(NamedTuple):
    """How a call ended.

    Attributes:
        status: success, failure, blocked or partial (CPS 1.6).
        code: the provider's code for it; no content.
        words: the provider's words for it, which may be content.
        ended: why it is partial.

    """

    status: str = "success"
    code: str = ""
    words: str = ""
    ended: str | None = None

    def error(self, policy: ContentPolicy) -> str | None:
        """Return what is sealed as the outcome's error."""
        if self.status not in ("failure", "blocked"):
            return None
        words = policy.text(self.words) if self.words else ""
        return ": ".join(filter(None, (self.code, words))) or "the provider reported no reason"


SUCCESS: Final = Verdict()
_ORDER: Final = ("success", "partial", "blocked", "failure")

_BLOCKED: Final = re.compile(
    r"safety|prohibit|blocklist|blocked|recitation|content_?filter|filtered|spii|guardrail|refus|moderat"
    r"|content_?policy|model_?armor|jailbreak|^language$"
)
_FAILED: Final = re.compile(
    r"error|fail|malformed|unexpected_tool|too_many_tool|missing_thought|exception|expired"
)
_CANCELLED: Final = re.compile(r"cancel|^abort")
_WAITS: Final = re.compile(
    r"queued?|pending|validating\w*|in_progress|incomplete|running|processing|finalizing|submitted|starting|background"
)


def of_finish(reason: str) -> Verdict:
    """Return what a reason to stop means; one that is not known is a success whose reason is named."""
    code = reason.lower()
    if _BLOCKED.search(code):
        return Verdict("blocked", reason)
    if _FAILED.search(code):
        return Verdict("failure", reason)
    if _CANCELLED.search(code):
        return Verdict("partial", reason, ended="cancelled")
    return SUCCESS


def of_status(status: str) -> Verdict:
    """Return what the status of an answer or a job means."""
    code = status.lower()
    if _FAILED.search(code):
        return Verdict("failure", status)
    if _CANCELLED.search(code):
        return Verdict("partial", status, ended="cancelled")
    if _WAITS.fullmatch(code):
        return Verdict("partial", status, ended=code.replace("_", " "))
    return SUCCESS


def of_choices(choices: Sequence[Choice]) -> Verdict:
    """Return the best verdict of several choices: an answer that has one whole choice is an answer."""
    verdicts = [_of_choice(choice) for choice in choices]
    return min(verdicts, key=lambda verdict: _ORDER.index(verdict.status), default=SUCCESS)


def _of_choice(choice: Choice) -> Verdict:
    if choice.error is not None:
        return Verdict("failure", *choice.error)
    verdict = of_finish(choice.finish)
    reason = choice.block_reason
    if not reason or verdict.status == "failure":
        return verdict
    if verdict.status != "blocked" and reason.get("reason") is None:
        return verdict
    code = choice.finish if verdict.status == "blocked" else word(reason.get("reason"))
    told = (reason.get(name) for name in ("message", "explanation", "filtered"))
    return Verdict("blocked", code, _words(next((words for words in told if words), None)))


def error_of(value: Any) -> tuple[str, str] | None:
    """Return the code and the words of an error object inside an answer; ``None`` where there is none."""
    if is_void(value) or value is False:
        return None
    if isinstance(value, str):
        return "", value
    message = get(value, "message") or get(value, "detail") or get(value, "details")
    code = next((c for name in ("code", "type", "status") if (c := get(value, name))), "")
    if isinstance(message, str) and message:
        return word(code), message
    entries = {name: entry for name, entry in fields(value).items() if name not in ("code", "type")}
    return word(code), _words(entries or value)


def _words(value: Any) -> str:
    if is_void(value):
        return ""
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        value = ", ".join(value)
    return value if isinstance(value, str) else canonical(safe(value))
