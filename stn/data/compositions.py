"""Examples made of more than one image of a data set.

What else belongs to an example is drawn on the host, by the example's own key,
so that it does not depend on the batch or on the number of processes. A new
composition is one class and one row of `COMPOSITIONS`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from stn._checks import check_options, lookup
from stn.data.drawn_digits import Numbers, Parts
from stn.data.sources import Batch, Composed, Source, generator


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs(Composed):
  """Two images as the channels of one, labelled by the sum: MNIST addition.

  The paper's section 4.2 and appendix A.2. Each example of `source` gets a
  partner from `others`.

  Attributes:
    source: of the first image of each pair, (H, W, 1), and one label.
    others: of the second.
  """

  def __post_init__(self):
    """Checks that the images are grey."""
    shape = self.source.spec["image"].shape
    if shape[-1] != 1:
      raise ValueError(
        "`data.composition` pairs needs images of one channel; got images "
        f"{shape}."
      )

  @property
  def num_classes(self) -> int:
    """Sums from 0 to twice the last class."""
    return 2 * self.source.num_classes - 1

  @property
  def spec(self) -> Mapping[str, jax.ShapeDtypeStruct]:
    """The fields "image" (H, W, 2), "label" () and "digits" (2,)."""
    image, label = self.source.spec["image"], self.source.spec["label"]
    return {
      "image": jax.ShapeDtypeStruct((*image.shape[:-1], 2), image.dtype),
      "label": label,
      "digits": jax.ShapeDtypeStruct((2,), label.dtype),
    }

  def read(self, indices: np.ndarray, keys: np.ndarray) -> Batch:
    """Reads both images of each pair."""
    draws = np.array([generator(key).random() for key in keys])
    partners = (draws * len(self.others)).astype(np.int64)
    first = self.source.read(indices, keys)
    second = self.others.read(partners, keys)
    digits = np.stack([first["label"], second["label"]], axis=-1)
    return {
      "image": np.concatenate([first["image"], second["image"]], axis=-1),
      "label": digits.sum(axis=-1, dtype=np.int32),
      "digits": digits,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Clutter(Composed):
  """Each example with random patches of other images: the field "clutter".

  Where they go is the matter of a distortion.

  Attributes:
    source: of the examples.
    others: whose images the patches are cut from; those of training.
    number: patches per example.
    size: height and width of a patch.
  """

  number: int = 16
  size: int = 6

  def __post_init__(self):
    """Checks that patches fit into the images."""
    height, width, _ = self.others.spec["image"].shape
    if not (self.number >= 1 and 1 <= self.size <= min(height, width)):
      raise ValueError(
        "`composition_options` of clutter must be a positive `number` and a "
        f"`size` of 1 to {min(height, width)}; got number={self.number}, "
        f"size={self.size}."
      )

  @property
  def num_classes(self) -> int:
    """That of the source."""
    return self.source.num_classes

  @property
  def spec(self) -> Mapping[str, jax.ShapeDtypeStruct]:
    """That of the source, and "clutter" (number, size, size, C)."""
    image = self.others.spec["image"]
    shape = (self.number, self.size, self.size, image.shape[-1])
    clutter = jax.ShapeDtypeStruct(shape, image.dtype)
    return {**self.source.spec, "clutter": clutter}

  def read(self, indices: np.ndarray, keys: np.ndarray) -> Batch:
    """Reads examples and cuts the patches of each."""
    draws = np.stack([generator(key).random((3, self.number)) for key in keys])
    height, width, channels = self.others.spec["image"].shape
    room = [len(self.others), height - self.size + 1, width - self.size + 1]
    which, top, left = np.moveaxis(
      (draws * np.array(room)[:, None]).astype(np.int64), 1, 0
    )
    images = self.others.read(
      which.ravel(), np.repeat(keys, self.number, axis=0)
    )["image"]
    images = images.reshape(*which.shape, height, width, channels)
    windows = np.lib.stride_tricks.sliding_window_view(
      images, (self.size, self.size), axis=(2, 3)
    )
    example, patch = np.indices(which.shape)
    patches = np.moveaxis(windows[example, patch, top, left], 2, -1)
    return {**self.source.read(indices, keys), "clutter": patches}


# Made of a split by itself, so that what is tested is unseen.
_OF_ONE_SPLIT = (Pairs, Parts, Numbers)

# name -> (source, source of other training examples, **options) -> source.
COMPOSITIONS: Mapping[str, Callable[..., Source]] = {
  "pairs": Pairs,
  "clutter": Clutter,
  "parts": Parts,
  "numbers": Numbers,
}


def compose(source: Source, config: Any, train: Callable[[], Source]) -> Source:
  """Makes examples of more than one image, if the config asks for it.

  Args:
    source: of the first image of each example.
    config: `composition`, a key of `COMPOSITIONS`, "single" for nothing, or
      "module:attribute" of a function of one's own; `composition_options`.
    train: loads the training split, where other images come from.

  Returns:
    The source of the examples.

  Raises:
    ValueError: if a name is unknown, or an option does not fit.

  Example:
    >>> from configs import common
    >>> from stn.data.sources import ArraySource
    >>> images = np.zeros((4, 8, 8, 1), np.uint8)
    >>> digits = ArraySource(
    ...     {"image": images, "label": np.arange(4, dtype=np.int32)}, 4)
    >>> config = common.get_base().data
    >>> config.composition = "pairs"
    >>> compose(digits, config, lambda: digits).num_classes
    7
  """
  if config.composition == "single":
    return source
  table = {"single": None, **COMPOSITIONS}
  make = lookup("data.composition", config.composition, table)
  options = dict(config.composition_options)
  check_options("data.composition", make, options)
  others = source if make in _OF_ONE_SPLIT else train()
  return make(source, others, **options)
