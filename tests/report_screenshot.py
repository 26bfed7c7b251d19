"""Take the picture of a report that the README shows.

python tests/report_screenshot.py docs/images/report.png
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from report_support import (
    OPTIONS,
    Shown,
    checkpoint,
    day,
    manifest,
    public_key,
    report,
    signing_key,
)

VIEWPORT, SCALE = {"width": 1560, "height": 1360}, 0.9  # 1404 by 1224 pixels


def example(folder: Path) -> tuple[Path, str]:
    """Write the report of a day at a trading desk, and return it with the public key of its signer."""
    os.environ["QUANTUMPIPES_DATA_DIR"] = str(folder)
    records = day(folder, 20)  # few enough to be shown unfolded
    key = signing_key(folder)
    says = manifest(
        public_key(key),
        source="trading-desk.db",
        checkpoints=[checkpoint(records, len(records), key)],
    )
    return report(folder / "report.html", records, says), public_key(key)


def main(picture: str) -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=OPTIONS
        )
        page = chromium.new_page(viewport=VIEWPORT, device_scale_factor=SCALE, color_scheme="light")
        path, key = example(Path(folder))
        page.goto(path.as_uri())
        Shown(page).finished().use_key(key)
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=picture)
        chromium.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/report_screenshot.py PICTURE.png")
    main(sys.argv[1])
