"""Near Python's recursion limit a body either has its record, or does not run."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from campaigns.modes import EVERY, Work, work_of
from conftest import Chain

from capsule_sdk import get_recorder

#: Frames that are left where the work is called: from none of ours that fit to all of them.
LEFT = range(1, 90)


def _called_with(left: int, work: Work, number: str) -> None:
    deep = 0
    frame = sys._getframe()
    while frame.f_back is not None:
        frame, deep = frame.f_back, deep + 1

    def down(further: int) -> None:
        if further:
            down(further - 1)
        else:
            work(number)

    down(sys.getrecursionlimit() - deep - left)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    "mode",
    [
        mode
        for mode in EVERY
        if "generator" in mode or "scope" in mode or mode in ("function", "coroutine")
    ],
)
def test_at_every_depth_a_body_has_one_capsule_or_does_not_run(
    mode: str, chain: Chain, tmp_path: Path
) -> None:
    begun: list[str] = []
    work = work_of(mode, begun.append, tmp_path / "c.db")
    work("warm")
    refused = 0
    for left in LEFT:
        try:
            _called_with(left, work, str(left))
        except RecursionError:
            refused += 1
    assert 5 < refused < 40
    assert len(begun) == 1 + len(LEFT) - refused
    sealed = Counter(one["trigger"]["request"] for one in chain.capsules())
    assert {number: sealed[number] for number in begun} == dict.fromkeys(begun, 1)
    assert get_recorder().stats().lost == 0
