"""`iqlft` on a disk that is slow to write the journal, so that a kill can come in between.

It takes the same arguments:

    python tests/chaos/slow_disk.py finetune ...
"""

from __future__ import annotations

import os
import sys
import time

from iqlft.cli.main import main

RECORD_SECONDS = 0.01
_pwrite = os.pwrite


def _in_two_parts(descriptor: int, record: bytes, offset: int) -> int:
    half = _pwrite(descriptor, record[: len(record) // 2], offset)
    time.sleep(RECORD_SECONDS)
    return half + _pwrite(descriptor, record[half:], offset + half)


if __name__ == "__main__":
    os.pwrite = _in_two_parts  # type: ignore[assignment]
    sys.exit(main())
