"""``python -m capsule_sdk.cli``: the ``capsuled`` command without the script."""

import sys

from capsule_sdk.cli import main

sys.exit(main())
