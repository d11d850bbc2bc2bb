"""Data: sources on the host, batches by step, distortions on the device."""

from stn._extras import needs

with needs("train", "Reading data"):
  from stn.data.compositions import COMPOSITIONS, Clutter, Pairs
  from stn.data.drawn_digits import Numbers, Parts
  from stn.data.photographs import load_photographs
  from stn.data.pipeline import (
    batch_indices,
    evaluation_batches,
    read_test_examples,
    train_batch,
    train_batch_of_each,
  )
  from stn.data.prefetch import available_cores, prefetch
  from stn.data.processing import (
    CONTRASTS,
    Prepare,
    make_normalise,
    make_prepare,
    normalise,
    prepare_once,
  )
  from stn.data.records import AUGMENTATIONS, DataNotFoundError, RecordSource
  from stn.data.scenes import DISTORTIONS, get_distortion, on_image
  from stn.data.sources import ArraySource, Batch, Source, generator
  from stn.data.splits import SOURCES, load_split

__all__ = [
  "AUGMENTATIONS",
  "COMPOSITIONS",
  "CONTRASTS",
  "DISTORTIONS",
  "SOURCES",
  "ArraySource",
  "Batch",
  "Clutter",
  "DataNotFoundError",
  "Numbers",
  "Pairs",
  "Parts",
  "Prepare",
  "RecordSource",
  "Source",
  "available_cores",
  "batch_indices",
  "evaluation_batches",
  "generator",
  "get_distortion",
  "load_photographs",
  "load_split",
  "make_normalise",
  "make_prepare",
  "normalise",
  "on_image",
  "prefetch",
  "prepare_once",
  "read_test_examples",
  "train_batch",
  "train_batch_of_each",
]
