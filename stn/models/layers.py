"""Pooling by strided slices.

`flax.linen.max_pool` takes the gradient by select-and-scatter, which XLA runs
about 28 times slower on a CPU than the maximum of four strided slices; the two
give the same values and, but for ties, the same gradients.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float


def _corners(x: jax.Array) -> list[jax.Array]:
  """The four pixels of every 2x2 block; odd last rows and columns are cut."""
  height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
  return [x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]


def max_pool_2x2(
  x: Float[jax.Array, "n h w c"],
) -> Float[jax.Array, "n h/2 w/2 c"]:
  """Maximum of 2x2 blocks: (N, H, W, C) -> (N, H // 2, W // 2, C).

  Example:
    >>> import jax.numpy as jnp
    >>> max_pool_2x2(jnp.arange(16.).reshape(1, 4, 4, 1))[0, :, :, 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
  """
  a, b, c, d = _corners(x)
  return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def average_pool_2x2(
  x: Float[jax.Array, "n h w c"],
) -> Float[jax.Array, "n h/2 w/2 c"]:
  """Mean of 2x2 blocks: (N, H, W, C) -> (N, H // 2, W // 2, C).

  Example:
    >>> import jax.numpy as jnp
    >>> average_pool_2x2(jnp.arange(16.).reshape(1, 4, 4, 1))[0, :, :, 0]
    Array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
  """
  a, b, c, d = _corners(x)
  return (a + b + c + d) / 4
