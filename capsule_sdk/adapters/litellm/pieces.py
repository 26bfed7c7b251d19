"""Pieces: what has come of a streamed answer so far, whatever kind of chunk LiteLLM hands on.

Holds text that was copied out of the chunks, never a chunk, the stream, or what belongs to it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ...calls.answers.errors import error_in
from ...calls.answers.reading import fields, get, word
from ...calls.answers.stream import Stream
from ...calls.answers.usage import Tokens, tells_reasoning, tokens_of, usage_in
from ...calls.answers.verdict import Verdict
from ...calls.answers.whole import Whole
from ...content import ContentPolicy, canonical, safe
from ...content.inert import module_of, per_class
from ...logs import guarded
from ...records.call import Answer
from .answered import Price, cost_of, facts, headers_of, request_id, sealable, shown
from .dropped import compare, reads_as_end, said_to_end
from .identities import id_in, id_of
from .unstreamed import Unstreamed, watch_body

__all__ = ["Pieces"]

#: Where LiteLLM's streams keep the chunks as they came, with the usage that it takes out of those it hands on.
_CHUNKS = ("chunks", "collected_chat_completion_chunks")


class Pieces:
    """One streamed answer in the making."""

    __slots__ = (
        "_beneath", "_bridged", "_came", "_ended", "_estimated", "_last_hidden", "_mocked", "_price",
        "_raw", "_read_end", "_reasoned", "_sent_id", "_stream", "_translated", "_unstreamed", "cached",
        "facts",
    )  # fmt: skip

    def __init__(self, price: Price, *, mocked: bool = False) -> None:
        self._price = price
        #: Whether LiteLLM makes up the answer, and asks no provider.
        self._mocked = mocked
        self._stream = Stream()
        #: LiteLLM's notes on the last chunk, a mapping that it completes after the stream's end.
        self._last_hidden: Any = None
        self._estimated: tuple[int, int] | None = None
        #: Whether the provider itself said that it had finished, and its id of the answer. ``None``: nobody saw
        #: what it sent.
        self._ended: bool | None = None
        self._sent_id: str | None = None
        #: Whether LiteLLM translates the stream, and ends any of them as if the provider had said so; and
        #: whether what it read of the provider, before that, says that the answer is finished.
        self._translated = self._read_end = False
        #: Whether it is a stream of responses that LiteLLM makes of one of chunks, which nobody sees.
        self._bridged = False
        #: Whether LiteLLM has made chunks of anything at all; or has read a stream that it makes this one of.
        self._came = self._beneath = False
        #: Whether a chunk or event came from the provider, and whether one of them told tokens of reasoning.
        self._raw = False
        self._reasoned = False
        #: What has come in the place of a stream.
        self._unstreamed: Unstreamed | None = None
        self.cached = False
        self.facts: dict[str, Any] = {}

    @property
    def complete(self) -> bool:
        """Whether the model has said, for each choice, that it had finished."""
        return self._stream.complete and self._confirmed

    @property
    def _confirmed(self) -> bool:
        """Whether the provider has said that it had finished, where LiteLLM would say so in any case."""
        if self._ended is not None:
            return self._ended
        return self._read_end or not self._translated or self._mocked or self.cached

    def feed(self, chunk: Any) -> None:
        """Take over what one chunk brings. An error in here must not reach the chunk's reader."""
        hidden = get(chunk, "_hidden_params")
        if hidden is not None:
            self._last_hidden = hidden
        self._stream.feed(chunk)

    def made(self, raw: Any, chunk: Any) -> None:
        """Take over what LiteLLM has left out of a chunk that it made of the provider's."""
        self._came = True
        if not self._ended or not self._sent_id:
            self._look_at(raw)
        if not self._reasoned:
            if raw is chunk or _is_openai(type(raw)):  # none of LiteLLM's
                self._raw = True
                self._reasoned = _tells_reasoning(raw)
            elif not self._raw:  # LiteLLM's, of one that nobody saw; it counts later
                self._reasoned = _tells_reasoning(raw)
        compare(raw, chunk, self._stream.feed)

    def beneath(self, raw: Any) -> None:
        """Take over what LiteLLM has read in a stream that it makes this one of."""
        self._translated = self._beneath = True
        if not self._ended:
            self._look_at(raw)

    def _look_at(self, raw: Any) -> None:
        ends = said_to_end(raw)
        if ends is None:
            self._read_end = self._read_end or reads_as_end(raw)
            return
        self._ended = self._ended or ends
        self._sent_id = self._sent_id or id_in(raw)

    def kept(self, stream: Any) -> str:
        """Take over the last event of a stream that raises instead of handing it on; return the body.

        That is what came in the place of a stream, as JSON; nothing where a stream has come.
        """
        event = get(stream, "completed_response")
        if word(get(event, "type")).startswith("response."):
            self._stream.feed(event)
        return self._instead()

    def _instead(self) -> str:
        """Return the body that has come in the place of a stream, as JSON."""
        if self._unstreamed is None:
            return ""
        return self._unstreamed.text(is_all=not self._came and not self._stream.has_events)

    def begin(self, stream: Any, logging_obj: Any = None, address: Any = None) -> None:
        """Take what the stream tells before its first chunk."""
        with guarded("litellm.stream"):
            self._translated = hasattr(type(stream), "chunk_creator")
            self._bridged = get(stream, "litellm_custom_stream_wrapper") is not None
            provider = get(stream, "custom_llm_provider")
            self.cached = provider == "cached_response"
            hidden = get(stream, "_hidden_params")
            self.facts |= facts(
                provider=None if self.cached else provider,
                litellm_call_id=get(hidden, "litellm_call_id"),
                api_base=shown(address),
                model_id=get(hidden, "model_id"),
                provider_request_id=request_id(headers_of(stream, hidden, logging_obj)),
            )
            self._unstreamed = watch_body(stream)

    def finish(self, stream: Any = None) -> None:
        """Take what LiteLLM adds behind the last chunk of ``stream``.

        That is the usage: as the provider sent it, which the caller had not asked for, or as LiteLLM has
        estimated it. What the provider sent still stands in the chunks that the stream keeps.
        """
        if (error := error_in(self._instead())) is not None:
            self._stream.feed({"error": error})
        self._stream.finish()
        if self._translated and not (self._came or self._beneath):
            self._ended = False  # what it hands on then is made up
        hidden, self._last_hidden = self._last_hidden, None
        came, sent = _as_they_came(stream), None
        for chunk in reversed(came):
            usage = get(chunk, "usage")
            if usage is not None and tokens_of(usage).tokens_in is not None:
                sent = usage
                break
        told = self._stream.usage or get(hidden, "usage")
        if sent is not None and self._stream.usage is None:
            self._stream.take_usage(sent)
        tokens = tokens_of(told)
        # What was estimated once comes out of LiteLLM's cache like what was reported.
        guessed = self.cached or (came and sent is None)
        if guessed and tokens.tokens_in is not None:
            self._estimated = tokens.tokens_in, tokens.tokens_out or 0
            self._stream.usage = None

    def verdict(self) -> Verdict:
        """Return how the answer says that it ended. To be asked once nothing more comes."""
        return self._whole().verdict

    def _whole(self) -> Whole:
        """Return what has come; where only LiteLLM says that it was finished, it is not."""
        whole = self._stream.whole()
        if self._confirmed or whole.verdict.status not in ("success", "failure"):
            return whole
        for choice in whole.choices:
            choice.finish = ""
            if self._ended is False:
                choice.absent = "choices"
        if whole.verdict.status == "failure":
            return whole
        return whole._replace(verdict=Verdict("partial", ended="unfinished"))

    def answer(self, policy: ContentPolicy) -> Answer:
        """Return what has come, as ``policy`` lets it be sealed."""
        stream = self._stream
        tokens = tokens_of(stream.usage)
        if (
            self._came or self._bridged
        ) and not self._reasoned:  # LiteLLM has counted them in the text
            tokens = tokens._replace(reasoning=None)
        whole = self._whole()
        final = stream.is_counted and self._confirmed
        if not final:  # so far, and the provider counts on
            tokens = tokens._replace(tokens_out=None, reasoning=None)
        cost = self._cost(tokens) if final or self.cached else None
        environment = {
            **self.facts,
            **facts(
                response_model=stream.model,
                response_id=id_of(stream.id, self._sent_id),
                finish_reason=whole.finish,
            ),
        }
        if self.cached:
            environment["cache_hit"] = True
        answer = sealable(whole, policy, tokens, cost, environment)
        if self._estimated is not None:
            answer = answer.estimated(*self._estimated)
        return answer.invented() if self._mocked else answer

    def _cost(self, tokens: Tokens) -> Decimal | None:
        if self.cached:
            return Decimal(0)
        if tokens.tokens_in is None and tokens.tokens_out is None:
            return None
        cost = cost_of(get(self._stream.usage, "cost"))
        return (
            cost
            if cost is not None
            else cost_of(self._price(self._stream.model, self._stream.usage))
        )


@per_class
def _is_openai(kind: type) -> bool:
    return module_of(kind).partition(".")[0] == "openai"


def _tells_reasoning(raw: Any) -> bool:
    """Tell whether a chunk or an event of a provider's tells tokens of reasoning."""
    usage = usage_in(raw)
    if usage is not None and tokens_of(usage).reasoning is not None:
        return True
    beside = fields(raw).get("additionalModelResponseFields")  # Bedrock's
    return beside is not None and tells_reasoning(canonical(safe(beside)))


def _as_they_came(stream: Any) -> list[Any]:
    """Return the chunks of a stream as LiteLLM has got them, where it keeps them."""
    kept = (get(stream, name) for name in _CHUNKS)
    return next((chunks for chunks in kept if isinstance(chunks, list) and chunks), [])
