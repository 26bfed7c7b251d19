"""Flight: one LiteLLM call between its start and its end, and the single place where its end is decided.

A flight is settled by whoever comes first: the return of the call, its exception, the end of its stream,
the death of its stream, one of LiteLLM's hooks, or the end of the process. The recorder lets one through.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import litellm

from ...calls.answers.errors import error_in
from ...calls.answers.usage import tokens_of
from ...calls.memory import Remembering, memory_of, whose
from ...content import ContentPolicy
from ...errors import RecordingError
from ...logs import report
from ...recording.recorder import Recorder
from ...records.attribution import NOBODY
from ...records.call import LLMCall, Request
from ...records.record import Ended, sealed_error
from ...scopes.confirming import Confirmation, is_covered
from ...scopes.scope import Scope, parent_of
from .answered import answer_of, facts_of_failure
from .asked import attribution_of, is_mocked, is_private, request_of
from .discovery import asks_model
from .guard import Guard
from .pieces import Pieces
from .refusals import blocked
from .streams import follow
from .wording import words_of

if TYPE_CHECKING:
    from .logger import CapsuleLogger

__all__ = ["Flight", "current"]

#: The call that this context is in the middle of.
current: ContextVar[Flight | None] = ContextVar("capsule_sdk_litellm_flight", default=None)


class Flight:
    """One call that is under way, recorded once in each chain that a logger stands for."""

    __slots__ = (
        "__weakref__", "_address", "_around", "_attempts", "_body", "_details", "_finalizer", "_pieces",
        "_strict", "_targets", "_trouble", "early", "seeking",
    )  # fmt: skip

    def __init__(
        self,
        call_type: str,
        given: Mapping[str, Any],
        loggers: Sequence[CapsuleLogger],
        scope: Scope | None,
        made: list[Flight] | None = None,
    ) -> None:
        self._attempts: list[str] = []
        #: Where the request was sent last, as LiteLLM says when it sends it.
        self._address: Any = None
        #: The body of the last answer, as LiteLLM notes it; an error may say less than it does.
        self._body: Any = None
        #: The error that the caller is handling, by its `id`: what this call raises has it as its context.
        self._around = id(sys.exc_info()[1])
        self._details: weakref.ref[Any] | None = None
        self._pieces: Pieces | None = None
        self.seeking = False
        #: Calls `vanish`, once nobody can read the stream any more.
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._targets: list[tuple[Recorder, LLMCall]] = []
        #: Whether LiteLLM's events decide how it ended, since nobody follows what its caller gets.
        self.early = False
        self._strict = False
        self._trouble: Exception | None = None
        if made is not None:
            # Before anything is open, and not before it is whole: an interrupted call puts right what is here.
            made.append(self)
        seen: set[int] = set()
        for logger in loggers:
            self._strict |= not logger.swallow_errors
            with self.guarded("litellm.begin"):
                recorder = logger.recorder()
                if id(recorder) in seen:
                    continue
                seen.add(id(recorder))
                self._strict |= not recorder.settings.swallow_errors
                self._begin(call_type, given, logger, recorder, scope)

    def _begin(
        self,
        call_type: str,
        given: Mapping[str, Any],
        logger: CapsuleLogger,
        recorder: Recorder,
        scope: Scope | None,
    ) -> None:
        policy = recorder.policy
        if is_private(given) or logger.is_private():
            policy = ContentPolicy(mode="omit", limits=policy.limits)
        parent, ended = parent_of(scope)
        request = Request(call_type, "unknown", "", None, 0)
        around, named = logger.attribution(scope, recorder), NOBODY
        with self.guarded("litellm.attribution"):
            named = attribution_of(given, around)
        belongs_to, remembering = around.overlaid(named), None
        if recorder.settings.messages == "full":
            remembering = Remembering(memory_of(recorder), whose(belongs_to, parent))
        with self.guarded("litellm.request"):  # a call without its request is better than none
            request = request_of(call_type, given, policy, remembering)
        if ended is not None:
            request.environment["closed_parent"] = str(ended)
        asks = asks_model(call_type)
        if not asks:
            request.environment["asks_model"] = False
        recorder.ready()
        call = LLMCall(
            request,
            parent=parent,
            attribution=belongs_to,
            capsule_type=str(logger.capsule_type) if asks else "tool",
            policy=policy,
        )
        call.attempts = self._attempts
        self._targets.append((recorder, call))
        recorder.begin(call)
        if remembering is not None:
            remembering.kept_by(call.id)

    def guarded(self, place: str) -> Guard:
        """Do as `logs.guarded`; what went wrong is raised where the user asked for strictness."""
        return Guard(self.went_wrong, place)

    def went_wrong(self, place: str, error: Exception) -> None:
        """Report an error of our own, and remember it for who asked for strictness."""
        self._trouble = error
        report(place, error)

    # -- what becomes known on the way ------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether nobody has decided yet how it ended."""
        return any(not call.closed for _, call in self._targets)

    def attempt(self, model: Any, address: Any) -> None:
        """Note that LiteLLM sends the request to an address, for the first time or once more."""
        self._attempts.append(str(model))
        self._address, self._body = address, None

    def received(self, body: Any) -> None:
        """Note the body of an answer; what LiteLLM notes in its place when it fails is no JSON."""
        if type(body) is str and (body := body.lstrip())[:1] == "{":
            self._body = body

    def belongs_to(self, logging_obj: Any) -> None:
        """Remember LiteLLM's own object for this call, which can price it; not so as to keep it alive."""
        self._details = weakref.ref(logging_obj)

    def logging_obj(self) -> Any:
        """Return LiteLLM's own object for this call, while it lives."""
        return self._details() if self._details is not None else None

    # -- how it can end ---------------------------------------------------------------------------

    def answered(self, response: Any) -> None:
        """The call has its whole answer."""
        for recorder, call in self._claim():
            with self.guarded("litellm.answer"):
                known = self.logging_obj(), self._address
                answer = answer_of(response, call.policy, self._price, *known, body=self._body)
                if is_mocked(call.request):
                    answer = answer.invented()
                if self._attempts and answer.environment.get("cache_hit"):
                    # embeddings of which some were in the cache: what the others cost is not told
                    answer = replace(answer, cost_usd=None)
                call.answer = answer
            self._settle(recorder, call)

    def failed(self, error: BaseException) -> None:
        """The call has raised, at once or in the middle of its stream."""
        for recorder, call in self._claim():
            if call.read is None:
                with self.guarded("litellm.failed"):
                    told = facts_of_failure(error, self.logging_obj(), self._address)
                    call.answer = replace(call.answer, environment=told)
            said, refused = self._words_of(error)
            if refused:
                call.settle("blocked", error=_sealed(error, call.policy, said))
            else:
                call.settle_with(error, said)
            recorder.finish(call)

    def failed_so_far(self, error: BaseException) -> None:
        """LiteLLM has reported a failure that it may still make good by another attempt."""
        for _, call in self._targets:
            if not call.closed:
                call.status = "failure"
                call.error = _sealed(error, call.policy, self._words_of(error)[0])

    def _words_of(self, error: BaseException) -> tuple[str | None, bool]:
        """Return what an error says, with what its provider said, and whether this is a refusal."""
        with self.guarded("litellm.words"):
            return words_of(error, self._body, self._around), blocked(error, error_in(self._body))
        return None, blocked(error)

    def confirmation(self) -> Confirmation | None:
        """Return what strict mode waits for when the call has its whole answer.

        Where only its logger is strict, the tasks above it wait for nothing, so it always does.

        Raises:
            RecordingError: something went wrong while it was recorded.

        """
        trouble, self._trouble = self._trouble, None
        if not self._strict:
            return None
        if trouble is not None:
            raise RecordingError(
                f"this call to a model was not recorded as it should be: {type(trouble).__name__}: "
                f"{trouble}; the log of capsule_sdk says where"
            ) from trouble
        waits_for = [
            (recorder, call)
            for recorder, call in self._targets
            if call.closed and (recorder.settings.swallow_errors or not is_covered(call))
        ]
        return Confirmation(waits_for) if waits_for else None

    # -- as the follower of its stream ------------------------------------------------------------

    def streams(self, stream: Any) -> Any:
        """Follow the stream that the call has returned; return it as the caller shall have it."""
        mocked = any(is_mocked(call.request) for _, call in self._targets)
        pieces = self._pieces = Pieces(self._price, mocked=mocked)
        for _, call in self._targets:
            call.read = functools.partial(pieces.answer, call.policy)
        pieces.begin(stream, self.logging_obj(), self._address)
        self._unbind(stream)
        return follow(stream, self)

    def watched(self, finalizer: weakref.finalize[..., Any]) -> None:
        """Keep what calls `vanish`, so that it is given up when the stream has ended.

        No line of Python is to run as an ended stream dies: Ctrl-C would be lost there.
        """
        self._finalizer = finalizer

    def _give_up(self) -> None:
        finalizer, self._finalizer = self._finalizer, None
        if finalizer is not None:
            finalizer.detach()

    def chunk(self, chunk: Any) -> None:
        """A piece of the answer is on its way to the reader."""
        try:
            if self._pieces is not None:
                self._pieces.feed(chunk)
        except Exception as error:  # noqa: BLE001 - as `guarded`, for less at each chunk
            self.went_wrong("litellm.stream", error)

    def made(self, raw: Any, chunk: Any) -> None:
        """LiteLLM has made a chunk for the reader of one from the provider."""
        try:
            if self._pieces is not None:
                self._pieces.made(raw, chunk)
        except Exception as error:  # noqa: BLE001 - as above
            self.went_wrong("litellm.stream.dropped", error)

    def beneath(self, raw: Any) -> None:
        """LiteLLM has read this of the provider, in a stream that it makes another of."""
        with self.guarded("litellm.stream.beneath"):
            if self._pieces is not None:
                self._pieces.beneath(raw)

    def end(self, stream: Any) -> None:
        """The stream is read to its end."""
        with self.guarded("litellm.stream.end"):
            if self._pieces is not None:
                self._pieces.finish(stream)
        with self.guarded("litellm.stream.end"):
            for recorder, call in self._claim():
                self._settle(recorder, call)
        self._give_up()

    def fail(self, error: BaseException, stream: Any = None) -> None:
        """The call, or a step of its stream, has raised; the error is on its way to the caller."""
        with self.guarded("litellm.failed"):
            if self._pieces is not None and stream is not None:
                self._body = self._pieces.kept(stream) or self._body
        with self.guarded("litellm.failed"):
            self.failed(error)
        self._pieces = None  # an end that LiteLLM's stream invents after an error is none
        self._give_up()

    def put_right(self, error: BaseException) -> None:
        """Settle and hand over what ``error``, out of a signal handler, has interrupted in lines of ours."""
        self.fail(error)
        self._hand_over(error, finalizing=False)

    def _hand_over(self, error: BaseException, *, finalizing: bool) -> None:
        with self.guarded("litellm.interrupted"):
            for recorder, call in self._targets:
                if recorder.owes(call):
                    if not call.closed:
                        call.settle_with(error)
                    recorder.finish(call, finalizing=finalizing)

    def close(self) -> None:
        """The reader has closed the stream."""
        with self.guarded("litellm.stream.close"):
            self._stopped(Ended.CLOSED, finalizing=False)
        self._give_up()

    def vanish(self) -> None:
        """Nobody can read the stream any more; called in a finalizer."""
        try:
            with self.guarded("litellm.stream.vanish"):
                self._stopped(Ended.ABANDONED, finalizing=True)
        except BaseException as error:  # out of a signal handler; Python reports it, and drops it
            with self.guarded("litellm.stream.vanish"):
                self._stopped(Ended.ABANDONED, finalizing=True)
            self._hand_over(error, finalizing=True)
            raise

    def _stopped(self, ended: str, *, finalizing: bool) -> None:
        """The reader has stopped: in the middle, or after the model had said that it was done."""
        said = None
        if self._pieces is not None and self._pieces.complete:
            said = self._pieces.verdict()
        for recorder, call in self._claim():
            if said is not None:
                call.settle(said.status, error=said.error(call.policy), ended=said.ended)
            elif call.status == "failure":
                call.settle("failure", error=call.error)
            else:
                call.settle("partial", ended=ended)
            recorder.finish(call, finalizing=finalizing)

    def _claim(self) -> list[tuple[Recorder, LLMCall]]:
        return [(recorder, call) for recorder, call in self._targets if recorder.claim(call)]

    @staticmethod
    def _settle(recorder: Recorder, call: LLMCall) -> None:
        """Settle as the answer itself says; what is only read or deleted has ended, whatever it says."""
        answer = call.answer
        if call.asks_model:
            call.settle(answer.status, error=answer.error, ended=answer.ended)
        else:  # a container that runs, or a batch that failed, was well looked up
            call.settle("success")
        recorder.finish(call)

    # -- what LiteLLM's own object knows ----------------------------------------------------------

    def _price(self, model: str, usage: Any) -> float | None:
        """Return what LiteLLM says that these tokens cost, in dollars; ``None`` where it does not know."""
        try:
            if not isinstance(usage, litellm.Usage):
                tokens = tokens_of(usage)
                usage = litellm.Usage(
                    prompt_tokens=tokens.tokens_in or 0, completion_tokens=tokens.tokens_out or 0
                )
            asked = self._targets[0][1].request.model
            response = litellm.ModelResponse(model=model or asked, usage=usage)
            details = self.logging_obj()
            if details is not None:
                return details._response_cost_calculator(result=response)  # type: ignore[no-any-return]
            return litellm.completion_cost(completion_response=response, model=asked)
        except Exception:  # noqa: BLE001 - a model without a price is no error; its cost is unknown
            return None

    def _unbind(self, stream: Any) -> None:
        """Let a stream die with its last reader: LiteLLM keeps it in a cycle with its own object."""
        details = self.logging_obj()
        kept = getattr(details, "model_call_details", None)
        if isinstance(kept, dict) and kept.get("original_response") is stream:
            kept["original_response"] = None


def _sealed(error: BaseException, policy: ContentPolicy, said: str | None) -> str:
    return sealed_error(error, policy, alone=True, said=said)
