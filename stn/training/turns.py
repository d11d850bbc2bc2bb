"""Answers that are averaged over turned copies of the input."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stn.training.poses import POSES, move
from stn.training.step import Apply


def average_turns(apply: Apply, number: int, degrees: float = 360.0) -> Apply:
  """Makes a network answer by the mean over turned copies of each image.

  Test-time augmentation for images that may be turned: published errors on
  MNIST-rot, where the angle is any, are often of it.

  Args:
    apply: `(params, model_state, images, key, train) -> outputs, aux,
      model_state`, see `stn.models.to_network`; images (N, H, W, C) to an
      array.
    number: of copies: the image as it is, and turned by 1, -1, 2, ... times
      `degrees` / `number` about its centre, repeating its border.
    degrees: the range of the angles, at most 360, the whole circle.

  Returns:
    The same function, whose outputs are the means over the copies, before any
    softmax; `aux` and `model_state` are those of the image as it is.

  Raises:
    ValueError: if `number` is not positive, or `degrees` not in (0, 360]; when
      called, if the inputs are no images, or the outputs no array.

  Example:
    >>> def apply(params, model_state, images, key, train):
    ...   return images[:, 0, 0], {}, model_state
    >>> images = jnp.arange(4.0).reshape(1, 2, 2, 1)
    >>> average_turns(apply, 4)({}, {}, images, None, False)[0].tolist()
    [[1.5]]
  """
  if number < 1:
    raise ValueError(f"`turns` must be 1 or more; got {number}.")
  if not 0 < degrees <= 360:
    raise ValueError(f"`degrees` must be in (0, 360]; got {degrees}.")
  if number == 1:
    return apply

  def averaged(params, model_state, inputs, key, train):
    if not isinstance(inputs, jax.Array) or inputs.ndim != 4:
      raise ValueError(
        f"`turns` (={number}) are of images (N, H, W, C); the network takes "
        f"{jax.tree.map(jnp.shape, inputs)}."
      )
    _, height, width, _ = inputs.shape

    def answer(angle):
      turned = move(inputs, POSES["rotation"].theta(angle, (height, width)))
      return apply(params, model_state, turned, key, train)[0]

    outputs, aux, model_state = apply(params, model_state, inputs, key, train)
    if not isinstance(outputs, jax.Array):
      raise ValueError(
        f"`turns` (={number}) are averaged over outputs that are an array; got "
        f"{type(outputs).__name__}."
      )
    turns = np.arange(number) - (number - 1) // 2
    angles = turns[turns != 0] * degrees / number
    others = lax.map(answer, jnp.asarray(angles, jnp.float32))
    return (outputs + others.sum(axis=0)) / number, aux, model_state

  return averaged
