"""House numbers (SVHN, format 1: full numbers), cropped around their digits.

http://ufldl.stanford.edu/housenumbers/: photographs of house numbers, 33,402 to
train, 202,353 more that are easier, 13,068 to test, with a box for each digit.
"""

import contextlib
import dataclasses
import io
import pathlib
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from stn._extras import needs
from stn.data.prepare.archives import Archive, decode

LENGTH = 5  # digits of a number, at most: the only longer one is left out
BLANK = 10  # the class of a place without a digit
_ROOT = "http://ufldl.stanford.edu/housenumbers/"
_SPLITS = {"train": ("train.tar.gz", "extra.tar.gz"), "test": ("test.tar.gz",)}
_TABLE = "digitStruct.mat"
_MARGIN = 0.3  # of the digits' height and width, around them
_FIELDS = ("label", "left", "top", "width", "height")


@dataclasses.dataclass(frozen=True)
class Svhn:
  """House numbers, cropped as Goodfellow et al. (2014) do.

  The rectangle around all digits grows by 30 % along each axis, and what it
  cuts out is resized to 64x64 pixels. With 128x128 the rectangle is twice as
  large: the digits are as large in pixels, with more around them.

  Examples have "image" uint8 (size, size, 3) and "label" (5,), digits from the
  left, then 10 for no digit. "train" is the official train and extra.

  Attributes:
    size: pixels per axis, 64 or 128.
  """

  size: int

  @property
  def name(self) -> str:
    """Of the data set."""
    return f"svhn_{self.size}"

  @property
  def megabytes(self) -> int:
    """That the data set takes on disk, with some to spare."""
    return 3500 if self.size == 64 else 12_000

  @property
  def archives(self) -> dict[str, Archive]:
    """File name -> archive."""
    files = [file for files in _SPLITS.values() for file in files]
    return {file: Archive(_ROOT + file) for file in files}

  def empty(self, data_dir: pathlib.Path) -> tfds.core.DatasetBuilder:
    """The builder of the data set, without anything to write."""
    return self.filled({}, data_dir)

  def filled(
    self, paths: Mapping[str, pathlib.Path], data_dir: pathlib.Path
  ) -> tfds.core.DatasetBuilder:
    """The builder that writes what the archives hold."""
    size, set_name = self.size, self.name

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
      """Of the Street View House Numbers."""

      VERSION = tfds.core.Version("1.0.0")
      RELEASE_NOTES = {"1.0.0": "Cropped around the digits."}  # noqa: RUF012
      name = set_name

      def _info(self) -> tfds.core.DatasetInfo:
        digit = tfds.features.ClassLabel(num_classes=BLANK + 1)
        return tfds.core.DatasetInfo(
          builder=self,
          description=f"{__doc__} Full numbers, cropped to {size} pixels.",
          features=tfds.features.FeaturesDict(
            {
              "image": tfds.features.Image(shape=(size, size, 3)),
              "label": tfds.features.Sequence(digit, length=LENGTH),
            }
          ),
          homepage=_ROOT,
        )

      def _split_generators(self, dl_manager):
        del dl_manager
        return {
          split: self._generate_examples([paths[file] for file in files])
          for split, files in _SPLITS.items()
        }

      def _generate_examples(
        self, archives: Sequence[pathlib.Path]
      ) -> Iterator[tuple[str, Any]]:
        for path in archives:
          for name, image, digits in _read(path):
            if len(digits["label"]) > LENGTH:
              continue
            label = (digits["label"] % 10).tolist()
            label += [BLANK] * (LENGTH - len(label))
            yield (
              f"{path.name} {name}",
              {"image": _crop(image, digits, size), "label": label},
            )

    return Builder(data_dir=data_dir)


def _crop(
  image: PIL.Image.Image, digits: Mapping[str, np.ndarray], size: int
) -> PIL.Image.Image:
  """What is around the digits; the borders of the photograph are repeated."""
  left, top = digits["left"].min(), digits["top"].min()
  right = (digits["left"] + digits["width"]).max()
  bottom = (digits["top"] + digits["height"]).max()
  centre = np.array([left + right, top + bottom]) / 2
  half = np.array([right - left, bottom - top]) / 2
  half *= (1 + _MARGIN) * size / 64
  low, high = np.floor(centre - half), np.ceil(centre + half)
  x0, y0, x1, y1 = np.concatenate([low, np.maximum(high, low + 1)]).astype(int)
  pixels = np.asarray(image)
  rows = np.clip(np.arange(y0, y1), 0, pixels.shape[0] - 1)
  columns = np.clip(np.arange(x0, x1), 0, pixels.shape[1] - 1)
  crop = PIL.Image.fromarray(pixels[rows[:, None], columns[None]])
  return crop.resize((size, size), PIL.Image.Resampling.BILINEAR)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[tarfile.TarFile]:
  """An archive, read from its start; what is wrong names it."""
  try:
    with tarfile.open(path, "r|gz") as archive:
      yield archive
  except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
    raise ValueError(
      f"{path} must be a whole gzipped tar archive; {error}."
    ) from error


def _read(
  path: pathlib.Path,
) -> Iterator[tuple[str, PIL.Image.Image, dict[str, np.ndarray]]]:
  """Images of an archive, by name, with the labels and boxes of their digits.

  The archive is read twice: its table may come after the images.
  """
  boxes = _read_table(path)
  missing = set(boxes)
  with _opened(path) as archive:
    for member in archive:
      name = pathlib.PurePath(member.name).name
      if name not in boxes:
        continue
      file = archive.extractfile(member)
      content = b"" if file is None else file.read()
      missing.discard(name)
      yield name, decode(content, f"{name} in {path}"), boxes[name]
  if missing:
    raise ValueError(
      f"{path} must hold the images of its table; {len(missing)} are missing, "
      f"such as {min(missing)}."
    )


def _read_table(path: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
  """Name -> label, left, top, width and height of the digits, from the left."""
  with needs("svhn", "Reading the tables of SVHN"):
    import h5py

  content = None
  with _opened(path) as archive:
    for member in archive:
      file = archive.extractfile(member)
      if pathlib.PurePath(member.name).name == _TABLE and file is not None:
        content = file.read()
        break
  if content is None:
    raise ValueError(f"{path} must hold {_TABLE}; it does not.")
  try:
    with h5py.File(io.BytesIO(content)) as file:
      matlab = cast(Any, file)  # groups and arrays have no types of their own
      names, boxes = matlab["digitStruct/name"], matlab["digitStruct/bbox"]
      return {
        _text(matlab[name[0]]): _digits(matlab, matlab[box[0]])
        for name, box in zip(names[()], boxes[()], strict=True)
      }
  except (OSError, KeyError, IndexError, TypeError) as error:
    raise ValueError(
      f"{_TABLE} in {path} must be a table of names and boxes, in MATLAB's "
      f"format 7.3; {error}."
    ) from error


def _text(characters: Any) -> str:
  return "".join(chr(c) for c in characters[()].ravel())


def _digits(matlab: Any, box: Any) -> dict[str, np.ndarray]:
  """One number in a field is itself, several are references."""

  def values(field):
    numbers = box[field][()].ravel()
    if numbers.dtype == object:
      numbers = [matlab[reference][()].item() for reference in numbers]
    return np.asarray(numbers, np.float64)

  digits = {field: values(field) for field in _FIELDS}
  digits["label"] = digits["label"].astype(int)
  if not ((digits["label"] >= 1) & (digits["label"] <= 10)).all():
    raise ValueError(
      f"Labels of digits must be in [1, 10], 10 for 0; got "
      f"{digits['label'].tolist()}."
    )
  order = np.argsort(digits["left"], kind="stable")
  return {field: numbers[order] for field, numbers in digits.items()}
