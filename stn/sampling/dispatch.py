"""The implementations of the sampler: their table, and which can run here."""

import functools
from collections.abc import Callable

import jax

from stn._checks import check_choice
from stn.sampling import gather, matmul
from stn.sampling.linear import native
from stn.sampling.linear import sampler as linear

IMPLEMENTATIONS = {
  "gather": gather.sample,
  "matmul": matmul.sample,
  "native": functools.partial(linear.sample, implementation="native"),
  "xla": functools.partial(linear.sample, implementation="xla"),
}


def implementations() -> dict[str, str | None]:
  """Lists the implementations of the sampler, and whether each can run here.

  Returns:
    For each key of `IMPLEMENTATIONS` None if it can be used, otherwise the
    reason why not. "xla" (`linear/xla.py`) has derivative rules of its own for
    the linear kernel; "native" (`linear/native.py`) runs the same rules in C++
    on CPUs, and leaves to XLA what it does not support: kernels other than
    "linear", the padding "fill", footprints, float16 and float64, other
    devices. "gather" consists of JAX's own operations alone, for tools that
    read a program's jaxpr; "matmul" of matrix products, for small maps on
    matrix units. None takes "native" where it can be used, otherwise "xla".

  Example:
    >>> implementations()["xla"] is None
    True
  """
  return {name: None for name in IMPLEMENTATIONS} | {
    "native": native.reason_unavailable()
  }


def get_implementation(name: str | None) -> Callable[..., jax.Array]:
  """Returns the sampler of a name in `IMPLEMENTATIONS`; of None, the fastest.

  Raises:
    ValueError: if the name is unknown or cannot be used here.
  """
  if name is None:
    return linear.sample
  check_choice("implementation", name, IMPLEMENTATIONS)
  reason = implementations()[name]
  if reason:
    raise ValueError(f"`implementation` {name!r} cannot be used: {reason}.")
  return IMPLEMENTATIONS[name]
