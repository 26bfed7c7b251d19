"""Selections and bundles: some records of a chain, and what can be proven of them."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chain_support import capsule
from hypothesis import given
from hypothesis import strategies as st

import capsule_sdk
from capsule_sdk import capsule_scope
from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.evidence.formats.entries import Entry
from capsule_sdk.evidence.selection import Selection, select, subtree

Record = dict[str, Any]


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """Two tasks of two agents, each with two more in it, one in the other; all of them in capsules.db."""
    monkeypatch.chdir(tmp_path)
    capsule_sdk.configure(url=tmp_path / "capsules.db")
    for agent, session in (("planner", "morning"), ("trader", "evening")):
        with (
            capsule_scope("outer", agent_id=agent, session_id=session, user_id=f"{agent}'s user"),
            capsule_scope("middle", domain="finance"),
            capsule_scope("inner") as inner,
        ):
            inner.metric("figure", 0.5)
            if agent == "trader":
                inner.block("not today")
    assert capsule_sdk.shutdown() == 0
    assert main(["export", "all.json"]) == 0
    loaded: list[Record] = json.loads(Path("all.json").read_text("utf-8"))
    return loaded


def names(path: str) -> list[str]:
    found = json.loads(Path(path).read_text("utf-8"))
    return [f"{one['context']['agent_id']}/{one['trigger']['source']}" for one in found]


def outer(records: list[Record], agent: str = "planner") -> Record:
    return next(
        one for one in records if one["context"]["agent_id"] == agent and one["parent_id"] is None
    )


# -- which records ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--agent", "planner"], ["planner/inner", "planner/middle", "planner/outer"]),
        (["--session", "evening"], ["trader/inner", "trader/middle", "trader/outer"]),
        (["--user", "planner's user"], ["planner/inner", "planner/middle", "planner/outer"]),
        (["--domain", "finance", "--agent", "trader"], ["trader/inner", "trader/middle"]),
        (["--status", "blocked"], ["trader/inner"]),
        (["--until", "2020-01-01"], []),
        (
            ["--since", "2020-01-01", "--agent", "trader", "--status", "success"],
            ["trader/middle", "trader/outer"],
        ),
    ],
)
def test_a_selection_holds_the_records_that_meet_all_conditions(
    records: list[Record], options: list[str], expected: list[str]
) -> None:
    assert main(["export", "some.json", *options]) == 0
    assert names("some.json") == expected


@pytest.mark.parametrize("command", ["tree", "stats", "tail", "export", "report"])
def test_a_status_that_does_not_exist_is_refused_with_those_that_do(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([command, "--status", "blokced"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for status in ("success", "failure", "blocked", "partial"):
        assert f"'{status}'" in said.err


def test_a_selection_without_records_is_said(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["export", "n.zip"], ["export", "n.csv"], ["report", "n.html"]):
        assert main([*command, "--session", "nobody's\x1b[2J"]) == 0
        told = capsys.readouterr()
        assert told.err == "nothing in the chain is of this selection (session nobody's [2J)\n"
        assert told.out.startswith("0 capsules -> ")
    assert main(["export", "all.zip"]) == 0
    assert capsys.readouterr().err == ""


def test_a_task_brings_all_that_belongs_to_it_however_deep(records: list[Record]) -> None:
    assert main(["export", "some.json", "--task", outer(records)["id"]]) == 0
    assert names("some.json") == ["planner/inner", "planner/middle", "planner/outer"]
    assert (
        main(["export", "some.json", "--task", outer(records)["id"].upper(), "--status", "success"])
        == 0
    )
    assert names("some.json") == ["planner/inner", "planner/middle", "planner/outer"]


def test_a_task_that_is_not_there_is_said(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "some.json", "--task", "nothing"]) == 2
    assert "there is no task nothing in the chain" in capsys.readouterr().err
    assert not Path("some.json").exists()


def test_a_time_that_is_none_is_a_wrong_command_line(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "some.json", "--since", "yesterday"]) == 2
    assert "'yesterday' is not a time: write 2026-11-26" in capsys.readouterr().err


def test_since_is_included_and_until_is_not() -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=UTC)
    record = {"trigger": {"timestamp": "2026-01-01T13:00:00+01:00"}}
    assert Selection(since=moment).matches(record)
    assert not Selection(until=moment).matches(record)
    assert not Selection(since=moment).matches({"trigger": {"timestamp": "soon"}})


FIELDS = st.sampled_from(["id", "parent_id", "trigger", "context", "timestamp", "agent_id"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner),
    )
)
def test_no_record_of_whatever_shape_raises(value: object) -> None:
    entries = [Entry(json.dumps(value)), Entry("no JSON"), Entry('{"id": "x"}')]
    chosen = Selection(agent="a", since=datetime(2026, 1, 1, tzinfo=UTC))
    assert not list(select(lambda: iter(entries), chosen))
    assert Entry('{"id": "x"}') in list(select(lambda: iter(entries), Selection(task="x")))


def test_a_circle_of_parents_ends() -> None:
    assert subtree("a", [("a", "b"), ("b", "a"), ("c", None)]) == {"a", "b"}


# -- forms ------------------------------------------------------------------------------------------


def test_json_lines_have_one_record_a_line_as_it_is_stored(records: list[Record]) -> None:
    assert main(["export", "all.jsonl"]) == 0
    lines = Path("all.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == records
    assert main(["export", "again.json", "--db", "all.jsonl"]) == 0
    assert Path("again.json").read_bytes() == Path("all.json").read_bytes()


def test_csv_has_the_fields_that_records_are_found_by(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["export", "-", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["id"] for row in rows] == [one["id"] for one in records]
    assert [row["agent"] for row in rows] == ["planner"] * 3 + ["trader"] * 3
    assert rows[3]["status"] == "blocked"


def test_csv_holds_no_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    capsule_sdk.configure(url=tmp_path / "capsules.db")
    with capsule_scope("=cmd|' /C calc'!A0", agent_id="+1", session_id="@x", user_id="-2"):
        pass
    capsule_sdk.shutdown()
    assert main(["export", "all.csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(Path("all.csv").read_text("utf-8")))
    assert (row["name"], row["agent"], row["session"], row["user"]) == (
        "'=cmd|' /C calc'!A0",
        "'+1",
        "'@x",
        "'-2",
    )


def test_a_bundle_is_no_text_for_standard_output(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["export", "-", "--format", "zip"]) == 2
    assert "give a file" in capsys.readouterr().err


# -- bundles ----------------------------------------------------------------------------------------


def bundle(path: str, change: Callable[[list[Record], Record], None]) -> None:
    """Change records and manifest of a bundle, as somebody with a text editor would."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    records, manifest = json.loads(parts["chain.json"]), json.loads(parts["manifest.json"])
    change(records, manifest)
    parts |= {
        "chain.json": json.dumps(records).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def reasons(path: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    capsys.readouterr()
    main(["verify", path, "--json"])
    return {finding["reason"] for finding in json.loads(capsys.readouterr().out)["findings"]}


def test_a_bundle_says_what_it_is_and_brings_what_checks_it(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["checkpoint", "head.checkpoint"]) == 0
    assert main(["export", "all.zip", "--checkpoint", "head.checkpoint"]) == 0
    with zipfile.ZipFile("all.zip") as archive:
        assert sorted(archive.namelist()) == ["README.txt", "chain.json", "manifest.json"]
        assert json.loads(archive.read("chain.json")) == records
        manifest = json.loads(archive.read("manifest.json"))
        assert "capsuled verify" in archive.read("README.txt").decode()
    assert manifest["format"] == "capsuled bundle 1"
    assert manifest["source"] == "capsules.db"
    assert manifest["selection"] is None
    assert manifest["count"] == 6
    assert manifest["checkpoints"] == [Path("head.checkpoint").read_text("utf-8")]
    capsys.readouterr()
    assert main(["verify", "all.zip"]) == 0
    assert "none but 1 checkpoint in the file itself" in capsys.readouterr().out


def test_a_bundle_takes_its_own_checkpoints_out_of_a_directory_of_several_chains(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of others would contradict it."""
    Path("kept").mkdir()
    Path("others").mkdir()
    assert main(["checkpoint", "kept/own.checkpoint"]) == 0
    chain = open_chain(url="other.db")
    chain.append([capsule()])
    chain.close()
    for folder in ("kept", "others"):
        assert main(["checkpoint", f"{folder}/other.checkpoint", "--db", "other.db"]) == 0
    for command in (["export", "b.zip"], ["report", "b.html"]):
        assert main([*command, "--checkpoint", "kept"]) == 0
        assert main(["verify", command[1]]) == 0
        assert main([*command, "--checkpoint", "others"]) == 2
        assert "none of 1 checkpoints is of this chain" in capsys.readouterr().err


def test_a_bundle_of_a_task_is_shown_to_be_complete(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    task = outer(records, "trader")["id"]
    assert main(["export", "task.zip", "--task", task]) == 0
    capsys.readouterr()
    assert main(["verify", "task.zip"]) == 0
    out = capsys.readouterr().out
    assert "SELECTION: nothing contradicts these records" in out
    assert (
        f"✓ tasks              that all is here which the 3 tasks of task {task} count as theirs"
        in out
    )


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_a_bundle_of_a_task_that_lacks_a_record_is_broken(
    records: list[Record], capsys: pytest.CaptureFixture[str], left_out: int
) -> None:
    assert main(["export", "task.zip", "--task", outer(records)["id"]]) == 0
    bundle("task.zip", lambda found, _: found.pop(left_out) and None)
    assert reasons("task.zip", capsys) & {"children_missing", "selection_incomplete"}


def test_a_bundle_of_a_task_with_a_record_of_another_is_broken(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "task.zip", "--task", outer(records)["id"]]) == 0
    bundle("task.zip", lambda found, _: found.append(outer(records, "trader")))
    assert "selection_incomplete" in reasons("task.zip", capsys)


def test_a_selection_that_is_passed_off_as_the_whole_chain_is_broken(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "some.zip", "--agent", "trader"]) == 0
    assert reasons("some.zip", capsys) == set()
    bundle("some.zip", lambda _, manifest: manifest.update(selection=None))
    assert "sequence_gap" in reasons("some.zip", capsys)


@pytest.mark.parametrize(
    "selection", ["all", 5, [], {"task": 7}, {"task": "nothing"}, {"agent": None}]
)
def test_a_manifest_of_any_shape_is_read_without_an_exception(
    records: list[Record], capsys: pytest.CaptureFixture[str], selection: object
) -> None:
    assert main(["export", "all.zip"]) == 0
    bundle("all.zip", lambda _, manifest: manifest.update(selection=selection, keys=selection))
    assert main(["verify", "all.zip"]) in {0, 1}
    assert "Traceback" not in capsys.readouterr().err


def test_reports_take_selections_and_checkpoints_as_bundles_do(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    task = outer(records)["id"]
    assert main(["report", "task.html", "--task", task]) == 0
    assert "3 capsules -> task.html" in capsys.readouterr().out
    assert main(["verify", "task.html"]) == 0
    assert f'said to be a selection: task "{task}"' in capsys.readouterr().out


# -- what a manifest may claim, and what it may not switch off -------------------------------------


def test_a_record_that_was_not_selected_is_a_finding(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "some.zip", "--agent", "planner"]) == 0
    bundle("some.zip", lambda _, manifest: manifest.update(selection={"agent": "trader"}))
    assert reasons("some.zip", capsys) == {"selection_incomplete"}


@pytest.mark.parametrize(
    "claim",
    [{"nothing": "at all"}, {"since": "soon"}, {"task": "x"}, {"agent": 5}, [], "all", 7,
     {"task": "\x1b[2J\x1b[HWHOLE"}, {"task": "\ud800"}],
)  # fmt: skip
def test_a_claim_that_is_none_breaks_the_verdict_and_steers_no_terminal(
    records: list[Record], capsys: pytest.CaptureFixture[str], claim: object
) -> None:
    assert main(["export", "some.zip", "--agent", "planner"]) == 0
    bundle("some.zip", lambda _, manifest: manifest.update(selection=claim))
    capsys.readouterr()
    assert main(["verify", "some.zip"]) == 1
    assert "\x1b" not in capsys.readouterr().out
    assert "selection_incomplete" in reasons("some.zip", capsys)


def test_a_claim_does_not_switch_off_the_checkpoints_that_somebody_gave(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    """The end is cut off, and an unsigned manifest says that it was a selection."""
    assert main(["checkpoint", "head.checkpoint"]) == 0
    assert main(["export", "all.zip"]) == 0

    def cut(found: list[Record], manifest: Record) -> None:
        del found[4:]
        manifest["selection"] = {"since": "2000-01-01"}

    bundle("all.zip", cut)
    capsys.readouterr()
    assert main(["verify", "all.zip", "--against", "head.checkpoint"]) == 2
    out = capsys.readouterr().out
    assert (
        "NOT CHECKED: 1 checkpoint cannot be held against a selection without their records" in out
    )
    assert main(["verify", "all.zip"]) == 0
    assert "SELECTION: " in capsys.readouterr().out


def test_a_condition_that_a_file_claims_is_quoted_and_short(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "some.zip", "--agent", "planner"]) == 0
    blank = "\u2800" * 300
    bundle("some.zip", lambda _, manifest: manifest.update(selection={"agent": f"x{blank}WHOLE"}))
    capsys.readouterr()
    main(["verify", "some.zip"])
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith('said to be a selection: agent "x WHOLE"')


def test_a_task_without_a_word_on_its_children_cannot_be_shown_to_be_complete(
    records: list[Record], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As other programs seal theirs."""
    parent = capsule("parent")
    child = capsule("child", parent_id=parent.id)
    chain = open_chain(url=tmp_path / "others.db")
    chain.append([child, parent])
    chain.close()
    assert main(["export", "task.zip", "--db", "others.db", "--task", str(parent.id)]) == 0
    capsys.readouterr()
    assert main(["verify", "task.zip"]) == 0
    assert (
        "tasks              not checked: 2 records in it say nothing of what belongs to them"
        in (capsys.readouterr().out)
    )


def test_more_keys_than_anybody_has_are_not_tried(
    records: list[Record], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["export", "all.zip"]) == 0
    keys = [{"public_key": f"{number:064x}"} for number in range(1001)]
    bundle("all.zip", lambda _, manifest: manifest.update(keys=keys))
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", "elsewhere")
    assert main(["verify", "all.zip"]) == 2
    assert "NOT CHECKED: no public key is known here" in capsys.readouterr().out
