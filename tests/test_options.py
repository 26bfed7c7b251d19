"""Options: what is refused, what each kind of value means."""

from __future__ import annotations

import enum
import uuid
from types import MappingProxyType
from typing import Any

import pytest
from conftest import Chain
from qp_capsule import CapsuleType

from capsule_sdk import capsule_scope, capsuled, from_arg
from capsule_sdk.errors import CapsuleSDKError, ConfigurationError
from capsule_sdk.scopes.options import ScopeOptions, TaskOptions


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"sesion_id": "s"}, "capsule_scope has no option 'sesion_id'; did you mean 'session_id'"),
        ({"capture_args": False}, "no option 'capture_args'"),
        ({"request_from": "x"}, "no option 'request_from'; did you mean 'request'"),
        ({"record": 1}, "record=1 must be True or False"),
        ({"record": None}, "record=None must be True or False"),
        ({"session_id": from_arg("x")}, "only @capsuled takes from_arg or a function"),
        ({"user_id": lambda given: "x"}, "only @capsuled takes from_arg or a function"),
        ({"session_id": ["s"]}, r"session_id=\['s'\] must be a text"),
        ({"domain": 1}, "domain=1 must be a text"),
        ({"approver": 1, "authority": "policy"}, "approver=1 must be a text"),
        ({"request": 1}, "request=1 must be a text"),
        ({"environment": "eu"}, "environment='eu' must be a mapping"),
        ({"capsule_type": "llm"}, "capsule_type='llm' must be one of agent, tool"),
    ],
)
def test_a_scope_refuses_a_wrong_option_before_it_opens(
    options: dict[str, Any], advice: str
) -> None:
    with pytest.raises(ConfigurationError, match=advice) as caught:
        capsule_scope("x", **options)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CapsuleSDKError)


def test_the_name_of_a_scope_is_a_text() -> None:
    with pytest.raises(ConfigurationError, match="name=5 must be a text"):
        capsule_scope(5)  # type: ignore[arg-type]


def test_none_means_inherited_for_every_option_that_is_no_flag(chain: Chain) -> None:
    flags = {"record", "capture_args", "capture_result"}
    nothing: Any = dict.fromkeys(set(ScopeOptions.__annotations__) - flags)
    with capsule_scope("outer", agent_id="a", session_id="s", authority="policy"):
        with capsule_scope("inner", **nothing):
            pass
        nothing = dict.fromkeys(set(TaskOptions.__annotations__) - flags)
        capsuled(lambda: None, **{**nothing, "name": "decorated"})()
    for name in ("inner", "decorated"):
        capsule = chain.one(name)
        assert capsule["context"]["agent_id"] == "a"
        assert capsule["context"]["session_id"] == "s"
        assert capsule["authority"]["type"] == "policy"
        assert capsule["type"] == "agent"


class Tenant(str, enum.Enum):  # noqa: UP042 - whose str() is "Tenant.ACME"
    ACME = "acme"


def test_ids_may_be_uuids_numbers_and_enums(chain: Chain) -> None:
    session = uuid.uuid4()
    with capsule_scope("x", session_id=session, user_id=7, tenant_id=Tenant.ACME):  # type: ignore[arg-type]
        pass
    capsule = chain.one("x")
    assert capsule["context"]["session_id"] == str(session)
    assert capsule["trigger"]["user_id"] == "7"
    assert capsule["context"]["environment"]["tenant_id"] == "acme"


@pytest.mark.parametrize("kind", [*CapsuleType, "workflow"])
def test_a_capsule_type_is_given_as_text_or_as_qp_capsules_own(chain: Chain, kind: str) -> None:
    with capsule_scope("x", capsule_type=kind):
        pass
    assert chain.one("x")["type"] == str(kind)


def test_every_type_of_qp_capsule_is_allowed_and_no_other() -> None:
    from capsule_sdk.scopes import options

    assert set(options._CAPSULE_TYPES) == {str(kind) for kind in CapsuleType}


def test_the_environment_is_taken_when_it_is_given_and_never_changed(chain: Chain) -> None:
    facts = {"region": "eu", "nested": {"n": [1]}}
    scope = capsule_scope("x", environment=MappingProxyType(facts))
    facts["region"] = "us"
    facts["nested"]["n"].append(2)  # type: ignore[index]
    with scope:
        pass
    assert chain.one("x")["context"]["environment"] == {"region": "eu", "nested": {"n": [1]}}
    assert facts == {"region": "us", "nested": {"n": [1, 2]}}


def test_a_long_id_loses_no_capsule(chain: Chain) -> None:
    with capsule_scope("n" * 5000, session_id="s" * 5000, domain="d" * 5000, agent_id="a" * 5000):
        pass
    assert len(chain.capsules()) == 1
