"""Times reading batches against the step they feed; writes JSON.

  python benchmarks/bench_data.py [--image_size=448] [--batch_size=32]
      [--threads=0,2] [--out=runs/bench_data.json]

JPEGs of 500x375 pixels (the median photograph of ImageNet and CUB), made here
and of random content, are decoded, cropped, mirrored and resized by a
`RecordSource`, in threads ahead of the step, as train.py reads them. The
step that is to be fed has a spatial transformer, which outputs half the height
and width, and a small network. "fed" is the rate of both together over that of
the step alone.
"""

import argparse
import io
import time
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import PIL.Image
from timing import write_report

from configs import common
from stn import data
from stn.data.records import AUGMENTATIONS, RecordSource
from stn.data.splits import SOURCES
from stn.training.experiment import Experiment


class Photographs:
  """Encoded images, as `tfds.data_source` would give them."""

  def __init__(self, number: int, width: int = 500, height: int = 375):
    """Smooth noise, which JPEG compresses about as it does photographs."""
    rng = np.random.default_rng(0)
    self.examples = []
    for label in range(number):
      noise = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
      image = PIL.Image.fromarray(noise).resize((width, height))
      file = io.BytesIO()
      image.save(file, "JPEG", quality=92)
      self.examples.append({"image": file.getvalue(), "label": label % 10})

  def __len__(self):
    """Number of images."""
    return len(self.examples)

  def __getitems__(self, indices):
    """Several of them."""
    return [self.examples[i] for i in indices]


def make_experiment(
  image_size: int, batch_size: int, source: RecordSource
) -> Experiment:
  """What train.py would build for a set of photographs."""
  config = common.get_base()
  SOURCES["photographs"] = lambda split: source
  config.data.name = "photographs"
  config.data.in_memory = False
  config.data.batch_size = batch_size
  config.data.image_size = (image_size, image_size)
  config.data.augment = "crop_flip"
  config.model.name = "st_cnn_bn"
  config.model.localisation = "strided"
  config.model.output_size = (image_size // 2, image_size // 2)
  config.optim.schedule = "constant"
  config.num_steps = 1
  return Experiment.build(config)


def seconds_each(batches: Iterable[Any], number: int, use: Any = None) -> float:
  """Seconds per batch, of `number` after the first two."""
  start = 0.0
  for i, batch in enumerate(batches):
    if i == 2:
      start = time.perf_counter()
    if use is not None:
      use(batch)
    if i == number + 1:
      break
  return (time.perf_counter() - start) / number


def main() -> None:
  """Measures and reports."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--image_size", type=int, default=448)
  parser.add_argument("--batch_size", type=int, default=32)
  parser.add_argument("--threads", default=f"0,1,{data.available_cores()}")
  parser.add_argument("--batches", type=int, default=12)
  parser.add_argument("--out", default="runs/bench_data.json")
  flags = parser.parse_args()
  source = RecordSource(
    Photographs(4 * flags.batch_size),
    np.arange(4 * flags.batch_size),
    channels=3,
    num_classes=10,
    image_size=(flags.image_size, flags.image_size),
    augment=AUGMENTATIONS["crop_flip"],
  )
  experiment = make_experiment(flags.image_size, flags.batch_size, source)
  state, key = experiment.init_state(), experiment.train_key
  step = experiment.train_step(1)

  def use(batch):
    nonlocal state
    state, _ = step(state, batch, key)
    jax.block_until_ready(state)

  calls = [(i, 1) for i in range(flags.batches + 2)]
  batch = next(iter(experiment.train_batches(calls[:1])))
  alone = seconds_each([batch] * len(calls), flags.batches, use)
  rows = []
  print(f"the step alone: {flags.batch_size / alone:.1f} images/s")
  print(f"{'threads':>8}{'read, images/s':>16}{'both, images/s':>16}{'fed':>8}")
  for threads in map(int, flags.threads.split(",")):
    experiment.config.data.num_threads = threads
    read = seconds_each(experiment.train_batches(calls), flags.batches)
    both = seconds_each(experiment.train_batches(calls), flags.batches, use)
    row = {
      "threads": threads,
      "step_images_per_s": flags.batch_size / alone,
      "read_images_per_s": flags.batch_size / read,
      "both_images_per_s": flags.batch_size / both,
      "fed": alone / both,
    }
    rows.append(row)
    print(
      f"{threads:>8}{row['read_images_per_s']:>16.1f}"
      f"{row['both_images_per_s']:>16.1f}{row['fed']:>8.1%}"
    )
  write_report(flags.out, rows, image_size=flags.image_size)


if __name__ == "__main__":
  main()
