"""Several chains in one PostgreSQL database: none is passed over in silence, and all are checked at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from chain_support import capsule, capsules
from looking import EVIL
from postgres_support import postgres
from qp_capsule import Capsule, OutcomeSection

from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.cli.all_tenants import verify_all
from capsule_sdk.cli.judging import Judging
from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence import keys_here, read_chain
from capsule_sdk.evidence.sources import open_all

__all__ = ["postgres"]

HOSTILE = "ev\x1b[2Jil\n\u202e"
Run = Callable[..., tuple[int, str]]


def of(tenant: str | None, number: int = 0, **outcome: Any) -> Capsule:
    made = capsule(f"{tenant}-{number}")
    if tenant is not None:
        made.context.environment["tenant_id"] = tenant
    if outcome:
        made.outcome = OutcomeSection(**outcome)
    return made


def put(url: str, *made: Capsule) -> None:
    chain = open_chain(url=url)
    chain.append(list(made))
    chain.close()


def sql(url: str, statement: str, *values: object) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode(), values)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(arguments)
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture
def chains(postgres: str) -> str:
    """A global chain, one tenant altered by SQL, one with losses, one with a name that is an attack."""
    put(postgres, *capsules(2), *(of("acme", number) for number in range(3)), of(HOSTILE))
    put(
        postgres,
        of("beta", 0, status="failure", metrics={"records_lost": 2}),
        of("beta", 1, status="partial", metrics={"ended": "lost"}),
    )
    sql(
        postgres,
        "UPDATE quantumpipes_capsules SET data = replace(data, 'acme-1', 'acme-7') WHERE tenant_id = 'acme'",
    )
    return postgres


def test_status_lists_the_chain_of_each_tenant(chains: str, run: Run) -> None:
    _, out = run("status", "--db", chains)
    assert "the global chain: 2 capsules, head " in out
    assert "tenant 'acme': 3 capsules, head " in out
    assert "\x1b" not in out
    assert "tenant 'ev\\x1b[2Jil\\n\\u202e': 1 capsule, head " in out
    _, out = run("status", "--db", chains, "--json")
    found = {one["tenant"]: one for one in json.loads(out)["chains"]}
    assert [*found] == [None, "acme", "beta", HOSTILE]
    stored = list(read_chain(chains, tenant="beta"))
    assert found["beta"] == {
        "tenant": "beta",
        "capsules": 2,
        "head": stored[-1]["hash"],
        "first_hash": stored[0]["hash"],
    }


def test_status_of_one_chain_lists_none(tmp_path: Path, postgres: str, run: Run) -> None:
    put(postgres, *capsules(2))
    assert "head" not in run("status", "--db", postgres)[1]
    put(str(tmp_path / "c.db"), of("acme"), of("beta"))
    code, out = run("status", "--db", str(tmp_path / "c.db"))
    assert (code, "head" in out) == (0, False)


def test_status_names_the_command_that_names_the_losses_of_all(postgres: str, run: Run) -> None:
    lost = capsule(outcome=OutcomeSection(status="failure", metrics={"records_lost": 2}))
    lost.type = type(lost.type)("system")
    put(postgres, of("acme"), lost)
    assert "capsuled verify --all-tenants names it" in run("status", "--db", postgres)[1]


@pytest.mark.parametrize(
    ("tenant", "others"), [(None, ["acme", "beta", HOSTILE]), ("beta", [None, "acme", HOSTILE])]
)
def test_verify_says_which_other_chains_lie_there(
    chains: str, run: Run, tenant: str | None, others: list[str | None]
) -> None:
    chosen = [] if tenant is None else ["--tenant", tenant]
    code, out = run("verify", chains, *chosen)
    assert code == 0, "what was not checked breaks nothing"
    assert "3 other chains there were not checked" in out
    assert "--all-tenants" in out
    assert "tenant 'acme' (3 capsules)" in out
    assert "\x1b" not in out
    assert "\u202e" not in out
    code, out = run("verify", chains, *chosen, "--json")
    found = json.loads(out)
    assert (code, found["tenant"]) == (0, tenant)
    assert [one["tenant"] for one in found["other_chains"]] == others
    assert {"tenant": "acme", "capsules": 3} in found["other_chains"]


def test_what_holds_one_chain_has_no_others(postgres: str, run: Run, tmp_path: Path) -> None:
    put(postgres, *capsules(2))
    path = str(tmp_path / "c.db")
    put(path, of("acme"), of("beta"))
    for source in (postgres, path):
        assert "other chain" not in run("verify", source)[1]
        assert json.loads(run("verify", source, "--json")[1])["other_chains"] == []


def test_all_tenants_gives_each_its_verdict_and_exits_with_the_worst(chains: str, run: Run) -> None:
    code, out = run("verify", chains, "--all-tenants")
    assert code == 1
    places = [
        out.index(f", {name}: ") for name in ("the global chain", "tenant 'acme'", "tenant 'beta'")
    ]
    assert places == sorted(places)
    assert out.count("WHOLE") == 3
    assert out.count("BROKEN") == 1
    last = out[out.index("4 chains: 1 broken, 3 whole") :]
    assert "✗ tenant 'acme': 1 hash_mismatch" in last
    assert "? tenant 'beta': 1 end_lost" in last
    assert "\x1b" not in out
    code, out = run("verify", chains, "--all-tenants", "--json")
    found = json.loads(out)
    assert (code, found["verdict"]) == (1, "broken")
    verdicts = {one["tenant"]: one["verdict"] for one in found["chains"]}
    assert verdicts == {None: "whole", "acme": "broken", "beta": "whole", HOSTILE: "whole"}
    assert run("verify", chains, "--all-tenants", "--quiet") == (1, "")


def test_all_tenants_with_healthy_chains_is_0_and_strict_counts_what_is_doubtful(
    chains: str, run: Run
) -> None:
    sql(chains, "DELETE FROM quantumpipes_capsules WHERE tenant_id = 'acme'")
    assert run("verify", chains, "--all-tenants")[0] == 0
    assert run("verify", chains, "--all-tenants", "--strict")[0] == 1
    assert run("verify", chains, "--all-tenants", "--no-signatures")[0] == 0


def test_keys_are_those_given_and_broken_comes_before_not_checked(
    chains: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (one,) = json.loads(run("verify", chains, "--json")[1])["keys"]
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path / "elsewhere"))
    code, out = run("verify", chains, "--all-tenants", "--json")
    assert (code, json.loads(out)["verdict"]) == (1, "broken")
    verdicts = [one["verdict"] for one in json.loads(out)["chains"]]
    assert verdicts.count("not checked") == 3
    sql(chains, "DELETE FROM quantumpipes_capsules WHERE tenant_id = 'acme'")
    code, out = run("verify", chains, "--all-tenants", "--json")
    assert (code, json.loads(out)["verdict"]) == (2, "not checked")
    assert run("verify", chains, "--all-tenants", "--pubkey", one["public_key"])[0] == 0


@pytest.fixture
def kept(postgres: str, run: Run, tmp_path: Path) -> Path:
    """Three healthy chains, and a directory with a checkpoint of each."""
    put(postgres, *capsules(2), *(of("acme", number) for number in range(3)), of("beta"))
    place = tmp_path / "kept"
    for name in ("global", "acme", "beta"):
        (place / name).mkdir(parents=True)
        chosen = [] if name == "global" else ["--tenant", name]
        out = place / name / "c.checkpoint"
        assert run("checkpoint", str(out), "--db", postgres, *chosen)[0] == 0
    return place


def test_each_checkpoint_is_held_against_the_chain_that_it_is_of(
    kept: Path, postgres: str, run: Run
) -> None:
    for against in ([kept], kept.rglob("*.checkpoint"), [kept / "acme" / "c.checkpoint"]):
        options = [option for path in against for option in ("--against", str(path))]
        code, out = run("verify", postgres, "--all-tenants", *options)
        assert code == 0, out
        assert "1 checkpoint held against it" in out
    sql(
        postgres,
        "DELETE FROM quantumpipes_capsules WHERE tenant_id = 'acme' AND sequence = 2",
    )
    assert run("verify", postgres, "--all-tenants")[0] == 0, (
        "a chain does not show that its end is missing"
    )
    code, out = run("verify", postgres, "--all-tenants", "--against", str(kept), "--json")
    found = {one["tenant"]: one["counts"] for one in json.loads(out)["chains"]}
    assert (code, found) == (1, {None: {}, "acme": {"checkpoint_truncated": 1}, "beta": {}})


def test_a_chain_that_is_gone_as_a_whole_is_told_by_its_checkpoint(
    kept: Path, postgres: str, run: Run
) -> None:
    sql(postgres, "DELETE FROM quantumpipes_capsules WHERE tenant_id = 'beta'")
    file = kept / "beta" / "c.checkpoint"
    code, out = run("verify", postgres, "--all-tenants", "--against", str(file))
    assert code == 1
    assert "no chain here began as that did: it was removed or rewritten" in out
    code, out = run("verify", postgres, "--all-tenants", "--against", str(kept), "--json")
    found = json.loads(out)
    assert (code, found["verdict"]) == (2, "not checked"), (
        "others may keep theirs in a directory, too"
    )
    (homeless,) = found["checkpoints_of_no_chain"]
    assert homeless["place"] == str(file)


def test_a_checkpoint_of_a_chosen_name_is_refused_and_why(
    kept: Path, postgres: str, run: Run
) -> None:
    named = kept / "named.checkpoint"
    assert run("checkpoint", str(named), "--db", postgres, "--origin", "mine")[0] == 0
    code, out = run("verify", postgres, "--all-tenants", "--against", str(named))
    assert code == 2
    assert "'mine'" in out
    assert "--tenant" in out
    assert run("verify", postgres, "--against", str(named))[0] == 0


def test_all_tenants_of_what_holds_one_chain_checks_that_one(tmp_path: Path, run: Run) -> None:
    path, out = str(tmp_path / "c.db"), str(tmp_path / "c.json")
    put(path, of("acme"), of("beta"), of(None))
    assert (
        run("checkpoint", str(tmp_path / "c.checkpoint"), "--db", path, "--origin", "mine")[0] == 0
    )
    assert run("export", out, "--db", path)[0] == 0
    for source in (path, out):
        against = "--against", str(tmp_path / "c.checkpoint")
        code, shown = run("verify", source, "--all-tenants", *against)
        assert code == 0, shown
        assert "holds one chain, of all tenants" in shown
        assert "1 chain: 1 whole" in shown
        (only,) = json.loads(run("verify", source, "--all-tenants", "--json")[1])["chains"]
        assert (only["tenant"], only["records"], only["verdict"]) == (None, 3, "whole")


def test_all_tenants_and_one_tenant_exclude_each_other(chains: str, run: Run) -> None:
    code, out = run("verify", chains, "--all-tenants", "--tenant", "acme")
    assert code == 2
    assert "leave it out, or --tenant" in out


def test_all_tenants_where_nothing_was_recorded_is_not_called_well(postgres: str, run: Run) -> None:
    put(postgres, *capsules(1))
    sql(postgres, "DELETE FROM quantumpipes_capsules")
    code, out = run("verify", postgres, "--all-tenants")
    assert code == 2
    assert "there are no records" in out
    assert run("verify", postgres)[0] == 2


@pytest.mark.parametrize(
    "command",
    ["tree", "show 0", "tail", "stats", "export -", "report r.html", "verify", "checkpoint"],
)
def test_a_chain_without_capsules_beside_others_is_no_empty_answer(
    command: str, postgres: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(postgres, of("acme"), of(HOSTILE))
    code, out = run(*command.split(), "--db", postgres)
    assert code == 2, out
    assert "--tenant" in out
    assert "tenant 'acme' (1 capsule)" in out
    assert "\x1b" not in out
    code, out = run(*command.split(), "--db", postgres, "--tenant", "acmee")
    assert code == 2, out
    assert "no capsules of tenant 'acmee'" in out
    assert "tenant 'acme' (1 capsule)" in out
    assert not (tmp_path / "r.html").exists()
    with pytest.raises(EvidenceError, match="--tenant"):
        list(read_chain(postgres))


def test_a_capsule_of_another_tenant_is_found_by_name(chains: str, run: Run) -> None:
    wanted = next(read_chain(chains, tenant="beta"))["id"]
    for name in (wanted, wanted[:13].upper()):
        code, out = run("show", name, "--db", chains)
        assert code == 2
        assert "tenant 'beta'" in out
        assert "--tenant" in out
    assert run("show", wanted, "--db", chains, "--tenant", "beta")[0] == 0
    wanted = next(read_chain(chains))["id"]
    assert "the global chain" in run("show", wanted, "--db", chains, "--tenant", "beta")[1]


@pytest.mark.parametrize(
    "name", [HOSTILE, "l" * 40, "", " acme", "ac\u3164me", EVIL, "a'b\"c;--", "ünï"]
)
def test_whatever_a_tenant_is_called_its_chain_is_listed_and_checked(
    name: str, postgres: str, run: Run
) -> None:
    put(postgres, of(name), of(name, 1), of("acme"))
    code, out = run("verify", postgres, "--all-tenants", "--json")
    assert code == 0, out
    assert sorted(one["records"] for one in json.loads(out)["chains"]) == [1, 2]
    for arguments in (["--all-tenants"], ["--tenant", name]):
        code, out = run("verify", postgres, *arguments)
        assert code == 0, out
        assert all(line.isprintable() for line in out.splitlines())


def test_a_column_that_somebody_made_wider_hides_no_chain(postgres: str, run: Run) -> None:
    put(postgres, of("acme"), *capsules(1))
    sql(postgres, "ALTER TABLE quantumpipes_capsules ALTER tenant_id TYPE text")
    sql(
        postgres,
        "UPDATE quantumpipes_capsules SET tenant_id = repeat('a', 50) WHERE tenant_id IS NOT NULL",
    )
    code, out = run("verify", postgres, "--all-tenants", "--json")
    found = {one["tenant"]: one for one in json.loads(out)["chains"]}
    assert (code, found["a" * 50]["counts"]) == (1, {"column_mismatch": 1})


def test_a_chain_that_cannot_be_read_keeps_no_other_from_being_checked(
    postgres: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(postgres, *capsules(2), of("acme"), of("beta"))
    sources = open_all(postgres)
    sql(postgres, "DELETE FROM quantumpipes_capsules WHERE tenant_id = 'acme'")
    judging = Judging(keys_here(), selection=False, processes=0, quiet=False)
    capsys.readouterr()
    assert verify_all(sources, [], judging, strict=False, as_json=True) == 2
    found = {one["tenant"]: one for one in json.loads(capsys.readouterr().out)["chains"]}
    assert [one["verdict"] for one in found.values()] == ["whole", "not checked", "whole"]
    assert "no capsules of tenant 'acme'" in found["acme"]["obstacle"]
    assert verify_all(sources, [], judging, strict=True, as_json=False) == 2
    assert "- tenant 'acme': not checked: " in capsys.readouterr().out


def test_thousands_of_tenants_fill_no_screen(postgres: str, run: Run) -> None:
    put(postgres, of(None), *(of(f"t{number:03}") for number in range(60)))
    _, out = run("verify", postgres)
    assert "60 other chains there were not checked" in out
    assert "and 52 more" in out
    assert len(json.loads(run("verify", postgres, "--json")[1])["other_chains"]) == 60
    code, out = run("verify", postgres, "--all-tenants", "--processes", "0")
    assert (code, "61 chains: 61 whole" in out) == (0, True)


def test_a_lost_end_is_named_among_the_losses(tmp_path: Path, run: Run) -> None:
    path = str(tmp_path / "c.db")
    put(path, of(None), of(None, 1, status="partial", metrics={"ended": "lost"}))
    put(path, of(None, 2, status="partial", metrics={"ended": "cut off"}))
    found = json.loads(run("verify", path, "--json")[1])
    assert (found["verdict"], found["counts"]) == ("whole", {"end_lost": 1})
    assert [one["sequence"] for one in found["findings"]] == [1]
    (losses,) = [one for one in found["checks"] if one["name"] == "losses"]
    assert losses["findings"] == 1
    assert run("verify", path, "--strict")[0] == 1
