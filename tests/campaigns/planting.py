"""Planting: another user lays journals, links and files, and swaps directories, while records are made.

Both can write the directory of the database. Who records does so as root or as a user of his own. Whatever
the other one does: nothing that he has laid is sealed, nothing behind his links is touched, and the user's
code goes on; where the directory is sticky, so that he can take nothing away, every record arrives.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from recording import make_task

import capsule_sdk
from capsule_sdk.errors import ChainUnavailable, ConfigurationError
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.journal.frames import Kind, encode
from capsule_sdk.recording.default import recover
from capsule_sdk.records.state import beginning, ending

ATTACKER, VICTIMS = 65534, (0, 1)
RECORDS, PATIENCE = 40, 60.0
NAME = "20200101T000000-1-deadbeef"


def run(chances: random.Random, deadline: float, rounds: int = 1_000_000) -> tuple[list[str], str]:
    """Plant until the deadline; return what was broken, and the figures."""
    if os.getuid() != 0:
        return [], "needs root, to be two users: nothing was done"
    problems: list[str] = []
    done = acts = 0
    logging.getLogger("capsule_sdk").setLevel(logging.CRITICAL + 1)
    data = os.environ.get("QUANTUMPIPES_DATA_DIR")
    try:
        _warm_up()
        while done < rounds and time.monotonic() < deadline and len(problems) < 5:
            done += 1
            seed = chances.randrange(1 << 32)
            place = Path(tempfile.mkdtemp())
            place.chmod(0o755)
            try:
                found, count = planted(random.Random(seed), place)
            finally:
                shutil.rmtree(place, ignore_errors=True)
            acts += count
            problems += [f"round with seed {seed}: {problem}" for problem in found]
    finally:
        logging.getLogger("capsule_sdk").setLevel(logging.NOTSET)
        os.environ.pop("QUANTUMPIPES_DATA_DIR")
        if data is not None:
            os.environ["QUANTUMPIPES_DATA_DIR"] = data
    return problems, f"{acts} acts of another user in {done} rounds"


def planted(chances: random.Random, place: Path) -> tuple[list[str], int]:
    """Let one user record and recover while the other one plants; return what is wrong, and his acts."""
    victim, sticky = chances.choice(VICTIMS), chances.random() < 0.5
    shared, private = place / "shared", place / "private"
    for path, mode in ((shared, 0o1777 if sticky else 0o777), (private, 0o700)):
        path.mkdir()
        path.chmod(mode)
    os.chown(private, victim, victim)
    os.environ["QUANTUMPIPES_DATA_DIR"] = str(private / "data")
    task = make_task("the board approves")
    task.settle("success")
    forged = encode(Kind.BEGUN, beginning(task)) + encode(Kind.ENDED, ending(task))
    treasure = private / "treasure"
    as_user(victim, lambda: _bury(treasure, forged))
    before, url = _tree(treasure), shared / "chain.db"
    count, told = os.pipe()
    seed = chances.randrange(1 << 32)
    if chances.random() < 0.5:  # he was there first
        as_user(ATTACKER, lambda: _attack(random.Random(seed), shared, treasure, forged, 20))
    attacker = child(
        ATTACKER, lambda: _attack(random.Random(seed), shared, treasure, forged, None, told)
    )
    os.close(told)
    problems = []
    try:
        for kill in (False, True, False):
            code = as_user(victim, lambda kill=kill: _record(url, kill=kill))  # type: ignore[misc]
            if code not in (0, -signal.SIGKILL):
                problems.append(f"the user's code ended with {code}")
            code = as_user(victim, lambda: _recover(url))
            if code:
                problems.append(f"recovery ended with {code}")
    finally:
        os.kill(attacker, signal.SIGTERM)
        os.waitpid(attacker, 0)
    with os.fdopen(count, "rb") as file:
        acts = len(file.read())
    _clean(shared, victim)
    if as_user(victim, lambda: recover(url).left):
        problems.append("the last recovery has left something")
    if _tree(treasure) != before:
        problems.append("what lies behind a link was touched")
    chain = list(read_chain(url)) if url.exists() and url.stat().st_uid == victim else []
    if str(task.id) in {one["id"] for one in chain}:
        problems.append("what the other user has laid is sealed")
    names = [one["trigger"]["source"] for one in chain]
    if sticky and names.count("work") < 3 * RECORDS:
        problems.append(f"{names.count('work')} of {3 * RECORDS} records are in the chain")
    return problems, acts


def _warm_up() -> None:
    """Import what is imported late: another user may not be allowed to read it."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["QUANTUMPIPES_DATA_DIR"] = directory
        _record(Path(directory) / "chain.db", kill=False)
        _recover(Path(directory) / "chain.db")
        capsule_sdk.shutdown()


def child(uid: int, do: Callable[[], object]) -> int:
    """Do something as a user in a forked child; return its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        signal.alarm(round(PATIENCE))
        code = int(bool(do()))
    finally:
        os._exit(code)


def as_user(uid: int, do: Callable[[], object]) -> int:
    """Do something as a user, and return how that ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child(uid, do), 0)[1])


def _record(url: Path, *, kill: bool) -> None:
    until = time.monotonic() + PATIENCE / 2
    while True:
        try:
            capsule_sdk.configure(url, exit_timeout=1.0)
        except ConfigurationError:  # the other one has a link there just now
            if time.monotonic() > until:
                raise
            time.sleep(0.001)
        else:
            break
    for _ in range(RECORDS):
        with capsule_sdk.capsule_scope("work"):
            time.sleep(0.001)
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)
    capsule_sdk.shutdown(2.0)


def _recover(url: Path) -> None:
    with suppress(ChainUnavailable, ConfigurationError):
        recover(url)


def _bury(treasure: Path, forged: bytes) -> None:
    """Lay what a journal has in it, of the user's own, where no journal is."""
    home = treasure / NAME
    home.mkdir(parents=True, mode=0o700)
    treasure.chmod(0o700)
    for name in ("records-00000001", "backlog-00000001", "owner.lock", "unwritten", "dear"):
        (home / name).write_bytes(forged)


def _tree(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path.relative_to(directory)): (
            path.read_bytes(),
            path.stat().st_mode,
            path.stat().st_uid,
        )
        for path in directory.rglob("*")
        if path.is_file()
    }


def _clean(shared: Path, victim: int) -> None:
    """Take away what the other user has laid, as whoever keeps the machine would, and give the place to one."""
    shared.chmod(0o755)
    os.chown(shared, victim, victim)
    for path in sorted(shared.rglob("*"), reverse=True):
        with suppress(OSError):
            if path.lstat().st_uid == ATTACKER:
                path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)


def _attack(
    chances: random.Random, shared: Path, treasure: Path, forged: bytes,
    acts: int | None, told: int | None = None,
) -> None:  # fmt: skip
    """Plant and swap, so many times or until killed."""
    os.umask(0)
    root = shared / "journal" / "chain.db.records"
    while acts is None or acts > 0:
        acts = None if acts is None else acts - 1
        with suppress(OSError, shutil.Error):
            _act(chances, shared, root, treasure, forged)
            if told is not None:
                os.write(told, b".")


def _act(chances: random.Random, shared: Path, root: Path, treasure: Path, forged: bytes) -> None:
    homes: list[Path] = []
    with suppress(OSError):
        homes = [*root.iterdir()]
    places = [shared / "journal", root, root / NAME, root / f".{NAME}", *homes]
    place = chances.choice(places)
    what: Any = chances.choice(["lay", "link", "swap", "remove", "file", "open", "beside"])
    if what == "lay":
        (root / NAME).mkdir(parents=True, exist_ok=True)
        (root / NAME / "records-00000001").write_bytes(forged)
    elif what == "link":
        place.symlink_to(chances.choice([treasure, treasure / NAME]))
    elif what == "swap":
        other = place.with_name(f"{place.name}.{chances.randrange(99)}")
        place.rename(other)
        place.symlink_to(chances.choice([treasure, treasure / NAME, other]))
    elif what == "remove":
        place.unlink() if place.is_symlink() else shutil.rmtree(place)
    elif what == "file":
        (chances.choice(places) / "records-00000002").symlink_to(treasure / NAME / "dear")
    elif what == "open":
        place.chmod(0o777)
    else:
        ending = chances.choice(["-wal", "-shm", "-journal", ""])
        (shared / f"chain.db{ending}").symlink_to(treasure / NAME / "dear")
        time.sleep(0.002)
        (shared / f"chain.db{ending}").unlink()
