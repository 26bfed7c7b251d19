"""What the Makefile, the constraints and the package say of versions of LiteLLM fits together."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def pins(name: str) -> dict[str, str]:
    """Return the versions in a file of constraints; with a marker, the last of them."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return dict(
        line.split(" ;")[0].strip().split("==") for line in lines if "==" in line.split(" ;")[0]
    )


def test_the_oldest_is_what_the_makefile_names() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    oldest = re.search(r"^OLDEST := litellm==(\S+)$", makefile, re.MULTILINE)
    assert oldest is not None
    assert pins("constraints-oldest.txt")["litellm"] == oldest[1]
    assert Version(oldest[1]) < Version(pins("constraints.txt")["litellm"])


def test_both_are_versions_that_the_package_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (litellm,) = (one for one in map(Requirement, project["dependencies"]) if one.name == "litellm")
    for name in ("constraints.txt", "constraints-oldest.txt"):
        assert litellm.specifier.contains(pins(name)["litellm"])


def test_each_has_a_list_of_entry_points() -> None:
    """`tests/test_litellm_table.py` compares them with what is found."""
    for name in ("constraints.txt", "constraints-oldest.txt"):
        assert (ROOT / "tests" / "data" / f"litellm-{pins(name)['litellm']}.txt").exists()


def test_all_that_make_needs_is_in_the_source_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    named = set(re.findall(r"constraints[\w-]*\.txt", (ROOT / "Makefile").read_text("utf-8")))
    assert named <= set(included)
