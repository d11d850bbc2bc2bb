"""Tables of finished runs: means and intervals over seeds."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from stn.fields import short_names
from stn.results.published import KEY, PUBLISHED
from stn.results.rows import GROUP, settings, values_by_draw

# Student's t, two-sided 95 %, for 2, 3, ... seeds.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def half_width(values: list[float]) -> float:
  """Half of Student's 95 % interval of the mean of two or more values.

  Example:
    >>> round(half_width([1.0, 3.0]), 3)
    12.706
  """
  t = _T95[min(len(values) - 2, len(_T95) - 1)]
  return t * statistics.stdev(values) / math.sqrt(len(values))


def interval(
  values: list[float], single: list[float], *, rate: bool
) -> list[float]:
  """The 95 % interval of a mean over runs.

  Args:
    values: of the runs.
    single: what to return for a single run: its own, over test examples.
    rate: whether they are in per cent, and no mean is outside of 0 to 100.

  Returns:
    Student's, over runs.

  Example:
    >>> interval([1.0, 3.0], [0.0, 0.0], rate=True)
    [0.0, 14.706]
    >>> interval([1.0, 3.0], [0.0, 0.0], rate=False)
    [-10.706, 14.706]
  """
  if len(values) == 1:
    return single
  mean, half = statistics.fmean(values), half_width(values)
  low, high = mean - half, mean + half
  if rate:
    low, high = max(low, 0.0), min(high, 100.0)
  return [round(low, 4), round(high, 4)]


def _by_setting(
  runs: Sequence[dict[str, Any]],
) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
  """Runs that agree in `GROUP`, in groups of the same setting."""
  found: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
  for run, setting in zip(runs, settings(runs), strict=True):
    found.setdefault(json.dumps(setting), (setting, []))[1].append(run)
  return list(found.values())


def summarise(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  """Averages runs that differ in their seed only.

  Args:
    runs: from `read`; of those that do not even differ in the seed, the mean
      counts once.

  Returns:
    One row for each group, in the order of experiment, dataset, distortion,
    recipe and model: what was trained; "seeds", their number; "value", the mean
    of the test metric, and "interval", 95 %, over seeds, or for a single seed
    over test examples; "error" and "ci95", the same for error rates;
    "samples" in the test set; "train_samples" per run, repetitions included;
    "seconds" per run; "device" and "commit" of the runs; "setting", the fields
    of the config that tell the row from others that are otherwise alike.

  Example:
    >>> run = dict.fromkeys(
    ...     ["experiment", "task", "dataset", "distortion", "model", "recipe",
    ...      "metric", "unit"], "")
    >>> run |= {"transform": None, "transformers": 0, "iterations": 1,
    ...         "params": 1, "interval": [0., 2.], "error": None, "samples": 9,
    ...         "train_samples": 9, "seconds": 1.,
    ...         "device": "cpu", "commit": "c", "seed": 0}
    >>> other = run | {"seed": 1, "value": 2.}
    >>> [row] = summarise([run | {"value": 1.}, other])
    >>> row["value"], row["seeds"]
    (1.5, 2)
  """
  groups: dict[tuple, list[dict[str, Any]]] = {}
  for run in runs:
    groups.setdefault(tuple(run[name] for name in GROUP), []).append(run)
  parts = [
    (key, setting, part)
    for key, group in groups.items()
    for setting, part in _by_setting(group)
  ]
  rows = []
  for key, setting, group in parts:
    values = values_by_draw(group)
    value = round(statistics.fmean(values), 4)
    bounds = interval(
      values, group[0]["interval"], rate=group[0]["unit"] == "%"
    )
    is_error = group[0]["error"] is not None
    rows.append(
      {
        **{n: v for n, v in zip(GROUP, key, strict=True) if n != "device"},
        "seeds": len(values),
        "value": value,
        "interval": bounds,
        "error": value if is_error else None,
        "ci95": bounds if is_error else None,
        "samples": group[0]["samples"],
        "seconds": round(statistics.fmean(r["seconds"] for r in group), 1),
        "device": group[0]["device"],
        "commit": ", ".join(sorted({str(run["commit"]) for run in group})),
        "setting": setting,
      }
    )
  order = ("experiment", "dataset", "distortion", "recipe", "model")
  return sorted(
    rows,
    key=lambda row: [
      str(row[n]) for n in (*order, "transform", "device", "setting")
    ],
  )


def to_markdown(rows: Iterable[dict[str, Any]]) -> str:
  """The table, as in docs/results.md.

  Args:
    rows: from `summarise`.

  Returns:
    A Markdown table; "examples" are those seen in training, repetitions
    included. A model with "2 x" has so many transformers in parallel; one with
    "2 warps" composes so many. Where rows are otherwise alike, the fields in
    which their configs differ follow. `PUBLISHED` has the figures of others.

  Example:
    >>> to_markdown([]).splitlines()[0][:21]
    '| experiment | data |'
  """
  lines = [
    "| experiment | data | distortion | model | recipe | parameters | examples "
    "| test (95 % interval) | published | seeds | time per run |",
    "|" + "---|" * 11,
  ]
  for row in rows:
    published = PUBLISHED.get(tuple(row[name] for name in KEY), "")
    several = f"{row['transformers']} x " if row["transformers"] > 1 else ""
    model = row["model"]
    if row["transform"]:
      model += f" {several}{row['transform']}"
      if row["iterations"] > 1:
        model += f", {row['iterations']} warps"
    for field, name in short_names(list(row["setting"])).items():
      model += f", {name}={row['setting'][field]}"
    low, high = row["interval"]
    unit = f" {row['unit']}" if row["unit"] else ""
    lines.append(
      f"| {row['experiment']} | {row['dataset']} | {row['distortion']} "
      f"| {model} | {row['recipe']} | {row['params']:,} "
      f"| {row['train_samples'] / 1e6:.2f} M "
      f"| {row['metric']} **{row['value']:.2f}**{unit} ({low:.2f} to "
      f"{high:.2f}) | {published} | {row['seeds']} "
      f"| {row['seconds']:.0f} s, {row['device']} |"
    )
  return "\n".join(lines)
