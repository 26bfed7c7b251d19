"""A Celery application without a server: its queue is a directory, its results are files.

Each task of it is a task of ours, with one call to a model under it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import celery

from capsule_sdk import capsule_scope, capsuled

if "CAPSULE_SDK_DISABLED" not in os.environ:  # who only gives work needs no LiteLLM
    import litellm

    from capsule_sdk import CapsuleLogger

    litellm.callbacks = [CapsuleLogger()]
PLACE = Path(os.environ["BROKER"])
for name in ("queue", "control", "results"):
    (PLACE / name).mkdir(exist_ok=True)

app: Any = celery.Celery("agents", broker="filesystem://", backend=f"file://{PLACE}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{PLACE}/queue",
    "data_folder_out": f"{PLACE}/queue",
    "control_folder": f"{PLACE}/control",
    "store_processed": False,
}
app.conf.task_default_queue = "agents"


def call(name: str, word: str, **more: Any) -> None:
    messages = [{"role": "user", "content": f"{name} {word}"}]
    litellm.completion(
        model="openai/gpt-4o",
        api_key="k",
        api_base=os.environ["PROVIDER"],
        max_retries=0,
        messages=messages,
        **more,
    )


@app.task
@capsuled(name="job", request_from="name")
def ask(name: str, word: str = "") -> int:
    (PLACE / f"begun-{name}").touch()
    call(name, word)
    return os.getpid()


@app.task(bind=True, max_retries=1)
@capsuled(name="job", request_from="name")
def ask_again(self: Any, name: str) -> int:
    (PLACE / f"begun-{name}-{self.request.retries}").touch()
    call(name, "")
    if not self.request.retries:
        raise self.retry(countdown=0)
    return os.getpid()


if "RECORD_FIRST" in os.environ:  # in the worker's main process, before its pool is forked
    with capsule_scope("import"):
        # Not over HTTP: the processes would share the connection that LiteLLM keeps open.
        call("import", "", mock_response="hi")
