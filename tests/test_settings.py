"""Settings: each by argument and by variable, and a message that says what is accepted where it is not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from capsule_sdk import capsule_scope, configure, current_task, flush, logs, shutdown
from capsule_sdk.errors import ConfigurationError, RecordingError
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.settings import PREFIX, Settings, is_disabled


@pytest.fixture(autouse=True)
def _nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_told", set())


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
def test_a_bad_variable_is_said_once_with_what_it_accepts_and_what_stands_in_for_it(
    caplog: pytest.LogCaptureFixture, name: str, text: str, accepted: str
) -> None:
    variable = PREFIX + name.upper()
    made = Settings.from_environment({}, {variable: text})
    instead = {"content": "omit"}.get(name, getattr(Settings(), name))
    assert getattr(made, name) == instead
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"{variable}={text!r} cannot be used; give {accepted}; until then it is" in said
    assert repr(instead) in said
    Settings.from_environment({}, {variable: text})
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("name", "text", "accepted"), BAD)
def test_a_bad_variable_raises_in_strict_mode(name: str, text: str, accepted: str) -> None:
    variable = PREFIX + name.upper()
    if name == "swallow_errors":
        return  # what it says is not known to be strict
    with pytest.raises(ConfigurationError, match=f"{variable}=.*{accepted}"):
        Settings.from_environment({"swallow_errors": False}, {variable: text})
    with pytest.raises(ConfigurationError, match=variable):
        Settings.from_environment({}, {variable: text, "CAPSULE_SDK_SWALLOW_ERRORS": "0"})
    given = {name: getattr(Settings(), name), "swallow_errors": False}
    assert Settings.from_environment(given, {variable: text}) == Settings(swallow_errors=False)


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("CAPSULE_SDK_AGENTID", "did you mean CAPSULE_SDK_AGENT_ID"),
        ("CAPSULE_SDK_DISABELD", "did you mean CAPSULE_SDK_DISABLED"),
        ("CAPSULE_SDK_CHECKPOINTS", "did you mean CAPSULE_SDK_CHECKPOINT"),
        ("CAPSULE_SDK_REDACT", "redact=..."),
        ("CAPSULE_SDK_ZZZZZZ", "there is no such setting"),
    ],
)
def test_an_unknown_variable_is_said_with_a_suggestion(
    caplog: pytest.LogCaptureFixture, variable: str, hint: str
) -> None:
    Settings.from_environment({}, {variable: "x", "CAPSULE_SDKX": "not ours", "PATH": "/bin"})
    assert hint in caplog.text
    assert variable in caplog.text
    assert "NOT_OURS" not in caplog.text
    with pytest.raises(ConfigurationError, match=variable):
        Settings.from_environment({"swallow_errors": False}, {variable: "x"})


@pytest.mark.parametrize(
    ("environ", "content", "messages"),
    [
        ({"CONTENT": "omitt"}, "omit", "hash"),
        ({"CONTNET": "omit"}, "omit", "hash"),
        ({"REDACT": "my.module:redact"}, "omit", "hash"),
        ({"MESSAGES": "ful"}, "full", "hash"),
        ({"MESAGES": "hash"}, "full", "hash"),
        ({"CONTNET": "omit", "CONTENT": "digest"}, "digest", "hash"),
    ],
)
def test_what_cannot_be_understood_never_seals_more_than_was_asked_for(
    environ: dict[str, str], content: str, messages: str
) -> None:
    made = Settings.from_environment({}, {PREFIX + name: text for name, text in environ.items()})
    assert (made.content, made.messages) == (content, messages)
    clear = Settings.from_environment(
        {"content": "full", "redact": str.upper},
        {PREFIX + name: text for name, text in environ.items()},
    )
    assert clear.content == "full"


@pytest.mark.internal_errors
def test_recording_goes_on_beside_a_wrong_variable_and_strict_mode_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CAPSULE_SDK_MAX_TEXT", "abc")
    monkeypatch.setenv("CAPSULE_SDK_DISABLED", "perhaps")
    for _ in range(3):
        with capsule_scope("task"):
            pass
    assert flush() == 0
    assert len(list(read_chain(tmp_path / "capsules.db"))) == 3
    assert caplog.text.count("MAX_TEXT") == caplog.text.count("DISABLED") == 1
    shutdown()
    monkeypatch.setenv("CAPSULE_SDK_SWALLOW_ERRORS", "0")
    with pytest.raises(RecordingError, match="CAPSULE_SDK_MAX_TEXT"), capsule_scope("task"):
        pytest.fail("it ran")


def test_a_url_in_a_variable_that_is_no_store_loses_nothing_and_says_where_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for url in ("mysql://host/db", str(tmp_path)):
        monkeypatch.setenv("CAPSULE_SDK_URL", url)
        shutdown()
        with capsule_scope("task"):
            pass
        assert flush() == 0
    assert len(list(read_chain(tmp_path / "capsules.db"))) == 2
    assert "qp-capsule's own database" in caplog.text
    assert "is a directory" in caplog.text
    with pytest.raises(ConfigurationError, match="is a directory; name a file in it"):
        configure(url=tmp_path)
    with pytest.raises(ConfigurationError, match="CAPSULE_SDK_URL: .*is a directory"):
        configure(swallow_errors=False)


@pytest.mark.parametrize("kind", ["path", "text", "url"])
def test_a_store_may_stand_in_the_place_of_capsules(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "named.db"
    given: Any = {"path": file, "text": str(file), "url": f"sqlite:///{file}"}[kind]
    assert configure(given).identity() == f"sqlite:///{file}"
    with pytest.raises(ConfigurationError, match="give one of them"):
        configure(given, url=file)


def test_a_server_may_stand_in_the_place_of_capsules_and_its_password_is_shown_nowhere() -> None:
    recorder = configure("postgresql://ana:geheim@db.example/audit?password=geheim2")
    assert recorder.identity() == "postgresql://db.example:5432/audit"
    assert "geheim" not in repr(recorder.settings)
    assert "db.example/audit" in repr(recorder.settings)
    assert "url=None" in repr(Settings())


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
        configure(settle_timout=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="agentid=; did you mean agent_id="):
        configure(agentid="a")  # type: ignore[arg-type]
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
        configure(swallow_errors=False)


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


def test_a_disabled_variable_that_says_neither_yes_nor_no_does_not_switch_recording_off(
    chain: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CAPSULE_SDK_DISABLED", "maybe")
    assert is_disabled() is False
    configure(chain.url)
    with capsule_scope("task"):
        pass
    assert "CAPSULE_SDK_DISABLED" in caplog.text
