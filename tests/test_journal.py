"""The journal's files: frames that survive damage, directories that belong to one process, a queue on disk."""

from __future__ import annotations

import io
import json
import os
import resource
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from disks import full_after
from hypothesis import given
from hypothesis import strategies as st
from recording import in_threads

from capsule_sdk.directories import open_directory
from capsule_sdk.journal import backlog as backlog_module
from capsule_sdk.journal.backlog import Backlog
from capsule_sdk.journal.contents import UNWRITTEN, homes, set_aside_in
from capsule_sdk.journal.files import Home, is_alive
from capsule_sdk.journal.frames import Damage, Frame, Kind, encode, parse, read
from capsule_sdk.journal.journal import Journal
from capsule_sdk.journal.leftovers import leftovers
from capsule_sdk.journal.location import journal_root
from capsule_sdk.journal.unwritten import Unwritten

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text(), JSON, max_size=4)


def frames_of(path: Path) -> list[Frame | Damage]:
    with path.open("rb") as file:
        return list(read(file))


def stand_in(document: dict[str, Any], error: Exception) -> dict[str, Any]:
    raise AssertionError(f"{document} is JSON: {error}")


def only(root: Path) -> Any:
    """Return the first of what is left there, which is held as long as it is asked for no other."""
    found = leftovers(root)
    leftover: Any = next(found)
    leftover.held = found
    return leftover


# -- frames ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from([Kind.BEGUN, Kind.ENDED]), DOCUMENTS), max_size=5))
def test_what_is_written_is_read(frames: list[tuple[bytes, dict[str, Any]]]) -> None:
    text = b"".join(encode(kind, document) for kind, document in frames)
    assert list(read(io.BytesIO(text))) == [Frame(kind, document) for kind, document in frames]


@given(DOCUMENTS, st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_byte_costs_its_own_frame_and_no_other(
    document: dict[str, Any], place: int, change: int
) -> None:
    frame = encode(Kind.ENDED, document)
    place = 1 + place % (len(frame) - 1)
    bad = frame[:place] + bytes([frame[place] ^ change]) + frame[place + 1 :]
    around = encode(Kind.BEGUN, {"a": 1}), encode(Kind.BEGUN, {"b": 2})
    found = list(read(io.BytesIO(around[0] + bad + around[1])))
    assert found[0] == Frame(Kind.BEGUN, {"a": 1})
    assert found[-1] == Frame(Kind.BEGUN, {"b": 2})
    assert all(isinstance(one, Damage) and not one.torn for one in found[1:-1])
    assert Frame(Kind.ENDED, document) not in found[1:-1]
    assert not all(isinstance(one, Damage) and one.short for one in found[1:-1])


@given(DOCUMENTS, st.integers(min_value=1))
def test_a_torn_end_is_told_from_damage(document: dict[str, Any], length: int) -> None:
    frame = encode(Kind.ENDED, document)
    length = 2 + length % (len(frame) - 2)
    whole = encode(Kind.BEGUN, {"a": 1})
    found = list(read(io.BytesIO(whole + frame[:length])))
    assert found[0] == Frame(Kind.BEGUN, {"a": 1})
    (torn,) = found[1:]
    assert isinstance(torn, Damage)
    assert torn.torn
    assert torn.offset >= len(whole)


def test_a_frame_after_a_torn_one_is_read() -> None:
    frame = encode(Kind.ENDED, {"a": "long enough to be torn"})
    for length in range(2, len(frame) - 1):
        found = list(read(io.BytesIO(frame[:length] + encode(Kind.BEGUN, {"b": 2}))))
        assert [type(one) for one in found] == [Damage, Frame]
        assert isinstance(found[0], Damage)
        assert found[0].short, "it looks as a full disk leaves it"


@pytest.mark.parametrize(
    "kind", sorted({value for key, value in vars(Kind).items() if key.isupper()})
)
def test_the_letter_of_a_frame_is_under_its_checksum(kind: bytes) -> None:
    text = encode(kind, {"a": 1})[1:]
    other = Kind.BEGUN if kind != Kind.BEGUN else Kind.ENDED
    assert isinstance(parse(text), Frame)
    assert parse(other + text[1:]) == "its checksum does not match"


def test_what_json_does_not_know_is_named() -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError

    frame = parse(encode(Kind.BEGUN, {"a": Path("x"), "b": Odd()})[1:])
    assert isinstance(frame, Frame)
    assert frame.document == {"a": "x", "b": "<Odd>"}


@pytest.mark.parametrize(
    "text", [b"", b"b", b"b 00000002 00000000 {}", b"b zzzzzzzz 00000000 {}", b"\0" * 50]
)
def test_no_line_is_taken_for_a_frame_that_is_none(text: bytes) -> None:
    assert isinstance(parse(text), str)


@given(st.binary(max_size=200))
def test_reading_anything_raises_nothing(text: bytes) -> None:
    assert all(isinstance(one, Frame | Damage) for one in read(io.BytesIO(text)))


# -- directories ----------------------------------------------------------------------------------


def test_a_directory_is_its_owners_alone_and_locked(tmp_path: Path) -> None:
    home = Home.make(tmp_path / "journal" / "x.records")
    assert list(homes(tmp_path / "journal" / "x.records")) == [home.path]
    assert [stat.S_IMODE(p.stat().st_mode) for p in (home.path, *home.path.parents[:2])] == [
        0o700
    ] * 3
    assert Home.take_over(home.path) is None
    assert is_alive(home.path)
    home.release()
    assert not is_alive(home.path)


def test_one_of_two_takes_over(tmp_path: Path) -> None:
    path = Home.make(tmp_path)
    path.release()
    first, second = Home.take_over(path.path), Home.take_over(path.path)
    assert first is not None
    assert second is None
    first.remove()
    assert Home.take_over(path.path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_was_removed_and_made_anew_is_another(tmp_path: Path) -> None:
    home = Home.make(tmp_path)
    assert home.is_there()
    lock = home.path / "owner.lock"
    lock.unlink()
    lock.touch()
    assert not home.is_there()
    home.release()


def test_threads_that_list_a_directory_at_the_same_time_see_all_of_it(tmp_path: Path) -> None:
    """As `Recorder.stats`, in any thread, and the writer do."""
    home = Home.make(tmp_path)
    seen: set[int] = set()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        in_threads(3, lambda _: seen.update(len(home.directory.names()) for _ in range(5000)))
    finally:
        sys.setswitchinterval(before)
    assert seen == {1}
    home.remove()


@pytest.mark.parametrize("what", ["journal", "unwritten"])
def test_a_process_without_descriptors_left_keeps_no_lock_of_what_it_cannot_take_over(
    tmp_path: Path, what: str
) -> None:
    """Or the journal of another process would stay unrecovered for as long as this one lives."""
    home = Home.make(tmp_path)
    Unwritten.make(home.directory, UNWRITTEN).release()
    path, directory = home.path, home.directory.again()
    root = open_directory(tmp_path)
    home.release()

    def take_over() -> Any:
        return (
            Home.take_over(path, root)
            if what == "journal"
            else Unwritten.take_over(directory, UNWRITTEN)
        )

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(root.fd)
    os.close(lowest)
    failed = 0
    for more in range(4):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, hard))
        try:
            taken = take_over()
        except OSError:
            failed += 1
        else:
            taken.release()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        taken = take_over()
        assert taken is not None
        taken.release()
    assert failed > 1
    directory.close()
    root.close()


def test_a_forked_child_lets_go_of_the_lock(tmp_path: Path) -> None:
    home = Home.make(tmp_path)
    ours, theirs = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ours[1], b"x")
        os.read(theirs[0], 1)
        os._exit(0)
    os.read(ours[0], 1)
    home.release()
    try:
        assert not is_alive(home.path)
    finally:
        os.write(theirs[1], b"x")
        os.waitpid(child, 0)
        for end in (*ours, *theirs):
            os.close(end)


def test_what_is_set_aside_is_kept_and_no_longer_found(tmp_path: Path) -> None:
    home = Home.make(tmp_path)
    home.new_records().write_bytes(b"garbage")
    home.set_aside()
    assert list(homes(tmp_path)) == []
    (aside,) = set_aside_in(tmp_path)
    assert aside == tmp_path / "damaged" / home.path.name
    assert (aside / "records-00000001").read_bytes() == b"garbage"


def test_the_journals_of_a_file_lie_beside_it_and_all_others_in_the_data_directory() -> None:
    data = Path("/data")
    assert journal_root("sqlite:////a/b.db", data) == Path("/a/journal/b.db.records")
    server = journal_root("postgresql://host:5432/db", data)
    assert server == Path("/data/journal/postgresql-host-5432-db.records")
    assert journal_root("sqlite:////a/b.db", data, Path("/j")) == Path("/j/b.db.records")
    assert journal_root("postgresql://h:1/d", data, Path("/j")).parent == Path("/j")


# -- the journal of this process ------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()
    journal.remove()


def test_frames_are_on_disk_when_append_returns(journal: Journal) -> None:
    journal.rotate(list)
    assert journal.append(Kind.BEGUN, {"id": "1"}) > 0
    assert journal.home is not None
    (path,) = journal.home.records()
    assert frames_of(path) == [Frame(Kind.RESTATED, {}), Frame(Kind.BEGUN, {"id": "1"})]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rotation_says_again_what_counts_and_drops_the_rest(journal: Journal) -> None:
    journal.rotate(list)
    for number in range(100):
        journal.append(Kind.BEGUN, {"id": str(number)})
    journal.rotate(lambda: [(Kind.STATE, {"id": "7"})])
    journal.append(Kind.ENDED, {"id": "7"})
    assert journal.home is not None
    (path,) = journal.home.records()
    assert frames_of(path) == [
        Frame(Kind.STATE, {"id": "7"}),
        Frame(Kind.RESTATED, {}),
        Frame(Kind.ENDED, {"id": "7"}),
    ]


def test_a_rotation_that_fails_half_way_drops_nothing(journal: Journal) -> None:
    journal.rotate(list)
    journal.append(Kind.BEGUN, {"id": "1"})

    def states() -> Any:
        yield Kind.STATE, {"id": "1", "half": True}
        yield Kind.STATE, {"id": "2", "known only here": True}
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        journal.rotate(states)
    assert journal.home is not None
    assert len(journal.home.records()) == 2
    journal.leave()
    leftover = only(journal.root)
    records = leftover.records()
    assert records["1"].begun == {"id": "1"}
    assert records["2"].begun == {"id": "2", "known only here": True}
    leftover.home.remove()


def test_threads_that_write_while_it_rotates_lose_no_frame(journal: Journal) -> None:
    alive: dict[str, None] = {}
    journal.rotate(list)
    stop = threading.Event()

    def write(thread: int) -> None:
        for number in range(3000):
            key = f"{thread}-{number}"
            alive[key] = None
            assert journal.append(Kind.BEGUN, {"id": key})
        stop.set()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while not stop.is_set():
        journal.rotate(lambda: [(Kind.STATE, {"id": key}) for key in list(alive)])
    for thread in threads:
        thread.join()
    journal.close()
    journal.leave()
    leftover = only(journal.root)
    assert set(leftover.records()) == set(alive)
    assert leftover.damages == []
    leftover.home.remove()


def test_after_close_nothing_is_written_anywhere_and_the_next_rotation_begins_anew(
    journal: Journal,
) -> None:
    journal.rotate(list)
    journal.close()
    assert journal.append(Kind.BEGUN, {"id": "1"}) > 0
    journal.remove()
    assert list(homes(journal.root)) == []
    journal.rotate(list)
    journal.append(Kind.BEGUN, {"id": "2"})
    assert journal.home is not None
    assert frames_of(journal.home.records()[0])[1:] == [Frame(Kind.BEGUN, {"id": "2"})]


def test_a_journal_that_was_removed_is_noticed(journal: Journal) -> None:
    journal.rotate(list)
    assert journal.is_there()
    assert journal.home is not None
    journal.home.records()[0].unlink()
    assert not journal.is_there()
    journal.let_go()
    journal.rotate(lambda: [(Kind.STATE, {"id": "1"})])
    assert journal.is_there()


def test_a_journal_that_was_never_opened_takes_nothing_and_raises_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.append(Kind.BEGUN, {}) == 0
    assert (journal.size(), journal.is_open, journal.is_there()) == (0, False, False)


@pytest.mark.parametrize("more", [1, 2, 15, 21, 30, 60])
def test_what_a_full_disk_has_cut_is_no_damage_once_its_writer_goes_on(
    journal: Journal, more: int
) -> None:
    """The writer dies before it tends the journal: nobody has said again what was cut, or noted that it was."""
    journal.rotate(list)
    assert journal.home is not None
    (path,) = journal.home.records()
    journal.append(Kind.BEGUN, {"id": "1"})
    with full_after(path, more):
        assert journal.append(Kind.BEGUN, {"id": "2", "x": "y" * 100}) == 0
        assert journal.append(Kind.BEGUN, {"id": "3", "x": "y" * 100}) == 0
    assert journal.append(Kind.ENDED, {"id": "1"}) > 0
    assert journal.append(Kind.BEGUN, {"id": "4"}) > 0
    journal.leave()
    leftover = only(journal.root)
    assert set(leftover.records()) == {"1", "4"}
    assert leftover.damages == []
    assert leftover.torn == (more > 1)
    leftover.home.remove()


def test_a_rotation_that_the_disk_cuts_leaves_no_damage(journal: Journal) -> None:
    journal.rotate(list)
    journal.append(Kind.BEGUN, {"id": "1"})
    assert journal.home is not None
    (path,) = journal.home.records()

    def states() -> Iterator[tuple[bytes, dict[str, Any]]]:
        yield Kind.STATE, {"id": "1"}
        with full_after(path, 100):
            yield Kind.STATE, {"id": "2", "x": "y" * 1000}

    with pytest.raises(OSError, match="No space"):
        journal.rotate(states)
    journal.append(Kind.BEGUN, {"id": "3"})
    journal.leave()
    leftover = only(journal.root)
    assert set(leftover.records()) == {"1", "3"}
    assert (leftover.damages, leftover.torn) == ([], 1)
    leftover.home.remove()


def test_a_disk_that_was_full_once_excuses_no_damage_that_comes_later(journal: Journal) -> None:
    journal.rotate(list)
    assert journal.home is not None
    with full_after(journal.home.records()[0], 30):
        journal.append(Kind.BEGUN, {"id": "1", "x": "y" * 100})
    journal.rotate(list)
    journal.append(Kind.BEGUN, {"id": "2"})
    journal.append(Kind.BEGUN, {"id": "3"})
    (path,) = journal.home.records()
    text = path.read_bytes()
    path.write_bytes(text.replace(b'{"id":"2"}', b'{"id'))
    journal.leave()
    leftover = only(journal.root)
    assert set(leftover.records()) == {"3"}
    assert [damage.short for _, damage in leftover.damages] == [True]
    leftover.home.remove()


def test_a_process_that_died_between_saying_again_and_dropping_has_said_it_once(
    tmp_path: Path,
) -> None:
    home = Home.make(tmp_path)
    home.new_records().write_bytes(
        encode(Kind.BEGUN, {"id": "1"}) + encode(Kind.BEGUN, {"id": "2"})
    )
    home.new_records().write_bytes(
        encode(Kind.BEGUN, {"id": "3"})
        + encode(Kind.STATE, {"id": "2", "placed": True})
        + encode(Kind.RESTATED, {})
        + encode(Kind.ENDED, {"id": "2"})
    )
    home.release()
    leftover = only(tmp_path)
    records = leftover.records()
    assert set(records) == {"2", "3"}
    assert records["2"].begun == {"id": "2", "placed": True}
    assert records["2"].ended == {"id": "2"}
    leftover.home.remove()


# -- the backlog ----------------------------------------------------------------------------------


def numbers(capsules: list[dict[str, Any]]) -> list[int]:
    return [capsule["n"] for capsule in capsules]


def test_first_in_first_out_over_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog_module, "_FILE_SIZE", 300)
    home, backlog = Home.make(tmp_path), Backlog()
    out: list[int] = []
    for start in range(0, 200, 10):
        backlog.add(home, ({"n": n} for n in range(start, start + 10)), stand_in)
        if start % 30 == 0:
            got = backlog.take(7, 1 << 20)
            out += numbers(got)
            backlog.settle(len(got))
        assert len(home.backlog()) <= len(backlog) // 3 + 3
    while backlog:
        got = backlog.take(50, 1 << 20)
        out += numbers(got)
        backlog.settle(len(got))
    assert out == list(range(200))
    assert home.backlog() == []
    home.remove()


def test_a_group_is_bounded_by_bytes_but_has_one_at_least(tmp_path: Path) -> None:
    home, backlog = Home.make(tmp_path), Backlog()
    backlog.add(home, ({"n": n, "x": "y" * 1000} for n in range(5)), stand_in)
    assert numbers(backlog.take(10, 1)) == [0]
    assert numbers(backlog.take(10, 2100)) == [1, 2, 3]
    backlog.settle(4)
    assert len(backlog) == 1
    backlog.close()
    home.remove()


def test_a_disk_that_fills_up_keeps_what_it_took(tmp_path: Path) -> None:
    home, backlog = Home.make(tmp_path), Backlog()

    def capsules() -> Any:
        yield {"n": 0}
        yield {"n": 1}
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        backlog.add(home, capsules(), stand_in)
    assert backlog.added == 2
    backlog.add(home, [{"n": 2}], stand_in)
    assert numbers(backlog.take(10, 1 << 20)) == [0, 1, 2]
    backlog.settle(3)
    home.remove()


def test_one_that_rotted_on_disk_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    home, backlog = Home.make(tmp_path), Backlog()
    backlog.add(home, ({"n": n} for n in range(3)), stand_in)
    (path,) = home.backlog()
    path.write_bytes(
        path.read_bytes().replace(json.dumps({"n": 1}).replace(" ", "").encode(), b'{"n":7}')
    )
    assert numbers(backlog.take(10, 1 << 20)) == [0, 2]
    assert backlog.damaged == 1
    backlog.settle(2)
    assert len(backlog) == 0
    assert home.backlog() == []
    home.remove()


def test_what_rotted_gives_nobody_up_who_was_read_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file stays, and the first counts as not durable, until that is in the chain."""
    monkeypatch.setattr(backlog_module, "_FILE_SIZE", 1)
    home, backlog = Home.make(tmp_path), Backlog()
    for number in range(3):
        backlog.add(home, [{"n": number}], stand_in)
    first, *others = home.backlog()
    for path in others:
        path.write_bytes(path.read_bytes().replace(b"{", b"["))
    assert numbers(backlog.take(10, 1 << 20)) == [0]
    assert (backlog.damaged, backlog.done) == (2, 0)
    assert first in home.backlog()
    backlog.settle(1)
    assert (len(backlog), home.backlog()) == (0, [])
    home.remove()
