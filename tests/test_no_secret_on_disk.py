"""No secret in a label or another text of a record is in any file at any time: open, killed, recovered."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chain_support import ROOT
from provider import Provider
from recording import make_task

from capsule_sdk.content import ContentPolicy
from capsule_sdk.records import state as states
from capsule_sdk.records.attribution import Attribution
from capsule_sdk.records.authority import Authority
from capsule_sdk.records.call import Answer, LLMCall, Request
from capsule_sdk.records.capsules import capsule_of
from capsule_sdk.settings import Settings

#: In every secret of this module; put together, so that no scanner takes the file for a leak.
CANARY = "Zw8sword" + "fish"

# Takes the options from their declarations, and a task's methods from its class: a new one is tried as well.
PROGRAM = """
import contextlib, inspect, itertools, json, os, sys
import litellm
from capsule_sdk import CapsuleLogger, capsule_scope, capsuled, configure, current_task, flush
from capsule_sdk.records.task import Task
from capsule_sdk.scopes.options import ScopeOptions, TaskOptions

numbers = itertools.count()
CANARY = "Zw8sword" + "fish"
def secret(where):
    return f"{where} token={CANARY}{next(numbers)}"

AUTHORITY = {"approver": "human-approved", "policy_reference": "policy", "escalation_reason": "escalated"}
SKIPPED = {"authority", "capsule_type", "record", "capture_args", "capture_result", "request_from"}

def options(declared):
    for name in declared.__annotations__:
        if name == "environment":
            yield {name: {secret("key"): secret("fact"), "url": f"https://u:{CANARY}@h"}}
        elif name not in SKIPPED:
            short = {"tenant_id": f"token={CANARY}", "domain": f"a token={CANARY}"}
            more = {"authority": AUTHORITY[name]} if name in AUTHORITY else {}
            yield {name: short.get(name) or secret(name), **more}

configure(agent_id=secret("agent"), domain=f"token={CANARY}", content=sys.argv[2])
litellm.callbacks = [CapsuleLogger()]
def ask(**more):
    try:
        messages = [{"role": "user", "content": secret("asked")}]
        litellm.completion(**{"model": "openai/gpt-4o", "messages": messages, "api_base": sys.argv[1],
                              "api_key": "sk-x", "max_retries": 0, **more})
    except Exception:
        pass

def write(task):
    for name, method in inspect.getmembers(Task, inspect.isfunction):
        if name in ("reason", "tool", "side_effect", "metric", "block"):
            given = {p: secret(p) for p in list(inspect.signature(method).parameters)[1:]
                     if p not in ("confidence", "duration_ms", "options")}
            method(task, **given)
    task.reason(options=[secret("option"), {"id": secret("id"), "pros": [secret("pro")]}])
    task.summary = secret("summary")

for given in options(ScopeOptions):
    with capsule_scope(secret("scope"), **given) as task:
        write(task)
        ask(user=secret("user"))
for given in options(TaskOptions):
    @capsuled(**given)
    def work(a, **more):
        write(current_task())
        raise ValueError(secret("raised"))
    try:
        work(secret("argument"), **{secret("name"): secret("value")})
    except ValueError:
        pass
SHAPES = [f"<password>{CANARY}</password>", f"mysql -p{CANARY} db", f"password: |\\n  {CANARY}",
          f"x%26token%3D{CANARY}", f"| token | {CANARY} |", f"curl -u ana:{CANARY} h",
          f"machine h login a password {CANARY}", f"ENV API_KEY {CANARY}"]
@capsuled
def shaped(text, *more):
    print(repr(current_task()), file=sys.stderr)
    if more:
        raise RuntimeError(text, json.dumps(text)) from ValueError([text])
    return {"nested": [json.dumps({"a": json.dumps(text)})], "long": "word " * 4000 + text}
for shape in SHAPES:
    shaped(shape)
    with contextlib.suppress(RuntimeError):
        shaped(json.dumps(shape), ["mysql", "-p" + CANARY], {"pass_": CANARY})
ask(messages=[{"role": "user", "content": " and ".join(SHAPES)}])
ask(model="openai/token=" + CANARY)
NAMED = ("session_id", "user_id", "correlation_id", "trace_id", "tags", "model_group")
ask(metadata={name: secret(name) for name in NAMED})
ask(litellm_session_id=secret("session"), litellm_trace_id=secret("trace"), litellm_call_id=secret("call"))
scopes = [capsule_scope(secret("open"), **given) for given in options(ScopeOptions)]
for scope in scopes:
    write(scope.__enter__())
@capsuled
def waits(a):
    write(current_task())
    print("open", next(numbers), flush=True)
    sys.stdin.read()
waits(secret("argument"))
"""


def leaks(directory: Path) -> list[str]:
    """Return where a secret stands: the file, and what is around it."""
    found = []
    for path in directory.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        found += [
            f"{path.name}: {data[max(0, at.start() - 60) : at.end()]!r}"
            for at in re.finditer(CANARY.encode(), data)
        ]
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("content", ["full", "digest"])
def test_no_file_holds_a_secret_while_records_are_open_when_killed_or_recovered(
    tmp_path: Path, content: str
) -> None:
    environ = {
        **os.environ,
        "QUANTUMPIPES_DATA_DIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    with Provider() as provider:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, provider.base_url, content],
            env=environ, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith(b"open"), said
            assert int(said.split()[1]) > 200
            assert leaks(tmp_path) == []
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            assert any(tmp_path.rglob("records-*"))  # what was open is known there alone
            assert leaks(tmp_path) == []
        finally:
            process.kill()
            process.communicate()
    command = [sys.executable, "-m", "capsule_sdk.cli"]
    subprocess.run([*command, "recover"], env=environ, cwd=tmp_path, check=False, timeout=60)
    out = subprocess.run(
        [*command, "verify"],
        env=environ,
        cwd=tmp_path,
        check=False,
        timeout=60,
        capture_output=True,
    )
    assert out.returncode == 0, out
    assert leaks(tmp_path) == []


def canaries(cls: type, **given: Any) -> Any:
    """Return a dataclass with a secret in each of its texts."""
    texts = {
        field.name: f"{field.name} password={CANARY}"
        for field in dataclasses.fields(cls)
        if field.name not in given and str(field.type) in ("str", "str | None")
    }
    return cls(**{**texts, **given})


AUTHORITY = canaries(Authority, type="escalated")
BELONGS_TO = canaries(Attribution, authority=AUTHORITY, overridden=(AUTHORITY, AUTHORITY))


def records() -> list[Any]:
    task = make_task(f"password={CANARY}", attribution=BELONGS_TO)
    task.tool(f"password={CANARY}")
    call = LLMCall(
        Request(f"password={CANARY}", f"password={CANARY}", "", None, 0),
        parent=task, attribution=BELONGS_TO, capsule_type="chat", policy=ContentPolicy(),
    )  # fmt: skip
    call.attempts = [f"password={CANARY}", "other"]
    call.answer = Answer("hi")
    for record in (task, call):
        record.settle("success")
    return [task, call]


def test_the_repr_of_settings_holds_no_secret() -> None:
    shown = repr(Settings.from_environment({"agent_id": f"token={CANARY}"}, {}))
    assert CANARY not in shown
    assert "agent_id='token=[secret]'" in shown


def test_nothing_that_is_made_of_a_record_holds_a_secret() -> None:
    task, call = records()
    for record in (task, call):
        for make in (states.beginning, states.ending, states.missing, states.state):
            assert CANARY not in json.dumps(make(record)), make
        assert CANARY not in json.dumps(capsule_of(record).to_dict())
    assert CANARY not in json.dumps(states.note(task, "tool_calls"))


def test_an_old_journal_with_secrets_in_its_labels_is_cleaned_when_it_is_sealed() -> None:
    for record in records():
        ended = states.ending(record)
        raw = json.loads(json.dumps(states.beginning(record)).replace("[secret]", CANARY))
        assert CANARY in raw["for"]["session_id"]
        again = states.restored(raw, [], ended)
        assert CANARY not in json.dumps(capsule_of(again).to_dict())


@pytest.mark.parametrize("length", [500, 520, 600, 640, 641, 900, 5000])
@pytest.mark.parametrize("letter", ["x", "é", "password=a "])
def test_a_record_that_was_read_again_has_the_same_labels(length: int, letter: str) -> None:
    long = (letter * length)[:length]
    belongs_to = Attribution(agent_id=long, authority=Authority("escalated", None, None, long))
    task = make_task(long, attribution=belongs_to)
    task.settle("success")
    again = states.restored(states.beginning(task), [], states.ending(task))
    assert capsule_of(again).to_dict() == capsule_of(task).to_dict()
    assert len(task.name.encode()) <= 640


# -- texts that people write are content ---------------------------------------------------------------


def test_why_an_authority_was_escalated_is_content() -> None:
    belongs_to = Attribution(
        authority=Authority("escalated", None, None, "Jane Doe asked"),
        overridden=(Authority("escalated", None, None, "Jane Doe before"),),
        environment={"note": "of Jane Doe", "n": 3, "inner": {"who": ["Jane Doe"]}, "closed_parent": "4a"},
    )  # fmt: skip
    told: dict[str, Any] = {}
    for policy in (
        ContentPolicy("omit"),
        ContentPolicy("digest"),
        ContentPolicy(redact=lambda text: text.replace("Jane Doe", "#")),
    ):
        sealed = belongs_to.sealed_under(policy)
        assert "Jane Doe" not in repr(sealed)
        assert sealed.environment["n"] == 3
        assert sealed.environment["closed_parent"] == "4a"
        assert sealed.sealed_under(ContentPolicy()) == sealed  # as a journal is read again
        told[policy.mode] = sealed.authority and sealed.authority.escalation_reason
    assert told["omit"] == "[omitted]"
    assert told["digest"].startswith("sha3-256:")
    assert told["full"] == "# asked"
    assert belongs_to.sealed_under(ContentPolicy()) == belongs_to
