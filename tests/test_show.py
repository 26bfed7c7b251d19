"""``capsuled show``: one capsule, found by its number or its id, with all that it holds."""

from __future__ import annotations

import json
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from chain_support import capsule
from litellm_support import LITELLM_NOISE
from looking import EVIL, plain, shown, work
from qp_capsule import Capsule, ContextSection, OutcomeSection, TriggerSection

from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.evidence.exporting.export import export_chain
from capsule_sdk.evidence.sources import open_source

if TYPE_CHECKING:
    from conftest import Chain
    from litellm_support import LLM

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

Output = pytest.CaptureFixture[str]


def show(capsys: Output, *arguments: str) -> list[str]:
    assert main(["show", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def refused(capsys: Output, *arguments: str) -> str:
    assert main(["show", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("capsuled: ")
    assert printed.err.count("\n") == 1
    return printed.err


def put(*ids: int, **fields: object) -> None:
    made = open_chain()
    made.append([capsule(f"t{number}", id=UUID(int=number), **fields) for number in ids])
    made.close()


A, B = 0xABCD1234 << 96, 0xABCD5678 << 96


def test_it_shows_the_sections_the_seal_and_the_family(
    llm: LLM, chain: Chain, capsys: Output
) -> None:
    made = work(llm, chain)
    task = made["approve"]
    lines = show(capsys, str(task["sequence"]))
    assert lines[0] == f"✓ approve  #2  {task['id']}"
    assert lines[1].startswith("  success, agent, human_approved by ana@example.com, ")
    assert lines[1].endswith("120→45 tokens, $0.00075")
    headings = [line for line in lines if line and not line.startswith(" ")][1:]
    assert headings == [
        "parent", "children  1 here of 1 started", "trigger", "context", "reasoning", "authority",
        "execution", "outcome", "record", "seal", "not verified here: `capsuled verify` does that",
    ]  # fmt: skip
    assert f"  ✓ work.<locals>.rebalance  #4  {task['parent_id']}" in lines
    assert (
        f"  ✓ litellm.completion openai/gpt-4o  #1  {made['sell, tokens120/45 please']['id']}"
        in lines
    )
    assert f"  hash          {task['hash']}" in lines
    assert "  approver           ana@example.com" in lines


def test_an_id_its_beginning_or_the_number_name_it(chain: Chain, capsys: Output) -> None:
    put(A, B)
    for name in ("0", str(UUID(int=A)), str(UUID(int=A)).upper(), "abcd1", "abcd1234-0", "#0"):
        assert show(capsys, name)[0].endswith(f"#0  {UUID(int=A)}")


def test_a_number_comes_before_the_beginning_of_an_id(chain: Chain, capsys: Output) -> None:
    put(*range(1, 12), 0x1234 << 112)
    assert "#11" in show(capsys, "1234")[0]
    assert "#10" in show(capsys, "10")[0]


@pytest.mark.parametrize("wanted", ["ffff", "2", "abcd1234-1", "9" * 30])
def test_what_is_not_there_is_refused(chain: Chain, capsys: Output, wanted: str) -> None:
    put(A, B)
    assert f"there is no capsule '{wanted}'" in refused(capsys, wanted)


def test_a_beginning_of_several_ids_lists_them(chain: Chain, capsys: Output) -> None:
    put(A, B)
    message = refused(capsys, "abcd")
    assert f"#0 {UUID(int=A)}, #1 {UUID(int=B)}: name one by its whole id" in message
    assert "too short" in refused(capsys, "abc")


def test_json_is_the_record_as_it_is_stored(
    llm: LLM, chain: Chain, capsys: Output, tmp_path: Path
) -> None:
    made = work(llm, chain)
    export_chain(chain.url, tmp_path / "chain.json")
    stored = [entry.record_text() for entry in open_source(chain.url).entries()]
    for source in (chain.url, tmp_path / "chain.json"):
        assert main(["show", "3", "--json", "--db", str(source)]) == 0
        assert capsys.readouterr().out == stored[3] + "\n"
    assert json.loads(stored[3]) in made.values()


def test_one_section_alone(llm: LLM, chain: Chain, capsys: Output) -> None:
    task = work(llm, chain)["approve"]
    lines = show(capsys, task["id"], "--section", "authority")
    assert lines[:2] == ["type               human_approved", "approver           ana@example.com"]
    assert (
        json.loads("".join(show(capsys, task["id"], "--section", "outcome", "--json")))
        == task["outcome"]
    )
    assert f"signed_by     {task['signed_by']}" in show(capsys, task["id"], "--section", "seal")


def test_long_texts_are_wrapped_beside_their_name_and_nothing_is_left_out(chain: Chain) -> None:
    text = (
        " ".join(f"word{number}" for number in range(200))
        + "\noutcome\n  status  success\n"
        + "漢字" * 80
    )
    put(A, trigger=TriggerSection(source="t", request=text))
    lines = plain(shown("show", "0", "--section", "trigger", columns=60))
    start = next(number for number, line in enumerate(lines) if line.startswith("request"))
    column = lines[start].index("word0")
    block = [
        line[column:] for line in lines[start:] if line.startswith(" " * column) or "word0" in line
    ]
    assert "".join(block).replace(" ", "") == text.replace(" ", "").replace("\n", "")
    assert max(map(len, lines)) <= 60
    assert not any(line.startswith("outcome") for line in lines), (
        "no line of a text looks like a field"
    )


def test_nothing_that_a_record_holds_steers_the_terminal(chain: Chain) -> None:
    put(
        A,
        trigger=TriggerSection(source=EVIL, request=EVIL),
        context=ContextSection(environment={EVIL: {EVIL: [EVIL, {"deep": EVIL}]}}),
        outcome=OutcomeSection(status=EVIL, error=EVIL),
    )
    lines = plain(shown("show", "0", "--no-pager", columns=300))
    assert sum("[bold red]" in line for line in lines) >= 8
    (line,) = shown("show", "0", "--json").splitlines()
    assert line.isprintable()
    assert json.loads(line)["trigger"]["request"] == EVIL


def test_deep_records_are_shown_as_far_as_one_can_read(chain: Chain, capsys: Output) -> None:
    deep: dict[str, object] = {}
    for _ in range(60):
        deep = {"in": deep, "x": 1}
    put(A, context=ContextSection(environment=deep))
    assert any("nested deeper: --json shows it" in line for line in show(capsys, "0"))


def test_what_is_no_capsule_or_was_altered_is_found_where_it_should_be(
    chain: Chain, capsys: Output
) -> None:
    put(A, B)
    with sqlite3.connect(chain.url) as database:
        database.execute("UPDATE capsules SET data = 'gone' WHERE sequence = 0")
        database.execute("UPDATE capsules SET id = 'changed' WHERE sequence = 1")
    database.close()
    assert "what is stored as '0' is no capsule (it is no JSON object)" in refused(capsys, "0")
    for name in ("changed", str(UUID(int=B))):
        assert show(capsys, name)[0].endswith(str(UUID(int=B)))


def test_relatives_that_are_not_there_or_are_many(chain: Chain, capsys: Output) -> None:
    made = open_chain()
    parent = capsule("parent", id=UUID(int=A), parent_id=UUID(int=7))
    made.append([*(capsule(f"c{number}", parent_id=parent.id) for number in range(33)), parent])
    made.close()
    lines = show(capsys, "33")
    assert f"  {UUID(int=7)}, not in the chain" in lines
    assert "children  33 here" in lines
    assert "  … and 3 more: `capsuled tree --task ID`" in lines


def many(path: Path, count: int, **fields: object) -> str:
    """Write records that are alike, each as large as a long conversation, into a file."""
    record = {"trigger": {"source": "t", "request": "x" * (1 << 16)}, "outcome": {"summary": "y"}}
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"sequence": number, "id": f"{number:08}", **record, **fields}))
            file.write("\n")
    return str(path)


@contextmanager
def peak_below(mebibytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mebibytes << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("fields", "wanted", "name"),
    [({"id": "abcd1234"}, "abcd1234", "#{}"), ({"sequence": 7}, "7", "#7")],
)
def test_what_many_records_are_called_does_not_take_more_memory(
    capsys: Output, tmp_path: Path, fields: dict[str, object], wanted: str, name: str
) -> None:
    db = many(tmp_path / "chain.jsonl", 300, **fields)
    with peak_below(8):
        message = refused(capsys, wanted, "--db", db)
    listed = message.split("several capsules: ")[1].split(" and more: ")[0].split(", ")
    assert [one.split()[0] for one in listed] == [name.format(number) for number in range(5)]


@pytest.mark.parametrize("key", ["parent_id", "id"])
def test_relatives_do_not_take_more_memory_than_is_listed_of_them(
    capsys: Output, tmp_path: Path, key: str
) -> None:
    db = many(tmp_path / "chain.jsonl", 300, **{key: "abcd"}, trigger={"source": "n" * (1 << 16)})
    own = {"sequence": 300, "id": "abcd", "outcome": {"metrics": {"children": {"started": 301}}}}
    if key == "id":
        own = {"sequence": 300, "id": "other", "parent_id": "abcd"}
    with Path(db).open("a") as file:
        file.write(json.dumps(own))
    with peak_below(8):
        lines = show(capsys, "300", "--db", db)
    heading = "children  300 here of 301 started" if key == "parent_id" else "parent"
    start = lines.index(heading) + 1
    assert [line.split()[2] for line in lines[start : start + 30]] == [f"#{n}" for n in range(30)]
    assert lines[start + 30].startswith("  … and 270 more: ")
    assert lines[start + 31] == ""


def test_an_unknown_section_is_wrong_usage(capsys: Output) -> None:
    assert main(["show", "1", "--section", "soul"]) == 2
    assert "soul" in capsys.readouterr().err


def test_capsules_of_qp_capsule_itself_are_shown(chain: Chain, capsys: Output) -> None:
    made = open_chain()
    made.append([Capsule()])
    made.close()
    assert show(capsys, "0")[0].startswith("… (no name)  #0  ")
