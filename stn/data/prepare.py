"""Gets an official data set and writes it for `tfds.data_source`.

On a machine with a network, or from files that were downloaded elsewhere:

    python -m stn.data.prepare mnist --data_dir=DIR
    python -m stn.data.prepare mnist --data_dir=DIR --source=FOLDER

tfds' own `download_and_prepare` needs TensorFlow to unpack and encode these
images; here the official builder is given images already encoded by PIL, so it
writes the same examples, in the same order and under the official name, with
no TensorFlow. Checksums are those registered in tfds.

A run that is cut off can be started again. The data set is written in a folder
`incomplete.*` and renamed when it is whole; archives already downloaded are
kept in DIR/downloads.
"""

import argparse
import gzip
import math
import os
import pathlib
import signal
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import PIL.Image
import requests
import rich
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, resource
from tensorflow_datasets.core.download.download_manager import (
  NonMatchingChecksumError,
)
from tensorflow_datasets.image_classification import mnist

from stn._checks import check_choice

# The data sets that are four IDX archives: name -> official builder.
PREPARERS: dict[str, type[mnist.MNIST]] = {
  builder.name: builder
  for builder in (mnist.MNIST, mnist.FashionMNIST, mnist.KMNIST)
}
# An archive's name -> its URL, its size and checksum.
_Archives = dict[str, tuple[str, checksums.UrlInfo]]
# Split -> its archives, and the shape of an item of each: images, labels.
_SPLITS = {
  "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
  "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
_ITEM_SHAPES = (mnist.MNIST_IMAGE_SHAPE[:2], ())


def prepare(
  name: str,
  data_dir: str | os.PathLike[str],
  source: str | os.PathLike[str] | None = None,
) -> pathlib.Path:
  """Writes data set `name` in `data_dir`, unless it is there already.

  Afterwards `tfds.data_source(name, split="train", data_dir=data_dir)` reads
  it. Downloading and writing show progress.

  Args:
    name: a key of `PREPARERS`.
    data_dir: folder of tfds data sets; made if missing.
    source: folder with the official archives (train-images-idx3-ubyte.gz and so
      on); None downloads them.

  Returns:
    The folder of the data set, `data_dir`/name/version.

  Raises:
    ValueError: if `name` is unknown, or an archive has another checksum than
      the registered one, or is not what its name says.
    ConnectionError: if a download fails.
    OSError: if a file is missing from `source`, `data_dir` cannot be written,
      or it holds a data set of this name that cannot be read.

  Example:
    >>> prepare("minst", "data")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: `name` must be one of ...; got 'minst'. Did you mean 'mnist'?
  """
  check_choice("name", name, PREPARERS)
  official = PREPARERS[name]
  data_dir = pathlib.Path(data_dir).expanduser()
  prepared = official(data_dir=data_dir)
  path = pathlib.Path(prepared.data_dir)
  if path.exists():
    _check_readable(prepared)
    message = f"{name} is already prepared in {path}: nothing to do."
    rich.get_console().print(message, markup=False, soft_wrap=True)
    return path

  _check_writable(data_dir)
  archives = _archives(official)
  if source is None:
    paths = _download(name, archives, data_dir / "downloads")
  else:
    paths = _find(archives, pathlib.Path(source).expanduser())
  for file, (_, expected) in archives.items():
    _check_sum(paths[file], expected)
  splits = {
    split: _read_split(*(paths[file] for file in files))
    for split, files in _SPLITS.items()
  }
  builder = _without_tensorflow(official, splits)(data_dir=data_dir)
  try:
    builder.download_and_prepare(
      file_format="array_record",
      download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
  except RuntimeError as error:  # what array_record raises for a full disk
    raise OSError(f"could not write {path}: {error}") from error
  return path


def _archives(official: type[mnist.MNIST]) -> _Archives:
  url_infos = official.url_infos or {}
  urls = {f: official.URL + f for files in _SPLITS.values() for f in files}
  return {file: (url, url_infos[url]) for file, url in urls.items()}


def _check_readable(builder: Any) -> None:
  """Reads the last example of each split, which a cut-off copy lacks."""
  try:
    for split in _SPLITS:
      examples = builder.as_data_source(
        split, decoders={"image": tfds.decode.SkipDecoding()}
      )
      examples[len(examples) - 1]
  except (RuntimeError, ValueError) as error:
    raise OSError(
      f"`data_dir` must hold a whole {builder.name} in array_record format, or "
      f"none; delete {builder.data_dir} and run again ({error})."
    ) from error


def _check_writable(data_dir: pathlib.Path) -> None:
  try:
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=data_dir):
      pass
  except OSError as error:
    raise OSError(
      f"`data_dir` must be a folder that can be written; got {data_dir} "
      f"({error.strerror})."
    ) from error


def _check_sum(path: pathlib.Path, expected: checksums.UrlInfo) -> None:
  got = checksums.compute_url_info(path)
  if got != expected:
    raise ValueError(
      f"{path} must be {int(expected.size)} bytes with sha256 "
      f"{expected.checksum}; got {int(got.size)} bytes with {got.checksum}."
    )


def _find(archives: _Archives, source: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the path of each archive in the folder `source`."""
  paths = {file: source / file for file in archives}
  missing = [file for file, path in paths.items() if not path.is_file()]
  if missing:
    raise FileNotFoundError(
      f"`source` must be a folder with {', '.join(archives)}; {source} lacks "
      f"{', '.join(missing)}."
    )
  return paths


def _download(
  name: str, archives: _Archives, download_dir: pathlib.Path
) -> dict[str, pathlib.Path]:
  """Returns the path of each archive, fetched if no good one is there."""
  manager = tfds.download.DownloadManager(
    download_dir=download_dir,
    dataset_name=name,
    url_infos=dict(archives.values()),
    force_checksums_validation=True,
  )
  paths = {}
  for file, (url, expected) in archives.items():
    cached = download_dir / name / resource.get_dl_fname(url, expected.checksum)
    if cached.exists() and checksums.compute_url_info(cached) != expected:
      cached.unlink()  # tfds would trust its name
    try:
      if not cached.exists():  # tfds would try a dead network for minutes
        requests.head(url, timeout=10)
      paths[file] = pathlib.Path(manager.download(url))
    except (OSError, tfds.download.DownloadError) as error:
      raise ConnectionError(
        f"could not download {url} ({error}). Without a network, get these "
        "files on another machine and give their folder with --source=DIR: "
        f"{' '.join(url for url, _ in archives.values())}"
      ) from error
    except NonMatchingChecksumError as error:
      raise ValueError(str(error)) from error
  return paths


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


def _without_tensorflow(
  official: type[mnist.MNIST],
  splits: dict[str, tuple[np.ndarray, np.ndarray]],
) -> type[mnist.MNIST]:
  """Returns the official builder, but for where its examples come from."""

  class Builder(official, skip_registration=True):
    name = official.name
    __module__ = official.__module__  # recorded in the data set

    def _split_generators(self, dl_manager):
      return {
        split: self._generate_examples(*arrays)
        for split, arrays in splits.items()
      }

    def _generate_examples(self, images, labels) -> Iterator[tuple[int, dict]]:
      for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        image = PIL.Image.fromarray(image)  # tfds encodes arrays by TensorFlow
        yield index, {"image": image, "label": int(label)}

  return Builder


def main(argv: Sequence[str] | None = None) -> None:
  """Runs `prepare` on the command line's arguments."""
  parser = argparse.ArgumentParser(
    prog="python -m stn.data.prepare",
    description="Gets an official data set and writes it as array_record.",
  )
  parser.add_argument("name", help=", ".join(sorted(PREPARERS)))
  parser.add_argument("--data_dir", required=True, help="tfds data folder")
  parser.add_argument("--source", help="folder with the archives; no download")
  args = parser.parse_args(argv)
  try:
    prepare(**vars(args))
  except (OSError, ValueError) as error:
    sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
  # Leave as by Ctrl-C, so that tfds removes its incomplete folder.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  main()
