"""`python -m iqlft` is the command `iqlft`."""

import sys

from iqlft.cli.main import main

sys.exit(main())
