"""The few argument checks of the public functions, in one wording.

An error names the argument in backticks, says what was expected, then what
came. Only static facts (shapes, dtypes, names) are checked: values may be
traced by jit and are never looked at.
"""

import difflib
import importlib
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, SupportsIndex, cast

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
  """Raises ValueError, listing `choices`, unless `value` is one of them."""
  choices = sorted(choices)
  if not isinstance(value, str) or value not in choices:
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
      f"`{name}` must be one of {', '.join(map(repr, choices))}; "
      f"got {value!r}.{hint}"
    )


def lookup(argument: str, name: object, table: Mapping[str, Any]) -> Any:
  """Returns the row of a table, or what "module:attribute" names.

  The second form lets a config name a function of the user's own: a table
  never has to be changed from outside.

  Args:
    argument: the argument's name, for the error.
    name: a key of `table`, or "module:attribute" of an importable module.
    table: the rows that have names of their own.

  Raises:
    ValueError: if there is no such row, module or attribute.

  Example:
    >>> lookup("reduce", "math:fsum", {"sum": sum})([0.5, 0.5])
    1.0
  """
  if not isinstance(name, str) or ":" not in name:
    check_choice(argument, name, table)
    return table[cast(str, name)]
  module, _, attribute = name.partition(":")
  try:
    return operator.attrgetter(attribute)(importlib.import_module(module))
  except ModuleNotFoundError as error:
    if error.name is None or not f"{module}.".startswith(f"{error.name}."):
      raise  # the module is there, and misses one of its own imports
    raise ValueError(
      f"`{argument}` {name!r} must name an importable module before its colon; "
      f"there is no module {error.name!r} on the Python path."
    ) from None
  except AttributeError as error:
    raise ValueError(
      f"`{argument}` {name!r} cannot be used: {error}."
    ) from None


def check_options(
  argument: str, function: Callable[..., Any], options: Iterable[str]
) -> None:
  """Raises ValueError if `function` has no keyword of the name of an option.

  Args:
    argument: what the options belong to, for the error.
    function: what they will be given to.
    options: their names.
  """
  parameters = inspect.signature(function).parameters.values()
  if any(p.kind is p.VAR_KEYWORD for p in parameters):
    return
  known = [
    p.name
    for p in parameters
    if p.kind is p.KEYWORD_ONLY
    or (p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty)
  ]
  for name in options:
    check_choice(f"option of {argument}", name, known)


def check_shape(
  name: str, array: jax.Array, expected: str, ok: bool, why: str = ""
) -> None:
  """Raises ValueError, saying the `expected` shape, unless `ok`."""
  if not ok:
    raise ValueError(
      f"`{name}` must have shape {expected}{why}; got {array.shape}."
    )


def as_image(image: ArrayLike) -> jax.Array:
  """Returns `image` as an array, float32 for bool and integers.

  Raises ValueError if it is of a wrong rank, TypeError if it is complex.
  """
  image = jnp.asarray(image)
  if jnp.issubdtype(image.dtype, jnp.complexfloating):
    raise TypeError(f"`image` must be real; got {image.dtype.name}.")
  if not jnp.issubdtype(image.dtype, jnp.floating):
    image = image.astype(jnp.float32)
  check_shape(
    "image",
    image,
    "(*spatial, C)",
    image.ndim in (2, 3, 4),
    ", 1 to 3 spatial axes",
  )
  return image


def check_output_size(
  output_size: Iterable[SupportsIndex], ndim: int | None = None
) -> tuple[int, ...]:
  """Returns `output_size` as a tuple of ints, or says what is wrong with it."""
  length = "1, 2 or 3" if ndim is None else str(ndim)
  expected = f"`output_size` must be {length} positive ints, one per axis"
  try:
    size = tuple(operator.index(n) for n in output_size)
  except TypeError:
    raise TypeError(f"{expected}; got {output_size!r}.") from None
  if len(size) not in ((1, 2, 3) if ndim is None else (ndim,)) or min(size) < 1:
    raise ValueError(f"{expected}; got {output_size!r}.")
  return size


def check_size(size: Any) -> int:
  """Returns a `size` as an int, whatever its type; a symbolic one as it is."""
  if jax.export.is_symbolic_dim(size):
    return cast(int, size)
  try:
    number = operator.index(size)
  except TypeError:
    number = 0
  if number < 1:
    raise ValueError(f"`size` must be a positive int; got {size!r}.")
  return number


def as_coordinates(name: str, array: ArrayLike) -> jax.Array:
  """Returns a floating `array` in the dtype that coordinates are kept in.

  That is float64 for float64 and float32 for all else: half precision has
  fewer than 12 significant bits and cannot name the pixels of a large image.

  Args:
    name: the argument's name, for the error.
    array: theta, points or a grid.

  Raises:
    TypeError: if `array` is not of a real floating dtype.
  """
  array = jnp.asarray(array)
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise TypeError(
      f"`{name}` must have a floating dtype; got {array.dtype.name}."
    )
  return array.astype(full_dtype(array))


def full_dtype(*arrays: Any) -> np.dtype:
  """The dtype to compute in: float64 if any array is, otherwise float32."""
  wide = any(array.dtype == jnp.float64 for array in arrays)
  return np.dtype(np.float64 if wide else np.float32)
