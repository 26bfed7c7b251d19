"""The report: a chain as one HTML file that shows its records and checks them in the reader's browser.

The page itself, ``page.html``, is built from the sources in ``web/`` and holds all of its style and script.
What it is filled with can be read back without running any of it.
"""

from .reading import read_report
from .writing import write_report

__all__ = ["read_report", "write_report"]
