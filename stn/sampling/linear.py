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

Why primitives: `custom_vjp` has no forward mode, `custom_jvp` no transpose of
its own, and `linear_call`, which would join the two, neither `vmap` nor second
derivatives (jax 0.10).

Each may run in XLA (the definitions below) or, on CPUs, in C++: `native.py`.
"""

import functools
import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from stn.sampling import native, xla
from stn.sampling.kernels import KERNELS, Kernel
from stn.sampling.paddings import Padding

# More channels than this are summed by a product with ones, which vectorises
# on CPUs where a reduction of a last axis does not; fewer one by one.
_UNROLLED_CHANNELS = 4


class Options(NamedTuple):
  """What the operations have in common, static.

  Attributes:
    padding: what lies outside.
    align_corners: where `padding` reflects.
    axes: spatial axes of an image.
    batch: leading axes of image, values and, unless shared, pixels.
    shared: every image of the batch has the same pixels, without batch axes.
    implementation: "xla", "native", or None for the faster one.
  """

  padding: Padding
  align_corners: bool
  axes: int
  batch: int = 0
  shared: bool = False
  implementation: str | None = None


# The definitions, for one example.


def _sample(options, image, *pixels):
  return xla.sample(
    image, pixels, KERNELS["linear"], options.padding, options.align_corners
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
        (w for other, w in enumerate(corner.weights) if other != axis),
        start=dot,
      )
      totals[axis] += slope if bit else -slope
  # Where `sample` clips a coordinate, it moves nothing. NaN stays NaN.
  return [
    jnp.where(jnp.abs(pixel) > xla._FAR, 0, total + 0 * pixel).astype(
      pixel.dtype
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


# The primitives: the definitions over a batch, whose layout is in `Options`.


class _Operation(NamedTuple):
  """One of the four.

  Attributes:
    define: the definition for one example, `(options, *args, **static)`.
    image: the position of the image among the arguments, or None.
    values: the position of what is (*points, C), or None.
    result: what comes out: "values", "pixels" or "image".
  """

  define: Any
  image: int | None
  values: int | None
  result: str

  def axes_of(self, options: Options, count: int) -> list[int | None]:
    """For vmap: which arguments have the batch."""
    axes: list[int | None] = [None if options.shared else 0] * count
    for position in (self.image, self.values):
      if position is not None:
        axes[position] = 0
    return axes

  def over_batch(self, *args, options, **static):
    """The definition over the whole batch, as XLA runs it."""
    f = functools.partial(self.define, options, **static)
    for _ in range(options.batch):
      f = jax.vmap(f, self.axes_of(options, len(args)))
    return f(*args)


def _make_primitive(name: str, operation: _Operation) -> Primitive:
  primitive = Primitive(f"stn_linear_{name}")
  primitive.multiple_results = operation.result == "pixels"

  @functools.lru_cache
  def compiled(params):
    return jax.jit(functools.partial(primitive.bind, **dict(params)))

  def run(*args, **params):
    return compiled(tuple(params.items()))(*args)

  @functools.lru_cache
  def abstract_eval(*avals, **params):
    # Of the definition: with its sharding and varying mesh axes.
    avals = jax.make_jaxpr(functools.partial(operation.over_batch, **params))(
      *avals
    ).out_avals
    return avals if primitive.multiple_results else avals[0]

  def in_xla(ctx, *args, **params):
    return mlir.lower_fun(
      operation.over_batch, multiple_results=primitive.multiple_results
    )(ctx, *args, **params)

  def on_cpu(ctx, *args, **params):
    call = native.choose(name, ctx, **params)
    if call is None:
      return in_xla(ctx, *args, **params)
    return mlir.lower_fun(call, multiple_results=primitive.multiple_results)(
      ctx, *args
    )

  primitive.def_impl(run)
  primitive.def_abstract_eval(abstract_eval)
  mlir.register_lowering(primitive, in_xla)
  mlir.register_lowering(primitive, on_cpu, platform="cpu")
  batching.primitive_batchers[primitive] = functools.partial(
    _batch, primitive, operation
  )
  return primitive


def _batch(primitive, operation, args, dims, *, options, **static):
  """One more axis: of the batch, or of the points where the image has none."""
  size = next(
    arg.shape[dim]
    for arg, dim in zip(args, dims, strict=True)
    if dim is not None
  )
  roles = ["pixels"] * len(args)
  if operation.image is not None:
    roles[operation.image] = "image"
  if operation.values is not None:
    roles[operation.values] = "values"
  batched = {
    role: any(
      dim is not None
      for dim, other in zip(dims, roles, strict=True)
      if other == role
    )
    for role in ("image", "values", "pixels")
  }
  # Many grids on one image are one large grid: the image is not repeated.
  fold = operation.image is not None and not batched["image"]
  shared = options.shared
  if not fold:
    shared = not batched["pixels"] and (shared or not options.batch)

  def put(arg, dim, position):
    if dim is not None:
      return jnp.moveaxis(arg, dim, position)
    shape = (*arg.shape[:position], size, *arg.shape[position:])
    return jnp.broadcast_to(jnp.expand_dims(arg, position), shape)

  moved = []
  for arg, dim, role in zip(args, dims, roles, strict=True):
    if fold and role == "image":
      moved.append(arg)
    elif fold:
      own = role == "pixels" and options.shared
      moved.append(put(arg, dim, 0 if own else options.batch))
    elif role == "pixels" and shared:
      moved.append(arg)
    elif role == "pixels" and options.shared:  # they are no longer
      lead = (
        arg.shape if dim is None else arg.shape[:dim] + arg.shape[dim + 1 :]
      )
      arg = put(arg, dim, 0)
      batch = _batch_shape(operation, args, dims, options)
      arg = arg.reshape(size, *(1,) * options.batch, *lead)
      moved.append(jnp.broadcast_to(arg, (size, *batch, *lead)))
    else:
      moved.append(put(arg, dim, 0))
  if not fold:
    options = options._replace(batch=options.batch + 1)
  out = primitive.bind(
    *moved, options=options._replace(shared=shared), **static
  )
  position = options.batch if fold else 0
  if primitive.multiple_results:
    return out, [position] * len(out)
  return out, position


def _batch_shape(operation, args, dims, options):
  """The shape of the batch so far, from what always has it."""
  position = (
    operation.image if operation.image is not None else operation.values
  )
  shape = list(args[position].shape)
  if dims[position] is not None:
    del shape[dims[position]]
  return tuple(shape[: options.batch])


_SAMPLE = _Operation(_sample, image=0, values=None, result="values")
_PUSH = _Operation(_push, image=0, values=None, result="values")
_PULL = _Operation(_pull, image=0, values=1, result="pixels")
_SCATTER = _Operation(_scatter, image=None, values=0, result="image")
sample_p = _make_primitive("sample", _SAMPLE)
push_p = _make_primitive("push", _PUSH)
pull_p = _make_primitive("pull", _PULL)
scatter_p = _make_primitive("scatter", _SCATTER)


# Their derivatives.


def _is_zero(tangent):
  return isinstance(tangent, ad.Zero)


def _plain_jvp(operation, primals, tangents, **params):
  """By plain JAX, with respect to the arguments that have tangents."""
  varied = [i for i, t in enumerate(tangents) if not _is_zero(t)]

  def f(*some):
    args = list(primals)
    for i, arg in zip(varied, some, strict=True):
      args[i] = arg
    return operation.over_batch(*args, **params)

  return jax.jvp(f, [primals[i] for i in varied], [tangents[i] for i in varied])


def _sample_jvp(primals, tangents, *, options):
  image, *pixels = primals
  image_dot, *pixel_dots = tangents
  terms = []
  if not _is_zero(image_dot):
    terms.append(sample_p.bind(image_dot, *pixels, options=options))
  if not all(map(_is_zero, pixel_dots)):
    pixel_dots = map(ad.instantiate_zeros, pixel_dots)
    terms.append(push_p.bind(image, *pixels, *pixel_dots, options=options))
  return sample_p.bind(*primals, options=options), sum(terms[1:], terms[0])


def _sample_transpose(ct, image, *pixels, options):
  if _is_zero(ct):
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
  if all(map(_is_zero, tangents[:count])):
    tangents = map(ad.instantiate_zeros, tangents[count:])
    return push_p.bind(*primals, options=options), push_p.bind(
      *primals[:count], *tangents, options=options
    )
  return _plain_jvp(_PUSH, primals, tangents, options=options)


def _push_transpose(ct, image, *args, options):
  pixels, tangents = args[: options.axes], args[options.axes :]
  if ad.is_undefined_primal(image):
    # Only where a push is linearised in the image: plain JAX.
    (image_ct,) = jax.linear_transpose(
      lambda image: _PUSH.over_batch(image, *args, options=options),
      image.aval,
    )(ad.instantiate_zeros(ct))
    return [image_ct, *(None for _ in args)]
  if _is_zero(ct):
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
  if all(map(_is_zero, pixel_dots)):
    return scatter_p.bind(*primals, **params), scatter_p.bind(
      ct_dot, *pixels, **params
    )
  return _plain_jvp(_SCATTER, primals, tangents, **params)


def _scatter_transpose(image, ct, *pixels, options, spatial, dtype):
  del spatial, dtype
  warped = sample_p.bind(ad.instantiate_zeros(image), *pixels, options=options)
  return [warped.astype(ct.aval.dtype), *(None for _ in pixels)]


ad.primitive_jvps[sample_p] = _sample_jvp
ad.primitive_jvps[push_p] = _push_jvp
ad.primitive_jvps[pull_p] = functools.partial(_plain_jvp, _PULL)
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
  fill: jax.Array | None = None,
  *,
  implementation: str | None = None,
) -> jax.Array:
  """Samples an image at pixel coordinates (paper, eq. 3).

  Args:
    image: (*spatial, C), of a floating dtype.
    pixels: d arrays (*output), one for each spatial axis in the image's order,
      float32 or float64.
    kernel: the interpolation. Only the linear one is done here, any other is
      left to `xla.sample`.
    padding: what lies outside.
    align_corners: where `padding` reflects.
    fill: (C,), the value where `padding` says that there is no image; None is
      0, and costs less.
    implementation: "xla", "native", or None for the faster one. The first is
      taken where the second does not support the case.

  Returns:
    (*output, C) in float64 if image or pixels are, in bfloat16 if the image
    is, otherwise float32.
  """
  if kernel != KERNELS["linear"]:
    return xla.sample(image, pixels, kernel, padding, align_corners)
  options = Options(
    padding, align_corners, len(pixels), implementation=implementation
  )
  warped = sample_p.bind(*native.vary_alike(image, *pixels), options=options)
  if fill is not None:
    outside = _outside(options, image.shape[:-1], pixels)
    fill = fill.astype(outside.dtype)
    warped = warped + (outside[..., None] * fill).astype(warped.dtype)
  return warped


def _outside(options, spatial, pixels):
  """The sum of the weights that fall outside the image."""
  within, anywhere = jnp.ones((), pixels[0].dtype), jnp.zeros((), bool)
  for pixel, size in zip(pixels, spatial, strict=True):
    taps = xla._taps(
      pixel, size, KERNELS["linear"], options.padding, options.align_corners
    )
    weights = []
    for tap in taps:
      inside = jnp.ones((), bool) if tap.inside is None else tap.inside
      weights.append(jnp.where(inside, tap.weight, 0))
      anywhere |= ~inside
    within *= sum(weights[1:], weights[0])
  # Where all is inside nothing is, whatever the rounding, and infinities of
  # the fill do not spread.
  return jnp.where(anywhere, 1 - within, 0)
