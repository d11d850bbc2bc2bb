"""The linear sampler with derivative rules of its own.

Four operations, each linear in all but the pixel coordinates, as primitives of
JAX, so that each direction of differentiation runs just what it needs:

    sample(image, pixels)         -> warped       transposed in image: scatter
    push(image, pixels, tangents) -> tangent      transposed in tangents: pull
    pull(image, ct, pixels)       -> cotangents of the pixels
    scatter(ct, pixels)           -> cotangent of the image

The jvp of `sample` is a `sample` of the image's tangent and a `push`, either
left out where its tangent is zero. Reverse mode transposes them: the gradient
to the grid alone holds no scatter, and saves nothing but image and pixels.
Beyond the first order, plain JAX differentiates the plain definitions.

Each may run in XLA (the definitions below) or, on CPUs, in C++: `native.py`.
"""

import functools
import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from stn.sampling import native, paddings, xla
from stn.sampling.kernels import KERNELS, Kernel
from stn.sampling.paddings import Padding
from stn.sampling.primitives import (
  Operation,
  Options,
  is_zero,
  make_primitive,
  plain_jvp,
)

# More channels than this are summed by a product with ones, which vectorises
# on CPUs where a reduction of a last axis does not; fewer one by one.
_UNROLLED_CHANNELS = 4


# The definitions, for one example.


def _sample(options, image, *pixels):
  kernel, zeros = KERNELS["linear"], jnp.zeros(image.shape[-1:], image.dtype)
  return xla.sample(
    image, pixels, kernel, options.padding, options.align_corners, zeros
  ).astype(image.dtype)


def _push(options, image, *args):
  pixels, tangents = args[: options.axes], args[options.axes :]
  f = functools.partial(_sample, options, image)
  return jax.jvp(f, pixels, tangents)[1]


class _Corner(NamedTuple):
  """One pixel of the support, for every sample."""

  bits: tuple[int, ...]  # which of the two taps along each axis it is of
  weights: list[jax.Array]  # along each axis
  index: jax.Array  # in the flat image
  inside: jax.Array | None  # False where there is no image; None: nowhere


def _corners(
  options: Options, spatial: Sequence[int], pixels: Sequence[jax.Array]
) -> Iterator[_Corner]:
  axes = [
    xla._taps(
      pixel, size, KERNELS["linear"], options.padding, options.align_corners
    )
    for pixel, size in zip(pixels, spatial, strict=True)
  ]
  for bits in itertools.product((0, 1), repeat=len(axes)):
    taps = [taps[i] for taps, i in zip(axes, bits, strict=True)]
    index = functools.reduce(
      lambda i, axis: i * axis[1] + axis[0].index,
      zip(taps[1:], spatial[1:], strict=True),
      taps[0].index,
    )
    masks = [tap.inside for tap in taps if tap.inside is not None]
    inside = functools.reduce(operator.and_, masks) if masks else None
    yield _Corner(bits, [tap.weight for tap in taps], index, inside)


def _mask(inside, values):
  return values if inside is None else jnp.where(inside[..., None], values, 0)


def _wide(*arrays):
  wide = any(array.dtype == jnp.float64 for array in arrays)
  return jnp.dtype(jnp.float64 if wide else jnp.float32)


def _sum_channels(array):
  channels = array.shape[-1]
  if channels > _UNROLLED_CHANNELS:
    return array @ jnp.ones((channels,), array.dtype)
  zero = jnp.zeros(array.shape[:-1], array.dtype)
  return sum((array[..., c] for c in range(channels)), start=zero)


def _pull(options, image, ct, *pixels):
  dtype = _wide(image, *pixels)
  *spatial, channels = image.shape
  flat = image.reshape(math.prod(spatial), channels)
  totals = [jnp.zeros(pixel.shape, dtype) for pixel in pixels]
  for corner in _corners(options, spatial, pixels):
    value = flat.at[corner.index].get(mode="promise_in_bounds")
    value = _mask(corner.inside, value).astype(dtype)
    dot = _sum_channels(value * ct.astype(dtype))
    for axis, bit in enumerate(corner.bits):
      slope = math.prod(
        (
          weight.astype(dtype)
          for other, weight in enumerate(corner.weights)
          if other != axis
        ),
        start=dot,
      )
      totals[axis] += slope if bit else -slope
  # Where `sample` clips a coordinate, it moves nothing. NaN stays NaN.
  return [
    jnp.where(
      jnp.abs(pixel) > xla._FAR, 0, total.astype(pixel.dtype) + 0 * pixel
    )
    for pixel, total in zip(pixels, totals, strict=True)
  ]


def _scatter(options, ct, *pixels, spatial, dtype):
  flat = jnp.zeros((math.prod(spatial), ct.shape[-1]), dtype)
  for corner in _corners(options, spatial, pixels):
    weight = math.prod(corner.weights[1:], start=corner.weights[0])
    part = weight[..., None].astype(dtype) * ct.astype(dtype)
    flat = flat.at[corner.index].add(
      _mask(corner.inside, part), mode="promise_in_bounds"
    )
  return flat.reshape(*spatial, ct.shape[-1])


# As primitives.

_SAMPLE = Operation(_sample, image=0, values=None, result="values")
_PUSH = Operation(_push, image=0, values=None, result="values")
_PULL = Operation(_pull, image=0, values=1, result="pixels")
_SCATTER = Operation(_scatter, image=None, values=0, result="image")
sample_p = make_primitive("sample", _SAMPLE)
push_p = make_primitive("push", _PUSH)
pull_p = make_primitive("pull", _PULL)
scatter_p = make_primitive("scatter", _SCATTER)


# Their derivatives.


def _sample_jvp(primals, tangents, *, options):
  image, *pixels = primals
  image_dot, *pixel_dots = tangents
  terms = []
  if not is_zero(image_dot):
    terms.append(sample_p.bind(image_dot, *pixels, options=options))
  if not all(map(is_zero, pixel_dots)):
    pixel_dots = map(ad.instantiate_zeros, pixel_dots)
    terms.append(push_p.bind(image, *pixels, *pixel_dots, options=options))
  return sample_p.bind(*primals, options=options), sum(terms[1:], terms[0])


def _sample_transpose(ct, image, *pixels, options):
  if is_zero(ct):
    return [ad.Zero(image.aval), *(None for _ in pixels)]
  *lead, _ = image.aval.shape
  image_ct = scatter_p.bind(
    ct,
    *pixels,
    options=options,
    spatial=tuple(lead[options.batch :]),
    dtype=_wide(image.aval, *pixels),
  )
  return [image_ct.astype(image.aval.dtype), *(None for _ in pixels)]


def _push_jvp(primals, tangents, *, options):
  count = 1 + options.axes
  if all(map(is_zero, tangents[:count])):
    tangents = map(ad.instantiate_zeros, tangents[count:])
    return push_p.bind(*primals, options=options), push_p.bind(
      *primals[:count], *tangents, options=options
    )
  return plain_jvp(_PUSH, primals, tangents, options=options)


def _push_transpose(ct, image, *args, options):
  pixels, tangents = args[: options.axes], args[options.axes :]
  if ad.is_undefined_primal(image):
    # Only where a push is linearised in the image: plain JAX.
    (image_ct,) = jax.linear_transpose(
      lambda image: _PUSH.over_batch(image, *args, options=options),
      image.aval,
    )(ad.instantiate_zeros(ct))
    return [image_ct, *(None for _ in args)]
  if is_zero(ct):
    cts = [ad.Zero(tangent.aval) for tangent in tangents]
  else:
    cts = pull_p.bind(image, ct, *pixels, options=options)
    if options.shared:
      over = tuple(range(options.batch))
      cts = [c.sum(over) for c in cts]
  return [None, *(None for _ in pixels), *cts]


def _pull_transpose(cts, image, ct, *pixels, options):
  if ad.is_undefined_primal(ct):
    tangents = [ad.instantiate_zeros(c) for c in cts]
    if options.shared:
      batch = image.shape[: options.batch]
      pixels = [jnp.broadcast_to(p, (*batch, *p.shape)) for p in pixels]
      options = options._replace(shared=False)
    result = push_p.bind(image, *pixels, *tangents, options=options)
    return [None, result.astype(ct.aval.dtype), *(None for _ in pixels)]
  (image_ct,) = jax.linear_transpose(
    lambda image: _PULL.over_batch(image, ct, *pixels, options=options),
    image.aval,
  )([ad.instantiate_zeros(c) for c in cts])
  return [image_ct, None, *(None for _ in pixels)]


def _scatter_jvp(primals, tangents, **params):
  ct, *pixels = primals
  ct_dot, *pixel_dots = tangents
  if all(map(is_zero, pixel_dots)):
    return scatter_p.bind(*primals, **params), scatter_p.bind(
      ct_dot, *pixels, **params
    )
  return plain_jvp(_SCATTER, primals, tangents, **params)


def _scatter_transpose(image, ct, *pixels, options, spatial, dtype):
  del spatial, dtype
  warped = sample_p.bind(ad.instantiate_zeros(image), *pixels, options=options)
  return [warped.astype(ct.aval.dtype), *(None for _ in pixels)]


ad.primitive_jvps[sample_p] = _sample_jvp
ad.primitive_jvps[push_p] = _push_jvp
ad.primitive_jvps[pull_p] = functools.partial(plain_jvp, _PULL)
ad.primitive_jvps[scatter_p] = _scatter_jvp
ad.primitive_transposes[sample_p] = _sample_transpose
ad.primitive_transposes[push_p] = _push_transpose
ad.primitive_transposes[pull_p] = _pull_transpose
ad.primitive_transposes[scatter_p] = _scatter_transpose


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
    image: (*spatial, C), of a floating dtype.
    pixels: d arrays (*output), one for each spatial axis in the image's order,
      float32 or float64.
    kernel: the interpolation. Only the linear one is done here, any other is
      left to `xla.sample`, and so is the padding `fill`.
    padding: what lies outside.
    align_corners: where `padding` reflects.
    fill: (C,), the value where `padding` says that there is no image.
    implementation: "xla", "native", or None for the faster one. The first is
      taken where the second does not support the case.

  Returns:
    (*output, C) in float64 if image or pixels are, otherwise float32; rounded
    to the image's dtype, which is what C++ writes.
  """
  if kernel != KERNELS["linear"] or padding is paddings.fill:
    return xla.sample(image, pixels, kernel, padding, align_corners, fill)
  options = Options(
    padding, align_corners, len(pixels), implementation=implementation
  )
  warped = sample_p.bind(*native.vary_alike(image, *pixels), options=options)
  return warped.astype(_wide(image, *pixels))
