"""Chains in PostgreSQL as exports, trees and verdicts: one tenant's, or the global one."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from chain_support import assert_verified, capsule, capsules, qp_capsule_command
from postgres_support import PASSWORD, database_of, postgres, rows, server
from qp_capsule import Capsule
from recording import until

from capsule_sdk.chain import open_chain
from capsule_sdk.chain.postgresql import PostgresServer
from capsule_sdk.cli import main
from capsule_sdk.errors import ChainUnavailable, EvidenceError
from capsule_sdk.evidence.exporting.export import export_chain, read_chain

__all__ = ["postgres"]


def of_tenant(tenant: str, number: int) -> Capsule:
    made = capsule(f"{tenant}-{number}")
    made.context.environment["tenant_id"] = tenant
    return made


@pytest.fixture
def chains(postgres: str) -> Iterator[str]:
    """A database with a global chain of five capsules, and those of two tenants."""
    made = open_chain(url=postgres)
    made.append(capsules(5))
    made.append([of_tenant("acme", number) for number in range(3)])
    made.append([of_tenant("l" * 40, number) for number in range(2)])
    made.close()
    return postgres


def test_each_chain_is_exported_by_itself_and_verifies(chains: str, tmp_path: Path) -> None:
    out = tmp_path / "chain.json"
    for tenant, length in ((None, 5), ("acme", 3), ("l" * 40, 2)):
        assert export_chain(chains, out, tenant=tenant) == length
        assert_verified(out, "--full")
        assert_verified(out, "--signatures")
        assert json.loads(out.read_text("utf-8")) == list(read_chain(chains, tenant=tenant))


def test_qp_capsule_verifies_a_database_as_long_as_it_holds_one_chain(postgres: str) -> None:
    """It reads all tenants as one chain; with several, each has to be exported (see --tenant)."""
    made = open_chain(url=postgres)
    made.append(capsules(2))
    assert qp_capsule_command("verify", "--pg", postgres, "--full").returncode == 0
    made.append([of_tenant("acme", 0)])
    made.close()
    done = qp_capsule_command("verify", "--pg", postgres, "--full")
    assert done.returncode == 1
    assert "equence" in done.stdout + done.stderr


def test_the_stored_document_goes_out_as_it_is(postgres: str) -> None:
    made = open_chain(url=postgres)
    made.append(capsules(1))
    made.close()
    text = '{"id":"x", "a": 1.0,\n "b": 2.5e-05, "c": 1E400}'
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE quantumpipes_capsules SET data = %s", [text])
    out = io.StringIO()
    export_chain(postgres, out)
    assert text[:-1] in out.getvalue()


def test_it_reads_page_by_page_while_a_writer_writes_and_ends_at_what_was_there(
    postgres: str,
) -> None:
    made = open_chain(url=postgres)
    made.append(capsules(450))
    reader = read_chain(postgres)
    first = next(reader)
    made.append(capsules(100))
    with psycopg.connect(postgres, autocommit=True) as other:
        (held,) = other.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_class ON relation = pg_class.oid"
            " WHERE relname = 'quantumpipes_capsules'"
        ).fetchone() or (None,)
    assert held == 0, "a reader holds a lock while its caller thinks"
    made.close()
    assert [one["sequence"] for one in (first, *reader)] == list(range(450))


def test_nothing_can_be_written_through_the_connection_of_a_reader(chains: str) -> None:
    reader = PostgresServer(chains, read_only=True)
    with pytest.raises(ChainUnavailable, match="read-only"), reader.connection() as connection:
        connection.exec_driver_sql("DELETE FROM quantumpipes_capsules")
    assert len(rows(chains)) == 10


def test_a_reader_leaves_no_connection_behind(chains: str) -> None:
    list(read_chain(chains))
    next(reader := read_chain(chains))
    reader.close()  # type: ignore[attr-defined]
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    until(lambda: server().execute(left, database_of(chains)) == [(1,)])


def test_what_is_no_chain_is_named(postgres: str, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="quantumpipes_capsules"):
        list(read_chain(postgres))
    with pytest.raises(EvidenceError, match="cannot be found: create the database"):
        list(read_chain(server().url("nowhere")))
    with pytest.raises(EvidenceError, match="refused this user") as raised:
        list(read_chain(postgres.replace("p%40", "x%40")))
    assert PASSWORD[3:] not in str(raised.value)
    (tmp_path / "chain.json").write_text("kept")
    with pytest.raises(EvidenceError):
        export_chain(postgres, tmp_path / "chain.json")
    assert (tmp_path / "chain.json").read_text() == "kept"


def test_a_tenant_without_capsules_is_named(chains: str) -> None:
    with pytest.raises(EvidenceError, match="no capsules of tenant 'acmee'"):
        list(read_chain(chains, tenant="acmee"))


def test_a_file_holds_one_chain_whatever_the_tenant(tmp_path: Path) -> None:
    made = open_chain(url=tmp_path / "chain.db")
    made.append([of_tenant("acme", 0), capsule()])
    made.close()
    assert len(list(read_chain(tmp_path / "chain.db"))) == 2
    with pytest.raises(EvidenceError, match="leave out the tenant"):
        list(read_chain(tmp_path / "chain.db", tenant="acme"))


def test_the_command_exports_and_shows_the_chain_of_a_tenant(
    chains: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "chain.json")
    assert main(["export", out, "--db", chains]) == 0
    assert "5 capsules" in capsys.readouterr().out
    assert main(["export", out, "--db", chains, "--tenant", "acme"]) == 0
    assert "3 capsules" in capsys.readouterr().out
    assert_verified(out, "--full")
    assert main(["tree", "--db", chains, "--tenant", "acme"]) == 0
    shown = capsys.readouterr().out
    assert "acme-2" in shown
    assert "task-0" not in shown
    assert main(["tree", "--db", server().url("nowhere")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("capsuled: postgresql://127.0.0.1")
    assert PASSWORD not in told


def test_each_tenants_chain_is_verified_by_itself_and_what_was_altered_is_found(
    chains: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for tenant in ([], ["--tenant", "acme"], ["--tenant", "l" * 40]):
        assert main(["verify", chains, *tenant]) == 0
    out = capsys.readouterr().out
    assert PASSWORD not in out
    assert "2 records" in out
    with psycopg.connect(chains) as connection:
        connection.execute(
            "UPDATE quantumpipes_capsules SET data = replace(data, 'acme-1', 'acme-7')"
            " WHERE tenant_id = 'acme'"
        )
        connection.execute(
            "DELETE FROM quantumpipes_capsules WHERE tenant_id IS NULL AND sequence = 2"
        )
    assert main(["verify", chains, "--tenant", "l" * 40]) == 0
    capsys.readouterr()
    assert main(["verify", chains, "--tenant", "acme", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["reason"], finding["sequence"]) == ("hash_mismatch", 1)
    assert main(["verify", chains, "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["reason"], finding["sequence"]) == ("sequence_gap", 3)


def test_a_tenant_that_has_no_chain_cannot_be_verified(
    chains: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", chains, "--tenant", "acmee"]) == 2
    assert "no capsules of tenant 'acmee'" in capsys.readouterr().err


def test_a_long_chain_of_a_server_is_checked_by_several_processes(
    postgres: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = open_chain(url=postgres)
    made.append(capsules(1500))
    made.close()
    assert main(["verify", postgres, "--processes", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["records"], found["keys"][0]["fits"]) == (1500, 1500)
