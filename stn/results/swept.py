"""What was swept or searched, and the metric it led to."""

import json
import math
from typing import Any

import numpy as np

from stn.fields import short_names
from stn.files import read_json
from stn.results.figure import COLOURS, OTHER, make_axes, pyplot, to_png
from stn.results.sweep import Run, SweepRuns


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _place(axis: Any, values: list[Any]) -> list[Any]:
  """Sets up the horizontal axis of a field; the places of its values."""
  if all(map(_is_number, values)):
    if min(values) > 0 and max(values) / min(values) >= 10:
      axis.set_xscale("log")
    return values
  names = sorted({str(value) for value in values})
  axis.set_xticks(range(len(names)), names, rotation=20 * (len(names) > 3))
  axis.set_xlim(-0.5, len(names) - 0.5)
  return [names.index(str(value)) for value in values]


def measured(sweep: SweepRuns) -> list[tuple[Run, float]]:
  """Runs and what they are chosen by: the best on validation, or the test."""
  found = []
  for run in sweep.runs:
    if sweep.split == "validation":
      value = run.best(sweep.metric, sweep.split)
      if run.status in ("done", "pruned") and value is not None:
        found.append((run, sweep.scale * value))
    elif run.row is not None:
      found.append((run, run.row["value"]))
  return found


def swept(sweep: SweepRuns) -> bytes | None:
  """The metric over what was swept.

  Args:
    sweep: from `read_sweep`.

  Returns:
    A PNG: of one field the runs and their mean, of two a map of means (points,
    in a search), of more a picture for each. None if only seeds were swept.
  """
  found = measured(sweep)
  if not sweep.fields or not found:
    return None
  plt = pyplot()
  in_all = all(f in r.setting for f in sweep.fields for r, _ in found)
  if len(sweep.fields) == 2 and in_all and not sweep.about["search"]:
    return _heat_map(plt, sweep)
  columns = min(len(sweep.fields), 4)
  count = math.ceil(len(sweep.fields) / columns)
  figure, axes = plt.subplots(
    count,
    columns,
    figsize=(3.6 * columns, 3.2 * count),
    layout="constrained",
    squeeze=False,
    sharey=True,
  )
  names = short_names(sweep.fields)
  for axis, field in zip(axes.flat, sweep.fields, strict=False):
    axis.grid(True, color="#E6E6E6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    points = [(r, y) for r, y in found if field in r.setting]
    axis.set_xlabel(names[field])
    if not points:  # of the items with this field none is done yet
      continue
    places = _place(axis, [run.setting[field] for run, _ in points])
    values = [value for _, value in points]
    done = np.array([run.status == "done" for run, _ in points])
    x, y = np.array(places, float), np.array(values)
    if done.any():  # what was stopped early may be far above
      y = np.minimum(y, y[done].max() + 0.5 * np.ptp(y[done]) + 1e-9)
    axis.scatter(x[done], y[done], s=26, color=COLOURS[0], label="run")
    if not done.all():
      axis.scatter(
        x[~done],
        y[~done],
        s=22,
        facecolors="none",
        edgecolors=OTHER,
        label="stopped early, or above",
      )
    if len(sweep.fields) == 1:
      means = sorted({p: y[x == p].mean() for p in set(x.tolist())}.items())
      # A line between names would say nothing.
      named = not all(_is_number(run.setting[field]) for run, _ in points)
      style = {"ls": "", "marker": "_", "ms": 24} if named else {"lw": 1.6}
      axis.plot(
        *zip(*means, strict=True), color=COLOURS[1], label="mean", **style
      )
  for axis in axes.flat[len(sweep.fields) :]:
    axis.set_visible(False)
  unit = f" ({sweep.unit})" if sweep.unit else ""
  for row in axes:
    row[0].set_ylabel(f"{sweep.split} {sweep.metric}{unit}")
  handles, labels = axes.flat[0].get_legend_handles_labels()
  if len(labels) > 1:
    figure.legend(
      handles, labels, loc="outside lower center", ncols=3, frameon=False
    )
  return to_png(plt, figure)


def _heat_map(plt: Any, sweep: SweepRuns) -> bytes:
  names = short_names(sweep.fields)
  first, second = sweep.fields
  points = measured(sweep)

  def levels(field):
    values = {
      json.dumps(run.setting[field]): run.setting[field] for run, _ in points
    }
    numbers = all(map(_is_number, values.values()))
    return sorted(values.values(), key=None if numbers else str)

  rows, columns = levels(second), levels(first)
  table = np.full((len(rows), len(columns)), np.nan)
  for i, row in enumerate(rows):
    for j, column in enumerate(columns):
      found = [
        value
        for run, value in points
        if run.setting[first] == column and run.setting[second] == row
      ]
      if found:
        table[i, j] = np.mean(found)
  size = (2.2 + 0.95 * len(columns), 1.6 + 0.6 * len(rows))
  figure, axis = plt.subplots(figsize=size, layout="constrained")
  image = axis.imshow(table, cmap="cividis_r", aspect="auto")
  low, high = np.nanmin(table), np.nanmax(table)
  for (i, j), value in np.ndenumerate(table):
    if np.isfinite(value):
      dark = value > (low + high) / 2
      axis.text(
        j,
        i,
        f"{value:.3g}",
        ha="center",
        va="center",
        color="white" if dark else "black",
      )
  axis.set_xticks(
    range(len(columns)),
    [f"{x:g}" if _is_number(x) else str(x) for x in columns],
  )
  axis.set_yticks(
    range(len(rows)), [f"{x:g}" if _is_number(x) else str(x) for x in rows]
  )
  axis.set(xlabel=names[first], ylabel=names[second])
  unit = f" ({sweep.unit})" if sweep.unit else ""
  figure.colorbar(image, label=f"{sweep.split} {sweep.metric}{unit}")
  return to_png(plt, figure)


def importance(sweep: SweepRuns) -> bytes | None:
  """How much each field of a search mattered; None if that is not known."""
  file = sweep.path / "importance.json"
  if not file.is_file():
    return None
  shares = sorted(read_json(file).items(), key=lambda x: x[1])
  names = short_names([field for field, _ in shares])
  plt = pyplot()
  figure, [axis] = make_axes(plt, 1, width=5.0)
  axis.barh(
    [names[field] for field, _ in shares],
    [100 * share for _, share in shares],
    color=COLOURS[0],
  )
  axis.set(xlabel="importance (%), by PED-ANOVA")
  axis.grid(False, axis="y")
  return to_png(plt, figure)
