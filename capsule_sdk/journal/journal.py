"""Journal: what this process has begun and ended, on disk before the user's code goes on.

- One `write` a frame, by any thread, without a lock: the files are opened for appending, and all of them
  take turns behind one descriptor, whose number is not given back while anybody can write to the journal. So a
  frame lands in the file of before or in the new one, never in a stranger's.
- A file is dropped only once all that still counts has been said again in the next one.
- What cannot be written MUST NOT disturb the caller: it is counted, and said again when there is room.
- A write that fails may leave the head of a frame. Each frame that follows it in the same file has a mark in
  front, in the same write, that says so: whoever reads it can tell a full disk from a damaged one.

No fsync: what is written here survives the end of the process, however sudden, not that of the machine.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .files import Home
from .frames import Kind, encode

__all__ = ["Journal", "States"]

#: Gives what still counts, each with its kind.
States = Callable[[], Iterable[tuple[bytes, dict[str, Any]]]]

_NOTHING = len(encode(Kind.RESTATED, {}))
_CUT = encode(Kind.CUT, {})


class Journal:
    """The journal of one recorder. `append` is for any thread, all else for one at a time."""

    def __init__(self, root: Path, instead: Callable[[], Sequence[Path]] = tuple) -> None:
        self.root = root
        #: Gives where to go where ``root`` cannot be written, or others could lay something there; and why it
        #: was not used.
        self._instead = instead
        self.refused: OSError | None = None
        self.home: Home | None = None
        #: Why it cannot be written just now.
        self.trouble: OSError | None = None
        #: How many writes have failed, and how many had when the file of now was begun.
        self._failed = self._failed_before = 0
        self._write = _writer()
        self._fd = -1
        self._kept: _Kept | None = None
        self._after_rotation = 0

    @property
    def is_open(self) -> bool:
        """Whether there are files to write to."""
        return self.home is not None

    def append(self, kind: bytes, document: dict[str, Any]) -> int:
        """Write one frame; return its bytes, 0 where it could not be written.

        Raises:
            TypeError, ValueError, RecursionError: the document is not JSON.

        """
        frame = encode(kind, document)
        if self._failed != self._failed_before:
            frame = _CUT + frame
        try:
            written = self._write(self._fd, frame)
        except OSError as error:
            self._failed += 1
            self.trouble = self.trouble or error
            return 0
        if written < len(frame):
            self._failed += 1
            self.trouble = self.trouble or OSError(
                errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.root)
            )
            return 0
        return written

    def size(self) -> int:
        """Return the bytes of the file that is written now."""
        return os.fstat(self._fd).st_size if self.is_open else 0

    def is_empty(self) -> bool:
        """Tell whether the files say nothing."""
        return self.size() <= _NOTHING

    def outgrown(self, least: int) -> bool:
        """Tell whether it is time to `rotate`: the file is that large, and twice what had to be said again."""
        return self.size() >= max(least, 2 * self._after_rotation)

    def is_there(self) -> bool | None:
        """Tell whether the file that is written can still be found by whoever recovers it.

        ``None``: it was not removed, and nobody can look whether it has its place still.
        """
        if self.home is None or not os.fstat(self._fd).st_nlink:
            return False
        return self.home.is_there()

    def rotate(self, states: States, *, anew: bool = False) -> None:
        """Go on in a new file that says again what still counts, and drop those of before.

        Args:
            states: gives what still counts.
            anew: whether to do so in another directory; that of before is the caller's then.

        Raises:
            OSError: that could not be done; all files stay.

        """
        try:
            self._rotate(states, None if anew else self.home)
        except OSError as error:
            self.trouble = self.trouble or error
            raise

    def _rotate(self, states: States, of_now: Home | None) -> None:
        home = of_now or self._new_home()
        try:
            before, failed = home.records(), self._failed
            if self.trouble is not None:
                home.probe()  # or each try would leave a file
            self._turn_to(home, home.new_records().name)
        except BaseException:
            if of_now is None:
                home.remove()
            raise
        self.home, self.trouble, self._failed_before = home, None, failed
        for kind, document in states():
            # What is not JSON could not be written before either; it must not keep the others in old files.
            with contextlib.suppress(TypeError, ValueError, RecursionError):
                self._say_again(kind, document)
        self._say_again(Kind.RESTATED, {})
        for path in before:
            home.directory.unlink(path.name)
        self._after_rotation = self.size()

    def _new_home(self) -> Home:
        """Make a directory in the first place that takes one, and where nobody else can lay or remove one."""
        try:
            home = Home.make(self.root)
        except OSError as refused:
            for place in self._instead():
                with contextlib.suppress(OSError):
                    home = Home.make(place)
                    self.refused = refused
                    return home
            raise
        self.refused = None
        return home

    def can_return(self) -> bool:
        """Tell whether a directory can be made again where it belongs."""
        with contextlib.suppress(OSError):
            Home.make(self.root).remove()
            return True
        return False

    def let_go(self) -> None:
        """Have the next `rotate` make another directory: somebody has taken this one away."""
        home, self.home = self.home, None
        if home is not None:
            home.release()

    def sync(self) -> None:
        """Have the disk confirm what was written.

        Raises:
            OSError: it does not.

        """
        if self.home is None:
            return
        for path in self.home.records():
            descriptor = self.home.directory.open(path.name)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Have what comes now written nowhere; the files stay until `remove`."""
        if self._fd >= 0:
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, self._fd, inheritable=False)
            os.close(null)

    def remove(self) -> None:
        """Remove all files; the next `rotate` makes others. Call `close` before."""
        home, self.home = self.home, None
        self._after_rotation = 0
        if home is not None:
            with contextlib.suppress(OSError):
                home.remove()
            home.release()

    def leave(self) -> None:
        """Leave the files to whoever recovers them."""
        home, self.home = self.home, None
        if home is not None:
            home.release()

    def forget(self) -> None:
        """Let go of all that belongs to the process this one was forked from."""
        self._fd, self._kept = -1, None
        self.home, self.trouble, self._after_rotation = None, None, 0

    def _turn_to(self, home: Home, name: str) -> None:
        descriptor = home.directory.create(name)
        if self._fd < 0:
            self._fd, self._kept = descriptor, _Kept(descriptor)
        else:
            os.dup2(descriptor, self._fd, inheritable=False)
            os.close(descriptor)

    def _say_again(self, kind: bytes, document: dict[str, Any]) -> None:
        if not self.append(kind, document):
            raise self.trouble or OSError(errno.EIO, os.strerror(errno.EIO), str(self.root))


class _Kept:
    """Closes a descriptor when it dies. By a function in C: in a line of Python, Ctrl-C would be lost there."""

    __slots__ = ("__del__",)

    def __init__(self, descriptor: int) -> None:
        self.__del__ = functools.partial(os.closerange, descriptor, descriptor + 1)


def _writer() -> Callable[[int, bytes], int]:
    """Return a function that writes as `os.write` does, without letting go of the interpreter.

    `os.write` lets go of it for each call. Beside a busy writer its caller would wait to get it back, for
    longer than the write takes; and both together would do a fourth less.
    """
    import ctypes  # noqa: PLC0415 - takes longer to import than all else here, and no record may ever come

    write = ctypes.PyDLL(None, use_errno=True).write
    write.argtypes = ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t
    write.restype = ctypes.c_ssize_t

    def call(descriptor: int, frame: bytes) -> int:
        written: int = write(descriptor, frame, len(frame))
        if written < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return written

    return call
