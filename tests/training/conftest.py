"""A run so small that it compiles and trains in seconds."""

import numpy as np
import pytest

from configs import common
from stn import data
from stn.data import splits


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
