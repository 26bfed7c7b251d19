"""What a row of a database is found by is what was sealed: the tenant too, of every kind of record."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import psycopg
import pytest
from chain_support import assert_verified, capsule
from postgres_support import postgres
from qp_capsule import Capsule, CapsuleChain, ContextSection, Seal
from qp_capsule.storage_pg import PostgresCapsuleStorage

from capsule_sdk.chain import open_chain
from capsule_sdk.evidence import export_chain, keys_here, open_source, read_chain, verify
from capsule_sdk.evidence.verifying.findings import Reason
from capsule_sdk.evidence.verifying.verify import Verdict
from capsule_sdk.records.capsules import loss, stand_in_for

__all__ = ["postgres"]

TENANTS: Final = (
    "acme",
    "a tenant's name that is too long for its column",
    "0",
    "None",
    "null",
    "",
)


@pytest.fixture
def chains(postgres: str) -> str:
    """A chain of each tenant and the global one, with every kind of record that there is."""
    chain = open_chain(url=postgres)
    for tenant in (None, *TENANTS):
        environment = {} if tenant is None else {"tenant_id": tenant}
        ordinary = capsule(f"of {tenant}", context=ContextSection(session_id="s" * 50))
        ordinary.context.environment.update(environment)
        chain.append([ordinary, stand_in_for(twin_of(ordinary), "too large")])
    chain.append([loss(2, "gone")])
    chain.close()
    return postgres


def twin_of(one: Capsule) -> Capsule:
    twin = capsule("what could not be stored")
    twin.context.environment.update(one.context.environment)
    return twin


def verdict_on(url: str, tenant: str | None) -> Verdict:
    return verify(open_source(url, tenant=tenant), keys_here())


def test_each_chain_is_whole_under_the_name_it_was_sealed_for(chains: str) -> None:
    for tenant in (None, *TENANTS):
        verdict = verdict_on(chains, tenant)
        assert verdict.whole, verdict.findings
        check = next(one for one in verdict.checks if one.name == "tenant")
        assert (check.done, check.words) == (
            True, "that the database has each under the tenant it was sealed for",
        )  # fmt: skip


@pytest.mark.parametrize("other", [None, "eve", "0", "None", ""])
@pytest.mark.parametrize("tenant", [None, "acme", ""])
def test_no_chain_stays_whole_under_another_name(
    chains: str, tenant: str | None, other: str | None
) -> None:
    if tenant == other:
        return
    with psycopg.connect(chains) as connection:
        connection.execute(
            "DELETE FROM quantumpipes_capsules WHERE tenant_id IS NOT DISTINCT FROM %s", [other]
        )
        connection.execute(
            "UPDATE quantumpipes_capsules SET tenant_id = %s WHERE tenant_id IS NOT DISTINCT FROM %s",
            [other, tenant],
        )
    verdict = verdict_on(chains, other)
    assert verdict.counts[Reason.COLUMN_MISMATCH] == verdict.records
    assert f"tenant_id: {other!r} is stored, {tenant!r} is sealed" in verdict.findings[0].detail


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("type", "auth"),
        ("session_id", "eve"),
        ("session_id", None),
        ("domain", "eve"),
        ("domain", None),
    ],
)
def test_nothing_else_that_a_row_is_found_by_may_differ(
    chains: str, column: str, value: str | None
) -> None:
    with psycopg.connect(chains) as connection:
        connection.execute(
            f"ALTER TABLE quantumpipes_capsules ALTER {column} DROP NOT NULL".encode()
        )
        connection.execute(
            f"UPDATE quantumpipes_capsules SET {column} = %s WHERE sequence = 0 AND tenant_id IS NULL".encode(),
            [value],
        )
    assert verdict_on(chains, None).counts[Reason.COLUMN_MISMATCH] == 1


def test_a_chain_that_was_sealed_before_is_whole_and_said_not_to_tell_its_tenant(
    postgres: str,
) -> None:
    """qp-capsule's own storage, and capsuled before it wrote the tenant of those that have none."""

    async def make() -> None:
        storage = PostgresCapsuleStorage(postgres)
        chain, seal = CapsuleChain(storage), Seal()
        for tenant in (None, "acme"):
            for number in range(2):
                await chain.seal_and_store(
                    capsule(f"{tenant}-{number}"), seal=seal, tenant_id=tenant
                )
        await storage.close()

    asyncio.run(make())
    put_one_more = open_chain(url=postgres)
    put_one_more.append([capsule("new")])
    put_one_more.close()
    for tenant, untold in ((None, 2), ("acme", 2)):
        verdict = verdict_on(postgres, tenant)
        assert verdict.whole, verdict.findings
        check = next(one for one in verdict.checks if one.name == "tenant")
        assert not check.done
        assert check.words.startswith(f"not told by {untold} records")


def test_what_is_sealed_for_postgresql_passes_qp_capsule(chains: str, tmp_path: Path) -> None:
    for tenant in (None, "acme"):
        export_chain(chains, tmp_path / "c.json", tenant=tenant)
        assert_verified(tmp_path / "c.json")


def test_in_a_file_of_one_chain_nothing_is_written_of_tenants(tmp_path: Path) -> None:
    chain = open_chain(url=tmp_path / "c.db")
    chain.append([capsule()])
    chain.close()
    assert "tenant_id" not in next(read_chain(tmp_path / "c.db"))["context"]["environment"]
