"""Pictures of what a spatial transformer does (needs matplotlib and pillow)."""

import io
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import ArrayLike
from PIL import Image

from stn import grids

# Okabe and Ito's colours, told apart with any colour vision.
_RIGHT, _WRONG = "#0072B2", "#D55E00"
_OUTSIDE = "#D9D9D9"
_OUTLINES = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7")


def grid_outline(
  grid: ArrayLike, size: Sequence[int], *, align_corners: bool = False
) -> np.ndarray:
  """The outline, in pixels of the input, of the region that a grid looks at.

  Args:
    grid: one grid (H', W', 2), normalised.
    size: (H, W) of the input.
    align_corners: the coordinate rule, see `stn.grids`.

  Returns:
    A closed line (n, 2) of (x, y), clockwise from the output's top left pixel.

  Example:
    >>> outline = grid_outline(grids.regular_grid((3, 3)), (3, 3))
    >>> outline[[0, 2, 4, 6, -1]].tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0], [0.0, 0.0]]
  """
  grid = np.asarray(grid)
  ring = np.concatenate(
    [grid[0, :-1], grid[:-1, -1], grid[-1, :0:-1], grid[:0:-1, 0], grid[:1, 0]]
  )
  axes = [
    grids.normalised_to_pixel(ring[:, i], n, align_corners=align_corners)
    for i, n in enumerate(reversed(size))
  ]
  return np.stack([np.asarray(axis) for axis in axes], axis=-1)


def _show(axes, image: np.ndarray) -> None:
  """Draws one image (H, W, C): C = 3 in colour, else its first channel."""
  image = np.clip(np.asarray(image, np.float32), 0, 1)
  image = image if image.shape[-1] == 3 else image[..., 0]
  axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
  axes.set(xticks=[], yticks=[])
  axes.spines[:].set_visible(False)


def panel(
  images: np.ndarray,
  logits: np.ndarray,
  labels: np.ndarray,
  aux: Mapping[str, np.ndarray],
  title: str,
) -> np.ndarray:
  """Draws inputs, what each spatial transformer makes of them, and answers.

  A line on the input bounds the region that a transformer looks at; a dot marks
  the corner that becomes the top left of its output.

  Args:
    images: (N, H, W, C) in [0, 1].
    logits: (N, classes).
    labels: (N,).
    aux: the model's; "grid" (N, K, H', W', 2) and "warped" (N, H', W', K * C)
      if it has spatial transformers.
    title: over the picture.

  Returns:
    uint8 (height, width, 3), about 100 pixels an example.

  Raises:
    ImportError: if matplotlib is not installed.

  Example:
    >>> picture = panel(
    ...     np.zeros((2, 8, 8, 1)), np.eye(2), np.arange(2), {}, "step 0")
    >>> picture.dtype, picture.shape[-1]
    (dtype('uint8'), 3)
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  number, size = len(images), images.shape[1:3]
  grid = np.asarray(aux["grid"]) if "grid" in aux else np.zeros((number, 0))
  transformers = grid.shape[1]
  rows = 1 + transformers
  figure = Figure(figsize=(number + 0.3, 1.0 * rows + 0.75), dpi=100)
  canvas = FigureCanvasAgg(figure)
  figure.suptitle(title, fontsize=11, y=0.99, va="top")
  grid_of_axes = figure.subplots(rows, number, squeeze=False)
  names = ["input", "warped"] if rows == 2 else ["input"]
  names += [f"warped {k + 1}" for k in range(rows - len(names))]
  for axes, name in zip(grid_of_axes[:, 0], names, strict=True):
    axes.set_ylabel(name, fontsize=9)
  for n in range(number):
    top = grid_of_axes[0, n]
    _show(top, images[n])
    for k in range(transformers):
      colour = _OUTLINES[k % len(_OUTLINES)]
      line = grid_outline(grid[n, k], size)
      top.plot(*line.T, color=colour, linewidth=1.4)
      top.plot(*line[0], "o", color=colour, markersize=4)
      channels = images.shape[-1]
      warped = np.asarray(aux["warped"])[n]
      _show(
        grid_of_axes[1 + k, n],
        warped[..., k * channels : (k + 1) * channels],
      )
    # Room around the input for what is looked at outside of it.
    x, y = (0.2 * n if transformers else 0 for n in reversed(size))
    top.set(
      xlim=(-0.5 - x, size[1] - 0.5 + x), ylim=(size[0] - 0.5 + y, -0.5 - y)
    )
    top.set_facecolor(_OUTSIDE)
    answer, truth = int(np.argmax(logits[n])), int(labels[n])
    right = answer == truth
    grid_of_axes[-1, n].set_xlabel(
      f"{answer} ✓" if right else f"{answer} ✗ ({truth})",
      fontsize=10,
      color=_RIGHT if right else _WRONG,
    )
  figure.subplots_adjust(
    left=0.3 / (number + 0.3) + 0.01,
    right=0.99,
    bottom=0.28 / (1.0 * rows + 0.75),
    top=1 - 0.36 / (1.0 * rows + 0.75),
    wspace=0.06,
    hspace=0.06,
  )
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _palette(picture: Image.Image, colours: int) -> Image.Image:
  """A picture in its own palette, in which rare colours have a place.

  The usual one goes by the number of pixels: the few of an answer's blue or
  orange would be averaged with the grey of the digits. The step of k-means
  keeps white white.
  """
  return picture.quantize(
    colours,
    method=Image.Quantize.MAXCOVERAGE,
    kmeans=1,
    dither=Image.Dither.NONE,
  )


def encode_png(picture: np.ndarray, colours: int = 256) -> bytes:
  """Encodes a picture as a light PNG with a palette.

  Args:
    picture: uint8 (H, W, 3).
    colours: size of the palette, 2 to 256.

  Returns:
    The file's bytes.

  Example:
    >>> encode_png(np.zeros((4, 4, 3), np.uint8))[1:4]
    b'PNG'
  """
  buffer = io.BytesIO()
  image = _palette(Image.fromarray(picture), colours)
  image.save(buffer, "PNG", optimize=True)
  return buffer.getvalue()


def write_gif(
  frames: Sequence[pathlib.Path], path: pathlib.Path, seconds: float = 0.5
) -> None:
  """Joins pictures of one size into an endless animation.

  Args:
    frames: PNG files, in order; the last one is shown longer.
    path: of the GIF.
    seconds: that each frame is shown.

  Raises:
    ValueError: if there are no frames.

  Example:
    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.png").write_bytes(
    ...     encode_png(np.zeros((4, 4, 3), np.uint8)))
    >>> write_gif([folder / "a.png"], folder / "a.gif")
    >>> (folder / "a.gif").read_bytes()[:3]
    b'GIF'
  """
  if not frames:
    raise ValueError("`frames` must not be empty.")
  images = [np.asarray(Image.open(frame).convert("RGB")) for frame in frames]
  # One palette for all frames keeps the animation from flickering.
  together = _palette(Image.fromarray(np.concatenate(images)), 256)
  height, width = images[0].shape[:2]
  first, *rest = [
    together.crop((0, i * height, width, (i + 1) * height))
    for i in range(len(images))
  ]
  durations = [round(1000 * seconds)] * len(images)
  durations[-1] *= 4
  first.save(
    path,
    save_all=True,
    append_images=rest,
    duration=durations,
    loop=0,
    optimize=True,
  )
