"""Checkpoints: the form of a signed note, what is refused, how files are kept, and ``capsuled checkpoint``."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from chain_support import capsule, capsules, rotate_keys, rows
from click.testing import CliRunner, Result
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import assume, given
from hypothesis import strategies as st
from nacl.signing import SigningKey
from postgres_support import postgres  # noqa: F401 - a fixture

from capsule_sdk.chain import open_chain
from capsule_sdk.chain.checkpoint import (
    Checkpoint,
    NoteSignature,
    SignedCheckpoint,
    default_origin,
    parse,
    sign,
)
from capsule_sdk.chain.checkpoint_files import add_to
from capsule_sdk.chain.checkpoint_files import read as read_file
from capsule_sdk.cli import capsuled, main
from capsule_sdk.errors import EvidenceError

KEY, OTHER = SigningKey(bytes(range(32))), SigningKey(bytes(32))
PUBLIC = bytes(KEY.verify_key).hex()
HEAD = hashlib.sha3_256(b"the last capsule").hexdigest()
NOW = datetime(2026, 11, 26, 10, 40, tzinfo=UTC)
ORIGIN = "capsule-chain/" + "4f" * 32
MADE = Checkpoint(ORIGIN, 1000, HEAD, NOW)
NOTE = sign(MADE, KEY)
BODY, SIGNATURES = NOTE.split("\n\n")

origins = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="+"),
    min_size=1,
    max_size=60,
)
made = st.builds(
    Checkpoint,
    origins,
    st.integers(1, 10**18 - 1),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.datetimes(timezones=st.just(UTC)),
)


# -- the form --------------------------------------------------------------------------------------


def test_the_note_is_spelled_as_the_specification_has_it() -> None:
    lines = NOTE.split("\n")
    assert lines[0] == ORIGIN
    assert lines[1] == "1000"
    assert base64.b64decode(lines[2]) == hashlib.sha3_256(b"the last capsule").digest()
    assert lines[3] == "time 2026-11-26T10:40:00Z"
    assert lines[4] == ""
    dash, name, _ = lines[5].split(" ")
    assert (dash, name) == ("\u2014", ORIGIN)
    assert lines[6:] == [""]


def test_another_library_verifies_the_signature_over_the_text_and_its_final_newline() -> None:
    raw = base64.b64decode(NOTE.split(" ")[-1])
    public = bytes(KEY.verify_key)
    assert raw[:4] == hashlib.sha256(ORIGIN.encode() + b"\n\x01" + public).digest()[:4]
    theirs = Ed25519PublicKey.from_public_bytes(public)
    theirs.verify(raw[4:], (BODY + "\n").encode())
    with pytest.raises(InvalidSignature):
        theirs.verify(raw[4:], BODY.encode())


def test_a_signature_made_by_the_go_implementation_is_verified() -> None:
    """The example of golang.org/x/mod/sumdb/note; its text is not a checkpoint, its signature is one."""
    key = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    body = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    line = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    raw = base64.b64decode(line)
    signed = SignedCheckpoint(
        Checkpoint("PeterNeumann", 1, HEAD, NOW),
        body,
        (NoteSignature("PeterNeumann", raw[:4], raw[4:]),),
    )
    assert signed.verified_by([key[1:].hex()]) == key[1:].hex()
    assert signed.verified_by([PUBLIC]) is None


@given(made, st.binary(min_size=32, max_size=32))
def test_what_is_signed_is_read_back_and_verified(checkpoint: Checkpoint, seed: bytes) -> None:
    assume(seed != bytes(OTHER))
    key = SigningKey(seed)
    public = bytes(key.verify_key).hex()
    for note in (sign(checkpoint, key), sign(checkpoint, key).encode()):
        signed = parse(note)
        assert signed.checkpoint == checkpoint
        assert signed.body == checkpoint.text()
        assert signed.verified_by([bytes(OTHER.verify_key).hex(), public]) == public
        assert signed.verified_by([bytes(OTHER.verify_key).hex()]) is None


@given(made, st.data())
def test_a_flipped_bit_is_refused_or_leaves_the_note_unverified(
    checkpoint: Checkpoint, data: st.DataObject
) -> None:
    note = bytearray(sign(checkpoint, KEY).encode())
    place = data.draw(st.integers(0, len(note) - 1))
    note[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        signed = parse(bytes(note))
    except EvidenceError:
        return
    assert signed.verified_by([PUBLIC]) is None


@given(st.binary(max_size=400) | st.text(max_size=400))
def test_whatever_is_read_the_only_error_is_ours(note: bytes | str) -> None:
    with pytest.raises(EvidenceError):
        parse(note)


@given(st.data())
def test_a_note_with_parts_moved_about_is_never_verified_as_something_else(
    data: st.DataObject,
) -> None:
    lines = NOTE.splitlines(keepends=True)
    shuffled = "".join(data.draw(st.lists(st.sampled_from(lines), max_size=9)))
    try:
        signed = parse(shuffled)
    except EvidenceError:
        return
    assert signed.verified_by([PUBLIC]) is None or signed.checkpoint == MADE


def test_a_time_is_said_in_utc_to_the_second_or_the_microsecond() -> None:
    paris = datetime(2026, 11, 26, 11, 40, 0, 5, tzinfo=timezone(timedelta(hours=1)))
    text = Checkpoint(ORIGIN, 1, HEAD, paris).text()
    assert text.endswith("\ntime 2026-11-26T10:40:00.000005Z\n")
    assert parse(sign(Checkpoint(ORIGIN, 1, HEAD, paris), KEY)).checkpoint.time == paris


def test_a_note_is_never_what_a_capsules_signature_covers(tmp_path: Path) -> None:
    open_chain(url=tmp_path / "c.db").append([one := capsule()])
    key = SigningKey((tmp_path / "key").read_bytes())
    forged = SignedCheckpoint(
        Checkpoint("x", 1, one.hash, NOW), one.hash, (_by(key, "x", bytes.fromhex(one.signature)),)
    )
    public = bytes(key.verify_key).hex()
    assert forged.verified_by([public]) == public, "it is a signature, over a hash"
    with pytest.raises(EvidenceError):
        parse(f"{one.hash}\n\n{SIGNATURES}")
    assert "\n" in MADE.text()
    assert "\n" not in one.hash


def _by(key: SigningKey, name: str, signature: bytes) -> NoteSignature:
    content = name.encode() + b"\n\x01" + bytes(key.verify_key)
    return NoteSignature(name, hashlib.sha256(content).digest()[:4], signature)


# -- whose signature -------------------------------------------------------------------------------


def _line(key: SigningKey, name: str = ORIGIN, body: str = BODY + "\n") -> str:
    one = _by(key, name, key.sign(body.encode()).signature)
    return f"\u2014 {name} {base64.b64encode(one.key_id + one.signature).decode()}\n"


def test_signatures_of_others_are_left_alone() -> None:
    cosigned = base64.b64encode(b"\x01\x02\x03\x04" + bytes(72)).decode()
    note = f"{BODY}\n\n\u2014 witness.example/w1 {cosigned}\n{_line(OTHER)}{_line(KEY)}" + "".join(
        f"\u2014 w{number} {base64.b64encode(bytes(5_000)).decode()}\n" for number in range(16)
    )
    signed = parse(note)
    assert len(signed.signatures) == 19
    assert signed.verified_by([PUBLIC]) == PUBLIC
    assert signed.verified_by([bytes(OTHER.verify_key).hex()]) == bytes(OTHER.verify_key).hex()
    assert signed.verified_by([]) is None


def test_a_wrong_signature_of_a_known_key_spoils_the_note() -> None:
    note = f"{NOTE}{_line(KEY, body='something else')}"
    assert parse(note).verified_by([PUBLIC]) is None


def test_a_key_under_another_name_has_not_signed_for_this_chain() -> None:
    assert parse(f"{BODY}\n\n{_line(KEY, 'somebody')}").verified_by([PUBLIC]) is None


def test_a_signature_that_shares_only_name_or_id_with_a_key_is_anothers() -> None:
    (ours,) = parse(NOTE).signatures
    for stranger in (
        f"\u2014 somebody {base64.b64encode(ours.key_id + ours.signature).decode()}\n",
        f"\u2014 {ORIGIN} {base64.b64encode(b'0000' + ours.signature).decode()}\n",
    ):
        assert parse(f"{BODY}\n\n{stranger}").verified_by([PUBLIC]) is None
        assert parse(f"{NOTE}{stranger}").verified_by([PUBLIC]) == PUBLIC


@pytest.mark.parametrize("key", ["", "zz", "00" * 31, PUBLIC[:-2], "é" * 64, "\ud800"])
def test_what_is_no_key_has_signed_nothing(key: str) -> None:
    assert parse(NOTE).verified_by([key, PUBLIC]) == PUBLIC
    assert parse(NOTE).verified_by([key]) is None


# -- what is refused -------------------------------------------------------------------------------


def test_extension_lines_that_nobody_knows_are_allowed_and_signed() -> None:
    body = f"{BODY}\nfrob 7\n"
    signed = parse(f"{body}\n{_line(KEY, body=body)}")
    assert signed.checkpoint == MADE
    assert signed.verified_by([PUBLIC]) == PUBLIC
    assert parse(f"{body}\n{SIGNATURES}").verified_by([PUBLIC]) is None


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        ("", "no blank line"),
        (BODY + "\n" + SIGNATURES, "no blank line"),
        (BODY + "\n\n", "no signature under it"),
        (NOTE[:-1], "does not end in a newline"),
        (NOTE.replace("\n", "\r\n"), "CR LF"),
        (NOTE.replace(ORIGIN, "a\tb", 1), "control character"),
        (NOTE.encode() + b"\xff", "not UTF-8"),
        (NOTE.replace(ORIGIN, "\ud800"), "not UTF-8"),
        (NOTE + "\u2014 x " + "A" * (1 << 20) + "\n", "more than 1048576 bytes"),
        (NOTE + "\n" + SIGNATURES, "lines that are not empty"),
        (f"{ORIGIN}\n1000\n\n{SIGNATURES}", "not an origin, a size, a hash"),
        ("\n" + NOTE.partition("\n")[2], "lines that are not empty"),
        (NOTE.replace("\n1000\n", "\n01000\n"), "not a decimal number"),
        (NOTE.replace("\n1000\n", "\n-1000\n"), "not a decimal number"),
        (NOTE.replace("\n1000\n", "\n1e3\n"), "not a decimal number"),
        (NOTE.replace("\n1000\n", "\n1_000\n"), "not a decimal number"),
        (NOTE.replace("\n1000\n", "\n\u0661\n"), "not a decimal number"),
        (NOTE.replace("\n1000\n", "\n0\n"), "not a decimal number"),
        (NOTE.replace("\n1000\n", f"\n{'9' * 5000}\n"), "not a decimal number"),
        (NOTE.replace("=\ntime", "\ntime"), "its hash is not base64"),
        (NOTE.replace("=\ntime", "-=\ntime"), "its hash is not base64"),
        (NOTE.replace(BODY.split("\n")[2], "q6s="), "its hash has 2 bytes"),
        (NOTE.replace("time ", "tyme "), "not one line 'time'"),
        (NOTE.replace("10:40:00Z", "10:40:00"), "not one line 'time'"),
        (NOTE.replace("10:40:00Z", "10:40:00+01:00"), "not one line 'time'"),
        (NOTE.replace("10:40:00Z", "25:40:00Z"), "not one line 'time'"),
        (NOTE.replace("2026-11-26", "2026-02-30"), "not one line 'time'"),
        (NOTE.replace(BODY, BODY + "\ntime 2026-11-26T10:40:00Z"), "not one line 'time'"),
        (NOTE.replace("\u2014", "-"), "not a signature: a dash"),
        (NOTE.replace("\u2014 ", "\u2014"), "not a signature: a dash"),
        (f"{BODY}\n\n\u2014  AAAAAAAA\n", "not a signature: a dash"),
        (f"{BODY}\n\n\u2014 a+b AAAAAAAA\n", "not a signature: a dash"),
        (f"{BODY}\n\n\u2014 a\u00a0b AAAAAAAA\n", "not a signature: a dash"),
        (f"{BODY}\n\n\u2014 name\n", "not a signature: a dash"),
        (f"{BODY}\n\n\u2014 name AAAA AAAA\n", "a signature is not base64"),
        (f"{BODY}\n\n\u2014 name AAAAAAB=\n", "a signature is not base64"),
        (f"{BODY}\n\n\u2014 name \n", "a signature is not base64"),
        (f"{BODY}\n\n\u2014 name AAAAAA==\n", "a signature has 4 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused_in_a_plain_sentence(
    note: str | bytes, reason: str
) -> None:
    with pytest.raises(EvidenceError, match=reason) as caught:
        parse(note)
    assert type(caught.value) is EvidenceError
    assert str(caught.value).startswith("this is not a checkpoint that can be read: ")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"origin": ""}, "one line of text"),
        ({"origin": "a\nb"}, "one line of text"),
        ({"size": 0}, "at least 1"),
        ({"size": True}, "at least 1"),
        ({"size": 10**18}, "at least 1"),
        ({"head": "ab"}, "64 hexadecimal digits"),
        ({"head": HEAD.upper()}, "64 hexadecimal digits"),
        ({"time": NOW.replace(tzinfo=None)}, "needs a time zone"),
    ],
)
def test_what_cannot_be_said_in_a_note_makes_no_checkpoint(
    fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(EvidenceError, match=reason):
        Checkpoint(**{"origin": ORIGIN, "size": 1, "head": HEAD, "time": NOW, **fields})


@pytest.mark.parametrize("origin", ["two words", "a+b", "a\u2003b", "\ud800"])
def test_an_origin_that_is_no_name_of_a_key_signs_nothing(origin: str) -> None:
    with pytest.raises(EvidenceError, match="cannot be the origin"):
        sign(Checkpoint(origin, 1, HEAD, NOW), KEY)


def test_an_origin_with_spaces_is_read_for_other_tools_may_write_it() -> None:
    assert parse(NOTE.replace(ORIGIN, "go.sum database tree", 1)).checkpoint.size == 1000


@pytest.mark.parametrize("first", [None, "", "abc", HEAD.upper(), HEAD + "\n", b"x"])
def test_a_chain_is_named_by_nothing_but_a_hash(first: Any) -> None:
    with pytest.raises(EvidenceError, match="no first capsule"):
        default_origin(first)
    assert default_origin(HEAD) == f"capsule-chain/{HEAD}"


# -- files -----------------------------------------------------------------------------------------

LATER = NOW + timedelta(hours=1)


def _say(directory: Path, size: int = 1000, head: str = HEAD, origin: str = ORIGIN) -> Path:
    one = Checkpoint(origin, size, head, LATER)
    return add_to(directory, one, sign(one, KEY))


def test_names_are_in_the_order_of_sizes(tmp_path: Path) -> None:
    names = [_say(tmp_path, size).name for size in (9, 10, 123_456_789_012, 1_000_000_000_000)]
    assert names[0] == "000000000009.checkpoint"
    assert names[:3] == sorted(names[:3])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_one_that_says_the_same_stays_as_it_is_since_it_is_older(tmp_path: Path) -> None:
    path = add_to(tmp_path, MADE, NOTE)
    assert _say(tmp_path) == path
    assert path.read_text("utf-8") == NOTE


@pytest.mark.parametrize(
    ("other", "reason"),
    [({"head": "ab" * 32}, "cut short or written anew"), ({"origin": "x"}, "another chain")],
)
def test_one_that_says_otherwise_is_kept(
    tmp_path: Path, other: dict[str, Any], reason: str
) -> None:
    path = add_to(tmp_path, MADE, NOTE)
    with pytest.raises(EvidenceError, match=reason):
        _say(tmp_path, **other)
    assert path.read_text("utf-8") == NOTE


def test_a_torn_file_under_the_name_of_a_checkpoint_is_written_anew(tmp_path: Path) -> None:
    path = add_to(tmp_path, MADE, NOTE)
    path.write_bytes(NOTE.encode()[:50])
    assert add_to(tmp_path, MADE, NOTE).read_text("utf-8") == NOTE


def test_a_pipe_in_the_way_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "000000001000.checkpoint")
    assert add_to(tmp_path, MADE, NOTE).read_text("utf-8") == NOTE


def test_a_write_that_fails_leaves_what_was_there_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        add_to(tmp_path, MADE, NOTE)
    assert list(tmp_path.iterdir()) == []


# -- the command -----------------------------------------------------------------------------------


def run(*arguments: str | Path) -> Result:
    said = ["checkpoint", *map(str, arguments)]
    return CliRunner().invoke(capsuled, said, catch_exceptions=False)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "capsules.db"
    _append(path, 3)
    return path


def _append(url: Any, count: int) -> None:
    chain = open_chain(url=url)
    chain.append(capsules(count))
    chain.close()


def _public(directory: Path) -> str:
    return bytes(SigningKey((directory / "key").read_bytes()).verify_key).hex()


def _alter(db: Path, statement: str) -> None:
    with sqlite3.connect(db) as connection:
        connection.execute(statement)
    connection.close()


def test_the_head_of_the_default_chain_is_signed_on_standard_output(
    db: Path, tmp_path: Path
) -> None:
    before = datetime.now(UTC)
    result = run()
    assert result.exit_code == 0, result.output
    signed = parse(result.stdout_bytes)
    stored = rows(db, "hash")
    assert signed.checkpoint.size == 3
    assert signed.checkpoint.head == stored[2][0]
    assert signed.checkpoint.origin == f"capsule-chain/{stored[0][0]}"
    assert before <= signed.checkpoint.time <= datetime.now(UTC)
    assert signed.verified_by([_public(tmp_path)])
    assert not (tmp_path / "keyring.json").exists(), "a command that reads makes nothing"


def test_a_file_is_replaced_as_the_chain_grows(db: Path, tmp_path: Path) -> None:
    out = tmp_path / "head"
    assert run("--db", db, out).exit_code == 0
    first = out.read_text("utf-8")
    result = run("--db", db, out)
    assert out.read_text("utf-8") == first, "it says the same, and is older"
    assert result.output == f"3 capsules, the last {rows(db, 'hash')[2][0]} -> {out}\n"
    _append(db, 2)
    assert run("--db", db, out).exit_code == 0
    assert parse(out.read_bytes()).checkpoint.size == 5


def test_a_directory_gets_a_file_for_each_size(db: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    run(out)
    _append(db, 1)
    run(out)
    run(out)
    assert sorted(path.name for path in out.iterdir()) == [
        "000000000003.checkpoint",
        "000000000004.checkpoint",
    ]


def test_json_says_all_of_it(db: Path, tmp_path: Path) -> None:
    facts = json.loads(run("--json").output)
    assert facts["file"] is None
    signed = parse(facts["note"])
    assert (facts["size"], facts["head"]) == (3, signed.checkpoint.head)
    assert facts["key"] == _public(tmp_path) == signed.verified_by([facts["key"]])
    assert datetime.fromisoformat(facts["time"]) == signed.checkpoint.time
    facts = json.loads(run("--json", tmp_path / "head").output)
    assert Path(facts["file"]).read_text("utf-8") == facts["note"]


def test_a_pipe_gets_the_note(db: Path) -> None:
    read, write = os.pipe()
    assert run(f"/dev/fd/{write}").exit_code == 0
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert parse(pipe.read()).checkpoint.size == 3


def test_an_origin_can_be_given(db: Path) -> None:
    assert parse(run("--origin", "example.com/agents").stdout_bytes).checkpoint.origin == (
        "example.com/agents"
    )
    with pytest.raises(EvidenceError, match="'two words' cannot be the origin"):
        run("--origin", "two words")


def test_a_chain_of_two_keys_is_signed_with_the_one_of_today(db: Path, tmp_path: Path) -> None:
    rotate_keys()  # the head was sealed with the one before, which the keyring knows
    result = run()
    assert result.exit_code == 0, result.output
    assert parse(result.stdout_bytes).verified_by([_public(tmp_path)])


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE capsules SET data = replace(data, 'do task-2', 'do evil') WHERE sequence = 2",
         "hash_mismatch"),
        ("UPDATE capsules SET signature = '00' WHERE sequence = 2", "signature_invalid"),
        ("UPDATE capsules SET signature = '' WHERE sequence = 2", "signature_missing"),
        ("UPDATE capsules SET sequence = 7 WHERE sequence = 2", "column_mismatch"),
        ("UPDATE capsules SET data = x'ff' WHERE sequence = 2", "malformed"),
        ("UPDATE capsules SET data = '[]', hash = 5 WHERE sequence = 2", "malformed"),
    ],
)  # fmt: skip
def test_a_head_that_does_not_verify_is_not_vouched_for(
    db: Path, tmp_path: Path, statement: str, reason: str
) -> None:
    _alter(db, statement)
    out = tmp_path / "head"
    result = run(out)
    assert result.exit_code == 1
    assert result.stderr.startswith("capsuled: the last capsule does not verify")
    assert reason in result.stderr
    assert not out.exists()


def test_a_head_that_somebody_elses_key_has_sealed_is_not_vouched_for(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(elsewhere))
    _append(elsewhere / "capsules.db", 1)
    assert run("--db", db).exit_code == 1


@pytest.mark.parametrize("statement", ["sequence = 'zz'", "sequence = 2.5"])
def test_a_head_without_a_number_is_an_error(db: Path, statement: str) -> None:
    _alter(db, f"UPDATE capsules SET {statement} WHERE sequence = 2")
    with pytest.raises(EvidenceError, match="tampered with"):
        run()


def test_a_chain_without_its_first_capsule_has_no_name(db: Path) -> None:
    _alter(db, "DELETE FROM capsules WHERE sequence = 0")
    with pytest.raises(EvidenceError, match="no first capsule"):
        run()
    assert run("--origin", "mine").exit_code == 0


@pytest.mark.parametrize("directory", [True, False])
def test_a_chain_that_was_written_anew_contradicts_what_was_signed(
    db: Path, tmp_path: Path, directory: bool
) -> None:
    out = tmp_path / "out"
    if directory:
        out.mkdir()
    run(out)
    _alter(db, "DELETE FROM capsules WHERE sequence = 2")
    _append(db, 1)
    result = run(out)
    assert result.exit_code == 1
    assert "cut short or written anew" in result.stderr
    (file,) = out.iterdir() if directory else [out]
    assert parse(file.read_bytes()).checkpoint.head not in {one for (one,) in rows(db, "hash")}


def test_a_chain_that_was_cut_short_contradicts_what_was_signed(db: Path, tmp_path: Path) -> None:
    out = tmp_path / "head"
    run(out)
    _alter(db, "DELETE FROM capsules WHERE sequence = 2")
    result = run(out)
    assert result.exit_code == 1
    assert "had 3 capsules" in result.stderr
    signed = read_file(out)
    assert signed is not None
    assert signed.checkpoint.size == 3


@pytest.mark.parametrize("name", ["capsules.db", "key", "notes.txt"])
def test_nothing_but_a_checkpoint_is_overwritten(db: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if not path.exists():
        path.write_text("my notes")
    before = path.read_bytes()
    with pytest.raises(EvidenceError, match="not overwritten"):
        run("--db", db, path)
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_chain_is_not_overwritten(db: Path, tmp_path: Path) -> None:
    (out := tmp_path / "head").write_text(NOTE, "utf-8")
    with pytest.raises(EvidenceError, match="another chain"):
        run(out)


def test_what_cannot_be_done_is_said(db: Path, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="there is no chain at .*none.db"):
        run("--db", tmp_path / "none.db")
    with pytest.raises(EvidenceError, match="cannot be written: No such file"):
        run(tmp_path / "none" / "head")
    with pytest.raises(EvidenceError, match="leave out the tenant"):
        run("--tenant", "acme")
    _alter(db, "DELETE FROM capsules")
    with pytest.raises(EvidenceError, match="holds no capsules: there is nothing to sign yet"):
        run()


def test_exit_codes_are_those_of_all_commands(
    db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["checkpoint", "--db", str(db)]) == 0
    assert parse(capsys.readouterr().out).checkpoint.size == 3
    assert main(["checkpoint", "--db", str(tmp_path / "none.db")]) == 2
    assert main(["checkpoint", "--nonsense"]) == 2
    _alter(db, "UPDATE capsules SET signature = '00' WHERE sequence = 2")
    assert main(["checkpoint", "--db", str(db)]) == 1
    assert capsys.readouterr().err.count("capsuled: ") == 2


def test_a_missing_key_is_not_made(db: Path, tmp_path: Path) -> None:
    (tmp_path / "key").unlink()
    with pytest.raises(EvidenceError, match="there is no signing key at .*QUANTUMPIPES_DATA_DIR"):
        run()
    assert not (tmp_path / "key").exists()
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(EvidenceError, match="holds 5 bytes"):
        run()


def test_each_tenant_in_postgresql_has_a_head_of_its_own(postgres: str) -> None:
    chain = open_chain(url=postgres)
    ours, theirs = capsules(2), capsules(3)
    for one in theirs:
        one.context.environment["tenant_id"] = "acme"
    chain.append([*ours, *theirs])
    chain.close()
    for tenant, own in ((), ours), (("--tenant", "acme"), theirs):
        said = parse(run("--db", postgres, *tenant).stdout_bytes).checkpoint
        assert (said.origin, said.size, said.head) == (
            f"capsule-chain/{own[0].hash}",
            len(own),
            own[-1].hash,
        )
    with pytest.raises(EvidenceError, match="no capsules of tenant 'nobody'"):
        run("--db", postgres, "--tenant", "nobody")


def test_a_chain_that_is_shorter_than_a_checkpoint_in_the_directory_is_not_vouched_for(
    db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    assert main(["checkpoint", str(kept), "--db", str(db)]) == 0
    connection = sqlite3.connect(db)
    connection.execute("DELETE FROM capsules WHERE sequence = (SELECT max(sequence) FROM capsules)")
    connection.commit()
    connection.close()
    capsys.readouterr()
    assert main(["checkpoint", str(kept), "--db", str(db)]) == 1
    assert "it was cut short or written anew" in capsys.readouterr().err
    assert len(list(kept.iterdir())) == 1
