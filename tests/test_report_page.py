"""The report's page, in a real browser: what it says of chains, selections, keys, checkpoints and damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nacl.signing import SigningKey
from report_support import (
    Show,
    browser,  # noqa: F401 - a fixture
    checkpoint,
    day,
    manifest,
    public_key,
    rechain,
    report,
    reseal,
    show,  # noqa: F401 - a fixture
    signing_key,
)

OTHER = SigningKey(b"o" * 32)

# ── whole chains ──────────────────────────────────────────────────────────────────────────────────


def test_a_whole_chain_verifies_with_the_key_that_came_with_it(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path)
    key = public_key(signing_key(tmp_path))
    shown = show(report(tmp_path / "r.html", records, manifest(key, count=len(records))))
    assert shown.verdict == "whole"
    assert shown.findings() == set()
    said = shown.page.inner_text("#checks")
    assert f"The content of {len(records)} capsules against the hash" in said
    assert "Whether the end was cut off" in said
    assert "prove only that it agrees with itself" in said


def test_a_chain_without_a_key_is_not_called_whole(show: Show, tmp_path: Path) -> None:
    shown = show(report(tmp_path / "r.html", day(tmp_path), manifest()))
    assert shown.verdict == "open"
    assert "no key" in shown.page.inner_text("#verdict-title")
    assert shown.findings() == set()


def test_a_pasted_key_is_used_instead_of_those_of_the_file(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path)
    shown = show(report(tmp_path / "r.html", records, manifest(public_key(OTHER))))
    everything = {("signature_invalid", record["sequence"]) for record in records}
    assert shown.verdict == "broken"
    assert shown.findings() == everything
    shown.use_key(public_key(signing_key(tmp_path)).upper())
    assert shown.verdict == "whole"
    assert "given by you" in shown.page.inner_text("#keys")
    shown.page.click("text=Use the keys of the file")
    assert shown.finished().findings() == everything


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
        assert "no Ed25519 public key" in shown.page.inner_text("#key-error")
        assert shown.verdict == "whole"


def test_any_of_several_keys_may_have_signed(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path)
    for record in records[5:]:
        reseal(record, OTHER)
    keys = [public_key(OTHER), public_key(signing_key(tmp_path))]
    assert show(report(tmp_path / "r.html", records, manifest(*keys))).verdict == "whole"


def test_an_empty_chain_and_a_bare_manifest_are_shown(show: Show, tmp_path: Path) -> None:
    shown = show(
        report(tmp_path / "r.html", [], {"keys": "none", "count": "many", "selection": []})
    )
    assert shown.verdict == "open"
    assert "No capsule matches." in shown.page.inner_text("#tree")


def test_a_page_that_fails_does_not_look_as_if_it_had_checked(show: Show, tmp_path: Path) -> None:
    path = report(tmp_path / "r.html", day(tmp_path), manifest(public_key(OTHER)))
    shown = show(path, script="delete globalThis.DecompressionStream; delete globalThis.Worker;")
    assert shown.verdict == "broken"
    shown = show(path, script="Intl.NumberFormat = Number.prototype.toLocaleString = null;")
    assert shown.verdict == "open"
    assert "this page failed" in shown.page.inner_text("#verdict-title")
    shown.failures.clear()


def test_a_file_that_holds_fewer_capsules_than_it_announces_is_not_whole(
    show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    says = manifest(public_key(signing_key(tmp_path)), count=len(records) + 1)
    shown = show(report(tmp_path / "r.html", records, says))
    assert shown.verdict == "open"
    assert "announces" in shown.page.inner_text("#verdict-text")


def test_a_selection_has_gaps_without_errors_and_says_so(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path)
    some = [record for record in records if record["context"]["agent_id"] == "trading-bot"]
    key = public_key(signing_key(tmp_path))
    shown = show(
        report(tmp_path / "r.html", some, manifest(key, selection={"agent": "trading-bot"}))
    )
    assert shown.verdict == "whole"
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
    whole = records[:9]
    assert show(report(tmp_path / "r.html", whole, says)).verdict == "whole"
    without_a_call = [record for record in whole if record["sequence"] != 3]
    assert show(report(tmp_path / "r.html", without_a_call, says)).findings() == {
        ("children_missing", 5)
    }
    with_another = records[:10]
    assert show(report(tmp_path / "r.html", with_another, says)).findings() == {
        ("selection_incomplete", None)
    }


# ── checkpoints and damage ────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_is_compared_and_excludes_that_the_end_was_cut_off(
    show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    key = signing_key(tmp_path)
    notes = [checkpoint(records, 9, key), checkpoint(records, len(records), key)]
    shown = show(report(tmp_path / "r.html", records, manifest(public_key(key), checkpoints=notes)))
    assert shown.verdict == "whole"
    assert f"over the first {len(records)} capsules" in shown.page.inner_text("#checks")
    assert "a chain that was shortened" not in shown.page.inner_text("#checks")


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
        "rewritten": {("checkpoint_mismatch", 8)},
    }.get(kind, {("checkpoint_invalid", None)})
    shown = show(
        report(tmp_path / "r.html", records, manifest(public_key(key), checkpoints=[note]))
    )
    assert (shown.verdict, shown.findings()) == ("broken", expected)


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
