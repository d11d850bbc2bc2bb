"""Digits on photographs: scenes harder than a black canvas, with no download.

A background is a random crop of a photograph; digits are drawn on it in colours
that stand out. Two arrangements: `Parts`, two digits somewhere, which together
make the class, and `Numbers`, one to five in a row, as house numbers.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np
import PIL.Image

from stn.data.photographs import background, load_photographs
from stn.data.sources import Batch, Composed, generator


def _cut_out(digit: np.ndarray) -> np.ndarray:
  """What of a digit (H, W) is not empty; all of it if nothing is."""
  rows, columns = (np.flatnonzero(digit.max(axis=a)) for a in (1, 0))
  if not len(rows):
    return digit
  return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _scaled(digit: np.ndarray, height: float, most: int) -> np.ndarray:
  """A digit of a height in pixels, and of `most` pixels width at most."""
  width = round(digit.shape[1] / digit.shape[0] * height)
  size = (min(max(width, 1), most), max(round(height), 1))
  resized = PIL.Image.fromarray(digit).resize(
    size, PIL.Image.Resampling.BILINEAR
  )
  return np.asarray(resized)


def draw(
  rng: np.random.Generator,
  canvas: np.ndarray,
  digits: Sequence[np.ndarray],
  corners: Sequence[tuple[int, int]],
) -> None:
  """Draws digits of one colour on a canvas, in place.

  Each channel of the colour differs by 35 to 65 % of the range from the mean
  of what it covers.

  Args:
    rng: of the example.
    canvas: uint8 (H, W, 3).
    digits: uint8, each (h, w): how opaque it is.
    corners: top and left of each, wholly within the canvas.

  Example:
    >>> canvas = np.zeros((2, 2, 3), np.uint8)
    >>> draw(np.random.default_rng(0), canvas,
    ...      [np.full((1, 1), 255, np.uint8)], [(1, 0)])
    >>> canvas[..., 0] > 0
    array([[False, False],
           [ True, False]])
  """
  places = [
    (slice(top, top + digit.shape[0]), slice(left, left + digit.shape[1]))
    for digit, (top, left) in zip(digits, corners, strict=True)
  ]
  covered = np.concatenate([canvas[place].reshape(-1, 3) for place in places])
  colour = (covered.mean(axis=0) + 255 * rng.uniform(0.35, 0.65, 3)) % 255
  for digit, place in zip(digits, places, strict=True):
    opacity = digit[..., None] / 255
    mixed = (1 - opacity) * canvas[place] + opacity * colour
    canvas[place] = mixed.round()


@dataclasses.dataclass(frozen=True, eq=False)
class OnPhotographs(Composed):
  """Digits on photographs; what is abstract says how many, and where.

  Attributes:
    source: of the first digit of each example, grey images (H, W, 1) of light
      digits on black.
    others: of the others.
    size: height and width of the images.
    height: smallest and largest height of a digit in pixels, without margins.
    folder: of the photographs, see `load_photographs`.
  """

  size: Sequence[int] = (64, 64)
  height: Sequence[int] = (16, 28)
  folder: str = ""

  def __post_init__(self):
    """Checks that digits are grey, and fit into the image."""
    shape = self.source.spec["image"].shape
    if len(shape) != 3 or shape[-1] != 1:
      raise ValueError(
        "`data.composition` on photographs needs grey images (H, W, 1); got "
        f"{shape}."
      )
    size, height = tuple(self.size), tuple(self.height)
    if len(size) != 2 or len(height) != 2:
      raise ValueError(
        "`size` must be (H, W) and `height` (smallest, largest); got "
        f"{size} and {height}."
      )
    if not 1 <= height[0] <= height[1] <= size[0]:
      raise ValueError(
        f"`height` must be (smallest, largest) in [1, {size[0]}], the height "
        f"of the image; got {height}."
      )

  @property
  @abc.abstractmethod
  def most(self) -> int:
    """The largest number of digits of an example."""

  @property
  @abc.abstractmethod
  def _label_shape(self) -> tuple[int, ...]: ...

  @abc.abstractmethod
  def _compose(
    self,
    rng: np.random.Generator,
    canvas: np.ndarray,
    digits: Sequence[np.ndarray],
    labels: np.ndarray,
  ) -> np.ndarray:
    """Draws on a canvas, in place, and returns the label of the example."""

  @property
  def spec(self) -> Mapping[str, jax.ShapeDtypeStruct]:
    """The fields "image" (*size, 3) and "label"."""
    return {
      "image": jax.ShapeDtypeStruct((*self.size, 3), np.uint8),
      "label": jax.ShapeDtypeStruct(self._label_shape, np.int32),
    }

  def read(self, indices: np.ndarray, keys: np.ndarray) -> Batch:
    """Reads the digits of each example and draws them on a photograph."""
    photographs = load_photographs(self.folder)
    rngs = [generator(key) for key in keys]
    more = self.most - 1
    partners = np.stack([r.integers(len(self.others), size=more) for r in rngs])
    first = self.source.read(indices, keys)
    rest = self.others.read(partners.ravel(), keys.repeat(more, axis=0))
    images = rest["image"].reshape(len(keys), more, *rest["image"].shape[1:])
    images = np.concatenate([first["image"][:, None], images], axis=1)
    classes = np.concatenate(
      [first["label"][:, None], rest["label"].reshape(-1, more)], axis=1
    )
    canvases = np.stack([background(r, photographs, self.size) for r in rngs])
    labels = [
      self._compose(rng, canvas, [_cut_out(d[..., 0]) for d in digits], own)
      for rng, canvas, digits, own in zip(
        rngs, canvases, images, classes, strict=True
      )
    ]
    return {"image": canvases, "label": np.asarray(labels, np.int32)}


@dataclasses.dataclass(frozen=True, eq=False)
class Parts(OnPhotographs):
  """Two digits, one left of the other, at places and sizes of their own.

  The class is the pair of them, 10 * left + right: it takes both to know it, as
  the parts of a bird tell its species.
  """

  @property
  def num_classes(self) -> int:
    """All pairs."""
    return self.source.num_classes**2

  @property
  def most(self) -> int:
    """Two."""
    return 2

  @property
  def _label_shape(self) -> tuple[int, ...]:
    return ()

  def _compose(self, rng, canvas, digits, labels):
    height, width = canvas.shape[:2]
    low, high = self.height
    drawn = [
      _scaled(digit, rng.uniform(low, high), width // 2) for digit in digits
    ]
    free = width - sum(digit.shape[1] for digit in drawn)
    left, right = np.sort(rng.integers(free + 1, size=2))
    for digit, start in zip(
      drawn, (left, right + drawn[0].shape[1]), strict=True
    ):
      top = rng.integers(height - digit.shape[0] + 1)
      draw(rng, canvas, [digit], [(int(top), int(start))])
    return labels[0] * self.source.num_classes + labels[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Numbers(OnPhotographs):
  """Digits in a row, of one height and colour, as house numbers.

  "label" is (places,): the digits from the left, then `num_classes - 1`, which
  means that there is none. It is for the task "sequence".

  Attributes:
    lengths: fewest and most digits of a number; all lengths are as likely.
    places: of the label.
    gap: between two digits, over their height.
  """

  lengths: Sequence[int] = (1, 5)
  places: int = 5
  gap: float = 0.1

  def __post_init__(self):
    """Checks that all digits have a place."""
    super().__post_init__()
    lengths = tuple(self.lengths)
    if len(lengths) != 2 or not 1 <= lengths[0] <= lengths[1] <= self.places:
      raise ValueError(
        f"`lengths` must be (fewest, most) in [1, {self.places}], the number "
        f"of `places`; got {lengths}."
      )
    if not self.gap >= 0:
      raise ValueError(f"`gap` must be 0 or more; got {self.gap}.")

  @property
  def num_classes(self) -> int:
    """Those of a digit, and "none"."""
    return self.source.num_classes + 1

  @property
  def most(self) -> int:
    """The largest length."""
    return self.lengths[1]

  @property
  def _label_shape(self) -> tuple[int, ...]:
    return (self.places,)

  def _compose(self, rng, canvas, digits, labels):
    length = int(rng.integers(self.lengths[0], self.lengths[1] + 1))
    digits, labels = digits[:length], labels[:length]
    # Of a digit and of a gap, over the height. Each may round up by a pixel.
    aspects = [digit.shape[1] / digit.shape[0] for digit in digits]
    total = sum(aspects) + self.gap * (length - 1)
    fits = (canvas.shape[1] - length) / total
    low, high = self.height
    height = min(rng.uniform(low, high), fits)
    drawn = [_scaled(digit, height, canvas.shape[1]) for digit in digits]
    gap = int(self.gap * height)
    starts = np.cumsum([0, *(digit.shape[1] + gap for digit in drawn)])
    left = rng.integers(canvas.shape[1] - (starts[-1] - gap) + 1)
    top = int(rng.integers(canvas.shape[0] - drawn[0].shape[0] + 1))
    corners = [(top, int(left + start)) for start in starts[:-1]]
    draw(rng, canvas, drawn, corners)
    none = np.full(self.places - length, self.source.num_classes)
    return np.concatenate([labels, none])
