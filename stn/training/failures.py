"""What a run says when its disk is full or another of its processes ended."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Callable, Iterator

import jax

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class LostProcessError(RuntimeError):
  """A computation over all processes of a run failed."""


def write_failure(error: Exception) -> str | None:
  """Why nothing can be written, if that is what an error is about.

  Args:
    error: an `OSError`, or one of a library that quotes the system's message.

  Returns:
    The system's message, or None.

  Example:
    >>> write_failure(ValueError("a.bin: No space left on device [28]"))
    'No space left on device'
  """
  messages = [os.strerror(number) for number in _CANNOT_WRITE]
  return next((text for text in messages if text in str(error)), None)


def last_good(checkpoints: str | pathlib.Path) -> str:
  """Names the last whole checkpoint, without asking a run's other processes.

  Args:
    checkpoints: their folder; those that are not whole have other names.

  Example:
    >>> last_good("nowhere")
    'there is no checkpoint yet'
  """
  names = [path.name for path in pathlib.Path(checkpoints).glob("*")]
  steps = [int(name) for name in names if name.isdecimal()]
  if not steps:
    return "there is no checkpoint yet"
  return f"the last good checkpoint is that of step {max(steps)}"


@contextlib.contextmanager
def explained(where: object, what_is_left: Callable[[], str]) -> Iterator[None]:
  """Says what a failure means for a run, and where the run continues.

  Args:
    where: the workdir of the run.
    what_is_left: names the last whole checkpoint.

  Raises:
    OSError: instead of the system's own, if nothing can be written.
    LostProcessError: instead of jax's error, if there are several processes.

  Example:
    >>> with explained("runs/a", lambda: last_good("runs/a/checkpoints")):
    ...   pass
  """
  try:
    yield
  except OSError as error:
    reason = write_failure(error)
    if reason is None:
      raise
    raise OSError(
      f"Could not write to {where}: {reason}. Nothing is lost: "
      f"{what_is_left()}. Start again with the same command."
    ) from error
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() == 1:
      raise
    reason = str(error).splitlines()[0]
    raise LostProcessError(
      f"A computation over all {jax.process_count()} processes failed; one of "
      f"them may have ended ({reason}). Nothing is lost: {what_is_left()}. "
      "Start all processes again with the same commands."
    ) from error
