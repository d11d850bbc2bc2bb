"""Operations over grids as primitives of JAX: run, batched and lowered.

An operation is defined for one example, in plain JAX. Its primitive records the
`vmap`s that it is under, and is lowered to the `vmap` of the definition or, on
CPUs, to C++ (`native.py`). How it is differentiated is up to its rules.

Why primitives: `custom_vjp` has no forward mode, `custom_jvp` no transpose of
its own, and `linear_call`, which would combine the two, has neither `vmap` nor
second derivatives (jax 0.10).
"""

import functools
from typing import Any, NamedTuple

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from stn.sampling.linear import native
from stn.sampling.linear.batching import BatchAxis, Layout


class Operation(NamedTuple):
  """What a primitive computes.

  Attributes:
    name: of the operation, see `native.HANDLERS`.
    define: the definition for one example, `(options, *args, **static)`.
    inputs: the role of each argument, a field of `BatchAxis`.
    output: the role of the result.
  """

  name: str
  define: Any
  inputs: tuple[str, ...]
  output: str

  def over_batch(self, *args, options, run=None, **static):
    """The operation over its whole batch, as XLA runs it.

    Args:
      *args: of the roles `inputs`, with their batch axes.
      options: see `Options`.
      run: what to run instead of the definition, `layout, *args -> result`.
      **static: what else the definition takes.
    """
    layout = Layout.make(args, self.inputs, options)
    arranged = [
      layout.arrange(arg, role)
      for arg, role in zip(args, self.inputs, strict=True)
    ]
    if run is None:
      f = functools.partial(self.define, options, **static)
      axes = [
        None if role == "grid" and layout.shared else 0 for role in self.inputs
      ]
      for _ in layout.batch:
        f = jax.vmap(f, axes)
      out = f(*arranged)
    else:
      out = run(layout, *arranged)
    return layout.restore(out, self.output)


def make_primitive(operation: Operation) -> Primitive:
  """The operation as a primitive, without rules to differentiate it.

  It is bound with `options`, and with what else the definition takes by
  keyword.
  """
  primitive = Primitive(f"stn_linear_{operation.name}")

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

  def lower(ctx, *args, **params):
    f = mlir.lower_fun(operation.over_batch, multiple_results=False)
    return f(ctx, *args, **params)

  def lower_on_cpu(ctx, *args, options, **static):
    call = native.find_call(operation, ctx, options)
    return lower(ctx, *args, options=options, run=call, **static)

  def batch(args, axes, *, options, **static):
    roles = dict(zip(operation.inputs, axes, strict=True))
    vmap = BatchAxis(**{operation.output: 0, **roles})
    options = options._replace(vmaps=(vmap, *options.vmaps))
    return primitive.bind(*args, options=options, **static), 0

  primitive.def_impl(run)
  primitive.def_abstract_eval(abstract_eval)
  mlir.register_lowering(primitive, lower)
  mlir.register_lowering(primitive, lower_on_cpu, platform="cpu")
  batching.primitive_batchers[primitive] = batch
  return primitive


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
