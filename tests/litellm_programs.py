"""Small programs with LiteLLM and a logger, run to the end of their process. LiteLLM takes seconds to import,
and as many for its first call: one process imports it all, and is forked for each program, before anything
else has happened in it.

The pool for LiteLLM's own callbacks holds 50 in there, as ``LOGGING_EXECUTOR_MAX_PENDING_TASKS`` says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from provider import Provider

SOURCE = """
import gc, json, os, signal, sys, threading
import litellm
import capsule_sdk
from capsule_sdk.adapters.litellm import CapsuleLogger

def scout():
    "Make LiteLLM import what it puts off until its first calls; return what that was."
    before = set(sys.modules)
    hi = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    far = {"api_base": "http://127.0.0.1:9", "api_key": "sk-test", "max_retries": 0}
    for call in (litellm.completion, lambda **o: asyncio.run(litellm.acompletion(**o))):
        call(**hi, mock_response="hi")
        try:
            call(**hi, **far)
        except litellm.InternalServerError:
            pass
    list(litellm.completion(**hi, mock_response="hi", stream=True))
    return sorted(set(sys.modules) - before)

import asyncio, importlib, pydantic, sqlalchemy, qp_capsule, capsule_sdk.chain
read, write = os.pipe()
pid = os.fork()
if not pid:
    os.dup2(2, 1)
    os.write(write, json.dumps(scout()).encode())
    os._exit(0)
os.close(write)
with os.fdopen(read) as found:
    # The last one is imported by a callback, slowly: a program that forks meanwhile would hang its child.
    for name in [*json.load(found), "litellm.litellm_core_utils.custom_logger_registry"]:
        try:
            importlib.import_module(name)
        except Exception:
            pass
os.waitpid(pid, 0)

assert threading.active_count() == 1
gc.collect()
gc.freeze()  # a program's end does not look through all of LiteLLM
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if not pid:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    sys.exit(0)

os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for number, name in ((1, "stdout"), (2, "stderr")):
    os.dup2(os.open(os.path.join(job["dir"], name), os.O_WRONLY | os.O_CREAT, 0o600), number)
signal.alarm(60)  # no program hangs
os.environ["QUANTUMPIPES_DATA_DIR"] = job["dir"]
os.environ["CAPSULE_SDK_URL"] = os.path.join(job["dir"], "capsules.db")

import time
from capsule_sdk import capsule_scope, capsuled
litellm.suppress_debug_info = True

def settled():
    "Wait for LiteLLM's pool: what it is importing during a fork would hang the child."
    pool, until = litellm.utils.executor, time.monotonic() + 20
    while pool._idle_semaphore._value < len(pool._threads) and time.monotonic() < until:
        time.sleep(0.01)

def options(text, more):
    message = {"role": "user", "content": text}
    return {"model": "openai/gpt-4o", "messages": [message], "max_retries": 0, **job["at"], **more}

def ask(text="hi", **more):
    return litellm.completion(**options(text, more))

async def aask(text="hi", **more):
    return await litellm.acompletion(**options(text, more))

def interrupt_after(seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()

exec(compile(job["first"], "<first>", "exec"))
litellm.callbacks = [CapsuleLogger()]
exec(compile(job["program"], "<program>", "exec"))
"""


class Done(NamedTuple):
    """A program that has ended."""

    code: int
    stdout: str
    stderr: str


class Programs:
    """Runs programs; ``ask`` and ``aask`` in them go to the provider at ``base_url``."""

    def __init__(self) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if "CAPSULE" not in name},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "PYTHONWARNINGS": "ignore",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "CRITICAL",
            "LOGGING_EXECUTOR_MAX_PENDING_TASKS": "50",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", SOURCE],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        directory: Path,
        base_url: str,
        program: str,
        *,
        first: str = "",
        code: int | set[int] = 0,
    ) -> Done:
        """Run a program whose chain is in ``directory``; it must end with this exit code, or one of these.

        What comes ``first`` is run before there is a logger.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        at: dict[str, Any] = {"api_base": base_url, "api_key": "sk-test"}
        job = {"dir": str(directory), "at": at, "program": program, "first": first}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        out, err = ((directory / name).read_text() for name in ("stdout", "stderr"))
        codes = code if isinstance(code, set) else {code}
        assert int(answer) in codes, f"exit code {answer.strip()}\n{out}\n{err}"
        return Done(int(answer), out, err)

    def stop(self) -> None:
        self._process.communicate("")


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    programs = Programs()
    yield programs
    programs.stop()


@pytest.fixture(scope="session")
def far_provider() -> Iterator[Any]:
    """A provider in a process of its own."""
    with Provider.start_process() as provider:
        yield provider
