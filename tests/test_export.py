"""Export: the stored documents, as they are, out of databases in any state, into any file."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import stat
import tempfile
import threading
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from chain_support import ROOT, assert_verified, capsule, capsules, finish, rows, start
from qp_capsule import Capsule, Seal, compute_hash

from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.exporting.export import export_chain, read_chain
from capsule_sdk.evidence.formats.entries import SEAL_FIELDS

CONFORMANCE = Path(os.environ.get("CAPSULED_TEST_VECTORS") or ROOT.parent / "shared/conformance")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "chain.db"


def append(db: Path, *group: Capsule) -> None:
    chain = open_chain(url=db)
    chain.append(group)
    chain.close()


def store_text(db: Path, sequence: int, text: str, **seal: str) -> None:
    """Put a document there as another program might have written it."""
    columns = {"id": f"id-{sequence}", "type": "agent", "sequence": sequence, "data": text}
    columns |= {"hash": "", "signature": "", "signature_pq": "", "signed_by": "", **seal}
    connection = sqlite3.connect(db)
    connection.execute(
        f"INSERT INTO capsules ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
        tuple(columns.values()),
    )
    connection.commit()
    connection.close()


def text_of(db: Path) -> str:
    out = io.StringIO()
    export_chain(db, out)
    return out.getvalue()


# -- what comes out -------------------------------------------------------------------------------


def test_what_is_exported_verifies_with_qp_capsule(db: Path, tmp_path: Path) -> None:
    append(db, *capsules(5))
    assert export_chain(db, tmp_path / "chain.json") == 5
    assert_verified(tmp_path / "chain.json", "--full")
    assert_verified(tmp_path / "chain.json", "--pubkey", Seal(tmp_path / "key").get_public_key())


def test_each_record_is_the_sealed_document_in_chain_order(db: Path) -> None:
    group = capsules(3)
    append(db, *group)
    expected = [one.to_sealed_dict() for one in group]
    assert json.loads(text_of(db)) == expected
    assert list(read_chain(db)) == expected


def test_without_a_source_it_is_the_default_database(tmp_path: Path) -> None:
    chain = open_chain()
    chain.append(capsules(2))
    chain.close()
    assert export_chain(None, tmp_path / "out.json") == 2
    assert len(list(read_chain())) == 2
    assert len(list(read_chain(f"sqlite:///{tmp_path}/capsules.db"))) == 2


def test_an_empty_chain_is_an_empty_array(db: Path) -> None:
    append(db, capsule())
    connection = sqlite3.connect(db)
    connection.execute("DELETE FROM capsules")
    connection.commit()
    connection.close()
    assert json.loads(text_of(db)) == []


def test_numbers_and_spelling_of_other_programs_survive_as_they_were_written(db: Path) -> None:
    append(db, capsule())
    text = '{"id":"x", "a": 1.0,\n "b": 2.5e-05, "c": 1E400, "d": 1000000000.10, "é": "\\u00e9"}'
    store_text(db, 1, f" {text}\n", hash="h")
    exported = text_of(db)
    assert text[:-1] in exported
    last = list(read_chain(db))[1]
    assert (last["a"], last["b"], last["hash"], last["signed_at"]) == (1.0, 2.5e-05, "h", None)
    assert json.loads(exported)[1] == last


def test_a_document_without_fields_is_still_one_record(db: Path) -> None:
    append(db, capsule())
    store_text(db, 1, "{ }", hash="h")
    assert json.loads(text_of(db))[1]["hash"] == "h"


def test_the_seal_counts_where_a_document_claims_to_hold_one(db: Path) -> None:
    append(db, capsule())
    store_text(db, 1, '{"id": "x", "hash": "claimed"}', hash="stored")
    assert json.loads(text_of(db))[1]["hash"] == "stored"
    assert list(read_chain(db))[1]["hash"] == "stored"


def test_stored_documents_of_the_specification_keep_their_hash(db: Path) -> None:
    """CPS 3.5: a record sealed before a field existed verifies without that field."""
    vectors = CONFORMANCE / "stored-document-fixtures.json"
    if not vectors.is_file():
        pytest.skip(f"the CPS vectors are not there: {vectors}")
    fixtures = json.loads(vectors.read_text("utf-8"))["fixtures"]
    assert fixtures
    for fixture in fixtures:
        append(db, capsule())
        connection = sqlite3.connect(db)
        connection.execute("DELETE FROM capsules")
        connection.commit()
        connection.close()
        store_text(
            db,
            fixture["stored_document"]["sequence"],
            json.dumps(fixture["stored_document"]),
            hash=fixture["sha3_256_hash"],
            signature=fixture["signature_hex"],
        )
        (record,) = json.loads(text_of(db))
        content = {key: value for key, value in record.items() if key not in SEAL_FIELDS}
        assert compute_hash(content) == fixture["sha3_256_hash"]
        out = db.with_suffix(".json")
        export_chain(db, out)
        assert_verified(out, "--pubkey", fixture["public_key_hex"])


# -- out of which databases -----------------------------------------------------------------------


def test_it_reads_while_a_writer_writes_and_ends_at_what_was_there(db: Path) -> None:
    chain = open_chain(url=db)
    chain.append(capsules(450))
    reading = read_chain(db)
    first = next(reading)
    chain.append(capsules(50))
    assert [first["sequence"], *(one["sequence"] for one in reading)] == list(range(450))
    chain.close()


def test_a_reader_that_pauses_does_not_hold_up_a_writer(db: Path) -> None:
    """Also without the write-ahead log, where a reader's lock would stop every commit."""
    append(db, *capsules(450))
    connection = sqlite3.connect(db)
    assert connection.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    reading = read_chain(db)
    next(reading)
    connection.execute("PRAGMA busy_timeout=0")
    connection.execute("CREATE TABLE other (x)")
    connection.commit()
    connection.close()
    assert len(list(reading)) == 449


def test_nothing_in_the_database_is_changed(db: Path) -> None:
    append(db, *capsules(3))
    before = db.read_bytes()
    text_of(db)
    assert db.read_bytes() == before


def test_capsules_that_are_only_in_the_write_ahead_log_are_exported(db: Path) -> None:
    code = """
import os, sys
from chain_support import capsules
from capsule_sdk.chain import open_chain
chain = open_chain(url=sys.argv[1])
chain.append(capsules(3))
os._exit(0)
"""
    finish(start(code, db))
    assert db.with_name("chain.db-wal").stat().st_size > 0
    assert len(json.loads(text_of(db))) == 3


def test_a_database_in_a_directory_that_cannot_be_written_is_exported() -> None:
    code = """
import io, os, sys
from capsule_sdk.evidence.exporting.export import export_chain
if os.getuid() == 0:
    os.setuid(65534)
assert not os.access(os.path.dirname(sys.argv[1]), os.W_OK)
print(export_chain(sys.argv[1], io.StringIO()))
"""
    home = Path(tempfile.mkdtemp())
    try:
        append(home / "chain.db", *capsules(3))
        (home / "chain.db").chmod(0o644)
        home.chmod(0o555)
        (printed,) = finish(start(code, home / "chain.db"))
        assert printed == "3\n"
    finally:
        home.chmod(0o755)
        shutil.rmtree(home)


def test_memory_does_not_grow_with_the_chain(db: Path) -> None:
    def peak() -> int:
        tracemalloc.start()
        with Path(os.devnull).open("w") as nowhere:
            export_chain(db, nowhere)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    append(db, *[capsule("x" * 5000) for _ in range(400)])
    peak()
    short = peak()
    append(db, *[capsule("x" * 5000) for _ in range(1600)])
    assert peak() < 1.5 * short


# -- into what ------------------------------------------------------------------------------------


def test_a_new_file_is_its_owners_only_and_an_existing_one_keeps_its_mode(
    db: Path, tmp_path: Path
) -> None:
    append(db, capsule())
    out = tmp_path / "out.json"
    export_chain(db, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    out.chmod(0o644)
    export_chain(db, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o644


def test_an_export_that_fails_leaves_the_earlier_one_and_no_litter(
    db: Path, tmp_path: Path
) -> None:
    append(db, *capsules(3))
    out = tmp_path / "out" / "chain.json"
    out.parent.mkdir()
    export_chain(db, out)
    before = out.read_bytes()
    store_text(db, 3, "no JSON")
    with pytest.raises(EvidenceError, match="at sequence 3"):
        export_chain(db, out)
    assert out.read_bytes() == before
    assert list(out.parent.iterdir()) == [out]


def test_a_link_is_written_through(db: Path, tmp_path: Path) -> None:
    append(db, capsule())
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "real" / "chain.json")
    export_chain(db, link)
    assert link.is_symlink()
    assert len(json.loads((tmp_path / "real" / "chain.json").read_text())) == 1


def test_a_pipe_is_written_to_and_not_replaced(db: Path, tmp_path: Path) -> None:
    append(db, *capsules(2))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert export_chain(db, pipe) == 2
    reader.join()
    assert len(json.loads(read[0])) == 2
    assert pipe.is_fifo()


def test_a_database_is_never_overwritten_by_an_export(db: Path, tmp_path: Path) -> None:
    append(db, capsule())
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    for target in (db, other):
        before = target.read_bytes()
        with pytest.raises(EvidenceError, match="is a database and is not overwritten"):
            export_chain(db, target)
        assert target.read_bytes() == before
    (tmp_path / "empty").touch()
    assert export_chain(db, tmp_path / "empty") == 1


def test_a_place_that_cannot_be_written_is_named(db: Path, tmp_path: Path) -> None:
    append(db, capsule())
    for out in (tmp_path / "missing" / "out.json", tmp_path):
        with pytest.raises(EvidenceError, match="cannot be written"):
            export_chain(db, out)


# -- what is no chain -----------------------------------------------------------------------------


def test_a_missing_database_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"no chain at .*/capsules\.db.*QUANTUMPIPES_DATA_DIR"):
        export_chain(None, io.StringIO())
    with pytest.raises(EvidenceError, match=r"no chain at .*/nix\.db: name the"):
        list(read_chain(tmp_path / "nix.db"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", ["mysql://host/db", "postgresql://host:port/db", ":memory:"])
def test_a_source_that_cannot_be_read_is_refused_with_what_can(source: str) -> None:
    with pytest.raises(EvidenceError, match="give a path"):
        list(read_chain(source))


def test_files_that_hold_no_chain_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("notes " * 1000)
    (tmp_path / "empty.db").touch()
    for name, reason in (("notes.db", "not a SQLite database"), ("empty.db", "the file is empty")):
        with pytest.raises(EvidenceError, match=reason):
            list(read_chain(tmp_path / name))


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "null", '{"a": 1', "\ufeff{}", "[" * 200_000, '{"a": ' * 200_000, b"\xff\xfe", 7],
)
def test_a_document_that_is_none_is_reported_by_its_sequence(db: Path, text: Any) -> None:
    append(db, capsule())
    store_text(db, 1, text)
    with pytest.raises(EvidenceError, match=r"at sequence 1 is not a JSON object"):
        list(read_chain(db))


def test_text_that_is_no_utf8_is_reported(db: Path) -> None:
    append(db, capsule())
    connection = sqlite3.connect(db)
    connection.execute("UPDATE capsules SET data = CAST(x'7bff7d' AS TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(EvidenceError, match="not a JSON object"):
        list(read_chain(db))


def tampered_copy(db: Path, *statements: str) -> Path:
    """A chain in a table without constraints, as somebody who edits it would make it."""
    append(db, *capsules(250))
    connection = sqlite3.connect(db)
    connection.execute("CREATE TABLE copy AS SELECT * FROM capsules")
    connection.execute("DROP TABLE capsules")
    connection.execute("ALTER TABLE copy RENAME TO capsules")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return db


def test_records_that_share_a_sequence_are_all_exported(db: Path) -> None:
    tampered_copy(db, "UPDATE capsules SET sequence = 7")
    assert len(list(read_chain(db))) == len(rows(db)) == 250


def test_a_record_without_a_sequence_is_reported_and_not_skipped(db: Path) -> None:
    tampered_copy(db, "UPDATE capsules SET sequence = NULL WHERE sequence = 100")
    with pytest.raises(EvidenceError, match="has no sequence"):
        list(read_chain(db))


def test_a_sequence_that_is_text_is_not_skipped(db: Path) -> None:
    tampered_copy(db, "UPDATE capsules SET sequence = 'x' WHERE sequence = 100")
    assert len(list(read_chain(db))) == 250


def test_a_seal_that_is_no_text_is_exported_as_text(db: Path) -> None:
    append(db, capsule())
    store_text(db, 1, '{"id": "x"}', hash=b"\x00")  # type: ignore[arg-type]
    assert json.loads(text_of(db))[1]["hash"] == "b'\\x00'"


def test_bytes_that_are_no_text_go_out_as_they_lie_there(
    db: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    append(db, capsule())
    text = b'{"id": "caf\xe9"}'
    connection = sqlite3.connect(db)
    connection.execute("UPDATE capsules SET data = cast(? AS text)", [text])
    connection.commit()
    connection.close()
    for out in ("-", "x.json", "x.jsonl", "x.zip"):
        assert main(["export", str(tmp_path / out) if out != "-" else "-", "--db", str(db)]) == 0
    assert b"caf\xe9" in capfdbinary.readouterr().out
    assert b"caf\xe9" in (tmp_path / "x.json").read_bytes()
    assert b"caf\xe9" in (tmp_path / "x.jsonl").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip") as bundle:
        assert b"caf\xe9" in bundle.read("chain.json")


@pytest.mark.parametrize("option", [["--pubkey", "ab" * 32], ["--checkpoint", "."]])
def test_keys_and_checkpoints_are_for_bundles(db: Path, tmp_path: Path, option: list[str]) -> None:
    append(db, capsule())
    assert main(["export", str(tmp_path / "x.json"), "--db", str(db), *option]) == 2
    assert not (tmp_path / "x.json").exists()
