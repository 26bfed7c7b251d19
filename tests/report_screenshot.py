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
from report_support import OPTIONS, WAIT, checkpoint, day, manifest, public_key, report, signing_key

VIEWPORT, SCALE = {"width": 1560, "height": 1360}, 0.9  # 1404 by 1224 pixels


def example(folder: Path) -> Path:
    """Write the report of a day at a trading desk."""
    os.environ["QUANTUMPIPES_DATA_DIR"] = str(folder)
    records = day(folder, 20)  # few enough to be shown unfolded
    key = signing_key(folder)
    says = manifest(
        public_key(key),
        source="trading-desk/capsules.db",
        count=len(records),
        checkpoints=[checkpoint(records, len(records), key)],
    )
    return report(folder / "report.html", records, says)


def main(picture: str) -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=OPTIONS
        )
        page = chromium.new_page(viewport=VIEWPORT, device_scale_factor=SCALE, color_scheme="light")
        page.goto(example(Path(folder)).as_uri())
        page.wait_for_selector("#verdict:not([data-verdict=working])", timeout=WAIT)
        page.screenshot(path=picture)
        chromium.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/report_screenshot.py PICTURE.png")
    main(sys.argv[1])
