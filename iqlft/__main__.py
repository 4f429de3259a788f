"""`python -m iqlft` is the command `iqlft`."""

import sys

from iqlft.cli.cli import main

sys.exit(main())
