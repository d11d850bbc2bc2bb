"""House numbers again, one digit an image (SVHN, format 2): svhn_cropped.

http://ufldl.stanford.edu/housenumbers/: 73,257 images of 32x32 pixels to train,
531,131 more that are easier, 26,032 to test. Neighbouring digits are seen at
the sides.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import PIL.Image
import scipy.io
import tensorflow_datasets as tfds

from stn.data.prepare.archives import Archive, registered

_SHAPE = (32, 32, 3)
_SPLITS = {split: f"{split}_32x32.mat" for split in ("train", "test", "extra")}


class SvhnCropped:
  """The set of tfds: "image" uint8 (32, 32, 3), "label" in [0, 10), "id"."""

  name = "svhn_cropped"
  megabytes = 1800

  @property
  def archives(self) -> dict[str, Archive]:
    """File name -> archive."""
    infos = tfds.builder_cls(self.name).url_infos or {}
    return {
      url.rpartition("/")[2]: registered(url, info)
      for url, info in sorted(infos.items())
    }

  def empty(self, data_dir: pathlib.Path) -> tfds.core.DatasetBuilder:
    """The official builder."""
    return tfds.builder_cls(self.name)(data_dir=data_dir)

  def filled(
    self, paths: Mapping[str, pathlib.Path], data_dir: pathlib.Path
  ) -> tfds.core.DatasetBuilder:
    """The official builder, but for how it reads, which needs TensorFlow."""
    official = cast(
      type[tfds.core.GeneratorBasedBuilder], tfds.builder_cls(self.name)
    )

    class Builder(official, skip_registration=True):
      name = official.name
      __module__ = official.__module__  # recorded in the data set

      def _split_generators(self, dl_manager):
        del dl_manager
        return {
          split: self._generate_examples(f"{split}_", paths[file])
          for split, file in _SPLITS.items()
        }

      def _generate_examples(
        self, split_prefix, filepath
      ) -> Iterator[tuple[int, dict[str, Any]]]:
        images, labels = _read(filepath)
        for i, label in enumerate(labels):
          yield (
            i,
            {
              # tfds encodes arrays by TensorFlow
              "image": PIL.Image.fromarray(images[..., i]),
              "label": int(label % 10),  # 10 is the digit 0
              "id": f"{split_prefix}{i:06d}",
            },
          )

    return cast(Any, Builder)(data_dir=data_dir)


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Images (32, 32, 3, N), uint8, and labels (N,) in [1, 10]."""
  try:
    table = scipy.io.loadmat(path)
    images, labels = table["X"], table["y"].ravel()
  except Exception as error:  # scipy's are of any kind if a file is cut off
    raise ValueError(
      f"{path} must be a file of MATLAB with X and y; {error}."
    ) from error
  if images.shape != (*_SHAPE, len(labels)) or images.dtype != np.uint8:
    raise ValueError(
      f"{path} must hold one label for each image of {_SHAPE}; got X "
      f"{images.dtype} {images.shape} and {len(labels)} labels."
    )
  if not ((labels >= 1) & (labels <= 10)).all():
    raise ValueError(
      f"Labels of {path} must be in [1, 10]; got {labels.min()} to "
      f"{labels.max()}."
    )
  return images, labels
