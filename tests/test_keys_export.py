"""``capsuled keys export``: all public keys of all epochs, in one file that checks a chain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chain_support import capsules, rotate_keys
from nacl.signing import SigningKey
from qp_capsule import Keyring, Seal

from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def append(count: int = 2) -> None:
    chain = open_chain(url="chain.db")
    chain.append(capsules(count))
    chain.close()


def elsewhere(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Go on as somebody who has neither keys nor keyring."""
    (home / "auditor").mkdir()
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(home / "auditor"))


def test_a_chain_whose_keys_were_rotated_twice_is_whole_with_the_file_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    append()
    rotate_keys()
    append()
    rotate_keys()
    append()
    last = Seal().get_public_key()
    assert main(["keys", "export", "keys.json"]) == 0
    assert capsys.readouterr().out == "3 public keys -> keys.json\n"
    elsewhere(monkeypatch, home)
    assert main(["verify", "chain.db", "--pubkey-file", "keys.json", "--quiet"]) == 0
    assert main(["verify", "chain.db", "--pubkey", last, "--quiet"]) == 1, "one key is not enough"


def test_qp_capsule_reads_it_as_a_keyring(home: Path) -> None:
    append()
    rotate_keys()
    assert main(["keys", "export", "keys.json"]) == 0
    ring = Keyring(keyring_path=home / "keys.json", key_path=home / "none")
    assert [epoch.status for epoch in ring.epochs] == ["retired", "active"]
    assert ring.export_public_key() == Seal().get_public_key()


def test_without_a_keyring_it_has_the_key_in_use(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append()
    assert main(["keys", "export"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [epoch["public_key_hex"] for epoch in document["epochs"]] == [Seal().get_public_key()]
    assert not (home / "keyring.json").exists(), "looking makes none"


def test_a_key_that_the_keyring_does_not_know_goes_along_as_the_one_in_use(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append()
    rotate_keys()
    (home / "key").write_bytes(bytes(range(32)))
    assert main(["keys", "export"]) == 0
    epochs = json.loads(capsys.readouterr().out)["epochs"]
    assert [(epoch["epoch"], epoch["status"]) for epoch in epochs] == [
        (0, "retired"),
        (1, "retired"),
        (2, "active"),
    ]
    assert epochs[2]["public_key_hex"] == SigningKey(bytes(range(32))).verify_key.encode().hex()


def test_no_private_key_and_nothing_that_is_not_known_goes_along(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append()
    rotate_keys()
    ring = json.loads((home / "keyring.json").read_text())
    ring["epochs"][0]["seed"] = "secret"
    (home / "keyring.json").write_text(json.dumps(ring))
    assert main(["keys", "export"]) == 0
    out = capsys.readouterr().out
    assert "secret" not in out
    assert (home / "key").read_bytes().hex() not in out


def test_a_chain_that_two_machines_wrote_is_checked_with_a_file_of_each(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine in ("a", "b"):
        (home / machine).mkdir()
        monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(home / machine))
        append()
        rotate_keys()
        append()
        assert main(["keys", "export", f"{machine}.json"]) == 0
    elsewhere(monkeypatch, home)
    both = ["--pubkey-file", "a.json", "--pubkey-file", "b.json"]
    assert main(["verify", "chain.db", *both, "--quiet"]) == 0
    assert main(["verify", "chain.db", *both[:2], "--quiet"]) == 1
    assert main(["export", "chain.zip", "--db", "chain.db", *both]) == 0
    assert main(["verify", "chain.zip", *both, "--quiet"]) == 0


def test_without_any_key_it_says_where_to_look(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "export"]) == 2
    assert "there is no key here yet" in capsys.readouterr().err
    assert not list(home.iterdir())


@pytest.mark.parametrize(
    "content",
    ["", "{", "{}", '{"epochs": 3}', '{"epochs": [3]}', '{"epochs": [{"epoch": 0}]}', "[" * 100_000,
     '{"epochs": [{"epoch": 0, "public_key_hex": "ab"}]}', "{" + '"a":{' * 50_000, "0" * 62],
)  # fmt: skip
def test_a_file_that_holds_no_keys_is_said_to_and_not_repeated(
    home: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    append()
    Path("keys.json").write_text(content)
    assert main(["verify", "chain.db", "--pubkey-file", "keys.json"]) == 2
    err = capsys.readouterr().err
    assert "keys.json holds neither a public key" in err
    assert len(err) < 300
