"""TensorBoard's event files, written at once.

tensorboardX's own `SummaryWriter` writes in a thread: where that fails, as on a
full disk, the error is lost and the run waits for the thread forever.
"""

import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
  """Imports as if there were no torch, unless it is imported already."""
  hidden = "torch" not in sys.modules
  if hidden:
    sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
  try:
    yield
  finally:
    if hidden:
      del sys.modules["torch"]


# tensorboardX imports torch wherever it is installed, which takes seconds, for
# tensors of torch, which there are none of here.
with _without_torch():
  from tensorboardX import summary
  from tensorboardX.event_file_writer import EventsWriter
  from tensorboardX.proto import event_pb2

_PROTOS: Any = event_pb2  # makes its names when it is imported


class Board:
  """Writes scalars and pictures for TensorBoard.

  Args:
    folder: of the event files; made if it does not exist.
    step: where a run continues: what earlier files hold after it is hidden. 0
      hides nothing.

  Raises:
    OSError: here and in every method, if a file cannot be written.

  Example:
    >>> import tempfile
    >>> board = Board(pathlib.Path(tempfile.mkdtemp()))
    >>> board.add_scalar("train/loss", 0.5, 1)
    >>> board.close()
  """

  def __init__(self, folder: pathlib.Path, step: int = 0):
    """Opens a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    self._events = EventsWriter(str(folder / "events"))
    if step:
      start = _PROTOS.SessionLog(status=_PROTOS.SessionLog.START)
      self._write(step + 1, session_log=start)

  def _write(self, step: int, **what: Any) -> None:
    event = _PROTOS.Event(wall_time=time.time(), step=step, **what)
    self._events.write_event(event)

  def add_scalar(self, name: str, value: float, step: int) -> None:
    """Adds a point of a curve."""
    self._write(step, summary=summary.scalar(name, value))

  def add_image(self, name: str, picture: np.ndarray, step: int) -> None:
    """Adds a picture, uint8 (H, W, 3)."""
    image = summary.image(name, picture, dataformats="HWC")
    self._write(step, summary=image)

  def flush(self) -> None:
    """Puts on disk what is written."""
    self._events.flush()

  def close(self) -> None:
    """Flushes and closes the file."""
    self._events.close()
