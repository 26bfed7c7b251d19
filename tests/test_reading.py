"""Reading chains out of databases that somebody edited: every row is given once, or it is said why not."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from chain_support import capsule, capsules, finish, rows, start
from postgres_support import postgres

from capsule_sdk.chain import open_chain, paging, postgresql_paging, sqlite_paging
from capsule_sdk.chain.reading import ChainReader, read_file, read_head, read_server
from capsule_sdk.chain.sqlite import SQLiteFile
from capsule_sdk.chain.sqlite_reading import is_database, open_for_reading
from capsule_sdk.cli import main
from capsule_sdk.errors import ChainUnavailable, EvidenceError
from capsule_sdk.evidence.exporting.export import export_chain
from capsule_sdk.evidence.formats.scanning import TOO_LARGE
from capsule_sdk.evidence.sources import open_source

__all__ = ["postgres"]

NAMES = (
    "id, type, sequence, previous_hash, data, hash, signature, signature_pq, signed_at, signed_by"
)
COPIED = f"{NAMES}, session_id"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A chain of five capsules, without a log beside it."""
    path = tmp_path / "capsules.db"
    put(path, 5)
    script(path, "PRAGMA journal_mode=DELETE")
    return path


def put(place: Any, count: int) -> None:
    chain = open_chain(url=place)
    chain.append(capsules(count))
    chain.close()


def script(db: Path, text: str) -> None:
    connection = sqlite3.connect(db)
    connection.executescript(text)
    connection.close()


def loosen(db: Path, columns: str, more: str = "") -> None:
    """Put another table in the place of the genuine one, with what that holds."""
    script(
        db,
        f"ALTER TABLE capsules RENAME TO genuine; CREATE TABLE capsules ({columns}) {more};"
        f" INSERT INTO capsules ({COPIED}) SELECT {COPIED} FROM genuine; DROP TABLE genuine",
    )


def behind_its_indexes(db: Path, statement: str, hidden: str = "%") -> None:
    """Change the table, while indexes of such names are away and see nothing of it."""
    connection = sqlite3.connect(db, isolation_level=None)
    connection.execute("PRAGMA writable_schema=ON")
    which = "FROM sqlite_master WHERE type = 'index' AND name LIKE ?"
    away = connection.execute(f"SELECT rowid, * {which}", (hidden,)).fetchall()
    assert away
    ((sql,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'capsules'")
    connection.execute(f"DELETE {which}", (hidden,))
    set_sql = "UPDATE sqlite_master SET sql = ? WHERE name = 'capsules'"
    loose = f"CREATE TABLE capsules ({COPIED})" if hidden == "%" else sql
    connection.execute(set_sql, (loose,))
    _reopen(connection)
    connection = sqlite3.connect(db, isolation_level=None)
    connection.execute(statement)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute(set_sql, (sql,))
    for row in away:
        connection.execute("INSERT INTO sqlite_master (rowid, type, name, tbl_name, rootpage, sql)"
                           " VALUES (?, ?, ?, ?, ?, ?)", row)  # fmt: skip
    _reopen(connection)


def _reopen(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA schema_version").fetchone()
    connection.execute(f"PRAGMA schema_version={version + 1}")
    connection.close()


FORGED = (
    f"INSERT INTO capsules ({COPIED}) SELECT 'forged', type, 999, previous_hash, data, hash, signature,"
    " signature_pq, signed_at, signed_by, session_id FROM capsules WHERE sequence = 3"
)


def findings(db: Path, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    assert main(["verify", str(db), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    return [(one["reason"], one["detail"]) for one in found]


# -- rows that an index hides ---------------------------------------------------------------------


def test_a_row_that_no_index_leads_to_is_a_finding(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behind_its_indexes(db, FORGED)
    ((reason, detail),) = findings(db, capsys)
    assert reason == "malformed"
    assert re.fullmatch(r"the table holds 1 row that its index 'ix_\w+' hides", detail)
    with pytest.raises(EvidenceError, match="tampered with"):
        export_chain(db, io.StringIO())


def test_a_row_that_one_index_alone_hides_is_a_finding(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behind_its_indexes(db, FORGED.replace("999", "5"), "ix_capsules_hash")
    assert (
        "malformed",
        "the table holds 1 row that its index 'ix_capsules_hash' hides",
    ) in findings(db, capsys)


def test_an_index_that_leads_to_rows_that_are_no_more_is_a_finding(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behind_its_indexes(db, "DELETE FROM capsules WHERE sequence = 4")
    ((_, detail),) = findings(db, capsys)
    assert re.fullmatch(r"its index 'ix_\w+' leads to 1 row that the table does not hold", detail)


def test_a_row_that_only_a_partial_index_hides_is_missed(db: Path) -> None:
    """The census leaves such an index out, and SQLite may still read by it."""
    loosen(db, COPIED, "; CREATE INDEX partial ON capsules (sequence) WHERE sequence IS NOT NULL")
    _hide_from_partial(db)
    with pytest.raises(paging.RowsUnaccounted, match="1 row that its order by sequence hides"):
        list(read_file(db))


def _hide_from_partial(db: Path) -> None:
    connection = sqlite3.connect(db, isolation_level=None)
    connection.execute("PRAGMA writable_schema=ON")
    away = connection.execute("SELECT * FROM sqlite_master WHERE name = 'partial'").fetchone()
    connection.execute("DELETE FROM sqlite_master WHERE name = 'partial'")
    _reopen(connection)
    connection = sqlite3.connect(db, isolation_level=None)
    connection.execute(FORGED)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", away)
    _reopen(connection)


def test_reading_ends_where_an_index_leads_in_a_circle(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_paging, "_KEYS_PER_PAGE", 2)
    behind_its_indexes(db, "UPDATE capsules SET sequence = -1 WHERE sequence = 1")
    given: list[int] = []
    with pytest.raises(paging.RowsUnaccounted, match="again and again"):
        given.extend(row.sequence for row in read_file(db))  # what comes before the error, too
    assert given == [0, -1, 0, -1]


# -- something else in the place of the table ------------------------------------------------------

DISGUISES: dict[str, Callable[[Path], None]] = {
    "a view": lambda db: script(
        db,
        "ALTER TABLE capsules RENAME TO genuine; CREATE VIEW capsules AS SELECT * FROM genuine",
    ),
    "a virtual table": lambda db: script(
        db, f"DROP TABLE capsules; CREATE VIRTUAL TABLE capsules USING fts5({COPIED})"
    ),
    "one with generated columns": lambda db: loosen(db, f"{COPIED}, more TEXT AS (hex(data))"),
    "one without row ids": lambda db: loosen(
        db, COPIED.replace("id,", "id PRIMARY KEY,", 1), "WITHOUT ROWID"
    ),
    "one without row ids (a column)": lambda db: loosen(db, f"{COPIED}, RowID TEXT"),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_what_is_no_plain_table_is_refused_in_one_sentence(
    db: Path, disguise: str, capsys: pytest.CaptureFixture[str]
) -> None:
    DISGUISES[disguise](db)
    words = f"was tampered with: its table of capsules is {disguise.partition(' (')[0]}, which"
    with pytest.raises(ChainUnavailable, match=words):
        next(read_file(db))
    with pytest.raises(ChainUnavailable, match=words):
        read_head(db)
    assert main(["verify", str(db)]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_a_value_that_a_few_bytes_of_sql_make_huge_is_not_made(db: Path) -> None:
    file = SQLiteFile(db, open_for_reading)
    with (
        pytest.raises(ChainUnavailable, match="larger than any capsule can be"),
        file.connection() as connection,
    ):
        connection.exec_driver_sql("SELECT length(hex(zeroblob(200000000)))").all()
    file.close()


def test_names_in_an_error_cannot_steer_a_terminal(db: Path) -> None:
    script(
        db,
        "PRAGMA writable_schema=ON; INSERT INTO sqlite_master VALUES"
        " ('table', 'x' || char(27) || '[2J' || char(8238) || char(10), 'x', 2, 'CREATE TABLE (')",
    )
    with pytest.raises(ChainUnavailable, match=r"x\?\[2J\?\?") as raised:
        list(read_file(db))
    assert str(raised.value).isprintable()


# -- a transaction that was cut off ----------------------------------------------------------------


def test_a_database_whose_journal_has_to_be_rolled_back_is_not_read_around_it(
    db: Path, tmp_path: Path
) -> None:
    code = """
import os, shutil, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size=1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("DELETE FROM capsules WHERE sequence >= 3")
connection.execute("CREATE TABLE filler (x)")
connection.executemany("INSERT INTO filler VALUES (?)", [("x" * 3000,)] * 500)
for end in ("", "-journal"):
    shutil.copy(sys.argv[1] + end, sys.argv[2] + end)
os._exit(0)
"""
    hot = tmp_path / "hot.db"
    finish(start(code, db, hot))
    assert hot.with_name("hot.db-journal").stat().st_size
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(hot)
    for path in (hot, link):
        assert is_database(path)
        with pytest.raises(ChainUnavailable, match="in the middle of a transaction: copy it"):
            list(read_file(path))
    with pytest.raises(EvidenceError, match="-journal"):
        list(open_source(hot).entries())
    assert len(rows(hot)) == 5  # sqlite3 rolled it back, as the message says
    assert len(list(read_file(hot))) == 5


# -- pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [1, 3, 200, 20_000])
@pytest.mark.parametrize("index", ["", "; CREATE INDEX by_sequence ON capsules (sequence)"])
def test_rows_with_sequences_of_every_type_are_each_given_once(
    db: Path, keys: int, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_paging, "_KEYS_PER_PAGE", keys)
    monkeypatch.setattr(sqlite_paging, "ROWS_PER_PAGE", 2)
    loosen(db, COPIED, index)
    strange = ("NULL", "7", "7.5", "9e999", "-9e999", "''", "'7'", "'x' || char(0) || 'y'", "x''",
               "x'ff00'", "CAST(x'ff' AS TEXT)", "9223372036854775807")  # fmt: skip
    for value in strange:
        script(
            db,
            f"INSERT INTO capsules ({COPIED}) SELECT 'again', type, {value}, previous_hash, data, hash,"
            " signature, signature_pq, signed_at, signed_by, session_id FROM capsules LIMIT 4",
        )
    given: list[object] = [row.sequence for row in read_file(db)]
    assert len(given) == 5 + 4 * len(strange)
    assert given[:4] == [None] * 4
    assert [one for one in given if one == "7"] == ["7"] * 4
    assert given[-4:] == [b"\xff\x00"] * 4


def test_texts_in_a_column_of_numbers_do_not_make_reading_go_round(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite takes such a text for a number once it is compared with a value from outside."""
    monkeypatch.setattr(sqlite_paging, "_KEYS_PER_PAGE", 2)
    loosen(db, COPIED)
    script(
        db,
        "UPDATE capsules SET sequence = CAST(sequence AS TEXT); PRAGMA writable_schema=ON; UPDATE"
        " sqlite_master SET sql = replace(sql, 'sequence', 'sequence INTEGER')",
    )
    given: list[object] = [row.sequence for row in read_file(db)]
    assert given == ["0", "1", "2", "3", "4"]


def test_work_grows_with_the_rows_and_not_with_their_square_where_all_have_one_sequence(
    db: Path,
) -> None:
    loosen(db, COPIED)

    def work(count: int) -> int:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        script(
            db,
            "DELETE FROM capsules; WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
            f" LIMIT {count}) INSERT INTO capsules (id, sequence, data) SELECT i, 7, '' FROM n",
        )
        reader = ChainReader(db)
        assert isinstance(reader._reader, SQLiteFile)
        with reader._reader.connection() as connection:
            raw: Any = connection.connection.driver_connection
            raw.set_progress_handler(step, 1000)
        given: list[object] = [row.id for row in reader.rows()]
        assert given == list(range(1, count + 1))
        reader.close()
        return steps

    assert work(16_000) < 5 * work(4_000)


def test_what_is_behind_a_sequence_is_given_from_there_on(db: Path) -> None:
    reader = ChainReader(db)
    assert [row.sequence for row in reader.rows(2)] == [3, 4]
    assert list(reader.rows(4)) == []
    put(db, 3)
    assert [row.sequence for row in reader.rows(4)] == [5, 6, 7]
    reader.close()


def test_a_row_of_a_file_has_neither_domain_nor_tenant_column(db: Path) -> None:
    assert {(row.domain, row.tenant_id) for row in read_file(db)} == {(None, None)}


# -- large rows ------------------------------------------------------------------------------------

MEBIBYTE = 1 << 20


@contextmanager
def peak_below(mebibytes: int) -> Iterator[None]:
    """See to it that Python takes no more memory than that at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mebibytes * MEBIBYTE
    finally:
        tracemalloc.stop()


def fill(db: Path, count: int, column: str, value: str, *, backwards: bool = False) -> None:
    """Put so many rows in place of those of a database, with an expression in one of the columns."""
    loosen(db, COPIED)
    columns = dict.fromkeys(COPIED.split(", "), "''") | {"sequence": "i", column: value}
    order = "DESC" if backwards else "ASC"
    script(
        db,
        "DELETE FROM capsules; WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT"
        f" {count}) INSERT INTO capsules ({COPIED}) SELECT {', '.join(columns.values())} FROM n"
        f" ORDER BY i {order}",
    )


def text_of(characters: int, char: str = "x") -> str:
    return f"replace(hex(zeroblob({characters // 2})), '0', '{char}')"


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("size", "count"), [(400_000, 120), (3_000_000, 20)])
def test_memory_does_not_grow_with_the_number_of_large_rows(
    db: Path, size: int, count: int, backwards: bool
) -> None:
    large = f"CASE WHEN i = 3 THEN 'short' ELSE {text_of(size)} END"
    fill(db, count, "data", large, backwards=backwards)
    with peak_below(24):
        given = [(row.sequence, row.data[:2], len(row.data)) for row in read_file(db)]
    expected: list[object] = [(place, "xx", size) for place in range(count)]
    expected[3] = (3, "sh", 5)
    assert given == expected


@pytest.mark.parametrize("column", sorted({*COPIED.split(", ")} - {"data"}))
@pytest.mark.parametrize("value", [text_of(600_000), "zeroblob(600000)"])
def test_a_column_that_should_be_short_does_not_take_more_memory(
    db: Path, column: str, value: str
) -> None:
    fill(db, 100, column, value)
    with peak_below(24):
        assert sum(1 for row in read_file(db) if len(getattr(row, column)) == 600_000) == 100


def test_a_column_that_is_empty_does_not_hide_how_large_the_others_are(db: Path) -> None:
    fill(db, 100, "data", text_of(600_000))
    script(db, "UPDATE capsules SET hash = NULL, type = 7")
    with peak_below(24):
        assert sum(len(row.data) for row in read_file(db)) == 100 * 600_000


def test_content_of_any_type_and_size_is_given_as_it_lies_there(db: Path) -> None:
    values = ["NULL", "7", "0.5", "zeroblob(3000000)", "CAST(x'ff' || zeroblob(2000000) AS TEXT)"]
    choice = " ".join(f"WHEN {place} THEN {value}" for place, value in enumerate(values))
    fill(db, 10, "data", f"CASE i % 5 {choice} END")
    given: list[object] = [row.data for row in read_file(db)]
    assert given == [None, 7, 0.5, bytes(3_000_000), "\udcff" + "\0" * 2_000_000] * 2


def test_nothing_is_locked_while_the_caller_thinks_over_a_page_that_was_cut(db: Path) -> None:
    fill(db, 100, "data", text_of(400_000))
    given = read_file(db)
    assert next(given).sequence == 0
    connection = sqlite3.connect(db, timeout=0)
    with connection:
        connection.execute("UPDATE capsules SET type = 'new'")
    connection.close()
    assert [(row.sequence, row.type) for row in given][-1] == (99, "new")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("data", text_of(66 * MEBIBYTE)),
        ("data", "zeroblob(66000000) || char(233)"),
        ("data", f"{text_of(17 * MEBIBYTE)} || char(233)"),
        ("hash", text_of(66 * MEBIBYTE)),
    ],
)
def test_a_row_that_is_larger_than_records_can_be_is_a_fault_of_its_own(
    db: Path, column: str, value: str
) -> None:
    script(db, f"UPDATE capsules SET {column} = {value} WHERE sequence = 2")
    entries = list(open_source(db).entries())
    assert [entry.fault for entry in entries] == [None, None, TOO_LARGE, None, None]
    large = entries[2]
    assert large.text == ""
    assert large.columns is not None
    assert large.columns.sequence == 2
    assert large.columns.id is not None
    assert large.seal is not None
    assert (large.seal[0] is None) == (column == "hash")
    assert large.seal[1]


def test_verify_says_of_a_row_that_is_too_large_what_it_is_and_judges_the_others(
    db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(db, f"UPDATE capsules SET data = {text_of(300 * MEBIBYTE)} WHERE sequence = 2")
    found = findings(db, capsys)
    assert ("malformed", TOO_LARGE) in found
    assert {reason for reason, _ in found} <= {"malformed", "sequence_gap"}


# -- PostgreSQL ------------------------------------------------------------------------------------


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement)


def test_domain_and_tenant_are_given_as_their_columns_hold_them(postgres: str) -> None:
    made = capsule()
    made.domain = "medical"
    made.context.environment["tenant_id"] = "acme"
    chain = open_chain(url=postgres)
    chain.append([made])
    chain.close()
    (row,) = read_server(postgres, "acme")
    assert (row.domain, row.tenant_id) == ("medical", "acme")
    (entry,) = open_source(postgres, tenant="acme").entries()
    assert entry.columns is not None
    assert (entry.columns.domain, entry.columns.tenant_id) == ("medical", "acme")


AWAY = "ALTER TABLE quantumpipes_capsules RENAME TO genuine"


@pytest.mark.parametrize(
    ("disguise", "statements"),
    [
        ("a view", (AWAY, "CREATE VIEW quantumpipes_capsules AS SELECT * FROM genuine")),
        (
            "a materialized view",
            (AWAY, "CREATE MATERIALIZED VIEW quantumpipes_capsules AS SELECT * FROM genuine"),
        ),
        (
            "one with generated columns",
            ("ALTER TABLE quantumpipes_capsules ADD x text GENERATED ALWAYS AS (hash) STORED",),
        ),
    ],
)
def test_what_is_no_plain_table_on_a_server_is_refused(
    postgres: str, disguise: str, statements: tuple[str, ...]
) -> None:
    put(postgres, 3)
    execute(postgres, *statements)
    with pytest.raises(ChainUnavailable, match=f"table of capsules is {disguise}, which"):
        list(read_server(postgres))
    reader = ChainReader(postgres)
    with pytest.raises(ChainUnavailable, match=disguise):
        reader.last_sequence()
    execute(postgres, "SET lock_timeout = 2000", "CREATE TABLE another (x int)")
    reader.close()


def test_rows_of_a_server_that_are_the_same_in_everything_are_each_given_once(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_paging, "ROWS_PER_PAGE", 3)
    put(postgres, 5)
    execute(
        postgres,
        AWAY,
        "CREATE TABLE quantumpipes_capsules AS SELECT * FROM genuine",
        "INSERT INTO quantumpipes_capsules SELECT c.* FROM genuine AS c, generate_series(1, 10)"
        " WHERE sequence IN (1, 2)",
        "INSERT INTO quantumpipes_capsules (sequence, data) SELECT 3, '' FROM generate_series(1, 10)",
        "INSERT INTO quantumpipes_capsules (data) SELECT '' FROM generate_series(1, 10)",
    )
    given = [row.sequence for row in read_server(postgres)]
    assert given == [None] * 10 + [0] + [1] * 11 + [2] * 11 + [3] * 11 + [4]


def test_memory_does_not_grow_with_the_number_of_large_rows_of_a_server(postgres: str) -> None:
    put(postgres, 100)
    execute(
        postgres,
        "UPDATE quantumpipes_capsules SET data = repeat('x', 600000) WHERE sequence < 80",
        "UPDATE quantumpipes_capsules SET signature = repeat('x', 600000) WHERE sequence >= 80",
        "UPDATE quantumpipes_capsules SET data = repeat('x', 12000000) WHERE sequence = 7",
    )
    with peak_below(40):
        given = [
            (row.sequence, len(row.data) if row.sequence < 80 else len(row.signature))
            for row in read_server(postgres)
        ]
    assert given == [(place, 12_000_000 if place == 7 else 600_000) for place in range(100)]


def test_a_row_of_a_server_that_is_too_large_is_a_fault_of_its_own(postgres: str) -> None:
    put(postgres, 5)
    text = "repeat('x', 70000000)"
    execute(
        postgres,
        f"UPDATE quantumpipes_capsules SET data = {text} WHERE sequence = 1",
        f"UPDATE quantumpipes_capsules SET signature = {text} WHERE sequence = 2",
        "UPDATE quantumpipes_capsules SET data = repeat('é', 17000000) WHERE sequence = 3",
    )
    with peak_below(100):
        entries = list(open_source(postgres).entries())
    assert [entry.fault for entry in entries] == [None, TOO_LARGE, TOO_LARGE, TOO_LARGE, None]
    for number, entry in enumerate(entries):
        assert entry.columns is not None
        assert entry.columns.sequence == number
        assert entry.columns.id is not None
        assert entry.columns.domain
        assert entry.seal is not None
        assert bool(entry.seal[1]) == (number != 2)


def test_a_server_is_asked_in_pages_of_so_many_rows_or_bytes() -> None:
    assert list(postgresql_paging._pages_of([])) == []
    assert list(postgresql_paging._pages_of([10] * 450)) == [200, 200, 50]
    large, half = paging.LARGEST_PAGE + 1, paging.LARGEST_PAGE // 2
    assert list(postgresql_paging._pages_of([large, 1, large, large, 1, 1])) == [1, 1, 1, 1, 2]
    assert list(postgresql_paging._pages_of([half, half, half, 1])) == [2, 2]
