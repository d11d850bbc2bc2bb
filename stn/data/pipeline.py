"""Which examples make up a batch, and how they become floats.

The training stream is a pure function of (seed, step): every epoch is a fresh
permutation, drawn by NumPy's counter-based Philox and keyed by (seed, epoch),
and batches run on over the ends of epochs. A restarted run needs no other
position than its step, and a process of many takes its rows of the same global
batch.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from stn.data.sources import Dataset

Batch = dict[str, np.ndarray]


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
  bits = np.random.Philox(key=np.array([seed, epoch], np.uint64))
  return np.random.Generator(bits).permutation(size)


def batch_indices(
  seed: int, step: int, batch_size: int, size: int
) -> np.ndarray:
  """The examples of the training batch of a step.

  Args:
    seed: of the stream, not negative.
    step: from 0.
    batch_size: examples a batch, may exceed `size`.
    size: examples in the data set.

  Returns:
    Indices (batch_size,) in [0, size).

  Example:
    >>> steps = [batch_indices(0, step, 2, 4) for step in range(2)]
    >>> sorted(np.concatenate(steps).tolist())  # one epoch
    [0, 1, 2, 3]
  """
  position = step * batch_size
  end = position + batch_size
  parts = []
  while position < end:
    epoch, start = divmod(position, size)
    stop = min(size, start + end - position)
    parts.append(_permutation(seed, epoch, size)[start:stop])
    position += stop - start
  return np.concatenate(parts)


def train_batch(
  dataset: Dataset, indices: np.ndarray, rows: slice = slice(None)
) -> Batch:
  """Gathers a training batch on the host.

  Args:
    dataset: the train split.
    indices: of the global batch, from `batch_indices`.
    rows: those that this process holds.

  Returns:
    "image" uint8 (n, H, W, C) and "label" int32 (n,).

  Example:
    >>> data = Dataset(np.zeros((4, 2, 2, 1), np.uint8), np.arange(4), 4)
    >>> train_batch(data, np.array([3, 1]))["label"]
    array([3, 1])
  """
  local = indices[rows]
  return {"image": dataset.images[local], "label": dataset.labels[local]}


def evaluation_batches(
  dataset: Dataset, batch_size: int, rows: slice = slice(None)
) -> Iterator[Batch]:
  """Goes once through a split, in order, in batches of one size.

  Args:
    dataset: the split.
    batch_size: examples in each global batch.
    rows: those of each batch that this process holds.

  Yields:
    "image", "label", "index" int32 (n,), the example's place in the split, and
    "mask" bool (n,): False for the examples that fill up the last batch.

  Example:
    >>> data = Dataset(np.zeros((3, 2, 2, 1), np.uint8), np.arange(3), 3)
    >>> [b["mask"].tolist() for b in evaluation_batches(data, 2)]
    [[True, True], [True, False]]
  """
  for start in range(0, len(dataset), batch_size):
    index = np.arange(start, start + batch_size, dtype=np.int32)[rows]
    inside = np.minimum(index, len(dataset) - 1)
    yield {
      **train_batch(dataset, inside),
      "index": index,
      "mask": index < len(dataset),
    }


def normalise(
  image: Shaped[jax.Array, "*shape"],
) -> Float[jax.Array, "*shape"]:
  """Maps uint8 [0, 255] to float32 [0, 1]: black stays the 0 of zero padding.

  Example:
    >>> import jax.numpy as jnp
    >>> normalise(jnp.array([0, 255], jnp.uint8))
    Array([0., 1.], dtype=float32)
  """
  return image.astype(jnp.float32) / 255
