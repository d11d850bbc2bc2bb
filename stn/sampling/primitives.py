"""Operations over grids as primitives of JAX: run, batched and lowered.

An operation is defined for one example, in plain JAX. Its primitive takes any
number of batch axes, which `vmap` adds and `Options` counts, and runs it in XLA
or, on CPUs, in C++ (`native.py`). How it is differentiated is its own matter.

Why primitives: `custom_vjp` has no forward mode, `custom_jvp` no transpose of
its own, and `linear_call`, which would join the two, neither `vmap` nor second
derivatives (jax 0.10).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from stn.sampling import native
from stn.sampling.paddings import Padding


class Options(NamedTuple):
  """What the operations have in common, static.

  Attributes:
    padding: what lies outside.
    align_corners: where `padding` reflects.
    axes: spatial axes of an image.
    normalised: whether a grid is in [-1, 1] or in pixels.
    batch: leading axes of image, values and, unless shared, grid.
    shared: every image of the batch has the same grid, without batch axes.
    implementation: "xla", "native", or None for the faster one.
  """

  padding: Padding
  align_corners: bool
  axes: int
  normalised: bool = True
  batch: int = 0
  shared: bool = False
  implementation: str | None = None


class Operation(NamedTuple):
  """What a primitive does, for one example.

  Attributes:
    define: the definition for one example, `(options, *args, **static)`.
    image: the position of the image among the arguments, or None.
    values: the position of what is (*points, C), or None. The others are
      (*points, axes): a grid, or its tangent.
  """

  define: Any
  image: int | None
  values: int | None

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


def make_primitive(name: str, operation: Operation) -> Primitive:
  """The operation as a primitive, without rules to differentiate it.

  Args:
    name: which of the library's operations does the same, see `native.choose`.
    operation: its definition.

  Returns:
    The primitive. It is bound with `options` and what else the definition
    takes by keyword.
  """
  primitive = Primitive(f"stn_linear_{name}")

  @functools.lru_cache
  def compiled(params):
    return jax.jit(functools.partial(primitive.bind, **dict(params)))

  def run(*args, **params):
    return compiled(tuple(params.items()))(*args)

  @functools.lru_cache
  def abstract_eval(*avals, **params):
    # Of the definition: with its sharding and varying mesh axes.
    define = functools.partial(operation.over_batch, **params)
    return jax.make_jaxpr(define)(*avals).out_avals[0]

  def in_xla(ctx, *args, **params):
    lower = mlir.lower_fun(operation.over_batch, multiple_results=False)
    return lower(ctx, *args, **params)

  def on_cpu(ctx, *args, **params):
    call = native.choose(name, ctx, **params)
    if call is None:
      return in_xla(ctx, *args, **params)
    return mlir.lower_fun(call, multiple_results=False)(ctx, *args)

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
  roles = ["grid"] * len(args)
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
    for role in ("image", "values", "grid")
  }
  # Many grids on one image are one large grid: the image is not repeated.
  fold = operation.image is not None and not batched["image"]
  shared = options.shared
  if not fold:
    shared = not batched["grid"] and (shared or not options.batch)

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
      own = role == "grid" and options.shared
      moved.append(put(arg, dim, 0 if own else options.batch))
    elif role == "grid" and shared:
      moved.append(arg)
    elif role == "grid" and options.shared:  # they are no longer
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
  return out, options.batch if fold else 0


def _batch_shape(operation, args, dims, options):
  """The shape of the batch so far, from what always has it."""
  position = (
    operation.image if operation.image is not None else operation.values
  )
  shape = list(args[position].shape)
  if dims[position] is not None:
    del shape[dims[position]]
  return tuple(shape[: options.batch])


def is_zero(tangent: Any) -> bool:
  """Whether a tangent is known to be zero when the program is traced."""
  return isinstance(tangent, ad.Zero)


def plain_jvp(
  operation: Operation, primals: Any, tangents: Any, **params: Any
) -> Any:
  """By plain JAX, with respect to the arguments that have tangents."""
  varied = [i for i, t in enumerate(tangents) if not is_zero(t)]

  def f(*some):
    args = list(primals)
    for i, arg in zip(varied, some, strict=True):
      args[i] = arg
    return operation.over_batch(*args, **params)

  return jax.jvp(f, [primals[i] for i in varied], [tangents[i] for i in varied])
