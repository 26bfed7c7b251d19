"""Whose a directory or file is, and who else can change it: the rules of decision 23. A leaf.

- What is relied on MUST be this user's, and closed to the writing of all others.
- Nobody else MUST be able to put another in its place. As in OpenSSH's `safe_path`, a group counts as others
  unless this user is all there is of it; unlike there, a sticky directory (``/tmp``) may lead to what is this
  user's, and owners that this system does not know, as volumes of containers have them, are let pass: what
  they lay is not this user's, and not believed.
- A link is followed if this user or root has made it.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Final

__all__ = [
    "LINKS",
    "UnsafeError",
    "acting_uid",
    "give_back",
    "looking_as",
    "open_to_others",
    "owner_if_another",
    "refuse_a_swap",
    "refuse_link",
    "refuse_planted",
    "refuse_what_is_not_ours",
    "resolved",
]

LINKS: Final = 40  # on one way, as Linux has it
#: Who owns what belongs to nobody here: files of another user namespace, or of another machine.
_UNMAPPED: Final = 65534


_eyes: ContextVar[int | None] = ContextVar("capsule_sdk_eyes", default=None)


@contextlib.contextmanager
def looking_as(uid: int) -> Iterator[None]:
    """Judge by what is another user's: for root, who only looks at it."""
    token = _eyes.set(uid)
    try:
        yield
    finally:
        _eyes.reset(token)


def acting_uid() -> int:
    """Return the number of the user with whose eyes is looked: this process's, unless said otherwise."""
    uid = _eyes.get()
    return os.geteuid() if uid is None else uid


class UnsafeError(PermissionError):
    """A directory or file that somebody else can have laid or changed. The text says what to do."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(errno.EPERM, problem, str(path))
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


def refuse_a_swap(above: os.stat_result, at: Path, found: os.stat_result, where: Path) -> None:
    """Raise where somebody else could put another in the place of what was found."""
    me = acting_uid()
    if above.st_uid not in (0, me) and me != 0 and _is_somebody(above.st_uid):
        raise UnsafeError(
            at,
            f"{at} belongs to {_name(above.st_uid)}, who can put another {where.name} there:"
            " name a directory of your own",
        )
    others = _others(above)
    if not others:
        return
    if not above.st_mode & stat.S_ISVTX:
        raise UnsafeError(
            at,
            f"{at} can be written by {others}, who can put another {where.name} there:"
            f" {_closed(above, at, 'that is meant so')}",
        )
    _refuse_another(found, where)


def _refuse_another(found: os.stat_result, where: Path) -> None:
    if found.st_uid not in (0, acting_uid()):
        raise UnsafeError(
            where,
            f"{where} belongs to {_name(found.st_uid)}, in a directory where everybody may make one:"
            " name another place",
        )


def refuse_what_is_not_ours(found: os.stat_result, path: Path, *, new: bool = False) -> None:
    """Raise where something is not this user's, or others can write to it."""
    me = acting_uid()
    if found.st_uid != me and new:
        raise UnsafeError(path, f"the file system of {path} does not keep whose a file is")
    if found.st_uid != me:
        raise UnsafeError(
            path,
            f"{path} belongs to {_name(found.st_uid)}, not to {_name(me)}: leave it to that user, and name"
            " another place",
        )
    if others := _others(found):
        if new:
            raise UnsafeError(path, f"the file system of {path} does not keep who may write")
        raise UnsafeError(
            path, f"{path} can be written by {others}: look at it, then chmod go-w {path}"
        )


def _closed(found: os.stat_result, path: Path, unless: str) -> str:
    """Say what to do about a directory that others can write."""
    if found.st_uid == acting_uid():
        return f"chmod go-w {path}; or, if {unless}, name a directory of your own"
    return "name a directory of your own"


def _others(found: os.stat_result) -> str:
    """Say who else may write; nothing where nobody may."""
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    if found.st_mode & stat.S_IWGRP and not _is_alone_in(found.st_gid):
        return f"the group {_group(found.st_gid)}"
    return ""


def _is_alone_in(gid: int) -> bool:
    """Tell whether this user is all there is of a group: his own, or a number that no system file names.

    The latter is how Kubernetes gives a volume to a container (`fsGroup`).
    """
    try:
        members = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        return True
    me = acting_uid()
    members |= {user.pw_name for user in pwd.getpwall() if user.pw_gid == gid}
    mine = {user.pw_name for user in pwd.getpwall() if user.pw_uid in (0, me)}
    return members <= mine


def _is_somebody(uid: int) -> bool:
    """Tell whether a number is a user of this system, and not one of another machine or namespace."""
    with contextlib.suppress(KeyError):
        return uid != _UNMAPPED and bool(pwd.getpwuid(uid))
    return False


def _name(uid: int) -> str:
    """Return the name of a user, or the number of one that has none here."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"uid {uid}"


def _group(gid: int) -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return f"gid {gid}"


def give_back(descriptor: int, mode: int) -> None:
    """Give what was just made the rights of its owner that a umask has taken, where it keeps any."""
    if os.fstat(descriptor).st_mode & mode != mode:
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, mode)


def owner_if_another(path: Path) -> str:
    """Return the name of whose a file is, where that is not this user; nothing else."""
    with contextlib.suppress(OSError):
        if (owner := path.lstat().st_uid) != acting_uid():
            return _name(owner)
    return ""


def open_to_others(path: Path) -> str:
    """Say who else can read or write a file, where they can get at it; nothing where nobody can.

    Raises:
        OSError: it cannot be looked at.

    """
    found = path.stat()
    ways = [above.stat().st_mode for above in path.parents]
    everybody = all(mode & stat.S_IXOTH for mode in ways)
    group = all(mode & (stat.S_IXOTH | stat.S_IXGRP) for mode in ways)
    if everybody and found.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        can = found.st_mode & stat.S_IWOTH
        return f"can be {'read and written' if can else 'read'} by everybody"
    if group and found.st_mode & (stat.S_IRGRP | stat.S_IWGRP) and not _is_alone_in(found.st_gid):
        can = found.st_mode & stat.S_IWGRP
        return f"can be {'read and written' if can else 'read'} by the group {_group(found.st_gid)}"
    return ""


def refuse_planted(path: Path) -> None:
    """Raise where a file, or a directory above it, is somebody else's and lies where everybody may lay one.

    Raises:
        UnsafeError: it is so; the text says what to do.

    """
    above: os.stat_result | None = None
    for where in (*reversed(path.parents), path):
        try:
            found = where.lstat()
        except OSError:  # it is not there, or whoever opens it says why it cannot be had
            return
        if above is not None and above.st_mode & stat.S_IWOTH:
            _refuse_another(found, where)
        above = found


def resolved(path: Path) -> Path:
    """Return where a path leads, over no links but this user's and root's.

    Raises:
        UnsafeError: one of them is somebody else's; the text says what to do.
        OSError: they lead in a circle.

    """
    path = Path.cwd() / path
    at, parts, links = Path(path.anchor), deque(path.parts[1:]), 0
    while parts:
        name = parts.popleft()
        where = at.parent if name == ".." else at / name
        try:
            found = where.lstat()
        except OSError:  # what is not there leads nowhere
            return Path(os.path.normpath(where.joinpath(*parts)))
        if not stat.S_ISLNK(found.st_mode):
            at = where
            continue
        refuse_link(found, where)
        if (links := links + 1) > LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = where.readlink()
        at = Path(target.anchor) if target.is_absolute() else at
        parts.extendleft(part for part in reversed(target.parts) if part != target.anchor)
    return at


def refuse_link(found: os.stat_result, where: Path) -> None:
    """Raise where a link is neither this user's nor root's."""
    if found.st_uid not in (0, acting_uid()):
        maker = _name(found.st_uid)
        raise UnsafeError(
            where, f"{where} is a symbolic link that {maker} has made: name another place"
        )
