"""Families of transforms: `theta, points -> points`, and their table.

Every family is one function from options to a `Transform`, and one row of
`TRANSFORMS`. Theta is flat, (P,). Transforms act on points, of any number and
arrangement, so they know nothing of images and grids.
"""

from collections.abc import Callable

from stn._checks import check_choice
from stn.transforms.affine import affine, apply_affine
from stn.transforms.base import Transform

__all__ = ["TRANSFORMS", "Transform", "affine", "apply_affine", "get_transform"]

TRANSFORMS: dict[str, Callable[..., Transform]] = {"affine": affine}


def get_transform(name: str, **options) -> Transform:
  """Looks a family up in `TRANSFORMS`.

  Args:
    name: a key of `TRANSFORMS`.
    **options: what the family takes; all take `ndim`, 1, 2 (default) or 3.

  Returns:
    The family: `num_params`, `identity` and `apply`.

  Raises:
    ValueError: if the name, or the number of dimensions, is unknown.

  Example:
    >>> family = get_transform("affine")
    >>> family.identity
    array([1., 0., 0., 0., 1., 0.], dtype=float32)
  """
  check_choice("transform", name, TRANSFORMS)
  ndim = options.get("ndim", 2)
  if ndim not in (1, 2, 3):
    raise ValueError(f"`ndim` must be 1, 2 or 3; got {ndim!r}.")
  return TRANSFORMS[name](**options)
