"""Inputs, what each spatial transformer makes of them, and answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stn._extras import needs
from stn.visualise.outlines import region_lines, to_pixels

# Okabe and Ito's colours, told apart with any colour vision.
_RIGHT, _WRONG, _NEITHER = "#0072B2", "#D55E00", "#000000"
_OUTSIDE = "#D9D9D9"
_OUTLINES = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7")
_BOX = "#F0E442"
# Two channels in one picture: orange and blue, white where both are.
_TWO_CHANNELS = np.array([[1.0, 0.62, 0.1], [0.1, 0.55, 1.0]])

# More rows are left out: the last one says how many.
_MAX_ROWS = 12
# Room around the input for what is looked at outside of it, of its size.
_ROOM = 0.2


def _scale(image: np.ndarray) -> np.ndarray:
  """Values in [0, 1]; those of another range by their own percentiles.

  Wide kernels overshoot a little: that is cut off, not scaled.
  """
  if image.min() >= -0.25 and image.max() <= 1.25:
    return np.clip(image, 0, 1)
  low, high = np.percentile(image, (1, 99))
  return np.clip((image - low) / max(high - low, 1e-6), 0, 1)


def to_picture(image: np.ndarray) -> np.ndarray:
  """What is shown of one input, feature map or volume.

  Args:
    image: (H, W, C) or (D, H, W, C). A volume is projected along depth; one
      channel is grey, two are two colours, three are red, green and blue, of
      more the mean is shown.

  Returns:
    (H, W) or (H, W, 3), in [0, 1].

  Example:
    >>> to_picture(np.zeros((5, 4, 3, 1))).shape
    (4, 3)
  """
  image = np.asarray(image, np.float32)
  if image.ndim == 4:
    image = image.max(axis=0)
  channels = image.shape[-1]
  if channels == 2:
    return np.clip(_scale(image) @ _TWO_CHANNELS, 0, 1)
  if channels == 3:
    return _scale(image)
  return _scale(image.mean(axis=-1))


class _Row(NamedTuple):
  """One row of a panel: a label, and what to draw for each example."""

  label: str
  draw: Callable[[Any, int], None]


def _show(axes: Any, image: np.ndarray) -> None:
  """Draws one input, feature map, volume or signal."""
  axes.set(xticks=[], yticks=[])
  axes.spines[:].set_visible(False)
  if image.ndim == 2:
    scaled = _scale(np.asarray(image, np.float32))
    axes.plot(scaled, linewidth=1.0)
    axes.set(ylim=(-0.05, 1.05), xlim=(-0.5, len(image) - 0.5))
    return
  axes.imshow(
    to_picture(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
  )


def _show_region(axes: Any, grid: np.ndarray, size: Any, colour: str) -> None:
  first, lines = region_lines(np.asarray(grid), size)
  for line in lines:
    axes.plot(*line.T, color=colour, linewidth=1.4)
  axes.plot(*first, "o", color=colour, markersize=4)


def _show_with_regions(
  axes: Any, image: np.ndarray, grids: Any, start: int
) -> None:
  """An input, and the regions that grids look at, with room around."""
  size = image.shape[:-1]
  _show(axes, image)
  for k, grid in enumerate(grids):
    _show_region(axes, grid, size, _OUTLINES[(start + k) % len(_OUTLINES)])
  width, height = size[-1], 1 if len(size) == 1 else size[-2]
  x = _ROOM * width if len(grids) else 0
  axes.set_xlim(-0.5 - x, width - 0.5 + x)
  if len(size) > 1:
    y = _ROOM * height if len(grids) else 0
    axes.set_ylim(height - 0.5 + y, -0.5 - y)
  axes.set_facecolor(_OUTSIDE)


def _show_box(axes: Any, box: Any, size: Sequence[int]) -> None:
  """The true box, dashed."""
  corners = np.asarray(box, np.float32)[
    [[0, 1], [2, 1], [2, 3], [0, 3], [0, 1]]
  ]
  axes.plot(*to_pixels(corners, size[-2:]).T, "--", color=_BOX, linewidth=1.2)


def _short(name: str, names: Sequence[str]) -> str:
  """The last part of a module's path, if it says which."""
  last = name.rpartition("/")[2]
  alike = sum(other.rpartition("/")[2] == last for other in names)
  return last if alike == 1 else name


def _sees(warp: Any, images: np.ndarray) -> bool:
  """Whether a transformer warps the images, and no map of their shape."""
  inputs = np.asarray(warp.input, np.float32)
  return inputs.shape == images.shape and np.allclose(
    inputs, np.asarray(images, np.float32), atol=0.02
  )


def _rows(
  images: np.ndarray, captions: Sequence[Any], warps: Mapping[str, Any]
) -> list[_Row]:
  """The rows of a panel, from the top."""
  size = images.shape[1:-1]
  sees = {name: _sees(warp, images) for name, warp in warps.items()}
  on_input = [
    np.asarray(warp.grid) for name, warp in warps.items() if sees[name]
  ]
  colours = 0

  def draw_input(axes, n):
    _show_with_regions(
      axes, images[n], [g for grid in on_input for g in grid[n]], 0
    )
    if captions[n].box is not None:
      _show_box(axes, captions[n].box, size)

  rows = [_Row("input", draw_input)]
  for name, warp in warps.items():
    label = _short(name, list(warps))
    inputs, outputs = np.asarray(warp.input), np.asarray(warp.output)
    grids, first = np.asarray(warp.grid), colours
    if not sees[name]:
      first = 0

      def draw_map(axes, n, inputs=inputs, grids=grids):
        _show_with_regions(axes, inputs[n], grids[n], 0)

      rows.append(_Row(f"to\n{label}", draw_map))
    else:
      colours += outputs.shape[1]
    for k in range(outputs.shape[1]):

      def draw_output(axes, n, outputs=outputs, k=k, first=first):
        _show(axes, outputs[n, k])
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(_OUTLINES[(first + k) % len(_OUTLINES)])

      number = f" {k + 1}" if outputs.shape[1] > 1 else ""
      text = "warped" if len(warps) == 1 else label
      rows.append(_Row(text + number, draw_output))
  if len(rows) > _MAX_ROWS:
    more = len(rows) - _MAX_ROWS
    rows = rows[:_MAX_ROWS]
    rows[-1] = rows[-1]._replace(label=f"{rows[-1].label}\n(+ {more} more)")
  return rows


def panel(
  images: np.ndarray,
  captions: Sequence[Any],
  warps: Mapping[str, Any],
  title: str,
) -> np.ndarray:
  """Draws inputs, what each spatial transformer makes of them, and answers.

  A line on the input bounds the region that a transformer looks at; a dot marks
  the corner that becomes the top left of its output. A transformer of feature
  maps has its own input in a row above its output.

  Args:
    images: signals (N, W, C), images (N, H, W, C) or volumes (N, D, H, W, C).
    captions: for each example an object with "text", "correct" (True, False or
      None) and "box", normalised (x0, y0, x1, y1) or None: see
      `stn.tasks.Caption`.
    warps: name -> an object with "grid" (N, K, *output, d), "input" and
      "output" (N, K, *output, C): see `stn.models.Warp`. {} for a network
      without spatial transformers.
    title: over the picture.

  Returns:
    uint8 (height, width, 3), about 100 pixels per example; its size depends on
    the numbers of examples, rows and no more.

  Raises:
    MissingExtraError: if matplotlib is not installed.

  Example:
    >>> from types import SimpleNamespace
    >>> captions = [SimpleNamespace(text="3", correct=True, box=None)] * 2
    >>> picture = panel(np.zeros((2, 8, 8, 1)), captions, {}, "step 0")
    >>> picture.dtype, picture.shape[-1]
    (dtype('uint8'), 3)
  """
  with needs("viz", "A picture"):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

  images = np.asarray(images)
  rows = _rows(images, captions, warps)
  number, height = len(images), 1.0 * len(rows) + 0.75
  figure = Figure(figsize=(number + 0.3, height), dpi=100)
  canvas = FigureCanvasAgg(figure)
  figure.suptitle(title, fontsize=11, y=0.99, va="top")
  grid_of_axes = figure.subplots(len(rows), number, squeeze=False)
  for row, axes_of_row in zip(rows, grid_of_axes, strict=True):
    axes_of_row[0].set_ylabel(row.label, fontsize=9)
    for n, axes in enumerate(axes_of_row):
      row.draw(axes, n)
  for caption, axes in zip(captions, grid_of_axes[-1], strict=True):
    colours = {True: _RIGHT, False: _WRONG, None: _NEITHER}
    axes.set_xlabel(caption.text, fontsize=10, color=colours[caption.correct])
  figure.subplots_adjust(
    left=0.3 / (number + 0.3) + 0.01,
    right=0.99,
    bottom=0.28 / height,
    top=1 - 0.36 / height,
    wspace=0.06,
    hspace=0.06,
  )
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()
