"""``capsuled verify``: what it says, where, and how it exits. What it finds is in ``test_verify_corpus``."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chain_support import ROOT, capsule, capsules, rotate_keys
from nacl.signing import SigningKey
from qp_capsule import Capsule, CapsuleType, OutcomeSection, Seal

import capsule_sdk
from capsule_sdk import capsule_scope
from capsule_sdk.chain import open_chain
from capsule_sdk.chain.checkpoint import Checkpoint, parse, sign
from capsule_sdk.cli import main
from capsule_sdk.evidence.verifying.findings import Reason


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A chain of two tasks, one under the other, and its key in the data directory."""
    monkeypatch.chdir(tmp_path)
    capsule_sdk.configure(url=tmp_path / "capsules.db")
    with capsule_scope("outer"), capsule_scope("inner", authority="human-approved", approver="ana"):
        pass
    assert capsule_sdk.shutdown() == 0
    return tmp_path / "capsules.db"


def change(db: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(db)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def verdict(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main(["verify", "--json", *arguments])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_whole_chain_is_exit_code_0_and_says_what_was_not_checked(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify"]) == 0
    out = capsys.readouterr().out
    assert f"{db}: 2 records" in out
    assert "WHOLE" in out
    assert f"2 fit {Seal().get_public_key()}" in out
    assert "not checked: no checkpoint was given: records may have been removed from the end" in out
    assert "1 record says that a person approved it: that is what the program asserts" in out
    assert "It does not prove" in out
    assert "\x1b" not in out


def test_a_broken_chain_is_exit_code_1_with_each_finding_in_a_sentence(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(db, "UPDATE capsules SET data = replace(data, 'inner', 'other')")
    assert main(["verify"]) == 1
    out = capsys.readouterr().out
    assert "BROKEN: 1 finding" in out
    assert "#0       hash_mismatch          What this record says is not what was sealed" in out


def test_the_exit_code_is_all_that_quiet_leaves(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--quiet"]) == 0
    change(db, "DELETE FROM capsules WHERE sequence = 0")
    assert main(["verify", "--quiet"]) == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing.json"],
        ["--pubkey", "abc"],
        ["--pubkey-file", "nothing.txt"],
        ["--against", "nothing.txt"],
        ["--against", "empty"],
        ["--tenant", "acme"],
        ["empty.json"],
        ["words.txt"],
        ["bundle.zip"],
        ["page.html"],
        ["postgresql://nobody@127.0.0.1:1/nothing"],
    ],
)
def test_what_cannot_be_checked_is_exit_code_2_and_a_line_that_says_why(
    db: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    Path("empty.json").touch()
    Path("empty").mkdir()
    Path("words.txt").write_text("once upon a time")
    Path("bundle.zip").write_bytes(b"PK\x03\x04 and no more")
    Path("page.html").write_text("<!doctype html><title>else</title>")
    assert main(["verify", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.strip()
    assert "Traceback" not in printed.err


def test_a_chain_that_can_be_read_in_part_is_judged_in_part_and_exit_code_2(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = open_chain(url=db)
    chain.append(capsules(2000))
    chain.close()
    assert main(["export", "all.zip"]) == 0
    content = bytearray(Path("all.zip").read_bytes())
    content[len(content) // 2] ^= 0xFF
    Path("all.zip").write_bytes(content)
    capsys.readouterr()
    assert main(["verify", "all.zip", "--processes", "0"]) in {1, 2}
    assert "Traceback" not in capsys.readouterr().out
    found = verdict(capsys, "all.zip")
    assert found["records"] > 0  # what is damaged may look like any number of them
    assert "all.zip is damaged" in found["obstacle"]
    assert "children_missing" not in {finding["reason"] for finding in found["findings"]}


def test_json_holds_the_verdict_the_findings_and_what_was_not_checked(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = verdict(capsys)
    assert (found["verdict"], found["records"], found["findings"]) == ("whole", 2, [])
    assert found["keys"][0]["fits"] == 2
    assert found["asserted_approvals"] == 1
    assert {check["name"]: check["done"] for check in found["checks"]} == {
        "content": True,
        "signatures": True,
        "order and links": True,
        "tasks": True,
        "losses": True,
        "end of the chain": False,
        "time of sealing": False,
    }
    change(db, "UPDATE capsules SET signature = '' WHERE sequence = 1")
    (finding,) = verdict(capsys)["findings"]
    assert finding["reason"] == "signature_missing"
    assert finding["severity"] == "broken"
    assert finding["sequence"] == 1
    assert set(finding) == {
        "reason",
        "severity",
        "sequence",
        "id",
        "position",
        "sentence",
        "detail",
    }


def test_what_is_doubtful_breaks_nothing_unless_strictness_is_asked_for(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task that is still running, or was cut off: nobody can tell which."""
    change(db, "DELETE FROM capsules WHERE sequence = 1")
    assert main(["verify"]) == 0
    assert (
        "WHOLE: nothing contradicts what the chain claims to be; 1 doubtful"
        in capsys.readouterr().out
    )
    assert main(["verify", "--strict"]) == 1
    assert verdict(capsys_cleared(capsys))["findings"][0]["reason"] == "parent_missing"


def test_a_checkpoint_finds_the_end_that_was_cut_off(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["checkpoint", "kept.checkpoint"]) == 0
    assert main(["verify", "--against", "kept.checkpoint"]) == 0
    change(db, "DELETE FROM capsules WHERE sequence = 1")
    capsys.readouterr()
    assert main(["verify", "--against", "kept.checkpoint"]) == 1
    assert "checkpoint_truncated" in capsys.readouterr().out


def test_checkpoints_of_a_directory_all_count(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("kept").mkdir()
    assert main(["checkpoint", "kept"]) == 0
    chain = open_chain(url=db)
    chain.append(capsules(3))
    chain.close()
    assert main(["checkpoint", "kept"]) == 0
    capsys.readouterr()
    assert main(["verify", "--against", "kept"]) == 0
    assert "2 checkpoints held against it" in capsys.readouterr().out


def test_keys_are_those_given_else_those_here_else_those_in_the_file(
    db: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Seal().get_public_key()
    assert main(["export", "all.zip"]) == 0
    assert verdict(capsys_cleared(capsys), "all.zip", "--pubkey", key)["keys"] == [
        {"public_key": key, "origin": "given", "brought": "kept", "fits": 2}
    ]
    Path("key.txt").write_text(f"{key}\n")
    assert (
        verdict(capsys, "all.zip", "--pubkey-file", "key.txt")["keys"][0]["origin"]
        == "given in key.txt"
    )
    other = "ab" * 32
    assert {one["reason"] for one in verdict(capsys, "all.zip", "--pubkey", other)["findings"]} == {
        "key_unknown"
    }
    assert verdict(capsys, "all.zip")["keys"][0]["origin"].endswith("key")
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path / "elsewhere"))
    assert verdict(capsys, "all.zip")["keys"][0]["origin"] == "in the file itself"
    assert main(["verify", "all.zip"]) == 2
    out = capsys.readouterr().out
    assert "NOT CHECKED: the only public key is the one in the file" in out
    assert "which proves only that the file agrees with itself" in out
    assert verdict(capsys, str(db))["keys"] == []
    assert main(["verify", str(db)]) == 2
    assert "NOT CHECKED: no public key is known here" in capsys.readouterr().out
    assert main(["verify", str(db), "--no-signatures"]) == 0
    assert main(["verify", str(db), "--pubkey", key]) == 0
    assert not (tmp_path / "elsewhere").exists(), "looking makes no keys"


def test_signatures_can_be_left_out_and_that_is_said(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(db, "UPDATE capsules SET signature = 'ab'")
    assert main(["verify", "--no-signatures"]) == 0
    assert "signatures         not checked" in capsys.readouterr().out


def test_chains_over_a_rotation_of_keys_verify_with_the_keyring(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rotate_keys()
    chain = open_chain(url=db)
    chain.append(capsules(2))
    chain.close()
    found = verdict(capsys)
    assert found["verdict"] == "whole"
    assert sorted(key["fits"] for key in found["keys"]) == [2, 2]


@pytest.mark.parametrize("out", ["chain.json", "chain.jsonl", "chain.zip", "chain.html"])
def test_each_kind_of_file_verifies_and_a_changed_one_does_not(
    db: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    command = "report" if out.endswith("html") else "export"
    assert main([command, out]) == 0
    assert verdict(capsys_cleared(capsys), out)["verdict"] == "whole"
    change(db, "UPDATE capsules SET data = replace(data, 'inner', 'other')")
    assert main([command, out]) == 0
    assert verdict(capsys_cleared(capsys), out)["findings"][0]["reason"] == "hash_mismatch"


def capsys_cleared(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    capsys.readouterr()
    return capsys


def test_control_characters_in_a_chain_never_reach_the_terminal(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(
        db, "UPDATE capsules SET signed_by = ?, signature = ?", "\x1b[31m\u202egarbage", "00" * 64
    )
    assert main(["verify"]) == 1
    out = capsys.readouterr().out
    assert "garbage" in out
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_so_many_findings_of_one_code_are_listed_and_all_of_them_counted(
    db: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsule_sdk.evidence.verifying.findings.MOST", 3)
    chain = open_chain(url=db)
    chain.append(capsules(8))
    chain.close()
    change(db, "UPDATE capsules SET signature = ''")
    change(db, "UPDATE capsules SET id = 'other' WHERE sequence = 7")
    found = verdict(capsys)
    assert found["counts"] == {"signature_missing": 10, "column_mismatch": 1}
    assert [one["reason"] for one in found["findings"]] == [
        *["signature_missing"] * 3,
        "column_mismatch",
    ]
    assert main(["verify"]) == 1
    out = capsys.readouterr().out
    assert "BROKEN: 11 findings" in out
    assert "… and 7 more" in out


def test_no_long_list_on_a_terminal_and_all_of_it_in_a_pipe(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = open_chain(url=db)
    chain.append(capsules(198))
    chain.close()
    change(db, "UPDATE capsules SET signature = '' WHERE sequence % 2")
    assert main(["verify"]) == 1
    assert capsys.readouterr().out.count("signature_missing") == 100, "no two stand in a row"
    shown = on_a_terminal("verify")
    assert shown.count("signature_missing") == 50
    assert "and 50 more" in shown


def test_findings_that_say_the_same_are_one_line_and_hide_no_other(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = open_chain(url=db)
    for group in range(30):
        chain.append(capsules(1))
        chain.append(lost(2 if group == 7 else 1))
    chain.close()
    change(db, "UPDATE capsules SET signature = '' WHERE sequence IN (20, 40, 41)")
    assert main(["verify"]) == 1
    lines = [
        line for line in capsys.readouterr().out.splitlines() if line[2:3] in "?✗" and "#" in line
    ]
    assert [line.split()[1:3] for line in lines] == [
        ["#3..#19", "records_lost"], ["#20", "signature_missing"], ["#21..#39", "records_lost"],
        ["#40..#41", "signature_missing"], ["#41..#61", "records_lost"],
    ]  # fmt: skip
    assert lines[0].endswith("(9 findings; 10 records in all)")
    assert lines[3].endswith("(2 findings)")
    assert on_a_terminal("verify").count("records_lost") == 3
    assert verdict(capsys)["counts"] == {"records_lost": 30, "signature_missing": 3}
    assert len(verdict(capsys)["findings"]) == 33


def test_losses_alone_leave_a_chain_whole_unless_it_is_strict(db: Path) -> None:
    chain = open_chain(url=db)
    chain.append(lost(1))
    chain.close()
    assert main(["verify", "--quiet"]) == 0
    assert main(["verify", "--quiet", "--strict"]) == 1


def lost(count: int) -> list[Capsule]:
    """Return a capsule that says that so many records are lost."""
    outcome = OutcomeSection(status="failure", metrics={"records_lost": count})
    return [capsule(type=CapsuleType.SYSTEM, outcome=outcome)]


def test_a_terminal_gets_colours_unless_it_says_that_it_wants_none(db: Path) -> None:
    assert "\x1b[" in on_a_terminal("verify")
    assert "\x1b[" not in on_a_terminal("verify", NO_COLOR="1").replace("\x1b[?25h", "")


def test_progress_is_shown_on_a_terminal_and_nowhere_else(db: Path) -> None:
    chain = open_chain(url=db)
    chain.append(capsules(1500))
    chain.close()
    assert "1502/1502" in on_a_terminal("verify", errors=True)
    piped = subprocess.run(
        [sys.executable, "-m", "capsule_sdk.cli", "verify"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert piped.stderr == ""
    assert "1502/1502" not in piped.stdout


def on_a_terminal(*arguments: str, errors: bool = False, **environment: str) -> str:
    """Return what the command writes to a pseudo-terminal, and to standard error if that is one too."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "capsule_sdk.cli", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm",
            "COLUMNS": "200",
            **environment,
        },
        stdin=theirs,
        stdout=theirs,
        stderr=theirs if errors else subprocess.DEVNULL,
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not piece:
            break
        printed += piece
    os.close(ours)
    process.wait(30)
    return printed.decode()


def test_a_selection_without_a_manifest_has_to_be_named_as_one(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = open_chain(url=db)
    chain.append(capsules(3))
    chain.close()
    assert main(["export", "some.json", "--agent", "tester"]) == 0
    assert verdict(capsys_cleared(capsys), "some.json")["findings"][0]["reason"] == "sequence_gap"
    found = verdict(capsys, "some.json", "--selection")
    assert (found["verdict"], found["records"], found["selection"]) == ("selection", 3, {})


def test_every_code_has_a_sentence_and_they_are_these() -> None:
    from capsule_sdk.evidence.verifying.findings import CHECKED, Finding

    assert {str(reason) for reason in Reason} == {
        "malformed", "sequence_gap", "sequence_repeated", "link_broken", "hash_mismatch",
        "signature_missing", "signature_invalid", "signer_mismatch", "key_unknown", "column_mismatch",
        "id_repeated", "parent_missing", "children_missing", "children_open", "children_unannounced",
        "children_mismatch", "time_backwards", "records_lost", "end_lost", "checkpoint_invalid",
        "checkpoint_mismatch", "checkpoint_truncated", "selection_incomplete",
    }  # fmt: skip
    for reason in Reason:
        assert Finding(reason).sentence.endswith(".")
        assert sum(reason in reasons for reasons in CHECKED.values()) == 1


@pytest.mark.parametrize("number", [0, 198, 199, 200, 201, 399])
def test_a_row_that_is_there_twice_is_found_wherever_a_page_of_rows_ends(
    db: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    chain = open_chain(url=db)
    chain.append(capsules(398))
    chain.close()
    change(db, "CREATE TABLE copy AS SELECT * FROM capsules")
    change(db, "INSERT INTO copy SELECT * FROM capsules WHERE sequence = ?", number)
    change(db, "DROP TABLE capsules")
    change(db, "ALTER TABLE copy RENAME TO capsules")
    found = verdict(capsys)
    assert found["records"] == 401
    assert [(one["reason"], one["sequence"]) for one in found["findings"] if one["id"]][:2] == [
        ("sequence_repeated", number),
        ("id_repeated", number),
    ]


def test_rows_without_sequence_or_id_or_text_are_all_looked_at(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(db, "CREATE TABLE copy AS SELECT * FROM capsules")
    change(db, "DROP TABLE capsules")
    change(db, "ALTER TABLE copy RENAME TO capsules")
    for column in ("sequence", "id", "data", "hash", "signature", "signed_at"):
        for value in (None, b"\xff\x00", 0.5, "\u202e", ""):
            change(db, "INSERT INTO capsules SELECT * FROM capsules LIMIT 1")
            change(
                db,
                f"UPDATE capsules SET {column} = ? WHERE rowid = (SELECT max(rowid) FROM capsules)",
                value,
            )
    found = verdict(capsys)
    assert found["records"] == 32
    assert found["verdict"] == "broken"


def test_a_chain_without_records_is_not_called_whole(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "empty.json").write_text("[]")
    assert main(["verify", str(tmp_path / "empty.json"), "--no-signatures"]) == 2
    assert "NOT CHECKED: there are no records" in capsys.readouterr().out


def test_a_file_of_nothing_but_rubbish_is_given_up(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "long.json").write_text('{"a":\n' * 300_000)
    assert main(["verify", str(tmp_path / "long.json"), "--no-signatures", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["records"] == 10_000
    assert "10,000 records in a row are none" in found["obstacle"]


def test_a_checkpoint_of_an_earlier_time_says_how_far_it_reaches(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["checkpoint", "kept.checkpoint"]) == 0
    chain = open_chain(url=db)
    chain.append(capsules(3))
    chain.close()
    capsys.readouterr()
    assert main(["verify", "--against", "kept.checkpoint"]) == 0
    out = capsys.readouterr().out
    assert (
        "- end of the chain   not checked: 1 checkpoint held against it: up to record 1 at 20"
        in out
    )


def test_checkpoints_of_other_chains_in_the_same_directory_are_passed_over(
    db: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = open_chain(url=tmp_path / "other.db")
    other.append(capsules(2))
    other.close()
    for name, folder in (("capsules.db", "kept/one"), ("other.db", "kept/two")):
        Path(folder).mkdir(parents=True)
        assert main(["checkpoint", folder, "--db", name]) == 0
    assert main(["verify", "--against", "kept"]) == 0
    assert "1 checkpoint held against it" in capsys.readouterr().out
    (foreign,) = Path("kept/two").iterdir()
    assert main(["verify", "--against", str(foreign)]) == 1
    assert main(["verify", "--against", "kept/two"]) == 1
    assert "of a chain that began with another record" in capsys.readouterr().out


@pytest.fixture
def shared(db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which a chain with a key of its own keeps its checkpoints too."""
    for folder in ("kept/one", "kept/two"):
        Path(folder).mkdir(parents=True)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path / "elsewhere"))
        other = open_chain(url=tmp_path / "other.db")
        other.append(capsules(3))
        other.close()
        assert main(["checkpoint", "kept/two", "--db", "other.db"]) == 0
    assert main(["checkpoint", "kept/one", "--db", "capsules.db"]) == 0
    return tmp_path / "kept"


def test_checkpoints_that_another_key_has_signed_for_another_chain_are_passed_over_too(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--db", "capsules.db", "--against", "kept"]) == 0
    assert "1 checkpoint held against it" in capsys.readouterr().out
    (foreign,) = Path("kept/two").iterdir()
    assert main(["verify", "--db", "capsules.db", "--against", str(foreign)]) == 1
    assert "checkpoint_invalid" in capsys.readouterr().out


def test_a_checkpoint_of_this_chain_that_another_key_has_signed_is_not_passed_over(
    shared: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (own,) = Path("kept/one").iterdir()
    forged = parse(own.read_text()).checkpoint
    (own.parent / "forged.checkpoint").write_text(sign(forged, SigningKey(b"f" * 32)))
    assert verdict(capsys, "--db", "capsules.db", "--against", "kept")["counts"] == {
        "checkpoint_invalid": 1
    }


def test_checkpoints_under_a_name_that_somebody_chose_may_be_of_another_chain(
    db: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nobody can tell whether `b` is this chain, cut short since, or another: neither whole nor broken."""
    other = open_chain(url=tmp_path / "other.db")
    other.append(capsules(3))
    other.close()
    for name, source in (("a", "capsules.db"), ("b", "other.db")):
        Path(f"kept/{name}").mkdir(parents=True)
        assert main(["checkpoint", f"kept/{name}", "--origin", name, "--db", source]) == 0
    capsys.readouterr()
    assert main(["verify", "--against", "kept"]) == 2
    assert (
        "NOT CHECKED: 1 checkpoint in the directory may be of this chain" in capsys.readouterr().out
    )
    assert main(["verify", "--against", "kept/a"]) == 0
    assert main(["verify", "--against", "kept/b"]) == 1


def test_a_name_that_begins_as_those_do_that_we_choose_names_no_record(db: Path) -> None:
    assert main(["checkpoint", "kept.checkpoint", "--origin", "capsule-chain/prod"]) == 0
    assert main(["verify", "--against", "kept.checkpoint"]) == 0


def test_a_checkpoint_breaks_no_chain_whose_key_is_not_known(
    db: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["checkpoint", "kept.checkpoint"]) == 0
    change(db, "UPDATE capsules SET signed_at = '2019-01-01T00:00:00+00:00'")
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path / "elsewhere"))
    against = ["verify", str(db), "--against", "kept.checkpoint"]
    assert main(against) == 2
    assert main([*against, "--strict"]) == 2, "doubt is no reason to say more than is known"
    out = capsys.readouterr().out
    assert "NOT CHECKED: no public key is known here" in out
    assert "1 checkpoint held against it, whose signatures were not checked" in out


def test_a_checkpoint_that_nothing_is_held_against_was_given_all_the_same(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = sign(Checkpoint("x", 2, "ab" * 32, datetime.now(UTC)), SigningKey(b"f" * 32))
    Path("kept.checkpoint").write_text(note)
    assert main(["verify", "--against", "kept.checkpoint"]) == 1
    assert "no checkpoint that was given could be held against it" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--no-signatures", "--pubkey", "ab" * 32],
        ["--no-signatures", "--pubkey-file", "key"],
        ["--quiet", "--json"],
    ],
)
def test_options_that_contradict_each_other_are_a_wrong_command_line(
    db: Path, options: list[str]
) -> None:
    assert main(["verify", *options]) == 2


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_goes_away_does_not_change_the_verdict(db: Path, options: list[str]) -> None:
    """As `capsuled verify | grep -q` does."""
    change(db, "UPDATE capsules SET data = '{}'")
    command = [sys.executable, "-m", "capsule_sdk.cli", "verify", *options]
    for unbuffered in ("", "1"):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as pipe:
            ran = subprocess.run(
                command,
                stdout=pipe,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
                check=False,
            )
        assert (ran.returncode, ran.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("statement", "code"), [("SELECT 1", 0), ("UPDATE capsules SET data = '{}'", 1)]
)
def test_the_verdict_is_the_exit_code_where_there_is_no_output_at_all(
    db: Path, statement: str, code: int
) -> None:
    change(db, statement)
    command = f"exec {sys.executable} -m capsule_sdk.cli verify >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command], check=False).returncode == code


def test_what_lies_in_a_directory_of_checkpoints_is_not_followed_anywhere(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("kept").mkdir()
    os.mkfifo("kept/a.checkpoint")
    Path("kept/b.checkpoint").symlink_to("/dev/zero")
    assert main(["verify", "--against", "kept"]) == 2
    assert main(["verify", "--against", "kept/b.checkpoint"]) == 2
    assert main(["verify", "--pubkey-file", "/dev/zero"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_private_key_given_as_a_public_one_is_not_printed(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("secret").write_text("correct horse battery staple")
    assert main(["verify", "--pubkey-file", "secret"]) == 2
    assert "horse" not in capsys.readouterr().err


def test_a_record_that_was_sealed_before_it_began_is_doubtful(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(db, "UPDATE capsules SET signed_at = '2019-01-01T00:00:00+00:00'")
    found = verdict(capsys)
    assert found["counts"] == {"time_backwards": 2}
    assert {one["detail"] for one in found["findings"]} == {"it was sealed before it began"}


@pytest.mark.parametrize(
    ("session", "stored"), [("s" * 40, "other"), ("s" * 40, None), ("short", "s" * 40), (None, "x")]
)
def test_a_session_column_that_says_something_else_is_found_however_long_the_session(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, session: str | None, stored: str | None
) -> None:
    made = capsules(1)
    made[0].context.session_id = session
    chain = open_chain(url=tmp_path / "capsules.db")
    chain.append(made)
    chain.close()
    assert verdict(capsys, str(tmp_path / "capsules.db"))["counts"] == {}
    change(tmp_path / "capsules.db", "UPDATE capsules SET session_id = ?", stored)
    assert verdict(capsys, str(tmp_path / "capsules.db"))["counts"] == {"column_mismatch": 1}


def test_an_error_of_the_command_itself_is_exit_code_2_and_one_line(
    db: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError("\x1b[2J")

    monkeypatch.setattr(sys.modules["capsule_sdk.cli.judging"], "verify", broken)
    assert main(["verify"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("capsuled: an error of its own, please report it: MemoryError")
    assert "\x1b" not in told
