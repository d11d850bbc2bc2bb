"""The C++ sampler for CPUs, when the package stn_native is there.

It is a shared library of XLA FFI handlers (the folder native/), which compute
what `xla.py` defines. It is built with stn-jax where there is a compiler. Where
it is missing, or does not support a case, XLA runs the definition.
"""

import functools
import importlib
import logging
import math
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stn.grids import grid_axes, pixel_rule
from stn.sampling import paddings
from stn.sampling.linear.batching import Layout, Options, unbatched
from stn.sampling.paddings import Padding

# What the library calls its paddings: (function, align_corners) -> number.
_PADDINGS: dict[tuple[Padding, bool], int] = {
  (paddings.zeros, False): 0,
  (paddings.zeros, True): 0,
  (paddings.border, False): 1,
  (paddings.border, True): 1,
  (paddings.reflection, False): 2,
  (paddings.reflection, True): 3,
  (paddings.wrap, False): 4,
  (paddings.wrap, True): 4,
}

# The operations that the library has, and its names for them. Each beats XLA's
# own in every workload of benchmarks/bench_sampling.py (docs/speed.md).
HANDLERS = {
  "sample": "stn_native_sample",
  "grid_vjp": "stn_native_pull",
  "image_vjp": "stn_native_scatter",
}

# Of the package stn_native, whose handlers take these attributes.
_INTERFACE = 2
_INSTALL_AGAIN = "pip install --force-reinstall --no-deps --no-cache-dir"
_SWITCHED_OFF = "STN_NATIVE=0 is set"


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
def reason_unavailable() -> str | None:
  """Registers the library, once; returns why it cannot be used, or None.

  Its version is checked first: a handler built for a newer FFI than the running
  one ends the process, and no `except` can prevent that.
  """
  if os.environ.get("STN_NATIVE", "1") == "0":
    return _SWITCHED_OFF
  try:
    package = importlib.import_module("stn_native")
    library, built = package.load(), package.ffi_version()
  except ImportError:
    return (
      "stn-jax was installed without its C++: with a C++17 compiler at hand, "
      f"install it again ({_INSTALL_AGAIN})"
    )
  except OSError as error:
    return f"its library cannot be loaded: {error}"
  if getattr(package, "INTERFACE", 1) != _INTERFACE:
    return (
      "it was built for another version of stn-jax: install that again "
      f"({_INSTALL_AGAIN})"
    )
  try:
    running = _ffi_version()
  except OSError as error:
    return f"jaxlib's FFI version is unknown: {error}"
  if built[0] != running[0] or built[1] > running[1]:
    return (
      f"it was built for XLA FFI {built[0]}.{built[1]} and jaxlib has "
      f"{running[0]}.{running[1]}: install stn-jax again ({_INSTALL_AGAIN})"
    )
  for handler in package.HANDLERS:
    jax.ffi.register_ffi_target(
      handler, jax.ffi.pycapsule(getattr(library, handler)), platform="cpu"
    )
  return None


@functools.cache
def _hint(reason: str) -> None:
  """Says once that the sampler could be faster, unless the user wants it so."""
  if reason != _SWITCHED_OFF:
    logging.getLogger(__name__).warning(
      "The sampler runs in plain JAX, which takes longer on CPUs than its C++: "
      "%s.",
      reason,
    )


def find_call(
  operation: Any, ctx: Any, options: Options
) -> Callable[..., jax.Array] | None:
  """What `Operation.over_batch` is to run on a CPU; None is the definition."""
  if options.implementation == "xla" or operation.name not in HANDLERS:
    return None
  if not _is_on_one_device(ctx):
    return None
  if options.implementation is None and _is_exported(ctx):
    return None
  if not _supports(options, ctx.avals_in):
    return None
  if reason := reason_unavailable():
    _hint(reason)
    return None
  (out,) = ctx.avals_out
  avals = dict(zip(operation.inputs, ctx.avals_in, strict=True))
  image = avals.get("image", out)
  *spatial, channels = unbatched(image.shape, "image", options)
  if math.prod(spatial) * channels >= 2**31:
    return None
  example = unbatched(out.shape, operation.output, options)

  def call(layout: Layout, *args: jax.Array) -> jax.Array:
    shape = (*layout.shape(operation.output), *example)
    foreign = jax.ffi.ffi_call(
      HANDLERS[operation.name], jax.ShapeDtypeStruct(shape, out.dtype)
    )
    return foreign(
      *match_varying_axes(*args),
      padding=np.int64(_PADDINGS[options.padding, options.align_corners]),
      shared=layout.shared and bool(layout.batch),
      **_pixel_rules(options, spatial),
      **_regular_grid(options),
    )

  return call


def _supports(options: Options, avals: Sequence[Any]) -> bool:
  """Whether the library has this case."""
  values, grid = avals[0], avals[-1]
  dims = [n for aval in avals for n in aval.shape]
  return (
    (options.padding, options.align_corners) in _PADDINGS
    and values.dtype in (jnp.float32, jnp.bfloat16)
    and grid.dtype == jnp.float32
    and (options.output_size is None or len(options.output_size) == 2)
    and all(isinstance(n, int) and n > 0 for n in dims)
  )


def _pixel_rules(
  options: Options, spatial: Sequence[int]
) -> dict[str, np.ndarray]:
  """How the library converts coordinates to pixels, along each axis."""
  rules = [(1.0, 0.0, -1.0)] * len(spatial)  # a pixel is a pixel
  if options.normalised:
    rules = [
      pixel_rule(size, align_corners=options.align_corners) for size in spatial
    ]
  names = "scale", "offset", "tolerance"
  return dict(zip(names, np.asarray(rules, np.float32).T, strict=True))


def _regular_grid(options: Options) -> dict[str, np.ndarray]:
  """The grid that a matrix is applied to; nothing where there is a grid."""
  axes = [np.zeros(0, np.float32)] * 2
  if options.output_size is not None:
    axes = grid_axes(options.output_size, align_corners=options.align_corners)
  return dict(zip(("rows", "columns"), axes, strict=True))


def _is_exported(ctx: Any) -> bool:
  """An exported program may run where the library is not."""
  return bool(ctx.module_context.lowering_parameters.for_export)


def _is_on_one_device(ctx: Any) -> bool:
  """Whether each device runs this program by itself, on its own data.

  Otherwise XLA partitions the program, and would gather the arguments of a
  foreign call on every device: there it runs the definition. Within
  `jax.shard_map` nothing is left to partition.
  """
  where = ctx.module_context.axis_context
  manual = getattr(where, "manual_axes", None)
  if manual is not None:
    return frozenset(where.mesh.axis_names) <= manual
  return getattr(where, "num_devices", None) == 1


def match_varying_axes(*args: jax.Array) -> list[jax.Array]:
  """Within `shard_map`, makes all vary over the mesh axes of any of them."""
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
