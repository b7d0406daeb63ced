"""`python -m asyncbatch` is the command `asyncbatch`."""

import sys

from asyncbatch.cli import main

sys.exit(main())
