"""The default recorder: one for the process, made on first use or by `configure`."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Never

import anyio.to_thread

from ..clocks import monotonic
from ..errors import ChainUnavailable, ConfigurationError
from ..forks import beginning
from ..logs import tell
from ..owners import resolved
from ..settings import PREFIX, Settings, refuse_unknown, say_once
from .exiting import shut_down
from .forking import live_recorders
from .libraries import load
from .recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from qp_capsule import Capsules

    from ..chain import Chain
    from .recovery import Found

__all__ = [
    "aflush",
    "configure",
    "flush",
    "generation",
    "get_recorder",
    "recorder_for",
    "recover",
    "shutdown",
]

_default: Recorder | None = None
_configured = False
#: Grows whenever another recorder becomes the default one: whoever keeps one knows by it when to ask anew.
_generation = 0
#: Recorders of loggers that were given a chain of their own, by the identity of its store.
_others: dict[str, Recorder] = {}


def configure(
    capsules: Capsules | str | os.PathLike[str] | None = None,
    *,
    url: str | os.PathLike[str] | None = None,
    agent_id: str | None = None,
    domain: str | None = None,
    content: Literal["full", "digest", "omit"] | None = None,
    messages: Literal["hash", "full"] | None = None,
    redact: Callable[[str], str] | None = None,
    max_text: int | None = None,
    swallow_errors: bool | None = None,
    settle_timeout: float | None = None,
    exit_timeout: float | None = None,
    journal: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_capsules: int | None = None,
    checkpoint_seconds: float | None = None,
    **unknown: Never,
) -> Recorder:
    """Set up the default recorder. Calling it again flushes and replaces the one before.

    What is not given comes from ``CAPSULE_SDK_<NAME>``, then from the defaults.

    Args:
        capsules: the store: what ``url`` takes, or a qp-capsule ``Capsules``, whose storage and seal are used.
        url: or the store by name: ``sqlite:///…``, a path, or ``postgresql://…``.
        agent_id: agent of records outside every scope that names one.
        domain: likewise for the domain.
        content: ``"full"`` (default), ``"digest"`` or ``"omit"``: what is sealed of texts.
        messages: ``"hash"`` (default) seals of an LLM call's messages the user's last one, and all as a hash;
            ``"full"`` the whole conversation, system prompt, tool results and definitions of tools included.
        redact: called with every text of the content before it is sealed; returns what may be sealed.
        max_text: bytes (UTF-8) sealed of one text; 16 KiB by default, the rest is proven by its digest.
        swallow_errors: ``False``: the end of the outermost task waits for the commit, and raises
            `RecordingError`.
        settle_timeout: seconds an ended task waits for calls still open under it; 5 by default.
        exit_timeout: seconds the end of the process waits for the chain; 10 by default.
        journal: directory for the journals that keep records safe until they are in the chain; by default
            ``journal`` beside a SQLite file, and in qp-capsule's data directory for every other store.
        checkpoint: directory, which has to be there, for signed checkpoints of the chain; without it
            none are written. Not with a custom storage, whose chain is not linked here.
        checkpoint_capsules: capsules after which a checkpoint is written; 1000 by default.
        checkpoint_seconds: longest time in seconds before a capsule is covered by one; 60 by default.

        **unknown: nothing; a keyword that does not exist is refused with the one that it resembles.

    Returns:
        The recorder, which is now the default one.

    Raises:
        ConfigurationError: a value cannot be used; the message says what can. With ``swallow_errors=False``,
            a variable too; otherwise that is logged, once, and the message says what stands in for it.

    """
    global _default, _configured, _generation  # noqa: PLW0603 - this module is the department of global state
    if capsules is not None and url is not None:
        raise ConfigurationError("capsules= and url= both name a store; give one of them")
    refuse_unknown("configure", unknown, [field.name for field in fields(Settings)])
    if isinstance(capsules, str | os.PathLike):
        capsules, url = None, capsules
    settings = Settings.from_environment(
        {
            "url": _text(url),
            "agent_id": agent_id,
            "domain": domain,
            "content": content,
            "messages": messages,
            "redact": redact,
            "max_text": max_text,
            "swallow_errors": swallow_errors,
            "settle_timeout": settle_timeout,
            "exit_timeout": exit_timeout,
            "journal": _directory(journal),
            "checkpoint": _directory(checkpoint),
            "checkpoint_capsules": checkpoint_capsules,
            "checkpoint_seconds": checkpoint_seconds,
        }
    )
    if capsules is None:
        settings = _located(settings, variable=url is None)
    recorder = _recorder(settings, capsules)
    recorder.identity()
    with beginning:
        before, _default, _configured = _default, recorder, True
        _generation += 1
    if before is not None and (left := before.shutdown()):
        tell("error", "the store of before is away; its records are still queued", records=left)
        before.start()
    return recorder


def get_recorder() -> Recorder:
    """Return the default recorder; the first use makes it of the environment and qp-capsule's defaults.

    Raises:
        ConfigurationError: in strict mode only: a ``CAPSULE_SDK_…`` variable cannot be used.

    """
    global _default, _generation  # noqa: PLW0603 - see configure
    recorder = _default
    if recorder is None:
        with beginning:
            if _default is None:
                _default = _recorder(_located(Settings.from_environment({}), variable=True), None)
                _generation += 1
            recorder = _default
    return recorder


def generation() -> int:
    """Return a number that changes when another recorder becomes the default one."""
    return _generation


def recorder_for(capsules: Capsules | None, *, swallow_errors: bool = True) -> Recorder:
    """Return the recorder of the chain that ``capsules`` keeps; the default one where it is the same chain.

    With nothing configured and nothing begun yet, that chain becomes the default one.
    """
    global _default, _configured, _generation  # noqa: PLW0603 - see configure
    if capsules is None:
        return get_recorder()
    load()
    from ..chain import chain_identity  # noqa: PLC0415 - imports qp-capsule and SQLAlchemy

    identity = chain_identity(capsules, None)
    with beginning:
        if _default is not None and identity == _default.identity():
            return _default
        if identity not in _others:
            recorder = _recorder(
                Settings.from_environment({"swallow_errors": swallow_errors}), capsules
            )
            if not _configured and (_default is None or _default.is_unused()):
                _default, _configured = recorder, True
                _generation += 1
                return recorder
            _others[identity] = recorder
        return _others[identity]


def flush(timeout: float = 30.0) -> int:
    """Wait until all that has ended so far is durably in its chain.

    Args:
        timeout: seconds to wait at most.

    Returns:
        How many records are not durable yet; 0 means that all are.

    """
    deadline = monotonic() + timeout
    return sum(recorder.flush(deadline - monotonic()) for recorder in live_recorders())


async def aflush(timeout: float = 30.0) -> int:  # noqa: ASYNC109 - the twin of flush, which returns a count
    """Do as `flush`, without blocking the event loop (asyncio or trio)."""
    return await anyio.to_thread.run_sync(flush, timeout, abandon_on_cancel=True)


def shutdown(timeout: float | None = None) -> int:
    """Flush, stop the writers and close the stores. The next record makes a new default recorder.

    Args:
        timeout: seconds to wait at most; ``exit_timeout`` unless given.

    Returns:
        How many records are not durable.

    """
    global _default, _configured, _generation  # noqa: PLW0603 - see configure
    with beginning:
        _default, _configured = None, False
        _generation += 1
        _others.clear()
    return shut_down(live_recorders(), timeout)


def recover(
    url: str | os.PathLike[str] | None = None, *, journal: str | os.PathLike[str] | None = None
) -> Found:
    """Bring what processes that are no more have left behind into the chain of a store.

    The next process that records there does it by itself. Twice is the same as once.

    Args:
        url: the store, as in `configure`.
        journal: the directory of the journals, as in `configure`.

    Returns:
        What was found.

    Raises:
        ConfigurationError: that is no store.
        ChainUnavailable: there is something left, and the store does not take it.

    """
    recorder = _recorder_of(url, journal)
    try:
        found = recorder.recover()
        trouble = recorder.stats().store_trouble
    finally:
        recorder.shutdown()
    if trouble:
        raise ChainUnavailable(trouble)
    return found


def store_and_journals(
    url: str | os.PathLike[str] | None = None, *, journal: str | os.PathLike[str] | None = None
) -> tuple[str, Path]:
    """Return the name of a store, and the directory of its journals.

    Raises:
        ConfigurationError: that is no store.

    """
    recorder = _recorder_of(url, journal)
    return recorder.identity(), recorder.journals()


def _recorder_of(
    url: str | os.PathLike[str] | None, journal: str | os.PathLike[str] | None
) -> Recorder:
    settings = Settings.from_environment({"url": _text(url), "journal": _directory(journal)})
    return _recorder(_located(settings, variable=url is None, instead=False), None)


def _text(url: str | os.PathLike[str] | None) -> str | None:
    return os.fspath(url) if isinstance(url, os.PathLike) else url


def _directory(path: str | os.PathLike[str] | None) -> str | None:
    """Return a directory by its real path: a relative one is meant from the directory of this moment."""
    return None if path is None else os.path.realpath(path)


def _located(settings: Settings, *, variable: bool, instead: bool = True) -> Settings:
    """Check where the store is, and fix it: a relative path means the directory of this moment.

    Where it was a ``variable`` that named it, qp-capsule's own database stands ``instead`` of what is no store.
    """
    if settings.url is None:
        return settings
    load(settings.url)
    from ..chain import chain_identity  # noqa: PLC0415 - imports qp-capsule and SQLAlchemy
    from ..chain.location import is_postgresql  # noqa: PLC0415 - see above

    try:
        chain_identity(None, settings.url)  # which says what is wrong with what is no store
        if is_postgresql(settings.url):
            return settings
        file = resolved(Path(settings.url.removeprefix("sqlite:///")).expanduser())
        if os.path.isdir(file):  # noqa: PTH112 - what cannot be looked at now is no wrong name
            raise ConfigurationError(
                f"{settings.url!r} is a directory; name a file in it: {file}/capsules.db"
            )
    except (ConfigurationError, OSError) as error:
        if not variable:
            raise ConfigurationError(str(error)) from error
        problem = f"{PREFIX}URL: {error}"
        if not (instead and settings.swallow_errors):
            raise ConfigurationError(problem) from error
        # Evidence that lies elsewhere can be found; what was never recorded cannot.
        say_once(f"{problem}; until then records go to qp-capsule's own database")
        return replace(settings, url=None)
    return replace(settings, url=str(file))


def _recorder(settings: Settings, capsules: Capsules | None) -> Recorder:
    url = None if capsules is not None else settings.url
    if settings.checkpoint is not None:
        settings = _with_checkpoints(settings, capsules)

    fixed: list[str] = []  # once: what leads there may be another thing later

    def identity() -> str:
        if not fixed:
            load()
            from ..chain import chain_identity  # noqa: PLC0415 - imports qp-capsule and SQLAlchemy

            located = url is not None and Path(url).is_absolute()
            fixed.append(f"sqlite:///{url}" if located else chain_identity(capsules, url))
        return fixed[0]

    def open_chain() -> Chain:
        from ..chain import open_chain  # noqa: PLC0415 - see above

        chain = open_chain(capsules, url)
        if chain.identity != identity():
            raise ChainUnavailable(
                f"{identity()} leads to {chain.identity} now: somebody has put a link there; remove it"
            )
        return chain

    def journals() -> Path:
        from .whereabouts import journals_of  # noqa: PLC0415 - see above

        return journals_of(identity, settings.journal)

    return Recorder(settings, open_chain, identity, journals)


def _with_checkpoints(settings: Settings, capsules: Capsules | None) -> Settings:
    """Fix the directory, and refuse a storage whose heads nobody here knows."""
    if capsules is not None:
        load()
        from ..chain import chain_identity, is_written_by_us  # noqa: PLC0415 - imports SQLAlchemy

        chain_identity(capsules)  # says what is wrong with what is no Capsules at all
        if not is_written_by_us(capsules):
            raise ConfigurationError(
                f"checkpoint= cannot be used with {type(capsules.storage).__name__}, a storage that links"
                " its chain by itself: leave it out (and CAPSULE_SDK_CHECKPOINT unset), or record to a"
                " SQLite file or PostgreSQL"
            )
    directory = _directory(settings.checkpoint)
    if directory is not None and not Path(directory).is_dir():
        say_once(
            f"checkpoint: there is no directory {directory}: make or mount it; until then no checkpoint is"
            " written"
        )
    return replace(settings, checkpoint=directory)
