"""A run in many processes: how they join, and leave when one of them fails.

They wait for each other at every step, and when they end. Where one fails, jax
keeps it waiting for the others, and ends all of them minutes later with a dump
of its runtime. Here it leaves at once, which the others notice at their next
step.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

import jax

from stn.training.signals import Interrupted

# After so many seconds without a sign of life a process counts as lost.
_HEARTBEAT_TIMEOUT = 30


def _check(number: int | None, which: int | None) -> None:
  """None is left to jax, which finds it out on a cluster."""
  if number is not None and number < 1:
    raise ValueError(f"`num_processes` must be 1 or more; got {number}.")
  if which is not None and not 0 <= which < (number or which + 1):
    raise ValueError(
      f"`process_id` must be in [0, {number}), of `num_processes`; got {which}."
    )


@contextlib.contextmanager
def joined(
  coordinator: str | None = None,
  number: int | None = None,
  which: int | None = None,
  *,
  expected: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
  """Joins the processes of a run; leaves them at once if something fails.

  In a run of many processes an exception within the context is printed and ends
  this process with exit status 1, without jax's wait for the others. Only
  `Interrupted`, which they agree on, is raised.

  Args:
    coordinator: "host:port" of process 0; None, with `number`, for a run in one
      process.
    number: how many processes there are.
    which: this one's, from 0.
    expected: exceptions of which only the message is printed.

  Raises:
    ValueError: if these do not fit each other.

  Example:
    >>> with joined():
    ...   jax.process_count()
    1
  """
  if coordinator is not None or number is not None:
    _check(number, which)
    jax.distributed.initialize(
      coordinator, number, which, heartbeat_timeout_seconds=_HEARTBEAT_TIMEOUT
    )
  try:
    yield
  except Interrupted:
    raise
  except Exception as error:
    if jax.process_count() == 1:
      raise
    if isinstance(error, expected):
      sys.stderr.write(f"Error: {error}\n")
    else:
      traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
