"""The recorder's checkpoints: when they are written, of what, and what happens where they cannot be.

Each is read back, verified with the public key, and compared with the chain as it lies in the store.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faulty_io
import pytest
from chain_support import finish, rotate_keys, start
from nacl.signing import SigningKey
from postgres_support import postgres, rows, server  # noqa: F401 - a fixture among them
from qp_capsule import Capsule, Capsules, CapsuleStorage
from recording import until
from scripts import Run, _running, run, script  # noqa: F401 - fixtures among them

import capsule_sdk
from capsule_sdk import capsule_scope, flush, logs
from capsule_sdk.chain.checkpoint import Checkpoint, parse
from capsule_sdk.chain.sealing import unseal
from capsule_sdk.chain.writer import ChainWriter
from capsule_sdk.errors import ChainUnavailable, ConfigurationError
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.recording import checkpointing
from capsule_sdk.recording.recorder import Recorder

NEVER = 3600.0


def record(count: int = 1, **options: Any) -> None:
    for _ in range(count):
        with capsule_scope("task", **options):
            pass


def notes(directory: Path) -> list[Path]:
    return sorted(directory.glob("*/*.checkpoint"))


def sizes(directory: Path) -> list[int]:
    return [parse(path.read_bytes()).checkpoint.size for path in notes(directory)]


def assert_true(
    directory: Path, url: Any, data: Path, tenant: str | None = None
) -> list[Checkpoint]:
    """Each checkpoint of this chain is signed, and says what the store holds; return them."""
    stored = list(read_chain(url, tenant=tenant))
    public = bytes(SigningKey((data / "key").read_bytes()).verify_key).hex()
    found = []
    for path in (directory / stored[0]["hash"][:16]).glob("*.checkpoint"):
        signed = parse(path.read_bytes())
        said = signed.checkpoint
        assert signed.verified_by([public]) == public
        assert said.origin == f"capsule-chain/{stored[0]['hash']}"
        assert path.name == f"{said.size:012}.checkpoint"
        assert said.head == stored[said.size - 1]["hash"]
        assert datetime.fromisoformat(stored[said.size - 1]["signed_at"]) <= said.time
        assert said.time <= datetime.now(UTC)
        found.append(said)
    return sorted(found, key=lambda one: one.size)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (made := tmp_path / "witness").mkdir()
    return made


Configure = Callable[..., Recorder]


@pytest.fixture
def configure(chain: Any, directory: Path) -> Configure:
    """Configure the chain of this test, so that a bound is reached only where the test sets it."""

    def configured(**settings: Any) -> Recorder:
        made: Recorder = chain.configure(
            **{
                "checkpoint": directory,
                "checkpoint_capsules": 10**6,
                "checkpoint_seconds": NEVER,
                **settings,
            }
        )
        return made

    return configured


# -- when ------------------------------------------------------------------------------------------


def test_none_is_written_unless_it_is_asked_for(chain: Any, directory: Path) -> None:
    record(3)
    capsule_sdk.shutdown()
    assert chain.recorder.stats().checkpoint_trouble is None
    assert notes(chain.data_dir) == []


def test_one_is_written_after_so_many_capsules(
    configure: Configure, chain: Any, directory: Path
) -> None:
    configure(checkpoint_capsules=5)
    record(4)
    flush()
    time.sleep(0.1)
    assert sizes(directory) == []
    record()
    until(lambda: sizes(directory) == [5])
    record(5)
    until(lambda: sizes(directory) == [5, 10])
    assert_true(directory, chain.url, chain.data_dir)


def test_one_is_written_after_so_many_seconds_though_nothing_more_happens(
    configure: Configure, chain: Any, directory: Path
) -> None:
    configure(checkpoint_seconds=0.4)
    record(2)
    assert flush() == 0
    began = time.monotonic()
    assert sizes(directory) == []
    until(lambda: sizes(directory) == [2], 5.0)
    assert time.monotonic() - began > 0.2
    time.sleep(0.8)
    assert sizes(directory) == [2], "the head has not moved since"
    record()
    until(lambda: sizes(directory) == [2, 3])
    assert_true(directory, chain.url, chain.data_dir)


def test_seconds_of_zero_mean_every_commit(configure: Configure, directory: Path) -> None:
    configure(checkpoint_seconds=0)
    for count in (1, 2, 3):
        record()
        flush()
        until(lambda count=count: sizes(directory)[-1:] == [count])  # type: ignore[misc]


def test_a_shutdown_leaves_no_capsule_without_one(
    configure: Configure, chain: Any, directory: Path
) -> None:
    recorder = configure()
    record(3)
    assert recorder.shutdown() == 0
    assert sizes(directory) == [3]
    assert recorder.shutdown() == 0
    record()
    assert recorder.shutdown() == 0
    assert sizes(directory) == [3, 4]
    assert_true(directory, chain.url, chain.data_dir)


def test_being_replaced_is_a_shutdown_too(
    configure: Configure, chain: Any, directory: Path
) -> None:
    configure()
    record(2)
    chain.configure()
    assert sizes(directory) == [2]


def test_a_chain_that_others_began_has_the_name_they_gave_it(
    configure: Configure, chain: Any, directory: Path
) -> None:
    record(2)
    recorder = configure(checkpoint_capsules=1)
    record()
    until(lambda: sizes(directory) == [3])
    recorder.shutdown()
    assert [one.size for one in assert_true(directory, chain.url, chain.data_dir)] == [3]


def test_after_a_rotation_the_key_of_the_day_signs(
    configure: Configure, chain: Any, directory: Path
) -> None:
    recorder = configure()
    record()
    flush()
    rotate_keys()
    recorder.shutdown()
    assert_true(directory, chain.url, chain.data_dir)
    assert sizes(directory) == [1]


def test_a_database_begun_anew_does_not_meet_the_checkpoints_of_the_old_one(
    configure: Configure, chain: Any, directory: Path
) -> None:
    configure().identity()
    record(2)
    capsule_sdk.shutdown()
    for path in chain.data_dir.glob("capsules.db*"):
        path.unlink()
    recorder = configure()
    record(2)
    recorder.shutdown()
    assert sizes(directory) == [2, 2]
    assert len(assert_true(directory, chain.url, chain.data_dir)) == 1


def test_the_callers_thread_writes_none(
    configure: Configure, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    threads = []
    real = checkpointing.add_to

    def watched(*arguments: Any) -> Path:
        threads.append(threading.current_thread().name)
        return real(*arguments)

    monkeypatch.setattr(checkpointing, "add_to", watched)
    configure(checkpoint_capsules=1, swallow_errors=False)
    record(3)
    until(lambda: sizes(directory)[-1:] == [3])
    assert set(threads) == {"capsule-writer"}


# -- where they cannot be written --------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "RETRY", 0.05)


@pytest.mark.internal_errors
def test_a_directory_that_is_missing_is_not_made_and_used_once_it_is_there(
    configure: Configure,
    chain: Any,
    directory: Path,
    impatient: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    directory.rmdir()
    recorder = configure(checkpoint_capsules=2)
    record(2)
    assert flush() == 0, "no capsule waits for a checkpoint"
    until(lambda: recorder.stats().checkpoint_trouble is not None)
    time.sleep(0.3)
    trouble = recorder.stats().checkpoint_trouble
    assert trouble == f"FileNotFoundError: there is no directory {directory}: make or mount it"
    assert logs.errors["recorder.checkpoint"] == 1
    assert caplog.text.count("checkpoints cannot be written, trying again") == 1, "once a minute"
    assert not directory.exists()
    directory.mkdir()
    until(lambda: sizes(directory) == [2])
    until(lambda: recorder.stats().checkpoint_trouble is None)
    until(lambda: caplog.text.count("checkpoints can be written again") == 1)
    assert_true(directory, chain.url, chain.data_dir)


@pytest.mark.internal_errors
def test_a_directory_that_takes_nothing_loses_no_capsule_and_heals(
    configure: Configure, chain: Any, directory: Path, impatient: None
) -> None:
    recorder = configure(checkpoint_capsules=3)
    record(3)
    until(lambda: sizes(directory) == [3])
    (own,) = directory.iterdir()
    moved = own.rename(directory / "aside")
    own.touch()  # a file in its place: nothing can be made in it, not even by root
    record(6)
    assert flush() == 0
    until(lambda: recorder.stats().checkpoint_trouble is not None)
    assert recorder.stats().lost == recorder.stats().failed == 0
    own.unlink()
    moved.rename(own)
    until(lambda: sizes(directory) == [3, 9])
    until(lambda: recorder.stats().checkpoint_trouble is None)
    assert len(chain.capsules()) == 9


@pytest.mark.internal_errors
def test_a_shutdown_ends_though_none_can_be_written(
    configure: Configure, chain: Any, directory: Path
) -> None:
    directory.rmdir()
    recorder = configure()
    record(2)
    began = time.monotonic()
    assert recorder.shutdown() == 0
    assert time.monotonic() - began < 5
    assert recorder.stats().checkpoint_trouble is not None
    assert len(chain.stored()) == 2


@pytest.mark.internal_errors
def test_a_chain_put_back_to_an_older_state_does_not_replace_what_was_signed(
    configure: Configure, chain: Any, directory: Path, impatient: None
) -> None:
    record()
    capsule_sdk.shutdown()
    backup = chain.url.read_bytes()
    recorder = configure()
    record()
    recorder.shutdown()
    (first,) = notes(directory)
    signed = first.read_bytes()
    chain.url.write_bytes(backup)
    recorder = configure(checkpoint_capsules=1)
    record()
    until(lambda: recorder.stats().checkpoint_trouble is not None)
    assert "cut short or written anew" in str(recorder.stats().checkpoint_trouble)
    assert first.read_bytes() == signed
    record()
    until(lambda: sizes(directory) == [2, 3])
    until(lambda: recorder.stats().checkpoint_trouble is None)


@pytest.mark.internal_errors
def test_a_key_that_cannot_be_read_is_trouble_and_no_loss(
    configure: Configure, chain: Any, directory: Path, impatient: None
) -> None:
    recorder = configure(checkpoint_capsules=2)
    record()
    flush()
    key = chain.data_dir / "key"
    key.rename(chain.data_dir / "hidden")
    key.write_text("no key")
    record()
    until(lambda: recorder.stats().checkpoint_trouble is not None)
    assert flush() == 0
    assert key.read_text() == "no key", "none is made to sign with"
    (chain.data_dir / "hidden").replace(key)
    until(lambda: sizes(directory) == [2])


def test_a_commit_whose_outcome_is_unknown_is_signed_with_the_next_one(
    configure: Configure, chain: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ChainWriter.append
    calls: list[int] = []

    def append(writer: ChainWriter, capsules: Sequence[Capsule]) -> int:
        added = real(writer, capsules)
        calls.append(added)
        if len(calls) == 1:
            for one in capsules:
                unseal(one)
            raise ChainUnavailable("the answer to COMMIT was lost")
        return added

    monkeypatch.setattr(ChainWriter, "append", append)
    recorder = configure(checkpoint_capsules=1)
    record()
    assert flush() == 0
    assert calls == [1, 0]
    time.sleep(0.2)
    assert sizes(directory) == []
    record()
    until(lambda: sizes(directory) == [2])
    assert recorder.stats().checkpoint_trouble is None
    assert_true(directory, chain.url, chain.data_dir)


# -- settings ----------------------------------------------------------------------------------------


def test_the_variables_do_as_the_arguments(
    chain: Any, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPSULE_SDK_CHECKPOINT", directory.name)
    monkeypatch.setenv("CAPSULE_SDK_CHECKPOINT_CAPSULES", "2")
    monkeypatch.setenv("CAPSULE_SDK_CHECKPOINT_SECONDS", "3600")
    monkeypatch.chdir(directory.parent)
    chain.configure()
    monkeypatch.chdir("/")
    record(2)
    until(lambda: sizes(directory) == [2])


def test_a_storage_that_links_by_itself_is_refused(tmp_path: Path, directory: Path) -> None:
    class Own(CapsuleStorage):
        pass

    capsules = Capsules(storage=Own(tmp_path / "own.db"))
    with pytest.raises(ConfigurationError, match="Own, a storage that links its chain by itself"):
        capsule_sdk.configure(capsules, checkpoint=directory)
    capsule_sdk.configure(capsules)


def test_a_storage_of_qp_capsule_is_signed_with_the_key_of_its_seal(
    tmp_path: Path, directory: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    capsules = Capsules(storage=CapsuleStorage(tmp_path / "own.db"))
    capsules.seal.key_path = tmp_path / "theirs" / "key"
    recorder = capsule_sdk.configure(capsules, checkpoint=directory)
    record(2)
    recorder.shutdown()
    (one,) = assert_true(directory, tmp_path / "own.db", tmp_path / "theirs")
    assert one.size == 2


# -- processes ---------------------------------------------------------------------------------------

PROCESS = """
import sys, time, capsule_sdk
from capsule_sdk import capsule_scope
capsule_sdk.configure(url=sys.argv[1], checkpoint=sys.argv[2], checkpoint_capsules=7,
                      checkpoint_seconds=0.05)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    with capsule_scope("task"):
        print(number, flush=True)
    time.sleep(0.002)
"""


def test_processes_on_one_chain_write_to_one_directory(tmp_path: Path, directory: Path) -> None:
    url = tmp_path / "capsules.db"
    processes = [start(PROCESS, url, directory, "60") for _ in range(4)]
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    finish(*processes)
    said = assert_true(directory, url, tmp_path)
    assert said[-1].size == 240, "the last of them has signed the end"
    assert len(said) >= 8


@pytest.mark.load
def test_killed_processes_leave_checkpoints_that_are_whole_and_true(
    tmp_path: Path, directory: Path
) -> None:
    url = tmp_path / "capsules.db"
    processes = [start(PROCESS, url, directory, "100000") for _ in range(3)]
    for one in processes:
        assert one.stdin is not None
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
        one.stdin.write("go\n")
        one.stdin.flush()
    until(lambda: len(notes(directory)) > 12, 30.0)
    for one in processes:
        time.sleep(0.1)
        os.kill(one.pid, signal.SIGKILL)
    for one in processes:
        one.communicate(timeout=30)
    assert len(assert_true(directory, url, tmp_path)) == len(notes(directory)) > 12
    recorder = capsule_sdk.configure(url=url, checkpoint=directory)
    recorder.recover()
    recorder.shutdown()
    stored = list(read_chain(url))
    assert assert_true(directory, url, tmp_path)[-1].size == len(stored), "what was recovered, too"


KILLED = """
import itertools, json, os, sys
import faulty_io
import capsule_sdk
from capsule_sdk import capsule_scope
import capsule_sdk.chain, capsule_sdk.recording.outbox, capsule_sdk.recording.checkpointing

def run(kind, nth, action, code="ENOSPC"):
    if not (child := os.fork()):
        recorder = capsule_sdk.configure(url=sys.argv[1], checkpoint=sys.argv[2])
        with capsule_scope("task"): pass
        capsule_sdk.flush()
        faulty_io.arm(sys.argv[2], kinds=[kind], nth=nth, action=action, code=code)
        left = recorder.shutdown()
        os._exit(0 if recorder.stats().checkpoint_trouble is None and not left else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

told = []
for kind, action in itertools.product(["write", "fsync", "rename", "create"], sys.argv[3:]):
    for nth in itertools.count(1):
        if (code := run(kind, nth, action)) == 0:
            break
        told.append([kind, nth, action, code])
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = faulty_io.build(tmp_path_factory.mktemp("faults"))
    if built is None:
        pytest.skip("the library that makes faults cannot be built here")
    return built


def _with_faults(
    library: Path, url: Path, directory: Path, *actions: str
) -> list[tuple[str, int, str, int]]:
    os.environ["LD_PRELOAD"] = str(library)
    try:
        process = start(KILLED, url, directory, *actions)
    finally:
        del os.environ["LD_PRELOAD"]
    (printed,) = finish(process)
    return [tuple(one) for one in json.loads(printed)]


def test_a_process_killed_at_any_step_leaves_whole_checkpoints_and_the_next_one_goes_on(
    library: Path, tmp_path: Path, directory: Path
) -> None:
    url = tmp_path / "capsules.db"
    told = _with_faults(library, url, directory, "kill before", "kill after", "kill halfway")
    assert {kind for kind, *_ in told} == {"write", "fsync", "rename", "create"}
    assert {code for *_, code in told} == {-signal.SIGKILL}
    said = assert_true(directory, url, tmp_path)
    assert len(said) == len(notes(directory))
    assert said[-1].size == len(list(read_chain(url))) > len(told)


def test_a_full_disk_leaves_nothing_half_written(
    library: Path, tmp_path: Path, directory: Path
) -> None:
    url = tmp_path / "capsules.db"
    told = _with_faults(library, url, directory, "fail on")
    assert {kind for kind, *_ in told} == {"write", "fsync", "rename", "create"}
    assert {code for *_, code in told} == {1}, "the trouble is known, and no capsule waits for it"
    assert len(assert_true(directory, url, tmp_path)) == len(notes(directory))
    assert list(directory.rglob(".*")) == []


def test_a_shutdown_tries_again_what_has_failed_once(
    library: Path, tmp_path: Path, directory: Path
) -> None:
    url = tmp_path / "capsules.db"
    assert _with_faults(library, url, directory, "fail once") == []
    assert [one.size for one in assert_true(directory, url, tmp_path)] == [1, 2, 3, 4]


@script(
    """
    import pathlib
    (data := pathlib.Path(os.environ["QUANTUMPIPES_DATA_DIR"]) / "witness").mkdir()
    capsule_sdk.configure(checkpoint=data)
    with capsule_scope("task"): pass
    if not (child := os.fork()):
        with capsule_scope("child"): pass
        sys.exit()
    os.waitpid(child, 0)
    with capsule_scope("parent"): pass
    def late():
        with capsule_scope("late"): pass
    import weakref
    weakref.finalize(type("Thing", (), {})(), late)
    """
)
def test_the_end_of_a_process_and_of_its_child_leave_nothing_unsigned(run: Run) -> None:
    count = len(run.capsules)
    said = assert_true(run.directory / "witness", run.directory / "capsules.db", run.directory)
    assert count >= 3
    assert said[-1].size == count, run.err


@script(
    """
    import pathlib
    (data := pathlib.Path(os.environ["QUANTUMPIPES_DATA_DIR"]) / "witness").mkdir()
    def late():
        with capsule_scope("late"): pass
    import _thread
    capsule_sdk.configure(checkpoint=data)
    with capsule_scope("task"): pass
    # Run after the SDK's own exit hook: it was registered before.
    atexit.unregister(capsule_sdk.recording.exiting._at_exit)
    atexit.register(late)
    atexit.register(capsule_sdk.recording.exiting._at_exit)
    """
)
def test_what_ends_after_the_last_call_is_signed_by_the_thread_that_ends_it(run: Run) -> None:
    assert run.sources == ["task", "late"]
    said = assert_true(run.directory / "witness", run.directory / "capsules.db", run.directory)
    assert [one.size for one in said] == [1, 2], run.err


def test_a_worker_of_multiprocessing_signs_its_own_and_nothing_of_its_parents(
    configure: Configure, chain: Any, directory: Path
) -> None:
    configure()
    record(3)
    flush()
    for work, signed in ((capsule_sdk.shutdown, []), (record, [4])):
        worker = multiprocessing.get_context("fork").Process(target=work)
        worker.start()
        worker.join(30)
        assert worker.exitcode == 0
        assert sizes(directory) == signed, "the parent's head is not the child's to sign"
    chain.recorder.shutdown()
    assert [one.size for one in assert_true(directory, chain.url, chain.data_dir)] == [3, 4]


def test_what_is_recovered_is_signed(tmp_path: Path, directory: Path) -> None:
    url = tmp_path / "capsules.db"
    killed = start(
        "import os, sys, signal, capsule_sdk\n"
        "from capsule_sdk import capsule_scope\n"
        "capsule_sdk.configure(url=sys.argv[1])\n"
        "with capsule_scope('task'): os.kill(os.getpid(), signal.SIGKILL)",
        url,
    )
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    os.environ["CAPSULE_SDK_CHECKPOINT"] = str(directory)
    try:
        capsule_sdk.recording.default.recover(url)
    finally:
        del os.environ["CAPSULE_SDK_CHECKPOINT"]
    assert [one.size for one in assert_true(directory, url, tmp_path)] == [1]


# -- PostgreSQL --------------------------------------------------------------------------------------


def test_each_tenant_has_checkpoints_of_its_own(
    postgres: str, tmp_path: Path, directory: Path
) -> None:
    recorder = capsule_sdk.configure(
        url=postgres, checkpoint=directory, checkpoint_capsules=3, checkpoint_seconds=NEVER
    )
    record(3)
    record(2, tenant_id="acme")
    record(4, tenant_id="x" * 60)
    flush()
    until(lambda: len(notes(directory)) == 2)
    assert recorder.shutdown() == 0
    ends = {
        tenant: assert_true(directory, postgres, tmp_path, tenant)[-1].size
        for tenant in (None, "acme", "x" * 60)
    }
    assert ends == {None: 3, "acme": 2, "x" * 60: 4}
    assert len(list(directory.iterdir())) == 3


def test_the_tenants_of_others_keep_their_names(
    postgres: str, tmp_path: Path, directory: Path
) -> None:
    capsule_sdk.configure(url=postgres)
    record(2, tenant_id="acme")
    recorder = capsule_sdk.configure(url=postgres, checkpoint=directory)
    record(1, tenant_id="acme")
    recorder.shutdown()
    (one,) = assert_true(directory, postgres, tmp_path, "acme")
    assert one.size == 3


def test_more_tenants_than_one_round_signs_all_get_theirs(
    postgres: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "PER_ROUND", 4)
    monkeypatch.setattr(checkpointing, "_FIRST_HASHES", 3)
    recorder = capsule_sdk.configure(url=postgres, checkpoint=directory, checkpoint_seconds=0.2)
    for turn in (1, 2):
        for number in range(11):
            record(1, tenant_id=f"tenant-{number}")
        until(lambda turn=turn: len(notes(directory)) == 11 * turn)  # type: ignore[misc]
    recorder.shutdown()
    assert sorted(sizes(directory)) == [1] * 11 + [2] * 11


@pytest.mark.internal_errors
def test_one_chain_that_cannot_be_named_does_not_keep_the_others_from_theirs(
    postgres: str, directory: Path, impatient: None
) -> None:
    capsule_sdk.configure(url=postgres)
    record(2, tenant_id="robbed")
    assert flush() == 0
    server().execute(
        "DELETE FROM quantumpipes_capsules WHERE sequence = 0", postgres.rpartition("/")[2]
    )
    recorder = capsule_sdk.configure(url=postgres, checkpoint=directory, checkpoint_capsules=1)
    record(1, tenant_id="robbed")
    record(1, tenant_id="acme")
    until(lambda: len(notes(directory)) == 1)
    until(lambda: recorder.stats().checkpoint_trouble is not None)
    assert "no first capsule" in str(recorder.stats().checkpoint_trouble)
    assert len(rows(postgres)) == 3


@pytest.mark.internal_errors
def test_a_server_that_restarts_costs_no_checkpoint(
    postgres: str, tmp_path: Path, directory: Path, impatient: None
) -> None:
    recorder = capsule_sdk.configure(url=postgres, checkpoint=directory, checkpoint_capsules=5)
    record(3)
    flush()
    server().restart("immediate")
    record(3)
    until(lambda: flush() == 0, 30.0)
    recorder.shutdown()
    assert assert_true(directory, postgres, tmp_path)[-1].size == 6
