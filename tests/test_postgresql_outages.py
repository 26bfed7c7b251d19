"""PostgreSQL and the journal together, as a user has them: programs go on while their store does not.

The server is real, and so is what happens to it; the programs (`postgresql_programs`) are processes of their
own. What they were told has returned is in the chain afterwards, once.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from chain_support import assert_verified, qp_capsule_command
from outage_support import (
    NOTHING_FOUND,
    Program,
    Programs,
    Trouble,
    capsuled_command,
    missing_column,
    names,
    no_right,
    on_server,
    programs,
    recovered,
    refused,
    requests,
    silent,
    standby,
    starting_up,
    trouble,
    unknown_database,
    wrong_password,
)
from postgres_support import assert_whole, postgres, server
from recording import assert_tree_is_whole, until

from capsule_sdk.evidence.exporting.export import read_chain

__all__ = ["postgres", "programs", "trouble"]

AWAY, BACK = "the store is away", "the store is back"
LEFT = (
    "records are not in the chain at the end of the process; they are in the journal, and the next"
    " process, or `capsuled recover`, brings them in once the chain can be written"
)


def assert_shown(url: str, directory: Path, length: int) -> None:
    """Others see the whole of it: qp-capsule's command, in the database and in our export, and our tree."""
    assert_whole(url, length)
    assert_tree_is_whole(list(read_chain(url)))
    done = qp_capsule_command("verify", "--pg", url, "--full")
    assert done.returncode == 0, done.stdout + done.stderr
    out = directory / "chain.json"
    assert capsuled_command("export", out, "--db", url) == f"{length:,} capsules -> {out}\n"
    assert_verified(out, "--full")
    tree = capsuled_command("tree", "--db", url).splitlines()
    assert len(tree) == length
    assert sum("call" in line for line in tree) == requests_of_calls(url)


def requests_of_calls(url: str) -> int:
    return sum(capsule["trigger"]["source"] == "call" for capsule in read_chain(url))


# -- the server restarts and crashes under many ----------------------------------------------------


def crowd(programs: Programs, url: str, count: int = 4, batches: int = 125) -> list[Program]:
    """So many processes, of which each begins to make that many batches of four capsules, in some seconds."""
    started = [programs(url) for _ in range(count)]
    for number, program in enumerate(started):
        program.tell("crowd", str(number), batches, 0.1)
    return started


def crowded(processes: Iterable[int], count: int = 125) -> set[str]:
    """Return the requests of all that these processes of a crowd do."""
    batches = [f"{process}-{number}" for process in processes for number in range(count)]
    return {*batches, *(f"{batch}-{number}" for batch in batches for number in range(3))}


def until_each_returned(started: Sequence[Program], count: int) -> None:
    until(lambda: all(len(one.returned()) >= count for one in started), 60)


@pytest.mark.load
def test_a_restart_and_a_crash_under_four_processes_lose_and_double_nothing(
    postgres: str, programs: Programs
) -> None:
    started = crowd(programs, postgres)
    until_each_returned(started, 75)
    with server().stopped("fast"):
        until_each_returned(started, 150)
    until_each_returned(started, 225)
    with server().stopped("immediate"):
        until_each_returned(started, 300)
    assert len(programs.returned()) < 2000, "it was over before it was disturbed"
    for program in started:
        program.answer()
        assert program.ask("flush", 30) == 0
        stats = program.ask("stats")
        assert stats["committed"] == 500
        assert (stats["lost"], stats["failed"], stats["pending"]) == (0, 0, 0)
        assert stats["store_away"] is None
        assert stats["times_away"] >= 1
        assert [AWAY in line for line in program.log()] == [True, False] * stats["times_away"]
        program.end()
    assert Counter(requests(postgres)) == dict.fromkeys(crowded(range(4)), 1)
    assert not programs.journals()
    assert_shown(postgres, programs.data, 2000)


@pytest.mark.load
@pytest.mark.parametrize(
    ("by", "count", "batches"), [("the command", 4, 125), ("the next process", 2, 60)]
)
def test_what_a_killed_process_had_returned_is_recovered_from_its_journal(
    postgres: str, programs: Programs, by: str, count: int, batches: int
) -> None:
    killed, *others = crowd(programs, postgres, count, batches)
    programs.until_returned(count * batches)
    with server().stopped("immediate"):
        programs.until_returned(2 * count * batches)
        killed.kill()
    kept = set(killed.returned())
    for program in others:
        program.answer()
        assert program.ask("flush", 30) == 0
        program.end()
    before = requests(postgres)
    assert kept - set(before), "it was killed too late: nothing was left to recover"
    assert programs.journals()
    more = set()
    if by == "the command":
        found = recovered(postgres)
        assert found["capsules"] >= len(kept - set(before))
        assert (found["journals"], found["damaged"], found["left"]) == (1, 0, 0)
        assert recovered(postgres) == NOTHING_FOUND
    else:
        after = programs(postgres)
        after.ask("calls", "after")
        until(lambda: not killed_journal_is_there(programs, after))
        after.end()
        more = {"after"}
    now = requests(postgres)
    assert now[: len(before)] == before
    assert len(now) == len(set(now)), "something is there twice"
    assert kept | crowded(range(1, count), batches) | more <= set(now)
    assert set(now) <= crowded(range(count), batches) | more
    for capsule in read_chain(postgres):
        if capsule["trigger"]["request"] in kept:
            assert capsule["outcome"]["status"] == "success"
    assert not programs.journals()
    assert_shown(postgres, programs.data, len(now))


def killed_journal_is_there(programs: Programs, living: Program) -> bool:
    """Tell whether there is a journal of another process than this."""
    return len({path.parent for path in programs.journals()}) > 1


@pytest.mark.load
def test_calls_to_models_over_a_restart_are_recorded_once(
    postgres: str, programs: Programs
) -> None:
    started = [programs(None, STORE=postgres) for _ in range(2)]
    for number, program in enumerate(started):
        program.tell("models", str(number), 40, 0.02)
    programs.until_returned(20)
    with server().stopped("immediate"):
        programs.until_returned(40)
    assert len(programs.returned()) < 82
    for program in started:
        program.answer()
        assert program.ask("flush", 30) == 0
        program.end()
    chain = list(read_chain(postgres))
    expected = {f"{process}-{number}" for process in range(2) for number in range(40)}
    assert Counter(c["trigger"]["request"] for c in chain) == dict.fromkeys(expected, 1)
    assert {(c["type"], c["outcome"]["result"]) for c in chain} == {("chat", "so be it")}
    assert_whole(postgres, 80)


# -- the server is away, in all ways that there are -------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        refused, standby, starting_up, silent, wrong_password, no_right, missing_column,
        unknown_database,
    ],
    indirect=True,
)  # fmt: skip
def test_a_program_goes_on_while_its_store_is_away_and_all_of_it_is_there_once_it_is_back(
    trouble: Trouble, programs: Programs
) -> None:
    program = programs(trouble.url)
    seconds = program.ask("calls", *names("first", 100))
    until(lambda: program.ask("stats")["store_away"] is not None)
    seconds += program.ask("calls", *names("second", 100))
    time.sleep(0.7)  # some more tries
    stats = program.ask("stats")
    assert statistics.median(seconds) < 0.005
    assert (stats["submitted"], stats["committed"], stats["pending"]) == (200, 0, 200)
    assert (stats["lost"], stats["failed"], stats["times_away"]) == (0, 0, 1)
    assert stats["store_away"] > 0.6
    assert stats["journal_size"] > 200 * 100
    (said,) = program.log()
    assert said.startswith("capsule_sdk ERROR ")
    assert AWAY in said
    assert trouble.reason in said
    assert any(b"second-99" in path.read_bytes() for path in programs.journals())

    trouble.mend()
    url = on_server(trouble.url)
    until(lambda: program.ask("stats")["committed"] == 200)
    program.ask("calls", "third")
    until(lambda: program.ask("stats")["committed"] == 201)
    assert requests(url) == [*names("first", 100), *names("second", 100), "third"]
    _, back = program.log()
    assert back.startswith("capsule_sdk WARNING ")
    assert BACK in back
    program.end()
    assert len(program.log()) == 2
    assert_whole(url, 201)
    assert not programs.journals()


# -- the program ends while the store is away -------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "by"),
    [(refused, "the command"), (silent, "the next process")],
    indirect=["trouble"],
)
def test_a_program_that_ends_while_its_store_is_away_leaves_all_to_the_next(
    trouble: Trouble, programs: Programs, tmp_path: Path, by: str
) -> None:
    place = tmp_path / "elsewhere"
    settings = {"CAPSULE_SDK_EXIT_TIMEOUT": "1", "CAPSULE_SDK_JOURNAL": str(place)}
    program = programs(trouble.url, **settings)
    program.ask("calls", *names("first", 50))
    seconds = program.end()
    assert seconds < 1 + 2
    *away, left = program.log()
    assert len(away) <= 1
    assert all(AWAY in line for line in away)
    assert left.startswith(f"capsule_sdk ERROR event='{LEFT}' records=50 journal='")

    trouble.mend()
    url = on_server(trouble.url)
    expected = names("first", 50)
    if by == "the command":
        found = recovered(trouble.url, "--journal", place)
        assert found == {**NOTHING_FOUND, "journals": 1, "capsules": 50}
    else:
        after = programs(trouble.url, **settings)
        after.ask("calls", "after")
        until(lambda: after.ask("stats")["recovered"] == 50)
        after.end()
        (line,) = after.log()
        assert "recovered" in line
        assert "capsules=50" in line
        expected.append("after")
    assert sorted(requests(url)) == sorted(expected)
    assert [one for one in requests(url) if one != "after"] == names("first", 50)
    assert_whole(url, len(expected))
    assert not programs.journals(place)
    assert not programs.journals()


def test_what_a_process_left_is_recovered_though_the_store_was_away_when_the_next_one_began(
    postgres: str, programs: Programs
) -> None:
    with server().stopped():
        first = programs(postgres, CAPSULE_SDK_EXIT_TIMEOUT="0.2")
        first.ask("calls", *names("first", 10))
        first.end()
        second = programs(postgres)
        second.ask("calls", *names("second", 10))
        until(lambda: second.ask("stats")["store_away"] is not None)
    until(lambda: second.ask("stats")["recovered"] == 10, 6)
    second.end()
    assert sorted(requests(postgres)) == sorted(names("first", 10) + names("second", 10))
    assert_whole(postgres, 20)
    assert not programs.journals()
