"""The default recorder: made on first use, replaced by configure, shared by all who name the same store."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest
from qp_capsule import Capsules, CapsuleStorage
from recording import in_threads

import capsule_sdk
from capsule_sdk import capsule_scope, configure, get_recorder
from capsule_sdk.errors import ConfigurationError
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.recording.default import recorder_for
from capsule_sdk.recording.recorder import Recorder


def capsules_at(path: Path) -> Capsules:
    return Capsules(storage=CapsuleStorage(path))


def test_threads_that_ask_first_get_one_and_the_same() -> None:
    found: list[Recorder] = []
    in_threads(8, lambda _: found.append(get_recorder()))
    assert len({id(recorder) for recorder in found}) == 1


def test_two_capsules_on_one_store_have_one_recorder(tmp_path: Path) -> None:
    first = recorder_for(capsules_at(tmp_path / "a.db"))
    (tmp_path / "link.db").symlink_to(tmp_path / "a.db")
    assert recorder_for(capsules_at(tmp_path / "a.db")) is first
    assert recorder_for(capsules_at(tmp_path / "x" / ".." / "link.db")) is first


def test_different_stores_have_different_recorders(tmp_path: Path) -> None:
    first = recorder_for(capsules_at(tmp_path / "a.db"))
    second = recorder_for(capsules_at(tmp_path / "b.db"))
    assert first is not second
    assert recorder_for(capsules_at(tmp_path / "b.db")) is second


def test_the_first_given_becomes_the_default_where_nothing_is_configured(tmp_path: Path) -> None:
    get_recorder()
    first = recorder_for(capsules_at(tmp_path / "a.db"))
    assert get_recorder() is first
    assert recorder_for(None) is first
    recorder_for(capsules_at(tmp_path / "b.db"))
    assert get_recorder() is first


def test_what_was_configured_stays_the_default(tmp_path: Path) -> None:
    configured = configure(url=tmp_path / "a.db")
    assert recorder_for(capsules_at(tmp_path / "a.db")) is configured
    assert recorder_for(capsules_at(tmp_path / "b.db")) is not configured
    assert get_recorder() is configured


@pytest.mark.parametrize("ended", [True, False])
def test_a_default_that_has_begun_something_is_not_replaced(tmp_path: Path, ended: bool) -> None:
    scope = capsule_scope("task")
    scope.__enter__()
    if ended:
        scope.__exit__(None, None, None)
    default = get_recorder()
    recorder_for(capsules_at(tmp_path / "b.db"))
    assert get_recorder() is default
    if not ended:
        scope.__exit__(None, None, None)


def test_a_given_store_is_kept_although_a_variable_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPSULE_SDK_URL", str(tmp_path / "variable.db"))
    for recorder in (
        recorder_for(capsules_at(tmp_path / "a.db")),
        configure(capsules_at(tmp_path / "a.db")),
    ):
        assert recorder.identity().endswith("/a.db")
        with capsule_scope("task"):
            pass
    assert capsule_sdk.flush() == 0
    assert len(list(read_chain(tmp_path / "a.db"))) == 2
    assert not (tmp_path / "variable.db").exists()


def test_flush_and_shutdown_are_for_all_recorders(tmp_path: Path) -> None:
    from recording import begin_task, end

    made = [configure(url=tmp_path / "0.db")]
    made += [recorder_for(capsules_at(tmp_path / f"{number}.db")) for number in (1, 2)]
    for recorder in made:
        end(recorder, begin_task(recorder))
    assert capsule_sdk.flush() == 0
    for number, recorder in enumerate(made):
        assert len(list(read_chain(tmp_path / f"{number}.db"))) == 1
        end(recorder, begin_task(recorder))
    assert capsule_sdk.shutdown() == 0
    assert [t.name for t in threading.enumerate() if t.name == "capsule-writer"] == []
    for number in range(3):
        assert len(list(read_chain(tmp_path / f"{number}.db"))) == 2
    assert get_recorder() not in made


def test_flush_shares_its_time_between_recorders(tmp_path: Path) -> None:
    import time

    from recording import FaultyChain, begin_task, end

    chains = [FaultyChain(tmp_path / f"{number}.db") for number in range(3)]
    recorders = [chain.recorder() for chain in chains]

    def away(_: Any) -> None:
        raise OSError("away")

    for chain, recorder in zip(chains, recorders, strict=True):
        chain.fault = away
        end(recorder, begin_task(recorder))
    started = time.monotonic()
    assert capsule_sdk.flush(0.4) == 3
    assert time.monotonic() - started < 1
    for chain in chains:
        chain.fault = None
    assert capsule_sdk.flush() == 0


def test_both_a_storage_and_a_url_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="give one of them"):
        configure(capsules_at(tmp_path / "a.db"), url=tmp_path / "b.db")


def test_what_is_no_capsules_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="give a qp_capsule.Capsules"):
        configure(object())  # type: ignore[arg-type]


def test_a_configure_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    before = configure(url=tmp_path / "a.db")
    for bad in ({"content": "ful"}, {"url": "mysql://x"}, {"settle_timeout": -1}):
        with pytest.raises(ConfigurationError):
            configure(**bad)  # type: ignore[arg-type]
    assert get_recorder() is before


def test_what_qp_capsule_wrote_and_what_we_write_are_one_chain(chain: Any) -> None:
    async def theirs() -> None:
        from qp_capsule import Capsule

        capsules = capsules_at(chain.url)
        await capsules.chain.seal_and_store(Capsule(), seal=capsules.seal)
        await capsules.close()

    asyncio.run(theirs())
    with capsule_scope("task"):
        pass
    assert [c["sequence"] for c in chain.capsules()] == [0, 1]
    chain.verify()


def test_nothing_is_left_behind_by_many_configures(tmp_path: Path) -> None:
    from capsule_sdk.recording.forking import live_recorders

    before = set(live_recorders())
    for number in range(5):
        configure(url=tmp_path / f"{number}.db")
        with capsule_scope("task"):
            pass
    gc.collect()
    assert set(live_recorders()) - before == {get_recorder()}
    writers = [t for t in threading.enumerate() if t.name == "capsule-writer"]
    assert len(writers) == 1


def test_a_recorder_that_was_shut_down_keeps_no_descriptor(tmp_path: Path) -> None:
    descriptors = []
    for number in range(5):
        configure(url=tmp_path / f"{number}.db")
        with capsule_scope("task"):
            pass
        capsule_sdk.shutdown()
        gc.collect()
        descriptors.append(len(list(Path("/dev/fd").iterdir())))
    assert descriptors[-1] <= descriptors[0]
