"""Pictures of a few fixed test examples, during training and after it."""

from typing import Any

import jax
import numpy as np

from stn import data, visualise
from stn.tasks import Task
from stn.training.experiment import Experiment
from stn.training.state import TrainState


def choose_examples(labels: np.ndarray, number: int) -> np.ndarray:
  """A few examples of a split, in which classes take turns.

  Args:
    labels: (N, ...), int.
    number: of examples.

  Returns:
    Indices, int32, of the first example of each class, then of the second, and
    so on; of the first examples where there is not one label for each.

  Example:
    >>> choose_examples(np.array([1, 1, 0, 1, 0]), 3)
    array([2, 0, 4], dtype=int32)
  """
  if labels.ndim > 1:
    return np.arange(min(number, len(labels)), dtype=np.int32)
  by_class = np.argsort(labels, kind="stable")
  _, starts, counts = np.unique(
    labels[by_class], return_index=True, return_counts=True
  )
  rank = np.empty(len(labels), int)
  rank[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
  return np.lexsort((labels, rank))[:number].astype(np.int32)


def read_examples(experiment: Experiment) -> data.Batch | None:
  """The test examples of the pictures; None if there are to be none."""
  config = experiment.config
  if not config.num_pictures:
    return None
  test = experiment.reader.source("test")
  index = choose_examples(test.labels, config.num_pictures)
  return data.read_test_examples(test, index, config.data.eval_seed)


def draw_panel(task: Task, shown: tuple[Any, Any, Any], title: str):
  """Draws examples.

  Args:
    task: of the network.
    shown: the prepared batch, outputs and `aux` of a network, on the host.
    title: of the picture.

  Returns:
    uint8 (H, W, 3).
  """
  batch, outputs, aux = shown
  captions = task.answer(outputs, batch)
  return visualise.panel(task.inputs(batch), captions, aux["warps"], title)


def draw_examples(
  experiment: Experiment, state: TrainState, title: str
) -> np.ndarray | None:
  """Draws test examples, and what the network makes of them.

  Args:
    experiment: whose test split, task and network.
    state: of the network.
    title: of the picture.

  Returns:
    uint8 (H, W, 3); None if `config.num_pictures` is 0, and on all processes
    but the first, which take part in the computation all the same.
  """
  batch = read_examples(experiment)
  if batch is None:
    return None
  shown = jax.device_get(
    experiment.example_step(state.params, state.model_state, batch)
  )
  if jax.process_index():
    return None
  return draw_panel(experiment.task, shown, title)
