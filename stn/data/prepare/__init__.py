"""Gets an official data set and writes it for `tfds.data_source`.

On a machine with a network, or from files that were downloaded elsewhere:

    python -m stn.data.prepare mnist --data_dir=DIR
    python -m stn.data.prepare gtsrb --data_dir=DIR --source=FOLDER

tfds' own `download_and_prepare` needs TensorFlow to unpack and encode images;
here builders are given images that PIL has encoded. An official set of tfds is
written as its own builder would: the same examples, in the same order, under
the same name. Checksums are those registered in tfds, or published with the
archives.

A run that is cut off can be started again. The data set is written in a folder
`incomplete.*` and renamed when it is whole; archives already downloaded are
kept in DIR/downloads.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

from stn._checks import check_choice
from stn._extras import needs

with needs("train", "Preparing a data set"):
  import rich
  import tensorflow_datasets as tfds

  from stn.data.prepare.archives import (
    Archive,
    check_space,
    check_sum,
    check_writable,
    download,
    find,
  )
  from stn.data.prepare.gtsrb import Gtsrb
  from stn.data.prepare.idx import FASHION_MNIST, KMNIST, MNIST
  from stn.data.prepare.svhn import Svhn
  from stn.data.prepare.svhn_cropped import SvhnCropped

__all__ = ["PREPARERS", "Archive", "Preparer", "prepare"]


class Preparer(Protocol):
  """A data set that can be prepared."""

  @property
  def name(self) -> str:
    """Of the data set."""
    ...

  @property
  def megabytes(self) -> int:
    """That the data set takes on disk, without its archives."""
    ...

  @property
  def archives(self) -> Mapping[str, Archive]:
    """File name -> archive."""
    ...

  def empty(self, data_dir: pathlib.Path) -> tfds.core.DatasetBuilder:
    """The builder of the data set, which knows where it is or will be."""
    ...

  def filled(
    self, paths: Mapping[str, pathlib.Path], data_dir: pathlib.Path
  ) -> tfds.core.DatasetBuilder:
    """The builder that writes what the archives at `paths` hold.

    Raises:
      ValueError: if an archive is not what its name says.
    """
    ...


PREPARERS: dict[str, Preparer] = {
  preparer.name: preparer
  for preparer in (
    MNIST,
    FASHION_MNIST,
    KMNIST,
    Gtsrb(32),
    Gtsrb(48),
    Svhn(64),
    Svhn(128),
    SvhnCropped(),
  )
}


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
    source: folder with the official archives, such as
      train-images-idx3-ubyte.gz; None downloads them.

  Returns:
    The folder of the data set, `data_dir`/name/version.

  Raises:
    ValueError: if `name` is unknown, or an archive has another checksum than
      the registered one, or is not what its name says.
    ConnectionError: if a download fails.
    OSError: if a file is missing from `source`, `data_dir` cannot be written
      or has too little space, or it holds a data set of this name that cannot
      be read.

  Example:
    >>> prepare("minst", "data")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: `name` must be one of ...; got 'minst'. Did you mean 'mnist'?
  """
  check_choice("name", name, PREPARERS)
  preparer = PREPARERS[name]
  data_dir = pathlib.Path(data_dir).expanduser()
  prepared = preparer.empty(data_dir)
  path = pathlib.Path(prepared.data_dir)
  if path.exists():
    _check_readable(prepared)
    message = f"{name} is already prepared in {path}: nothing to do."
    rich.get_console().print(message, markup=False, soft_wrap=True)
    return path

  check_writable(data_dir)
  check_space(data_dir, name, preparer.megabytes)
  archives = preparer.archives
  if source is None:
    paths = download(name, archives, data_dir / "downloads")
  else:
    paths = find(archives, pathlib.Path(source).expanduser())
  for file, archive in archives.items():
    check_sum(paths[file], archive)
  builder = preparer.filled(paths, data_dir)
  try:
    builder.download_and_prepare(
      file_format="array_record",
      download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
  except RuntimeError as error:  # what array_record raises for a full disk
    raise OSError(f"could not write {path}: {error}") from error
  return path


def _check_readable(builder: Any) -> None:
  """Reads the last example of each split, which a cut-off copy lacks."""
  try:
    for split in ("train", "test"):
      examples = builder.as_data_source(
        split, decoders={"image": tfds.decode.SkipDecoding()}
      )
      examples[len(examples) - 1]
  except (RuntimeError, ValueError) as error:
    raise OSError(
      f"`data_dir` must hold a whole {builder.name} in array_record format, or "
      f"none; delete {builder.data_dir} and run again ({error})."
    ) from error
