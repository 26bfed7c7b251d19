"""Files and directories on file systems as people have them: without hard links, without synced directories.

- A file that is put in place MUST NOT replace another, and MUST be whole: it is written and synced beside its
  place first.
- Its place is taken by a hard link, which one process alone can make, without a lock to wait for. Volumes of
  some containers, phones, network shares and FUSE have no hard links. There the file is renamed under a lock;
  and where there are no locks or renames either, it is created in its place: exclusive, but not whole at once.
- The lock is of the kind that a forked child does not inherit (POSIX, `fcntl.lockf`); it holds between
  processes only, so threads have one of their own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from capsule_sdk.forks import Stage, at_fork
from capsule_sdk.logs import tell
from capsule_sdk.owners import give_back
from capsule_sdk.threads import Lock

__all__ = ["make_private", "make_private_directory", "put_new", "sync_directory"]

_PATIENCE = 10.0  # seconds that another process may hold the lock; it needs a few milliseconds
_NO_LOCKS: Final = frozenset(
    {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
)

_threads = Lock()
_told: set[tuple[str, int | None]] = set()


def make_private_directory(directory: Path) -> None:
    """Create the directory, and those above it, for their owner only; one that exists keeps its mode."""
    if not directory.is_dir():
        for one in (*reversed(directory.parents), directory):
            if not one.is_dir():
                make_private(one)


def make_private(directory: Path) -> None:
    """Create a directory for its owner only, whatever the umask; one that exists keeps its mode."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        if directory.lstat().st_mode & 0o700 != 0o700:
            directory.chmod(0o700)


def put_new(path: Path, content: bytes) -> None:
    """Put a file in its place for its owner only, whole and synced; one that is there stays.

    Raises:
        OSError: it cannot be written, or another process takes too long to put one there.

    """
    descriptor, name = tempfile.mkstemp(prefix=path.name + ".", suffix=".new", dir=path.parent)
    try:
        give_back(descriptor, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if content:
                os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return
        except OSError:  # whatever it is: what cannot be linked may still be renamed
            _put_without_link(name, path, content)
    finally:
        with contextlib.suppress(FileNotFoundError):  # renamed
            Path(name).unlink()


def _put_without_link(name: str, path: Path, content: bytes) -> None:
    try:
        with _locked(path.with_name(f"{path.name}.lock")):
            if not path.exists():
                with contextlib.suppress(OSError):
                    Path(name).rename(path)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    if not path.exists():
        _create_in_place(path, content)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    deadline = time.monotonic() + _PATIENCE
    with _threads:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            give_back(descriptor, 0o600)
            while True:
                try:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if (
                        error.errno not in (errno.EACCES, errno.EAGAIN)
                        or time.monotonic() > deadline
                    ):
                        raise
                time.sleep(0.005)
            yield
        finally:
            os.close(descriptor)  # lets go of the lock, too


def _create_in_place(path: Path, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        give_back(descriptor, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()  # ours, and not whole
        raise


def sync_directory(directory: Path) -> None:
    """See to it that the names in a directory survive a power cut, where the file system can do that.

    Many cannot, and answer with any error there is. What is in the files is synced by itself, and an error of
    that is one; so a directory that cannot be synced is told once, and all goes on.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.EINVAL or (str(directory), error.errno) in _told:
            return  # EINVAL: the usual way to say that there is no such thing
        _told.add((str(directory), error.errno))
        tell(
            "warning",
            "a directory cannot be synced: a file that is new may be missing after a power cut",
            directory=str(directory),
            error=f"{type(error).__name__}: {error}",
        )


def _after_fork_in_child(_: object) -> None:
    global _threads  # noqa: PLW0603 - another thread of the parent may have held the old one
    _threads = Lock()


at_fork(Stage.REST, in_child=_after_fork_in_child)
