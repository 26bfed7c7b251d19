"""Tampering with a chain in a report: the page finds each kind where it was done, and so does the command."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey
from report_support import (
    Record,
    Show,
    browser,  # noqa: F401 - a fixture
    checkpoint,
    children_digest,
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

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.sources import open_source

OTHER = SigningKey(b"o" * 32)

# Records 0 to 8 are one task: 3 and 4 are calls under 5, 5 and 7 are tasks under 8.


def change(records: list[Record], _: SigningKey) -> None:
    records[4]["outcome"]["result"] = "Sell everything."


def change_and_hash(records: list[Record], _: SigningKey) -> None:
    change(records, _)
    reseal(records[4])


def change_and_sign_with_another_key(records: list[Record], _: SigningKey) -> None:
    change(records, _)
    reseal(records[4], OTHER)


def edit_a_hash(records: list[Record], _: SigningKey) -> None:
    records[4]["hash"] = "0" * 64


def drop_a_hash(records: list[Record], _: SigningKey) -> None:
    records[4]["hash"] = None


def edit_a_signature(records: list[Record], _: SigningKey) -> None:
    records[4]["signature"] = records[3]["signature"]


def drop_a_signature(records: list[Record], _: SigningKey) -> None:
    records[4]["signature"] = ""


def delete_a_call(records: list[Record], _: SigningKey) -> None:
    del records[4]


def delete_a_call_and_chain_anew(records: list[Record], key: SigningKey) -> None:
    del records[4]
    rechain(records, key)


def delete_a_task(records: list[Record], _: SigningKey) -> None:
    del records[8]


def delete_the_beginning(records: list[Record], _: SigningKey) -> None:
    del records[:9]


def swap(records: list[Record], _: SigningKey) -> None:
    records[3], records[4] = records[4], records[3]


def duplicate(records: list[Record], _: SigningKey) -> None:
    records.insert(5, copy.deepcopy(records[4]))


def add_a_call_and_chain_anew(records: list[Record], key: SigningKey) -> None:
    another, now = "0" * 8 + records[4]["id"][8:], records[-1]["signed_at"]
    records.append({**copy.deepcopy(records[4]), "id": another, "signed_at": now})
    rechain(records, key)


def exchange_a_call_and_chain_anew(records: list[Record], key: SigningKey) -> None:
    records[4]["id"] = "0" * 8 + records[4]["id"][8:]
    rechain(records, key)


def unlink(records: list[Record], key: SigningKey) -> None:
    records[4]["previous_hash"] = "0" * 64
    reseal(records[4], key)


def put_the_clock_back(records: list[Record], _: SigningKey) -> None:
    records[4]["signed_at"] = "2020-01-01T00:00:00+00:00"


def half_a_character(records: list[Record], _: SigningKey) -> None:
    records[4]["outcome"]["result"] = "\ud800"


def no_number(records: list[Record], _: SigningKey) -> None:
    records[4]["outcome"]["result"] = float("inf")


def no_object(records: list[Any], _: SigningKey) -> None:
    records[4] = '{"id": "'


def a_name_twice(records: list[Any], _: SigningKey) -> None:
    """Whoever takes the first of the two reads another domain than was sealed."""
    records[4] = '{"domain": "elsewhere", ' + json.dumps(records[4])[1:]


def no_sections(records: list[Record], key: SigningKey) -> None:
    records[4]["outcome"] = "good"
    rechain(records, key)


def say_what_was_lost(records: list[Record], key: SigningKey) -> None:
    records[9]["type"] = "system"
    records[9]["outcome"]["metrics"]["records_lost"] = 3
    rechain(records, key)


def lose_an_end(records: list[Record], key: SigningKey) -> None:
    records[9]["outcome"]["metrics"]["ended"] = "lost"
    rechain(records, key)


Tampering = Callable[[list[Any], SigningKey], None]
TAMPERINGS: dict[Tampering, set[tuple[str, int | None]]] = {
    change: {("hash_mismatch", 4)},
    change_and_hash: {("signature_invalid", 4), ("link_broken", 5)},
    change_and_sign_with_another_key: {("signature_invalid", 4), ("link_broken", 5)},
    edit_a_hash: {("hash_mismatch", 4), ("signature_invalid", 4), ("link_broken", 5)},
    drop_a_hash: {("hash_mismatch", 4), ("signature_invalid", 4), ("link_broken", 5)},
    edit_a_signature: {("signature_invalid", 4)},
    drop_a_signature: {("signature_missing", 4)},
    delete_a_call: {("sequence_gap", 5), ("children_missing", 5)},
    delete_a_call_and_chain_anew: {("children_missing", 4)},
    delete_a_task: {("sequence_gap", 9), ("parent_missing", 2)},
    delete_the_beginning: {("sequence_gap", 9)},
    swap: {("sequence_gap", 4), ("sequence_repeated", 3)},
    duplicate: {("sequence_repeated", 4), ("id_repeated", 4)},
    add_a_call_and_chain_anew: {("children_unannounced", 5)},
    exchange_a_call_and_chain_anew: {("children_mismatch", 5)},
    unlink: {("link_broken", 4), ("link_broken", 5)},
    put_the_clock_back: {("time_backwards", 4)},
    half_a_character: {("malformed", 4)},
    no_number: {("malformed", 4)},
    no_object: {("malformed", None), ("sequence_gap", 5), ("children_missing", 5)},
    a_name_twice: {("malformed", 4)},
    no_sections: {("malformed", 4)},
    say_what_was_lost: {("records_lost", 9)},
    lose_an_end: {("end_lost", 9)},
}
DOUBTS = {put_the_clock_back, say_what_was_lost, lose_an_end}


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_tampering_is_found_where_it_was_done_as_the_command_finds_it(
    tamper: Tampering, show: Show, tmp_path: Path
) -> None:
    records: list[Any] = day(tmp_path)
    key = signing_key(tmp_path)
    tamper(records, key)
    path = report(tmp_path / "r.html", records, manifest(public_key(key)))
    shown = show(path)
    expected = TAMPERINGS[tamper]
    unsure, sure = ("open", "whole") if tamper in DOUBTS else ("broken", "broken")
    assert shown.judgement() == judged(path) == (unsure, expected)
    assert shown.use_key(public_key(key)).judgement() == (sure, expected)
    assert judged(path, public_key(key)) == (sure, expected)


@pytest.mark.parametrize(("lists", "found"), [(252, set()), (253, {("malformed", 4)})])
def test_what_is_nested_too_deeply_for_the_command_is_so_for_the_page(
    lists: int, found: set[tuple[str, int | None]], show: Show, tmp_path: Path
) -> None:
    records, key = day(tmp_path), signing_key(tmp_path)
    deep: Any = "bottom"
    for _ in range(lists):
        deep = [deep]
    records[4]["outcome"]["result"] = deep
    rechain(records, key)
    path = report(tmp_path / "r.html", records, manifest(public_key(key)))
    shown = show(path).use_key(public_key(key))
    assert (
        shown.judgement()
        == judged(path, public_key(key))
        == ("broken" if found else "whole", found)
    )


OURS = "qp_key_{}".format
SIGNERS: dict[str, tuple[str, str, Any, str | None]] = {
    # how it is sealed, with which keys it is checked, whom it names, and what is found
    "another trusted key": ("mine", "mine other", lambda _, other: OURS(other[:4]), "signer_mismatch"),
    "sealed with another": ("other", "mine other", lambda mine, _: OURS(mine[:4]), "signer_mismatch"),
    "more digits of another": ("mine", "other mine", lambda _, other: other[:16], "signer_mismatch"),
    "as it is": ("other", "mine other", lambda _, other: OURS(other[:4]), None),
    "with more digits": ("mine", "other mine", lambda mine, _: mine[:16], None),
    "nobody's name": ("mine", "other mine", lambda *_: "somebody", None),
    "no name": ("other", "mine other", lambda *_: "", None),
    "not trusted": ("other", "mine", lambda _, other: OURS(other[:4]), "key_unknown"),
    "nobody's name, not trusted": ("other", "mine", lambda *_: "somebody", "key_unknown"),
    "no name, not trusted": ("other", "mine", lambda *_: "", "signature_invalid"),
    "none, not trusted": ("other", "mine", lambda *_: None, "signature_invalid"),
    "the trusted one's, not trusted": ("other", "mine", lambda mine, _: mine[:16], "signature_invalid"),
}  # fmt: skip


@pytest.mark.parametrize("case", SIGNERS.values(), ids=SIGNERS)
def test_who_a_capsule_says_has_sealed_it_is_judged_as_the_command_judges_it(
    case: tuple[str, str, Any, str | None], show: Show, tmp_path: Path
) -> None:
    sealed_with, checked_with, says, code = case
    records = day(tmp_path)
    keys = {"mine": signing_key(tmp_path), "other": OTHER}
    public = {name: public_key(key) for name, key in keys.items()}
    reseal(records[4], keys[sealed_with])
    records[4]["signed_by"] = says(*public.values())
    trusted = [public[name] for name in checked_with.split()]
    path = report(tmp_path / "r.html", records, manifest(*trusted))
    shown = show(path)
    found = {(code, 4)} if code else set()
    assert shown.judgement() == judged(path) == ("broken" if code else "open", found)
    assert shown.use_key(*trusted).judgement() == ("broken" if code else "whole", found)
    assert judged(path, *trusted) == ("broken" if code else "whole", found)
    shown.page.locator("#row-4").click()
    shown.page.wait_for_selector("#detail h3")
    said = shown.page.inner_text("#detail .checks")
    assert ("but it names another key" in said) == (code == "signer_mismatch")
    assert ("Signed by qp_key_" in said) == (code in {None, "signer_mismatch"})


ZEROS = "0" * 64
ODD: dict[str, list[Any]] = {
    "id": [None, "x", "A" * 8 + "-0000-4000-8000-" + "A" * 12],
    "signature_pq": [None, 5, "zz"],
    "parent_id": [None, 5, "", "00000000-0000-4000-8000-000000000000"],
    "sequence": [0, 3, -1, 1.0, "4", None],
    "previous_hash": [None, 5, ZEROS],
    "hash": [None, "", 5, ZEROS],
    "signature": [None, "", 5, 0, False, [], {}, [""], "zz", ZEROS * 2],
    "signed_by": [None, "", 5, False, "qp_key_0000", public_key(OTHER)[:16]],
    "signed_at": [
        None,
        "",
        "2020-01-01T00:00:00+00:00",
        "2030-01-01T00:00:00Z",
        "20300101",
        "tomorrow",
    ],
    "type": ["robot", None],
    "trigger": [None, {}],
    "children": [
        None,
        {"started": 1, "ended": 1, "digest": ZEROS},
        {"started": 2, "ended": 1, "digest": ZEROS},
        {"started": 1, "ended": 2, "digest": ZEROS},
        {"started": 1.0, "ended": 1, "digest": ZEROS},
        {"started": 0, "ended": 0, "digest": children_digest([])},
    ],
}


def damage(records: list[Record], key: SigningKey, chance: random.Random) -> None:
    """Do something to a record of the chain, and sometimes seal it anew, or all of it."""
    place, other = chance.randrange(len(records)), chance.randrange(len(records))
    record = records[place]
    kind = chance.choice(["delete", "copy", "swap", *ODD])
    if kind == "delete":
        del records[place]
    elif kind == "copy":
        records.insert(other, copy.deepcopy(record))
    elif kind == "swap":
        records[place], records[other] = records[other], records[place]
    elif kind == "children":
        record["outcome"]["metrics"]["children"] = chance.choice(ODD[kind])
    else:
        record[kind] = chance.choice([*ODD[kind], records[other][kind]])
    if chance.random() < 0.3:
        reseal(record, chance.choice([key, key, OTHER]))
    elif chance.random() < 0.2:
        rechain(records, key)


@pytest.mark.parametrize("seed", range(30))
def test_random_damage_is_judged_by_the_page_as_by_the_command(
    seed: int, show: Show, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    records, key = day(tmp_path), signing_key(tmp_path)
    note = checkpoint(records, chance.randint(1, len(records)), key)
    for _ in range(chance.randint(1, 3)):
        damage(records, key, chance)
    selection = chance.choice([None, None, {"agent": "trading-bot"}])
    keys = [public_key(key), *chance.choice([[], [public_key(OTHER)]])]
    says = manifest(*keys, selection=selection, checkpoints=chance.choice([[], [note]]))
    path = report(tmp_path / "r.html", records, says)
    shown = show(path)
    assert shown.judgement() == judged(path)
    assert shown.use_key(*keys).judgement() == judged(path, *keys)


@pytest.mark.parametrize(
    ("spelled", "verdict"),
    [
        (str.upper, "whole"),
        (lambda text: "\x0b ".join(re.findall("..", text)), "whole"),
        (lambda text: f" {text}\r\n", "whole"),
        (lambda text: text[:1] + " " + text[1:], "broken"),
        (lambda text: text[:2] + "\xa0" + text[2:], "broken"),
        (lambda text: text + "00", "broken"),
    ],
)
def test_a_signature_is_spelled_as_the_command_takes_it(
    spelled: Callable[[str], str], verdict: str, show: Show, tmp_path: Path
) -> None:
    records, key = day(tmp_path), signing_key(tmp_path)
    records[4]["signature"] = spelled(records[4]["signature"])
    path = report(tmp_path / "r.html", records, manifest(public_key(key)))
    shown = show(path).use_key(public_key(key))
    assert shown.verdict == verdict
    assert shown.judgement() == judged(path, public_key(key))


TWICE = {
    "exact records": '<script type="text/plain" id="records">',
    "exact manifest": '<script type="application/json" id="manifest">',
    "another spelling": "<script ID=&#109;anifest type='application/json'>",
    "another element": '<p id="records">',
}


@pytest.mark.parametrize("place", ["<script type=", "<script>", "</body>"])
@pytest.mark.parametrize("tag", TWICE.values(), ids=TWICE)
def test_a_file_that_holds_its_data_twice_is_shown_by_neither_reader(
    tag: str, place: str, show: Show, tmp_path: Path
) -> None:
    records, key = day(tmp_path), signing_key(tmp_path)
    path = report(tmp_path / "r.html", records, manifest(public_key(key)))
    text = path.read_text()
    start = text.rindex(place) if place == "</body>" else text.index(place)
    path.write_text(f"{text[:start]}{tag}</script></p>{text[start:]}")
    shown = show(path)
    assert shown.verdict == "broken"
    assert "tampered with" in shown.page.inner_text("#verdict-title")
    assert shown.rows() == []
    with pytest.raises(EvidenceError):
        list(open_source(path).entries())


@pytest.mark.parametrize("between", ["<p></p>", '<script type="application/json">{}</script>'])
def test_data_that_stands_elsewhere_is_not_shown(between: str, show: Show, tmp_path: Path) -> None:
    records, key = day(tmp_path), signing_key(tmp_path)
    path = report(tmp_path / "r.html", records, manifest(public_key(key)))
    path.write_text(path.read_text().replace("<script>", f"{between}<script>"))
    assert show(path).verdict == "broken"


@pytest.mark.parametrize("ended", [1, 2])
def test_children_that_had_not_ended_are_open_and_others_missing(
    ended: int, show: Show, tmp_path: Path
) -> None:
    records = day(tmp_path)
    task, key = records[5], signing_key(tmp_path)
    ids = [records[3]["id"], records[4]["id"], "0" * 8 + records[4]["id"][8:]]
    task["outcome"]["metrics"]["children"] = {
        "started": 3,
        "ended": ended,
        "digest": children_digest(ids),
    }
    del records[4]
    rechain(records, key)
    shown = show(report(tmp_path / "r.html", records, manifest(public_key(key))))
    shown.use_key(public_key(key))
    expected = {1: ("whole", {("children_open", 4)}), 2: ("broken", {("children_missing", 4)})}
    assert shown.judgement() == expected[ended]


def test_a_finding_says_which_capsule_and_leads_to_it(show: Show, tmp_path: Path) -> None:
    records = day(tmp_path, rounds=30)
    call = records[200]
    call["outcome"]["result"] = "Sell everything."
    shown = show(report(tmp_path / "r.html", records, manifest(public_key(signing_key(tmp_path)))))
    finding = shown.page.locator("li.finding")
    assert finding.get_attribute("data-id") == call["id"]
    assert "changed after sealing" in finding.inner_text()
    assert shown.page.locator(f"#row-{call['sequence']}").count() == 0
    shown.search("watch list")  # a filter that hides it
    finding.locator("button").click()
    shown.page.wait_for_selector("#detail h3")
    assert shown.page.locator(f"#row-{call['sequence']}").get_attribute("aria-selected") == "true"
    assert "Content is not what was sealed" in shown.page.inner_text("#detail .checks")
    assert call["id"] in shown.page.inner_text("#detail")


def test_the_page_says_of_a_selection_that_it_is_one_and_of_times_that_nothing_protects_them(
    show: Show, tmp_path: Path
) -> None:
    records, key = day(tmp_path), public_key(signing_key(tmp_path))
    whole = show(report(tmp_path / "w.html", records, manifest(key))).use_key(key)
    assert whole.title.startswith("Whole")
    some = [record for record in records if record["context"]["agent_id"] == "trading-bot"]
    says = manifest(key, selection={"agent": "trading-bot"})
    shown = show(report(tmp_path / "s.html", some, says)).use_key(key)
    assert shown.title.startswith("A selection")
    for one in (whole, shown):
        assert "signed_at" in one.page.inner_text("#checks .unchecked")
