"""Settings: each by argument and by variable, and a message that says what is accepted where it is not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from capsule_sdk import capsule_scope, configure, current_task, flush
from capsule_sdk.errors import ConfigurationError
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.settings import PREFIX, Settings, is_disabled


def test_defaults() -> None:
    made = Settings.from_environment({}, {})
    assert made == Settings(
        url=None,
        agent_id=None,
        domain=None,
        content="full",
        redact=None,
        max_text=16_384,
        swallow_errors=True,
        settle_timeout=5.0,
        exit_timeout=10.0,
        checkpoint=None,
        checkpoint_capsules=1000,
        checkpoint_seconds=60.0,
    )


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("url", "chain.db", "chain.db"),
        ("agent_id", "bot", "bot"),
        ("domain", "finance", "finance"),
        ("content", "digest", "digest"),
        ("max_text", "100", 100),
        ("swallow_errors", "0", False),
        ("swallow_errors", "No", False),
        ("swallow_errors", "true", True),
        ("settle_timeout", "2.5", 2.5),
        ("settle_timeout", "0", 0.0),
        ("exit_timeout", "inf", math.inf),
        ("checkpoint", "/mnt/witness", "/mnt/witness"),
        ("checkpoint_capsules", "1", 1),
        ("checkpoint_seconds", "inf", math.inf),
    ],
)
def test_each_setting_has_a_variable(name: str, text: str, value: object) -> None:
    made = getattr(Settings.from_environment({}, {PREFIX + name.upper(): text}), name)
    assert (made, type(made)) == (value, type(value))


def test_an_argument_wins_over_its_variable_and_none_leaves_it_alone() -> None:
    environ = {"CAPSULE_SDK_DOMAIN": "variable", "CAPSULE_SDK_AGENT_ID": "variable"}
    made = Settings.from_environment({"domain": "argument", "agent_id": None}, environ)
    assert (made.domain, made.agent_id) == ("argument", "variable")
    quiet = Settings.from_environment(
        {"swallow_errors": False}, {"CAPSULE_SDK_SWALLOW_ERRORS": "1"}
    )
    assert quiet.swallow_errors is False


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert Settings.from_environment({}, {"CAPSULE_SDK_MAX_TEXT": ""}) == Settings()


BAD = [
    ("content", "ful", "'full', 'digest' or 'omit'"),
    ("max_text", "many", "a whole number of bytes, at least 1"),
    ("max_text", "1.5", "a whole number of bytes, at least 1"),
    ("max_text", "0", "a whole number of bytes, at least 1"),
    ("swallow_errors", "maybe", "1 or 0"),
    ("settle_timeout", "-1", "a number of seconds, at least 0"),
    ("settle_timeout", "nan", "a number of seconds, at least 0"),
    ("exit_timeout", "soon", "a number of seconds, at least 0"),
    ("checkpoint_capsules", "0", "a whole number of capsules, at least 1"),
    ("checkpoint_seconds", "-1", "a number of seconds, at least 0"),
]


@pytest.mark.parametrize(("name", "text", "accepted"), BAD)
def test_a_bad_variable_is_named_and_told_what_it_accepts(
    name: str, text: str, accepted: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({}, {PREFIX + name.upper(): text})
    assert f"{PREFIX}{name.upper()}=" in str(caught.value)
    assert accepted in str(caught.value)
    assert repr(text) in str(caught.value) or text in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content", "ful"),
        ("content", ["full"]),
        ("redact", "a text"),
        ("max_text", 0),
        ("max_text", 2.0),
        ("max_text", True),
        ("swallow_errors", "no"),
        ("settle_timeout", -0.1),
        ("settle_timeout", math.nan),
        ("settle_timeout", "5"),
        ("exit_timeout", True),
        ("checkpoint_capsules", 1.5),
        ("checkpoint_seconds", math.nan),
        ("agent_id", 7),
        ("domain", b"finance"),
        ("url", 7),
    ],
)
def test_a_bad_argument_is_named_and_told_what_it_accepts(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}=.*; give "):
        configure(**{name: value})
    with pytest.raises(ConfigurationError, match=rf"^{name}="):
        Settings(**{name: value})


def test_a_setting_that_does_not_exist_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match="settle_timout=; did you mean settle_timeout="):
        Settings.from_environment({"settle_timout": 1}, {})
    with pytest.raises(ConfigurationError, match="it takes url, agent_id, domain, content"):
        Settings.from_environment({"zzz": 1}, {})


@pytest.mark.parametrize("url", ["mysql://host/db", ":memory:", "sqlite://x", "file:a.db"])
def test_a_store_that_cannot_be_used_is_refused_at_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="give a path"):
        configure(url=url)
    monkeypatch.setenv("CAPSULE_SDK_URL", url)
    with pytest.raises(ConfigurationError, match="^CAPSULE_SDK_URL: .*give a path"):
        configure()


def test_a_relative_path_means_the_directory_at_the_time_of_configure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    configure(url="audit.db")
    monkeypatch.chdir(tmp_path / "there")
    with capsule_scope("task"):
        pass
    assert flush() == 0
    assert len(list(read_chain(tmp_path / "here" / "audit.db"))) == 1


def test_without_anything_qp_capsules_own_default_is_used(tmp_path: Path) -> None:
    with capsule_scope("task"):
        pass
    assert flush() == 0
    assert len(list(read_chain(tmp_path / "capsules.db"))) == 1


def test_variables_reach_the_capsules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "URL": f"sqlite:///{tmp_path}/named.db",
        "AGENT_ID": "bot",
        "DOMAIN": "finance",
        "CONTENT": "omit",
    }.items():
        monkeypatch.setenv(PREFIX + name, text)
    with capsule_scope("task", request="secret plan"):
        pass
    assert flush() == 0
    (made,) = read_chain(tmp_path / "named.db")
    assert (made["context"]["agent_id"], made["domain"]) == ("bot", "finance")
    assert made["trigger"]["request"] == "[omitted]"


@pytest.mark.parametrize(
    ("text", "disabled"), [("1", True), ("ON", True), ("0", False), ("", False), (" no ", False)]
)
def test_disabled(text: str, disabled: bool, chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSULE_SDK_DISABLED", text)
    assert is_disabled() is disabled
    with capsule_scope("task"):
        assert current_task().recording is not disabled
    assert len(chain.capsules()) == int(not disabled)


@pytest.mark.internal_errors
def test_a_disabled_variable_that_says_neither_yes_nor_no_is_an_error_that_breaks_no_call(
    chain: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CAPSULE_SDK_DISABLED", "maybe")
    with pytest.raises(ConfigurationError, match="CAPSULE_SDK_DISABLED='maybe'.*1 or 0"):
        is_disabled()
    with capsule_scope("task"):
        pass
    assert "CAPSULE_SDK_DISABLED" in caplog.text
