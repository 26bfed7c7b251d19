"""``capsuled recover`` and ``capsuled status``: what somebody sees who looks from outside."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from looking import EVIL
from recording import FaultyChain, begin_call, begin_task, end, until

from capsule_sdk.cli import main
from capsule_sdk.errors import ChainUnavailable
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.vocabulary import CUT_OFF

NOBODY = 65534


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """Return a database whose process ended with one task open and two records not committed."""
    live = tmp_path / "live"
    live.mkdir()
    chain = FaultyChain(live / "c.db")
    recorder = chain.recorder()
    end(recorder, begin_task(recorder, "committed"))
    assert recorder.flush() == 0

    def away(_: Any) -> None:
        raise ChainUnavailable("away")

    chain.fault = away
    task = begin_task(recorder, "open")
    end(recorder, begin_call(recorder, task))
    end(recorder, begin_task(recorder, "ended", task))
    until(lambda: recorder.stats().store_away is not None)
    shutil.copytree(live, tmp_path / "dead")
    chain.fault = None
    end(recorder, task)
    assert recorder.shutdown() == 0
    return tmp_path / "dead" / "c.db"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    return code, capsys.readouterr().out


def test_status_of_a_healthy_chain(chain: Any, capsys: pytest.CaptureFixture[str]) -> None:
    end(chain.recorder, begin_task(chain.recorder))
    chain.capsules()
    code, out = run(capsys, "status", "--db", str(chain.url), "--json")
    status = json.loads(out)
    assert code == 0
    assert (status["capsules"], status["lost"], status["cut_off"]) == (1, 0, 0)
    assert status["last_sealed"] == chain.stored()[0]["signed_at"]
    (journal,) = status["journals"]
    assert (journal["alive"], journal["open"], journal["waiting"]) == (True, 0, 0)
    assert run(capsys, "status", "--db", str(chain.url))[1].endswith("all is well\n")


def test_status_where_nothing_was_ever_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--db", str(tmp_path / "none.db")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert all(name in said.err for name in ("none.db", "--db", "CAPSULE_SDK_URL"))
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_left_is_trouble_until_it_is_recovered(
    dead: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(capsys, "status", "--db", str(dead), "--json")
    status = json.loads(out)
    assert code == 1
    assert status["capsules"] == 1
    (journal,) = status["journals"]
    assert (journal["alive"], journal["open"], journal["waiting"]) == (False, 1, 2)
    assert "capsuled recover" in status["trouble"][0]

    code, out = run(capsys, "recover", "--db", str(dead), "--json")
    assert code == 0
    assert json.loads(out) == {
        "journals": 1, "capsules": 3, "unfinished": 1, "lost": 0, "ends_lost": 0, "damaged": 0,
        "torn": 0, "left": 0, "refused": 0,
    }  # fmt: skip
    assert run(capsys, "recover", "--db", str(dead)) == (0, "nothing to recover\n")
    code, out = run(capsys, "status", "--db", str(dead), "--json")
    status = json.loads(out)
    assert (code, status["capsules"], status["cut_off"], status["journals"]) == (0, 4, 1, [])


def test_recovery_says_how_many_were_not_there_yet(
    dead: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = dead.parent.with_name("again")
    shutil.copytree(dead.parent, again)
    assert run(capsys, "recover", "--db", str(dead))[0] == 0
    shutil.copytree(again / "journal", dead.parent / "journal", dirs_exist_ok=True)
    out = json.loads(run(capsys, "recover", "--db", str(dead), "--json")[1])
    assert (out["journals"], out["capsules"]) == (1, 0)
    assert len(list(read_chain(dead))) == 4


def test_a_dead_journal_with_nothing_in_it_that_the_chain_has_not_is_not_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "live").mkdir()
    recorder = FaultyChain(tmp_path / "live" / "c.db").recorder()
    end(recorder, begin_task(recorder))
    assert recorder.flush() == 0
    shutil.copytree(tmp_path / "live", tmp_path / "dead")
    assert recorder.shutdown() == 0
    db = tmp_path / "dead" / "c.db"
    assert list((tmp_path / "dead" / "journal" / "c.db.records").iterdir())
    code, out = run(capsys, "status", "--db", str(db))
    assert (code, "DEAD" in out) == (0, False)
    assert "cut off    0 in the chain" in out
    assert out.endswith("all is well\n")
    for file in db.parent.glob("c.db*"):
        file.unlink()
    assert run(capsys, "status", "--db", str(db))[0] == 1, "without the chain, all of it waits"


def test_of_a_store_that_cannot_be_read_no_number_is_said(
    dead: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in dead.parent.glob("c.db-*"):
        file.unlink()
    dead.write_bytes(b"garbage!" * 64)
    code, out = run(capsys, "status", "--db", str(dead), "--json")
    status = json.loads(out)
    names = ("capsules", "lost", "ends_lost", "cut_off", "last_sealed")
    assert (code, [status[name] for name in names]) == (1, [None] * 5)
    assert main(["status", "--db", str(dead)]) == 1
    lines = capsys.readouterr().out.splitlines()
    for line in (
        f"store      sqlite:///{dead}: cannot be read",
        "lost       unknown",
        "cut off    unknown",
    ):
        assert line in lines


COMMANDS = [
    ["tree"], ["verify"], ["verify", "--all-tenants"], ["show", "last"], ["stats"], ["tail"],
    ["export", "-"], ["report"], ["checkpoint", "here"], ["backup", "copy.db"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_says_that_a_first_process_was_killed_and_how_what_it_recorded_gets_in(
    dead: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    monkeypatch.chdir(dead.parent)
    for file in dead.parent.glob("c.db*"):
        file.unlink()
    where = dead.parent / "journal" / "c.db.records"
    remedy = f"`capsuled recover --db {dead}` brings it into the chain"
    waiting = f"What was recorded waits in the journals at {where}: {remedy}"
    assert main([*command, "--db", str(dead)]) == 2
    said = capsys.readouterr().err
    assert f"there is no chain at {dead}: " in said
    assert waiting in said
    shutil.rmtree(where)
    assert main([*command, "--db", str(dead)]) == 2
    said = capsys.readouterr().err
    assert f"there is no chain at {dead}: " in said
    assert "recover" not in said, "nothing waits anywhere"


def test_what_a_living_process_records_is_its_own_to_bring_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = FaultyChain(tmp_path / "c.db")
    recorder = chain.recorder()
    task = begin_task(recorder)
    if (tmp_path / "c.db").exists():
        (tmp_path / "c.db").unlink()
    assert main(["tree", "--db", str(tmp_path / "c.db")]) == 2
    assert "recover" not in capsys.readouterr().err
    end(recorder, task)
    recorder.shutdown()


@pytest.mark.parametrize("command", ["status", "recover"])
def test_a_store_that_is_away_is_trouble(
    dead: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    dead.write_bytes(b"no database" * 1000)
    for beside in dead.parent.glob("c.db-*"):
        beside.unlink()
    assert main([command, "--db", str(dead)]) == (1 if command == "status" else 2)
    printed = capsys.readouterr()
    assert "is not a SQLite database" in printed.out + printed.err
    (journal,) = (dead.parent / "journal" / "c.db.records").glob("*")
    assert list(journal.glob("records-*"))


def test_losses_and_damaged_journals_are_trouble(
    dead: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (records,) = (dead.parent / "journal").rglob("records-*")
    records.write_bytes(b"\nb 00000001 00000000 x\n" + records.read_bytes())
    code, out = run(capsys, "recover", "--db", str(dead))
    assert (code, "damaged places: 1" in out) == (1, True)
    code, out = run(capsys, "status", "--db", str(dead))
    assert code == 1
    assert "a damaged journal is kept" in out
    with sqlite3.connect(dead) as connection:
        (text,) = connection.execute("SELECT data FROM capsules LIMIT 1").fetchone()
        document = json.loads(text)
        document["outcome"]["metrics"] = {"records_lost": 3}
        connection.execute(
            "UPDATE capsules SET type='system', data=? WHERE sequence=0", [json.dumps(document)]
        )
    shutil.rmtree(dead.parent / "journal")
    code, out = run(capsys, "status", "--db", str(dead))
    assert (code, "lost       3\n" in out, "all is well" in out) == (0, True, False)
    assert "capsuled verify names it" in out


@pytest.mark.parametrize("said", ["1e999", "-3", "true", '"7"', "[]", "2.5"])
def test_what_is_no_number_of_records_counts_none_as_lost(
    chain: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    end(chain.recorder, begin_task(chain.recorder))
    chain.capsules()
    document = '{"outcome": {"metrics": {"records_lost": ' + said + "}}}"
    with sqlite3.connect(chain.url) as connection:
        connection.execute("UPDATE capsules SET type='system', data=?", [document])
    code, out = run(capsys, "status", "--db", str(chain.url), "--json")
    assert (code, json.loads(out)["lost"]) == (0, 0)


def test_what_somebody_only_says_of_the_end_of_a_process_is_not_taken_for_it(
    chain: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    end(chain.recorder, begin_task(chain.recorder, CUT_OFF))
    chain.capsules()
    assert json.loads(run(capsys, "status", "--db", str(chain.url), "--json")[1])["cut_off"] == 0


@pytest.mark.parametrize("value", [EVIL, 7, EVIL.encode()])
def test_what_stands_in_a_database_steers_no_terminal(
    chain: Any, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    end(chain.recorder, begin_task(chain.recorder))
    chain.capsules()
    with sqlite3.connect(chain.url) as connection:
        connection.execute("UPDATE capsules SET hash = ?", [value])
    assert main(["checkpoint", "--db", str(chain.url)]) == 1
    with sqlite3.connect(chain.url) as connection:
        connection.execute("UPDATE capsules SET signed_at = ?", [value])
    assert main(["status", "--db", str(chain.url)]) == 0
    assert main(["status", "--db", str(chain.url), "--json"]) == 0
    said = capsys.readouterr()
    assert "the last sealed" in said.out
    assert "the last capsule does not verify" in said.err
    assert all(line.isprintable() for line in (said.out + said.err).splitlines())


def test_an_empty_journal_of_a_process_that_is_gone_is_nothing(
    chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM leaves it where all was in the chain: whoever watches is not woken for it."""
    end(chain.recorder, begin_task(chain.recorder))
    chain.capsules()
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    copied = tmp_path / "copy" / Path(chain.url).name
    code, out = run(capsys, "status", "--db", str(copied), "--json")
    status = json.loads(out)
    assert (code, status["trouble"], len(status["journals"])) == (0, [], 0)
    assert run(capsys, "status", "--db", str(copied))[1].endswith("all is well\n")


def test_a_database_that_is_gone_with_journals_beside_it_is_trouble(
    dead: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in dead.parent.glob("c.db*"):
        file.unlink()
    code, out = run(capsys, "status", "--db", str(dead))
    assert (code, "there is no database" in out, "all is well" in out) == (1, True, False)


@pytest.mark.skipif(os.getuid() != 0, reason="needs two users")
def test_journals_of_another_user_are_not_called_well(dead: Path) -> None:
    """Nobody knows what waits in them, neither for `status` nor for `recover`."""
    (journal,) = (dead.parent / "journal" / "c.db.records").iterdir()
    top = dead.parents[1]
    for path in (*dead.parents, *list(top.rglob("*"))):
        if path.is_relative_to(tempfile.gettempdir()) and path.is_dir():
            path.chmod(path.stat().st_mode | 0o055)
    dead.chmod(0o644)
    journal.chmod(0o700)
    main(["status", "--db", str(dead)])  # the other user may not read what is imported late
    for command in ("status", "recover"):
        code, out = as_nobody(top / command, command, "--db", str(dead))
        assert code in {1, 2}, out
        assert "all is well" not in out
        assert "nothing to recover" not in out
        assert "not believed" in out.lower(), out


def as_nobody(output: Path, *arguments: str) -> tuple[int, str]:
    """Run a command as another user."""
    pid = os.fork()
    if not pid:
        with output.open("w") as file:
            sys.stdout = sys.stderr = file
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            code = 99
            try:
                code = main(arguments)
            finally:
                file.flush()
                os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.read_text()


def test_journals_where_they_were_chosen(
    dead: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(dead.parent / "journal", tmp_path / "elsewhere")
    assert run(capsys, "status", "--db", str(dead))[0] == 0
    monkeypatch.setenv("CAPSULE_SDK_JOURNAL", str(tmp_path / "elsewhere"))
    assert run(capsys, "status", "--db", str(dead))[0] == 1
    monkeypatch.delenv("CAPSULE_SDK_JOURNAL")
    chosen = ["--db", str(dead), "--journal", str(tmp_path / "elsewhere")]
    assert run(capsys, "recover", *chosen)[0] == 0
    assert run(capsys, "status", *chosen)[0] == 0


def test_what_waits_for_long_is_trouble(
    dead: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from capsule_sdk.evidence import status

    monkeypatch.setattr(status, "is_alive", lambda path: True)
    assert run(capsys, "status", "--db", str(dead))[0] == 0
    monkeypatch.setattr(status, "PATIENCE", -1.0)
    code, out = run(capsys, "status", "--db", str(dead))
    assert (code, "2 records have been waiting for the store" in out) == (1, True)
