"""The German Traffic Sign Recognition Benchmark, from its three archives.

https://benchmark.ini.rub.de/gtsrb_dataset.html: 39,209 images for training, of
1,307 signs that were each filmed 30 times, 12,630 for testing, 43 classes.
"""

import csv
import dataclasses
import io
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from stn.data.prepare.archives import Archive, decode

NUM_CLASSES = 43
_ROOT = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
_TRAIN = "GTSRB_Final_Training_Images.zip"
_TEST, _LABELS = "GTSRB_Final_Test_Images.zip", "GTSRB_Final_Test_GT.zip"
# MD5, as published with the archives.
_CHECKSUMS = {
  _TRAIN: "f33fd80ac59bff73c82d25ab499e03a3",
  _TEST: "c7e4e6327067d32654124b0fe9e82185",
  _LABELS: "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
}
_NO_TRACK = -1


@dataclasses.dataclass(frozen=True)
class Gtsrb:
  """The benchmark with every image resized to one size.

  Examples have "image" uint8 (size, size, 3), "label" in [0, 43) and "track",
  which of the class's signs is shown, -1 in test. Images of a track look alike:
  a validation split must hold out whole tracks, see `config.data.hold_out_by`.

  Attributes:
    size: pixels per axis, 32 or 48.
  """

  size: int

  @property
  def name(self) -> str:
    """Of the data set: gtsrb with 32x32 pixels, gtsrb_48 with 48x48."""
    return "gtsrb" if self.size == 32 else f"gtsrb_{self.size}"

  @property
  def megabytes(self) -> int:
    """That the data set takes on disk, with some to spare."""
    return 200 if self.size == 32 else 400

  @property
  def archives(self) -> dict[str, Archive]:
    """File name -> archive."""
    return {
      file: Archive(_ROOT + file, checksum, "md5")
      for file, checksum in _CHECKSUMS.items()
    }

  def empty(self, data_dir: pathlib.Path) -> tfds.core.DatasetBuilder:
    """The builder of the data set, without anything to write."""
    return self.filled({}, data_dir)

  def filled(
    self, paths: Mapping[str, pathlib.Path], data_dir: pathlib.Path
  ) -> tfds.core.DatasetBuilder:
    """The builder that writes what the archives hold."""
    size, set_name = (self.size, self.size), self.name

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
      """Of the German Traffic Sign Recognition Benchmark."""

      VERSION = tfds.core.Version("1.0.0")
      RELEASE_NOTES = {"1.0.0": "Every image is resized to one size."}  # noqa: RUF012
      name = set_name

      def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
          builder=self,
          description=f"{__doc__} Every image is resized to {size} pixels.",
          features=tfds.features.FeaturesDict(
            {
              "image": tfds.features.Image(shape=(*size, 3)),
              "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
              "track": np.int32,
            }
          ),
          supervised_keys=("image", "label"),
          homepage="https://benchmark.ini.rub.de/gtsrb_dataset.html",
        )

      def _split_generators(self, dl_manager):
        del dl_manager
        return {
          "train": self._generate_examples(_read_train(paths[_TRAIN])),
          "test": self._generate_examples(
            _read_test(paths[_TEST], paths[_LABELS])
          ),
        }

      def _generate_examples(self, examples) -> Iterator[tuple[str, Any]]:
        for key, data, label, track in examples:
          image = decode(data, key).resize(size, PIL.Image.Resampling.BILINEAR)
          yield key, {"image": image, "label": label, "track": track}

    return Builder(data_dir=data_dir)


def _open(path: pathlib.Path) -> zipfile.ZipFile:
  try:
    return zipfile.ZipFile(path)
  except zipfile.BadZipFile as error:
    raise ValueError(f"{path} must be a zip archive; {error}.") from error


def _label(text: str, where: str) -> int:
  """A class, as archives write it."""
  if not text.isdecimal() or int(text) >= NUM_CLASSES:
    raise ValueError(
      f"{where} must be of a class in [0, {NUM_CLASSES}); got {text!r}."
    )
  return int(text)


def _read_train(path: pathlib.Path) -> Iterator[tuple[str, bytes, int, int]]:
  """Images .../00007/00012_00003.ppm: class 7, track 12, frame 3."""
  with _open(path) as archive:
    names = [name for name in archive.namelist() if name.endswith(".ppm")]
    classes = {pathlib.PurePath(name).parent.name for name in names}
    if len(classes) != NUM_CLASSES:
      raise ValueError(
        f"{path} must hold images of {NUM_CLASSES} classes; got {len(classes)}."
      )
    for name in names:
      file = pathlib.PurePath(name)
      track, _, frame = file.stem.partition("_")
      if not (track.isdecimal() and frame.isdecimal()):
        raise ValueError(
          f"Images of {path} must be named TRACK_FRAME.ppm; got {name!r}."
        )
      label = _label(file.parent.name, f"{name} in {path}")
      yield name, archive.read(name), label, int(track)


def _read_test(
  images: pathlib.Path, labels: pathlib.Path
) -> Iterator[tuple[str, bytes, int, int]]:
  """Images .../00042.ppm; their classes are in a table of another archive."""
  with _open(labels) as archive:
    tables = [name for name in archive.namelist() if name.endswith(".csv")]
    if len(tables) != 1:
      raise ValueError(f"{labels} must hold one table .csv; got {tables}.")
    text = archive.read(tables[0]).decode()
  rows = list(csv.DictReader(io.StringIO(text), delimiter=";"))
  if not rows or not {"Filename", "ClassId"} <= rows[0].keys():
    raise ValueError(
      f"{tables[0]} in {labels} must have columns Filename and ClassId; got "
      f"{list(rows[0]) if rows else 'no rows'}."
    )
  classes = {row["Filename"]: row["ClassId"] for row in rows}
  with _open(images) as archive:
    names = [name for name in archive.namelist() if name.endswith(".ppm")]
    files = {pathlib.PurePath(name).name: name for name in names}
    if files.keys() != classes.keys():
      raise ValueError(
        f"{images} and {labels} must be about the same images; "
        f"{len(files.keys() ^ classes.keys())} are in one of them only."
      )
    for file, name in files.items():
      label = _label(classes[file], f"{file} in {labels}")
      yield name, archive.read(name), label, _NO_TRACK
