"""The options that ``@capsuled`` and ``capsule_scope`` share: their types, their checks, their meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, get_args

from ..content import instance, label, safe
from ..errors import ConfigurationError
from ..records.attribution import NOBODY, Attribution
from ..records.authority import Authority, AuthorityName

if TYPE_CHECKING:
    from qp_capsule import CapsuleType

__all__ = [
    "SOURCED",
    "ArgumentSource",
    "CapsuleTypeName",
    "ScopeOptions",
    "TaskOptions",
    "attribution_of",
    "check",
    "from_arg",
    "text_of",
]


@dataclass(frozen=True, slots=True)
class from_arg:  # noqa: N801 - reads as the function it is in the user's line
    """Take an option's value from the argument of this name, at each call of a decorated function."""

    name: str


#: An option that each call of a decorated function may answer anew: a text, the name of an
#: argument, or a function of the bound arguments.
ArgumentSource: TypeAlias = str | from_arg | Callable[[Mapping[str, Any]], Any]

#: Options whose value a decorated call may take from its arguments.
SOURCED = ("session_id", "user_id", "tenant_id", "correlation_id")
_FLAGS = ("record", "capture_args", "capture_result")
CapsuleTypeName: TypeAlias = Literal[
    "agent", "tool", "system", "kill", "workflow", "chat", "vault", "auth"
]
_CAPSULE_TYPES: tuple[str, ...] = get_args(CapsuleTypeName)


class CommonOptions(TypedDict, total=False):
    """What both take. ``None`` and absence mean: inherited from the scope around."""

    agent_id: str | None
    domain: str | None
    capsule_type: CapsuleTypeName | CapsuleType | None
    authority: AuthorityName | Authority | None
    approver: str | None
    policy_reference: str | None
    escalation_reason: str | None
    environment: Mapping[str, Any] | None


class ScopeOptions(CommonOptions, total=False):
    """The options of ``capsule_scope``."""

    session_id: str | None
    user_id: str | None
    correlation_id: str | None
    tenant_id: str | None
    request: str | None
    record: bool


class TaskOptions(CommonOptions, total=False):
    """The options of ``@capsuled``."""

    name: str | None
    request_from: ArgumentSource | None
    session_id: ArgumentSource | None
    user_id: ArgumentSource | None
    correlation_id: ArgumentSource | None
    tenant_id: ArgumentSource | None
    capture_args: bool
    capture_result: bool


def check(
    where: str, given: Mapping[str, Any], allowed: type[ScopeOptions] | type[TaskOptions]
) -> None:
    """Refuse an option that does not exist, or one of the wrong kind, and say what to do.

    Raises:
        ConfigurationError: which option, and what it could be.

    """
    known = allowed.__annotations__
    for name, value in given.items():
        if name not in known:
            close = get_close_matches(name, known, 1)
            raise ConfigurationError(
                f"{where} has no option {name!r}; "
                + (
                    f"did you mean {close[0]!r}?"
                    if close
                    else f"it takes {', '.join(sorted(known))}"
                )
            )
        if value is None and name not in _FLAGS:
            continue
        wanted = _wanted(name, value, sourced=allowed is TaskOptions)
        if wanted is not None:
            raise ConfigurationError(f"{where}: {name}={value!r} must be {wanted}")


def given_of(
    values: Mapping[str, Any], allowed: type[ScopeOptions] | type[TaskOptions]
) -> dict[str, Any]:
    """Return those of a signature's options that are not left at their default."""
    defaults = _TASK_DEFAULTS if allowed is TaskOptions else _SCOPE_DEFAULTS
    return {
        name: value for name, default in defaults.items() if (value := values[name]) is not default
    }


def _defaults(allowed: type[ScopeOptions] | type[TaskOptions]) -> dict[str, Literal[True] | None]:
    return {name: True if name in _FLAGS else None for name in allowed.__annotations__}


_SCOPE_DEFAULTS, _TASK_DEFAULTS = _defaults(ScopeOptions), _defaults(TaskOptions)


def _wanted(name: str, value: Any, *, sourced: bool) -> str | None:
    """Return what this option takes, if ``value`` is something else."""
    from_call = callable(value) or type(value) is from_arg
    if name == "authority":  # Authority checks it, and lists what there is
        fits, wanted = True, ""
    elif name in _FLAGS:
        fits, wanted = isinstance(value, bool), "True or False"
    elif name == "environment":
        fits, wanted = isinstance(value, Mapping), "a mapping"
    elif name == "capsule_type":
        fits, wanted = value in _CAPSULE_TYPES, f"one of {', '.join(_CAPSULE_TYPES)}"
    elif name == "request_from":
        fits, wanted = from_call or instance(value, str), "an argument's name or a function"
    elif from_call:
        fits = sourced and name in SOURCED
        wanted = f"a text: only @capsuled takes from_arg or a function, for {', '.join(SOURCED)}"
    elif name in SOURCED:  # ids come as UUID or number from a database
        fits = not instance(value, (bool, bytes, dict, list, tuple, set))
        wanted = "a text"
    else:
        fits, wanted = instance(value, str), "a text"
    return None if fits else wanted


def text_of(value: Any) -> str:
    """Return an option's value as text: a text whole, an id of another type as `label` has it."""
    return str.__str__(value) if instance(value, str) else label(value)


def attribution_of(given: Mapping[str, Any]) -> Attribution:
    """Return what these options set, and nothing of what they leave open.

    Raises:
        AuthorityError: the authority does not exist, or details stand without it.

    """
    if not given:
        return NOBODY
    authority = Authority.from_options(
        given.get("authority"),
        given.get("approver"),
        given.get("policy_reference"),
        given.get("escalation_reason"),
    )
    environment = given.get("environment")
    texts: dict[str, Any] = {
        name: text_of(value)
        for name in ("agent_id", "domain", *SOURCED)
        if (value := given.get(name)) is not None
        and not (callable(value) or type(value) is from_arg)
    }
    if not texts and authority is None and not environment:
        return NOBODY
    facts = safe(dict(environment)) if environment else {}
    return Attribution(
        **texts, authority=authority, environment=facts if isinstance(facts, dict) else {}
    )
