"""Examples read and decoded record by record, from tensorflow-datasets.

Records (array_record) are read at random and decoded with Pillow, without
TensorFlow: images of many sizes are resized and augmented here, on the host.
Labels are read without decoding images.
"""

import dataclasses
import difflib
import functools
import io
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np
import PIL.Image

from stn.data.sources import (
  ArraySource,
  Batch,
  Source,
  generator,
  no_field,
)

# (generator, image) -> image, of any size: before it is resized.
Augmentation = Callable[[np.random.Generator, PIL.Image.Image], PIL.Image.Image]


class DataNotFoundError(FileNotFoundError):
  """The data set is known but is not on this machine."""


def keep(rng: np.random.Generator, image: PIL.Image.Image) -> PIL.Image.Image:
  """No augmentation."""
  del rng
  return image


def crop_flip(
  rng: np.random.Generator,
  image: PIL.Image.Image,
  *,
  area: tuple[float, float] = (0.08, 1.0),
  aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> PIL.Image.Image:
  """A random crop, mirrored half of the time (Szegedy et al., 2015).

  Args:
    rng: of the example.
    image: of any size.
    area: (low, high) of the crop's area over the image's.
    aspect: (low, high) of the crop's width over its height.

  Returns:
    The crop, of any size.

  References:
    [Going deeper with convolutions](https://arxiv.org/abs/1409.4842)
  """
  width, height = image.size
  size = width * height * rng.uniform(*area)
  ratio = np.exp(rng.uniform(*np.log(aspect)))
  w = min(width, max(1, round((size * ratio) ** 0.5)))
  h = min(height, max(1, round((size / ratio) ** 0.5)))
  left = int(rng.integers(width - w + 1))
  top = int(rng.integers(height - h + 1))
  image = image.crop((left, top, left + w, top + h))
  if rng.random() < 0.5:
    image = image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
  return image


AUGMENTATIONS: Mapping[str, Augmentation] = {
  "none": keep,
  "crop_flip": crop_flip,
}


@dataclasses.dataclass(frozen=True, eq=False)
class RecordSource(Source):
  """A split whose images are decoded when they are asked for.

  Attributes:
    records: a random-access source of dicts with "image", the encoded bytes,
      and "label"; `__getitems__` reads several.
    indices: which of the records, in order.
    channels: 1 or 3.
    num_classes: number of classes.
    image_size: (H, W) to resize to; () leaves images as they are, which must
      then be of one size.
    augment: `(generator, image) -> image`, before resizing.
  """

  records: Any
  indices: np.ndarray
  channels: int
  num_classes: int
  image_size: Sequence[int] = ()
  augment: Augmentation = keep

  def __len__(self) -> int:
    """Number of examples."""
    return len(self.indices)

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """(N, ...), read without decoding images."""
    return self.field("label").astype(np.int32)

  def field(self, name: str) -> np.ndarray:
    """A field of all examples, (N, ...), read without decoding images."""
    values = []
    for start in range(0, len(self), 4096):
      chunk = self.indices[start : start + 4096].tolist()
      for example in self.records.__getitems__(chunk):
        if name not in example:
          raise no_field(name, example)
        values.append(example[name])
    return np.asarray(values)

  @functools.cached_property
  def spec(self) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes, of the first example if sizes are left alone."""
    first = self.read(np.arange(1), np.zeros((1, 2), np.uint64))
    return {
      name: jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
      for name, array in first.items()
    }

  def take(self, indices: np.ndarray) -> "RecordSource":
    """The examples at `indices`, in that order."""
    return dataclasses.replace(self, indices=self.indices[indices])

  def _decode(self, data: bytes, key: np.ndarray) -> np.ndarray:
    """One image, uint8 (H, W, C)."""
    image = PIL.Image.open(io.BytesIO(data))
    size = cast(tuple[int, int], tuple(self.image_size[::-1]))
    if size and self.augment is keep:
      image.draft(None, size)  # JPEGs are decoded smaller
    image = image.convert("L" if self.channels == 1 else "RGB")
    if self.augment is not keep:
      image = self.augment(generator(key), image)
    if size and image.size != size:
      image = image.resize(size, PIL.Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(*image.size[::-1], -1)

  def read(self, indices: np.ndarray, keys: np.ndarray) -> Batch:
    """Reads and decodes examples.

    Raises:
      ValueError: if images are of several sizes, and stay so.
    """
    examples = self.records.__getitems__(self.indices[indices].tolist())
    images = [
      self._decode(example["image"], key)
      for example, key in zip(examples, keys, strict=True)
    ]
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
      raise ValueError(
        f"The images have several shapes, such as {shapes[0]} and {shapes[1]}: "
        "`data.image_size` must say which (H, W) to resize them to."
      )
    labels = np.asarray([example["label"] for example in examples], np.int32)
    return {"image": np.stack(images), "label": labels}

  def in_memory(self, chunk: int = 4096) -> ArraySource:
    """All examples, decoded chunk by chunk; nothing is drawn."""
    batches = [
      self.read(places, np.zeros((len(places), 2), np.uint64))
      for places in np.split(
        np.arange(len(self)), range(chunk, len(self), chunk)
      )
    ]
    shapes = sorted({batch["image"].shape[1:] for batch in batches})
    if len(shapes) > 1:
      raise ValueError(
        f"The images have several shapes, such as {shapes[0]} and {shapes[1]}: "
        "`data.image_size` must say which (H, W) to resize them to."
      )
    arrays = {
      name: np.concatenate([batch[name] for batch in batches])
      for name in batches[0]
    }
    return ArraySource(arrays, self.num_classes)


def _how_to_get(name: str, root: str) -> str:
  """The command that puts a set of tensorflow-datasets into `root`."""
  from stn.data.prepare import PREPARERS

  if name in PREPARERS:
    return f"python -m stn.data.prepare {name} --data_dir={root}"
  return (
    f"tfds build {name} --data_dir={root} --file_format=array_record\n"
    "which needs TensorFlow (pip install 'stn-jax[tf]'),"
  )


def _not_there(name: str, root: str) -> DataNotFoundError:
  return DataNotFoundError(
    f"No data set {name!r} in {root}. Get it, on a machine with a network, "
    f"with\n  {_how_to_get(name, root)}\n"
    "or say where it is with --config.data.data_dir=... or TFDS_DATA_DIR."
  )


def _builder(name: str, root: str, others: Sequence[str]) -> Any:
  """The builder of a data set that is in `root`, registered or not."""
  import tensorflow_datasets as tfds

  folder = os.path.expanduser(root)
  try:
    return tfds.builder(name, data_dir=folder)
  except tfds.core.DatasetNotFoundError as error:
    from stn.data.prepare import PREPARERS

    if name in PREPARERS:  # one of ours, which tfds does not know
      raise _not_there(name, root) from error
    registered = tfds.list_builders(with_community_datasets=False)
    known = [*others, *PREPARERS, *registered]
    near = difflib.get_close_matches(name, known, n=3)
    raise ValueError(
      f"`data.name` must be one of {', '.join(sorted(others))}, a set of "
      'tensorflow-datasets, or "module:attribute"; got '
      f"{name!r}."
      + (f" Did you mean {' or '.join(map(repr, near))}?" if near else "")
    ) from error


def open_tfds(
  name: str, split: str, data_dir: str, others: Sequence[str] = ()
) -> RecordSource:
  """Opens a split of a set of tensorflow-datasets; reads no record yet.

  Args:
    name: of the set, which has features image and label.
    split: "train" or "test".
    data_dir: where the sets are; "" is tfds' own default: the environment's
      TFDS_DATA_DIR, else ~/tensorflow_datasets.
    others: names to list in addition to those of tfds, if there is no such set.

  Returns:
    The source, of all examples, as they are.

  Raises:
    DataNotFoundError: if the set is not on this machine; says which command
      gets it.
    ValueError: if the name is unknown, or the set is not one of labelled
      images.
  """
  import tensorflow_datasets as tfds

  root = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
  builder = _builder(name, root, others)
  if not builder.info.splits:
    raise _not_there(name, root)
  splits, features = builder.info.splits, cast(Any, builder.info.features)
  if split not in splits or not {"image", "label"} <= {*features}:
    raise ValueError(
      "`data.name` must be a set with splits train and test and features "
      f"image and label; {name!r} has splits {sorted(splits)} and features "
      f"{sorted(features)}."
    )
  # Neither "image", which is decoded here, nor masks and the like.
  encoded = [
    name
    for name, feature in features.items()
    if isinstance(feature, tfds.features.Image)
  ]
  records = cast(Any, builder).as_data_source(
    split, decoders={name: tfds.decode.SkipDecoding() for name in encoded}
  )
  channels = features["image"].shape[-1]
  return RecordSource(
    records,
    np.arange(len(records)),
    channels=1 if channels == 1 else 3,
    num_classes=features["label"].num_classes,
  )
