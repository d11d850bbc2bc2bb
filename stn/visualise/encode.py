"""Pictures and animations as files."""

import io
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image


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
