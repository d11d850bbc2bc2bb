"""The table of a sweep: means and intervals over seeds, the best first."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from stn.fields import short_names
from stn.results.rows import values_by_draw
from stn.results.sweep import Run, SweepRuns, groups
from stn.results.tables import interval


def _row(
  sweep: SweepRuns, setting: dict[str, Any], runs: list[Run]
) -> dict[str, Any]:
  counts = Counter(run.status for run in runs)
  rows = [run.row for run in runs if run.row is not None]
  chosen = [
    value
    for run in runs
    if run.status in ("done", "pruned")
    and (value := run.best(sweep.metric, "validation")) is not None
  ]
  values = values_by_draw(rows)
  return {
    "setting": setting,
    "items": [run.name for run in runs],
    "metric": sweep.metric,
    "unit": sweep.unit,
    "value": round(statistics.fmean(values), 4) if values else None,
    "interval": interval(values, rows[0]["interval"], rate=sweep.unit == "%")
    if values
    else None,
    "validation": round(sweep.scale * statistics.fmean(chosen), 4)
    if chosen
    else None,
    "seeds": len(values),
    **{
      name: counts[name]
      for name in ("failed", "pruned", "unfinished", "waiting")
    },
    "params": rows[0]["params"] if rows else None,
    "seconds": round(statistics.fmean(row["seconds"] for row in rows), 1)
    if rows
    else None,
  }


def summarise_sweep(sweep: SweepRuns) -> list[dict[str, Any]]:
  """Averages the items of a sweep that differ in their seed only.

  Args:
    sweep: from `read_sweep`.

  Returns:
    A row for each setting, the best first: by "validation", the mean of the
    smallest monitored value on that split, where it was measured, else by
    "value", the mean test metric. "interval" is over seeds, or for one seed
    over test examples; "seeds" counts what is done; "failed", "pruned",
    "unfinished" and "waiting" the rest. Settings of which nothing is done are
    last.

  Example:
    >>> summarise_sweep(read_sweep("runs/lr"))[0]["setting"]  # doctest: +SKIP
    {'optim.learning_rate': 0.01}
  """
  rows = [_row(sweep, setting, runs) for setting, runs in groups(sweep)]
  by = "validation" if sweep.split == "validation" else "value"

  def place(row):
    value = row[by]
    if value is None or not math.isfinite(value):
      value = math.inf
    return (not row["seeds"] or row[by] is None, value)

  return sorted(rows, key=place)


def _show(value: Any) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(
  sweep: SweepRuns, rows: Sequence[dict[str, Any]]
) -> tuple[list[str], list[list[str]]]:
  """Head and cells of the table of a sweep.

  Args:
    sweep: from `read_sweep`.
    rows: from `summarise_sweep`.

  Returns:
    Names of columns, and for each row its cells; the first is "best" in the
    first row.
  """
  names = short_names(sweep.fields)
  unit = f", {sweep.unit}" if sweep.unit else ""
  validation = [f"validation{unit}"] if sweep.split == "validation" else []
  head = [
    "",
    *(names[field] for field in sweep.fields),
    *validation,
    f"test {sweep.metric}{unit} (95 % interval)",
    "seeds",
    "parameters",
    "seconds",
    "not done",
  ]
  cells = []
  for i, row in enumerate(rows):
    value = "-"
    if row["value"] is not None:
      low, high = row["interval"]
      value = f"{row['value']:.2f} ({low:.2f} to {high:.2f})"
    chosen = "-" if row["validation"] is None else f"{row['validation']:.2f}"
    left = ", ".join(
      f"{row[name]} {name}"
      for name in ("failed", "pruned", "unfinished", "waiting")
      if row[name]
    )
    done = row["seeds"] > 0
    cells.append(
      [
        "best" if i == 0 and done else "",
        *(_show(row["setting"].get(field, "")) for field in sweep.fields),
        *([chosen] if validation else []),
        value,
        str(row["seeds"]),
        f"{row['params']:,}" if done else "-",
        f"{row['seconds']:.0f}" if done else "-",
        left,
      ]
    )
  if not any(row[-1] for row in cells):
    head, cells = head[:-1], [row[:-1] for row in cells]
  return head, cells


def sweep_to_markdown(sweep: SweepRuns, rows: Sequence[dict[str, Any]]) -> str:
  """The table of a sweep, below a line that says how far it is.

  Args:
    sweep: from `read_sweep`.
    rows: from `summarise_sweep`.

  Returns:
    Markdown.

  Example:
    >>> sweep = read_sweep("runs/lr")  # doctest: +SKIP
    >>> print(sweep_to_markdown(sweep, summarise_sweep(sweep))
    ...      )  # doctest: +SKIP
  """
  head, cells = table(sweep, rows)
  lines = [head, ["---"] * len(head), *cells]
  return "\n".join(
    [progress(sweep), "", *(f"| {' | '.join(line)} |" for line in lines)]
  )


def progress(sweep: SweepRuns) -> str:
  """How far a sweep is, in words."""
  counts = Counter(run.status for run in sweep.runs)
  names = ("done", "failed", "pruned", "unfinished", "waiting")
  return f"{sweep.path}: {len(sweep.runs)} items, " + ", ".join(
    f"{counts[name]} {name}" for name in names if counts[name]
  )
