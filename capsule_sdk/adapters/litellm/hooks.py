"""Hooks: what LiteLLM's events add to a call, and the calls that only they can see.

A call through a wrapped entry point is settled by its caller's outcome; its events only count attempts. A
call through a function that was taken from LiteLLM before it was wrapped, and is kept where it cannot be
exchanged (a Router's attribute, a closure), has nothing but its events: it is opened by the first, and
settled by a success, by a failure that nothing can follow, or by the death of LiteLLM's own object.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import litellm

from ...calls.answers.reading import get
from ...logs import guarded
from ...scopes.scope import Scope, innermost
from ...settings import is_disabled
from .asked import is_beside
from .flight import Flight, current
from .lists import active_loggers
from .streams import is_stream

if TYPE_CHECKING:
    from .logger import CapsuleLogger

__all__ = [
    "Slot",
    "answered_from_cache",
    "failed",
    "follow_events",
    "looking_up",
    "mark",
    "received",
    "returning",
    "sending",
    "slot_of",
    "succeeded",
]

#: The key under which LiteLLM's own record of a call (``model_call_details``) carries ours. It survives in
#: every mode, and nothing that LiteLLM hands to other loggers shows it.
SLOT = "_capsule_sdk_slot"

#: Arguments with which a call may succeed after it was reported as failed.
RETRIES = ("num_retries", "fallbacks", "context_window_fallback_dict", "retry_policy")


class Slot:
    """Rides on one of LiteLLM's logging objects: the call it was made for, or the scope it was made in."""

    __slots__ = ("__weakref__", "flight", "given", "may_retry", "scope", "unopened")

    def __init__(
        self,
        flight: Flight | None,
        scope: Scope | None,
        *,
        may_retry: bool,
        given: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.flight = flight
        self.scope = scope
        #: The arguments of a call that nobody follows yet, as its caller gave them.
        self.given = given
        self.may_retry = may_retry
        #: Emptied by whoever opens its call: LiteLLM reports one call in two threads at once.
        self.unopened = [True]

    def take(self, flight: Flight) -> None:
        """Ride for this call from now on, unless another one is still open."""
        if self.flight is None or not self.flight.open:
            self.flight = flight

    def __copy__(self) -> Slot:
        return self

    def __deepcopy__(self, memo: Any) -> Slot:
        return self


def mark(logging_obj: Any, flight: Flight | None, given: Mapping[str, Any]) -> None:
    """Have a logging object carry the call it is made for, or the scope of a call nobody follows yet."""
    details = getattr(logging_obj, "model_call_details", None)
    if not isinstance(details, dict) or SLOT in details:
        return
    if flight is not None and not flight.open:
        flight = None  # a context that outlived the call it was copied in
    may_retry = any(given.get(name) for name in RETRIES) or bool(litellm.num_retries)
    if flight is not None:
        details[SLOT] = Slot(flight, None, may_retry=may_retry)
    else:
        details[SLOT] = Slot(None, innermost(), may_retry=may_retry, given=given)
    if flight is not None:
        flight.belongs_to(logging_obj)


def slot_of(logging_obj: Any) -> Slot | None:
    """Return what rides on a logging object."""
    return _slot(getattr(logging_obj, "model_call_details", None))


def follow_events(flight: Flight) -> None:
    """Have LiteLLM's events settle a call whose outcome could not be followed."""
    with guarded("litellm.follow_events"):
        slot = slot_of(flight.logging_obj())
        if slot is not None and slot.flight is flight:
            flight.early = True
            weakref.finalize(slot, flight.vanish).atexit = False
        else:
            flight.vanish()


def sending(logger: CapsuleLogger, model: Any, details: Any) -> None:
    """LiteLLM sends a request for this call."""
    if isinstance(details, dict) and details.get("litellm_no_upstream_llm_call") is True:
        return
    slot = _slot(details)
    if slot is None:
        if not isinstance(details, dict):
            return
        flight = current.get()
        if flight is not None and not flight.open:
            flight = None
        details[SLOT] = slot = Slot(flight, innermost(), may_retry=False)
    flight = _opened(logger, slot, details)
    if flight is not None:
        flight.attempt(model, get(details.get("additional_args"), "api_base"))


def received(details: Any) -> None:
    """LiteLLM has got an answer, and is about to make something of it."""
    slot = _slot(details)
    if slot is not None and slot.flight is not None:
        slot.flight.received(details.get("original_response"))


def returning(logger: CapsuleLogger, request: Any, response: Any) -> None:
    """LiteLLM is about to return the whole answer of an async call."""
    logging_obj = request.get("litellm_logging_obj")
    if slot_of(logging_obj) is not None and not logging_obj.model_call_details.get("stream"):
        succeeded(logger, logging_obj.model_call_details, response)


def succeeded(logger: CapsuleLogger, details: Any, response: Any) -> None:
    """LiteLLM reports an answer."""
    slot = _slot(details)
    if slot is not None:
        flight = _opened(logger, slot, details)
        if flight is not None and flight.early:
            flight.answered(response)


def looking_up(logging_obj: Any) -> None:
    """LiteLLM is about to look into its cache; what it finds there, it reports in another thread at once."""
    slot = slot_of(logging_obj)
    loggers = active_loggers({}) if slot is not None and slot.flight is None else []
    if slot is not None and loggers:
        _opened(loggers[0], slot, logging_obj.model_call_details)


def answered_from_cache(logging_obj: Any, found: Any) -> None:
    """LiteLLM has looked into its cache, and will return from there what it has ``found``."""
    slot = slot_of(logging_obj)
    response = getattr(found, "cached_result", None)
    if isinstance(response, list | None):  # of several embeddings some were found, or all
        whole = getattr(found, "embedding_all_elements_cache_hit", False)
        response = found.final_embedding_cached_response if whole else None
    flight = slot.flight if slot is not None else None
    if flight is None or not flight.early or response is None or is_stream(response):
        return
    flight.answered(response)


def failed(logger: CapsuleLogger, details: Any) -> None:
    """LiteLLM reports a failure, by which a call ends unless it is tried again."""
    slot = _slot(details)
    if slot is None or details.get("litellm_no_upstream_llm_call") is True:
        return
    flight = _opened(logger, slot, details)
    error = details.get("exception")
    if flight is None or not flight.early or not isinstance(error, BaseException):
        return
    if slot.may_retry:
        flight.failed_so_far(error)
    else:
        flight.failed(error)


def _slot(details: Any) -> Slot | None:
    found = details.get(SLOT) if isinstance(details, dict) else None
    return found if isinstance(found, Slot) else None


def _opened(logger: CapsuleLogger, slot: Slot, details: Mapping[str, Any]) -> Flight | None:
    """Return the call of a slot; one that nobody follows is opened now."""
    if slot.flight is None:
        if is_disabled():
            return None
        try:
            slot.unopened.pop()
        except IndexError:  # it is being opened in this moment, by who has the same to report
            return slot.flight
        given, slot.given = _given(details, slot.given), MappingProxyType({})
        flight = Flight(
            str(details.get("call_type")), given, active_loggers(given) or [logger], slot.scope
        )
        flight.early = True
        slot.flight = flight
        weakref.finalize(slot, flight.vanish).atexit = False
    return slot.flight


def _given(details: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call: its caller's ``own``, or as far as LiteLLM's record of it has them.

    What else LiteLLM notes down there, its answer too, is no argument.
    """
    params = details.get("litellm_params") or {}
    dynamic = details.get("standard_callback_dynamic_params") or {}
    beside = {
        name: value
        for name, value in details.items()
        if name in {"model", "messages"} or is_beside(name)
    }
    return {
        **({} if own else details.get("optional_params") or {}),
        **beside,
        **own,
        "metadata": params.get("metadata"),
        "no-log": params.get("no-log"),
        "turn_off_message_logging": dynamic.get("turn_off_message_logging"),
    }
