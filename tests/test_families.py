"""Families: against a model of dictionaries, with ids in any order and children before and after their task."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import closing
from operator import itemgetter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_sdk.evidence.verifying import families as module
from capsule_sdk.evidence.verifying.families import Families
from capsule_sdk.evidence.verifying.findings import Finding, Reason
from capsule_sdk.evidence.verifying.record import Commitment, Facts

IDS = [f"00000000-0000-4000-8000-{number:012x}" for number in range(12)]


def digest(ids: list[str]) -> str:
    return hashlib.sha3_256("".join(f"{one}\n" for one in sorted(ids)).encode()).hexdigest()


def found_in(chain: list[Facts]) -> tuple[list[Finding], list[Finding], list[Finding], list[str]]:
    """What is repeated, what has no parent, whose children do not fit, and the first two roots."""
    with closing(Families()) as families:
        for position, facts in enumerate(chain):
            families.add(facts, position)
        families.complete()
        return (
            list(families.repeated()),
            list(families.orphans()),
            list(families.children()),
            families.roots(),
        )


def codes(findings: list[Finding]) -> list[tuple[Reason, int | None, str | None]]:
    return [(one.reason, one.position, one.id) for one in findings]


# -- the model ------------------------------------------------------------------------------------


def expected_of(chain: list[Facts]) -> tuple[list[object], list[object], list[object], set[str]]:
    ids = {facts.id for facts in chain if facts.id is not None}
    below: defaultdict[str, set[str]] = defaultdict(set)
    seen: Counter[str] = Counter()
    repeated: list[object] = []
    orphans: dict[str, object] = {}
    children: list[object] = []
    for position, facts in enumerate(chain):
        if facts.id is None:
            continue
        if seen[facts.id]:
            repeated.append((Reason.ID_REPEATED, position, facts.id))
        seen[facts.id] += 1
        if facts.parent_id is not None and facts.counted:
            below[facts.parent_id].add(facts.id)
        if facts.parent_id is not None and facts.parent_id not in ids:
            orphans.setdefault(facts.parent_id, (Reason.PARENT_MISSING, position, facts.id))
    for position, facts in enumerate(chain):
        if facts.id is not None and facts.children is not None:
            before = {
                one.id
                for one in chain[:position]
                if one.parent_id == facts.id and one.counted and one.id is not None
            }
            reason = judged(sorted(below[facts.id]), len(before), facts.children)
            if reason is not None:
                children.append((reason, position, facts.id))
    roots = {
        facts.id
        for facts in chain
        if facts.id and (not facts.parent_id or facts.parent_id not in ids)
    }
    return repeated, list(orphans.values()), children, roots


def judged(present: list[str], before: int, said: Commitment) -> Reason | None:
    if len(present) > said.started:
        return Reason.CHILDREN_UNANNOUNCED
    if len(present) < said.started:
        return Reason.CHILDREN_MISSING if before < said.ended else Reason.CHILDREN_OPEN
    return None if digest(present) == said.digest else Reason.CHILDREN_MISMATCH


@st.composite
def chains(draw: st.DrawFn) -> list[Facts]:
    """Records that name each other at random, with commitments that often fit."""
    count = draw(st.integers(0, 12))
    some = st.sampled_from(IDS)
    ids = [draw(some | st.just(IDS[place % len(IDS)]) | st.none()) for place in range(count)]
    parents = [draw(some | st.none()) for _ in range(count)]
    counted = [draw(st.booleans() | st.just(True)) for _ in range(count)]
    chain = []
    for place in range(count):
        mine = {
            one
            for one, parent, counts in zip(ids, parents, counted, strict=True)
            if one and counts and parent == ids[place]
        }
        named = sorted(mine ^ draw(st.sets(some, max_size=1)))
        ended = draw(st.integers(0, len(named)))
        said = draw(st.none() | st.just(Commitment(len(named), ended, digest(named))))
        chain.append(
            Facts(
                place, ids[place], parent_id=parents[place], counted=counted[place], children=said
            )
        )
    return chain


@given(chain=chains())
def test_any_family_is_judged_as_the_model_judges_it(chain: list[Facts]) -> None:
    repeated, orphans, children, roots = found_in(chain)
    expected = expected_of(chain)
    assert codes(repeated) == expected[0]
    assert codes(orphans) == expected[1]
    assert sorted(codes(children), key=itemgetter(1)) == expected[2]
    assert set(roots) <= expected[3]
    assert len(set(roots)) == min(len(roots), len(expected[3])) or len(expected[3]) > 1


# -- cases ----------------------------------------------------------------------------------------


def family(count: int, *, ended: int | None = None) -> tuple[Facts, list[Facts]]:
    ids = IDS[1 : count + 1]
    said = Commitment(count, count if ended is None else ended, digest(ids))
    return Facts(0, IDS[0], children=said), [
        Facts(place + 1, one, parent_id=IDS[0]) for place, one in enumerate(ids)
    ]


@pytest.mark.parametrize("place", range(6))
def test_a_task_may_stand_anywhere_among_its_children(place: int) -> None:
    task, children = family(5)
    children.insert(place, task)
    assert found_in(children) == ([], [], [], [IDS[0]])


def test_the_order_of_the_children_does_not_matter() -> None:
    task, children = family(5)
    assert found_in([*children[::-1], task])[2] == []


def test_a_child_that_stands_there_twice_is_one_child_and_a_copy() -> None:
    task, children = family(3)
    repeated, _, wrong, _ = found_in([*children, task, children[1]])
    assert codes(repeated) == [(Reason.ID_REPEATED, 4, children[1].id)]
    assert wrong == []


@pytest.mark.parametrize(
    ("gone", "ended", "expected"),
    [
        (1, 5, Reason.CHILDREN_MISSING),
        (1, 4, Reason.CHILDREN_OPEN),
        (2, 4, Reason.CHILDREN_MISSING),
        (5, 0, Reason.CHILDREN_OPEN),
        (5, 1, Reason.CHILDREN_MISSING),
    ],
)
def test_children_that_had_ended_must_be_there_and_others_may_come_later(
    gone: int, ended: int, expected: Reason
) -> None:
    task, children = family(5, ended=ended)
    (finding,) = found_in([*children[gone:], task])[2]
    assert (finding.reason, finding.id, finding.sequence) == (expected, IDS[0], 0)
    assert finding.detail == f"it names 5, of which {ended} had ended; {5 - gone} found"


def test_one_finding_for_each_task_that_is_not_there_however_many_belong_to_it() -> None:
    (finding,) = found_in(family(5)[1])[1]
    assert (finding.reason, finding.position, finding.id) == (Reason.PARENT_MISSING, 0, IDS[1])
    assert IDS[0] in finding.detail
    assert "4 more" in finding.detail


def test_what_is_not_counted_neither_fits_nor_misses() -> None:
    task, children = family(2)
    late = Facts(9, IDS[9], parent_id=IDS[0], counted=False)
    assert found_in([*children, task, late])[2] == []
    assert found_in([late, task])[2][0].reason is Reason.CHILDREN_MISSING


def test_a_record_that_is_its_own_task_has_itself_as_a_child() -> None:
    said = Commitment(1, 1, digest([IDS[0]]))
    assert found_in([Facts(0, IDS[0], parent_id=IDS[0], children=said)])[2:] == ([], [])


def test_two_tasks_of_one_id_are_both_compared() -> None:
    task, children = family(2)
    other = task._replace(children=Commitment(0, 0, digest([])))
    repeated, _, wrong, _ = found_in([*children, task, other])
    assert codes(repeated) == [(Reason.ID_REPEATED, 3, IDS[0])]
    assert codes(wrong) == [(Reason.CHILDREN_UNANNOUNCED, 3, IDS[0])]


def test_many_copies_of_a_task_with_many_children_take_no_time_of_their_own() -> None:
    """Each with each other would be millions."""
    ids = [f"00000000-0000-4000-8000-{number:012x}" for number in range(1, 2_001)]
    task = Facts(0, IDS[0], children=Commitment(len(ids), len(ids), digest(ids)))
    began = time.process_time()
    repeated, _, found, _ = found_in(
        [*(Facts(0, one, parent_id=task.id) for one in ids), *[task] * 2_000]
    )
    assert time.process_time() - began < 5
    assert (len(repeated), found) == (1_999, [])


@pytest.mark.parametrize("count", [999, 1_000, 1_001, 2_500])
def test_more_records_than_are_kept_at_a_time_are_all_there(count: int) -> None:
    ids = [f"00000000-0000-4000-8000-{number:012x}" for number in range(count + 1)]
    said = Commitment(count, count, digest(ids[1:]))
    chain = [Facts(place, one, parent_id=ids[0]) for place, one in enumerate(ids[1:])]
    task = Facts(count, ids[0], children=said)
    assert found_in([*chain, task]) == ([], [], [], [ids[0]])
    assert codes(found_in([*chain[1:], task])[2]) == [(Reason.CHILDREN_MISSING, count - 1, ids[0])]


def test_numbers_as_large_as_a_database_can_count_are_kept() -> None:
    chain = [Facts(2**63 - 1, IDS[0], children=Commitment(2**63 - 1, 2**63 - 1, "0" * 64))]
    assert found_in(chain)[2][0].reason is Reason.CHILDREN_MISSING


def test_nothing_is_left_behind_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_CACHE_KIBIBYTES", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    chain = [Facts(place, f"00000000-0000-4000-8000-{place:012x}") for place in range(3_000)]
    found_in(chain)
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_had_ended_is_missed_though_others_came_later() -> None:
    """It stood before its task, as all do that had ended; one that had not is no stand-in for it."""
    task, children = family(3, ended=2)
    assert found_in([children[0], children[1], task])[2][0].reason is Reason.CHILDREN_OPEN
    assert found_in([children[0], task, children[2]])[2][0].reason is Reason.CHILDREN_MISSING
