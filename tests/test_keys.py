"""The signing key: one, whole, private, never replaced, and known to the keyring."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from chain_support import assert_verified, capsules, finish, qp_capsule_command, rotate_keys, start
from qp_capsule import Keyring, Seal

from capsule_sdk.chain import open_chain, placing
from capsule_sdk.chain.keys import ensure_key
from capsule_sdk.chain.store import SQLiteStore
from capsule_sdk.chain.writer import ChainWriter
from capsule_sdk.errors import ChainUnavailable, ConfigurationError


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "key"


def public_key(path: Path) -> str:
    return Seal(path).get_public_key()


def test_a_new_key_is_whole_and_its_owners_only(tmp_path: Path) -> None:
    key = tmp_path / "home" / "keys" / "key"
    ensure_key(key)
    assert len(key.read_bytes()) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert len(public_key(key)) == 64


def test_two_keys_are_not_alike(tmp_path: Path) -> None:
    ensure_key(tmp_path / "a")
    ensure_key(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_processes_that_start_together_sign_with_one_key(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from chain_support import race
from qp_capsule import Seal
from capsule_sdk.chain.keys import ensure_key
from capsule_sdk.chain.store import SQLiteStore
from capsule_sdk.chain.writer import ChainWriter
def work(process):
    for home in sys.argv[1:]:
        ensure_key(Path(home, "key"))
        os.write(1, f"{home} {Seal(Path(home, 'key')).get_public_key()}\\n".encode())
race(8, work)
"""
    homes = [tmp_path / f"new-{number}" for number in range(10)]
    (printed,) = finish(start(code, *homes))
    lines = printed.splitlines()
    assert len(lines) == 80
    assert set(lines) == {f"{home} {public_key(home / 'key')}" for home in homes}
    for home in homes:
        assert sorted(path.name for path in home.iterdir()) == ["key"]


def test_threads_that_start_together_get_one_key(key: Path) -> None:
    seen: set[bytes] = set()
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        ensure_key(key)
        seen.add(key.read_bytes())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1


@pytest.mark.parametrize("step", ["os.fsync", "os.link", "Path.unlink"])
def test_a_process_that_dies_while_it_makes_the_key_leaves_none_or_a_whole_one(
    key: Path, step: str
) -> None:
    child = os.fork()
    if child == 0:
        owner: Any = {"os": placing.os, "Path": placing.Path}[step.partition(".")[0]]
        setattr(owner, step.partition(".")[2], lambda *_: os._exit(9))
        ensure_key(key)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert key.exists() == (step == "Path.unlink")
    ensure_key(key)
    assert len(key.read_bytes()) == 32


def test_an_existing_key_is_never_replaced(key: Path) -> None:
    key.write_bytes(bytes(range(32)))
    ensure_key(key)
    ensure_key(key)
    assert key.read_bytes() == bytes(range(32))


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_file_that_is_no_key_is_refused_and_left_for_its_owner(key: Path, content: bytes) -> None:
    key.write_bytes(content)
    with pytest.raises(ConfigurationError, match="from your backup"):
        ensure_key(key)
    assert key.read_bytes() == content
    chain = open_chain()
    with pytest.raises(ConfigurationError, match="from your backup"):
        chain.append(capsules(1))
    key.unlink()
    chain.append(capsules(1))
    chain.close()


def test_a_key_being_rotated_is_waited_for(key: Path) -> None:
    """`capsule keys rotate` truncates the file before it writes the new key."""
    key.write_bytes(b"")
    writing = threading.Timer(0.05, key.write_bytes, [bytes(32)])
    writing.start()
    ensure_key(key)
    writing.join()
    assert key.read_bytes() == bytes(32)


def test_a_key_that_cannot_be_read_now_may_be_later(key: Path) -> None:
    key.mkdir()
    chain = open_chain()
    group = capsules(1)
    with pytest.raises(ChainUnavailable, match=r"the signing key .* cannot be used"):
        chain.append(group)
    key.rmdir()
    chain.append(group)
    chain.close()


# -- the keyring ----------------------------------------------------------------------------------


def append(count: int) -> Path:
    chain = open_chain()
    chain.append(capsules(count))
    chain.close()
    return Path(chain.identity.removeprefix("sqlite:///"))


def test_without_a_keyring_none_is_made(tmp_path: Path) -> None:
    append(1)
    assert not (tmp_path / "keyring.json").exists()


def test_the_key_of_a_keyring_is_used_and_the_keyring_left_alone(tmp_path: Path) -> None:
    rotate_keys()
    before = (tmp_path / "keyring.json").read_bytes()
    db = append(2)
    assert (tmp_path / "keyring.json").read_bytes() == before
    assert_verified("--db", db, "--signatures")


def test_a_key_that_the_keyring_does_not_know_is_registered_as_the_active_one(
    tmp_path: Path,
) -> None:
    rotate_keys()
    (tmp_path / "key").unlink()
    db = append(2)
    new = public_key(tmp_path / "key")
    keyring = Keyring()
    assert [epoch.status for epoch in keyring.epochs] == ["retired", "active"]
    assert keyring.export_public_key() == new
    assert_verified("--db", db, "--signatures")
    assert_verified("--db", db, "--pubkey", new)
    rotate_keys()
    assert_verified("--db", db, "--signatures")


def test_chains_verify_across_rotations_also_under_a_writer_that_goes_on_with_the_old_key(
    tmp_path: Path,
) -> None:
    chain = open_chain()
    chain.append(capsules(2))
    old = public_key(tmp_path / "key")
    rotate_keys()
    assert public_key(tmp_path / "key") != old
    late = capsules(2)
    chain.append(late)
    chain.close()
    assert {one.signed_by for one in late} == {old[:16]}
    db = append(2)
    done = qp_capsule_command("verify", "--db", db, "--signatures")
    assert done.returncode == 0, done.stdout
    rotate_keys()
    assert_verified("--db", append(1), "--signatures")


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 2}', '{"version": 1}'])
def test_a_keyring_that_cannot_be_read_is_named_and_left(tmp_path: Path, content: str) -> None:
    (tmp_path / "keyring.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"keyring\.json cannot be read as a keyring"):
        append(1)
    assert (tmp_path / "keyring.json").read_text() == content


# ── while a process seals ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "how", ["the key", "its directory", "all", "the directory, for an empty one"]
)
def test_a_key_in_use_that_is_taken_away_is_put_back(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    writer = ChainWriter(SQLiteStore(tmp_path / "chain" / "c.db"), Seal(data / "key"))
    writer.append(capsules(2))
    before = (data / "key").read_bytes()
    if how == "the key":
        (data / "key").unlink()
    else:
        data.rename(tmp_path / "moved")
        if how == "all":
            (tmp_path / "chain").rename(tmp_path / "moved-chain")
        if how.endswith("empty one"):
            data.mkdir()
    writer.append(capsules(2))
    assert (data / "key").read_bytes() == before
    assert stat.S_IMODE((data / "key").stat().st_mode) == 0o600
    assert [record.getMessage() for record in caplog.records if "put back" in record.getMessage()]


def test_a_key_that_takes_the_place_of_the_one_in_use_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = tmp_path / "data" / "key"
    writer = ChainWriter(SQLiteStore(tmp_path / "c.db"), Seal(key))
    writer.append(capsules(2))
    public = public_key(key)
    key.unlink()
    key.write_bytes(b"k" * 32)
    writer.append(capsules(2))
    writer.append(capsules(2))
    said = [record.getMessage() for record in caplog.records if public in record.getMessage()]
    assert len(said) == 1
    assert key.read_bytes() == b"k" * 32


def test_a_key_whose_place_cannot_be_written_makes_records_wait(tmp_path: Path) -> None:
    data = tmp_path / "data"
    writer = ChainWriter(SQLiteStore(tmp_path / "c.db"), Seal(data / "key"))
    writer.append(capsules(2))
    data.rename(tmp_path / "moved")
    data.write_text("in the way")
    late = capsules(2)
    with pytest.raises(ChainUnavailable, match="signing key"):
        writer.append(late)
    data.unlink()
    assert writer.append(late) == 2
    assert (data / "key").read_bytes() == (tmp_path / "moved" / "key").read_bytes()


def test_a_rotation_of_the_key_in_use_is_no_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain = open_chain()
    chain.append(capsules(2))
    rotate_keys()
    chain.append(capsules(2))
    assert not caplog.records
