"""One process that imports all there is and records nothing, and is forked for each program of
`crash_programs`.

Each line it reads is a job: a program to run in a child, which it answers with its pid; or a child to wait
for, which it answers with its exit code. With a job's ``fault`` the child's own input and output fail
(`faulty_io`), in its data directory only.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import os
import signal
import sys
import threading
from typing import Any

import crash_programs
import faulty_io
import litellm

import capsule_sdk
import capsule_sdk.chain
import capsule_sdk.recording.outbox
from capsule_sdk.adapters.litellm import CapsuleLogger


def import_the_rest() -> None:
    """Import what LiteLLM puts off until its first calls, not making them here: they leave threads."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(2, 1)
        before = set(sys.modules)
        hi: dict[str, Any] = {**crash_programs.HI, "mock_response": "hi"}
        stream: Any = litellm.completion(**hi, stream=True)
        list(stream)
        asyncio.run(litellm.acompletion(**hi))
        os.write(write, json.dumps(sorted(set(sys.modules) - before)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as found:
        names: list[str] = json.load(found)
    os.waitpid(pid, 0)
    for name in [*names, "litellm.litellm_core_utils.custom_logger_registry"]:
        try:
            importlib.import_module(name)
        except Exception:  # LiteLLM can do without it too
            continue


def next_job() -> dict[str, Any] | None:
    """Return the next job, in the child that is to do it; nothing where there are no more."""
    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        if "wait" in job:
            answer = os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1])
        elif not (answer := os.fork()):
            return job
        print(answer, flush=True)
    return None


def do(job: dict[str, Any]) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.alarm(100)  # no program hangs for ever
    os.environ["QUANTUMPIPES_DATA_DIR"] = job["directory"]
    logging.basicConfig(stream=sys.stderr, format="%(name)s|%(levelname)s|%(message)s")
    crash_programs.begin(job)
    capsule_sdk.configure(url=job["database"])
    litellm.callbacks = [CapsuleLogger()]
    if "uid" in job:
        os.setresuid(job["uid"], job["uid"], job["uid"])
    if "fault" in job:
        faulty_io.arm(job["directory"], **job["fault"])
    crash_programs.PROGRAMS[job["program"]](job)


litellm.suppress_debug_info = True
import_the_rest()
assert threading.active_count() == 1
gc.collect()
gc.freeze()  # a program's end does not look through all of LiteLLM
print("ready", flush=True)
if (job := next_job()) is not None:
    do(job)
