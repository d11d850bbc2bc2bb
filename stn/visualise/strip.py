"""Rows of images, side by side."""

from collections.abc import Sequence

import numpy as np

from stn._extras import needs
from stn.visualise.panel import to_picture


def strip(
  rows: Sequence[tuple[str, Sequence[np.ndarray]]],
  captions: Sequence[str] = (),
) -> np.ndarray:
  """Draws rows of images, such as one input in many poses.

  Args:
    rows: label and images of each, (H, W, C); of equal numbers.
    captions: below the images of the last row.

  Returns:
    uint8 (height, width, 3), about 100 pixels per image.

  Raises:
    MissingExtraError: if matplotlib is not installed.

  Example:
    >>> strip([("input", [np.zeros((8, 8, 1))] * 3)]).shape[-1]
    3
  """
  with needs("viz", "A picture"):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

  number = len(rows[0][1])
  width, height = number + 0.3, len(rows) + 0.3
  figure = Figure(figsize=(width, height), dpi=100)
  figure.subplots_adjust(
    left=0.25 / width,
    right=0.99,
    bottom=0.25 / height,
    top=1 - 0.05 / height,
    wspace=0.05,
    hspace=0.05,
  )
  canvas = FigureCanvasAgg(figure)
  axes = figure.subplots(len(rows), number, squeeze=False)
  for (label, images), row in zip(rows, axes, strict=True):
    row[0].set_ylabel(label, fontsize=9)
    for image, axis in zip(images, row, strict=True):
      axis.imshow(to_picture(image), cmap="gray", vmin=0, vmax=1)
      axis.set(xticks=[], yticks=[])
  for caption, axis in zip(captions, axes[-1], strict=False):
    axis.set_xlabel(caption, fontsize=9)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()
