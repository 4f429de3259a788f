"""`python -m iqlft` is the command `iqlft`."""

import sys

from iqlft.cli import main

sys.exit(main())
