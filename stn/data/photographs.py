"""Photographs to put things on: backgrounds that need no download."""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np
import PIL.Image

from stn._extras import needs
from stn.data.records import DataNotFoundError

_SUFFIXES = (".jpg", ".jpeg", ".png")


@functools.cache
def load_photographs(folder: str = "") -> tuple[PIL.Image.Image, ...]:
  """Photographs to cut backgrounds from.

  Args:
    folder: of JPEG and PNG files; "" takes the two photographs that the package
      scikit-learn ships, of 640x427 pixels.

  Returns:
    The photographs, RGB, in the order of their names.

  Raises:
    DataNotFoundError: if there are none in a folder.
    MissingExtraError: if scikit-learn is not installed.

  Example:
    >>> [image.size for image in load_photographs()]
    [(640, 427), (640, 427)]
  """
  if folder:
    paths = sorted(
      path
      for path in pathlib.Path(folder).expanduser().glob("*")
      if path.suffix.lower() in _SUFFIXES
    )
    if not paths:
      raise DataNotFoundError(
        f"`folder` must hold photographs (*{', *'.join(_SUFFIXES)}); there are "
        f"none in {folder!r}."
      )
    return tuple(PIL.Image.open(path).convert("RGB") for path in paths)
  with needs("demo", "Drawing on photographs without a `folder` of them"):
    from sklearn.datasets import load_sample_images
  return tuple(map(PIL.Image.fromarray, load_sample_images().images))


def background(
  rng: np.random.Generator,
  photographs: Sequence[PIL.Image.Image],
  size: Sequence[int],
) -> np.ndarray:
  """A random crop of a random photograph, mirrored half of the time.

  Its sides are 0.2 to 0.8 of the largest crop of this aspect.

  Args:
    rng: of the example.
    photographs: RGB, of any sizes.
    size: (H, W) that the crop is resized to.

  Returns:
    uint8 (H, W, 3).

  Example:
    >>> grey = PIL.Image.new("RGB", (90, 60), (7, 8, 9))
    >>> background(np.random.default_rng(0), [grey], (2, 3))[0, 0]
    array([7, 8, 9], dtype=uint8)
  """
  photograph = photographs[int(rng.integers(len(photographs)))]
  height, width = size
  pixels = min(photograph.width / width, photograph.height / height)
  pixels *= rng.uniform(0.2, 0.8)
  left = rng.uniform(0, photograph.width - pixels * width)
  top = rng.uniform(0, photograph.height - pixels * height)
  crop = photograph.resize(
    (width, height),
    PIL.Image.Resampling.BILINEAR,
    box=(left, top, left + pixels * width, top + pixels * height),
  )
  image = np.asarray(crop)
  return image[:, ::-1] if rng.random() < 0.5 else image
