"""Times functions against one another: what all benchmarks share."""

import json
import pathlib
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from stn.data import available_cores

THREADS = available_cores()


def measure(
  runs: dict[Any, Callable[[], Any]], rounds: int, warm: float = 0
) -> dict[Any, tuple[float, float]]:
  """Median and least seconds of each; they take turns.

  Args:
    runs: functions without arguments that return when done.
    rounds: turns of each.
    warm: seconds of untimed calls, at least two, before the timed one in every
      turn: caches and threads are as they would be in a loop. A thread that
      sleeps takes longer to wake than a small workload takes.

  Returns:
    Of every function.
  """
  times = {name: [] for name in runs}
  for run in runs.values():
    run()
  for _ in range(rounds):
    for name, run in runs.items():
      time.sleep(0.01)  # OpenMP's threads wait actively for a while
      begin, calls = time.perf_counter(), 0
      while warm and (calls < 2 or time.perf_counter() - begin < warm):
        run()
        calls += 1
      start = time.perf_counter()
      run()
      times[name].append(time.perf_counter() - start)
  return {name: (float(np.median(t)), min(t)) for name, t in times.items()}


def write_report(path: str | pathlib.Path, rows: list[dict], **more: Any):
  """Writes rows, and what they were measured on, as JSON."""
  report = {
    "machine": platform.processor() or platform.machine(),
    "threads": THREADS,
    "jax": jax.__version__,
    **more,
    "rows": rows,
  }
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(report, indent=2) + "\n")
  print(f"\nWritten to {path}")


def put_in_page(
  path: str | pathlib.Path, mark: str, rows: Sequence[Sequence[str]]
) -> None:
  """Replaces the table between a page's marks; the first row is its head."""
  head, *body = ["| " + " | ".join(row) + " |" for row in rows]
  table = "\n".join([head, "|---" * len(rows[0]) + "|", *body])
  start, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->\n"
  path = pathlib.Path(path)
  before, rest = path.read_text().split(start)
  _, after = rest.split(end)
  path.write_text(f"{before}{start}{table}\n{end}{after}")
