"""CapsuleLogger: the one line for LiteLLM, ``litellm.callbacks = [CapsuleLogger()]``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Never

from litellm.integrations.custom_logger import CustomLogger
from qp_capsule import CapsuleType

from ...errors import ConfigurationError
from ...logs import guarded
from ...recording import default
from ...recording.recorder import Recorder
from ...records.attribution import NOBODY, Attribution
from ...scopes.scope import Scope
from ...settings import refuse_unknown
from . import entries, hooks

if TYPE_CHECKING:
    from qp_capsule import Capsules

__all__ = ["CapsuleLogger"]

AGENT, DOMAIN = "litellm", "chat"
_PARAMETERS = ("capsules", "agent_id", "domain", "capsule_type", "swallow_errors")


@functools.lru_cache(maxsize=16)
def _named(agent_id: str, domain: str) -> Attribution:
    return Attribution(agent_id=agent_id, domain=domain)


class CapsuleLogger(CustomLogger):
    """Make every call through LiteLLM one capsule, under the task that made it.

    It records while it stands in one of LiteLLM's callback lists. Two loggers on one store give one capsule a
    call, with the first one's defaults; on two stores one each.

    Args:
        capsules: the chain, as a qp-capsule ``Capsules``; the default recorder's unless given. With nothing
            configured, the chain given here becomes the default one, so that tasks and calls share it.
        agent_id: agent of calls outside every scope that names one.
        domain: likewise for the domain.
        capsule_type: type of the capsules.
        swallow_errors: ``False``: an error while recording is raised as `RecordingError`, and a call that
            returns has its capsule durably in the chain.
        **unknown: nothing; a keyword that does not exist is refused with the one that it resembles.

    Raises:
        ConfigurationError: the store cannot be used, or a ``CAPSULE_SDK_…`` variable has a wrong value.

    """

    def __init__(
        self,
        capsules: Capsules | None = None,
        agent_id: str = AGENT,
        domain: str = DOMAIN,
        capsule_type: CapsuleType = CapsuleType.CHAT,
        *,
        swallow_errors: bool = True,
        **unknown: Never,
    ) -> None:
        refuse_unknown("CapsuleLogger", unknown, _PARAMETERS)
        super().__init__()
        try:
            self.capsule_type = CapsuleType(capsule_type)
        except ValueError:
            raise ConfigurationError(
                f"capsule_type={capsule_type!r} does not exist; use one of "
                f"{', '.join(kind.value for kind in CapsuleType)}"
            ) from None
        self.agent_id = agent_id
        self.domain = domain
        self.swallow_errors = swallow_errors
        self._capsules = capsules
        self._recorder: tuple[int, Recorder] | None = None
        self.recorder()
        entries.install()

    def recorder(self) -> Recorder:
        """Return the recorder of this logger's chain."""
        generation = default.generation()
        if self._recorder is None or self._recorder[0] != generation:
            found = default.recorder_for(self._capsules, swallow_errors=self.swallow_errors)
            self._recorder = (default.generation(), found)
        return self._recorder[1]

    def attribution(self, scope: Scope | None, recorder: Recorder) -> Attribution:
        """Return what a call in ``scope`` belongs to: scopes, then this logger, then ``configure``."""
        settings = recorder.settings
        own = _named(
            self.agent_id if self.agent_id != AGENT else settings.agent_id or AGENT,
            self.domain if self.domain != DOMAIN else settings.domain or DOMAIN,
        )
        return own.overlaid(scope.attribution if scope is not None else NOBODY)

    def is_private(self) -> bool:
        """Tell whether LiteLLM's own ``turn_off_message_logging`` has been set on this logger.

        Its opposite, ``message_logging``, is what LiteLLM itself reads.
        """
        off = getattr(self, "turn_off_message_logging", False)
        return bool(off) or getattr(self, "message_logging", True) is not True

    # -- LiteLLM's hooks; their parameters are passed by these names, and none may raise --------------

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """LiteLLM sends a request."""
        del messages
        with guarded("litellm.pre_call"):
            hooks.sending(self, model, kwargs)

    def log_post_api_call(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """LiteLLM has got an answer."""
        del response_obj, start_time, end_time
        with guarded("litellm.post_call"):
            hooks.received(kwargs)

    def log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """LiteLLM reports an answer, in whatever thread."""
        del start_time, end_time
        with guarded("litellm.success"):
            hooks.succeeded(self, kwargs, response_obj)

    def log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """LiteLLM reports a failure, which may still be followed by a success."""
        del response_obj, start_time, end_time
        with guarded("litellm.failure"):
            hooks.failed(self, kwargs)

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Do as `log_success_event`; awaits nothing, since LiteLLM may cancel it."""
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Do as `log_failure_event`; awaits nothing."""
        self.log_failure_event(kwargs, response_obj, start_time, end_time)

    async def async_post_call_success_deployment_hook(
        self, request_data: Any, response: Any, call_type: Any
    ) -> None:
        """LiteLLM is about to return an answer: the one hook that surely comes before it does."""
        del call_type
        with guarded("litellm.deployment_success"):
            hooks.returning(self, request_data, response)
