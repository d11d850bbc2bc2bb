"""Numbers for each image."""

import numbers

import jax.numpy as jnp
import numpy as np

from stn.tasks.base import Caption, Task


def regression(*, target: str = "target", huber: float | None = None) -> Task:
  """Real numbers: outputs of the shape of the field `target`, (N, *shape).

  The loss is half the squared error, summed over the numbers of an example, or
  Huber's; the metric "rmse" is the root of an example's mean squared error, and
  is averaged over examples.

  Args:
    target: the field of the batch to predict, of any shape.
    huber: the error beyond which the loss is linear, positive; None: nowhere.

  Raises:
    ValueError: if `huber` is neither None nor a positive number.

  Example:
    >>> import jax
    >>> from stn.tasks.base import Spec
    >>> pose = jax.ShapeDtypeStruct((6,), jnp.float32)
    >>> regression(target="pose").head(Spec({"pose": pose}, 0))
    (6,)
  """
  number = isinstance(huber, numbers.Real)
  if huber is not None and not (number and huber > 0):
    raise ValueError(
      f"`task.huber` must be None or a positive number; got {huber!r}."
    )

  def head(spec):
    if target not in spec.example:
      raise ValueError(
        f"`task` regression needs the field {target!r}; the examples have "
        f"{sorted(spec.example)}."
      )
    return spec.example[target].shape

  def difference(outputs, batch):
    wanted = batch[target]
    return (outputs - wanted).astype(jnp.float32).reshape(len(wanted), -1)

  def loss(outputs, batch):
    error = jnp.abs(difference(outputs, batch))
    losses = error**2 / 2
    if huber is not None:
      losses = jnp.where(error > huber, huber * (error - huber / 2), losses)
    return losses.sum(axis=1)

  def answer(outputs, batch):
    errors = np.asarray(outputs - batch[target]).reshape(len(outputs), -1)
    return [Caption(f"±{np.sqrt((row**2).mean()):.2g}") for row in errors]

  return Task(
    head=head,
    loss=loss,
    metrics={
      "rmse": lambda outputs, batch: jnp.sqrt(
        (difference(outputs, batch) ** 2).mean(axis=1)
      )
    },
    monitor="rmse",
    answer=answer,
  )
