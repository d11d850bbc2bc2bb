"""Official archives: finding, downloading and checking them."""

import errno
import hashlib
import io
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import PIL.Image
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, resource
from tensorflow_datasets.core.download.download_manager import (
  NonMatchingChecksumError,
)


class Archive(NamedTuple):
  """A file on a server.

  Attributes:
    url: where it is.
    checksum: hexadecimal; "" if none is published: what is wrong then shows
      when the archive is read.
    algorithm: of the checksum, a name in `hashlib`.
    size: in bytes; None if it is not known.
  """

  url: str
  checksum: str = ""
  algorithm: str = "sha256"
  size: int | None = None

  def describe(self) -> str:
    """What the file must be, in words."""
    size = "" if self.size is None else f"{self.size} bytes with "
    return f"{size}{self.algorithm} {self.checksum}"


def registered(url: str, info: checksums.UrlInfo) -> Archive:
  """An archive of a data set of tfds, which has a register of checksums."""
  return Archive(url, info.checksum, size=int(info.size))


def _is_good(path: pathlib.Path, archive: Archive) -> bool:
  if not archive.checksum:
    return True
  return _digest(path, archive.algorithm) == archive.checksum


def _digest(path: pathlib.Path, algorithm: str) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, algorithm).hexdigest()


def check_sum(path: pathlib.Path, archive: Archive) -> None:
  """Raises ValueError if a file is not the official one."""
  if not _is_good(path, archive):
    raise ValueError(
      f"{path} must be {archive.describe()}; got {path.stat().st_size} bytes "
      f"with {_digest(path, archive.algorithm)}."
    )


def _forget(path: pathlib.Path) -> None:
  """Removes a download, and what tfds noted about it."""
  path.unlink()
  pathlib.Path(resource.get_info_path(cast(Any, path))).unlink(missing_ok=True)


def check_writable(data_dir: pathlib.Path) -> None:
  """Makes a folder; raises OSError if it cannot be written to."""
  try:
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=data_dir):
      pass
  except OSError as error:
    raise OSError(
      f"`data_dir` must be a folder that can be written; got {data_dir} "
      f"({error.strerror})."
    ) from error


def check_space(data_dir: pathlib.Path, name: str, megabytes: int) -> None:
  """Raises OSError if a data set does not fit on the disk of a folder."""
  free = shutil.disk_usage(data_dir).free // 2**20
  if free < megabytes:
    raise OSError(
      f"`data_dir` must have {megabytes} MB free for {name}; {data_dir} has "
      f"{free} MB."
    )


def decode(content: bytes, where: str) -> PIL.Image.Image:
  """An image of an archive, in colours.

  Args:
    content: of its file.
    where: the file's name, for the error.

  Raises:
    ValueError: if it is no image, or cut off.
  """
  try:
    with PIL.Image.open(io.BytesIO(content)) as image:
      return image.convert("RGB")
  except (OSError, ValueError) as error:
    raise ValueError(f"{where} must be an image; {error}.") from error


def find(
  archives: Mapping[str, Archive], source: pathlib.Path
) -> dict[str, pathlib.Path]:
  """The path of each archive in a folder.

  Raises:
    FileNotFoundError: if one is missing.
  """
  paths = {file: source / file for file in archives}
  missing = [file for file, path in paths.items() if not path.is_file()]
  if missing:
    raise FileNotFoundError(
      f"`source` must be a folder with {', '.join(archives)}; {source} lacks "
      f"{', '.join(missing)}."
    )
  return paths


def download(
  name: str, archives: Mapping[str, Archive], folder: pathlib.Path
) -> dict[str, pathlib.Path]:
  """The path of each archive, fetched if no good one is there.

  Args:
    name: of the data set.
    archives: file name -> archive.
    folder: of downloads.

  Raises:
    ConnectionError: if a download fails.
    OSError: if the disk is full.
    ValueError: if what came has another checksum; it is not kept.
  """
  infos = {
    archive.url: checksums.UrlInfo(
      cast(Any, archive.size), archive.checksum, file
    )
    for file, archive in archives.items()
    # What tfds can check.
    if archive.algorithm == "sha256" and archive.size is not None
  }
  manager = tfds.download.DownloadManager(
    download_dir=folder,
    dataset_name=name,
    url_infos=infos,
    force_checksums_validation=len(infos) == len(archives),
  )
  paths = {}
  for file, archive in archives.items():
    url = archive.url
    known = archive.checksum if url in infos else None
    cached = folder / name / resource.get_dl_fname(url, known)
    if cached.exists() and not _is_good(cached, archive):
      _forget(cached)  # tfds would trust its name
    try:
      if not cached.exists():  # tfds would try a dead network for minutes
        requests.head(url, timeout=10)
      paths[file] = pathlib.Path(manager.download(url))
    except (OSError, tfds.download.DownloadError) as error:
      if getattr(error, "errno", None) == errno.ENOSPC:
        raise OSError(
          f"`data_dir` has too little space for {url} ({folder})."
        ) from error
      raise ConnectionError(
        f"could not download {url} ({error}). Without a network, get these "
        "files on another machine and give their folder with --source=DIR: "
        f"{' '.join(archive.url for archive in archives.values())}"
      ) from error
    except NonMatchingChecksumError as error:
      raise ValueError(str(error)) from error
    if not _is_good(paths[file], archive):
      got = _digest(paths[file], archive.algorithm)
      _forget(paths[file])
      raise ValueError(
        f"{url} must be {archive.describe()}; what came has {got}."
      )
  return paths
