"""Data: sources on the host, batches by step, distortions on the device."""

from stn.data.distortions import DISTORTIONS, get_distortion
from stn.data.pipeline import (
  batch_indices,
  evaluation_batches,
  normalise,
  train_batch,
)
from stn.data.sources import SOURCES, DataNotFoundError, Dataset, load

__all__ = [
  "DISTORTIONS",
  "SOURCES",
  "DataNotFoundError",
  "Dataset",
  "batch_indices",
  "evaluation_batches",
  "get_distortion",
  "load",
  "normalise",
  "train_batch",
]
