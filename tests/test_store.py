"""The SQLite store: qp-capsule's table, durable settings, locks, faults of the disk, forks."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
import sys
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chain_support import assert_one_unbroken_chain, capsule, capsules, finish, rows, start
from qp_capsule import Capsules, CapsuleStorage, Seal
from sqlalchemy.exc import DBAPIError

from capsule_sdk.chain import chain_identity, open_chain, sqlite_reading
from capsule_sdk.chain.store import SQLiteStore
from capsule_sdk.chain.writer import ChainWriter
from capsule_sdk.errors import ChainUnavailable, ConfigurationError
from capsule_sdk.index_keys import domain_key, session_key, tenant_key


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "chain.db"


@pytest.fixture
def writer(db: Path, tmp_path: Path) -> Iterator[ChainWriter]:
    made = ChainWriter(SQLiteStore(db, busy_timeout=0.2), Seal(tmp_path / "key"))
    yield made
    made.close()


def schema(db: Path) -> set[tuple[str, str, str | None]]:
    connection = sqlite3.connect(db)
    try:
        return set(connection.execute("SELECT type, name, sql FROM sqlite_master"))
    finally:
        connection.close()


def pragma(writer: ChainWriter, name: str) -> object:
    with writer._store._file.connection() as connection:  # type: ignore[attr-defined]
        return connection.connection.execute(f"PRAGMA {name}").fetchone()[0]


def make_with_qp_capsule(db: Path, count: int = 0) -> None:
    async def make() -> None:
        made = Capsules(storage=CapsuleStorage(db))
        await made.storage.count()
        for one in capsules(count, "theirs"):
            await made.chain.seal_and_store(one, seal=made.seal)
        await made.close()

    asyncio.run(make())


# -- what it is on disk ---------------------------------------------------------------------------


def test_the_schema_is_the_one_qp_capsule_creates(db: Path, writer: ChainWriter) -> None:
    theirs = db.with_name("theirs.db")
    make_with_qp_capsule(theirs)
    writer.append(capsules(1))
    assert schema(db) == schema(theirs)


def test_nothing_is_on_disk_before_the_first_append(tmp_path: Path) -> None:
    home = tmp_path / "a" / "b"
    chain = open_chain(url=home / "chain.db")
    assert chain.identity == f"sqlite:///{home}/chain.db"
    assert not home.parent.exists()
    chain.append([])
    assert not home.parent.exists()
    chain.append(capsules(1))
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    chain.close()
    chain.close()


def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o755)
    chain = open_chain(url=tmp_path / "shared" / "chain.db")
    chain.append(capsules(1))
    chain.close()
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755


def test_commits_are_synced_to_a_write_ahead_log(writer: ChainWriter) -> None:
    writer.append(capsules(1))
    assert pragma(writer, "journal_mode") == "wal"
    assert pragma(writer, "synchronous") == 2


def test_a_database_of_qp_capsule_is_turned_to_the_log_and_stays_readable_to_it(
    db: Path, writer: ChainWriter
) -> None:
    make_with_qp_capsule(db, 2)
    writer.append(capsules(1))
    assert pragma(writer, "journal_mode") == "wal"
    make_with_qp_capsule(db, 1)
    assert_one_unbroken_chain(db, 4)


def test_where_the_log_is_refused_commits_are_as_durable_in_the_rollback_journal(
    db: Path, tmp_path: Path
) -> None:
    make_with_qp_capsule(db, 1)
    reader = sqlite3.connect(db, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM capsules").fetchone()
    letting_go = threading.Timer(0.6, reader.rollback)
    letting_go.start()
    writer = ChainWriter(SQLiteStore(db), Seal(tmp_path / "key"))
    writer.append(capsules(1))
    assert pragma(writer, "journal_mode") == "delete"
    assert pragma(writer, "synchronous") == 3
    letting_go.join()
    reader.close()
    writer.close()
    assert_one_unbroken_chain(db, 2)


@pytest.mark.parametrize(
    ("key", "width", "namespace"),
    [
        (session_key, 36, "fe37bc6f-a121-59c3-aa41-9b3670d0b8d9"),
        (domain_key, 50, "urn:capsule-sdk:domain"),
        (tenant_key, 36, "urn:capsule-sdk:tenant-id"),
    ],
)
def test_what_does_not_fit_its_index_column_keeps_its_row_findable(
    key: Callable[[object], str | None], width: int, namespace: str
) -> None:
    space = (
        uuid.uuid5(uuid.NAMESPACE_URL, namespace) if "urn" in namespace else uuid.UUID(namespace)
    )
    assert key(None) == ("" if key is domain_key else None)
    assert key("") == ""
    assert key(7) == "7"
    for fitting in ("s" * width, "é" * width):
        assert key(fitting) == fitting
    for unfit in ("s" * (width + 1), "a\0b"):
        assert key(unfit) == str(uuid.uuid5(space, unfit))
        assert key(unfit) != key(unfit + "x")


def test_the_content_keeps_a_long_session_id_whole(db: Path, writer: ChainWriter) -> None:
    one = capsule()
    one.context.session_id = "conversation/" * 10
    writer.append([one])
    ((column, data),) = rows(db, "session_id, data")
    assert column == session_key("conversation/" * 10)
    assert "conversation/" * 10 in data


# -- which store is meant -------------------------------------------------------------------------


def test_every_spelling_of_one_file_is_one_identity(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    identity = f"sqlite:///{db}"
    for url in (db, str(db), f"sqlite:///{db}", "sqlite:///chain.db", "chain.db", "link/chain.db"):
        assert chain_identity(url=url) == identity
        assert open_chain(url=url).identity == identity
    assert chain_identity(Capsules(str(db))) == identity
    assert open_chain(Capsules(str(db))).identity == identity


def test_without_a_name_it_is_the_default_database_of_qp_capsule(tmp_path: Path) -> None:
    assert chain_identity() == f"sqlite:///{tmp_path}/capsules.db"
    assert open_chain().identity == chain_identity()


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("postgresql://ana:secret@db.example.com/audit", "db.example.com:5432/audit"),
        ("postgres://ana:secret@db.example.com/audit", "db.example.com:5432/audit"),
        ("postgresql+asyncpg://db.example.com:5432/audit?ssl=1", "db.example.com:5432/audit"),
        ("postgresql+psycopg://db/audit?sslmode=require&password=secret", "db:5432/audit"),
        ("postgresql://ana:s%40c%2Fr%3Aet@db:6432/audit", "db:6432/audit"),
        ("postgresql://ana:secret@db", "db:5432/ana"),
        ("postgresql://ana@/audit?host=/run/pg", "/run/pg:5432/audit"),
        ("postgresql://ana@%2Frun%2Fpg/audit", "/run/pg:5432/audit"),
        ("postgresql:///audit?host=/run/pg&port=6432&user=ana", "/run/pg:6432/audit"),
        ("postgresql:///audit?host=a:1&host=b:2", "a,b:1,2/audit"),
    ],
)
def test_a_postgresql_identity_is_server_and_database_alone(url: str, identity: str) -> None:
    assert chain_identity(url=url) == f"postgresql://{identity}"
    assert open_chain(url=url).identity == f"postgresql://{identity}"


def test_an_at_sign_in_a_password_is_not_taken_for_the_end_of_it() -> None:
    for url in ("postgresql://ana:sec@ret@db/audit", "postgresql://ana:sec@ret/x@db/audit"):
        with pytest.raises(ConfigurationError, match="%40") as raised:
            chain_identity(url=url)
        assert "ret" not in str(raised.value)


def test_options_that_the_driver_does_not_know_are_refused() -> None:
    url = "postgresql://ana:secret@db/audit?command_timeout=5"
    with pytest.raises(ConfigurationError, match='option "command_timeout"') as raised:
        chain_identity(url=url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("use", [chain_identity, open_chain])
def test_without_the_driver_of_postgresql_the_install_line_is_given(
    monkeypatch: pytest.MonkeyPatch, use: Callable[..., object]
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r'pip install "capsuled\[postgres\]"'):
        use(url="postgresql://ana@db/audit")


@pytest.mark.parametrize(
    "url",
    [
        "",
        ":memory:",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:///chain.db",
        "sqlite:///chain.db?mode=ro",
        "file:chain.db",
        "mysql://ana:secret@host/db",
        "postgresql://ana:secret@host:port/db",
        "postgresql://ana:secret@host:port/db?password=secret",
    ],
)
def test_what_is_no_store_is_refused_with_what_is_one_and_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        chain_identity(url=url)
    assert "secret" not in str(raised.value)
    if "?" not in url:
        assert "give a path" in str(raised.value)
    with pytest.raises(ConfigurationError):
        open_chain(url=url)


def test_two_stores_at_once_and_things_that_are_none_are_refused(db: Path) -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        open_chain(Capsules(str(db)), url=db)
    with pytest.raises(ConfigurationError, match=r"qp_capsule\.Capsules"):
        open_chain(str(db))  # type: ignore[arg-type]


def test_a_data_dir_that_qp_capsule_refuses_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", "a/../b")
    with pytest.raises(ConfigurationError, match="QUANTUMPIPES_DATA_DIR"):
        open_chain()


# -- what may go wrong with a file ----------------------------------------------------------------

HOLD_THE_LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.rollback()
connection.close()
"""


def test_an_append_waits_for_the_lock_of_another_process(db: Path, tmp_path: Path) -> None:
    writer = ChainWriter(SQLiteStore(db), Seal(tmp_path / "key"))
    writer.append(capsules(1))
    other = start(HOLD_THE_LOCK, db, 1.0)
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    began = time.monotonic()
    writer.append(capsules(1))
    assert time.monotonic() - began > 0.5
    finish(other)
    writer.close()
    assert_one_unbroken_chain(db, 2)


def test_a_lock_held_too_long_is_reported_and_the_same_append_succeeds_later(
    db: Path, writer: ChainWriter
) -> None:
    writer.append(capsules(1))
    other = start(HOLD_THE_LOCK, db, 1.5)
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    group = capsules(3)
    with pytest.raises(ChainUnavailable, match="locked by another program"):
        writer.append(group)
    assert not any(one.is_sealed() or one.sequence for one in group)
    finish(other)
    writer.append(group)
    assert_one_unbroken_chain(db, 4)


def test_a_full_disk_is_reported_and_nothing_of_the_group_is_there(
    db: Path, writer: ChainWriter
) -> None:
    writer.append(capsules(1))
    size = pragma(writer, "page_count")
    pragma(writer, f"max_page_count={size}")
    group = [capsule("x" * 20_000) for _ in range(3)]
    with pytest.raises(ChainUnavailable, match="disk is full"):
        writer.append(group)
    assert len(rows(db)) == 1
    writer.append(group)  # on a connection without the limit
    assert_one_unbroken_chain(db, 4)


def test_a_disk_that_refuses_writes_is_reported_until_it_takes_them(tmp_path: Path) -> None:
    code = """
import resource, sys
from chain_support import capsules
from capsule_sdk.chain import open_chain
from capsule_sdk.errors import ChainUnavailable
chain = open_chain(url=sys.argv[1])
chain.append(capsules(1))
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, most))
group = capsules(200)
try:
    chain.append(group)
except ChainUnavailable as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
chain.append(group)
chain.close()
"""
    (printed,) = finish(start(code, tmp_path / "chain.db"))
    assert "chain.db" in printed
    assert_one_unbroken_chain(tmp_path / "chain.db", 201)


def test_a_directory_that_cannot_be_written_is_reported_until_it_can() -> None:
    code = """
import os, sys
from pathlib import Path
from chain_support import capsules
from capsule_sdk.chain import open_chain
from capsule_sdk.errors import ChainUnavailable
home = Path(sys.argv[1])
home.chmod(0o500)
if os.getuid() == 0:
    os.chown(home, 65534, 65534)
    os.setuid(65534)
os.environ["QUANTUMPIPES_DATA_DIR"] = sys.argv[2]
chain = open_chain(url=home / "chain.db")
for _ in range(2):
    try:
        chain.append(capsules(1))
    except ChainUnavailable as error:
        print("right to write" in str(error))
    home.chmod(0o700)
chain.close()
"""
    home = Path(tempfile.mkdtemp())
    try:
        for name in ("data", "keys"):
            (home / name).mkdir()
            (home / name).chmod(0o777)
        home.chmod(0o755)
        (printed,) = finish(start(code, home / "data", home / "keys"))
        assert printed == "True\n"
        assert len(rows(home / "data" / "chain.db")) == 1
    finally:
        shutil.rmtree(home)


def test_a_path_below_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    chain = open_chain(url=tmp_path / "file" / "chain.db")
    with pytest.raises(ChainUnavailable, match=r"chain\.db"):
        chain.append(capsules(1))


def test_a_file_that_is_no_database_is_named_and_left_as_it_is(
    db: Path, writer: ChainWriter
) -> None:
    db.write_text("my notes " * 200)
    with pytest.raises(ChainUnavailable, match="not a SQLite database: name another file"):
        writer.append(capsules(1))
    assert db.read_text() == "my notes " * 200


def test_a_damaged_database_is_named_and_kept_as_evidence(db: Path, writer: ChainWriter) -> None:
    writer.append(capsules(40))
    writer.close()
    with db.open("r+b") as file:
        for page in range(1, db.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    with pytest.raises(ChainUnavailable, match="is damaged: keep it"):
        writer.append(capsules(1))


def test_a_head_that_was_tampered_with_is_not_linked_to(db: Path, writer: ChainWriter) -> None:
    writer.append(capsules(2))
    writer.close()
    connection = sqlite3.connect(db)
    connection.execute("UPDATE capsules SET sequence = 'last' WHERE sequence = 1")
    connection.commit()
    connection.close()
    with pytest.raises(ChainUnavailable, match="tampered"):
        writer.append(capsules(1))


def test_a_file_that_was_moved_away_is_not_written_any_more(db: Path, writer: ChainWriter) -> None:
    writer.append(capsules(2))
    for path in db.parent.glob("chain.db*"):
        path.rename(path.with_name(path.name.replace("chain", "moved")))
    writer.append(capsules(1))
    writer.close()
    assert_one_unbroken_chain(db.with_name("moved.db"), 2)
    assert_one_unbroken_chain(db, 1)


# -- forks ----------------------------------------------------------------------------------------


def test_what_a_forked_child_commits_outlives_the_connection_of_its_parent(tmp_path: Path) -> None:
    """SQLite takes inherited locks for its own: without care the child's commits vanish."""
    code = """
import os, sys
from chain_support import capsules
from capsule_sdk.chain import open_chain
chain = open_chain(url=sys.argv[1])
chain.append(capsules(1))
ready, done = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    chain.append(capsules(1))
    os.write(ready[1], b"x")
    os.read(done[0], 1)
    chain.append(capsules(1))
    os._exit(0)
os.read(ready[0], 1)
chain.append(capsules(1))
chain.close()
os.write(done[1], b"x")
assert os.waitpid(child, 0)[1] == 0
"""
    finish(start(code, tmp_path / "chain.db"))
    assert_one_unbroken_chain(tmp_path / "chain.db", 4)


def test_a_child_that_inherits_an_open_connection_refuses_rather_than_lose(tmp_path: Path) -> None:
    """C code can fork without Python's hooks, and then nothing could close the connection."""
    code = """
import ctypes, os, sys
from chain_support import capsules
from capsule_sdk.chain import open_chain
from capsule_sdk.errors import ChainUnavailable
chain = open_chain(url=sys.argv[1])
chain.append(capsules(1))
child = ctypes.PyDLL(None).fork()
if child == 0:
    for _ in range(2):
        try:
            chain.append(capsules(1))
        except ChainUnavailable as error:
            assert "start the process anew" in str(error)
        else:
            os._exit(1)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
chain.append(capsules(1))
chain.close()
"""
    finish(start(code, tmp_path / "chain.db"))
    assert_one_unbroken_chain(tmp_path / "chain.db", 2)


def test_forks_in_the_middle_of_appends_lose_nothing(tmp_path: Path) -> None:
    code = """
import os, sys, threading, warnings
from chain_support import capsules
from capsule_sdk.chain import open_chain
warnings.simplefilter("ignore", DeprecationWarning)
chain = open_chain(url=sys.argv[1])
def work():
    for _ in range(60):
        chain.append(capsules(2))
thread = threading.Thread(target=work)
thread.start()
children = []
while thread.is_alive() and len(children) < 12:
    child = os.fork()
    if child == 0:
        for _ in range(5):
            chain.append(capsules(1))
        chain.close()
        os._exit(0)
    children.append(child)
thread.join()
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
chain.append(capsules(1))
chain.close()
print(121 + 5 * len(children))
"""
    (printed,) = finish(start(code, tmp_path / "chain.db"))
    assert_one_unbroken_chain(tmp_path / "chain.db", int(printed))


def test_a_store_that_nobody_uses_any_more_is_not_kept_for_the_forks_to_come(db: Path) -> None:
    store = weakref.ref(SQLiteStore(db))
    assert store() is None


def test_a_database_that_another_program_is_writing_is_not_read_around_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_reading, "BUSY_TIMEOUT", 0.05)
    path = tmp_path / "chain.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE capsules (id TEXT)")
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DBAPIError, match="locked"):
        sqlite_reading.open_for_reading(path)
    connection.execute("COMMIT")
    sqlite_reading.open_for_reading(path).close()
    connection.close()
