"""LLMCall: what is known of one call to a model, from its start to its end. Data only, any provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from ..logs import guarded
from .labels import labelled
from .record import Record
from .totals import Totals

if TYPE_CHECKING:
    from ..content import ContentPolicy
    from .attribution import Attribution
    from .task import Task

__all__ = ["Answer", "LLMCall", "Request"]


_FREE: Final = Decimal(0)


# Neither is frozen: to make one would take four times as long, and every call makes both.
@dataclass(slots=True)
class Request:
    """What was asked. Not changed once its call is made.

    Attributes:
        call_type: the entry point, such as ``completion`` or ``aembedding``.
        model: the model as the caller named it.
        text: the last user message as text.
        prompt_hash: SHA3-256 over the canonical JSON of all messages (CPS 1.3); ``None`` where texts
            are omitted.
        message_count: how many messages there were.
        environment: further facts for CPS 1.2: provider, call id, stream …; ``asks_model`` is false where the
            call asks no model, but reads, keeps or removes something at the provider.
        arguments: what else was asked for (CPS 1.5): roles, parameters, tools, request_hash …

    """

    call_type: str
    model: str
    text: str
    prompt_hash: str | None
    message_count: int
    environment: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """What came back. ``None`` is unknown; it is never taken for zero. Not changed once it is made.

    Attributes:
        result: the answer as it is sealed (CPS 1.6): a text, or an object of its parts, or a list of these.
        tokens_in: tokens of the prompt, as the provider reported them.
        tokens_out: tokens of the answer, likewise.
        cost_usd: US dollars.
        environment: further facts for CPS 1.2: response id, reason to stop, model that answered …
        tokens_estimated: (tokens in, tokens out) where the provider reported none and somebody has guessed.
        tokens_cached: how many of ``tokens_in`` the provider had in its cache.
        tokens_reasoning: how many of ``tokens_out`` the model has spent on its thinking.
        status: how the answer itself says that the call ended: success, failure, blocked, partial.
        error: the provider's words for a failure or a block.
        ended: why it is partial, such as ``queued``.

    """

    result: Any = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: Decimal | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    tokens_estimated: tuple[int, int] | None = None
    tokens_cached: int | None = None
    tokens_reasoning: int | None = None
    status: str = "success"
    error: str | None = None
    ended: str | None = None

    def estimated(self, tokens_in: int, tokens_out: int) -> Answer:
        """Return this answer with tokens that were guessed."""
        return replace(self, tokens_estimated=(tokens_in, tokens_out))

    def invented(self) -> Answer:
        """Return this answer as that of no provider: its tokens are a guess, and nobody was paid."""
        guessed = None if self.tokens_in is None else (self.tokens_in, self.tokens_out or 0)
        return Answer(  # not `replace`, which takes three times as long
            self.result,
            cost_usd=_FREE,
            environment=self.environment,
            tokens_estimated=self.tokens_estimated or guessed,
            status=self.status,
            error=self.error,
            ended=self.ended,
        )


class LLMCall(Record):
    """One open call to a model. An adapter opens it, writes `answer` and settles it."""

    tells_alone = True
    __slots__ = ("_answer", "asks_model", "attempts", "read", "request")

    def __init__(
        self,
        request: Request,
        *,
        parent: Task | None,
        attribution: Attribution,
        capsule_type: str,
        policy: ContentPolicy,
    ) -> None:
        super().__init__(
            parent=parent, attribution=attribution, capsule_type=capsule_type, policy=policy
        )
        request.model, request.call_type = labelled(request.model), labelled(request.call_type)
        self.request = request
        #: Whether it is counted among the calls to a model.
        self.asks_model = request.environment.get("asks_model") is not False
        self.attempts: Sequence[str] = ()
        #: Reads what has come (so far), for an answer that is not written down yet. Called once, when the call
        #: has ended: it must hold no object of the user's, and the call must not keep a stream alive.
        self.read: Callable[[], Answer] | None = None
        self._answer: Answer | None = None

    @property
    def answer(self) -> Answer:
        """What came back, as far as it is known."""
        if self._answer is None:
            read, self.read = self.read, None
            self._answer = Answer()
            if read is not None:
                self._answer = Answer(environment={"answer": "could not be read"})
                with guarded("call.answer"):
                    self._answer = read()
        return self._answer

    @answer.setter
    def answer(self, answer: Answer) -> None:
        self._answer = answer

    def release(self) -> None:
        """Let go of request and answer."""
        self.request = replace(self.request, text="", environment={}, arguments={})
        self.attempts, self.read, self._answer = (), None, Answer()

    def totals(self) -> Totals:
        """Return this one call as sums."""
        answer = self.answer
        return Totals.of_call(
            answer.tokens_in,
            answer.tokens_out,
            answer.cost_usd,
            self.duration_ms,
            asks_model=self.asks_model,
        )
