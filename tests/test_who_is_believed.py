"""Who is believed: what an auditor brings against what the file brings, every combination of them.

The rule is in docs/decisions/0022-who-is-believed.md. It is held here against all that can have become of a
chain, all that an auditor may bring, and all that a file may bring, as a bundle and as a report, by the library
and by the command. What has to be found is worked out from the first two alone: the file must never make it
milder.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from nacl.signing import SigningKey
from postgres_support import postgres  # noqa: F401 - a fixture
from report_support import browser, show  # noqa: F401 - fixtures
from tampering import (
    FOREIGN,
    Made,
    Record,
    checkpoint,
    made_chains,  # noqa: F401 - a fixture
    seal_all_anew,
    use,  # noqa: F401 - a fixture
)

from capsule_sdk.chain.checkpoint import Checkpoint, SignedCheckpoint, default_origin
from capsule_sdk.chain.checkpoint_files import path_in
from capsule_sdk.cli import main
from capsule_sdk.evidence import (
    given_keys,
    open_source,
    read_checkpoints,
    verify,
)
from capsule_sdk.evidence.exporting.manifest import BUNDLE, REPORT
from capsule_sdk.evidence.formats.bundle import write_bundle
from capsule_sdk.evidence.formats.report import write_report
from capsule_sdk.evidence.verifying.brought import Brought
from capsule_sdk.evidence.verifying.checkpoints import Checkpoints, KnownCheckpoint
from capsule_sdk.evidence.verifying.findings import Reason
from capsule_sdk.evidence.verifying.grounds import grounds_of
from capsule_sdk.evidence.verifying.keys import embedded_key
from capsule_sdk.evidence.verifying.record import Facts
from capsule_sdk.evidence.verifying.verify import Outcome, Verdict

Use = Callable[[str], Made]

#: The worse, the higher; a selection that is not contradicted is as good as a chain that is not.
SEVERITY: Final = {
    Outcome.WHOLE: 0,
    Outcome.SELECTION: 0,
    Outcome.NOT_CHECKED: 1,
    Outcome.BROKEN: 2,
}


def public(key: SigningKey) -> str:
    return bytes(key.verify_key).hex()


# -- what can have become of a chain --------------------------------------------------------------


@dataclass(frozen=True)
class Crime:
    """A chain as it is handed over, and whose key sealed what is in it."""

    records: list[Record]
    key: SigningKey


def rewritten(made: Made, start: int, key: SigningKey | None = None) -> Crime:
    """What somebody with a key makes of the chain, from a record on."""
    records = made.records()
    records[start]["outcome"]["summary"] = "nothing happened"
    for record in records[start:] if key else []:
        record["signed_by"] = f"qp_key_{public(key or made.key)[:4]}"
    seal_all_anew(records, key or made.key, start)
    return Crime(records, key or made.key)


CRIMES: Final[Mapping[str, Callable[[Made], Crime]]] = {
    "none": lambda made: Crime(made.records(), made.key),
    "rewritten from the first": lambda made: rewritten(made, 0),
    "rewritten from the third": lambda made: rewritten(made, 2),
    "cut off": lambda made: Crime(made.records()[:-1], made.key),
    "invented with another key": lambda made: rewritten(made, 0, FOREIGN),
    "changed without a key": lambda made: Crime(
        [record | {"domain": "else"} for record in made.records()], made.key
    ),
}

# -- what the auditor brings ----------------------------------------------------------------------

KEYS: Final[Mapping[str, Callable[[Made], list[str]]]] = {
    "no key": lambda made: [],
    "the key": lambda made: [made.public_key],
}


def kept_file(made: Made, folder: Path) -> list[Path]:
    path = folder / "kept.checkpoint"
    path.write_text(checkpoint(made.records(), made.key).text)
    return [path]


def kept_directory(made: Made, folder: Path) -> list[Path]:
    """A directory in which another chain, which is not here, keeps its checkpoint too."""
    for size in (1, 3, len(made.records())):
        path = path_in(folder, size)
        path.write_text(checkpoint(made.records()[:size], made.key).text)
    other = made.records()
    other[0]["domain"] = "another chain"
    seal_all_anew(other, FOREIGN)
    (folder / "others").mkdir()
    path_in(folder / "others", len(other)).write_text(checkpoint(other, FOREIGN).text)
    return [folder]


KEPT: Final[Mapping[str, Callable[[Made, Path], list[Path]]]] = {
    "no checkpoint": lambda made, folder: [],
    "a checkpoint": kept_file,
    "a directory": kept_directory,
}

# -- what the file brings -------------------------------------------------------------------------

Brings = Callable[[Crime], dict[str, Any]]


def keys_of(crime: Crime, *more: object) -> dict[str, Any]:
    return {"keys": [{"public_key": public(crime.key), "name": "the auditor's own"}, *more]}


def of_its_own(crime: Crime, origin: str | None = None) -> dict[str, Any]:
    note = checkpoint(crime.records, crime.key, origin).text
    return {**keys_of(crime), "checkpoints": [note]}


def of_each_size(crime: Crime) -> dict[str, Any]:
    sizes = range(1, len(crime.records) + 1)
    notes = [checkpoint(crime.records[:size], crime.key).text for size in sizes]
    return {**keys_of(crime), "checkpoints": notes}


EMBEDDED: Final[Mapping[str, Brings]] = {
    "its key": keys_of,
    "a checkpoint of its own": of_its_own,
    "a checkpoint under another name": lambda crime: of_its_own(crime, "the-auditors-name"),
    "checkpoints of each size": of_each_size,
    "a checkpoint without a key": lambda crime: {**of_its_own(crime), "keys": []},
    "what is no checkpoint": lambda crime: {**keys_of(crime), "checkpoints": ["WHOLE\n"]},
    "more checkpoints than anybody has": lambda crime: {
        "checkpoints": of_its_own(crime)["checkpoints"] * 1001
    },
    "what is no key": lambda crime: keys_of(crime, {"public_key": "00"}, {"public_key": 7}, "key"),
    "kinds that do not exist": lambda crime: {"keys": {"a": 1}, "checkpoints": "all"},
    "word that it is whole": lambda crime: {
        **keys_of(crime), "verdict": "whole", "trusted": True, "brought": "kept", "count": 10**9,
    },
}  # fmt: skip


def bundle(records: Sequence[Record], says: Mapping[str, Any], folder: Path) -> Path:
    path = folder / "b.zip"
    with path.open("wb") as file:
        write_bundle(map(json.dumps, records), {"format": BUNDLE, "selection": None, **says}, file)
    return path


def report(records: Sequence[Record], says: Mapping[str, Any], folder: Path) -> Path:
    path = folder / "r.html"
    write_report(
        map(json.dumps, records), path, manifest={"format": REPORT, "selection": None, **says}
    )
    return path


def judged(path: Path, keys: Sequence[str], against: Sequence[Path]) -> Verdict:
    return verify(open_source(path), given_keys(keys), checkpoints=read_checkpoints(against))


def exit_code(path: Path, keys: Sequence[str], against: Sequence[Path]) -> int:
    options = [part for key in keys for part in ("--pubkey", key)]
    options += [part for one in against for part in ("--against", str(one))]
    return main(["verify", str(path), "--quiet", "--processes", "0", *options])


# -- the rule -------------------------------------------------------------------------------------


def deserved(crime: str, keys: str, kept: str) -> Outcome:
    """What has to come of it by the chain and the auditor's own means alone."""
    if crime == "changed without a key" or (
        crime == "invented with another key" and keys == "the key"
    ):
        return Outcome.BROKEN
    if crime != "none" and kept != "no checkpoint":
        return Outcome.BROKEN
    return Outcome.WHOLE if keys == "the key" else Outcome.NOT_CHECKED


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("crime", CRIMES)
def test_nothing_that_a_file_brings_makes_the_verdict_milder(
    crime: str, keys: str, kept: str, use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = use("recorded")
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path / "an auditor without keys"))
    committed, given = CRIMES[crime](made), KEYS[keys](made)
    elsewhere = tmp_path / "kept"
    elsewhere.mkdir()
    against = KEPT[kept](made, elsewhere)
    plain = tmp_path / "chain.json"
    plain.write_text(json.dumps(committed.records))
    least = judged(plain, given, against)
    assert least.outcome is deserved(crime, keys, kept), least.findings
    for (said, brings), write in itertools.product(EMBEDDED.items(), (bundle, report)):
        path = write(committed.records, brings(committed), tmp_path)
        verdict = judged(path, given, against)
        assert SEVERITY[verdict.outcome] >= SEVERITY[least.outcome], said
        assert exit_code(path, given, against) == {0: 0, 1: 2, 2: 1}[SEVERITY[verdict.outcome]]
        assert set(least.counts) <= set(verdict.counts), said
        if not given:
            assert verdict.outcome is not Outcome.WHOLE
        if not against:  # what the file says of its own end is not called a check of it
            end = next(check for check in verdict.checks if check.name == "end of the chain")
            assert not end.done or end.findings


@pytest.mark.parametrize(
    "claim", [{"agent": "collector"}, {"since": "1970-01-01"}, {"else": "x"}, 7]
)
@pytest.mark.parametrize("kept", ["a checkpoint", "a directory"])
@pytest.mark.parametrize("crime", CRIMES)
def test_a_claim_to_be_a_selection_takes_no_checkpoint_out_of_the_judgement(
    crime: str, kept: str, claim: object, use: Use, tmp_path: Path
) -> None:
    made = use("recorded")
    committed = CRIMES[crime](made)
    against = KEPT[kept](made, tmp_path)
    says = {**of_each_size(committed), "selection": claim}
    verdict = judged(bundle(committed.records, says, tmp_path), [made.public_key], against)
    assert not verdict.whole
    if crime != "none":
        assert SEVERITY[verdict.outcome] > 0


def test_a_selection_that_begins_with_another_record_than_a_checkpoint_names_is_broken(
    use: Use, tmp_path: Path
) -> None:
    made = use("recorded")
    crime = rewritten(made, 0)
    says = {**of_its_own(crime), "selection": {"since": "1970-01-01"}}
    path = bundle(crime.records[:2], says, tmp_path)
    verdict = judged(path, [made.public_key], kept_file(made, tmp_path))
    assert set(verdict.counts) == {Reason.CHECKPOINT_MISMATCH}


def test_a_file_that_contradicts_its_own_checkpoint_is_broken(use: Use, tmp_path: Path) -> None:
    """Embedded, it counts against the file and never for it."""
    made = use("recorded")
    records = made.records()
    for note, reason in (
        (checkpoint(records, made.key), Reason.CHECKPOINT_TRUNCATED),
        (checkpoint(records[:2], FOREIGN), Reason.CHECKPOINT_INVALID),
        (checkpoint(rewritten(made, 0).records[:2], made.key), Reason.CHECKPOINT_MISMATCH),
    ):
        path = bundle(records[:-1], {"checkpoints": [note.text]}, tmp_path)
        assert set(judged(path, [made.public_key], []).counts) - {Reason.PARENT_MISSING} >= {reason}


def test_a_kept_checkpoint_is_not_measured_by_the_keys_of_the_file(
    use: Use, tmp_path: Path
) -> None:
    """A file that names no key, or others, does not make a kept checkpoint one that proves nothing."""
    made = use("recorded")
    says = {"keys": [{"public_key": public(FOREIGN)}, {"public_key": made.public_key}]}
    path = bundle(made.records(), says, tmp_path)
    signed_by_a_retired_key = tmp_path / "old.checkpoint"
    retired = SigningKey(b"a key that was retired long ago!")
    signed_by_a_retired_key.write_text(checkpoint(made.records(), retired).text)
    verdict = judged(path, [], [signed_by_a_retired_key])
    assert (verdict.outcome, dict(verdict.counts)) == (Outcome.NOT_CHECKED, {})
    end = next(check for check in verdict.checks if check.name == "end of the chain")
    assert "signatures were not checked" in end.words


def test_who_brought_what_travels_with_it_wherever_it_is_handed(use: Use) -> None:
    """A caller who mixes the two is not believed either: an embedded key beside a given one is not used."""
    made = use("recorded")
    given, embedded = given_keys([made.public_key]), embedded_key(public(FOREIGN))
    manifest = {"keys": [{"public_key": public(FOREIGN)}]}
    mixed = grounds_of([embedded, *given], [], manifest)
    assert mixed.keys == mixed.kept_keys == tuple(given)
    alone = grounds_of([embedded], [], manifest)
    assert (alone.kept_keys, alone.keys) == ((), (embedded,))
    assert grounds_of(None, [], manifest).keys is None
    own = grounds_of([], [checkpoint(made.records(), made.key)], of_its_own(rewritten(made, 0)))
    assert [one.brought for one in (*own.kept, *own.embedded)] == [Brought.KEPT, Brought.EMBEDDED]


def test_what_was_passed_over_in_a_directory_is_said(use: Use, tmp_path: Path) -> None:
    made = use("recorded")
    plain = tmp_path / "chain.json"
    plain.write_text(json.dumps(made.records()))
    (tmp_path / "kept").mkdir()
    verdict = judged(plain, [made.public_key], kept_directory(made, tmp_path / "kept"))
    end = next(check for check in verdict.checks if check.name == "end of the chain")
    assert verdict.whole
    assert (
        "3 checkpoints held against it, 1 passed over that names another first record" in end.words
    )


def test_thousands_of_notes_with_a_wrong_signature_are_looked_at_once_each() -> None:
    """A directory takes a note a minute; one bad key must not cost an auditor minutes."""
    origin, other = default_origin("c" * 64), default_origin("d" * 64)
    known = [
        KnownCheckpoint(
            SignedCheckpoint(Checkpoint(name, size, "b" * 64, datetime.now(UTC)), "", ()),
            f"{name}/{size}",
            "",
            Brought.KEPT,
            among_others=True,
        )
        for name in (origin, other)
        for size in range(1, 4000)
    ]
    record = Facts(sequence=0, hash="c" * 64)
    checkpoints = Checkpoints(known, [public(SigningKey.generate())])
    started = time.perf_counter()
    checkpoints.compare(record, 0)
    assert time.perf_counter() - started < 2
    assert (len(list(checkpoints.end(whole=False))), len(checkpoints.left())) == (3999, 3999)


# -- what is said of what was not seen ------------------------------------------------------------


@pytest.mark.parametrize("second", ["00", "not hexadecimal", "ML-DSA-65, verified", 7])
def test_nobody_calls_a_signature_what_was_not_looked_at(
    second: object, use: Use, show: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = use("recorded")
    records = made.records()
    records[0]["signature_pq"] = second
    path = report(records, {}, tmp_path)
    main(["verify", str(path), "--pubkey", made.public_key, "--processes", "0"])
    said = next(line for line in capsys.readouterr().out.splitlines() if "post-quantum" in line)
    assert said.lstrip().startswith(
        "- post-quantum signatures not checked: 1 record with something"
    )
    assert "whether it is one was not looked at" in said
    page = show(path).use_key(made.public_key).page.inner_text("#checks div.unchecked")
    assert "whether it is one was not looked at" in page


# -- the page -------------------------------------------------------------------------------------


def test_the_page_does_not_take_the_checkpoint_of_the_file_for_a_check_of_its_end(
    use: Use, show: Any, tmp_path: Path
) -> None:
    made = use("recorded")
    crime = rewritten(made, 0)
    page = show(report(crime.records, of_its_own(crime), tmp_path)).use_key(made.public_key)
    assert page.verdict == "whole"
    said = page.page.inner_text("#checks")
    assert "A checkpoint that came with this file, with which it agrees" in said
    assert "Whether the end was cut off, or all was written anew" in said
    assert "cannot be told without a checkpoint that was kept elsewhere" in page.page.inner_text(
        "#verdict-text"
    )
