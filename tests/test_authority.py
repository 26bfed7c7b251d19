"""Authority: spelling, checks, and the trail that nested overrides leave (CPS 1.4)."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from conftest import Chain

from capsule_sdk import Authority, capsule_scope, capsuled
from capsule_sdk.errors import AuthorityError, ConfigurationError


@pytest.mark.parametrize(
    ("written", "sealed"),
    [
        ("autonomous", "autonomous"),
        ("human-approved", "human_approved"),
        ("human_approved", "human_approved"),
        ("policy", "policy"),
        ("escalated", "escalated"),
    ],
)
def test_each_spelling_is_sealed_as_cps_spells_it(chain: Chain, written: str, sealed: str) -> None:
    assert Authority(written).type == sealed
    with capsule_scope("by name", authority=written):
        pass
    with capsule_scope("by value", authority=Authority(written)):
        pass
    capsuled(lambda: None, authority=written)()
    assert {capsule["authority"]["type"] for capsule in chain.capsules()} == {sealed}


@pytest.mark.parametrize("unknown", ["human", "Policy", "", "autonomous ", 5, ["policy"]])
def test_an_unknown_authority_is_refused_where_it_is_written_and_the_others_are_listed(
    unknown: Any,
) -> None:
    for write in (
        lambda: Authority(unknown),
        lambda: capsule_scope("x", authority=unknown),
        lambda: capsuled(authority=unknown),
    ):
        with pytest.raises(
            AuthorityError, match="'autonomous', 'human-approved', 'policy', 'escalated'"
        ) as caught:
            write()
        assert isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize("detail", ["approver", "policy_reference", "escalation_reason"])
def test_details_without_their_authority_or_beside_a_whole_one_are_refused(detail: str) -> None:
    for write in (capsule_scope, capsuled):
        with pytest.raises(AuthorityError, match=f"{detail}= says nothing without a type"):
            write(**{detail: "x"})  # type: ignore[call-overload, arg-type]
        with pytest.raises(AuthorityError, match=f"{detail}= stands beside a whole Authority"):
            write(authority=Authority("policy"), **{detail: "x"})  # type: ignore[call-overload, arg-type]


def test_all_details_are_sealed(chain: Chain) -> None:
    with capsule_scope(
        "x",
        authority="escalated",
        approver="ana@example.com",
        policy_reference="P-7",
        escalation_reason="above the limit",
    ):
        pass
    assert chain.one("x")["authority"] == {
        "type": "escalated",
        "approver": "ana@example.com",
        "policy_reference": "P-7",
        "chain": [],
        "escalation_reason": "above the limit",
    }


def test_without_a_word_about_it_a_task_is_autonomous(chain: Chain) -> None:
    with capsule_scope("x"):
        pass
    assert chain.one("x")["authority"]["type"] == "autonomous"


@pytest.mark.parametrize("named", [{}, {"agent_id": "a"}, {"agent_id": "a", "domain": "d"}])
def test_overrides_leave_their_trail_outermost_first_whoever_the_agent_is(
    chain: Chain, named: dict[str, Any]
) -> None:
    chain.configure(agent_id="configured")

    @capsuled(authority="escalated", escalation_reason="limit")
    def decide() -> None:
        with capsule_scope("innermost", authority="human-approved", approver="bo"):
            pass

    with (
        capsule_scope("outermost", authority="policy", policy_reference="P-1", **named),
        capsule_scope("says nothing of it"),
    ):
        decide()
    policy = {"type": "policy", "policy_reference": "P-1"}
    escalated = {"type": "escalated", "escalation_reason": "limit"}
    assert chain.one("outermost")["authority"]["chain"] == []
    inherited = chain.one("says nothing of it")["authority"]
    assert (inherited["type"], inherited["chain"]) == ("policy", [])
    assert chain.one("decide")["authority"]["chain"] == [policy]
    innermost = chain.one("innermost")["authority"]
    assert (innermost["type"], innermost["approver"]) == ("human_approved", "bo")
    assert innermost["chain"] == [policy, escalated]


def test_an_authority_is_an_immutable_value() -> None:
    authority = Authority("human-approved", approver="ana")
    assert authority == Authority("human_approved", approver="ana")
    assert hash(authority) == hash(Authority("human_approved", approver="ana"))
    assert pickle.loads(pickle.dumps(authority)) == copy.deepcopy(authority) == authority
    with pytest.raises(dataclasses.FrozenInstanceError):
        authority.approver = "bo"  # type: ignore[misc]
    assert authority.as_link() == {"type": "human_approved", "approver": "ana"}
