"""The ``capsuled`` command: what it prints, where, and how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from chain_support import ROOT, assert_verified, capsule, capsules

import capsule_sdk
from capsule_sdk import capsule_scope, flush, shutdown
from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default database, with two sessions in it."""
    monkeypatch.chdir(tmp_path)
    group = capsules(3)
    group[0].context.session_id = "morning"
    group[1].parent_id = group[0].id
    group[1].context.session_id = "morning"
    chain = open_chain()
    chain.append(group)
    chain.close()
    return tmp_path / "capsules.db"


def run(*arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-m", "capsule_sdk.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **options},  # type: ignore[dict-item]
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_export_writes_a_file_that_verifies(
    db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export"]) == 0
    assert capsys.readouterr().out == "3 capsules -> chain.json\n"
    assert_verified(tmp_path / "chain.json", "--full")
    assert main(["export", "--db", str(db), "other.json"]) == 0
    assert (tmp_path / "other.json").read_bytes() == (tmp_path / "chain.json").read_bytes()


def test_export_to_standard_output_prints_the_chain_and_nothing_else(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_tree_shows_all_or_a_session_or_the_last(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(*arguments: str) -> list[str]:
        assert main(["tree", *arguments]) == 0
        return [line.split("[")[0].strip() for line in capsys.readouterr().out.splitlines()]

    assert shown() == ["✓  task-0", "└─ ✓  task-1", "✓  task-2"]
    assert shown("--session", "morning") == ["✓  task-0", "└─ ✓  task-1"]
    assert shown("--session", "evening") == ["no capsules"]
    assert shown("--last", "1") == ["✓  task-2"]
    assert shown("--db", f"sqlite:///{db}", "--session", "morning", "--last", "1") == ["✓  task-1"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "--db", "nix.db"],
        ["export", "-", "--db", "nix.db"],
        ["tree", "--db", "nix.db"],
        ["tree", "--db", "mysql://host/db"],
        ["export", "capsules.db"],
        ["export", "no/such/directory/chain.json"],
    ],
)
def test_what_cannot_be_done_is_one_line_on_stderr_and_exit_code_2(
    db: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("capsuled: ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nix"],
        ["tree", "--last", "0"],
        ["tree", "--last", "x"],
        ["export", "a", "b"],
        ["verify", "a", "--db", "b"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 2
    assert "Usage: capsuled" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"capsuled {capsule_sdk.__version__}\n"


def test_as_a_module_it_exits_with_the_code_and_without_a_traceback(db: Path) -> None:
    process = run("tree", "--db", "nix.db")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error(db: Path) -> None:
    chain = open_chain()
    chain.append([capsule("x" * 10_000) for _ in range(60)])
    chain.close()
    process = run("export", "-")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(1) == "["
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0


def test_output_is_utf8_whatever_the_locale_says(db: Path) -> None:
    process = run("tree", PYTHONIOENCODING="ascii", LC_ALL="C")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "└─ ✓" in out


@pytest.mark.parametrize(
    "command", ["tree", "stats", "tail", "verify", "status", "export", "report", "checkpoint"]
)
def test_each_command_finds_the_chain_where_the_variable_says_the_program_put_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setenv("CAPSULE_SDK_URL", str(tmp_path / "put here.db"))
    with capsule_scope("found"):
        pass
    assert flush() == 0
    shutdown()
    out = {"export": ["-"], "report": [str(tmp_path / "r.html")], "checkpoint": ["-"]}
    assert main([command, *out.get(command, [])]) == 0, capsys.readouterr()
    monkeypatch.setenv("CAPSULE_SDK_URL", str(tmp_path / "not here.db"))
    capsys.readouterr()
    code = main([command, *out.get(command, [])])
    assert code != 0 or command == "status"
    said = "".join(capsys.readouterr())
    assert "not here.db" in said


def test_what_the_command_line_names_wins_over_the_variable_and_an_error_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsule_scope("found"):
        pass
    assert flush() == 0
    monkeypatch.setenv("CAPSULE_SDK_URL", str(tmp_path / "elsewhere.db"))
    assert main(["tree", "--db", str(tmp_path / "capsules.db")]) == 0
    assert main(["verify", str(tmp_path / "capsules.db")]) == 0
    capsys.readouterr()
    assert main(["tree"]) == 2
    said = capsys.readouterr().err
    assert "--db" in said
    assert "CAPSULE_SDK_URL" in said
