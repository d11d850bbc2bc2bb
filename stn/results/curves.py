"""Curves over the training, of a sweep and of a run."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from stn.fields import short_names
from stn.results.figure import COLOURS, OTHER, make_axes, pyplot, to_png
from stn.results.sweep import Run, SweepRuns, groups

_LETTERS = 110  # of a line of the legend below two pictures
_FEW = 10  # points of a curve, below which each is marked


def _band(
  runs: Sequence[Run], kind: str, metric: str, scale: float
) -> tuple[np.ndarray, np.ndarray]:
  """Steps (S,), and values (runs, S), NaN where a run has none."""
  values: dict[int, dict[int, float]] = {}
  for i, run in enumerate(runs):
    for line in run.lines:
      if line["kind"] == kind and metric in line:
        values.setdefault(line["step"], {})[i] = scale * line[metric]
  steps = sorted(values)
  table = [
    [values[step].get(i, np.nan) for step in steps] for i in range(len(runs))
  ]
  return np.array(steps), np.array(table).reshape(len(runs), len(steps))


def _curve(axis: Any, steps: Any, values: Any, colour: str, label: str) -> None:
  known = np.isfinite(values).any(axis=0)
  steps, values = steps[known], values[:, known]
  if not len(steps):
    return
  if len(values) > 1:
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    axis.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
  width = 1.0 if colour == OTHER else 1.8
  order = 1 if colour == OTHER else 2
  marker = "o" if len(steps) < _FEW else None
  axis.plot(
    steps,
    np.nanmean(values, axis=0),
    color=colour,
    lw=width,
    marker=marker,
    ms=4,
    label=label,
    zorder=order,
  )


def _label(setting: dict[str, Any]) -> str:
  names = short_names(list(setting))
  return ", ".join(
    f"{names[field]} {value:.4g}"
    if isinstance(value, float)
    else f"{names[field]} {value}"
    for field, value in setting.items()
  )


def curves(sweep: SweepRuns, rows: Sequence[dict[str, Any]]) -> bytes:
  """Loss and monitored metric over the training, with bands over seeds.

  Args:
    sweep: from `read_sweep`.
    rows: from `summarise_sweep`; the first ones are in colour.

  Returns:
    A PNG.
  """
  plt = pyplot()
  figure, (left, right) = make_axes(plt, 2)
  of_setting = {
    json.dumps(setting, sort_keys=True): runs for setting, runs in groups(sweep)
  }
  for place, row in reversed(list(enumerate(rows))):
    runs = of_setting[json.dumps(row["setting"], sort_keys=True)]
    shown = place < len(COLOURS)
    colour = COLOURS[place] if shown else OTHER
    searched = sweep.about["search"] and len(runs) == 1
    label = runs[0].name if searched else _label(row["setting"]) or "all seeds"
    if place == len(COLOURS):
      label = "the others"
    elif not shown:
      label = "_"
    _curve(left, *_band(runs, "train", "loss", 1.0), colour, label)
    _curve(
      right,
      *_band(runs, sweep.split, sweep.metric, sweep.scale),
      colour,
      label,
    )
  _loss_axis(left)
  unit = f" ({sweep.unit})" if sweep.unit else ""
  right.set(xlabel="step", ylabel=f"{sweep.split} {sweep.metric}{unit}")
  _crop(right)
  handles, labels = right.get_legend_handles_labels()
  if labels:
    figure.legend(
      handles[::-1],
      labels[::-1],
      loc="outside lower center",
      ncols=max(1, min(len(labels), _LETTERS // (8 + max(map(len, labels))))),
      frameon=False,
    )
  return to_png(plt, figure)


def _loss_axis(axis: Any) -> None:
  from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

  axis.set(xlabel="step", ylabel="training loss", yscale="log")
  axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
  axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
  axis.yaxis.set_minor_formatter(NullFormatter())


def _crop(axis: Any) -> None:
  """Shows what the second half of the training reaches, not its start."""
  values = [line.get_ydata() for line in axis.get_lines()]
  later = np.concatenate([y[len(y) // 2 :] for y in values] or [np.zeros(0)])
  later = later[np.isfinite(later)]
  if len(later) and later.max() > 0:
    axis.set_ylim(0, 1.5 * later.max())


def run_curves(run: Run, metric: str, unit: str) -> bytes:
  """Loss and monitored metric of a single run; a PNG."""
  plt = pyplot()
  figure, (left, right) = make_axes(plt, 2)
  scale = 100.0 if unit == "%" else 1.0
  _curve(left, *_band([run], "train", "loss", 1.0), COLOURS[0], "train")
  for colour, kind in zip(
    COLOURS, ("train", "validation", "test"), strict=False
  ):
    _curve(right, *_band([run], kind, metric, scale), colour, kind)
  _loss_axis(left)
  unit = f" ({unit})" if unit else ""
  right.set(xlabel="step", ylabel=f"{metric}{unit}")
  _crop(right)
  right.legend(frameon=False)
  return to_png(plt, figure)
