"""The train step: pure, jitted once, with its state donated."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from stn import data, metrics
from stn.data.distortions import Distortion
from stn.evaluate import Apply
from stn.training.state import TrainState, batch_sharding, replicated

Batch = Mapping[str, jax.Array]
Step = Callable[
  [TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]
]

# Of what a step measures, these add up over steps; the rest are the last one's.
SUMS = ("loss", "errors", "count")

# Pixels that a CPU differentiates at a time, or a few more. What they need is
# kept in its caches, and is too little for glibc to ask the kernel for fresh
# pages at every step. Measured: about 64 images of 28x28, 16 of 42x42.
_CPU_PIXELS = 28_000


def num_parts(mesh: Mesh, shape: Sequence[int]) -> int:
  """In how many parts these devices best differentiate a batch.

  Args:
    mesh: the devices.
    shape: of the global batch of images, (N, H, W, C).

  Returns:
    1; on CPUs a divisor of the number of images on each device.

  Example:
    >>> from stn.training.state import make_mesh
    >>> num_parts(make_mesh(1), (256, 28, 28, 1))
    4
  """
  if mesh.devices.flat[0].platform != "cpu":
    return 1
  share = shape[0] // mesh.size
  most = share * shape[1] * shape[2] // _CPU_PIXELS
  return max(n for n in range(1, max(most, 1) + 1) if share % n == 0)


def _sum_of_parts(f: Callable, batch: Any, num_parts: int) -> Any:
  """`f(batch)`, of parts of the batch one after the other, summed."""
  if num_parts == 1:
    return f(batch)
  # Every so many-th example: thus a device has its share of each part.
  parts = jax.tree.map(
    lambda x: jnp.moveaxis(x.reshape(-1, num_parts, *x.shape[1:]), 1, 0), batch
  )
  shapes = jax.eval_shape(f, jax.tree.map(lambda x: x[0], parts))
  total, _ = jax.lax.scan(
    lambda total, part: (jax.tree.map(jnp.add, total, f(part)), None),
    jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes),
    parts,
  )
  return total


def make_train_step(
  apply: Apply,
  optimizer: optax.GradientTransformation,
  distort: Distortion,
  num_parts: Callable[[Sequence[int]], int] = lambda shape: 1,
) -> Step:
  """Makes the pure train step.

  Args:
    apply: `(params, images) -> logits, aux`.
    optimizer: an optax transformation.
    distort: `(key, image) -> image`, drawn afresh for every example.
    num_parts: from the shape of the images to the number of equal parts that
      are differentiated one after the other; their gradients add up to the
      batch's, if `apply` treats examples apart.

  Returns:
    `(state, batch, key) -> state, measured`. The batch is "image" uint8
    (N, H, W, C) and "label" int32 (N,). Everything random comes from the key
    and the step. Measured are the sums "loss", "errors" and "count", the norms
    "grad_norm" and "param_norm", and "bad_step": the step if loss or gradient
    is not finite, else -1.

  Example:
    >>> step = make_train_step(
    ...     lambda params, x: (jnp.ones((len(x), 10)) * params["w"], {}),
    ...     optax.sgd(0.1), lambda key, image: image)
  """

  def train_step(state, batch, key):
    keys = jax.random.split(
      jax.random.fold_in(key, state.step), len(batch["label"])
    )
    images = jax.vmap(distort)(keys, data.normalise(batch["image"]))
    parts = num_parts(images.shape)

    def loss_fn(params, images, labels):
      logits, _ = apply(params, images)
      sums = metrics.classification_sums(logits, labels)
      return sums["loss"] / (sums["count"] * parts), sums

    def differentiate(part):
      return jax.value_and_grad(loss_fn, has_aux=True)(state.params, *part)

    (loss, sums), grads = _sum_of_parts(
      differentiate, (images, batch["label"]), parts
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    measured = {name: sums[name] for name in SUMS} | {
      "grad_norm": grad_norm,
      "param_norm": optax.tree.norm(params),
      "bad_step": jnp.where(finite, -1, state.step),
    }
    return TrainState(state.step + 1, params, opt_state), measured

  return train_step


def _merge(measured: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """One measurement of several steps, stacked along the first axis."""
  bad = measured["bad_step"]
  first_bad = jnp.where(bad >= 0, bad, jnp.iinfo(bad.dtype).max).min()
  return {
    name: value.sum(axis=0) if name in SUMS else value[-1]
    for name, value in measured.items()
  } | {"bad_step": jnp.where((bad >= 0).any(), first_bad, -1)}


def compile_train_step(step: Step, mesh: Mesh, num_steps: int = 1) -> Step:
  """Jits a train step, or several in one call.

  Args:
    step: from `make_train_step`.
    mesh: examples are sharded over its axis "data", the state is replicated.
    num_steps: steps in a call. More than one is for accelerators, where it
      hides the time of a dispatch: the batch then has a first axis of steps.
      On a CPU a loop of XLA's convolutions is about 5 times slower than they
      are apart (https://github.com/jax-ml/jax/issues/12868).

  Returns:
    The jitted step; it donates the state.

  Example:
    >>> from stn.training.state import make_mesh
    >>> step = make_train_step(
    ...     lambda params, x: (jnp.ones((len(x), 10)) * params["w"], {}),
    ...     optax.sgd(0.1), lambda key, image: image)
    >>> compiled = compile_train_step(step, make_mesh(1))
  """

  def many_steps(state, batches, key):
    state, measured = jax.lax.scan(
      lambda state, batch: step(state, batch, key), state, batches
    )
    return state, _merge(measured)

  whole, split = replicated(mesh), batch_sharding(mesh, stacked=num_steps > 1)
  return jax.jit(
    many_steps if num_steps > 1 else step,
    donate_argnums=0,
    in_shardings=(whole, split, whole),
    out_shardings=whole,
  )
