"""What the README shows is true: its Python runs, its commands exist, its settings are all there are."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import litellm
import pytest
from recording import begin_task, end

from capsule_sdk.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_python_snippet_runs(
    chain: Any, snippet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "callbacks", [])
    end(chain.recorder, begin_task(chain.recorder))  # so that there is a chain to look at
    chain.capsules()
    exec(compile(snippet, "README.md", "exec"), {"__name__": "readme"})


def test_the_snippet_about_tasks_leaves_the_tree_it_describes(chain: Any) -> None:
    exec(compile(SNIPPETS[2], "README.md", "exec"), {"__name__": "readme"})
    tool, facts, plan = chain.capsules()
    assert [one["trigger"]["source"] for one in (tool, facts, plan)] == [
        "look_up",
        "check facts",
        "plan",
    ]
    assert (tool["parent_id"], facts["parent_id"]) == (facts["id"], plan["id"])
    assert tool["authority"]["policy_reference"] == "data-use-7"
    assert {one["context"]["session_id"] for one in (tool, facts, plan)} == {"trip-1"}


def test_the_table_of_settings_names_each_of_them() -> None:
    table = README[README.index("## Settings") : README.index("## Work on it")]
    for field in dataclasses.fields(Settings):
        assert f"`{field.name}`" in table


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    commands = re.findall(r"```console\nmake (\w+)\n", README)
    assert commands == ["demo", "test"]
    assert all(re.search(rf"^{command}:", makefile, re.MULTILINE) for command in commands)
