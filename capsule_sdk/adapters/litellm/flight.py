"""Flight: one LiteLLM call between its start and its end, and the single place where its end is decided.

A flight is settled by whoever comes first: the return of the call, its exception, the end of its stream,
the death of its stream, one of LiteLLM's hooks, or the end of the process. The recorder lets one through.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import litellm

from ...call import LLMCall
from ...content import ContentPolicy
from ...logs import guarded
from ...record import Ended, error_text
from ...recorder import Recorder
from ...scope import Scope, parent_of
from .answered import answer_of, blocked, usage_of
from .asked import attribution_of, is_private, request_of
from .pieces import Pieces
from .streams import follow

if TYPE_CHECKING:
    from .logger import CapsuleLogger

__all__ = ["Flight", "current"]

#: The call that this context is in the middle of.
current: ContextVar[Flight | None] = ContextVar("capsule_sdk_litellm_flight", default=None)


class Flight:
    """One call that is under way, recorded once in each chain that a logger stands for."""

    __slots__ = ("__weakref__", "_attempts", "_details", "_pieces", "_targets", "strict")

    def __init__(
        self,
        call_type: str,
        given: Mapping[str, Any],
        loggers: Sequence[CapsuleLogger],
        scope: Scope | None,
    ) -> None:
        self._attempts: list[str] = []
        self._details: weakref.ref[Any] | None = None
        self._pieces: Pieces | None = None
        self._targets: list[tuple[Recorder, LLMCall]] = []
        self.strict = any(not logger.swallow_errors for logger in loggers)
        private = is_private(given)
        named = attribution_of(given)
        seen: set[int] = set()
        for logger in loggers:
            recorder = logger.recorder()
            if id(recorder) in seen:
                continue
            seen.add(id(recorder))
            policy = recorder.policy
            if private or logger.is_private():
                policy = ContentPolicy(mode="omit", limits=policy.limits)
            parent, ended = parent_of(scope)
            request = request_of(call_type, given, policy)
            if ended is not None:
                request.environment["closed_parent"] = str(ended)
            call = LLMCall(
                request,
                parent=parent,
                attribution=logger.attribution(scope, recorder).overlaid(named),
                capsule_type=str(logger.capsule_type),
                policy=policy,
            )
            call.attempts = self._attempts
            recorder.begin(call)
            self._targets.append((recorder, call))

    # -- what becomes known on the way ------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether nobody has decided yet how it ended."""
        return any(not call.closed for _, call in self._targets)

    def attempt(self, model: Any) -> None:
        """Note that LiteLLM sends the request, for the first time or once more."""
        self._attempts.append(str(model))

    def belongs_to(self, logging_obj: Any) -> None:
        """Remember LiteLLM's own object for this call, which can price it; not so as to keep it alive."""
        self._details = weakref.ref(logging_obj)

    # -- how it can end ---------------------------------------------------------------------------

    def answered(self, response: Any) -> None:
        """The call has its whole answer."""
        for recorder, call in self._claim():
            with guarded("litellm.answer"):
                call.answer = answer_of(response, call.policy, self._price)
            self._finish(recorder, call, "success")

    def failed(self, error: BaseException) -> None:
        """The call has raised, at once or in the middle of its stream."""
        for recorder, call in self._claim():
            if blocked(error):
                call.settle("blocked", error=call.policy.text(error_text(error)))
            else:
                call.settle_with(error)
            recorder.finish(call)

    def failed_so_far(self, error: BaseException) -> None:
        """LiteLLM has reported a failure that it may still make good by another attempt."""
        for _, call in self._targets:
            call.status = "failure"
            call.error = call.policy.text(error_text(error))

    def cut_short(self, ended: str) -> None:
        """Nobody will say any more how the call ended."""
        for recorder, call in self._claim():
            self._finish(recorder, call, "partial", ended=ended)

    def confirm(self) -> None:
        """Wait until the call is durably in its chain (strict mode).

        Raises:
            RecordingError: it is not.

        """
        for recorder, call in self._targets:
            recorder.confirm(call)

    # -- as the follower of its stream ------------------------------------------------------------

    def streams(self, stream: Any) -> Any:
        """Follow the stream that the call has returned; return it as the caller shall have it."""
        pieces = self._pieces = Pieces(self._price)
        for _, call in self._targets:
            call.read = functools.partial(pieces.answer, call.policy)
        pieces.begin(stream)
        self._unbind(stream)
        return follow(stream, self)

    def chunk(self, chunk: Any) -> None:
        """A piece of the answer is on its way to the reader."""
        if self._pieces is not None:
            self._pieces.feed(chunk)

    def end(self, stream: Any) -> None:
        """The stream is read to its end."""
        pieces = self._pieces
        if pieces is None:
            return
        with guarded("litellm.stream.end"):
            pieces.finish()
        failure = pieces.failure
        for recorder, call in self._claim():
            error = call.policy.text(failure) if failure is not None else None
            self._finish(recorder, call, "success" if failure is None else "failure", error=error)

    def fail(self, error: BaseException) -> None:
        """A step of the stream has raised."""
        self.failed(error)

    def close(self) -> None:
        """The reader has closed the stream."""
        self._stopped(Ended.CLOSED, finalizing=False)

    def vanish(self) -> None:
        """Nobody can read the stream any more; called in a finalizer."""
        self._stopped(Ended.ABANDONED, finalizing=True)

    def _stopped(self, ended: str, *, finalizing: bool) -> None:
        """The reader has stopped: in the middle, or after the model had said that it was done."""
        complete = self._pieces is not None and self._pieces.complete
        for recorder, call in self._claim():
            if complete:
                call.settle("success")
            elif call.status == "failure":
                call.settle("failure", error=call.error)
            else:
                call.settle("partial", ended=ended)
            recorder.finish(call, finalizing=finalizing)

    def _claim(self) -> list[tuple[Recorder, LLMCall]]:
        return [(recorder, call) for recorder, call in self._targets if recorder.claim(call)]

    def _finish(
        self,
        recorder: Recorder,
        call: LLMCall,
        status: str,
        *,
        error: str | None = None,
        ended: str | None = None,
    ) -> None:
        call.settle(status, error=error, ended=ended)
        recorder.finish(call)

    # -- what LiteLLM's own object knows ----------------------------------------------------------

    def _price(self, model: str, usage: Any) -> float | None:
        """Return what LiteLLM says that these tokens cost, in dollars; ``None`` where it does not know."""
        try:
            if not isinstance(usage, litellm.Usage):
                tokens_in, tokens_out = usage_of(usage)
                usage = litellm.Usage(prompt_tokens=tokens_in or 0, completion_tokens=tokens_out or 0)
            asked = self._targets[0][1].request.model
            response = litellm.ModelResponse(model=model or asked, usage=usage)
            details = self._details() if self._details is not None else None
            if details is not None:
                return details._response_cost_calculator(result=response)  # type: ignore[no-any-return]
            return litellm.completion_cost(completion_response=response, model=asked)
        except Exception:  # noqa: BLE001 - a model without a price is no error; its cost is unknown
            return None

    def _unbind(self, stream: Any) -> None:
        """Let a stream die with its last reader: LiteLLM keeps it in a cycle with its own object."""
        details = self._details() if self._details is not None else None
        kept = getattr(details, "model_call_details", None)
        if isinstance(kept, dict) and kept.get("original_response") is stream:
            kept["original_response"] = None
