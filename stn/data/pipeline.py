"""Which examples make up a batch, and the keys of what is drawn for each.

The training stream is a pure function of (seed, step): every epoch is a fresh
permutation, drawn by NumPy's counter-based Philox and keyed by (seed, epoch),
and batches run on over the ends of epochs. A restarted run needs no other
position than its step, and a process of many takes its rows of the same global
batch.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from stn.data.sources import Batch, Source

# Keys of examples are (seed + one of these, position): other numbers than those
# of the permutations, which have keys (seed, epoch).
_TRAIN, _TEST = 1 << 62, 1 << 63


def _keys(kind: int, seed: int, positions: np.ndarray) -> np.ndarray:
  keys = np.empty((len(positions), 2), np.uint64)
  keys[:, 0] = kind + seed
  keys[:, 1] = positions
  return keys


@functools.lru_cache(maxsize=4)
def _permutations(seeds: tuple[int, ...], epoch: int, size: int) -> np.ndarray:
  """That of each seed, (R, size)."""
  return np.stack(
    [
      np.random.Generator(
        np.random.Philox(key=np.array([seed, epoch], np.uint64))
      ).permutation(size)
      for seed in seeds
    ]
  )


def batch_indices(
  seed: int | Sequence[int], step: int, batch_size: int, size: int
) -> np.ndarray:
  """The examples of the training batch of a step.

  Args:
    seed: of the stream, in [0, 2**62); or those of several streams.
    step: from 0.
    batch_size: examples per batch, may exceed `size`.
    size: examples in the data set.

  Returns:
    Indices (batch_size,) in [0, size); of R streams (R, batch_size).

  Example:
    >>> steps = [batch_indices(0, step, 2, 4) for step in range(2)]
    >>> sorted(np.concatenate(steps).tolist())  # one epoch
    [0, 1, 2, 3]
  """
  seeds = tuple(seed) if isinstance(seed, Sequence) else (seed,)
  position = step * batch_size
  end = position + batch_size
  parts = []
  while position < end:
    epoch, start = divmod(position, size)
    stop = min(size, start + end - position)
    parts.append(_permutations(seeds, epoch, size)[:, start:stop])
    position += stop - start
  indices = np.concatenate(parts, axis=1)
  return indices if isinstance(seed, Sequence) else indices[0]


def train_batch(
  source: Source,
  seed: int,
  step: int,
  batch_size: int,
  rows: slice = slice(None),
  redraw: bool = True,
) -> Batch:
  """Reads the training batch of a step.

  Args:
    source: the train split.
    seed: of the stream.
    step: from 0.
    batch_size: examples in the global batch.
    rows: those that this process holds.
    redraw: what is random about an example is drawn at every step; False draws
      it once.

  Returns:
    The fields of the source, each with a leading axis; without `redraw` also
    "index", int32, the example's place in the split.

  Example:
    >>> from stn.data.sources import ArraySource
    >>> source = ArraySource({"label": np.arange(4, dtype=np.int32)}, 4)
    >>> len(train_batch(source, 0, 0, 3)["label"])
    3
  """
  indices = batch_indices(seed, step, batch_size, len(source))
  keys = _train_keys(seed, step, indices, redraw)
  return _read_train(source, indices[rows], keys[rows], redraw)


def _train_keys(
  seed: int, step: int, indices: np.ndarray, redraw: bool
) -> np.ndarray:
  size = len(indices)
  positions = step * size + np.arange(size) if redraw else indices
  return _keys(_TRAIN, seed, positions)


def _read_train(
  source: Source, indices: np.ndarray, keys: np.ndarray, redraw: bool
) -> Batch:
  batch = source.read(indices, keys)
  return batch if redraw else {**batch, "index": indices.astype(np.int32)}


def train_batch_of_each(
  source: Source,
  seeds: Sequence[int],
  step: int,
  batch_size: int,
  redraw: bool = True,
) -> Batch:
  """Reads the training batches of a step of several runs, at once.

  Args:
    source: the train split.
    seeds: of R streams.
    step: from 0.
    batch_size: examples in the batch of each.
    redraw: see `train_batch`.

  Returns:
    The fields of the source with leading axes (R, batch_size): what
    `train_batch` reads for each seed.

  Example:
    >>> from stn.data.sources import ArraySource
    >>> source = ArraySource({"label": np.arange(4, dtype=np.int32)}, 4)
    >>> train_batch_of_each(source, (0, 1), 0, 3)["label"].shape
    (2, 3)
  """
  indices = batch_indices(seeds, step, batch_size, len(source))
  keys = [
    _train_keys(seed, step, of_seed, redraw)
    for seed, of_seed in zip(seeds, indices, strict=True)
  ]
  batch = _read_train(source, indices.ravel(), np.concatenate(keys), redraw)
  return {
    name: field.reshape(len(seeds), batch_size, *field.shape[1:])
    for name, field in batch.items()
  }


def read_test_examples(source: Source, index: np.ndarray, seed: int) -> Batch:
  """Reads examples of a test set that is drawn once.

  Args:
    source: the split.
    index: int32 (n,), places in the split.
    seed: of the set.

  Returns:
    The fields of the source, and "index".

  Example:
    >>> from stn.data.sources import ArraySource
    >>> source = ArraySource({"label": np.arange(4, dtype=np.int32)}, 4)
    >>> read_test_examples(source, np.array([2]), 0)["label"]
    array([2], dtype=int32)
  """
  index = index.astype(np.int32)
  return {**source.read(index, _keys(_TEST, seed, index)), "index": index}


def evaluation_batches(
  source: Source, batch_size: int, seed: int, rows: slice = slice(None)
) -> Iterator[Batch]:
  """Goes once through a split, in order, in batches of one size.

  Args:
    source: the split.
    batch_size: examples in each global batch.
    seed: of what is drawn for each example.
    rows: those of each batch that this process holds.

  Yields:
    The fields of the source, "index" int32 (n,), the example's place in the
    split, and "mask" bool (n,): False for the examples that fill up the last
    batch.

  Example:
    >>> from stn.data.sources import ArraySource
    >>> source = ArraySource({"label": np.arange(3, dtype=np.int32)}, 3)
    >>> [b["mask"].tolist() for b in evaluation_batches(source, 2, 0)]
    [[True, True], [True, False]]
  """
  for start in range(0, len(source), batch_size):
    index = np.arange(start, start + batch_size, dtype=np.int32)[rows]
    inside = np.minimum(index, len(source) - 1)
    yield {
      **read_test_examples(source, inside, seed),
      "index": index,
      "mask": index < len(source),
    }
