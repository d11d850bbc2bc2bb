"""What a run reads, on the host: batches of its data, ahead of the step."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jax.sharding import Mesh

from stn import data
from stn.training.sharding import process_rows


@dataclasses.dataclass(frozen=True, eq=False)
class Reader:
  """The splits of a run's data, each read when it is first asked for.

  Attributes:
    config: `config.data`, with the folder of the data sets to use here.
    mesh: the devices; this process reads its rows of every batch.
  """

  config: Any
  mesh: Mesh

  @functools.cached_property
  def _sources(self) -> dict[str, data.Source]:
    return {}

  def source(self, split: str) -> data.Source:
    """The examples of "train", "validation" or "test"."""
    if split not in self._sources:
      self._sources[split] = data.load_split(self.config, split)
    return self._sources[split]

  def train_batch(
    self, seed: int, first: int, num_steps: int = 1
  ) -> data.Batch:
    """The batch of step `first`, or those of several, stacked.

    Args:
      seed: of the order of the examples, and of what is drawn for each.
      first: step, from 0.
      num_steps: how many.

    Returns:
      The fields of the source with leading axes (batch_size,), or (num_steps,
      batch_size).
    """
    size = self.config.batch_size
    batches = [
      data.train_batch(
        self.source("train"),
        seed,
        first + i,
        size,
        process_rows(self.mesh, size),
        self.config.redraw,
      )
      for i in range(num_steps)
    ]
    if num_steps == 1:
      return batches[0]
    return {n: np.stack([batch[n] for batch in batches]) for n in batches[0]}

  def ahead(
    self,
    read: Callable[[int, int], data.Batch],
    calls: Iterable[tuple[int, int]],
  ) -> Iterator[tuple[data.Batch, tuple[int, int]]]:
    """Reads ahead of the step, in threads if the config or the source says so.

    Args:
      read: `(first, num_steps) -> batch`.
      calls: first step and number of steps of each.

    Yields:
      What `read` makes of each call, and the call.
    """
    threads = self.config.num_threads
    if threads < 0:
      threads = 0 if self.config.in_memory else data.available_cores()
    return data.prefetch(
      lambda call: (read(*call), call),
      calls,
      ahead=max(self.config.prefetch, threads),
      threads=threads,
    )

  def eval_batches(self, split: str) -> Iterator[data.Batch]:
    """The batches of an evaluation, whose size all devices divide."""
    devices = self.mesh.size
    size = math.ceil(self.config.eval_batch_size / devices) * devices
    return data.evaluation_batches(
      self.source(split),
      size,
      self.config.eval_seed,
      process_rows(self.mesh, size),
    )
