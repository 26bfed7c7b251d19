"""The report's page, in a real browser: what it says of chains, selections, keys, checkpoints and damage."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey
from report_support import (
    Show,
    browser,  # noqa: F401 - a fixture
    checkpoint,
    day,
    judged,
    manifest,
    public_key,
    rechain,
    report,
    reseal,
    show,  # noqa: F401 - a fixture
    signing_key,
)

from capsule_sdk.chain.checkpoint import parse
from capsule_sdk.errors import EvidenceError

OTHER = SigningKey(b"o" * 32)

# ── whole chains ──────────────────────────────────────────────────────────────────────────────────


def test_with_the_key_of_the_file_alone_it_is_consistent_and_with_that_key_pasted_whole(
    show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    key = public_key(signing_key(tmp_path))
    path = report(tmp_path / "r.html", records, manifest(key))
    shown = show(path)
    assert shown.judgement() == judged(path) == ("open", set())
    assert shown.title.startswith("Consistent in itself: every capsule fits the key that came with")
    assert "paste that one below" in shown.page.inner_text("#verdict-text")
    said = shown.page.inner_text("#checks")
    assert f"The content of {len(records)} capsules against the hash" in said
    assert "Whether the end was cut off" in said
    assert "prove only that it agrees with itself" in said
    shown.use_key(key)
    assert shown.judgement() == judged(path, key) == ("whole", set())
    assert shown.title == "Whole: every capsule is as it was sealed"
    shown.page.click("text=Use the keys of the file")
    assert shown.finished().verdict == "open"


def test_what_is_doubtful_leaves_a_chain_whole_and_stands_in_the_title(
    show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    for place in (4, 6):
        records[place]["signed_at"] = "2020-01-01T00:00:00+00:00"
    key = public_key(signing_key(tmp_path))
    path = report(tmp_path / "r.html", records, manifest(key))
    shown = show(path)
    assert shown.judgement() == judged(path)
    assert shown.verdict == "open"
    assert shown.title.startswith("Consistent in itself")
    assert shown.title.endswith("; 4 open points")  # before it began, and before the one before it
    shown.use_key(key)
    assert shown.judgement() == judged(path, key)
    assert shown.verdict == "whole"
    assert shown.title == "Whole: every capsule is as it was sealed; 4 open points"
    assert shown.page.inner_text(".group h3").startswith("Sealed too early, by its own account")
    said = shown.page.locator("li.finding .sentence").all_inner_texts()
    assert sum("before it began" in text for text in said) == 2
    assert sum("than the capsule before it" in text for text in said) == 2


def test_a_chain_without_a_key_is_not_called_whole(show: Show, tmp_path: Path) -> None:
    path = report(tmp_path / "r.html", day(tmp_path), manifest())
    shown = show(path)
    assert shown.judgement() == judged(path) == ("open", set())
    assert "no key" in shown.title


def test_a_pasted_key_is_used_instead_of_those_of_the_file(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path)
    shown = show(report(tmp_path / "r.html", records, manifest(public_key(OTHER))))
    everything = {("key_unknown", record["sequence"]) for record in records}
    assert shown.verdict == "broken"
    assert shown.findings() == everything
    shown.use_key(public_key(signing_key(tmp_path)).upper())
    assert shown.verdict == "whole"
    assert "given by you" in shown.page.inner_text("#keys")
    shown.page.click("text=Use the keys of the file")
    assert shown.finished().findings() == everything


def test_what_keys_export_writes_is_taken_as_keys_when_it_is_pasted(
    show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    for record in records[5:]:
        reseal(record, OTHER)
        record["signed_by"] = public_key(OTHER)[:16]
    keys = [public_key(OTHER), public_key(signing_key(tmp_path))]
    epochs = [{"epoch": number, "public_key_hex": key} for number, key in enumerate(keys)]
    shown = show(report(tmp_path / "r.html", records, manifest()))
    for broken in ('{"epochs": []}', '{"epochs": [{}]}', "{"):
        shown.page.fill("#key", broken)
        shown.page.press("#key", "Enter")
        assert "not an Ed25519 public key" in shown.page.inner_text("#key-error")
    assert shown.use_key(json.dumps({"version": 1, "epochs": epochs}, indent=2)).verdict == "whole"


def test_what_is_no_key_is_refused_and_nothing_is_checked_with_it(
    show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    shown = show(report(tmp_path / "r.html", records, manifest(public_key(signing_key(tmp_path)))))
    for text in (
        "",
        "abc",
        "g" * 64,
        "02" + "0" * 62,
        "01" + "0" * 62,
    ):  # the last two: no point, a weak one
        shown.page.fill("#key", text)
        shown.page.press("#key", "Enter")
        assert "not an Ed25519 public key" in shown.page.inner_text("#key-error")
        assert shown.verdict == "open"
        assert shown.title.startswith("Consistent")


def test_any_of_several_keys_may_have_signed(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path)
    for record in records[5:]:
        reseal(record, OTHER)
        record["signed_by"] = public_key(OTHER)[:16]
    keys = [public_key(OTHER), public_key(signing_key(tmp_path))]
    path = report(tmp_path / "r.html", records, manifest(*keys))
    shown = show(path)
    assert shown.judgement() == judged(path) == ("open", set())
    assert "fits one of the 2 keys that came with this file" in shown.title
    assert shown.use_key(*keys).judgement() == judged(path, *keys) == ("whole", set())


def test_an_empty_chain_and_a_bare_manifest_are_shown(show: Show, tmp_path: Path) -> None:
    key = public_key(OTHER)
    path = report(tmp_path / "r.html", [], {"keys": "none", "checkpoints": "many"})
    shown = show(path)
    assert shown.judgement() == judged(path) == ("open", set())
    assert "No capsule matches." in shown.page.inner_text("#tree")
    assert shown.use_key(key).judgement() == judged(path, key) == ("open", set())
    assert shown.title == "Nothing to check"


def test_a_page_that_fails_does_not_look_as_if_it_had_checked(show: Show, tmp_path: Path) -> None:
    path = report(tmp_path / "r.html", day(tmp_path), manifest(public_key(OTHER)))
    shown = show(path, script="delete globalThis.DecompressionStream; delete globalThis.Worker;")
    assert shown.verdict == "broken"
    shown = show(path, script="Intl.NumberFormat = Number.prototype.toLocaleString = null;")
    assert shown.verdict == "open"
    assert "this page failed" in shown.page.inner_text("#verdict-title")
    shown.failures.clear()


WATCH = """
  globalThis.said = [];
  document.addEventListener("DOMContentLoaded", () => {
    const names = ["verdict-title", "verdict-text", "progress"];
    const [title, text, bar] = names.map((name) => document.getElementById(name));
    const look = () => said.push([title.textContent, text.textContent, bar.value]);
    new MutationObserver(look).observe(document.getElementById("verdict"), { subtree: true, childList: true });
  });
  globalThis.Worker = class { constructor() { throw new Error("in small slices, beside the page"); } };
"""


def test_progress_says_how_much_was_read_and_how_many_were_checked(
    show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path, rounds=60)
    path = report(tmp_path / "r.html", records, manifest(public_key(signing_key(tmp_path))))
    said = show(path, script=WATCH).page.evaluate("said")
    read = [(text, value) for title, text, value in said if title.startswith("Reading")]
    assert [value for _, value in read] == sorted(value for _, value in read)
    partly = [(text, value) for text, value in read if 0 < value < 1]
    assert len({value for _, value in partly}) > 2, "not 100 % from the beginning"
    for text, value in partly:
        assert text.endswith(f" read, {int(100 * value)} % of the data")
        assert int(text.split()[0]) < len(records)
    checked = [(text, value) for title, text, value in said if title.startswith("Checking")]
    assert any(0 < value < 1 for _, value in checked)
    for text, value in checked:
        assert text == f"{round(value * len(records))} of {len(records)} capsules"


def test_a_selection_has_gaps_without_errors_and_says_so(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path)
    some = [record for record in records if record["context"]["agent_id"] == "trading-bot"]
    key = public_key(signing_key(tmp_path))
    path = report(tmp_path / "r.html", some, manifest(key, selection={"agent": "trading-bot"}))
    shown = show(path)
    assert shown.judgement() == judged(path) == ("open", set())
    assert shown.use_key(key).judgement() == judged(path, key) == ("whole", set())
    assert "agent trading-bot" in shown.page.inner_text("#provenance")
    assert "this is a selection" in shown.page.inner_text("#checks")
    some[1]["outcome"]["summary"] = "something else"
    some[2]["previous_hash"] = "0" * 64
    reseal(some[2], signing_key(tmp_path))
    shown = show(
        report(tmp_path / "r.html", some, manifest(key, selection={"agent": "trading-bot"}))
    )
    broken = some[1]["sequence"], some[2]["sequence"]
    assert broken == (4, 5), "neighbours in the chain"
    assert shown.findings() >= {("hash_mismatch", 4), ("link_broken", 5)}


def test_the_selection_of_a_task_must_hold_all_of_it(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path)
    key, task = public_key(signing_key(tmp_path)), records[8]
    says = manifest(key, selection={"task": task["id"]})
    whole = show(report(tmp_path / "r.html", records[:9], says))
    assert whole.use_key(key).judgement() == judged(tmp_path / "r.html", key) == ("whole", set())
    without_a_call = [record for record in records[:9] if record["sequence"] != 3]
    assert show(report(tmp_path / "r.html", without_a_call, says)).findings() == {
        ("children_missing", 5)
    }
    with_another = records[:10]
    assert show(report(tmp_path / "r.html", with_another, says)).findings() == {
        ("selection_incomplete", None)
    }


@pytest.mark.parametrize("claim", ["a task", [], 5, {"": "x"}, {"agent": 5}, {"task": "all"}])
def test_a_claim_of_no_known_kind_does_not_turn_into_that_of_a_whole_chain(
    claim: Any, show: Show, tmp_path: Path
) -> None:
    records, key = day(tmp_path), public_key(signing_key(tmp_path))
    path = report(tmp_path / "r.html", records, {**manifest(key), "selection": claim})
    expected = ("broken", {("selection_incomplete", None)})
    assert show(path).use_key(key).judgement() == judged(path, key) == expected


# ── checkpoints and damage ────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_is_compared_and_excludes_that_the_end_was_cut_off(
    show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    key = signing_key(tmp_path)
    notes = [checkpoint(records, 9, key), checkpoint(records, len(records), key)]
    shown = show(report(tmp_path / "r.html", records, manifest(public_key(key), checkpoints=notes)))
    assert shown.use_key(public_key(key)).judgement() == ("whole", set())
    assert f"over the first {len(records)} capsules" in shown.page.inner_text("#checks")
    assert "a chain that was shortened" not in shown.page.inner_text("#checks")


def test_a_checkpoint_of_what_a_selection_leaves_out_is_not_called_compared(
    show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    key = signing_key(tmp_path)
    notes = [checkpoint(records, size, key) for size in (5, 12)]
    says = manifest(public_key(key), selection={"agent": "trading-bot"}, checkpoints=notes)
    some = [record for record in records if record["context"]["agent_id"] == "trading-bot"]
    assert {4, 11} - {record["sequence"] for record in some} == {11}
    path = report(tmp_path / "r.html", some, says)
    shown = show(path).use_key(public_key(key))
    assert shown.judgement() == judged(path, public_key(key))
    unchecked = shown.page.inner_text("#checks .unchecked")
    assert "1 checkpoint of capsules that this selection does not hold" in unchecked
    assert "over the first 5 capsules" in shown.page.inner_text("#checks .checked")
    assert "over the first 12 capsules" not in shown.page.inner_text("#checks")


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("another beginning", ("checkpoint_mismatch", None)),
        ("its record is missing", ("checkpoint_truncated", None)),
        ("it is of an older state", ("checkpoint_mismatch", 8)),
    ],
)
def test_a_checkpoint_is_judged_as_the_command_judges_it(
    kind: str, found: tuple[str, int | None], show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    key = signing_key(tmp_path)
    first = "0" * 64 if kind == "another beginning" else None
    note = checkpoint(records, 9, key, first=first)
    if kind == "its record is missing":
        del records[8]
    elif kind == "it is of an older state":
        records[8]["outcome"]["summary"] = "another"
        rechain(records, key)
    path = report(tmp_path / "r.html", records, manifest(public_key(key), checkpoints=[note]))
    shown = show(path).use_key(public_key(key))
    assert shown.judgement() == judged(path, public_key(key))
    assert found in shown.findings()


NOTES: dict[str, Callable[[str], str]] = {
    "no time": lambda note: re.sub("time .*\n", "more\n", note),
    "two times": lambda note: re.sub("(time .*\n)", r"\1\1", note),
    "a day that there is not": lambda note: note.replace("2026-03-02", "2026-02-30"),
    "another zone": lambda note: note.replace("Z\n", "+00:00\n"),
    "no newline at its end": lambda note: note[:-1],
    "Windows lines": lambda note: note.replace("\n", "\r\n"),
    "a control character": lambda note: note.replace("time", "x\ttime"),
    "an empty line": lambda note: note.replace("time", "\ntime", 1),
    "an empty chain": lambda note: note.replace("\n9\n", "\n0\n"),
    "a zero before its size": lambda note: note.replace("\n9\n", "\n09\n"),
    "base64 with spare bits": lambda note: re.sub("([^\n])=\n", r"/=\n", note, count=1),
    "no signature": lambda note: note.partition("—")[0],
    "half a character": lambda note: note.replace("time", "\ud800\ntime"),
    "too long": lambda note: note.replace("time", "x" * (1 << 20) + "\ntime"),
}


@pytest.mark.parametrize("spoil", NOTES.values(), ids=NOTES)
def test_a_note_that_the_command_does_not_read_proves_nothing_here_either(
    spoil: Callable[[str], str], show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    key = signing_key(tmp_path)
    note = spoil(checkpoint(records, 9, key))
    with pytest.raises(EvidenceError):
        parse(note)
    says = {**manifest(public_key(key)), "checkpoints": [note]}
    shown = show(report(tmp_path / "r.html", records, says)).use_key(public_key(key))
    assert shown.judgement() == ("broken", {("checkpoint_invalid", None)})
    assert "not a signed note" in shown.page.inner_text("#findings")


@pytest.mark.parametrize("kind", ["cut", "rewritten", "other_key", "altered", "no_note"])
def test_a_checkpoint_that_does_not_agree_breaks_the_chain(
    kind: str, show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    key = signing_key(tmp_path)
    note = checkpoint(records, 9, OTHER if kind == "other_key" else key)
    if kind == "cut":
        del records[8:]
    elif kind == "rewritten":
        records[0]["domain"] = "another"
        rechain(records, key)
    elif kind == "altered":
        note = note.replace("\n9\n", "\n8\n")
    elif kind == "no_note":
        note = "all is well"
    expected = {
        "cut": {("checkpoint_truncated", None), ("parent_missing", 2)},
        "rewritten": {("checkpoint_mismatch", None)},
    }.get(kind, {("checkpoint_invalid", None)})
    says = {**manifest(public_key(key)), "checkpoints": [note]}
    path = report(tmp_path / "r.html", records, says)
    assert show(path).judgement() == ("broken", expected)
    if kind != "no_note":  # such a file is not one that the command reads
        assert judged(path) == ("broken", expected)


def test_data_that_is_cut_off_is_reported_and_the_rest_is_still_shown(
    show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path, rounds=40)
    path = report(tmp_path / "r.html", records, manifest(public_key(signing_key(tmp_path))))
    page = path.read_text()
    start = page.index(' id="records">')
    end = page.index("</script>", start)
    path.write_text(page[: start + (end - start) * 3 // 4] + page[end:])
    shown = show(path)
    assert shown.verdict == "broken"
    assert ("malformed", None) in shown.findings()
    assert "damaged or cut off" in shown.page.inner_text("#findings")
    assert json.loads(shown.page.get_attribute(".grid", "aria-rowcount")) > 1
