"""svhn_cropped against small files of the official layout."""

import collections
import shutil

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds

from configs import common
from stn.data import load_split
from stn.data.prepare import PREPARERS, Archive, prepare
from stn.data.prepare.svhn_cropped import SvhnCropped

FILES = ("extra_32x32.mat", "test_32x32.mat", "train_32x32.mat")


class Small(SvhnCropped):
  """Takes any archive for the official one."""

  @property
  def archives(self):
    return {file: Archive("http://127.0.0.1:1/" + file) for file in FILES}


@pytest.fixture
def source(tmp_path, monkeypatch):
  """A folder with the three files, of 10 digits each."""
  monkeypatch.setitem(PREPARERS, "svhn_cropped", Small())
  folder = tmp_path / "source"
  folder.mkdir()
  for k, file in enumerate(FILES):
    images = np.full((32, 32, 3, 10), 20 * k, np.uint8) + np.arange(10)
    labels = np.arange(1, 11)[:, None]
    scipy.io.savemat(folder / file, {"X": images.astype(np.uint8), "y": labels})
  return folder


def test_writes_the_set_of_tfds(source, tmp_path):
  path = prepare("svhn_cropped", tmp_path / "data", source)
  assert path.parent == tmp_path / "data" / "svhn_cropped"
  for k, split in enumerate(("extra", "test", "train")):
    read = tfds.data_source(
      "svhn_cropped", split=split, data_dir=tmp_path / "data"
    )
    examples = sorted(read, key=lambda example: example["id"])
    assert [e["label"] for e in examples] == [*range(1, 10), 0]
    values = [20 * k + i for i in range(10)]
    assert [int(e["image"][5, 6, 1]) for e in examples] == values
    assert {e["image"].shape for e in examples} == {(32, 32, 3)}


def test_a_config_reads_it(source, tmp_path):
  prepare("svhn_cropped", tmp_path / "data", source)
  config = common.get_base().data
  config.name, config.data_dir = "svhn_cropped", str(tmp_path / "data")
  split = load_split(config, "test")
  assert (len(split), split.num_classes) == (10, 10)


def test_the_official_archives():
  archives = PREPARERS["svhn_cropped"].archives
  assert tuple(archives) == FILES
  for file, archive in archives.items():
    assert archive.url.endswith(f"/{file}")
    assert (archive.algorithm, len(archive.checksum)) == ("sha256", 64)


def _cut(folder):
  file = folder / FILES[2]
  file.write_bytes(file.read_bytes()[:100])


def _no_mat(folder):
  (folder / FILES[2]).write_bytes(b"X and y, it said" * 20)


def _no_labels(folder):
  scipy.io.savemat(folder / FILES[2], {"X": np.zeros((32, 32, 3, 2), np.uint8)})


def _too_few(folder):
  table = {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1]])}
  scipy.io.savemat(folder / FILES[2], table)


def _other_labels(folder):
  table = {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[0], [11]])}
  scipy.io.savemat(folder / FILES[2], table)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (_cut, "must be a file of MATLAB"),
    (_no_mat, "must be a file of MATLAB"),
    (_no_labels, "with X and y; 'y'"),
    (_too_few, r"got X uint8 \(32, 32, 3, 2\) and 1 labels"),
    (_other_labels, r"in \[1, 10\]; got 0 to 11"),
  ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(
  change, message, source, tmp_path
):
  change(source)
  with pytest.raises(ValueError, match=message):
    prepare("svhn_cropped", tmp_path / "data", source)
  assert not list(tmp_path.glob("data/svhn_cropped/*"))


def test_too_little_disk_is_said_before_anything_is_written(
  source, tmp_path, monkeypatch
):
  usage = collections.namedtuple("usage", "total used free")(0, 0, 5 * 2**20)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
  for name, preparer in PREPARERS.items():
    with pytest.raises(OSError, match=f"{preparer.megabytes} MB .*has 5 MB"):
      prepare(name, tmp_path / "data", source)
  assert not list((tmp_path / "data").iterdir())
