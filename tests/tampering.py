"""Chains to tamper with, ways to do it, and what qp-capsule says of the result.

    from tampering import made_chains, use  # noqa: F401 - fixtures

    def test_what_it_finds(use: Callable[[str], Made], tmp_path: Path) -> None:
        records = use("reference").records()
        del records[1]
        assert reasons(judge(as_json(records, tmp_path))) == {Reason.SEQUENCE_GAP}

The chains are made once for all tests, by the real recorder and by qp-capsule's own chain, and only copied
afterwards. A record is a dict here: the 13 fields of its content, and the five of its seal.
"""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import pytest
import qp_capsule.cli as reference
from chain_support import capsule, capsules, rotate_keys
from nacl.signing import SigningKey
from qp_capsule import (
    AuthoritySection,
    Capsule,
    CapsuleChain,
    CapsuleStorage,
    CapsuleType,
    ContextSection,
    ExecutionSection,
    Keyring,
    OutcomeSection,
    ReasoningOption,
    ReasoningSection,
    Seal,
    ToolCall,
    TriggerSection,
    compute_hash,
    validate_capsule_dict,
)
from qp_capsule.capsule import ADDED_CONTENT_DEFAULTS, attach_stored_document, content_for_hash
from recording import begin_call, end

import capsule_sdk
from capsule_sdk import capsule_scope, capsuled, current_task
from capsule_sdk.chain import open_chain
from capsule_sdk.chain.checkpoint import Checkpoint, default_origin, parse, sign
from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.sources import open_source
from capsule_sdk.evidence.verifying.brought import Brought
from capsule_sdk.evidence.verifying.checkpoints import KnownCheckpoint
from capsule_sdk.evidence.verifying.findings import Reason
from capsule_sdk.evidence.verifying.keys import TrustedKey, given_keys, keys_here
from capsule_sdk.evidence.verifying.verify import Verdict, verify

Record = dict[str, Any]
Place = tuple[str | int, ...]  # where in a record a value stands

SEAL: Final = ("hash", "signature", "signature_pq", "signed_at", "signed_by")
#: What is only found with public keys.
OF_SIGNATURES: Final = frozenset(
    {
        Reason.SIGNATURE_MISSING,
        Reason.SIGNATURE_INVALID,
        Reason.SIGNER_MISMATCH,
        Reason.KEY_UNKNOWN,
    }
)
FOREIGN: Final = SigningKey(b"the key of somebody else entirely"[:32])

_TEXT_IN_TWO_FORMS = unicodedata.normalize("NFC", 'ünïcødé → 漢字 🙂 "quoted" back\\slash \t tab')


# -- chains that are good -------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """A chain as it was made, and where the keys are that it was sealed with."""

    db: Path

    @property
    def home(self) -> Path:
        return self.db.parent

    @property
    def key(self) -> SigningKey:
        """The key in use."""
        return SigningKey((self.home / "key").read_bytes())

    @property
    def public_key(self) -> str:
        return bytes(self.key.verify_key).hex()

    @cached_property
    def _stored(self) -> list[Record]:
        connection = sqlite3.connect(self.db)
        rows = connection.execute(f"SELECT data, {', '.join(SEAL)} FROM capsules ORDER BY sequence")
        found = [json.loads(text) | dict(zip(SEAL, seal, strict=True)) for text, *seal in rows]
        connection.close()
        return found

    def records(self) -> list[Record]:
        """All records, to be done with as one likes."""
        return copy.deepcopy(self._stored)

    def copy(self, folder: Path) -> Path:
        """Copy the database."""
        return Path(shutil.copy(self.db, folder / "chain.db"))


def everything() -> Capsule:
    """A capsule in which every field of the protocol is filled."""
    return Capsule(
        id=UUID("5e1f7a30-0c4b-4d1e-9a55-0123456789ab"),
        type=CapsuleType.WORKFLOW,
        domain="finance",
        parent_id=UUID("5e1f7a30-0c4b-4d1e-9a55-000000000000"),
        trigger=TriggerSection(
            type="scheduled",
            source="nightly",
            timestamp=datetime(2026, 3, 1, 2, 3, 4, 567890, tzinfo=UTC),
            request=_TEXT_IN_TWO_FORMS,
            correlation_id="c-1",
            user_id="ana@example.com",
        ),
        context=ContextSection(
            agent_id="trading-bot",
            session_id="5e1f7a30-0c4b-4d1e-9a55-5e5510000000",
            environment={"depth": {"list": [1, 2.5, True, None, "x"]}, "größe": 1},
        ),
        reasoning=ReasoningSection(
            analysis="two ways",
            options=[
                ReasoningOption("a", "sell", ["fast"], [], {"scope": "small"}, 0.5, [], True),
                ReasoningOption("b", "hold", [], ["slow"], {}, 1.0, ["drift"], False, "too slow"),
            ],
            selected_option="a",
            reasoning="it is faster",
            confidence=0.75,
            model="gpt-4o",
            prompt_hash="ab" * 32,
        ),
        authority=AuthoritySection(
            "human_approved", "ana", "policy/7", [{"type": "policy", "level": 1}], "over the limit"
        ),
        execution=ExecutionSection(
            [ToolCall("sell", {"count": 3}, {"ok": True}, True, 12, None)],
            duration_ms=15,
            resources_used={"tokens_in": 10, "cost": 0.25},
        ),
        outcome=OutcomeSection(
            "success", {"sold": 3}, "sold", "none", ["mail"], {"latency_ms": 15, "cost_usd": "0.1"}
        ),
    )


def _by_qp_capsule(db: Path) -> None:
    """Three records: an ordinary one, the one with everything under it, an ordinary one."""

    async def make() -> None:
        storage = CapsuleStorage(db)
        chain, seal = CapsuleChain(storage), Seal()
        task = everything()
        before, after = capsule("before", id=task.parent_id), capsule("after")
        for one in (before, task, after):
            await chain.seal_and_store(one, seal=seal)
        await storage.close()

    asyncio.run(make())


def _by_the_recorder(db: Path) -> None:
    """``audit`` holds ``collect``, which holds two calls, and ``store``; ``late`` left a call behind."""
    recorder = capsule_sdk.configure(url=db, settle_timeout=0.05)

    @capsuled(capsule_type="tool")
    def store(text: str) -> int:
        return len(text)

    @capsuled(agent_id="collector", session_id="s" * 300)
    def collect() -> None:
        for _ in range(2):
            end(recorder, begin_call(recorder, current_task()))

    with capsule_scope("audit", agent_id="auditor", domain="finance") as task:
        task.reason("look, then write", options=["write", "wait"], selected="write", confidence=0.5)
        task.tool("search", {"query": "ünï"}, result=[1, 2])
        collect()
        store("漢字 🙂")
    with capsule_scope("late", authority="human-approved", approver="ana") as task:
        call = begin_call(recorder, task)
    assert capsule_sdk.flush(20) == 0
    end(recorder, call)
    assert capsule_sdk.flush(20) == 0
    capsule_sdk.shutdown(5)


def _with_three_keys(db: Path) -> None:
    for turn in range(3):
        if turn:
            rotate_keys()
        chain = open_chain(url=db)
        chain.append(capsules(2, f"turn-{turn}"))
        chain.close()


def _with_losses(db: Path) -> None:
    lost = OutcomeSection(status="failure", metrics={"records_lost": 3})
    chain = open_chain(url=db)
    chain.append([capsule("before"), capsule("loss", type=CapsuleType.SYSTEM, outcome=lost)])
    chain.close()


def _of_length(count: int, db: Path) -> None:
    chain = open_chain(url=db)
    chain.append(capsules(count))
    chain.close()


_MAKERS = {
    "reference": _by_qp_capsule,
    "recorded": _by_the_recorder,
    "rotated": _with_three_keys,
    "losses": _with_losses,
    "medium": partial(_of_length, 300),
    "long": partial(_of_length, 1_500),
}


class Chains(dict[str, Made]):
    """The chains by name, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __missing__(self, name: str) -> Made:
        home = self._folder / name
        home.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("QUANTUMPIPES_DATA_DIR", str(home))
            _MAKERS[name](home / "capsules.db")
        self[name] = Made(home / "capsules.db")
        return self[name]


@pytest.fixture(scope="session")
def made_chains(tmp_path_factory: pytest.TempPathFactory) -> Chains:
    return Chains(tmp_path_factory.mktemp("made"))


# -- who has the key ------------------------------------------------------------------------------


def content_of(record: Record) -> Record:
    return {name: value for name, value in record.items() if name not in SEAL}


def seal_anew(record: Record, key: SigningKey) -> None:
    """What somebody with a key can do to one record; its own word on the signer is left alone."""
    record["hash"] = compute_hash(content_of(record))
    record["signature"] = key.sign(record["hash"].encode()).signature.hex()


def seal_all_anew(records: list[Record], key: SigningKey, start: int = 0) -> None:
    """Make one chain of them, from this place on: numbers, links, seals."""
    previous = records[start - 1]["hash"] if start else None
    for place in range(start, len(records)):
        records[place] |= {"sequence": place, "previous_hash": previous}
        seal_anew(records[place], key)
        previous = records[place]["hash"]


def link_anew(records: list[Record], key: SigningKey, start: int) -> None:
    """Seal the record at this place as it is, whatever is in it, and link those behind it."""
    seal_anew(records[start], key)
    seal_all_anew(records, key, start + 1)


def checkpoint(
    records: Sequence[Record], key: SigningKey, origin: str | None = None
) -> KnownCheckpoint:
    """One that was made when these were all there were."""
    said = Checkpoint(
        origin or default_origin(records[0]["hash"]),
        len(records),
        records[-1]["hash"],
        datetime(2026, 11, 26, 10, 40, tzinfo=UTC),
    )
    note = sign(said, key)
    return KnownCheckpoint(parse(note), "kept/elsewhere.checkpoint", note, Brought.KEPT)


# -- how a chain lies on disk ---------------------------------------------------------------------


def as_json(records: object, folder: Path) -> Path:
    return as_text(json.dumps(records), folder)


def as_lines(records: Sequence[object], folder: Path) -> Path:
    return as_text("".join(f"{json.dumps(record)}\n" for record in records), folder, "chain.jsonl")


def as_text(text: str | bytes, folder: Path, name: str = "chain.json") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return path


def in_database(made: Made, records: Sequence[Record], folder: Path) -> Path:
    """A copy of the database in which rows were altered; what they are found by follows, where it can."""
    names = ", ".join(f"{name} = ?" for name in (*_CELLS, *_INDEXES))
    changes = [
        (f"UPDATE capsules SET {names} WHERE sequence = ?", (*_cells(record, before), place))
        for place, (record, before) in enumerate(zip(records, made._stored, strict=True))
        if not same(record, before)
    ]
    return altered(made, folder, *changes)


def altered(made: Made, folder: Path, *changes: str | tuple[str, tuple[object, ...]]) -> Path:
    """A copy of the database on which these statements were executed."""
    path = made.copy(folder)
    connection = sqlite3.connect(path)
    for change in changes:
        connection.execute(*([change] if isinstance(change, str) else change))
    connection.commit()
    connection.close()
    return path


_COLUMNS: Final = f"id, type, sequence, previous_hash, data, {', '.join(SEAL)}, session_id"


def without_constraints(made: Made, folder: Path, *changes: str) -> Path:
    """A copy whose table has neither keys nor types, so that anything can be put into it."""
    return altered(
        made,
        folder,
        f"CREATE TABLE loose ({_COLUMNS})",
        f"INSERT INTO loose SELECT {_COLUMNS} FROM capsules",
        "DROP TABLE capsules",
        "ALTER TABLE loose RENAME TO capsules",
        *changes,
    )


_CELLS: Final = ("data", *SEAL)
_INDEXES: Final = ("id", "type", "previous_hash", "session_id")


def _cells(record: Record, before: Record) -> Iterator[object]:
    yield json.dumps(content_of(record))
    for name in SEAL:  # a table of qp-capsule's takes null in the last two alone
        yield record.get(name, "") if name.startswith("signed") else record.get(name) or ""
    for name in _INDEXES:
        places = (record, record.get("context")) if name == "session_id" else (record,)
        found = places[-1].get(name) if isinstance(places[-1], dict) else ""
        yield found if isinstance(found, str) and found.isprintable() else before.get(name)


def same(one: object, other: object) -> bool:
    """Tell whether two values are written alike; 1, 1.0 and true are not."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


# -- what is said of it ---------------------------------------------------------------------------


class Word(NamedTuple):
    """What qp-capsule's command would say: 0 whole, 1 broken, 2 it cannot read that."""

    full: int
    signatures: int
    pubkey: int


def qp_capsule_says(path: Path, public_key: str) -> Word:
    """Do what ``capsule verify`` does with ``--full``, ``--signatures`` and ``--pubkey``, in this process."""
    try:
        if path.suffix == ".db":
            loaded = asyncio.run(reference._load_capsules_from_db(str(path)))
        else:
            loaded = reference._load_capsules_from_json(path)
        results = (
            reference.verify_chain(loaded, level="full"),
            reference.verify_chain(loaded, level="signatures", seal=Seal(keyring=Keyring())),
            reference.verify_chain(loaded, level="signatures", seal=Seal(), public_key=public_key),
        )
    except Exception:  # it ends with exit code 2, or with a traceback
        return Word(2, 2, 2)
    return Word(*(0 if result.valid else 1 for result in results))


def qp_capsule_refuses(content: Record) -> bool:
    """Whether this is not a capsule by qp-capsule's rules, or one that its model would show otherwise."""
    try:
        if not validate_capsule_dict({**ADDED_CONTENT_DEFAULTS, **content}).ok:
            return True
        return content_for_hash(attach_stored_document(Capsule.from_dict(content), content)) is None
    except Exception:
        return True


def has_a_hash(record: Record) -> bool:
    """Whether every language can hash it: NaN, infinity and half a character are not JSON (RFC 8259)."""
    try:
        json.dumps(content_of(record), ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True


def judge(path: Path, keys: Sequence[TrustedKey] | None = None, **options: Any) -> Verdict:
    return verify(open_source(path), keys, **options)


def reasons(verdict: Verdict) -> set[Reason]:
    return {finding.reason for finding in verdict.findings}


def is_whole(path: Path, keys: Sequence[TrustedKey] | None = None) -> bool:
    """What cannot be read is not whole, and says so in the one way there is."""
    try:
        verdict = judge(path, keys)
    except EvidenceError:
        return False
    return (
        verdict.whole or not verdict.records
    )  # we call no records nothing, qp-capsule calls them valid


def our_word(path: Path, public_key: str) -> Word:
    """The same three questions put to `verify`."""
    keys = (None, keys_here(), given_keys([public_key]))
    return Word(*(0 if is_whole(path, some) else 1 for some in keys))


def assert_as_qp_capsule_says(path: Path, public_key: str, about: str = "") -> None:
    """The verdicts are equal; what qp-capsule cannot read is not whole."""
    theirs, ours = qp_capsule_says(path, public_key), our_word(path, public_key)
    assert ours == tuple(min(code, 1) for code in theirs), (about, theirs, ours)


# -- values that are not what they were -----------------------------------------------------------


def places(value: object, above: Place = ()) -> Iterator[Place]:
    """Yield where every value of a document stands, containers included, but for the document itself."""
    inner: Any = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in inner:
        yield (*above, key)
        yield from places(one, (*above, key))


def at(document: Any, place: Place) -> Any:
    for key in place:
        document = document[key]
    return document


def put(document: Any, place: Place, value: object) -> None:
    at(document, place[:-1])[place[-1]] = value


def changes_of(value: object) -> dict[str, object]:
    """Return other values, each named after what was done to this one. None is written as it is."""
    found: dict[str, object] = {"null": None, "text": "x", "list": [value], "object": {"x": value}}
    if isinstance(value, bool):
        found |= {"negated": not value, "number": int(value), "quoted": str(value).lower()}
    elif isinstance(value, int | float):
        found |= {
            "one more": value + 1, "negative": -value - 1, "quoted": str(value), "truth": bool(value),
            "float": float(value), "integer": int(value), "hair": value + 2**-40, "minus zero": -0.0,
            "infinite": float("inf"), "nan": float("nan"), "huge": 10**400,
        }  # fmt: skip
    elif isinstance(value, str):
        found |= {
            "empty": "", "case": value.swapcase(), "space": f"{value} ", "cut": value[:-1],
            "nul": f"{value}\0", "decomposed": unicodedata.normalize("NFD", value), "number": 7,
            "letter": _another_letter(value), "digit": _another_digit(value), "half": f"{value}\ud800",
        }  # fmt: skip
    elif isinstance(value, list):
        found |= {"empty": [], "reversed": value[::-1], "doubled": value + value, "cut": value[:-1]}
    elif isinstance(value, dict):
        more = {**value, "unknown": 1}
        found |= {"empty": {}, "more": more, "less": dict(list(value.items())[1:]), "sorted": []}
    return {name: other for name, other in found.items() if not same(other, value)}


def _another_letter(text: str) -> str:
    place = next((place for place, one in enumerate(text) if one.isalpha()), None)
    return (
        text if place is None else f"{text[:place]}{chr(ord(text[place]) ^ 1)}{text[place + 1 :]}"
    )


def _another_digit(text: str) -> str:
    place = next((place for place, one in reversed(list(enumerate(text))) if one.isdigit()), None)
    return text if place is None else f"{text[:place]}{int(text[place]) ^ 1}{text[place + 1 :]}"


@pytest.fixture
def use(made_chains: Chains, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Made]:
    """Give one of the chains, with its keys as those of this machine."""

    def take(name: str) -> Made:
        made = made_chains[name]
        monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(made.home))
        return made

    return take
