"""`python -m iqlft_workers --connect tcp://host:port`: a rollout worker, without torch."""

import sys

from iqlft_workers.worker import main

if __name__ == "__main__":
    sys.exit(main())
