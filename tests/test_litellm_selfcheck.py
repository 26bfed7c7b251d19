"""Parts of LiteLLM that are still there and no longer used are found when the logger is made, and said.

A part is taken away as a newer LiteLLM does it: its users call it by another name, and the old one stays as an
alias. The functions are LiteLLM's own; only the name that their code looks up is another one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from litellm_support import pairs

from capsule_sdk.evidence.exporting.export import read_chain

if TYPE_CHECKING:
    from litellm_programs import Done, Programs

pytest_plugins = ["litellm_support", "litellm_programs"]

#: Renames a part in all code of LiteLLM that looks it up, and keeps the old name as an alias.
RENAME = """
import gc, types, litellm.caching.caching_handler, litellm.utils
from litellm.main import completion as kept, acompletion as akept

def renamed(code, old, new):
    names = tuple(new if name == old else name for name in code.co_names)
    consts = tuple(
        renamed(const, old, new) if isinstance(const, types.CodeType) else const
        for const in code.co_consts
    )
    if (names, consts) == (code.co_names, code.co_consts):
        return code
    return code.replace(co_names=names, co_consts=consts)

def rename(owner, old):
    new = f"{old}_of_tomorrow"
    setattr(owner, new, getattr(owner, old))
    changed = {}
    gc.unfreeze()
    for function in gc.get_objects():
        if isinstance(function, types.FunctionType) and str(function.__module__).startswith("litellm"):
            code = function.__code__
            if code not in changed:
                changed[code] = renamed(code, old, new)
            function.__code__ = changed[code]
    gc.freeze()
"""

TELL = """
import json, subprocess, sys
with capsule_scope("kept"):
    kept(**options("hi", {}))
    time.sleep(0.3)
litellm.completion(**options("hi", {}))
CapsuleLogger()
recorder = capsule_sdk.get_recorder()
with capsule_scope("open"):
    time.sleep(0.6)
    status = subprocess.run(
        [sys.executable, "-m", "capsule_sdk.cli", "status", "--json"], capture_output=True, text=True
    )
assert capsule_sdk.flush(10) == 0
trouble = json.loads(status.stdout)["trouble"]
print(json.dumps({"gaps": recorder.stats().gaps, "status": trouble, "code": status.returncode}))
"""

HANDLER = "litellm.caching.caching_handler.LLMCachingHandler"
#: A part of each kind, and its owner.
PARTS = [
    ("litellm.utils", "function_setup"),
    (HANDLER, "sync_get_cache"),
    (HANDLER, "async_get_cache"),
    ("sys.modules['litellm.chat_completions.dispatch']", "_PYTHON_COMPLETION"),
    ("sys.modules['litellm.messages.dispatch']", "_PYTHON_AMESSAGES"),
    ("sys.modules['litellm.main']", "completion_with_fallbacks"),
]


def told(done: Done) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_when_all_is_well_nothing_is_said(
    programs: Programs, provider: Any, tmp_path: Path
) -> None:
    done = programs.run(tmp_path, provider.base_url, TELL, first=RENAME)
    assert told(done) == {"gaps": [], "status": [], "code": 0}
    assert "LiteLLM's" not in done.stderr


@pytest.mark.parametrize(("owner", "part"), PARTS, ids=[part for _, part in PARTS])
def test_a_part_that_is_there_and_not_used_is_said_once_and_events_stand_in(
    programs: Programs, provider: Any, tmp_path: Path, owner: str, part: str
) -> None:
    first = f"""{RENAME}
owner = {owner}
part = {part!r} if hasattr(owner, {part!r}) else "_" + {part!r}  # before 1.106
rename(owner, part)
"""
    done = programs.run(tmp_path, provider.base_url, TELL, first=first)
    said = told(done)
    assert len(said["gaps"]) == 1
    assert f"{part} is no longer used" in said["gaps"][0]
    assert done.stderr.count("is no longer used") == 1
    assert said["code"] == 1
    assert f"{part} is no longer used" in said["status"][0]
    found = pairs(list(read_chain(tmp_path / "capsules.db")))
    assert sorted(status for _, status in found) == ["success", "success"]


def test_a_part_that_is_missing_is_said(programs: Programs, provider: Any, tmp_path: Path) -> None:
    first = f"""{RENAME}
handler = {HANDLER}
for name in ("sync_get_cache", "_sync_get_cache"):
    if hasattr(handler, name):
        rename(handler, name)
        delattr(handler, name)
"""
    said = told(programs.run(tmp_path, provider.base_url, TELL, first=first))
    assert len(said["gaps"]) == 1
    assert "sync_get_cache is missing: answers from LiteLLM's cache" in said["gaps"][0]


def test_the_check_takes_no_time(programs: Programs, provider: Any, tmp_path: Path) -> None:
    first = f"""
sys.path.insert(0, {str(Path(__file__).parent)!r})
from capsule_sdk.adapters.litellm import early, entries
spent, check = [], entries.part_in_use

def timed(*args, **options):
    began = time.perf_counter()
    try:
        return check(*args, **options)
    finally:
        spent.append(time.perf_counter() - began)

entries.part_in_use = early.part_in_use = timed
"""
    done = programs.run(tmp_path, provider.base_url, "print(sum(spent), len(spent))", first=first)
    seconds, parts = done.stdout.split()
    assert int(parts) >= len(PARTS)
    assert float(seconds) < 0.05
