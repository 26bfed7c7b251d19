"""Nothing is lost with the process: some are killed at random moments, and what is in the chain is counted.

``CRASH_SEED`` and ``CRASH_KILLS`` repeat a run that has failed, or make a longer one.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash_support import Server, Site, frames_of
from recording import until

SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
KILLS = int(os.environ.get("CRASH_KILLS", "200"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def _moment(luck: random.Random) -> float:
    return luck.uniform(0, luck.choice([0.01, 0.05, 0.1, 0.4]))


def _work_and_be_killed(site: Site, luck: random.Random) -> int:
    """Kill one to four programs, one after the other or at once; return how many."""
    count = luck.choice([1, 1, 2, 4])
    programs = [
        ("busy", {"seconds": 5}),
        ("busy", {"seconds": 0.05}),
        ("brief", {"ask": True}),
        ("brief", {}),
    ]
    if luck.random() < 0.5:
        chosen = [luck.choice(programs) for _ in range(count)]
        site.kill_after({site.start(name, **job): _moment(luck) for name, job in chosen})
    else:
        for _ in range(count):
            name, job = luck.choice(programs)
            site.kill_after({site.start(name, **job): _moment(luck)})
    return count


def _by_command(site: Site, luck: random.Random) -> int:
    del luck
    site.recover()
    return 0


def _by_the_next_process(site: Site, luck: random.Random) -> int:
    del luck
    assert site.run("successor") == 0
    return 0


def _by_two_at_once(site: Site, luck: random.Random) -> int:
    names = luck.choices(["recover", "successor"], k=2)
    pids = [site.start(name) for name in names]
    assert [site.wait(pid) for pid in pids] == [0, 0]
    return 0


def _killed_and_repeated(site: Site, luck: random.Random) -> int:
    count = luck.choice([1, 2, 3])
    for _ in range(count):
        program = luck.choice(["recover", "successor"])
        site.kill_after({site.start(program): luck.uniform(0, 0.1)})
        site.look()
    site.recover()
    return count


RECOVERIES: list[Callable[[Site, random.Random], int]] = [
    _by_command,
    _by_the_next_process,
    _by_two_at_once,
    _killed_and_repeated,
]


@pytest.mark.load
@pytest.mark.timeout(max(120, KILLS))
def test_a_killed_process_loses_nothing(server: Server, tmp_path: Path) -> None:
    kills = rounds = 0
    while kills < KILLS:
        luck = random.Random(SEED + rounds)
        site = Site(server, tmp_path / str(rounds), seed=luck.randrange(10**6))
        kills += _work_and_be_killed(site, luck)
        site.look()
        recover = luck.choice(RECOVERIES)
        try:
            kills += recover(site, luck)
            site.assert_recovered()
            head = site.capsules()[-1:]
            site.recover()
            assert site.capsules()[-1:] == head, "recovering once more has changed the chain"
        except BaseException as error:
            error.add_note(
                f"CRASH_SEED={SEED + rounds} {recover.__name__}, round {rounds}, {site.data}"
            )
            raise
        site.remove()
        rounds += 1


@pytest.mark.load
def test_a_process_killed_while_its_journal_is_begun_anew_loses_nothing(
    server: Server, tmp_path: Path
) -> None:
    luck = random.Random(SEED)
    anew = 0
    for number in range(20):
        site = Site(server, tmp_path / str(number))
        site.kill_after({site.start("held", count=10_000, pause=0.01): luck.uniform(0.1, 0.8)})
        anew += any(path.name > "records-00000002" for path in site.journals.glob("*/records-*"))
        site.look()
        site.recover()
        try:
            site.assert_recovered()
        except AssertionError as error:
            error.add_note(f"CRASH_SEED={SEED}")
            raise
        site.remove()
    assert anew > 4


def test_the_journal_stays_small_however_busy_the_process_is(
    server: Server, tmp_path: Path
) -> None:
    site = Site(server, tmp_path)
    site.kill_after({site.start("held", count=10_000, pause=0): 2.0})
    newest = max(path.name for path in site.journals.glob("*/records-*"))
    assert newest > "records-00000001", "it was never begun anew"


@pytest.fixture
def locked(server: Server, tmp_path: Path) -> Iterator[tuple[Site, Callable[[], None]]]:
    """Yield a chain that another program has locked, and what unlocks it."""
    site = Site(server, tmp_path)
    assert site.run("successor") == 0
    other = sqlite3.connect(site.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield site, other.rollback
    other.close()


def test_a_process_killed_while_its_store_is_away_loses_nothing(
    locked: tuple[Site, Callable[[], None]],
) -> None:
    site, unlock = locked
    pid = site.start("waiting", count=500, seconds=60)
    until(lambda: bool(site.reported("ready")))
    site.kill_after({pid: 0})
    unlock()
    (home,) = site.journals.iterdir()
    assert sum(1 for path in home.glob("backlog-*") for _ in frames_of(path)) > 500
    site.look()
    site.recover()
    site.assert_recovered()
    assert len(site.capsules()) == 2 + 2 * 500


def test_a_backlog_that_somebody_has_removed_does_not_block_what_comes_after(
    locked: tuple[Site, Callable[[], None]],
) -> None:
    site, unlock = locked
    pid = site.start("waiting", count=200, seconds=0.5)
    until(lambda: bool(site.reported("ready")))
    until(lambda: any(site.journals.glob("*/backlog-*")))
    files = list(site.journals.glob("*/backlog-*"))
    for path in files:
        path.unlink()
    unlock()
    assert site.wait(pid) == 0
    assert site.reported("left") == [["0"]], site.log()


def test_a_recorder_that_was_closed_is_safe_again_as_soon_as_it_is_used(
    server: Server, tmp_path: Path
) -> None:
    site = Site(server, tmp_path)
    assert site.run("reopened") == -9
    site.look()
    site.recover()
    site.assert_recovered()


def test_threads_that_write_to_one_task_lose_nothing_of_it(server: Server, tmp_path: Path) -> None:
    site = Site(server, tmp_path)
    assert site.run("crowd") == -9
    site.look()
    site.recover()
    site.assert_recovered()
    (crowd,) = site.capsules()
    written = {text for _, text in site.reported("effect")}
    assert len(written) == 4000
    assert set(crowd["outcome"]["side_effects"]) == written
