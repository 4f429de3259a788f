"""TensorBoard's events: scalars in a file that TensorBoard reads.

They only repeat `metrics.jsonl` for viewing, so a disk without room for them ends no run. (The
writer that torch brings fails in a thread of its own, with a traceback.)
"""

from __future__ import annotations

import errno
import io
import logging
import os
import platform
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from iqlft_workers.files import unwritten

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)
_FILES = "events.out.tfevents.*"


def forget(folder: Path) -> None:
    """Removes existing events, which a resumed run writes anew."""
    for file in folder.glob(_FILES):
        with suppress(OSError):
            file.unlink()


class EventLog:
    """A file of events; after a failed write it takes no more.

    Args:
        folder: where a new file is made.
    """

    def __init__(self, folder: Path) -> None:
        # Imported late: only runs that write events need it.
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415
        from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415

        self._event, self._record = Event, RecordWriter
        name = f"events.out.tfevents.{int(time.time())}.{platform.node()}.{os.getpid()}"
        self._path = folder / f"{name}.{time.monotonic_ns()}"
        self._failed = False
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, scalars: Mapping[str, float], step: int, when: float | None = None) -> None:
        """Appends scalars of a step.

        Args:
            scalars: by tag.
            step: of all of them.
            when: in seconds since 1970; None: now.
        """
        event = self._event(wall_time=when or time.time(), step=step)
        for tag, value in scalars.items():
            event.summary.value.add(tag=tag, simple_value=value)
        self._append(event)

    def write_hyperparameters(self, settings: Mapping[str, bool | float | str], trial: str) -> None:
        """Appends settings, which TensorBoard shows beside those of other runs."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # noqa: PLC0415

        event = self._event(wall_time=time.time())
        event.summary.MergeFrom(hparams_pb(dict(settings), trial_id=trial))
        self._append(event)

    def write_text(self, tag: str, text: str) -> None:
        """Appends a text, which TensorBoard shows as Markdown."""
        from tensorboard.compat.proto.summary_pb2 import SummaryMetadata  # noqa: PLC0415
        from tensorboard.compat.proto.tensor_pb2 import TensorProto  # noqa: PLC0415
        from tensorboard.compat.proto.types_pb2 import DT_STRING  # noqa: PLC0415

        event = self._event(wall_time=time.time())
        plugin = SummaryMetadata.PluginData(plugin_name="text")
        event.summary.value.add(
            tag=tag,
            metadata=SummaryMetadata(plugin_data=plugin),
            tensor=TensorProto(dtype=DT_STRING, string_val=[text.encode()]),
        )
        self._append(event)

    def _append(self, event: Any) -> None:  # noqa: ANN401 -- generated
        if self._failed:
            return
        record = io.BytesIO()
        self._record(record).write(event.SerializeToString())
        try:
            with self._path.open("ab", buffering=0) as file:
                if file.write(record.getvalue()) != len(record.getvalue()):
                    raise OSError(errno.ENOSPC, "only a part was written")
        except OSError as error:
            # Nothing after a partial record could be read.
            self._failed = True
            _log.warning("%s; TensorBoard sees no more.", unwritten(error, self._path))
