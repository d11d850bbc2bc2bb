"""GTSRB against small archives of the official layout."""

import functools
import hashlib
import http.server
import io
import threading
import zipfile

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from configs import common
from stn.data import load_split
from stn.data.prepare import PREPARERS, Archive, prepare
from stn.data.prepare.gtsrb import NUM_CLASSES, Gtsrb

TRAIN = "GTSRB_Final_Training_Images.zip"
TEST, TABLE = "GTSRB_Final_Test_Images.zip", "GTSRB_Final_Test_GT.zip"
IMAGES = "GTSRB/Final_Training/Images"


def ppm(size, value):
  file = io.BytesIO()
  PIL.Image.new("RGB", size, (value, 0, 255 - value)).save(file, "PPM")
  return file.getvalue()


def zipped(files):
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  return file.getvalue()


def official():
  """File name -> its files: two tracks of two frames of each class."""
  train = {
    f"{IMAGES}/{c:05d}/{track:05d}_{frame:05d}.ppm": ppm((15 + frame, 20), c)
    for c in range(NUM_CLASSES)
    for track in range(2)
    for frame in range(2)
  }
  train[f"{IMAGES}/00000/GT-00000.csv"] = "Filename;Width\n"
  train["GTSRB/Readme-Images.txt"] = "read me"
  test = {
    f"GTSRB/Final_Test/Images/{i:05d}.ppm": ppm((30, 25 + i), 5 * i)
    for i in range(3)
  }
  test["GTSRB/Final_Test/Images/GT-final_test.test.csv"] = "Filename\n"
  rows = "".join(f"{i:05d}.ppm;30;25;{40 + i}\r\n" for i in range(3))
  table = {"GT-final_test.csv": f"Filename;Width;Height;ClassId\r\n{rows}"}
  return {TRAIN: train, TEST: test, TABLE: table}


class Small(Gtsrb):
  """Takes any archive for the official one."""

  sums: dict
  root: str = "http://127.0.0.1:1/"

  @property
  def archives(self):
    return {
      file: Archive(self.root + file, checksum, "md5")
      for file, checksum in self.sums.items()
    }


@pytest.fixture
def make(tmp_path, monkeypatch):
  """Writes archives and expects them; changes to them before that."""

  def make(change=lambda archives: None, size=32):
    archives = official()
    change(archives)
    folder = tmp_path / "source"
    folder.mkdir()
    small = Small(size)
    sums = {}
    for file, files in archives.items():
      content = files if isinstance(files, bytes) else zipped(files)
      (folder / file).write_bytes(content)
      sums[file] = hashlib.md5(content).hexdigest()
    object.__setattr__(small, "sums", sums)
    monkeypatch.setitem(PREPARERS, small.name, small)
    return folder

  return make


@pytest.mark.parametrize(("name", "size"), [("gtsrb", 32), ("gtsrb_48", 48)])
def test_writes_what_the_archives_hold(name, size, make, tmp_path):
  path = prepare(name, tmp_path / "data", make(size=size))
  assert path == tmp_path / "data" / name / "1.0.0"
  read = {
    split: list(tfds.data_source(name, split=split, data_dir=tmp_path / "data"))
    for split in ("train", "test")
  }
  for examples in read.values():
    assert {e["image"].shape for e in examples} == {(size, size, 3)}
  train = sorted(
    (int(e["label"]), int(e["track"]), int(e["image"][0, 0, 0]))
    for e in read["train"]
  )
  assert train == [
    (c, t, c) for c in range(NUM_CLASSES) for t in (0, 1) for _ in (0, 1)
  ]
  test = sorted(
    (int(e["label"]), int(e["track"]), int(e["image"][0, 0, 0]))
    for e in read["test"]
  )
  assert test == [(40, -1, 0), (41, -1, 5), (42, -1, 10)]


def test_a_config_reads_it_and_holds_out_tracks(make, tmp_path):
  prepare("gtsrb", tmp_path / "data", make())
  config = common.get_base().data
  config.name, config.data_dir = "gtsrb", str(tmp_path / "data")
  config.validation_size, config.hold_out_by = 86, "track"
  train, held = (load_split(config, s) for s in ("train", "validation"))
  assert len(train) == len(held) == 86
  assert train.num_classes == NUM_CLASSES
  np.testing.assert_array_equal(np.bincount(held.labels), [2] * NUM_CLASSES)
  config.hold_out_by = "trak"
  with pytest.raises(ValueError, match="the field 'trak'; .*'track'"):
    load_split(config, "train")


def test_the_official_archives():
  archives = PREPARERS["gtsrb"].archives
  assert list(archives) == [TRAIN, TEST, TABLE]
  assert archives == PREPARERS["gtsrb_48"].archives
  for file, archive in archives.items():
    assert archive.url.startswith("https://sid.erda.dk/")
    assert archive.url.endswith(file)
    assert (archive.algorithm, len(archive.checksum)) == ("md5", 32)


def test_another_archive_is_refused(make, tmp_path):
  source = make()
  (source / TEST).write_bytes(b"something else")
  with pytest.raises(ValueError, match="must be md5 .*; got 14 bytes with"):
    prepare("gtsrb", tmp_path / "data", source)
  (source / TEST).unlink()
  with pytest.raises(FileNotFoundError, match=f"lacks {TEST}"):
    prepare("gtsrb", tmp_path / "data", source)
  assert not (tmp_path / "data" / "gtsrb").exists()


@pytest.fixture
def server(make):
  """Serves the archives, whose URLs are made to lead there."""
  folder = make()
  handler = functools.partial(Quiet, directory=folder)
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    preparer = PREPARERS["gtsrb"]
    object.__setattr__(
      preparer, "root", f"http://127.0.0.1:{server.server_port}/"
    )
    yield folder
    server.shutdown()
    thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *args):
    pass


def test_downloads_are_checked_and_kept(server, tmp_path):
  good = (server / TEST).read_bytes()
  (server / TEST).write_bytes(b"something else")
  with pytest.raises(ValueError, match=f"{TEST} must be md5 .*what came has"):
    prepare("gtsrb", tmp_path / "data")
  assert not list(tmp_path.glob("data/gtsrb/*"))
  (server / TEST).write_bytes(good)
  (server / TRAIN).unlink()  # is kept from the first time
  prepare("gtsrb", tmp_path / "data")
  data = tfds.data_source("gtsrb", split="test", data_dir=tmp_path / "data")
  assert len(data) == 3


def _no_zip(archives):
  archives[TRAIN] = b"PK, it seemed"


def _no_classes(archives):
  archives[TRAIN] = {f"{IMAGES}/00001/00000_00000.ppm": ppm((9, 9), 0)}


def _no_class(archives):
  files = archives[TRAIN]
  files[f"{IMAGES}/42/00000_00000.ppm"] = files.pop(
    f"{IMAGES}/00042/00000_00000.ppm"
  )
  for name in [name for name in files if "/00042/" in name]:
    files[name.replace("/00042/", "/00043/")] = files.pop(name)
  del files[f"{IMAGES}/42/00000_00000.ppm"]


def _other_name(archives):
  archives[TRAIN][f"{IMAGES}/00001/sign.ppm"] = ppm((9, 9), 0)


def _no_image(archives):
  archives[TRAIN][f"{IMAGES}/00001/00000_00000.ppm"] = b"P6 9 9 255 short"


def _no_table(archives):
  archives[TABLE] = {"readme.txt": ""}


def _other_table(archives):
  archives[TABLE] = {"GT-final_test.csv": "a;b\n1;2\n"}


def _wrong_label(archives):
  text = archives[TABLE]["GT-final_test.csv"]
  archives[TABLE] = {"GT-final_test.csv": text.replace(";42", ";43")}


def _fewer_labels(archives):
  text = archives[TABLE]["GT-final_test.csv"]
  archives[TABLE] = {"GT-final_test.csv": text.rpartition("00002")[0]}


@pytest.mark.parametrize(
  ("change", "match"),
  [
    (_no_zip, f"{TRAIN} must be a zip archive"),
    (_no_classes, "must hold images of 43 classes; got 1"),
    (_no_class, r"must be of a class in \[0, 43\); got '00043'"),
    (_other_name, "must be named TRACK_FRAME.ppm; got .*sign.ppm"),
    (_no_image, "00001/00000_00000.ppm must be an image"),
    (_no_table, f"{TABLE} must hold one table .csv; got"),
    (_other_table, r"columns Filename and ClassId; got \['a', 'b'\]"),
    (_wrong_label, r"00002.ppm in .*got '43'"),
    (_fewer_labels, "the same images; 1 are in one of them only"),
  ],
)
def test_broken_archives_leave_nothing_half_prepared(
  change, match, make, tmp_path
):
  source = make(change)
  with pytest.raises(ValueError, match=match):
    prepare("gtsrb", tmp_path / "data", source)
  assert not list(tmp_path.glob("data/gtsrb/*"))
