"""Slices of the campaigns; and the locks themselves."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import pytest
from campaigns import (
    companions,
    forking,
    fuzzing,
    interrupting,
    outputs,
    planting,
    poison,
    stepping,
)
from campaigns.modes import EVERY

from capsule_sdk import forks
from capsule_sdk.interrupts import NotHad, held, undisturbed

SEED = 20261129


def test_children_of_the_first_half_second_do_not_hang() -> None:
    problems, figures = forking.run(random.Random(SEED), time.monotonic() + 60, rounds=2)
    assert not problems, figures


@pytest.mark.internal_errors
def test_one_bad_record_holds_up_nobody_and_leaves_a_stand_in() -> None:
    problems, figures = poison.run(random.Random(SEED), time.monotonic() + 60, rounds=40)
    assert not problems, figures


@pytest.mark.parametrize("campaign", [companions, fuzzing, outputs], ids=lambda one: one.__name__)
def test_no_forged_file_is_believed_and_nothing_hostile_comes_through(campaign: Any) -> None:
    rounds = {companions: 60, fuzzing: 60, outputs: 2}[campaign]
    problems, figures = campaign.run(random.Random(SEED), time.monotonic() + 60, rounds=rounds)
    assert not problems, figures


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
def test_nothing_that_another_user_plants_is_sealed_or_led_to() -> None:
    problems, figures = planting.run(random.Random(SEED), time.monotonic() + 60, rounds=4)
    assert not problems, figures


@pytest.mark.internal_errors
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mode", ["function", "coroutine", "scope", "flush"])
def test_an_interrupt_leaves_nothing_held_open_or_current(mode: str, tmp_path: Any) -> None:
    hits, problems = interrupting.interrupted(mode, random.Random(SEED), tmp_path, 20, 60)
    assert hits
    assert not problems


@pytest.mark.internal_errors
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.* using the `ReadOnly` qualifier:UserWarning")
@pytest.mark.parametrize("mode", [mode for mode in EVERY if mode not in ("stream", "async call")])
def test_ctrl_c_at_any_step_arrives_and_leaves_nothing_held_open_or_current(
    mode: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode == "call":
        monkeypatch.setattr("litellm.callbacks", [])
    chances = random.Random(SEED)
    done, _, problems = copy_context().run(stepping.stepped, mode, chances, tmp_path, 4, 100)
    assert done
    assert not problems


def test_a_lock_that_is_held_in_time_is_never_left_behind_by_a_signal_handler() -> None:
    lock = threading.RLock()

    class Interrupt(BaseException):
        pass

    def handler(*_: Any) -> None:
        raise Interrupt

    chances, before = random.Random(SEED), signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(2000):
            with suppress(Interrupt):
                signal.setitimer(signal.ITIMER_REAL, chances.uniform(1e-6, 3e-5))
                for _ in range(20):
                    with suppress(NotHad), held(lock, 1.0):
                        pass
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert not lock._is_owned()  # type: ignore[attr-defined]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_lock_that_another_thread_holds_is_given_up_in_time() -> None:
    lock = threading.RLock()
    with lock:

        def other() -> bool:
            with suppress(NotHad), held(lock, 0.05):
                return False
            return True

        assert undisturbed(other)


def test_what_runs_undisturbed_raises_what_it_raises_where_it_is_waited_for() -> None:
    def failing() -> None:
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError, match="no"):
        undisturbed(failing)
    assert undisturbed(lambda: time.sleep(5), 0.01) is None


def test_a_fork_waits_for_a_beginning_and_its_child_finds_it_free() -> None:
    entered, leave = threading.Event(), threading.Event()

    def begin() -> None:
        with forks.beginning:
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=begin)
    thread.start()
    entered.wait()
    threading.Timer(0.2, leave.set).start()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if forks.beginning.lock.acquire(timeout=1) else 1)
    assert time.monotonic() - started > 0.1
    assert os.waitpid(pid, 0)[1] == 0
    thread.join()
    assert not forks.under_way


def test_the_end_of_a_process_is_bounded_however_many_recorders_it_has(tmp_path: Any) -> None:
    from recording import FaultyChain, begin_task, end

    from capsule_sdk.errors import ChainUnavailable
    from capsule_sdk.recording.exiting import close_all

    def away(_: object) -> None:
        raise ChainUnavailable("away")

    recorders, chains = [], []
    for number in range(4):
        faulty = FaultyChain(str(tmp_path / f"{number}" / "c.db"))
        faulty.fault = away
        chains.append(faulty)
        recorders.append(faulty.recorder(exit_timeout=1.0))
        end(recorders[-1], begin_task(recorders[-1]))
    started = time.monotonic()
    close_all(recorders)
    assert time.monotonic() - started < 1.0 + 3.5
    for faulty, recorder in zip(chains, recorders, strict=True):
        faulty.fault = None
        assert recorder.shutdown(10.0) == 0
