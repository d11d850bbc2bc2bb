"""Birds, as tensorflow-datasets has them: from records to a result."""

import json

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from configs import cub
from stn import data
from stn.training import train_and_evaluate

SIZES = {"train": 12, "test": 6}


class Birds(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A few images, of several sizes, under the name and features of CUB."""

  name = "caltech_birds2011"
  VERSION = tfds.core.Version("0.2.0")

  def _info(self):
    features = {
      "image": tfds.features.Image(),
      "image/filename": tfds.features.Text(),
      "label": tfds.features.ClassLabel(num_classes=200),
      "label_name": tfds.features.Text(),
      "bbox": tfds.features.BBoxFeature(),
      "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
    }
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {split: self._generate_examples(split) for split in SIZES}

  def _generate_examples(self, split):
    rng = np.random.default_rng(len(split))
    for index in range(SIZES[split]):
      shape = (20 + index, 30 - index)
      pixels = rng.integers(0, 256, (*shape, 3), np.uint8)
      yield (
        index,
        {
          "image": PIL.Image.fromarray(pixels),
          "image/filename": f"{index}.jpg",
          "label": index * 16,
          "label_name": "bird",
          "bbox": tfds.features.BBox(ymin=0.1, xmin=0.2, ymax=0.8, xmax=0.9),
          "segmentation_mask": PIL.Image.fromarray(pixels[..., 0]),
        },
      )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("tfds")
  Birds(data_dir=path).download_and_prepare(file_format="array_record")
  return str(path)


def make_config(folder, transformers=2):
  """The config of the experiment, on small images, with a small trunk."""
  config = cub.get_config(f"transformers={transformers}")
  with config.unlocked():
    config.data.data_dir = folder
    config.data.image_size = (32, 32)
    config.data.batch_size = config.data.eval_batch_size = 4
    config.model.output_size = (16, 16)
    config.model.localisation = "fc"
    config.model.localisation_options.features = (4,)
    config.model.trunk_options.update(
      {"features": (2,), "depths": (1,), "stem": "small"}
    )
    config.num_steps, config.num_pictures, config.num_devices = 1, 2, 1
  return config


def test_records_of_many_sizes_are_streamed(folder):
  source = data.load_split(make_config(folder).data, "train")
  assert isinstance(source, data.RecordSource)
  assert (len(source), source.num_classes) == (12, 200)
  np.testing.assert_array_equal(np.sort(source.labels), np.arange(12) * 16)
  batch = data.train_batch(source, 0, 0, 12)
  assert batch.keys() == {"image", "label"}
  assert batch["image"].shape == (12, 32, 32, 3)


def test_images_of_many_sizes_need_one_to_be_resized_to(folder):
  config = make_config(folder).data
  config.image_size = ()
  source = data.load_split(config, "train")
  with pytest.raises(ValueError, match="`data.image_size` must say"):
    data.train_batch(source, 0, 0, 4)


def test_only_the_image_is_decoded(folder, monkeypatch):
  opened = []
  decode = PIL.Image.open
  monkeypatch.setattr(
    PIL.Image, "open", lambda *args: opened.append(args) or decode(*args)
  )
  source = data.load_split(make_config(folder).data, "train")
  data.train_batch(source, 0, 0, 3)
  assert len(opened) == 3


@pytest.mark.long
def test_a_step_and_an_evaluation_run(folder, tmp_path):
  result = train_and_evaluate(make_config(folder), tmp_path)
  assert result["samples"] == 6
  assert result["transformers"] == 2
  kinds = [
    json.loads(line)["kind"]
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
  ]
  assert kinds.count("train") == 1
  assert (tmp_path / "pictures.gif").stat().st_size > 1000


def test_a_set_that_is_not_there_says_how_to_get_it(tmp_path):
  with pytest.raises(data.DataNotFoundError, match="tfds build caltech_birds"):
    train_and_evaluate(make_config(str(tmp_path)), tmp_path / "run")
  assert not (tmp_path / "run").exists()
