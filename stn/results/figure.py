"""Figures, by matplotlib: the extra `viz`."""

import io
from typing import Any

from stn._extras import needs

# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
OTHER = "#BBBBBB"


def pyplot() -> Any:
  """Matplotlib's pyplot, drawing without a screen.

  Raises:
    MissingExtraError: if matplotlib is not installed.
  """
  with needs("viz", "A picture"):
    import matplotlib
    import matplotlib.pyplot as plt

  matplotlib.use("Agg")
  return plt


def to_png(plt: Any, figure: Any) -> bytes:
  """Closes a figure; returns it as a PNG."""
  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=110)
  plt.close(figure)
  return file.getvalue()


def make_axes(plt: Any, columns: int, width: float = 4.6) -> tuple[Any, Any]:
  """A figure of several pictures side by side."""
  figure, axes = plt.subplots(
    1,
    columns,
    figsize=(width * columns, 3.6),
    layout="constrained",
    squeeze=False,
  )
  for axis in axes[0]:
    axis.grid(True, color="#E6E6E6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
  return figure, axes[0]
