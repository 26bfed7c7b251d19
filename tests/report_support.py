"""What the tests of the report share: a real browser, chains to show, and what the page says of them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import pytest
from nacl.signing import SigningKey
from qp_capsule import Capsule
from report_example import example_day

from capsule_sdk.chain import open_chain
from capsule_sdk.chain.checkpoint import Checkpoint, default_origin, parse, sign
from capsule_sdk.cli import main
from capsule_sdk.content import canonical, digest
from capsule_sdk.evidence.exporting.manifest import REPORT, manifest_of
from capsule_sdk.evidence.formats.report import write_report
from capsule_sdk.evidence.selection import Selection
from capsule_sdk.evidence.sources import open_source
from capsule_sdk.evidence.verifying.brought import Brought
from capsule_sdk.evidence.verifying.checkpoints import KnownCheckpoint
from capsule_sdk.evidence.verifying.keys import given_keys

Record = dict[str, Any]
SEAL = ("hash", "signature", "signature_pq", "signed_at", "signed_by")
#: Nothing of what Chromium does by itself: no graphics card, no look for updates, no other protocol.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Whether what a test needs must be there; read before any test, because tests start without our variables.
REQUIRED = os.environ.get("CAPSULED_TEST_BROWSER") == "1"
WAIT = 60_000  # milliseconds, on a busy machine


def missing(what: str) -> NoReturn:
    """Skip a test for which something is not there, or fail it where it must be."""
    (pytest.fail if REQUIRED else pytest.skip)(what)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without which these tests are skipped."""
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    program = next(found, None)
    if program is None:
        missing("there is no Chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield chromium
        chromium.close()


# ── chains ────────────────────────────────────────────────────────────────────────────────────────


def sealed(capsules: Iterable[Capsule], folder: Path) -> list[Record]:
    """Seal capsules into a chain in this folder, and return its records in their exported form."""
    chain = open_chain(None, folder / "capsules.db")
    chain.append(list(capsules))
    chain.close()
    return [
        json.loads(entry.record_text()) for entry in open_source(folder / "capsules.db").entries()
    ]


def day(folder: Path, rounds: int = 2) -> list[Record]:
    return sealed(example_day(rounds), folder)


def signing_key(folder: Path) -> SigningKey:
    """The key that `sealed` has made in this folder."""
    return SigningKey((folder / "key").read_bytes())


def public_key(key: SigningKey) -> str:
    return bytes(key.verify_key).hex()


def reseal(record: Record, key: SigningKey | None = None) -> None:
    """Hash a changed record anew, as a forger would, and sign it where there is a key."""
    content = {name: value for name, value in record.items() if name not in SEAL}
    record["hash"] = digest(canonical(content))
    if key is not None:
        record["signature"] = key.sign(record["hash"].encode()).signature.hex()


def rechain(records: list[Record], key: SigningKey) -> None:
    """Number, link and seal records anew, as only the owner of the key can."""
    previous = None
    for sequence, record in enumerate(records):
        record.update(sequence=sequence, previous_hash=previous)
        reseal(record, key)
        previous = record["hash"]


def checkpoint(
    records: list[Record], size: int, key: SigningKey, *, first: str | None = None
) -> str:
    """A note by the owner of the key that the chain once had this size; ``first`` is what it began with."""
    time = datetime(2026, 3, 2, 18, tzinfo=UTC)
    origin = default_origin(first or records[0]["hash"])
    return sign(Checkpoint(origin, size, records[size - 1]["hash"], time), key)


def children_digest(ids: Iterable[str]) -> str:
    return hashlib.sha3_256("".join(f"{one}\n" for one in sorted(ids)).encode()).hexdigest()


# ── reports ───────────────────────────────────────────────────────────────────────────────────────


def manifest(
    *keys: str,
    source: str = "capsules.db",
    selection: Mapping[str, str] | None = None,
    checkpoints: Iterable[str] = (),
) -> dict[str, Any]:
    """What `capsuled report` writes of what is in the report."""
    return manifest_of(
        REPORT,
        source=source,
        made_at=datetime(2026, 3, 2, 18, tzinfo=UTC),
        selection=Selection.from_claim(selection or {}),
        keys=given_keys(keys),
        checkpoints=[
            KnownCheckpoint(parse(note), "a file", note, Brought.KEPT) for note in checkpoints
        ],
    )


def report(path: Path, records: Iterable[Record | str], says: Mapping[str, Any]) -> Path:
    """Write a report of records, given as objects or as their exact text."""
    texts = (record if isinstance(record, str) else json.dumps(record) for record in records)
    write_report(texts, path, manifest=says)
    return path


#: How the page calls what the command's verdicts are.
VERDICTS = {"whole": "whole", "selection": "whole", "broken": "broken", "not checked": "open"}


def command(*arguments: str) -> Any:
    """What a command prints as JSON on a machine that has no keys of its own."""
    out = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as empty,
        mock.patch.dict(os.environ, QUANTUMPIPES_DATA_DIR=empty),
        contextlib.redirect_stdout(out),
    ):
        main([*arguments, "--json"])
    return json.loads(out.getvalue())


def judged(path: Path, *keys: str) -> tuple[str, set[tuple[str, int | None]]]:
    """What `capsuled verify` says of a report, in the page's words: the verdict, and the findings."""
    given = [part for key in keys for part in ("--pubkey", key)]
    found = command("verify", str(path), "--processes", "0", *given)
    findings = {(one["reason"], one["sequence"]) for one in found["findings"]}
    return VERDICTS[found["verdict"]], findings


@dataclass
class Shown:
    """A report in the browser, with what failed in it and what it asked for."""

    page: Any
    failures: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return str(self.page.locator("#verdict").get_attribute("data-verdict"))

    def finished(self) -> Shown:
        """Wait until all checks are done."""
        self.page.wait_for_selector("#verdict:not([data-verdict=working])", timeout=WAIT)
        return self

    def findings(self) -> set[tuple[str, int | None]]:
        """Return code and sequence of all findings."""
        more = self.page.locator(".group > button:visible")
        while more.count():
            more.first.click()
        found = self.page.eval_on_selector_all(
            "li.finding", "items => items.map((item) => [item.dataset.code, item.dataset.sequence])"
        )
        return {(code, int(sequence) if sequence else None) for code, sequence in found}

    def judgement(self) -> tuple[str, set[tuple[str, int | None]]]:
        """Return the verdict and the findings, as `judged` has those of the command."""
        return self.verdict, self.findings()

    @property
    def title(self) -> str:
        return str(self.page.inner_text("#verdict-title"))

    def use_key(self, *keys: str) -> Shown:
        """Paste keys, and wait until all checks are done with them."""
        self.page.fill("#key", " ".join(keys))
        self.page.click("#keys form button[type=submit]")
        return self.finished()

    def search(self, words: str) -> str:
        """Search, and return what the page says of how many there are."""
        before = self.page.inner_text("#count")
        self.page.fill("#search", words)
        self.page.wait_for_selector(f"#count:not(:text-is({json.dumps(before)}))", timeout=WAIT)
        return str(self.page.inner_text("#count"))

    def rows(self) -> list[str]:
        """Return the names of the rows that are drawn, from top to bottom."""
        return self.page.locator(".rows .title").all_inner_texts()


Show = Callable[..., Shown]


@pytest.fixture
def show(browser: Any) -> Iterator[Show]:
    """Open a report; afterwards, nothing may have failed or gone to the network."""
    shown: list[Shown] = []

    def open_report(path: Path, *, script: str = "", **options: Any) -> Shown:
        page = browser.new_page(viewport={"width": 1400, "height": 1000}, **options)
        one = Shown(page)
        page.on("pageerror", lambda error: one.failures.append(str(error)))
        page.on("console", lambda said: said.type == "error" and one.failures.append(said.text))
        page.on("dialog", lambda dialog: one.failures.append(dialog.message))
        page.on("request", lambda request: one.requests.append(request.url))
        if script:
            page.add_init_script(script)
        page.goto(path.as_uri())
        shown.append(one)
        return one.finished()

    yield open_report
    for one in shown:
        assert not one.failures
        assert all(url.startswith(("file:", "blob:")) for url in one.requests), one.requests
        one.page.close()
