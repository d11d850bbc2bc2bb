"""A picture of how much networks depend on the pose of their input."""

from collections.abc import Mapping
from typing import Any

from stn.results.figure import COLOURS, OTHER, pyplot, to_png

_COLOUR_OF = {"input": OTHER, "outputs": COLOURS[0]}  # transformers: another


def draw_invariance(
  reports: Mapping[str, Mapping[str, Any]], metric: str, *, rate: bool
) -> bytes:
  """Draws what `stn.training.invariance.measure_invariance` tells of runs.

  Args:
    reports: name of a run -> its report.
    metric: what to draw over the poses.
    rate: whether it is a share, shown in percent.

  Returns:
    A PNG. Above, the metric over each kind of pose; below, how much of the
    variance is due to it: of the input, of what each spatial transformer
    returns, and of the outputs, run by run.

  Raises:
    MissingExtraError: if matplotlib is not installed.
  """
  plt = pyplot()
  kinds = [name for name in next(iter(reports.values())) if name != "samples"]
  figure, axes = plt.subplots(
    2,
    len(kinds),
    figsize=(3.4 * len(kinds), 5.6),
    layout="constrained",
    squeeze=False,
    sharey="row",
  )
  for kind, above, below in zip(kinds, *axes, strict=True):
    for (name, report), colour in zip(reports.items(), COLOURS, strict=False):
      poses = report[kind]
      values = [(100 if rate else 1) * value for value in poses[metric]]
      above.plot(poses["values"], values, color=colour, marker="o", ms=3)
      above.lines[-1].set_label(name)
    above.set(xlabel=f"{kind} ({poses['unit']})")
    if kind == "scale":
      above.set_xscale("log", base=2)
      above.xaxis.set_major_formatter("{x:g}")
    bars = [
      (f"{what}, {name}" if len(reports) > 1 else what, share, what)
      for name, report in reports.items()
      for what, share in report[kind]["variance"].items()
    ]
    below.barh(
      [label for label, _, _ in bars],
      [share for _, share, _ in bars],
      color=[_COLOUR_OF.get(what, COLOURS[4]) for _, _, what in bars],
    )
    below.invert_yaxis()
    below.set(xlim=(0, 1), xlabel=f"share of the variance by {kind}")
    for axis in (above, below):
      axis.grid(True, color="#E6E6E6", linewidth=0.8)
      axis.set_axisbelow(True)
      axis.spines[["top", "right"]].set_visible(False)
  axes[0][0].set_ylabel(f"{metric}{' (%)' if rate else ''}")
  axes[0][0].set_ylim(bottom=0)
  axes[0][-1].legend(frameon=False)
  return to_png(plt, figure)
