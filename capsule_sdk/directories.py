"""Directories that are held by their descriptors, after a look at whose they are. A leaf but for those rules.

What was looked at is what is used: a name that changes meanwhile changes nothing. What leads to a directory is
looked at from the root on, a name at a time; the directory itself is never a link. The rules are in
`capsule_sdk.owners`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from pathlib import Path
from typing import Final

from .forks import Stage, at_fork
from .owners import (
    LINKS,
    UnsafeError,
    give_back,
    refuse_a_swap,
    refuse_link,
    refuse_what_is_not_ours,
)

__all__ = ["Held", "UnsafeError", "beside", "open_directory", "open_if_any", "ours"]

#: To look at a directory no right to read it is needed; some systems have no such way.
_LOOK: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: Descriptors that a forked child must not keep: some are, or keep, a lock of its parent's.
ours: set[int] = set()


class Held:
    """A directory by its descriptor: it stays the same, whatever takes its name."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.fd = descriptor
        ours.add(descriptor)

    def again(self) -> Held:
        """Hold it a second time, for somebody who lets go of it at another moment."""
        return Held(self.path, os.dup(self.fd))

    def names(self, prefix: str = "") -> list[str]:
        """Return the names in it that begin so, in their order."""
        # Anew: how far a descriptor has been read is shared by its duplicates and by all threads.
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(".", flags, dir_fd=self.fd)
        try:
            found = os.listdir(descriptor)  # noqa: PTH208 - of a descriptor
        finally:
            os.close(descriptor)
        return sorted(name for name in found if name.startswith(prefix))

    def look(self, name: str) -> os.stat_result:
        """Look at what has a name in it, a link for itself."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def directory(self, name: str) -> Held:
        """Hold a directory in it.

        Raises:
            UnsafeError: it is a link, or not this user's alone.

        """
        path = self.path / name
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=self.fd)
        except OSError as error:
            raise _meant(error, path, self.fd, name) from error
        held = Held(path, descriptor)
        try:
            refuse_what_is_not_ours(os.fstat(descriptor), path)
        except BaseException:
            held.close()
            raise
        return held

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Return the descriptor of a file in it.

        Raises:
            UnsafeError: it is a link, no file at all, or not this user's alone.

        """
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=self.fd)
        except OSError as error:
            raise _meant(error, self.path / name, self.fd, name) from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise UnsafeError(self.path / name, f"{self.path / name} is no file: remove it")
            refuse_what_is_not_ours(found, self.path / name)
            if flags & os.O_CREAT:
                give_back(descriptor, 0o600)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def create(self, name: str, flags: int = os.O_WRONLY | os.O_APPEND) -> int:
        """Make a file in it, for its owner only, and return its descriptor."""
        flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self.fd)
        give_back(descriptor, 0o600)
        return descriptor

    def make(self, name: str) -> None:
        """Make a directory in it, for its owner only.

        Raises:
            FileExistsError: there is one.
            OSError: it cannot be made.

        """
        os.mkdir(name, 0o700, dir_fd=self.fd)
        if self.look(name).st_mode & 0o700 != 0o700:
            # A umask of 0777; nobody else can swap it here.
            os.chmod(name, 0o700, dir_fd=self.fd)

    def unlink(self, name: str) -> None:
        """Remove a file, or a link itself; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def close(self) -> None:
        """Let go of it. Once is enough, and not after a fork."""
        if self.fd in ours:
            ours.discard(self.fd)
            os.close(self.fd)
        self.fd = -1


def open_directory(path: Path, *, make: bool = False) -> Held:
    """Hold a directory that is this user's alone.

    Args:
        path: is walked from the root; links of this user's or root's on the way are followed.
        make: whether to make what is not there, mode 0700.

    Raises:
        UnsafeError: it may be somebody else's, or somebody else could put another in its place.
        OSError: it is not there, or cannot be opened or made.

    """
    path = Path.cwd() / path
    walk = _Walk(path.parent, make=make)
    try:
        walk.to_the_end()
        found, made = walk.look(path.name)
        if stat.S_ISLNK(found.st_mode):
            raise UnsafeError(
                path, f"{path} is a symbolic link, and none is followed there: remove it"
            )
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        held = Held(path, os.open(path.name, flags, dir_fd=walk.fd))
    finally:
        walk.close()
    try:
        refuse_what_is_not_ours(os.fstat(held.fd), path, new=made)
    except BaseException:
        held.close()
        raise
    return held


def open_if_any(root: Path) -> Held | None:
    """Hold a directory, as `open_directory` does; ``None`` where nobody has laid anything.

    Raises:
        UnsafeError: ``root`` is not this user's alone.
        OSError: it cannot be read.

    """
    try:
        return open_directory(root)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnsafeError:
        if not _is_bare(root):
            raise
        return None


def beside(path: Path) -> Held:
    """Hold a directory whatever may be said of it: for who looks at each file in it.

    Raises:
        OSError: it cannot be opened.

    """
    return Held(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def _is_bare(root: Path) -> bool:
    """Tell whether nobody has laid anything in a directory, or there is none."""
    try:
        if not stat.S_ISDIR(root.lstat().st_mode):
            return False
        return not any(root.iterdir())
    except FileNotFoundError:
        return True
    except OSError:
        return False


class _Walk:
    """The way to a directory, one name at a time, each looked at through the one before."""

    def __init__(self, path: Path, *, make: bool) -> None:
        self._parts = deque(path.parts[1:])
        self._at = Path(path.anchor)
        self.fd = os.open(self._at, _LOOK)
        self._make = make
        self._links = 0

    def close(self) -> None:
        os.close(self.fd)

    def to_the_end(self) -> None:
        while self._parts:
            name = self._parts.popleft()
            found, _ = self.look(name)
            if stat.S_ISLNK(found.st_mode):
                self._follow(name, found)
                continue
            descriptor = os.open(name, _LOOK, dir_fd=self.fd)
            os.close(self.fd)
            self.fd, self._at = descriptor, self._at / name

    def look(self, name: str) -> tuple[os.stat_result, bool]:
        """Look at what has a name here, and tell whether it was made for that."""
        made = False
        try:
            found = self._stat(name)
        except FileNotFoundError:
            if not self._make:
                raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self.fd)
                made = True
            found = self._stat(name)
        refuse_a_swap(os.fstat(self.fd), self._at, found, self._at / name)
        if made and found.st_mode & 0o700 != 0o700:  # a umask of 0777; nobody else can swap it now
            os.chmod(name, 0o700, dir_fd=self.fd)
            found = self._stat(name)
        return found, made

    def _stat(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def _follow(self, name: str, found: os.stat_result) -> None:
        where = self._at / name
        refuse_link(found, where)
        self._links += 1
        if self._links > LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(where))
        target = Path(os.readlink(name, dir_fd=self.fd))
        if target.is_absolute():
            self._at = Path(target.anchor)
            descriptor = os.open(self._at, _LOOK)
            os.close(self.fd)
            self.fd = descriptor
        self._parts.extendleft(part for part in reversed(target.parts) if part != target.anchor)


def _meant(error: OSError, path: Path, directory: int, name: str) -> OSError:
    """Return what an error of opening means where a link is the reason."""
    with contextlib.suppress(OSError):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            return UnsafeError(
                path, f"{path} is a symbolic link, and none is followed there: remove it"
            )
    return error


def _after_fork_in_child(_: object) -> None:
    for descriptor in ours:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    ours.clear()


at_fork(Stage.REST, in_child=_after_fork_in_child)
