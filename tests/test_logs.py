"""What the SDK says about itself: on one standard logger, counted, and never in the way of the user's call."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from capsule_sdk import capsule_scope, capsuled, get_recorder, logs
from capsule_sdk.logs import guarded, report, tell

pytestmark = pytest.mark.internal_errors


@pytest.fixture
def broken_inside(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: Any) -> None:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(type(chain.recorder), "begin", begin)


@pytest.mark.usefixtures("broken_inside")
def test_an_error_inside_the_sdk_is_logged_and_counted_and_the_call_goes_on(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    @capsuled
    def double(number: int) -> int:
        with capsule_scope("inner"):
            return 2 * number

    assert double(21) == 42
    records = [r for r in caplog.records if r.name == "capsule_sdk"]
    assert len(records) == 2
    assert all(record.levelno == logging.ERROR for record in records)
    assert all("a bug of ours" in record.getMessage() for record in records)
    assert all("Traceback" in record.getMessage() for record in records)
    assert sum(logs.errors.values()) == get_recorder().stats().errors == 2
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("broken_inside")
def test_a_users_own_error_passes_through_an_sdk_that_is_broken() -> None:
    with pytest.raises(KeyError, match="mine"), capsule_scope("task"):
        raise KeyError("mine")


class BrokenHandler(logging.Handler):
    def handle(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("the log is broken")


@pytest.fixture
def broken_log() -> Any:
    handler = BrokenHandler()
    logger = logging.getLogger("capsule_sdk")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("broken_inside", "broken_log")
def test_a_broken_log_does_not_break_the_call_and_errors_still_count() -> None:
    with capsule_scope("task"):
        pass
    assert logs.errors["scope.enter"] == 1


@pytest.mark.usefixtures("broken_log")
def test_a_broken_log_does_not_stop_the_writer(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from capsule_sdk.records import capsules

    def refuse(record: Any) -> Any:
        raise ValueError("no capsule today")

    with monkeypatch.context() as patch:
        patch.setattr(capsules, "capsule_of", refuse)
        with capsule_scope("bad"):
            pass
        assert [c["type"] for c in chain.capsules()] == ["system"]
    with capsule_scope("good"):
        pass
    assert [c["type"] for c in chain.capsules()] == ["system", "agent"]


def test_an_application_decides_what_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="capsule_sdk")
    report("here", ValueError("unseen"))
    tell("error", "unseen")
    assert caplog.text == ""
    assert logs.errors["here"] == 1


def test_a_value_that_cannot_be_shown_is_no_reason_to_fail(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    report("here", OddError(), fact=OddError())
    tell("error", "event", fact=OddError())
    assert logs.errors["here"] == 1


def test_the_guard_lets_through_what_is_no_error() -> None:
    for error in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(error), guarded("here"):
            raise error
    assert not logs.errors


def test_the_projects_own_tests_see_every_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[BaseException] = []
    monkeypatch.setattr(logs, "raised", seen)
    with pytest.raises(ValueError, match="seen"), guarded("here"):
        raise ValueError("seen")
    assert [str(error) for error in seen] == ["seen"]
