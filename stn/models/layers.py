"""Convolution and pooling that train fast on a CPU, too.

They compute what Flax's do. On a CPU, XLA's convolutions of few channels, or
with large kernels and no padding, reach a tenth (the gradient of the input) to
a half of the speed of the matrix products below, and all of them are slow in a
loop; and the select-and-scatter in the gradient of `flax.linen.max_pool` is
about 28 times slower than the maximum of four strided slices.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Float

# Pixels of a row that the product below computes at once: measured.
_BLOCK = 4

# With fewer channels, the product is the faster one for padded images too.
_MANY_CHANNELS = 4


def _convolve(
  x: jax.Array, kernel: jax.Array, padding: Any = "VALID"
) -> jax.Array:
  return lax.conv_general_dilated(
    x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def _widened(kernel: jax.Array, block: int) -> jax.Array:
  """Filters for `block` pixels of a row at once: (kh, kw + block - 1, C, b, F).

  Each pixel's are the kernel, moved to its place, between zeros.
  """
  return jnp.stack(
    [
      jnp.pad(kernel, ((0, 0), (i, block - 1 - i), (0, 0), (0, 0)))
      for i in range(block)
    ],
    axis=3,
  )


def _convolve_by_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """One matrix product: what a block of pixels sees times widened filters.

  A patch for each pixel would copy the input kh * kw times. Those of blocks of
  b pixels overlap less, for 1 + (b - 1) / kw times the multiplications.
  """
  n, height, width, channels = x.shape
  rows, columns, _, filters = kernel.shape
  height, width = height - rows + 1, width - columns + 1
  blocks = -(-width // _BLOCK)
  block = -(-width // blocks)
  rest = blocks * block - width
  x = jnp.pad(x, ((0, 0), (0, 0), (0, rest), (0, 0)))
  seen = block + columns - 1
  x = jnp.stack(
    [x[:, :, i * block :][:, :, :seen] for i in range(blocks)], axis=2
  ).reshape(n, -1, blocks, seen * channels)
  patches = jnp.concatenate([x[:, i:][:, :height] for i in range(rows)], axis=3)
  wide = _widened(kernel, block).reshape(-1, block * filters)
  # Of matrices: XLA transposes a larger array to get the kernel's gradient.
  y = (patches.reshape(-1, wide.shape[0]) @ wide).reshape(
    n, height, blocks * block, filters
  )
  return y[:, :, :width]


@jax.custom_jvp
def conv_valid(
  x: Float[jax.Array, "n h w c"], kernel: Float[jax.Array, "kh kw c f"]
) -> Float[jax.Array, "n h2 w2 f"]:
  """Convolution with stride 1 and without padding.

  On a CPU, what is differentiated is computed as a matrix product; alone, it is
  `jax.lax`'s convolution everywhere.

  Args:
    x: (N, H, W, C).
    kernel: (kh, kw, C, F), of the same dtype.

  Returns:
    (N, H - kh + 1, W - kw + 1, F).

  Example:
    >>> import jax.numpy as jnp
    >>> conv_valid(jnp.ones((1, 3, 3, 1)), jnp.ones((2, 2, 1, 1))).shape
    (1, 2, 2, 1)
  """
  return _convolve(x, kernel)


@conv_valid.defjvp
def _conv_valid_jvp(primals, tangents):
  def convolve(x, kernel):
    return lax.platform_dependent(
      x, kernel, cpu=_convolve_by_matmul, default=_convolve
    )

  return jax.jvp(convolve, primals, tangents)


def _check_size(x: jax.Array, size: int, what: str) -> None:
  if min(x.shape[1:-1]) < size:
    raise ValueError(
      f"{what} of {size} pixels per axis needs maps of {size} or more; got "
      f"{'x'.join(map(str, x.shape[1:-1]))}: the images, or `output_size` of a "
      "spatial transformer, are too small for this network."
    )


def check_stages(features: Sequence[int], **others: Sequence[Any]) -> None:
  """Raises ValueError unless there is a width for each stage.

  Args:
    features: widths.
    **others: what else each stage has, by the name of the argument.
  """
  for name, values in others.items():
    if len(features) != len(values):
      raise ValueError(
        f"`features` must be {len(values)} widths, as there are {len(values)} "
        f"`{name}`; got {tuple(features)}."
      )


def valid_conv(
  filters: int, kernel_size: int, dtype: DTypeLike | None = None
) -> nn.Conv:
  """A square Flax convolution, stride 1, no padding, that runs `conv_valid`.

  Args:
    filters: number of output channels.
    kernel_size: height and width.
    dtype: of the computation; None is that of the input.

  Returns:
    The module, with parameters as any `flax.linen.Conv`. It raises ValueError
    on maps that are smaller than its kernel.

  Example:
    >>> valid_conv(8, 5).kernel_size
    (5, 5)
  """

  def convolve(x, kernel, *_, **__):
    _check_size(x, kernel_size, "A convolution")
    return conv_valid(x, kernel)

  return nn.Conv(
    filters,
    (kernel_size, kernel_size),
    padding="VALID",
    dtype=dtype,
    conv_general_dilated=convolve,
  )


def same_conv(
  filters: int,
  kernel_size: int,
  dtype: DTypeLike | None = None,
  *,
  use_bias: bool = False,
  wrap_rows: bool = False,
) -> nn.Conv:
  """A square Flax convolution, stride 1, that keeps the size of its input.

  Zeros are at the borders. Without a bias it goes before batch normalisation.

  Args:
    filters: number of output channels.
    kernel_size: height and width. If even, there are more zeros below and to
      the right.
    dtype: of the computation; None is that of the input.
    use_bias: whether a bias is added.
    wrap_rows: the first row follows the last, as on the axis of the angle of a
      log-polar map; else both are next to zeros.

  Returns:
    The module, with parameters as any `flax.linen.Conv`.

  Example:
    >>> same_conv(8, 3).use_bias
    False
  """
  none, width = (0, 0), ((kernel_size - 1) // 2, kernel_size // 2)

  def convolve(x, kernel, *_, **__):
    rows = width
    if wrap_rows:
      x, rows = jnp.pad(x, (none, width, none, none), mode="wrap"), none
    if x.shape[-1] >= _MANY_CHANNELS:
      return _convolve(x, kernel, (rows, width))
    return conv_valid(jnp.pad(x, (none, rows, width, none)), kernel)

  return nn.Conv(
    filters,
    (kernel_size, kernel_size),
    use_bias=use_bias,
    dtype=dtype,
    conv_general_dilated=convolve,
  )


def flat(x: Float[jax.Array, " n *rest"]) -> Float[jax.Array, "n m"]:
  """(N, ...) -> (N, M), for N = 0 and for an N that is not known, too.

  Example:
    >>> flat(jnp.ones((0, 3, 2))).shape
    (0, 6)
  """
  return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Head(nn.Module):
  """The last layer: from features to outputs of a shape, in float32.

  Attributes:
    shape: of one example's outputs.
    dropout: share of the features that is dropped in training.
  """

  shape: Sequence[int]
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, "n f"], train: bool = False
  ) -> Float[jax.Array, " n *shape"]:
    """(N, F) -> (N, *shape)."""
    if self.dropout:
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    size = math.prod(self.shape)
    x = nn.Dense(size, dtype=jnp.float32, name="dense")(x)
    return x.reshape(x.shape[0], *self.shape)


def _pool(
  combine: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, size: int
) -> jax.Array:
  """Combines blocks of `size` pixels per axis: strided slices, axis by axis."""
  _check_size(x, size, "Pooling")
  for axis in range(1, x.ndim - 1):
    stop = x.shape[axis] // size * size
    x = functools.reduce(
      combine,
      [
        lax.slice_in_dim(x, i, stop, stride=size, axis=axis)
        for i in range(size)
      ],
    )
  return x


def average_pool(
  x: Float[jax.Array, "n *spatial c"], size: int
) -> Float[jax.Array, "n *output c"]:
  """Mean of blocks of `size` pixels per axis, of any number of axes.

  Args:
    x: (N, *spatial, C); what is left of a row after whole blocks is cut off.
    size: pixels per axis of a block.

  Returns:
    (N, *(spatial // size), C).

  Example:
    >>> import jax.numpy as jnp
    >>> average_pool(jnp.arange(6.).reshape(1, 6, 1), 2)[0, :, 0]
    Array([0.5, 2.5, 4.5], dtype=float32)
  """
  return _pool(jnp.add, x, size) / size ** (x.ndim - 2)


def max_pool(
  x: Float[jax.Array, "n *spatial c"], size: int
) -> Float[jax.Array, "n *output c"]:
  """Maximum of blocks of `size` pixels per axis, of any number of axes.

  Args:
    x: (N, *spatial, C); what is left of a row after whole blocks is cut off.
    size: pixels per axis of a block.

  Returns:
    (N, *(spatial // size), C).

  Example:
    >>> import jax.numpy as jnp
    >>> max_pool(jnp.arange(6.).reshape(1, 6, 1), 2)[0, :, 0]
    Array([1., 3., 5.], dtype=float32)
  """
  return _pool(jnp.maximum, x, size)


def _corners(x: jax.Array) -> list[jax.Array]:
  """The four pixels of every 2x2 block; odd last rows and columns are cut."""
  _check_size(x, 2, "Pooling")
  height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
  return [x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]


def max_pool_2x2(
  x: Float[jax.Array, "n h w c"],
) -> Float[jax.Array, "n h//2 w//2 c"]:
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
) -> Float[jax.Array, "n h//2 w//2 c"]:
  """Mean of 2x2 blocks: (N, H, W, C) -> (N, H // 2, W // 2, C).

  Example:
    >>> import jax.numpy as jnp
    >>> average_pool_2x2(jnp.arange(16.).reshape(1, 4, 4, 1))[0, :, :, 0]
    Array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
  """
  a, b, c, d = _corners(x)
  return (a + b + c + d) / 4
