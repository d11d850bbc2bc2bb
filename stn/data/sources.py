"""What a source of examples is, and the one that keeps arrays in memory.

A source is one split of a data set. Which examples make up a batch is decided
elsewhere (`stn.data.pipeline`): a source only reads those it is asked for.
"""

import abc
import dataclasses
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

Batch = dict[str, np.ndarray]


def no_field(name: str, known: Iterable[str]) -> ValueError:
  """What to raise where examples lack a field."""
  return ValueError(
    f"The examples must have the field {name!r}; they have {sorted(known)}."
  )


# What batches have beside the fields of a source, see `stn.data.pipeline`.
RESERVED = ("index", "mask")


class Source(abc.ABC):
  """A split of a data set, read example by example on the host.

  Attributes:
    num_classes: number of classes of its labels; 0 if it has none.
    spec: name -> shape and dtype of each field of one example.
    labels: int32 (N, ...), one label or several for each example; known
      without decoding images.
  """

  num_classes: int
  spec: Mapping[str, jax.ShapeDtypeStruct]
  labels: np.ndarray

  @abc.abstractmethod
  def __len__(self) -> int:
    """Number of examples."""

  @abc.abstractmethod
  def take(self, indices: np.ndarray) -> "Source":
    """The examples at `indices`, in that order, as a source."""

  def field(self, name: str) -> np.ndarray:
    """A field of all examples, (N, ...), for one that holds no images.

    Raises:
      ValueError: if there is no such field.
    """
    if name not in self.spec:
      raise no_field(name, self.spec)
    nothing = np.zeros((len(self), 2), np.uint64)
    return self.read(np.arange(len(self)), nothing)[name]

  @abc.abstractmethod
  def read(self, indices: np.ndarray, keys: np.ndarray) -> Batch:
    """Reads examples.

    Args:
      indices: (n,), in [0, N).
      keys: uint64 (n, 2), a key for each example, for `generator`: what is
        drawn on the host comes from it and nothing else.

    Returns:
      The fields of `spec`, each with a leading axis of n.
    """


def check_examples(source: Source) -> Source:
  """Refuses examples that would be misread in silence.

  Args:
    source: to check, by its `spec` and its labels.

  Returns:
    The source.

  Raises:
    ValueError: if a field has a name of `RESERVED`, images are neither uint8
      nor floating, or the labels of `num_classes` classes are not integers in
      [0, num_classes).

  Example:
    >>> images, labels = np.zeros((1, 8, 8, 1)), np.array([3])
    >>> check_examples(ArraySource({"image": images, "label": labels}, 3))
    Traceback (most recent call last):
    ValueError: Labels must be in [0, 3), `num_classes`; got 3 to 3.
  """
  for name in RESERVED:
    if name in source.spec:
      raise ValueError(
        f"The examples must not have a field {name!r}: batches have one."
      )
  image = source.spec.get("image")
  if image is not None and not (
    image.dtype == np.uint8 or jnp.issubdtype(image.dtype, jnp.floating)
  ):
    raise ValueError(
      f"The field 'image' must be uint8 or floating; got {image.dtype}."
    )
  if source.num_classes and len(source):
    labels = np.asarray(source.labels)
    if not np.issubdtype(labels.dtype, np.integer):
      raise ValueError(f"Labels must be integers; got {labels.dtype}.")
    low, high = labels.min(), labels.max()
    if low < 0 or high >= source.num_classes:
      raise ValueError(
        f"Labels must be in [0, {source.num_classes}), `num_classes`; got "
        f"{low} to {high}."
      )
  return source


@dataclasses.dataclass(frozen=True, eq=False)
class Composed(Source):
  """A source whose examples are made of several: one, and others drawn for it.

  Attributes:
    source: of the first of each example, which it is counted by.
    others: that the rest is drawn from; those of training.
  """

  source: Source
  others: Source

  @property
  def labels(self) -> np.ndarray:
    """Of the first: the others are known when they are drawn."""
    return self.source.labels

  def __len__(self) -> int:
    """As many as firsts."""
    return len(self.source)

  def take(self, indices: np.ndarray) -> "Composed":
    """The examples of some firsts."""
    return dataclasses.replace(self, source=self.source.take(indices))


def generator(key: np.ndarray) -> np.random.Generator:
  """The random numbers of one example.

  Args:
    key: uint64 (2,), a row of the argument `keys` of `Source.read`.

  Returns:
    A NumPy generator, on the counter-based Philox.

  Example:
    >>> key = np.array([0, 7], np.uint64)
    >>> bool(generator(key).random() == generator(key).random())
    True
  """
  return np.random.Generator(np.random.Philox(key=key))


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource(Source):
  """A split in memory.

  Attributes:
    arrays: name -> (N, ...). "image", uint8 or floating, and "label", int32.
    num_classes: number of classes; 0 if there are none.

  Example:
    >>> images = np.zeros((4, 2, 2, 1), np.uint8)
    >>> labels = np.arange(4, dtype=np.int32)
    >>> source = ArraySource({"image": images, "label": labels}, 4)
    >>> source.read(np.array([3, 1]), np.zeros((2, 2), np.uint64))["label"]
    array([3, 1], dtype=int32)
  """

  arrays: Mapping[str, np.ndarray]
  num_classes: int

  def __post_init__(self):
    """Checks that the arrays are of one length."""
    lengths = {name: len(array) for name, array in self.arrays.items()}
    if "label" not in lengths or len(set(lengths.values())) != 1:
      raise ValueError(
        f"`arrays` must hold 'label' and be of one length; got {lengths}."
      )

  @property
  def spec(self) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of each field of one example."""
    return {
      name: jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
      for name, array in self.arrays.items()
    }

  @property
  def labels(self) -> np.ndarray:
    """The field "label"."""
    return self.arrays["label"]

  def __len__(self) -> int:
    """Number of examples."""
    return len(self.labels)

  def take(self, indices: np.ndarray) -> "ArraySource":
    """The examples at `indices`, in that order."""
    arrays = {name: array[indices] for name, array in self.arrays.items()}
    return dataclasses.replace(self, arrays=arrays)

  def read(self, indices: np.ndarray, keys: np.ndarray) -> Batch:
    """Gathers examples; draws nothing."""
    del keys
    return {name: array[indices] for name, array in self.arrays.items()}
