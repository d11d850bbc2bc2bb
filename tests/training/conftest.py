"""A run so small that it compiles and trains in seconds."""

import numpy as np
import pytest

from configs import common
from stn import data
from stn.data import splits

SPLITS = ("train", "test")
_FOLDER = []  # of the records, written once


def _random_digits(split):
  rng = np.random.default_rng(0 if split == "train" else 1)
  number = {"train": 48, "test": 20}[split]
  labels = np.arange(number, dtype=np.int32) % 4
  # A class is a bright quadrant, so that there is something to learn.
  images = rng.integers(0, 40, (number, 8, 8, 1), np.uint8)
  for image, label in zip(images, labels, strict=True):
    row, column = divmod(int(label), 2)
    image[4 * row :, 4 * column :][:4, :4] += 180
  return data.ArraySource({"image": images, "label": labels}, 4)


@pytest.fixture(autouse=True)
def tiny_source(monkeypatch):
  """The data set "tiny": 48 + 20 images of 8x8 pixels in 4 classes."""
  monkeypatch.setitem(splits.SOURCES, "tiny", _random_digits)


@pytest.fixture
def config():
  """An ST-FCN on "tiny": 12 steps, 3 evaluations, no pictures."""
  config = common.get_base()
  config.data.name = "tiny"
  config.data.distortion = "r"
  config.data.batch_size = 8
  config.data.eval_batch_size = 8
  config.data.validation_size = 16
  config.model.name = "st_fcn"
  config.model.features = (8,)
  config.num_steps = 12
  config.log_every = 1
  config.eval_every = 6
  config.num_pictures = 0
  config.num_devices = 1
  return config.lock()


@pytest.fixture
def streamed_config(config, tmp_path_factory):
  """Batch statistics and dropout, on records that are read by threads."""
  import PIL.Image
  import tensorflow_datasets as tfds

  class Quadrants(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The digits of "tiny" as records, written without TensorFlow."""

    name = "quadrants"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      features = {
        "image": tfds.features.Image(shape=(8, 8, 1)),
        "label": tfds.features.ClassLabel(num_classes=4),
      }
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict(features)
      )

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split):
      arrays = _random_digits(split).arrays
      pairs = zip(arrays["image"], arrays["label"], strict=True)
      for index, (image, label) in enumerate(pairs):
        yield (
          index,
          {"image": PIL.Image.fromarray(image[..., 0]), "label": int(label)},
        )

  if not _FOLDER:
    _FOLDER.append(tmp_path_factory.mktemp("tfds"))
    Quadrants(data_dir=_FOLDER[0]).download_and_prepare(
      file_format="array_record"
    )
  with config.unlocked():
    config.data.update(
      {
        "name": "quadrants",
        "data_dir": str(_FOLDER[0]),
        "in_memory": False,
        "augment": "crop_flip",
        "image_size": (8, 8),
        "num_threads": 2,
      }
    )
    config.model.update(
      {"name": "cnn_bn", "features": (4, 4, 4), "dropout": 0.3}
    )
  return config
