"""``capsuled tail``: the end of a chain, and on with it while other processes write."""

from __future__ import annotations

import json
import os
import queue
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chain_support import ROOT, capsule, capsules, finish, start
from litellm_support import LITELLM_NOISE
from looking import COMMAND, ESCAPE, EVIL, plain, shown, terminal, work
from postgres_support import postgres, server
from qp_capsule import Capsule, OutcomeSection, TriggerSection

from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.evidence.exporting.export import export_chain

if TYPE_CHECKING:
    from conftest import Chain
    from litellm_support import LLM

__all__ = ["postgres"]

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

Output = pytest.CaptureFixture[str]


def tail(capsys: Output, *arguments: str) -> list[str]:
    assert main(["tail", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def put(made: list[Capsule], url: object = None) -> None:
    chain = open_chain(url=url)  # type: ignore[arg-type]
    chain.append(made)
    chain.close()


class Following:
    """``capsuled tail -f`` in a process of its own, read line by line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "tail", "-f", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._notes: queue.Queue[str] = queue.Queue()
        for stream, lines in (
            (self.process.stdout, self._lines),
            (self.process.stderr, self._notes),
        ):
            threading.Thread(target=_pump, args=(stream, lines), daemon=True).start()

    def lines(self, count: int) -> list[str]:
        """Wait for so many lines."""
        return [self._lines.get(timeout=30) for _ in range(count)]

    def names(self, count: int) -> list[str]:
        """Wait for so many lines, and return what was called in each."""
        return [line.split("✓  ")[1].split("  ")[0] for line in self.lines(count)]

    def note(self) -> str:
        """Wait for a line on standard error."""
        return self._notes.get(timeout=30)

    def nothing_more(self) -> bool:
        """Tell whether nothing that was printed is left, on either side, two looks later."""
        with pytest.raises(queue.Empty):
            self._lines.get(timeout=1.2)
        return self._notes.empty()


def _pump(stream: Iterator[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))


@contextmanager
def following(*arguments: str) -> Iterator[Following]:
    made = Following(*arguments)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


WRITER = """
import sys
from capsule_sdk import capsule_scope, configure, shutdown
configure(url=sys.argv[1])
for number in range(int(sys.argv[2])):
    with capsule_scope(f"job-{number}"):
        pass
shutdown()
"""


def test_the_last_ten_in_the_order_of_the_chain(chain: Chain, capsys: Output) -> None:
    put(capsules(12))
    lines = tail(capsys)
    assert [line.split("  ")[1] for line in lines] == [f"#{number}" for number in range(2, 12)]
    assert lines[-1].endswith('#11  tester  ✓  task-11  [agent]  0 ms  $0.000025  "do task-11"')
    assert lines[-1].startswith(chain.stored()[-1]["signed_at"][:19].replace("T", " ") + "Z")
    assert len(tail(capsys, "-n", "3")) == 3
    assert tail(capsys, "-n", "0") == []


def test_selected_records_however_far_back_they_are(llm: LLM, chain: Chain, capsys: Output) -> None:
    work(llm, chain)
    lines = tail(capsys, "--agent", "trader", "-n", "2")
    assert ["check limits" in lines[0], "rebalance" in lines[1]] == [True, True]
    (failed,) = tail(capsys, "--status", "failure", "-n", "1")
    assert failed.endswith("  ValueError: nobody knows")


def test_json_lines(llm: LLM, chain: Chain, capsys: Output) -> None:
    made = work(llm, chain)
    (one,) = map(json.loads, tail(capsys, "-n", "1", "--json"))
    assert (one["id"], one["model"], one["cost"]) == (
        made["alone"]["id"],
        "openai/gpt-4o",
        "0.000045",
    )


def test_the_last_of_an_exported_file_but_it_is_not_followed(
    chain: Chain, capsys: Output, tmp_path: Path
) -> None:
    put(capsules(5))
    expected = tail(capsys, "-n", "2")
    out = tmp_path / "chain.json"
    export_chain(chain.url, out)
    assert tail(capsys, "-n", "2", "--db", str(out)) == expected
    assert main(["tail", "-f", "--db", str(out)]) == 2
    assert "does not grow" in capsys.readouterr().err


def test_a_task_is_no_condition_that_can_be_followed(capsys: Output) -> None:
    assert main(["tail", "--task", "x"]) == 2
    assert "--task" in capsys.readouterr().err


def test_on_a_terminal_it_is_coloured_and_cut(llm: LLM, chain: Chain) -> None:
    work(llm, chain)
    printed = shown("tail", columns=120)
    assert ESCAPE.search(printed)
    lines = plain(printed)
    assert {len(line) for line in lines} == {120}
    assert "\x1b" not in shown("tail", columns=120, NO_COLOR="1")


def test_what_could_steer_a_terminal_does_not_reach_it(chain: Chain, capsys: Output) -> None:
    put(
        [
            capsule(
                trigger=TriggerSection(source=EVIL, request=EVIL),
                outcome=OutcomeSection(status=EVIL, error=EVIL),
            )
        ]
    )
    assert "[bold red]" in plain(shown("tail", columns=300))[0]
    assert tail(capsys)[0].isprintable()


def test_what_is_no_capsule_is_a_line_too(chain: Chain, capsys: Output) -> None:
    put(capsules(2))
    with sqlite3.connect(chain.url) as database:
        database.execute("UPDATE capsules SET data = '[]' WHERE sequence = 1")
    database.close()
    assert tail(capsys)[1] == "? #1 is not a capsule"
    assert len(tail(capsys, "--agent", "tester")) == 1


def test_it_goes_on_while_another_process_writes(chain: Chain) -> None:
    put(capsules(3))
    with following("-n", "2") as seen:
        assert seen.names(2) == ["task-1", "task-2"]
        finish(start(WRITER, chain.url, "25"))
        assert seen.names(25) == [f"job-{number}" for number in range(25)]
        finish(start(WRITER, chain.url, "1"))
        assert seen.names(1) == ["job-0"]
        assert seen.nothing_more()


def test_it_goes_on_with_what_is_selected(chain: Chain) -> None:
    put(capsules(3))
    with following("--status", "failure", "--json") as seen:
        put([capsule("good"), capsule("bad", outcome=OutcomeSection(status="failure"))])
        (line,) = seen.lines(1)
        assert json.loads(line)["name"] == "bad"
        assert seen.nothing_more()


def test_it_goes_on_in_postgresql_and_waits_for_a_server_that_restarts(postgres: str) -> None:
    put(capsules(3), postgres)
    with following("--db", postgres, "-n", "1") as seen:
        assert seen.names(1) == ["task-2"]
        put(capsules(2, "more"), postgres)
        assert seen.names(2) == ["more-0", "more-1"]
        with server().stopped():
            assert seen.note().startswith("capsuled: waiting: ")
        put(capsules(1, "after"), postgres)
        assert seen.names(1) == ["after-0"]
    with terminal("tail", "--db", postgres, "-n", "1") as screen:
        assert "after-0" in screen.printed()


def test_a_database_that_is_not_there_yet_is_waited_for_and_shown_from_its_beginning(
    chain: Chain,
) -> None:
    with following("-n", "1") as seen:
        assert seen.note() == f"capsuled: waiting: there is no chain at {chain.url} yet"
        put(capsules(3))
        assert seen.names(3) == ["task-0", "task-1", "task-2"]
        assert seen.nothing_more()


def test_a_database_that_is_locked_for_a_moment_is_waited_for(chain: Chain) -> None:
    put(capsules(1))
    database = sqlite3.connect(chain.url, isolation_level=None)
    database.execute("PRAGMA locking_mode=EXCLUSIVE")
    database.execute("CREATE TABLE of_another_program (x)")
    with following() as seen:
        note = seen.note()
        assert note.startswith("capsuled: waiting: ")
        assert "locked" in note
        database.close()
        assert seen.names(1) == ["task-0"]


def test_a_chain_that_becomes_shorter_is_told_and_followed_from_its_beginning(chain: Chain) -> None:
    put(capsules(5))
    with following("-n", "1") as seen:
        seen.lines(1)
        for file in chain.url.parent.glob("capsules.db*"):
            file.unlink()
        put(capsules(2, "new"))
        assert seen.names(2) == ["new-0", "new-1"]
        notes = [seen.note()]
        while "shorter" not in notes[-1]:  # it may have looked while the file was away
            notes.append(seen.note())


def test_ctrl_c_ends_it_as_usual(chain: Chain) -> None:
    put(capsules(1))
    with terminal("tail", "-f") as screen:
        screen.until("task-0")
        assert screen.interrupt() == 130
    with following() as seen:
        seen.lines(1)
        seen.process.send_signal(signal.SIGINT)
        assert seen.process.wait(30) == 130


def test_a_reader_that_goes_away_ends_it_without_a_word_though_nothing_new_comes(
    chain: Chain,
) -> None:
    put(capsules(1))
    process = subprocess.Popen(
        [*COMMAND, "tail", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert "task-0" in process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 0


def test_a_store_that_cannot_be_named_is_refused_and_not_waited_for(capsys: Output) -> None:
    assert main(["tail", "-f", "--db", "mysql://host/db"]) == 2
    assert capsys.readouterr().err.startswith("capsuled: ")


@pytest.mark.parametrize("command", [["tail", "-n"], ["tree", "--last"]])
def test_a_number_beyond_all_reason_is_a_wrong_command_line(
    chain: Chain, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "9" * 20, "--db", str(chain.url)]) == 2
    assert "is not in the range" in capsys.readouterr().err
