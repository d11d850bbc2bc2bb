"""SVHN against small archives of the official layout."""

import io
import sys
import tarfile

import h5py
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from configs import common
from stn.data import load_split
from stn.data.prepare import PREPARERS, prepare

# Digits (label, left, top, width, height) of each image; 10 is the digit 0.
TRAIN = [
  [(1, 10, 5, 10, 20), (10, 20, 6, 10, 20)],
  [(7, 40, 20, 40, 80)],
  [(3, 30, 5, 6, 20), (2, 20, 5, 6, 20), (9, 40, 5, 6, 20)],  # not in order
]
EXTRA = [[(5, 4, 4, 8, 8)], [(i, 6 * i, 5, 6, 9) for i in range(1, 7)]]
TEST = [[(4, 2, 2, 20, 20), (4, 22, 2, 20, 20)]]
SPLITS = {"train": TRAIN, "extra": EXTRA, "test": TEST}


def mat(images):
  """digitStruct.mat: references to names and to groups of boxes."""
  file = io.BytesIO()
  with h5py.File(file, "w") as table:
    names, boxes = [], []
    for i, digits in enumerate(images):
      text = np.array([[ord(c)] for c in f"{i + 1}.png"], np.uint16)
      names.append(table.create_dataset(f"#refs#/name{i}", data=text).ref)
      group = table.create_group(f"#refs#/box{i}")
      fields = ("label", "left", "top", "width", "height")
      for field, values in zip(fields, zip(*digits, strict=True), strict=True):
        data = np.array(values, np.float64)[:, None]
        if len(values) > 1:
          data = np.array(
            [
              [table.create_dataset(f"#refs#/{field}{i}_{j}", data=[[v]]).ref]
              for j, v in enumerate(values)
            ],
            h5py.ref_dtype,
          )
        group.create_dataset(field, data=data)
      boxes.append(group.ref)
    for name, references in (("name", names), ("bbox", boxes)):
      table.create_dataset(
        f"digitStruct/{name}",
        data=np.array([[r] for r in references], h5py.ref_dtype),
      )
  return file.getvalue()


def png(digits, size=(160, 120)):
  """Grey; inside each digit's box ten times its label."""
  pixels = np.full((size[1], size[0], 3), 200, np.uint8)
  for label, left, top, width, height in digits:
    pixels[top : top + height, left : left + width] = 10 * (label % 10)
  file = io.BytesIO()
  PIL.Image.fromarray(pixels).save(file, "PNG")
  return file.getvalue()


def official():
  """Archive -> its files; the table comes last."""
  return {
    f"{split}.tar.gz": {
      **{f"{split}/{i + 1}.png": png(d) for i, d in enumerate(images)},
      f"{split}/see_bboxes.m": b"% MATLAB",
      f"{split}/digitStruct.mat": mat(images),
    }
    for split, images in SPLITS.items()
  }


def tar(files):
  out = io.BytesIO()
  with tarfile.open(fileobj=out, mode="w:gz") as archive:
    for name, content in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))
  return out.getvalue()


@pytest.fixture
def make(tmp_path):
  def make(change=lambda archives: None):
    archives = official()
    change(archives)
    folder = tmp_path / "source"
    folder.mkdir()
    for name, files in archives.items():
      content = files if isinstance(files, bytes) else tar(files)
      (folder / name).write_bytes(content)
    return folder

  return make


def read(name, split, data_dir):
  return list(tfds.data_source(name, split=split, data_dir=data_dir))


def number(example):
  return "".join(str(d) for d in example["label"] if d != 10)


def test_writes_what_the_archives_hold(make, tmp_path):
  path = prepare("svhn_64", tmp_path / "data", make())
  assert path == tmp_path / "data" / "svhn_64" / "1.0.0"
  train = read("svhn_64", "train", tmp_path / "data")
  # A number of six digits is left out; digits are in order, 10 is 0.
  assert sorted(map(number, train)) == ["10", "239", "5", "7"]
  assert {e["image"].shape for e in train} == {(64, 64, 3)}
  assert {len(e["label"]) for e in train} == {5}
  [test] = read("svhn_64", "test", tmp_path / "data")
  assert list(test["label"]) == [4, 4, 10, 10, 10]


def test_crops_are_around_the_digits(make, tmp_path):
  """The digits take 1 / 1.3 of a crop of 64, half as much of one of 128."""
  source = make()
  for size in (64, 128):
    name = f"svhn_{size}"
    prepare(name, tmp_path / "data", source)
    [image] = [
      example["image"]
      for example in read(name, "train", tmp_path / "data")
      if number(example) == "7"
    ]
    inside = image[..., 0] < 135  # of 70 in the box and 200 around it
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    for places in (rows, columns):
      assert len(places) == pytest.approx(64 / 1.3, abs=6)
      assert places.mean() == pytest.approx((size - 1) / 2, abs=4)


def test_a_config_reads_the_sequences(make, tmp_path):
  prepare("svhn_64", tmp_path / "data", make())
  config = common.get_base().data
  config.name, config.data_dir = "svhn_64", str(tmp_path / "data")
  train = load_split(config, "train")
  assert (len(train), train.num_classes) == (4, 11)
  assert train.labels.shape == (4, 5)
  config.in_memory = False
  streamed = load_split(config, "train")
  batch = streamed.read(np.arange(2), np.zeros((2, 2), np.uint64))
  np.testing.assert_array_equal(batch["label"], train.labels[:2])


def test_the_official_archives():
  archives = PREPARERS["svhn_64"].archives
  assert list(archives) == ["train.tar.gz", "extra.tar.gz", "test.tar.gz"]
  assert archives == PREPARERS["svhn_128"].archives


def test_without_h5py(make, tmp_path, monkeypatch):
  source = make()
  monkeypatch.setitem(sys.modules, "h5py", None)
  with pytest.raises(ValueError, match=r"pip install 'stn-jax\[svhn\]'"):
    prepare("svhn_64", tmp_path / "data", source)


def _no_tar(archives):
  archives["extra.tar.gz"] = b"an error page"


def _cut(archives):
  archives["test.tar.gz"] = tar(archives["test.tar.gz"])[:-200]


def _no_table(archives):
  del archives["train.tar.gz"]["train/digitStruct.mat"]


def _other_table(archives):
  archives["train.tar.gz"]["train/digitStruct.mat"] = b"MATLAB 5.0 MAT-file"


def _no_boxes(archives):
  file = io.BytesIO()
  with h5py.File(file, "w") as table:
    table.create_dataset("digitStruct/name", data=[[0.0]])
  archives["train.tar.gz"]["train/digitStruct.mat"] = file.getvalue()


def _wrong_label(archives):
  table = mat([[(11, 1, 1, 5, 5)]])
  archives["test.tar.gz"]["test/digitStruct.mat"] = table


def _no_image(archives):
  del archives["train.tar.gz"]["train/2.png"]


def _broken_image(archives):
  archives["train.tar.gz"]["train/2.png"] = b"not a picture"


@pytest.mark.parametrize(
  ("change", "match"),
  [
    (_no_tar, "extra.tar.gz must be a whole gzipped tar"),
    (_cut, "test.tar.gz must be a whole gzipped tar"),
    (_no_table, "train.tar.gz must hold digitStruct.mat"),
    (_other_table, "digitStruct.mat in .*train.tar.gz must be a table"),
    (_no_boxes, "digitStruct.mat in .*train.tar.gz must be a table"),
    (_wrong_label, r"must be in \[1, 10\].* got \[11\]"),
    (_no_image, "the images of its table; 1 are missing, such as 2.png"),
    (_broken_image, "2.png in .*train.tar.gz must be an image"),
  ],
)
def test_broken_archives_leave_nothing_half_prepared(
  change, match, make, tmp_path
):
  source = make(change)
  with pytest.raises(ValueError, match=match):
    prepare("svhn_64", tmp_path / "data", source)
  assert not list(tmp_path.glob("data/svhn_64/*"))
