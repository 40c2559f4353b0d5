"""``python -m tinyrnn`` is the command ``tinyrnn``."""

import sys

from tinyrnn.cli import main

sys.exit(main())
