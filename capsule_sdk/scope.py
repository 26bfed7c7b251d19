"""Scope: what the current code runs under. One ContextVar holds a chain of nodes, innermost first.

Invariants: a node is closed once and stays closed; readers walk past closed nodes, so that a node left
behind in a foreign context is never blamed; leaving puts back what was there, by value, and only where the
variable still holds the node that is left or one inside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, Unpack

import anyio.to_thread

from .attribution import NOBODY, Attribution
from .content import ContentPolicy, label
from .default import get_recorder
from .errors import ConfigurationError
from .logs import guarded
from .options import ScopeOptions, attribution_of, check
from .recorder import Recorder
from .settings import is_disabled
from .task import Task

__all__ = [
    "Scope",
    "add_capsule_ids",
    "capsule_scope",
    "current_scope",
    "current_task",
    "nearest_open",
]


class Scope:
    """What code inside runs under. Read it with `current_scope`; it is made by scopes and decorators."""

    __slots__ = ("_inside", "_outside", "attribution", "closed", "parent", "recorder", "task")

    def __init__(
        self,
        parent: Scope | None,
        inner: Attribution,
        task: Task | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.parent = parent
        self.attribution = (parent.attribution if parent else NOBODY).overlaid(inner)
        self.task = task
        self.recorder = recorder
        self.closed = False
        self._inside: Scope | None = None
        self._outside: Scope | None = None

    def __repr__(self) -> str:
        return f"<Scope task={self.nearest_task()!r} {'closed' if self.closed else 'open'}>"

    agent_id = property(lambda self: self.attribution.agent_id, doc="The agent, if a scope names one.")
    domain = property(lambda self: self.attribution.domain, doc="The domain, if a scope names one.")
    session_id = property(lambda self: self.attribution.session_id, doc="The session.")
    user_id = property(lambda self: self.attribution.user_id, doc="The authenticated user.")
    correlation_id = property(lambda self: self.attribution.correlation_id, doc="The correlation id.")
    tenant_id = property(lambda self: self.attribution.tenant_id, doc="The tenant.")
    environment = property(lambda self: self.attribution.environment, doc="Facts for CPS 1.2.")
    authority = property(lambda self: self.attribution.authority, doc="The authority in force.")

    def nearest_task(self) -> Task | None:
        """Return the innermost task that is still open, or ``None``."""
        node: Scope | None = self
        while node is not None:
            if node.task is not None and not node.task.closed:
                return node.task
            node = node.parent
        return None

    def resume(self) -> None:
        """Make this scope current here, or the inner one that was current in it when it was suspended."""
        self._outside = _current.get()
        _current.set(self._inside or self)

    def suspend(self) -> None:
        """Put back what was current before `resume`, unless this context never held this scope."""
        inside = node = _current.get()
        while node is not None and node is not self:
            node = node.parent
        if node is self:
            _current.set(self._outside)
            self._inside = inside
        self._outside = None


_current: ContextVar[Scope | None] = ContextVar("capsule_sdk_scope", default=None)
_NOWHERE = Scope(None, NOBODY)


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

    def _check_open(self, what: str) -> None:
        del what

    def reason(self, *_: Any, **__: Any) -> None:
        """Record nothing."""

    tool = side_effect = metric = block = reason  # type: ignore[assignment]


_DETACHED = _Detached()


def nearest_open() -> Scope | None:
    """Return the innermost open node of this context, or ``None``."""
    node = _current.get()
    while node is not None and node.closed:
        node = node.parent
    return node


def current_scope() -> Scope:
    """Return what this code runs under; outside every scope one that sets nothing."""
    return nearest_open() or _NOWHERE


def current_task() -> Task:
    """Return the innermost open task.

    Outside every task (and while the SDK is disabled) it is a detached one, with ``recording`` false, which
    takes whatever it is given and records nothing: code that annotates its task works on its own as well.
    """
    node = nearest_open()
    return (node.nearest_task() if node is not None else None) or _DETACHED


def open_task(
    name: str,
    *,
    inner: Attribution,
    capsule_type: str,
    parent: Scope | None,
    describe: Callable[[ContentPolicy], tuple[str, Any]],
) -> Scope:
    """Begin a task under ``parent`` and return its node, not yet current.

    ``describe`` gives the task's request and arguments as the recorder's policy lets them be sealed.
    """
    recorder = get_recorder()
    policy = recorder.policy
    request, arguments = describe(policy)
    node = Scope(parent, inner, recorder=recorder)
    node.task = Task(
        name,
        parent=parent.nearest_task() if parent is not None else None,
        attribution=with_defaults(node.attribution, recorder),
        capsule_type=capsule_type,
        policy=policy,
        request=request,
        arguments=arguments,
    )
    recorder.begin(node.task)
    return node


def close_task(node: Scope, error: BaseException | None = None, result: Any = None) -> None:
    """Close a node and settle its task, if nobody has yet."""
    node.closed = True
    task, recorder = node.task, node.recorder
    if task is None or recorder is None or not recorder.claim(task):
        return
    try:
        if error is None:
            task.result = None if result is None else task.policy.value(result)
            task.settle("success")
        else:
            task.settle_with(error)
    finally:
        recorder.finish(task)


def with_defaults(
    attribution: Attribution, recorder: Recorder, agent_id: str | None = None, domain: str | None = None
) -> Attribution:
    """Fill in agent and domain where no scope names them: what ``configure`` says, then the given ones."""
    if attribution.agent_id is not None and attribution.domain is not None:
        return attribution
    settings = recorder.settings
    return Attribution(
        agent_id=settings.agent_id or agent_id, domain=settings.domain or domain
    ).overlaid(attribution)


class capsule_scope:  # noqa: N801 - used as a statement: with capsule_scope(...)
    """Record a block as a task, or change what the code inside runs under. For ``with`` and ``async with``.

    Args:
        name: what the task is called: ``trigger.source`` (CPS 1.1).
        **options: all optional; what is left out is inherited. ``agent_id``, ``domain``, ``session_id``,
            ``user_id``, ``correlation_id``, ``tenant_id``, ``environment`` (facts for CPS 1.2),
            ``authority`` with ``approver``, ``policy_reference``, ``escalation_reason`` (CPS 1.4),
            ``capsule_type`` (``"agent"``), ``request`` (text for ``trigger.request``), and ``record``:
            ``False`` makes no task of its own and yields the one around.

    Raises:
        ConfigurationError: an option does not exist or cannot have this value.
        AuthorityError: the authority does not exist; the message lists those that do.
        RecordingError: on the way out, in strict mode only.

    """

    def __init__(self, name: str | None = None, **options: Unpack[ScopeOptions]) -> None:
        check("capsule_scope", options, ScopeOptions)
        if name is not None and not isinstance(name, str):
            raise ConfigurationError(f"capsule_scope: name={name!r} must be a text")
        self._name = name or "scope"
        self._inner = attribution_of(options)
        self._capsule_type = str(options.get("capsule_type") or "agent")
        self._request = options.get("request") or ""
        self._record = options.get("record", True)
        self._node: Scope | None = None

    def __enter__(self) -> Task:
        if self._node is not None:
            raise ConfigurationError(
                f"this capsule_scope({self._name!r}) is open already; make a new one for each `with`"
            )
        with guarded("scope.enter"):
            if not is_disabled():
                parent = nearest_open()
                if self._record:
                    self._node = open_task(
                        self._name,
                        inner=self._inner,
                        capsule_type=self._capsule_type,
                        parent=parent,
                        describe=lambda policy: (policy.text(self._request), None),
                    )
                else:
                    self._node = Scope(parent, self._inner)
                self._node.resume()
        return current_task()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        confirm = self._leave(error)
        if confirm is not None:
            confirm()

    async def __aenter__(self) -> Task:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        confirm = self._leave(error)
        if confirm is not None:
            await anyio.to_thread.run_sync(confirm)

    def _leave(self, error: BaseException | None) -> Callable[[], None] | None:
        node, self._node = self._node, None
        if node is None:
            return None
        with guarded("scope.exit"):
            node.suspend()
            close_task(node, error)
        return confirmation(node) if error is None else None


def confirmation(node: Scope | None) -> Callable[[], None] | None:
    """Return what strict mode does when a task has ended well: wait for its commit. ``None`` otherwise."""
    if node is None or node.recorder is None or node.task is None:
        return None
    if node.recorder.settings.swallow_errors:
        return None
    return functools.partial(node.recorder.confirm, node.task)


def add_capsule_ids(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Put ``capsule_id``, ``agent_id`` and ``session_id`` of the current task on a log line.

    A structlog processor: ``structlog.configure(processors=[add_capsule_ids, ...])``. What the line already
    says is left as it is, and outside every task nothing is added.
    """
    del logger, method
    node = nearest_open()
    task = node.nearest_task() if node is not None else None
    if task is not None:
        event.setdefault("capsule_id", str(task.id))
        for key, value in (
            ("agent_id", task.attribution.agent_id),
            ("session_id", task.attribution.session_id),
        ):
            if value is not None:
                event.setdefault(key, label(value))
    return event
