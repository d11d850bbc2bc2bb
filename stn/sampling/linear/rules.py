"""The operations of the linear sampler, and how they are differentiated.

Four operations, each linear in all arguments but the grid, as primitives of
JAX, so that each direction of differentiation runs just what it needs:

    sample(image, grid)            -> values     transposed in image: image_vjp
    grid_jvp(image, grid, tangent) -> tangent of values    transposed: grid_vjp
    grid_vjp(image, ct, grid)      -> cotangent of the grid
    image_vjp(ct, grid)            -> cotangent of the image

The jvp of `sample` is a `sample` of the image's tangent plus a `grid_jvp`, each
left out where its tangent is zero. Reverse mode transposes them: a gradient
with respect to the grid alone contains no scatter, and saves nothing but image
and grid. From the second order on, JAX differentiates the definitions.

Arguments and results of all four have the same roles (`batching.BatchAxis`):
what is transposed keeps its batch axes.
"""

import functools

import jax
from jax.interpreters import ad

from stn._checks import full_dtype
from stn.sampling.linear import xla
from stn.sampling.linear.batching import unbatched
from stn.sampling.linear.primitives import (
  Operation,
  is_zero,
  make_primitive,
  plain_jvp,
)

_SAMPLE = Operation("sample", xla.sample, ("image", "grid"), "values")
_GRID_JVP = Operation(
  "grid_jvp", xla.grid_jvp, ("image", "grid", "tangent"), "values"
)
_GRID_VJP = Operation(
  "grid_vjp", xla.grid_vjp, ("image", "values", "grid"), "tangent"
)
_IMAGE_VJP = Operation("image_vjp", xla.image_vjp, ("values", "grid"), "image")
sample_p = make_primitive(_SAMPLE)
grid_jvp_p = make_primitive(_GRID_JVP)
grid_vjp_p = make_primitive(_GRID_VJP)
image_vjp_p = make_primitive(_IMAGE_VJP)


def _sample_jvp(primals, tangents, *, options):
  image, grid = primals
  image_dot, grid_dot = tangents
  terms = []
  if not is_zero(image_dot):
    terms.append(sample_p.bind(image_dot, grid, options=options))
  if not is_zero(grid_dot):
    vmaps = tuple(vmap._replace(tangent=vmap.grid) for vmap in options.vmaps)
    terms.append(
      grid_jvp_p.bind(
        image, grid, grid_dot, options=options._replace(vmaps=vmaps)
      )
    )
  return sample_p.bind(image, grid, options=options), sum(terms[1:], terms[0])


def _sample_transpose(ct, image, grid, *, options):
  if is_zero(ct):
    return [ad.Zero(image.aval), None]
  *spatial, _ = unbatched(image.aval.shape, "image", options)
  image_ct = image_vjp_p.bind(
    ct,
    grid,
    options=options,
    spatial=tuple(spatial),
    dtype=full_dtype(image.aval, grid),
  )
  return [image_ct.astype(image.aval.dtype), None]


def _grid_jvp_jvp(primals, tangents, *, options):
  image, grid, _ = primals
  if all(map(is_zero, tangents[:2])):
    return grid_jvp_p.bind(*primals, options=options), grid_jvp_p.bind(
      image, grid, ad.instantiate_zeros(tangents[2]), options=options
    )
  return plain_jvp(_GRID_JVP, primals, tangents, options=options)


def _grid_jvp_transpose(ct, image, grid, tangent, *, options):
  if ad.is_undefined_primal(image):
    # Only where a jvp is linearised in the image: by plain JAX.
    (image_ct,) = jax.linear_transpose(
      lambda image: _GRID_JVP.over_batch(image, grid, tangent, options=options),
      image.aval,
    )(ad.instantiate_zeros(ct))
    return [image_ct, None, None]
  if is_zero(ct):
    return [None, None, ad.Zero(tangent.aval)]
  return [None, None, grid_vjp_p.bind(image, ct, grid, options=options)]


def _grid_vjp_transpose(ct_out, image, ct, grid, *, options):
  tangent = ad.instantiate_zeros(ct_out)
  if ad.is_undefined_primal(ct):
    values = grid_jvp_p.bind(image, grid, tangent, options=options)
    return [None, values.astype(ct.aval.dtype), None]
  (image_ct,) = jax.linear_transpose(
    lambda image: _GRID_VJP.over_batch(image, ct, grid, options=options),
    image.aval,
  )(tangent)
  return [image_ct, None, None]


def _image_vjp_jvp(primals, tangents, **params):
  _, grid = primals
  ct_dot, grid_dot = tangents
  if is_zero(grid_dot):
    return image_vjp_p.bind(*primals, **params), image_vjp_p.bind(
      ct_dot, grid, **params
    )
  return plain_jvp(_IMAGE_VJP, primals, tangents, **params)


def _image_vjp_transpose(image, ct, grid, *, options, spatial, dtype):
  del spatial, dtype
  values = sample_p.bind(ad.instantiate_zeros(image), grid, options=options)
  return [values.astype(ct.aval.dtype), None]


ad.primitive_jvps[sample_p] = _sample_jvp
ad.primitive_jvps[grid_jvp_p] = _grid_jvp_jvp
ad.primitive_jvps[grid_vjp_p] = functools.partial(plain_jvp, _GRID_VJP)
ad.primitive_jvps[image_vjp_p] = _image_vjp_jvp
ad.primitive_transposes[sample_p] = _sample_transpose
ad.primitive_transposes[grid_jvp_p] = _grid_jvp_transpose
ad.primitive_transposes[grid_vjp_p] = _grid_vjp_transpose
ad.primitive_transposes[image_vjp_p] = _image_vjp_transpose
