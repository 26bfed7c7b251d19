"""``capsule_scope``: a block of code as a task, or only under another attribution. And what is current.

How a task is opened and closed stands here once, for the ``with`` block and for ``@capsuled``.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never

from ..content import ContentPolicy
from ..errors import ConfigurationError, RecordingError
from ..logs import guarded, report, tell_once
from ..recording.default import get_recorder
from ..recording.recorder import Recorder
from ..records.attribution import NOBODY, Attribution
from ..records.authority import Authority, AuthorityName
from ..records.task import Task
from ..settings import is_disabled
from .abandoned import watch
from .confirming import Confirmation, is_covered
from .depth import elsewhere, has_room
from .leaving import WayOut, close_task, put_right
from .node import Scope, innermost, parent_of
from .options import CapsuleTypeName, ScopeOptions, attribution_of, check, given_of

if TYPE_CHECKING:
    from qp_capsule import CapsuleType

__all__ = [
    "Scope",
    "capsule_scope",
    "current_scope",
    "current_task",
    "innermost",
    "parent_of",
]

_NOWHERE = Scope(None, NOBODY)


def _recorded_nowhere(what: str) -> None:
    """Say, once in a process for each way to write to a task, that there was none."""
    if not is_disabled():
        tell_once(
            "warning",
            "written outside of every task, and recorded nowhere: write to a task inside a decorated call or"
            " a capsule_scope",
            what=what,
        )


class _Detached(Task):
    """The task outside every task: it takes whatever it is given and records nothing."""

    __slots__ = ()
    recording = False

    def __init__(self) -> None:
        super().__init__(
            "no task",
            parent=None,
            attribution=NOBODY,
            capsule_type="agent",
            policy=ContentPolicy(mode="omit"),
        )

    def reason(self, *_: Any, **__: Any) -> None:
        """Record nothing."""
        _recorded_nowhere("reason")

    def tool(self, *_: Any, **__: Any) -> None:
        """Record nothing."""
        _recorded_nowhere("tool")

    def side_effect(self, *_: Any, **__: Any) -> None:
        """Record nothing."""
        _recorded_nowhere("side_effect")

    def metric(self, *_: Any, **__: Any) -> None:
        """Record nothing."""
        _recorded_nowhere("metric")

    def block(self, *_: Any, **__: Any) -> None:
        """Record nothing."""
        _recorded_nowhere("block")

    @property
    def summary(self) -> str:
        """Always empty."""
        return ""

    @summary.setter
    def summary(self, text: str) -> None:
        """Record nothing."""
        _recorded_nowhere("summary")


_DETACHED = _Detached()


def current_scope() -> Scope:
    """Return what this code runs under; outside every scope one that sets nothing.

    In code that was started in a scope and outlives it (a background task, a timer) this is that
    scope: its identity still holds, its authority does not, and its task is the nearest open one.
    """
    return innermost() or _NOWHERE


def current_task() -> Task:
    """Return the innermost open task.

    Outside every task (and while the SDK is disabled) it is a detached one, with ``recording``
    false, which takes whatever it is given and records nothing: code that annotates its task works
    on its own as well. The log says so once for each way to write to it.
    """
    return parent_of(innermost())[0] or _DETACHED


def open_task(
    name: str,
    *,
    inner: Attribution,
    capsule_type: str,
    within: Scope | None,
    describe: Callable[[ContentPolicy], tuple[str, Any]],
    keep: Callable[[Scope], None],
) -> Scope:
    """Begin a task for code that was called in the scope ``within``; return its scope, not yet current.

    ``describe`` gives the task's request and arguments as the recorder's policy lets them be sealed. ``keep``
    is given the scope before anything is begun that an interrupt could leave open.
    """
    recorder = get_recorder()
    policy = recorder.policy
    request, arguments = describe(policy)
    node = Scope(within, inner, recorder)
    watch()
    parent, ended = parent_of(within)
    attribution = with_defaults(node.attribution, recorder)
    if ended is not None:
        facts = {**attribution.environment, "closed_parent": str(ended)}
        attribution = replace(attribution, environment=facts)
    recorder.ready()
    node.task = Task(
        name,
        parent=parent,
        attribution=attribution,
        capsule_type=capsule_type,
        policy=policy,
        request=request,
        arguments=arguments,
    )
    keep(node)
    recorder.begin(node.task)
    return node


def with_defaults(attribution: Attribution, recorder: Recorder) -> Attribution:
    """Fill in what ``configure`` says of agent and domain, where no scope names them."""
    settings = recorder.settings
    if not settings.agent_id and not settings.domain:
        return attribution
    return _configured(settings.agent_id or None, settings.domain or None).overlaid(attribution)


@functools.lru_cache(maxsize=16)
def _configured(agent_id: str | None, domain: str | None) -> Attribution:
    return Attribution(agent_id=agent_id, domain=domain)


def confirmation(node: Scope | None) -> Confirmation | None:
    """Return what strict mode waits for when the task of ``node`` has ended well, if there is anything.

    Raises:
        RecordingError: strictness was asked for, and how the task ended could not be recorded.

    """
    if node is None or node.recorder is None or node.task is None:
        return None
    recorder, task = node.recorder, node.task
    if recorder.settings.swallow_errors:
        return None
    if task.status == "pending":
        raise RecordingError(
            f"how the task {task.name!r} ended could not be recorded; the log of capsule_sdk says why"
        )
    return None if is_covered(task) else Confirmation([(recorder, task)])


def refuse_if_strict(node: Scope | None, name: str) -> None:
    """Refuse, in strict mode, to run code whose task ``name`` could not be opened.

    Raises:
        RecordingError: there is no ``node``, and strictness was asked for.

    """
    if node is not None:
        return
    strict, why = False, "the log of capsule_sdk says why"
    with guarded("scope.strict"):
        try:
            strict = not get_recorder().settings.swallow_errors
        except ConfigurationError as error:  # which only strict mode makes of a wrong variable
            strict, why = True, str(error)
    if strict:
        raise RecordingError(
            f"the task {name!r} could not be opened, and with swallow_errors=False nothing "
            f"runs unrecorded; {why}"
        )


class capsule_scope:  # noqa: N801 - used as a statement: with capsule_scope(...)
    """Record a block as a task, or change what the code inside runs under: ``with``, ``async with``.

    What is left out is inherited.

    Args:
        name: what the task is called: ``trigger.source`` (CPS 1.1).
        agent_id: whose work it is.
        domain: the business domain it belongs to.
        capsule_type: ``"agent"`` by default.
        authority: under whose authority the code inside acts (CPS 1.4).
        approver: who approved it.
        policy_reference: the policy that permits it.
        escalation_reason: why it needs more than the usual authority.
        session_id: the session.
        user_id: the authenticated user.
        correlation_id: what ties it to records elsewhere.
        tenant_id: whose chain it goes into, in PostgreSQL.
        environment: facts for CPS 1.2.
        request: text for ``trigger.request``.
        record: ``False`` makes no task of its own and yields the one around.
        **unknown: nothing; an option that does not exist is refused with the one that it resembles.

    Raises:
        ConfigurationError: an option does not exist or cannot have this value.
        AuthorityError: the authority does not exist; the message lists those that do.
        RecordingError: in strict mode only: on the way in nothing can be recorded, or on the way
            out of the outermost one the capsules are not in the chain in time. ``async with`` waits
            for that without blocking the event loop, ``with`` blocks.

    """

    __slots__ = ("_cramped", "_inner", "_name", "_node", "_options", "way_out")

    def __init__(
        self,
        name: str | None = None,
        *,
        agent_id: str | None = None,
        domain: str | None = None,
        capsule_type: CapsuleTypeName | CapsuleType | None = None,
        authority: AuthorityName | Authority | None = None,
        approver: str | None = None,
        policy_reference: str | None = None,
        escalation_reason: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        correlation_id: str | None = None,
        tenant_id: str | None = None,
        environment: Mapping[str, Any] | None = None,
        request: str | None = None,
        record: bool = True,
        **unknown: Never,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise ConfigurationError(f"capsule_scope: name={name!r} must be a text")
        options = given_of(locals(), ScopeOptions)
        if options or unknown:
            check("capsule_scope", options | unknown, ScopeOptions)
        self._name = name or "scope"
        self._options = options
        self._inner = attribution_of(options)
        self._node: Scope | None = None
        self._cramped = False
        self.way_out: weakref.ref[Any] | None = None

    def __enter__(self) -> Task:
        if self._node is not None:
            raise ConfigurationError(
                f"this capsule_scope({self._name!r}) is open already; make a new one for each `with`"
            )
        if is_disabled():
            return _DETACHED
        self._cramped = not has_room()
        try:  # here and below: `guarded` would be a tenth of the price of a scope
            opened = functools.partial(self._open, innermost())
            node = elsewhere(opened) if self._cramped else opened()
            node.enter()
            return current_task() if node.task is None else node.task
        except Exception as error:  # noqa: BLE001
            self._interrupted(self._node, error)
            report("scope.enter", error)
        except BaseException as error:
            self._interrupted(self._node, error)
            raise
        refuse_if_strict(self._node, self._name)
        return current_task()

    @property
    def is_open(self) -> bool:
        """Whether it was entered, and not left."""
        return self._node is not None

    def abandon(self, _: object = None) -> None:
        """Leave what an interrupt has kept from being left; see `capsule_sdk.scopes.leaving`."""
        self.way_out = None
        if self._node is not None:
            self._interrupted(self._node, KeyboardInterrupt())

    def _keep(self, node: Scope) -> None:
        self._node = node

    def _interrupted(self, node: Scope | None, error: BaseException) -> None:
        self._node = None
        if node is not None:
            put_right(node, error)

    def _open(self, within: Scope | None) -> Scope:
        options = self._options
        if not options.get("record", True):
            watch()
            node = self._node = Scope(within, self._inner)
            return node
        return open_task(
            self._name,
            inner=self._inner,
            capsule_type=str(options.get("capsule_type") or "agent"),
            within=within,
            describe=lambda policy: (policy.text(options.get("request") or ""), None),
            keep=self._keep,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        waits_for = self._leave(error)
        if waits_for is not None:
            waits_for.confirm()

    # Both of these do their work when they are called, not when what they return is awaited: until then nothing
    # would stand for the way out, see `leaving`.

    def __aenter__(self) -> Coroutine[Any, Any, Task]:
        return _entered(self.__enter__())

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        return _confirmed(self._leave(error))

    def _leave(self, error: BaseException | None) -> Confirmation | None:
        node = self._node
        if node is None:
            self.way_out = None
            return None
        try:
            self._node = self.way_out = None
            node.suspend()
            closed = functools.partial(close_task, node, error)
            elsewhere(closed) if self._cramped else closed()
        except Exception as trouble:  # noqa: BLE001
            report("scope.exit", trouble)
        except BaseException as interrupt:
            put_right(node, interrupt)
            raise
        return confirmation(node) if error is None else None


capsule_scope.__exit__ = WayOut(capsule_scope.__exit__)  # type: ignore[method-assign,assignment]
capsule_scope.__aexit__ = WayOut(capsule_scope.__aexit__)  # type: ignore[method-assign,assignment]


async def _entered(task: Task) -> Task:
    return task


async def _confirmed(waits_for: Confirmation | None) -> None:
    if waits_for is not None:
        await waits_for.aconfirm()
