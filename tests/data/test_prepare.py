"""stn.data.prepare against small archives of the official format."""

import contextlib
import errno
import functools
import gzip
import http.server
import os
import resource
import signal
import struct
import subprocess
import sys
import threading

import numpy as np
import PIL.Image
import pytest
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums

from stn.data.prepare import PREPARERS, prepare
from stn.data.prepare.__main__ import main
from stn.data.prepare.idx import Idx

SIZES = {"train": 7, "test": 5}
PREFIXES = {"train": "train", "test": "t10k"}
FILES = [
  f"{prefix}-{kind}-ubyte.gz"
  for prefix in PREFIXES.values()
  for kind in ("images-idx3", "labels-idx1")
]
NAMES = ["fashion_mnist", "kmnist", "mnist"]
NOWHERE = "http://127.0.0.1:1/"  # nobody listens


def idx(array):
  header = bytes([0, 0, 8, array.ndim]) + struct.pack(
    f">{array.ndim}i", *array.shape
  )
  return gzip.compress(header + array.tobytes(), mtime=0)


def register(monkeypatch, folder, url=NOWHERE, name="mnist"):
  """Makes `prepare` expect the archives that are in `folder` at `url`."""
  official = tfds.builder_cls(name)
  body = {
    "name": name,
    "__module__": official.__module__,
    "URL": url,
    "url_infos": {
      url + file: checksums.compute_url_info(folder / file) for file in FILES
    },
  }
  small = type(official)("Small", (official,), body, skip_registration=True)
  monkeypatch.setitem(PREPARERS, name, Idx(small))


@pytest.fixture
def arrays():
  rng = np.random.default_rng(0)
  return {
    split: (
      rng.integers(0, 256, (n, 28, 28), dtype=np.uint8),
      rng.integers(0, 10, n, dtype=np.uint8),
    )
    for split, n in SIZES.items()
  }


@pytest.fixture
def source(tmp_path, monkeypatch, arrays):
  """A folder with good archives, registered."""
  folder = tmp_path / "source"
  folder.mkdir()
  for split, (images, labels) in arrays.items():
    prefix = PREFIXES[split]
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images))
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
  register(monkeypatch, folder)
  return folder


@pytest.fixture
def data_dir(tmp_path):
  return tmp_path / "data"


class Handler(http.server.SimpleHTTPRequestHandler):
  def do_GET(self):
    self.server.fetched.append(self.path[1:])
    if self.path[1:] == self.server.cut:  # breaks off half way
      content = open_bytes(self.translate_path(self.path))
      self.send_response(200)
      self.send_header("Content-Length", str(len(content)))
      self.end_headers()
      self.wfile.write(content[: len(content) // 2])
      self.close_connection = True
    else:
      super().do_GET()

  def log_message(self, *args):
    pass


def open_bytes(path):
  with open(path, "rb") as file:
    return file.read()


@pytest.fixture
def server(source, monkeypatch):
  """Serves `source`; `fetched` lists what was asked for, `cut` breaks off."""
  handler = functools.partial(Handler, directory=source)
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    server.fetched, server.cut = [], None
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    register(monkeypatch, source, f"http://127.0.0.1:{server.server_port}/")
    yield server
    server.shutdown()
    thread.join()


def assert_prepared(data_dir, arrays, name="mnist"):
  """Any reader of tfds gets exactly `arrays`, in any order."""
  for split, (images, labels) in arrays.items():
    examples = list(
      tfds.data_source(name, split=split, data_dir=data_dir, download=False)
    )
    assert {e["image"].shape for e in examples} == {(28, 28, 1)}
    assert {e["image"].dtype for e in examples} == {np.dtype(np.uint8)}
    got = sorted((e["image"].tobytes(), int(e["label"])) for e in examples)
    expected = zip((i.tobytes() for i in images), labels.tolist(), strict=True)
    assert got == sorted(expected)


def assert_nothing_prepared(data_dir):
  assert not tfds.builder("mnist", data_dir=data_dir).is_prepared()
  assert not (data_dir / "mnist" / "3.0.1").exists()
  with pytest.raises((RuntimeError, ValueError)):
    tfds.data_source("mnist", split="train", data_dir=data_dir, download=False)


@pytest.mark.parametrize("name", NAMES)
def test_writes_what_tfds_reads(name, source, data_dir, arrays, monkeypatch):
  register(monkeypatch, source, name=name)
  official = tfds.builder_cls(name)
  path = prepare(name, data_dir, source)
  assert path == data_dir / name / str(official.VERSION)
  assert_prepared(data_dir, arrays, name)
  info = tfds.builder(name, data_dir=data_dir).info
  assert info.full_name == f"{name}/{official.VERSION}"
  assert info.features["label"].num_classes == 10
  assert {s: i.num_examples for s, i in info.splits.items()} == SIZES
  assert info.file_format == tfds.core.FileFormat.ARRAY_RECORD
  assert list(data_dir.glob("*/incomplete*")) == []


@pytest.mark.parametrize("name", NAMES)
def test_official_checksums_are_registered(name):
  assert PREPARERS[name].official is tfds.builder_cls(name)
  archives = PREPARERS[name].archives
  assert sorted(archives) == sorted(FILES)
  assert all(archive.url.endswith(file) for file, archive in archives.items())
  assert {len(archive.checksum) for archive in archives.values()} == {64}


def test_official_checksum_of_mnist():
  archive = PREPARERS["mnist"].archives[FILES[0]]
  assert archive.size == 9_912_422
  assert archive.checksum.startswith(
    "440fcabf73cc546fa21475e81ea370265605f56be21"
  )


def test_second_run_does_nothing(source, data_dir, capsys):
  path = prepare("mnist", data_dir, source)
  before = {p: p.stat().st_mtime_ns for p in [path, *path.iterdir()]}
  assert prepare("mnist", data_dir) == path  # needs no source, no network
  assert "already prepared" in capsys.readouterr().out
  assert before == {p: p.stat().st_mtime_ns for p in [path, *path.iterdir()]}


def damage_no_shard(path):
  next(path.glob("*train*")).unlink()


def damage_cut_shard(path):
  shard = next(path.glob("*test*"))
  os.truncate(shard, shard.stat().st_size - 100)


def damage_empty_folder(path):
  for file in path.iterdir():
    file.unlink()


@pytest.mark.parametrize(
  "damage", [damage_no_shard, damage_cut_shard, damage_empty_folder]
)
def test_broken_data_set_is_not_taken_for_a_whole_one(damage, source, data_dir):
  damage(prepare("mnist", data_dir, source))
  with pytest.raises(OSError, match=r"must hold a whole mnist.*delete .*3.0.1"):
    prepare("mnist", data_dir, source)


@pytest.mark.parametrize(
  "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")]
)
@pytest.mark.parametrize("written", [3, SIZES["train"] + 2])
def test_cut_off_then_run_again(error, written, source, data_dir, arrays):
  encode, calls = PIL.Image.fromarray, []

  def cut_off(image):
    calls.append(image)
    if len(calls) > written:
      raise error
    return encode(image)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(PIL.Image, "fromarray", cut_off)
    with pytest.raises(type(error)):
      prepare("mnist", data_dir, source)
  assert_nothing_prepared(data_dir)
  prepare("mnist", data_dir, source)
  assert_prepared(data_dir, arrays)


@contextlib.contextmanager
def full_disk(free):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (free, limits[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_disk_error(source, data_dir, arrays):
  with full_disk(50_000), pytest.raises(OSError, match="could not write .*3.0"):
    prepare("mnist", data_dir, source)
  assert_nothing_prepared(data_dir)
  prepare("mnist", data_dir, source)
  assert_prepared(data_dir, arrays)


SCRIPT = """
import importlib.machinery, os, pathlib, runpy, sys

finder = importlib.machinery.PathFinder

class FinderWithoutTensorFlow(finder):
  @classmethod
  def find_spec(cls, name, path=None, target=None):
    return None if name == "tensorflow" else finder.find_spec(name, path)

sys.meta_path[sys.meta_path.index(finder)] = FinderWithoutTensorFlow
import PIL.Image
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.image_classification import mnist

data_dir, source, killed_by = sys.argv[1:]
mnist.MNIST.url_infos = {
  mnist.MNIST.URL + path.name: checksums.compute_url_info(path)
  for path in pathlib.Path(source).iterdir()
}
if int(killed_by):
  PIL.Image.fromarray = lambda _: os.kill(os.getpid(), int(killed_by))
sys.argv[1:] = ["mnist", "--data_dir=" + data_dir, "--source=" + source]
runpy.run_module("stn.data.prepare", run_name="__main__")
assert "tensorflow" not in sys.modules
"""


def run_script(data_dir, source, killed_by=0):
  return subprocess.run(
    [sys.executable, "-c", SCRIPT, data_dir, source, str(int(killed_by))],
    capture_output=True,
    text=True,
    check=False,
  )


def test_needs_no_tensorflow(source, data_dir, arrays):
  done = run_script(data_dir, source)
  assert done.returncode == 0, done.stderr
  assert_prepared(data_dir, arrays)


@pytest.mark.parametrize(
  ("killed_by", "code", "leftovers"),
  [(signal.SIGTERM, 128 + signal.SIGTERM, 0), (signal.SIGKILL, -9, 1)],
)
def test_killed(killed_by, code, leftovers, source, data_dir, arrays):
  assert run_script(data_dir, source, killed_by).returncode == code
  assert len(list(data_dir.glob("mnist/incomplete*"))) == leftovers
  assert_nothing_prepared(data_dir)
  prepare("mnist", data_dir, source)
  assert_prepared(data_dir, arrays)


def test_missing_file(source, data_dir):
  (source / FILES[1]).unlink()
  with pytest.raises(FileNotFoundError, match=f"`source` .* lacks {FILES[1]}"):
    prepare("mnist", data_dir, source)
  with pytest.raises(FileNotFoundError, match=f"lacks {', '.join(FILES)}"):
    prepare("mnist", data_dir, source / "nothing")
  assert_nothing_prepared(data_dir)


def test_wrong_checksum(source, data_dir):
  file = source / FILES[2]
  old, content = checksums.compute_url_info(file), file.read_bytes()[:-1]
  file.write_bytes(content)
  new = checksums.compute_url_info(file)
  pattern = (
    f"{file} must be {len(content) + 1} bytes with sha256 {old.checksum}; "
    f"got {len(content)} bytes with {new.checksum}"
  )
  with pytest.raises(ValueError, match=pattern):
    prepare("mnist", data_dir, source)
  assert_nothing_prepared(data_dir)


ONES = np.ones((3, 28, 28), np.uint8)
PLAIN = gzip.decompress(idx(ONES))


GARBLED = {
  "text": (b"not gzip", "must be a gzip file; Not a gzipped file"),
  "cut gzip": (idx(ONES)[:-20], "must be a gzip file; Compressed file ended"),
  "zeros": (b"\x1f\x8b\x08" + bytes(30), "must be a gzip file"),
  "empty": (gzip.compress(b""), "IDX magic 0x00000803; got 0x[.]"),
  "rank": (idx(ONES[:, 0, 0]), "IDX magic 0x00000803; got 0x00000801"),
  "cut header": (gzip.compress(PLAIN[:6]), "and -10 bytes follow"),
  "cut data": (gzip.compress(PLAIN[:-1]), "and 2351 bytes follow"),
  "more data": (gzip.compress(PLAIN + b"0"), "and 2353 bytes follow"),
  "size": (idx(ONES[:, :, :27]), r"shape \(28, 28\); .* \(3, 28, 27\)"),
  "count": (idx(ONES), "one label an image; got 7 labels for the 3 images"),
}


@pytest.mark.parametrize("garbled", GARBLED)
def test_garbled_idx(garbled, source, data_dir, monkeypatch):
  content, message = GARBLED[garbled]
  (source / FILES[0]).write_bytes(content)
  register(monkeypatch, source)  # as if that were the official file
  with pytest.raises(ValueError, match=message) as error:
    prepare("mnist", data_dir, source)
  assert FILES[0] in str(error.value)
  assert_nothing_prepared(data_dir)


def test_unknown_name(data_dir):
  with pytest.raises(ValueError, match="`name` must be .*'kmnist'.*'mnist'?"):
    prepare("minst", data_dir)
  assert not data_dir.exists()


def test_data_dir_is_a_file(source):
  with pytest.raises(OSError, match="`data_dir` must be a folder that can be"):
    prepare("mnist", source / FILES[0], source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_data_dir_is_read_only(source, data_dir):
  data_dir.mkdir(mode=0o555)
  with pytest.raises(OSError, match="`data_dir` .*Permission denied"):
    prepare("mnist", data_dir, source)


def test_downloads(server, data_dir, arrays):
  prepare("mnist", data_dir)
  assert server.fetched == FILES
  assert_prepared(data_dir, arrays)


def test_downloads_only_what_is_missing(server, data_dir, arrays):
  server.cut = FILES[2]
  with pytest.raises(ConnectionError, match=f"could not download .*{FILES[2]}"):
    prepare("mnist", data_dir)
  assert_nothing_prepared(data_dir)
  assert server.fetched == FILES[:3]
  server.cut = None
  prepare("mnist", data_dir)
  assert server.fetched == FILES[:3] + FILES[2:]
  assert_prepared(data_dir, arrays)


@pytest.fixture
def no_network(monkeypatch):
  def refuse(*args, **kwargs):
    raise requests.ConnectionError("no route to host")

  monkeypatch.setattr(requests.Session, "request", refuse)


def test_all_downloaded_needs_no_network(server, data_dir, arrays, request):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(PIL.Image, "fromarray", None)
    with pytest.raises(TypeError):
      prepare("mnist", data_dir)
  request.getfixturevalue("no_network")
  prepare("mnist", data_dir)
  assert server.fetched == FILES
  assert_prepared(data_dir, arrays)


def test_damaged_download_is_fetched_again(server, data_dir, arrays):
  path = prepare("mnist", data_dir)
  path.rename(data_dir / "old")
  cached = next(data_dir.glob("downloads/mnist/*t10k-images*gz"))
  os.truncate(cached, 40)
  prepare("mnist", data_dir)
  assert server.fetched == [*FILES, FILES[2]]
  assert_prepared(data_dir, arrays)


def test_wrong_checksum_of_a_download(server, source, data_dir, arrays):
  good = (source / FILES[0]).read_bytes()
  (source / FILES[0]).write_bytes(good + b"0")
  wrong = checksums.compute_url_info(source / FILES[0])
  pattern = f"(?s){FILES[0]}.*wrong checksum.*Expected.*Got.*{wrong.checksum}"
  with pytest.raises(ValueError, match=pattern):
    prepare("mnist", data_dir)
  assert_nothing_prepared(data_dir)
  (source / FILES[0]).write_bytes(good)
  prepare("mnist", data_dir)
  assert_prepared(data_dir, arrays)


def test_not_on_the_server(server, source, data_dir):
  (source / FILES[0]).unlink()
  with pytest.raises(ConnectionError, match="404"):
    prepare("mnist", data_dir)


@pytest.mark.timeout(30)  # tfds itself would try again for three minutes
@pytest.mark.usefixtures("source")
def test_no_network(data_dir, capsys):
  with pytest.raises(SystemExit) as error:
    main(["mnist", f"--data_dir={data_dir}"])
  message = error.value.code
  assert f"could not download {NOWHERE}{FILES[0]} (" in message
  assert "Connection refused" in message
  assert "--source=DIR" in message
  assert all(NOWHERE + file in message for file in FILES)
  assert "\n" not in message
  assert_nothing_prepared(data_dir)


def test_command_line(source, data_dir, arrays):
  main(["mnist", f"--data_dir={data_dir}", f"--source={source}"])
  assert_prepared(data_dir, arrays)


def test_command_line_says_what_is_wrong(data_dir):
  command = [sys.executable, "-W", "error", "-m", "stn.data.prepare", "mnits"]
  done = subprocess.run(
    [*command, f"--data_dir={data_dir}"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert done.stderr.startswith("error: `name` must be one of 'fashion_mnist'")
  assert done.stderr.count("\n") == 1
