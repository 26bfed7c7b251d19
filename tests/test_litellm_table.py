"""The entry points of each promised LiteLLM are listed, and docs/litellm.md says how each is recorded.

After looking at what is new, ``python tests/test_litellm_table.py`` writes both anew for the LiteLLM that is
installed; the page only with the newest.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LISTS = ROOT / "tests" / "data"
PAGE = ROOT / "docs" / "litellm.md"
_TABLE = re.compile(r"\| entry point \| .*?\n\n", re.DOTALL)

#: Prints the version, the entry points, and the functions that LiteLLM offers beside them. In a process of its
#: own: nothing has been wrapped there.
LOOK = """
import importlib.metadata, json, types
import litellm
from capsule_sdk.adapters.litellm import discovery
found, seen = {}, set()
for entry in discovery.entries():
    kind = "model" if discovery.asks_model(entry.name) else "tool"
    place = entry.module.__name__.removeprefix("litellm.")
    path = entry.attribute if place == "litellm" else f"{place}.{entry.attribute}"
    twin = discovery.sync_name(entry.name)
    found.setdefault(entry.name, {"kind": kind, "twin": twin, "places": []})["places"].append(path)
    seen.add(id(entry.function))
beside = []
for name in dir(litellm):
    value = getattr(litellm, name, None)
    if name.startswith("_") or not isinstance(value, types.FunctionType) or id(value) in seen:
        continue
    parts = value.__module__.split(".")
    ours = parts[0] == "litellm" and "secret_managers" not in parts
    if ours and parts[-1] in ("main", "dispatch", "tool_loop"):
        beside.append(name)
print(json.dumps({"version": importlib.metadata.version("litellm"), "found": found, "beside": beside}))
"""


def look() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOOK],
        env={
            **os.environ,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def listed(found: dict[str, Any]) -> str:
    """Return the list: kind and name of each entry point, and with a dash what is none."""
    lines = [f"{entry['kind']:5} {name}" for name, entry in sorted(found["found"].items())]
    return "".join(f"{line}\n" for line in [*lines, *(f"-     {name}" for name in found["beside"])])


def path_of(version: str) -> Path:
    """Return the list of this version, or the newest where there is none of it."""
    own = LISTS / f"litellm-{version}.txt"
    by_version = sorted(
        LISTS.glob("litellm-*.txt"), key=lambda path: [*map(int, path.stem[8:].split("."))]
    )
    return own if own.exists() else by_version[-1]


def table(found: dict[str, Any]) -> str:
    """Return the table of the page."""
    rows: dict[tuple[str, str], list[str]] = {}
    for entry in found["found"].values():
        public = [place for place in entry["places"] if ".main." not in place] or entry["places"]
        rows.setdefault((entry["twin"], entry["kind"]), []).append(f"`litellm.{public[0]}`")
    kinds = {"model": "`chat`, a call to a model", "tool": "`tool`, not counted as one"}
    lines = [
        f"| {', '.join(sorted(set(names), key=len))} | {kinds[kind]} |"
        for (_, kind), names in sorted(rows.items())
    ]
    return (
        "| entry point | one capsule of type |\n|---|---|\n"
        + "".join(f"{line}\n" for line in lines)
        + "\n"
    )


def test_no_entry_point_is_new_or_gone() -> None:
    found = look()
    path = path_of(found["version"])
    expected, now = set(path.read_text("utf-8").splitlines()), set(listed(found).splitlines())
    assert now == expected, (
        f"LiteLLM {found['version']} and {path.name} differ: new {sorted(now - expected)}, gone "
        f"{sorted(expected - now)}. See whether each new one asks a model (discovery.asks_model), whether one "
        "call of it is one capsule (tests/test_litellm_entries.py), and for one with a dash whether it makes a "
        "call (discovery.UNDECORATED); then run `python tests/test_litellm_table.py`"
    )


def test_the_page_has_the_table_of_the_newest() -> None:
    found, text = look(), PAGE.read_text("utf-8")
    newest = path_of("the newest").stem[8:]
    assert f"LiteLLM {newest}" in text
    if found["version"] == newest:
        assert text == _TABLE.sub(lambda _: table(found), text), (
            "python tests/test_litellm_table.py"
        )


if __name__ == "__main__":
    now_found = look()
    LISTS.mkdir(exist_ok=True)
    (LISTS / f"litellm-{now_found['version']}.txt").write_text(listed(now_found), "utf-8")
    if path_of("the newest").stem == f"litellm-{now_found['version']}":
        page = _TABLE.sub(lambda _: table(now_found), PAGE.read_text("utf-8"))
        PAGE.write_text(
            re.sub(r"LiteLLM \d+\.\d+\.\d+", f"LiteLLM {now_found['version']}", page), "utf-8"
        )
