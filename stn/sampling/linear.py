"""The linear sampler with derivative rules of its own.

Four operations, each linear in all but the grid, as primitives of JAX, so that
each direction of differentiation runs just what it needs:

    sample(image, grid)        -> warped        transposed in image: scatter
    push(image, grid, tangent) -> its tangent   transposed in tangent: pull
    pull(image, ct, grid)      -> cotangent of the grid
    scatter(ct, grid)          -> cotangent of the image

The jvp of `sample` is a `sample` of the image's tangent and a `push`, either
left out where its tangent is zero. Reverse mode transposes them: the gradient
to the grid alone holds no scatter, and saves nothing but image and grid.
Beyond the first order, plain JAX differentiates the plain definitions.

Each may run in XLA (`operations.py`) or, on CPUs, in C++ (`native.py`).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from stn._checks import full_dtype
from stn.sampling import native, operations, paddings, xla
from stn.sampling.kernels import KERNELS, Kernel
from stn.sampling.paddings import Padding
from stn.sampling.primitives import (
  Operation,
  Options,
  is_zero,
  make_primitive,
  plain_jvp,
)

_SAMPLE = Operation(operations.sample, image=0, values=None)
_PUSH = Operation(operations.push, image=0, values=None)
_PULL = Operation(operations.pull, image=0, values=1)
_SCATTER = Operation(operations.scatter, image=None, values=0)
sample_p = make_primitive("sample", _SAMPLE)
push_p = make_primitive("push", _PUSH)
pull_p = make_primitive("pull", _PULL)
scatter_p = make_primitive("scatter", _SCATTER)


# Their derivatives.


def _sample_jvp(primals, tangents, *, options):
  image, grid = primals
  image_dot, grid_dot = tangents
  terms = []
  if not is_zero(image_dot):
    terms.append(sample_p.bind(image_dot, grid, options=options))
  if not is_zero(grid_dot):
    terms.append(push_p.bind(image, grid, grid_dot, options=options))
  return sample_p.bind(image, grid, options=options), sum(terms[1:], terms[0])


def _sample_transpose(ct, image, grid, *, options):
  if is_zero(ct):
    return [ad.Zero(image.aval), None]
  *lead, _ = image.aval.shape
  image_ct = scatter_p.bind(
    ct,
    grid,
    options=options,
    spatial=tuple(lead[options.batch :]),
    dtype=full_dtype(image.aval, grid),
  )
  return [image_ct.astype(image.aval.dtype), None]


def _push_jvp(primals, tangents, *, options):
  image, grid, tangent = primals
  if all(map(is_zero, tangents[:2])):
    return push_p.bind(image, grid, tangent, options=options), push_p.bind(
      image, grid, ad.instantiate_zeros(tangents[2]), options=options
    )
  return plain_jvp(_PUSH, primals, tangents, options=options)


def _push_transpose(ct, image, grid, tangent, *, options):
  if ad.is_undefined_primal(image):
    # Only where a push is linearised in the image: plain JAX.
    (image_ct,) = jax.linear_transpose(
      lambda image: _PUSH.over_batch(image, grid, tangent, options=options),
      image.aval,
    )(ad.instantiate_zeros(ct))
    return [image_ct, None, None]
  if is_zero(ct):
    return [None, None, ad.Zero(tangent.aval)]
  grid_ct = pull_p.bind(image, ct, grid, options=options)
  if options.shared:
    grid_ct = grid_ct.sum(tuple(range(options.batch)))
  return [None, None, grid_ct]


def _pull_transpose(ct_out, image, ct, grid, *, options):
  tangent = ad.instantiate_zeros(ct_out)
  if ad.is_undefined_primal(ct):
    if options.shared:
      batch = image.shape[: options.batch]
      grid = jnp.broadcast_to(grid, (*batch, *grid.shape))
      options = options._replace(shared=False)
    result = push_p.bind(image, grid, tangent, options=options)
    return [None, result.astype(ct.aval.dtype), None]
  (image_ct,) = jax.linear_transpose(
    lambda image: _PULL.over_batch(image, ct, grid, options=options),
    image.aval,
  )(tangent)
  return [image_ct, None, None]


def _scatter_jvp(primals, tangents, **params):
  ct, grid = primals
  ct_dot, grid_dot = tangents
  if is_zero(grid_dot):
    return scatter_p.bind(ct, grid, **params), scatter_p.bind(
      ct_dot, grid, **params
    )
  return plain_jvp(_SCATTER, primals, tangents, **params)


def _scatter_transpose(image, ct, grid, *, options, spatial, dtype):
  del spatial, dtype
  warped = sample_p.bind(ad.instantiate_zeros(image), grid, options=options)
  return [warped.astype(ct.aval.dtype), None]


ad.primitive_jvps[sample_p] = _sample_jvp
ad.primitive_jvps[push_p] = _push_jvp
ad.primitive_jvps[pull_p] = functools.partial(plain_jvp, _PULL)
ad.primitive_jvps[scatter_p] = _scatter_jvp
ad.primitive_transposes[sample_p] = _sample_transpose
ad.primitive_transposes[push_p] = _push_transpose
ad.primitive_transposes[pull_p] = _pull_transpose
ad.primitive_transposes[scatter_p] = _scatter_transpose


# The names of `stn.sampling.IMPLEMENTATIONS` that are done here, and None.
IMPLEMENTATIONS = (None, "xla", "native")


def supports(kernel: Kernel, padding: Padding) -> bool:
  """Whether a kernel and a padding are done here, and not by `xla.sample`."""
  return kernel == KERNELS["linear"] and padding is not paddings.fill


def sample_grid(
  image: jax.Array,
  grid: jax.Array,
  padding: Padding,
  align_corners: bool,
  *,
  normalised: bool = True,
  implementation: str | None = None,
) -> jax.Array:
  """Samples an image at the points of a grid, by the linear kernel.

  Args:
    image: (*spatial, C), of a floating dtype.
    grid: (*output, d), (x, y, ...), float32 or float64.
    padding: what lies outside; one that is supported.
    align_corners: the rule of normalised coordinates, and where `padding`
      reflects.
    normalised: whether the grid is in [-1, 1] or in pixels.
    implementation: "xla", "native", or None for the faster one. The first is
      taken where the second does not support the case.

  Returns:
    (*output, C), of the image's dtype.
  """
  options = Options(
    padding,
    align_corners,
    grid.shape[-1],
    normalised=normalised,
    implementation=implementation,
  )
  return sample_p.bind(*native.vary_alike(image, grid), options=options)


def sample(
  image: jax.Array,
  pixels: Sequence[jax.Array],
  kernel: Kernel,
  padding: Padding,
  align_corners: bool,
  fill: jax.Array,
  *,
  implementation: str | None = None,
) -> jax.Array:
  """Samples an image at pixel coordinates (paper, eq. 3).

  Args:
    image: see `xla.sample`, and the other arguments too.
    pixels: see there.
    kernel: see there. What is not supported is left to `xla.sample`.
    padding: see there.
    align_corners: see there.
    fill: see there.
    implementation: see `sample_grid`.

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32; rounded
    to the image's dtype, which is what C++ writes.
  """
  if not supports(kernel, padding):
    return xla.sample(image, pixels, kernel, padding, align_corners, fill)
  grid = jnp.stack(pixels[::-1], axis=-1)
  warped = sample_grid(
    image,
    grid,
    padding,
    align_corners,
    normalised=False,
    implementation=implementation,
  )
  return warped.astype(full_dtype(image, grid))
