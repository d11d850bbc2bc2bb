"""The C++ sampler for CPUs, when the package stn_native is there.

It is an optional distribution (the folder native/) with a shared library of
XLA FFI handlers; `linear.py` says what they compute. Where it is missing, or
does not support a case, XLA runs the same operation.
"""

import functools
import importlib
import math
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from stn.sampling import paddings

# What the library calls its paddings: (function, align_corners) -> number.
_PADDINGS = {
  (paddings.zeros, False): 0,
  (paddings.zeros, True): 0,
  (paddings.border, False): 1,
  (paddings.border, True): 1,
  (paddings.reflection, False): 2,
  (paddings.reflection, True): 3,
}

# operation -> the numbers of channels for which it beats XLA's own. Measured
# by benchmarks/bench_sampling.py.
_FASTER = {
  "sample": range(1, 2**31),
  "pull": range(1, 2**31),
  "scatter": range(1, 2**31),
}


def _ffi_version() -> tuple[int, int]:
  """The (major, minor) version of the FFI of the running jaxlib."""
  header = pathlib.Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h")
  text = header.read_text()
  found = [
    re.search(rf"#define XLA_FFI_API_{part} (\d+)", text)
    for part in ("MAJOR", "MINOR")
  ]
  major, minor = (int(match[1]) if match else -1 for match in found)
  return major, minor


@functools.cache
def why_not() -> str | None:
  """Registers the library, once; returns why it cannot be used, or None.

  Its version is looked at first: a handler built for a newer FFI than the
  running one ends the process, and no `except` helps.
  """
  if os.environ.get("STN_NATIVE", "1") == "0":
    return "STN_NATIVE=0 is set"
  try:
    package = importlib.import_module("stn_native")
    library, built = package.load(), package.ffi_version()
  except ImportError:
    return "the package stn_native is not installed (pip install ./native)"
  except OSError as error:
    return f"its library cannot be loaded: {error}"
  try:
    running = _ffi_version()
  except OSError as error:
    return f"jaxlib's FFI version is unknown: {error}"
  if built[0] != running[0] or built[1] > running[1]:
    return (
      f"it was built for XLA FFI {built[0]}.{built[1]} and jaxlib has "
      f"{running[0]}.{running[1]}: build it again (pip install ./native)"
    )
  for handler in package.HANDLERS:
    jax.ffi.register_ffi_target(
      handler, jax.ffi.pycapsule(getattr(library, handler)), platform="cpu"
    )
  return None


def supports(options: Any, avals: Sequence[Any]) -> bool:
  """Whether the library has this case."""
  values, pixel = avals[0], avals[-1]
  dims = [n for aval in avals for n in aval.shape]
  return (
    (options.padding, options.align_corners) in _PADDINGS
    and values.dtype in (jnp.float32, jnp.bfloat16)
    and pixel.dtype == jnp.float32
    and all(isinstance(n, int) and n > 0 for n in dims)
  )


def choose(
  name: str, ctx: Any, *, options: Any, **static: Any
) -> Callable[..., Any] | None:
  """What to lower an operation of `linear.py` to on a CPU; None is XLA."""
  avals = [*ctx.avals_in, *ctx.avals_out]
  if options.implementation == "xla" or name not in _FASTER or why_not():
    return None
  if not supports(options, ctx.avals_in):
    return None
  spatial = static.get("spatial")
  if spatial is None:
    spatial = avals[0].shape[options.batch : options.batch + options.axes]
  channels = avals[0].shape[-1]
  if math.prod(spatial) * channels >= 2**31:
    return None
  if options.implementation is None and (
    channels not in _FASTER[name] or _is_exported(ctx)
  ):
    return None
  call = functools.partial(
    _call, name, [(aval.shape, aval.dtype) for aval in ctx.avals_out], options
  )
  return call if _is_on_one_device(ctx) else _partitioned(name, options, call)


def _is_exported(ctx: Any) -> bool:
  """An exported program may run where the library is not."""
  return bool(ctx.module_context.lowering_parameters.for_export)


def _is_on_one_device(ctx: Any) -> bool:
  """Whether each device runs this program by itself, on its own data."""
  where = ctx.module_context.axis_context
  manual = getattr(where, "manual_axes", None)
  if manual is not None:
    return frozenset(where.mesh.axis_names) <= manual
  return getattr(where, "num_devices", None) == 1


def vary_alike(*args: jax.Array) -> list[jax.Array]:
  """Within `shard_map`, lets all vary over the mesh axes that any does."""
  axes = [_varying(arg) for arg in args]
  together = frozenset[Any]().union(*axes)
  return [
    jax.lax.pcast(arg, tuple(together - own), to="varying")
    if together - own
    else arg
    for arg, own in zip(args, axes, strict=True)
  ]


def _varying(arg: jax.Array) -> frozenset[Any]:
  aval: Any = jax.typeof(arg)  # the attribute changed its name in jax 0.10.2
  manual = getattr(aval, "manual_axis_type", None)
  return manual.varying if manual else getattr(aval, "vma", frozenset())


def _call(name, outs, options, *args):
  """The FFI call; of the shapes of `outs` only the batch may be smaller."""
  args = vary_alike(*args)
  batch = args[0].shape[: options.batch]
  results = [
    jax.ShapeDtypeStruct((*batch, *shape[options.batch :]), dtype)
    for shape, dtype in outs
  ]
  call = jax.ffi.ffi_call(
    f"stn_native_{name}", results if name == "pull" else results[0]
  )
  return call(
    *args,
    padding=np.int64(_PADDINGS[options.padding, options.align_corners]),
    shared=options.shared and options.batch > 0,
  )


def _partitioned(name, options, call):
  """The call where XLA splits arrays over devices: along their batch.

  Left to itself XLA would gather every argument of a foreign call on every
  device.
  """
  batch = options.batch

  def keep(mesh, shapes, own):
    # The first that is split says how all are.
    specs = [tuple(s.sharding.spec)[:batch] for s, b in zip(shapes, own) if b]
    spec = next((spec for spec in specs if any(spec)), ())
    return [
      NamedSharding(mesh, PartitionSpec(*spec) if b else PartitionSpec())
      for b in own
    ]

  def has_batch(count):
    own = [not options.shared] * count
    own[0] = True
    if name == "pull":
      own[1] = True
    return own

  def partition(mesh, args, results):
    single = name != "pull"
    results = [results] if single else list(results)
    own = has_batch(len(args))
    shardings = keep(mesh, [*args, *results], own + [True] * len(results))
    out = shardings[len(args) :]
    return mesh, call, out[0] if single else out, tuple(shardings[: len(args)])

  def infer(mesh, args, results):
    single = name != "pull"
    results = [results] if single else list(results)
    own = has_batch(len(args))
    out = keep(mesh, [*args, *results], own + [True] * len(results))[len(args) :]
    return out[0] if single else out

  def run(*args):
    outs = jax.eval_shape(call, *args)
    ranks = [arg.ndim for arg in args]
    ends = [out.ndim for out in jax.tree.leaves(outs)]
    names = [f"b{i}" for i in range(batch)]
    count = iter(range(10**6))

    def factors(rank, own):
      lead = names if own else []
      return " ".join(
        [*lead, *(f"r{next(count)}" for _ in range(rank - len(lead)))]
      )

    own = has_batch(len(args))
    rule = (
      ", ".join(map(factors, ranks, own))
      + " -> "
      + ", ".join(factors(rank, True) for rank in ends)
    )
    split = custom_partitioning(lambda *args: call(*args))
    split.def_partition(
      partition=partition,
      infer_sharding_from_operands=infer,
      sharding_rule=rule,
    )
    return split(*args)

  return run
