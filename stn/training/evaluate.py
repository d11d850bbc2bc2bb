"""Evaluation: one pass over a split, exact and independent of batching."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from stn import metrics
from stn.data import prepare_once
from stn.tasks import Task
from stn.training.step import Apply, Batch, Prepare
from stn.training.warps import theta_statistics, warp_statistics, warp_sums

# (params, model_state, batch) -> sums
EvalStep = Callable[[Any, Any, Batch], dict[str, Any]]


def make_eval_step(
  task: Task,
  apply: Apply,
  prepare: Prepare,
  key: jax.Array,
  num_groups: int = 0,
) -> EvalStep:
  """Makes the pure function from variables and a batch to sums.

  Args:
    task: what is learned.
    apply: see `stn.training.step.make_train_step`.
    prepare: `(key, example) -> example`.
    key: of the test set; a network that draws does so from it and the batch.
    num_groups: of `task.group`; 0 reports no groups.

  Returns:
    `(params, model_state, batch) -> sums`, for jit; the batch as from
    `stn.data.evaluation_batches`.

  Example:
    >>> import jax.numpy as jnp
    >>> from stn.tasks import classification
    >>> def apply(params, model_state, inputs, key, train):
    ...   return jnp.zeros((len(inputs), 10)), {}, model_state
    >>> step = make_eval_step(
    ...     classification(), apply, lambda key, example: example,
    ...     jax.random.key(0))
  """

  def eval_step(params, model_state, batch):
    mask = batch["mask"]
    batch = prepare_once(key, batch, prepare)
    outputs, aux, _ = apply(
      params,
      model_state,
      task.inputs(batch),
      jax.random.fold_in(key, batch["index"][0]),
      False,
    )
    means = task.measure(outputs, batch)
    monitored = means[task.monitor]
    squares = {
      f"{name}_square": value**2
      for name, value in means.items()
      if value.dtype != bool
    }
    sums = {
      "examples": metrics.sum_examples({**means, **squares}, mask),
      "warps": {
        name: warp_sums(warp, mask)
        for name, warp in aux.get("warps", {}).items()
      },
    }
    if task.group is not None and num_groups:
      sums["groups"] = metrics.sum_groups(
        monitored, task.group(batch), num_groups, mask
      )
    return sums

  return eval_step


def make_example_step(
  task: Task, apply: Apply, prepare: Prepare, key: jax.Array
) -> Callable[[Any, Any, Batch], tuple[Batch, Any, Any]]:
  """Makes the pure function that shows what a network does to examples.

  Args:
    task: what is learned.
    apply: see `stn.training.step.make_train_step`.
    prepare: `(key, example) -> example`.
    key: of the test set.

  Returns:
    `(params, model_state, batch) -> prepared batch, outputs, aux`.
  """

  def example_step(params, model_state, batch):
    batch = prepare_once(key, batch, prepare)
    outputs, aux, _ = apply(params, model_state, task.inputs(batch), key, False)
    return batch, outputs, aux

  return example_step


def _combine(path: tuple, total: Any, value: Any) -> Any:
  name = path[-1].key if path[0].key == "warps" else "sum"
  return {"min": np.minimum, "max": np.maximum}.get(name, np.add)(total, value)


def sum_batches(
  sums_of: Callable[[Batch], dict[str, Any]], batches: Iterable[Any]
) -> dict[str, Any]:
  """Adds up the sums of batches, on the host.

  Args:
    sums_of: from a batch to its sums, see `make_eval_step`; several runs may
      share a leading axis.
    batches: from `stn.data.evaluation_batches`, on the devices.

  Returns:
    The sums of all batches, NumPy's, float64.

  Raises:
    ValueError: if there are no batches.

  Example:
    >>> sums_of = lambda batch: {"examples": {"count": len(batch)}}
    >>> float(sum_batches(sums_of, ["ab", "c"])["examples"]["count"])
    3.0
  """
  total = None
  for batch in batches:
    sums = jax.device_get(sums_of(batch))
    # Sums of many squares lose digits in float32.
    sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
    total = (
      sums
      if total is None
      else jax.tree_util.tree_map_with_path(_combine, total, sums)
    )
  if total is None:
    raise ValueError("`batches` must hold at least one batch; got none.")
  return total


def summarise(total: Mapping[str, Any], task: Task) -> dict[str, Any]:
  """What `evaluate` returns, from the sums of all batches."""
  examples = total["examples"]
  names = ["loss", *task.metrics]
  rates = [name for name in names if f"{name}_square" not in examples]
  result = metrics.summarise(examples, names, rates)
  if "groups" in total:
    by_class = metrics.divide_groups(total["groups"])
    result[f"{task.monitor}_by_class"] = by_class
  if total["warps"]:
    for kind, statistics in (
      ("theta", theta_statistics),
      ("warps", warp_statistics),
    ):
      result[kind] = {
        name: statistics(sums, float(examples["count"]))
        for name, sums in total["warps"].items()
      }
  return result


def evaluate(
  eval_step: EvalStep,
  params: Any,
  model_state: Any,
  batches: Iterable[Any],
  task: Task,
) -> dict[str, Any]:
  """Evaluates a network on batches.

  Args:
    eval_step: from `make_eval_step`, usually jitted.
    params: the network's parameters.
    model_state: what else it keeps.
    batches: from `stn.data.evaluation_batches`, on the devices.
    task: that of the step.

  Returns:
    For the loss and each metric the mean and its 95 % interval, "<name>_ci95";
    "samples"; by class, "<monitor>_by_class", if the task has groups; and, for
    a network with spatial transformers, "theta": for each by name the "mean",
    "std", "min" and "max" over the split of each parameter, lists (K, P); and
    "warps", what `stn.training.warps.warp_statistics` tells of each.

  Example:
    >>> import jax.numpy as jnp
    >>> from stn.tasks import classification
    >>> def apply(params, model_state, inputs, key, train):
    ...   return jnp.zeros((len(inputs), 10)), {}, model_state
    >>> task = classification()
    >>> step = make_eval_step(
    ...     task, apply, lambda key, example: example, jax.random.key(0))
    >>> batch = {"image": jnp.zeros((4, 2)), "label": jnp.arange(4),
    ...          "index": jnp.arange(4), "mask": jnp.arange(4) < 2}
    >>> evaluate(jax.jit(step), {}, {}, [batch], task)["error"]
    0.5
  """
  sums_of = functools.partial(eval_step, params, model_state)
  return summarise(sum_batches(sums_of, batches), task)
