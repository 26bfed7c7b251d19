"""Notebooks: cells that record, are interrupted, reloaded, and whose kernel is killed; and plain IPython."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chain_support import assert_one_unbroken_chain
from notebooks import Notebook, opened, storm
from provider import Provider

from capsule_sdk.evidence.exporting.export import read_chain

pytest.importorskip("ipykernel", reason="ipykernel is not installed")
pytest.importorskip("jupyter_client", reason="jupyter_client is not installed")
SEED = 20261130


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    with opened(tmp_path) as kernel:
        yield kernel


def chain(notebook: Notebook) -> list[Any]:
    capsules = list(read_chain(notebook.db))
    assert_one_unbroken_chain(notebook.db, len(capsules))
    return capsules


def sources(notebook: Notebook) -> list[str]:
    return [one["trigger"]["source"] for one in chain(notebook)]


def test_cells_record_scopes_functions_streams_and_awaits_and_no_cell_has_the_scope_of_another(
    tmp_path: Path,
) -> None:
    with Provider() as provider, opened(tmp_path, PROVIDER=provider.base_url) as notebook:
        notebook.run(
            "import asyncio, os, litellm\n"
            "from capsule_sdk import CapsuleLogger, capsule_scope, capsuled, current_task, flush\n"
            "litellm.callbacks = [CapsuleLogger()]\n"
            "ask = dict(model='openai/gpt-4o', api_key='k', api_base=os.environ['PROVIDER'],\n"
            "           messages=[{'role': 'user', 'content': 'hi'}], max_retries=0)\n"
            "@capsuled(name='sync')\n"
            "def sync(): return litellm.completion(**ask)\n"
            "@capsuled(name='streamed')\n"
            "def streamed():\n"
            "    yield from litellm.completion(**ask, stream=True)\n"
            "@capsuled(name='awaited')\n"
            "async def awaited(): return await litellm.acompletion(**ask)\n"
        )
        notebook.run("sync()")
        notebook.run("with capsule_scope('scope'):\n    sync(); list(streamed())")
        notebook.run("async with capsule_scope('async'):\n    await awaited()")
        notebook.run("await asyncio.gather(awaited(), awaited())")
        notebook.run("left = asyncio.create_task(awaited())")
        notebook.run("await left")
        assert notebook.run("task = current_task().id", "task is None or flush()") in (0, True)
        assert notebook.run("", "flush()") == 0
        capsules = chain(notebook)
    by_id = {one["id"]: one for one in capsules}
    pairs = sorted(
        (one["trigger"]["source"], by_id[one["parent_id"]]["trigger"]["source"])
        if one["parent_id"]
        else (one["trigger"]["source"], "")
        for one in capsules
    )
    assert pairs == sorted(
        [("litellm", "sync")] * 2 + [("litellm", "streamed")] + [("litellm", "awaited")] * 4
        + [("sync", ""), ("sync", "scope"), ("streamed", "scope"), ("scope", "")]
        + [("async", ""), ("awaited", "async"), ("awaited", ""), ("awaited", ""), ("awaited", "")]
    )  # fmt: skip
    assert {one["outcome"]["status"] for one in capsules} == {"success"}


def test_ctrl_c_at_random_moments_leaves_no_scope_current_and_loses_nothing(
    notebook: Notebook,
) -> None:
    hits, problems = storm(notebook, random.Random(SEED), time.monotonic() + 30, 60)
    assert hits
    assert not problems


def test_a_kernel_that_is_killed_leaves_its_records_to_the_next_one(notebook: Notebook) -> None:
    notebook.run("from capsule_sdk import capsule_scope, flush\nwith capsule_scope('before'): pass")
    notebook.run("flush()\nopen_one = capsule_scope('open'); open_one.__enter__()")
    notebook.run("with capsule_scope('ended'): pass")
    notebook.restart()
    notebook.run("from capsule_sdk import capsule_scope, flush\nwith capsule_scope('next'): pass")
    until = time.monotonic() + 20
    while len(sources(notebook)) < 4 and time.monotonic() < until:
        notebook.run("", "flush()")
    found = {one["trigger"]["source"]: one for one in chain(notebook)}
    assert sorted(found) == ["before", "ended", "next", "open"]
    assert found["open"]["outcome"]["error"] == "process ended before completion"
    assert found["ended"]["outcome"]["status"] == "success"


MODULE = """
import os
from capsule_sdk import capsuled
{statement}

@capsuled(name="edited")
def edited(): return {value}

class Agent:
    @capsuled(name="method")
    def method(self): return {value}

    @capsuled(name="method", request_from="text")
    def of_any_name(me, text): return {value}
"""


@pytest.mark.parametrize("statement", ["", "os.environ['VALUE'] = '{value}'"], ids=["some", "all"])
def test_a_module_that_is_edited_and_reloaded_is_recorded_with_its_new_code(
    notebook: Notebook, tmp_path: Path, statement: str
) -> None:
    """IPython reloads only what was edited, or all of the module where statements of it were."""
    module = tmp_path / "edited_module.py"
    source = MODULE.replace("{statement}", statement)
    module.write_text(source.format(value=1))
    notebook.run("%load_ext autoreload\n%autoreload 2\nimport edited_module")
    notebook.run(
        "from edited_module import edited\nagent = edited_module.Agent(); bound = agent.method"
    )
    seen = (
        "(edited_module.edited(), edited(), edited_module.Agent().method(), agent.method(), bound(),"
        " agent.of_any_name('text'))"
    )
    assert notebook.run("", seen) == (1,) * 6
    for value in (22, 333):
        module.write_text(source.format(value=value))
        os.utime(module, (time.time() + value, time.time() + value))
        assert notebook.run("pass", seen) == (value,) * 6
    assert notebook.run("from capsule_sdk import flush", "flush()") == 0
    assert sources(notebook) == [*["edited"] * 2, *["method"] * 4] * 3
    texts = [one["trigger"]["request"] for one in chain(notebook)]
    assert texts.count("text") == 3


def test_an_event_loop_inside_of_the_kernels_own_has_its_own_tasks(notebook: Notebook) -> None:
    pytest.importorskip("nest_asyncio", reason="nest_asyncio is not installed")
    notebook.run(
        "import asyncio, nest_asyncio\nnest_asyncio.apply()\n"
        "from capsule_sdk import capsule_scope, capsuled, flush\n"
        "@capsuled(name='inner')\n"
        "async def inner(): await asyncio.sleep(0.01)\n"
        "@capsuled(name='outer')\n"
        "async def outer():\n"
        "    asyncio.run(inner())\n"
        "    asyncio.get_event_loop().run_until_complete(inner())\n"
        "    await inner()\n"
    )
    notebook.run("asyncio.run(outer())\nwith capsule_scope('scope'): asyncio.run(outer())")
    assert notebook.run("await outer()", "flush()") == 0
    capsules = chain(notebook)
    by_id = {one["id"]: one["trigger"]["source"] for one in capsules}
    inner = [one for one in capsules if one["trigger"]["source"] == "inner"]
    assert len(inner) == 9
    assert {by_id[one["parent_id"]] for one in inner} == {"outer"}
    assert len(capsules) == 13


def test_plain_ipython_records_cells_and_ends_well(tmp_path: Path) -> None:
    code = (
        "import asyncio\nfrom capsule_sdk import capsule_scope, capsuled\n"
        "@capsuled(name='awaited')\nasync def awaited(): await asyncio.sleep(0)\n"
        "await awaited()\nwith capsule_scope('scope'): pass\n"
    )
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "-c", code],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    capsules = list(read_chain(tmp_path / "capsules.db"))
    assert [one["trigger"]["source"] for one in capsules] == ["awaited", "scope"]
