"""MNIST and its likes: four gzipped IDX archives."""

import dataclasses
import gzip
import math
import pathlib
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import PIL.Image
from tensorflow_datasets.image_classification import mnist

from stn.data.prepare.archives import Archive, registered

# Split -> its archives, and the shape of an item of each: images, labels.
_SPLITS = {
  "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
  "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
_ITEM_SHAPES = (mnist.MNIST_IMAGE_SHAPE[:2], ())


@dataclasses.dataclass(frozen=True)
class Idx:
  """A set of four IDX archives.

  Attributes:
    official: its builder in tfds.
  """

  official: type[mnist.MNIST]

  megabytes = 100  # not a field: the same for all

  @property
  def name(self) -> str:
    """Of the data set."""
    return self.official.name

  @property
  def archives(self) -> dict[str, Archive]:
    """File name -> archive."""
    infos, root = self.official.url_infos or {}, self.official.URL
    files = [file for files in _SPLITS.values() for file in files]
    return {file: registered(root + file, infos[root + file]) for file in files}

  def empty(self, data_dir: pathlib.Path) -> mnist.MNIST:
    """The official builder."""
    return self.official(data_dir=data_dir)

  def filled(
    self, paths: Mapping[str, pathlib.Path], data_dir: pathlib.Path
  ) -> mnist.MNIST:
    """The official builder, but for where its examples come from."""
    official = self.official
    splits = {
      split: _read_split(*(paths[file] for file in files))
      for split, files in _SPLITS.items()
    }

    class Builder(official, skip_registration=True):
      name = official.name
      __module__ = official.__module__  # recorded in the data set

      def _split_generators(self, dl_manager):
        return {
          split: self._generate_examples(*arrays)
          for split, arrays in splits.items()
        }

      def _generate_examples(
        self, images, labels
      ) -> Iterator[tuple[int, dict]]:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
          image = PIL.Image.fromarray(image)  # tfds encodes by TensorFlow
          yield i, {"image": image, "label": int(label)}

    return Builder(data_dir=data_dir)


MNIST = Idx(mnist.MNIST)
FASHION_MNIST = Idx(mnist.FashionMNIST)
KMNIST = Idx(mnist.KMNIST)


def _read_idx(path: pathlib.Path, item_shape: tuple[int, ...]) -> np.ndarray:
  """Reads a gzipped IDX file of uint8; its format is described on MNIST's page.

  A header has the bytes 0, 0, 8 (for uint8), the rank, and each size as a
  big-endian int32; the data follows.
  """
  try:
    content = gzip.decompress(path.read_bytes())
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise ValueError(f"{path} must be a gzip file; {error}.") from error
  rank = 1 + len(item_shape)
  magic, start = bytes([0, 0, 8, rank]), 4 + 4 * rank
  if content[:4] != magic:
    raise ValueError(
      f"{path} must begin with the IDX magic 0x{magic.hex()}; got "
      f"0x{content[:4].hex()}."
    )
  shape = tuple(
    int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)
  )
  size = len(content) - start
  if shape[1:] != item_shape or math.prod(shape) != size:
    raise ValueError(
      f"{path} must hold items of shape {item_shape}; its header says {shape}, "
      f"and {size} bytes follow."
    )
  return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_split(*paths: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  images, labels = map(_read_idx, paths, _ITEM_SHAPES)
  if len(images) != len(labels):
    raise ValueError(
      f"{paths[1]} must hold one label an image; got {len(labels)} labels for "
      f"the {len(images)} images of {paths[0]}."
    )
  return images, labels
