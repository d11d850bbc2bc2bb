"""Homogeneous matrices: one language for the families of projective maps.

To convert theta upwards, go through its matrix:
`from_matrix("affine", to_matrix("attention", theta))`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Float

from stn._checks import as_coordinates, check_choice, check_shape
from stn.transforms.base import Transform, as_theta
from stn.transforms.families import get_transform


def _as_matrix(name: str, array: ArrayLike) -> jax.Array:
  matrix = as_coordinates(name, array)
  check_shape(
    name,
    matrix,
    "(d + 1, d + 1)",
    matrix.shape in ((2, 2), (3, 3), (4, 4)),
    ", d in {1, 2, 3}",
  )
  return matrix


def to_matrix(
  transform: str | Transform,
  theta: Float[ArrayLike, " params"],
  *,
  ndim: int = 2,
) -> Float[jax.Array, "n n"]:
  """The homogeneous matrix of a transform.

  Args:
    transform: a name in `stn.TRANSFORMS`, or a `Transform`, that has matrices:
      affine, attention, projective, rigid, rotation, similarity, translation.
    theta: its parameters, (P,).
    ndim: dimensions of the space, for a name.

  Returns:
    M: the source point of a target point p is M (p, 1), divided by its last
    coordinate. float64 if `theta` is, otherwise float32.

  Raises:
    TypeError: if `theta` is not floating.
    ValueError: if the family has no matrices, or `theta` has another shape.

  Example:
    >>> to_matrix("attention", jnp.array([0.5, 0.1, 0.2]))
    Array([[0.5, 0. , 0.1],
           [0. , 0.5, 0.2],
           [0. , 0. , 1. ]], dtype=float32)
  """
  family = transform
  if not isinstance(family, Transform):
    family = get_transform(family, ndim=ndim)
  if family.matrix is None:
    raise ValueError(f"`transform` must have matrices; got {transform!r}.")
  return family.matrix(as_theta(theta, family.num_params))


def from_matrix(
  name: str, matrix: Float[ArrayLike, "n n"]
) -> Float[jax.Array, " params"]:
  """Theta of a homogeneous matrix.

  Args:
    name: "affine" or "projective".
    matrix: (d + 1, d + 1), of any scale: its last element becomes 1. For
      "affine" the rest of its last row should be 0 and is ignored.

  Returns:
    Theta (P,); float64 if `matrix` is, otherwise float32.

  Raises:
    TypeError: if `matrix` is not floating.
    ValueError: if `name` is neither, or the shape is not square.

  Example:
    >>> from_matrix("affine", 2 * jnp.eye(3))
    Array([1., 0., 0., 0., 1., 0.], dtype=float32)
  """
  check_choice("name", name, ("affine", "projective"))
  matrix = _as_matrix("matrix", matrix)
  flat = (matrix / matrix[-1, -1]).reshape(-1)
  return flat[: -len(matrix)] if name == "affine" else flat[:-1]


def compose(
  first: Float[ArrayLike, "n n"], second: Float[ArrayLike, "n n"]
) -> Float[jax.Array, "n n"]:
  """The matrix that acts on points as `first`, then `second`: a product.

  For images the order is reversed: pull warps compose by warping the image by
  `second` first, then by `first`.

  Args:
    first: homogeneous matrix (d + 1, d + 1).
    second: the same.

  Returns:
    `second @ first`, computed in float32 or float64 on every device.

  Raises:
    TypeError: if an argument is not floating.
    ValueError: if the shapes are not square and equal.

  Example:
    >>> half = to_matrix("attention", jnp.array([0.5, 0., 0.]))
    >>> right = to_matrix("translation", jnp.array([1., 0.]))
    >>> from_matrix("affine", compose(half, right))
    Array([0.5, 0. , 1. , 0. , 0.5, 0. ], dtype=float32)
  """
  first, second = _as_matrix("first", first), _as_matrix("second", second)
  check_shape("second", second, str(first.shape), second.shape == first.shape)
  return jnp.matmul(second, first, precision="highest")


def invert(matrix: Float[ArrayLike, "n n"]) -> Float[jax.Array, "n n"]:
  """The matrix of the inverse transform.

  Args:
    matrix: homogeneous matrix (d + 1, d + 1). A singular one gives values that
      are not finite.

  Returns:
    The inverse.

  Raises:
    TypeError: if `matrix` is not floating.
    ValueError: if the shape is not square.

  Example:
    >>> theta = jnp.array([0.5, 0., 1.])
    >>> from_matrix("affine", invert(to_matrix("attention", theta)))
    Array([ 2.,  0.,  0.,  0.,  2., -2.], dtype=float32)
  """
  return jnp.linalg.inv(_as_matrix("matrix", matrix))
