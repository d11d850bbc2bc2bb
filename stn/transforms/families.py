"""The table of the families."""

import inspect
from collections.abc import Callable

from stn._checks import check_choice
from stn.transforms.affine import affine
from stn.transforms.base import Transform
from stn.transforms.lattice import bspline, flow
from stn.transforms.log_polar import log_polar
from stn.transforms.projective import projective
from stn.transforms.similarity import (
  attention,
  rigid,
  rotation,
  similarity,
  translation,
)
from stn.transforms.tps import tps

TRANSFORMS: dict[str, Callable[..., Transform]] = {
  "affine": affine,
  "attention": attention,
  "bspline": bspline,
  "flow": flow,
  "log_polar": log_polar,
  "projective": projective,
  "rigid": rigid,
  "rotation": rotation,
  "similarity": similarity,
  "tps": tps,
  "translation": translation,
}


def get_transform(name: str, **options) -> Transform:
  """Looks a family up in `TRANSFORMS`.

  Args:
    name: a key of `TRANSFORMS`.
    **options: what the family takes; all take `ndim`, 1, 2 (default) or 3.

  Returns:
    The family: `num_params`, `identity` and `apply`.

  Raises:
    TypeError: if the family has no such option.
    ValueError: if the name, or the value of an option, is not one it takes.

  Example:
    >>> family = get_transform("affine")
    >>> family.identity
    array([1., 0., 0., 0., 1., 0.], dtype=float32)
  """
  check_choice("transform", name, TRANSFORMS)
  family = TRANSFORMS[name]
  known = inspect.signature(family).parameters
  for option in options:
    if option not in known:
      raise TypeError(
        f"{name!r} takes the options {', '.join(known)}; got `{option}`."
      )
  ndim = options.get("ndim", 2)
  if ndim not in (1, 2, 3):
    raise ValueError(f"`ndim` must be 1, 2 or 3; got {ndim!r}.")
  return family(**options)
