"""Trains items of a sweep in a process of its own.

    python -m stn.sweeps.worker SWEEP/ITEM [SWEEP/ITEM ...]

Several items train in one program, see `stn.training.train_population`.
"""

import contextlib
import pathlib
import sys
from collections.abc import Sequence

from stn import command_line, training
from stn.sweeps.folder import Item
from stn.sweeps.local import IN_USE
from stn.training.lock import InUseError, locked

FAILED = 1


def train_items(items: Sequence[Item]) -> int:
  """Trains items, or continues to; notes which failed, and why.

  Args:
    items: that were written, see `Item.write`.

  Returns:
    0, `FAILED` if an item failed, or `IN_USE` if another process trains one.

  Raises:
    Interrupted: after SIGTERM or SIGINT; all is saved.
  """
  configs = [item.config() for item in items]
  paths = [item.path for item in items]
  try:
    with contextlib.ExitStack() as stack:
      for item in items:
        stack.enter_context(locked(item.path))
        (item.path / "failed.json").unlink(missing_ok=True)
      if len(items) == 1:
        results = [training.train_and_evaluate(configs[0], paths[0])]
      else:
        results = training.train_population(configs, paths)
  except InUseError:
    return IN_USE
  except (
    ValueError,
    OSError,
    training.CheckpointError,
    training.NonFiniteError,
  ) as error:
    results = [error] * len(items)
  failed = [
    (item, result)
    for item, result in zip(items, results, strict=True)
    if isinstance(result, Exception)
  ]
  for item, error in failed:
    item.fail(f"{type(error).__name__}: {error}")
  return FAILED if failed else 0


def main(argv: Sequence[str]) -> int:
  """The command line, see the head of this module."""
  command_line.quieten()
  try:
    return train_items([Item(pathlib.Path(path), {}) for path in argv])
  except training.Interrupted as stop:
    print(stop, file=sys.stderr)
    return 128 + stop.signum


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
