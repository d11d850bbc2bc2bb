"""The train step: pure, jitted once, with its state donated."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.interpreters import partial_eval
from jax.sharding import Mesh

from stn import metrics
from stn.data import prepare_once
from stn.tasks import Task
from stn.training.parts import sum_of_parts
from stn.training.penalty import Penalty
from stn.training.sharding import (
  batch_sharding,
  map_shards,
  replicated,
  sum_shards,
)
from stn.training.state import TrainState

Batch = Mapping[str, jax.Array]
Prepare = Callable[[jax.Array, Any], Any]
# (params, model_state, inputs, key, train) -> outputs, aux, model_state
Apply = Callable[..., tuple[Any, Mapping[str, Any], Any]]
# (state, batch, key) -> state, measured
Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict]]

# Folded into the key of what is drawn once, whatever the step.
_NO_STEP = np.uint32(2**32 - 1)


def _draws(f: Callable[[jax.Array], Any], key: jax.Array) -> bool:
  """Whether what a function of a key returns depends on it."""
  jaxpr = jax.make_jaxpr(f)(key).jaxpr
  _, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return used[0]


def make_train_step(
  task: Task,
  apply: Apply,
  optimizer: optax.GradientTransformation,
  prepare: Prepare,
  mesh: Mesh,
  penalty: Penalty | None = None,
  *,
  shared: bool = True,
) -> Step:
  """Makes the pure train step.

  Where the loss is a sum over examples (not for a network with a state, or a
  task that is not separable), CPUs differentiate a batch in parts, see
  `stn.training.parts`. Where the network draws no random numbers either,
  devices that share a batch run on their own until they add up their gradients;
  elsewhere the compiler splits the step, so that a draw depends on the batch
  alone.

  Args:
    task: what is learned.
    apply: `(params, model_state, inputs, key, train) -> outputs, aux,
      model_state`, see `stn.models.to_network`.
    optimizer: an optax transformation.
    prepare: `(key, example) -> example`, drawn afresh for every example; only
      once for each where the batch has an "index", see `stn.data.train_batch`.
    mesh: the devices of a run.
    penalty: `warps -> (N,)`, of `aux["warps"]`, added to the loss; None adds
      nothing, nor does a network without spatial transformers.
    shared: whether the devices share each batch. Otherwise the step runs on one
      of them, and is what it would be on the mesh.

  Returns:
    `(state, batch, key) -> state, measured`. The batch is as a source gives it,
    leading axis N. Everything random comes from the key and the step. Measured
    are "sums": "loss", the task's metrics, "penalty" if there is one, and
    "count", summed over the batch;
    "norms": "grad_norm" and "param_norm"; and "bad_step": the step if loss or
    gradient is not finite, else -1.

  Example:
    >>> from stn.tasks import classification
    >>> from stn.training.sharding import make_mesh
    >>> def apply(params, model_state, inputs, key, train):
    ...   return jnp.ones((len(inputs), 10)) * params["w"], {}, model_state
    >>> step = make_train_step(
    ...     classification(), apply, optax.sgd(0.1),
    ...     prepare=lambda key, example: example, mesh=make_mesh(1))
  """
  shared = shared and mesh.size > 1
  on_cpu = mesh.devices.flat[0].platform == "cpu"

  def train_step(state, batch, key):
    prepare_key, apply_key = jax.random.split(
      jax.random.fold_in(key, state.step)
    )
    size = len(jax.tree.leaves(batch)[0])

    def prepare_all(keys, batch):
      if "index" in batch:  # what is random is drawn once for each example
        return prepare_once(jax.random.fold_in(key, _NO_STEP), batch, prepare)
      return jax.vmap(prepare)(keys, batch)

    if shared:
      prepare_all = map_shards(prepare_all, mesh)
    batch = prepare_all(jax.random.split(prepare_key, size), batch)

    def loss_fn(params, part, index):
      outputs, aux, model_state = apply(
        params,
        state.model_state,
        task.inputs(part),
        jax.random.fold_in(apply_key, index),
        True,
      )
      values = task.measure(outputs, part)
      if penalty is not None and aux["warps"]:
        values["penalty"] = penalty(aux["warps"])
      sums = metrics.sum_examples(values)
      total = sums["loss"] + sums.get("penalty", 0.0)
      return total / size, (sums, model_state)

    def differentiate(part, index):
      return jax.value_and_grad(loss_fn, has_aux=True)(
        state.params, part, index
      )

    def draws():
      return _draws(
        lambda key: apply(
          state.params, state.model_state, task.inputs(batch), key, True
        ),
        apply_key,
      )

    def differentiate_all(batch, num_devices=1):
      if not on_cpu:
        return differentiate(batch, 0)
      return sum_of_parts(differentiate, batch, num_devices)

    if state.model_state or not task.separable:
      result = differentiate(batch, 0)
    elif shared and not draws():
      result = sum_shards(differentiate_all, mesh)(batch)
    else:
      result = differentiate_all(batch, mesh.size)
    (loss, (sums, model_state)), grads = result
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    measured = {
      "sums": sums,
      "norms": {"grad_norm": grad_norm, "param_norm": optax.tree.norm(params)},
      "bad_step": jnp.where(finite, -1, state.step),
    }
    return TrainState(state.step + 1, params, model_state, opt_state), measured

  return train_step


def _merge(measured: dict[str, Any]) -> dict[str, Any]:
  """One measurement of several steps, stacked along the first axis.

  Sums add up over steps; norms are the last step's.
  """
  bad = measured["bad_step"]
  first_bad = jnp.where(bad >= 0, bad, jnp.iinfo(bad.dtype).max).min()
  return {
    "sums": jax.tree.map(lambda value: value.sum(axis=0), measured["sums"]),
    "norms": jax.tree.map(lambda value: value[-1], measured["norms"]),
    "bad_step": jnp.where((bad >= 0).any(), first_bad, -1),
  }


def take_steps(step: Step, num_steps: int) -> Step:
  """A step, or several in one call; pure.

  Args:
    step: from `make_train_step`.
    num_steps: steps per call. If more than one, the batch has a first axis of
      steps, and what is measured is about all of them.

  Returns:
    `(state, batch, key) -> state, measured`.

  Example:
    >>> step = take_steps(lambda state, batch, key: (state, {}), 1)
  """

  def many_steps(state, batches, key):
    state, measured = lax.scan(
      lambda state, batch: step(state, batch, key), state, batches
    )
    return state, _merge(measured)

  return many_steps if num_steps > 1 else step


def freeze_when_bad(step: Step) -> Step:
  """Makes a step keep the state from the first step that is not finite on.

  A frozen state counts no steps, which tells it from the others; nothing else
  has to be remembered.

  Args:
    step: from `make_train_step`.

  Returns:
    `(state, (batch, number), key) -> state, measured`, where `number` is that
    of the step, from 0. "bad_step" stays that of the step where it froze.

  Example:
    >>> def step(state, batch, key):
    ...   return state._replace(step=state.step + 1), {"bad_step": state.step}
    >>> state = TrainState(jnp.array(0), {}, {}, ())
    >>> state, measured = freeze_when_bad(step)(state, ({}, 0), None)
    >>> int(state.step), int(measured["bad_step"])
    (0, 0)
  """

  def guarded(state, batch_and_number, key):
    batch, number = batch_and_number
    new, measured = step(state, batch, key)
    good = (state.step == number) & (measured["bad_step"] < 0)
    kept = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, state)
    bad_step = jnp.where(good, -1, state.step)
    return kept, {**measured, "bad_step": bad_step}

  return guarded


def compile_train_step(step: Step, mesh: Mesh, num_steps: int = 1) -> Step:
  """Jits a train step, or several in one call.

  Args:
    step: from `make_train_step`.
    mesh: examples are sharded over its axis "data", the state is replicated.
    num_steps: steps per call. More than one is for accelerators, where it
      hides the time of a dispatch: the batch then has a first axis of steps.
      On a CPU a loop of XLA's convolutions is about 5 times slower than they
      are apart (https://github.com/jax-ml/jax/issues/12868).

  Returns:
    The jitted step; it donates the state.

  Example:
    >>> from stn.training.sharding import make_mesh
    >>> compiled = compile_train_step(
    ...     lambda state, batch, key: (state, {}), make_mesh(1))
  """
  whole, split = replicated(mesh), batch_sharding(mesh, stacked=num_steps > 1)
  return jax.jit(
    take_steps(step, num_steps),
    donate_argnums=0,
    in_shardings=(whole, split, whole),
    out_shardings=whole,
  )
