"""The families that move control points: tps, flow and bspline."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import check_derivatives
from scipy.interpolate import BSpline, RBFInterpolator, RegularGridInterpolator
from scipy.ndimage import map_coordinates

import stn
from stn.transforms import bspline, flow, tps

DIMS = pytest.mark.parametrize("d", [1, 2, 3])
EACH = pytest.mark.parametrize("name", ["tps", "flow", "bspline"])
KERNELS = {1: "cubic", 2: "thin_plate_spline", 3: "linear"}


def uniform(*shape, seed=0, size=1.0, dtype=np.float32):
  return np.random.default_rng(seed).uniform(-size, size, shape).astype(dtype)


def lattice(*size):
  """Points (K, d) from corner to corner, x fastest."""
  axes = [np.linspace(-1, 1, n) for n in size]
  grid = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], -1)
  return grid.reshape(-1, len(size))


def displaced(family, moves, points):
  """Displacements by the family, in NumPy."""
  theta = jnp.asarray(moves.reshape(-1))
  return np.asarray(jax.jit(family.apply)(theta, points)) - points


# The thin plate spline.


def test_the_default_is_the_paper_s():
  assert stn.get_transform("tps").num_params == 32


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@DIMS
def test_tps_against_scipy(d, ridge, x64):
  centres, points = uniform(9, d), uniform(50, d, seed=2)
  moves = uniform(9, d, seed=1, size=0.3, dtype=np.float64)
  family = tps(ndim=d, control_points=centres, ridge=ridge)
  reference = RBFInterpolator(
    centres, moves, kernel=KERNELS[d], degree=1, smoothing=ridge
  )
  np.testing.assert_allclose(
    displaced(family, moves, points), reference(points), atol=1e-9
  )


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("name", ["tps", "flow", "bspline"])
@pytest.mark.parametrize("many", [False, True])
def test_points_that_the_program_computes_are_displaced_as_constant_ones(
  d, name, many, x64
):
  """Few terms of a spline are written out; lattices are summed by axis."""
  number = {1: (5, 50), 2: (5, 8), 3: (3 + (name == "bspline"), 4)}[d][many]
  option = "size" if name == "flow" else "num_control_points"
  family = stn.get_transform(name, ndim=d, **{option: number})
  rng = np.random.default_rng(0)
  theta = rng.uniform(-0.2, 0.2, family.num_params)
  points = rng.uniform(-1.2, 1.2, (5, 4, d))
  np.testing.assert_allclose(
    jax.jit(family.apply)(theta, points),
    family.apply(theta, points),
    atol=1e-9,
  )


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (8, 8)], ids=str)
def test_tps_on_a_lattice_against_scipy(size):
  centres, points = lattice(*size), uniform(50, 2, seed=2, size=1.5)
  moves = uniform(len(centres), 2, seed=1, size=0.1)
  family = tps(num_control_points=size)
  reference = RBFInterpolator(centres, moves, kernel="thin_plate_spline")
  np.testing.assert_allclose(
    displaced(family, moves, points), reference(points), atol=1e-5
  )


@DIMS
def test_tps_takes_control_points_where_theta_says(d):
  family = tps(ndim=d, num_control_points=3)
  moves = uniform(3**d, d, size=0.3)
  centres = lattice(*[3] * d).astype(np.float32)
  np.testing.assert_allclose(
    displaced(family, moves, centres), moves, atol=1e-5
  )


def test_targets_are_displaced_control_points():
  by_displacement = tps(num_control_points=3)
  family = tps(num_control_points=3, targets=True)
  rng = np.random.default_rng(0)
  theta = rng.uniform(-0.2, 0.2, 18).astype(np.float32)
  points = stn.regular_grid((5, 6))
  np.testing.assert_allclose(
    family.apply(family.identity + theta, points),
    by_displacement.apply(theta, points),
    atol=1e-6,
  )
  np.testing.assert_array_equal(family.apply(family.identity, points), points)
  # And a fit finds them.
  source = family.identity.reshape(9, 2)
  found = stn.theta_from_points(family, source, source + np.float32(0.1))
  np.testing.assert_allclose(found, family.identity + 0.1, atol=1e-5)


@DIMS
def test_tps_gives_affine_maps_exactly(d, x64):
  """Far outside of the control points too."""
  centres, points = lattice(*[3] * d), uniform(9, d, size=9, dtype=np.float64)
  matrix, shift = uniform(d, d, seed=1), uniform(1, d, seed=2)
  family = tps(ndim=d, num_control_points=3)
  moves = centres @ matrix + shift
  np.testing.assert_allclose(
    displaced(family, moves, points), points @ matrix + shift, atol=1e-12
  )


@DIMS
def test_tps_derivatives_at_a_control_point(d, x64):
  """Where r = 0. In space the kernel has a kink there, its slope counts as 0.

  On a line the second derivative is that of a cubic spline, too.
  """
  family = tps(ndim=d, num_control_points=3)
  theta = uniform(family.num_params, size=0.3, dtype=np.float64)
  centre = jnp.zeros((1, d))
  if d < 3:
    check_derivatives(family.apply, theta, centre, order=3 - d, forward=True)
  hessian = jax.hessian(
    lambda theta, points: (family.apply(theta, points) ** 2).sum(), (0, 1)
  )
  hessian = jax.jit(hessian)
  for derivative in hessian(theta, centre):
    assert all(np.isfinite(part).all() for part in derivative)


LINE = np.stack([np.linspace(-1, 1, 5)] * 2, -1)


@pytest.mark.parametrize(
  ("points", "d", "where"),
  [
    (LINE, 2, "one line"),
    (LINE[:2], 2, "one line"),
    (np.zeros((4, 1)), 1, "one place"),
    (np.c_[lattice(3, 3), np.ones(9)], 3, "one plane"),
    (np.concatenate([lattice(3, 3), lattice(3, 3)[:1]]), 2, "one line"),
  ],
  ids=["line", "two", "place", "plane", "twice"],
)
def test_degenerate_control_points_need_a_ridge(own_errors, points, d, where):
  with pytest.raises(
    ValueError, match=f"`control_points` must be distinct and .* in {where}"
  ):
    tps(ndim=d, control_points=points)
  family = tps(ndim=d, control_points=points, ridge=0.1)
  theta = uniform(family.num_params, size=0.3)
  assert np.isfinite(family.apply(theta, uniform(20, d))).all()


def test_the_ridge_is_not_negative(own_errors):
  with pytest.raises(ValueError, match=r"`ridge` must be 0 or more; got -1"):
    tps(ridge=-1.0)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (0, 2)])
def test_control_points_have_a_shape(own_errors, shape):
  with pytest.raises(ValueError, match=r"`control_points` must have shape \(K"):
    tps(control_points=np.zeros(shape))


# Lattices.


@pytest.mark.parametrize("size", [(5,), (3, 4), (2, 3, 4)], ids=str)
def test_flow_is_linear_interpolation(size):
  d = len(size)
  moves, points = uniform(*size, d, size=0.3), uniform(50, d, seed=1)
  reference = RegularGridInterpolator(
    [np.linspace(-1, 1, n) for n in size], moves
  )
  np.testing.assert_allclose(
    displaced(flow(ndim=d, size=size), moves, points),
    reference(points[:, ::-1]),
    atol=1e-6,
  )


@pytest.mark.parametrize("size", [(7,), (4, 6), (4, 5, 6)], ids=str)
def test_bspline_against_map_coordinates(size):
  d = len(size)
  moves, points = uniform(*size, d, size=0.3), uniform(50, d, seed=1)
  cells = np.array(size)[:, None] - 3
  index = (points[:, ::-1].T.astype(np.float64) + 1) * cells / 2 + 1
  expected = [
    map_coordinates(moves[..., i], index, order=3, prefilter=False)
    for i in range(d)
  ]
  np.testing.assert_allclose(
    displaced(bspline(ndim=d, num_control_points=size), moves, points),
    np.stack(expected, -1),
    atol=1e-6,
  )


def test_bspline_against_the_definition(x64):
  moves, x = uniform(7, dtype=np.float64), np.linspace(-1, 1, 41)
  cell = 2 / 4
  reference = BSpline(-1 + cell * np.arange(-3, 8), moves, 3)
  np.testing.assert_allclose(
    displaced(bspline(ndim=1, num_control_points=7), moves, x[:, None])[:, 0],
    reference(np.clip(x, -1, 1 - 1e-14)),
    atol=1e-12,
  )


@pytest.mark.parametrize("family", [flow(), bspline()], ids=["flow", "bspline"])
def test_outside_is_as_the_border(family):
  moves = uniform(family.num_params // 2, 2)
  points = uniform(30, 2, size=3)
  np.testing.assert_allclose(
    displaced(family, moves, points),
    displaced(family, moves, np.clip(points, -1, 1)),
    atol=1e-6,
  )


@pytest.mark.parametrize(
  ("name", "option"),
  [
    ("tps", "num_control_points"),
    ("flow", "size"),
    ("bspline", "num_control_points"),
  ],
)
@pytest.mark.parametrize("value", [1, (4, 1), (4, 4, 4), ()], ids=str)
def test_lattices_have_a_least_size(own_errors, name, option, value):
  least = 4 if name == "bspline" else 2
  with pytest.raises(
    ValueError,
    match=f"`{option}` must be an int, or 2 ints, of at least {least}",
  ):
    stn.get_transform(name, **{option: value})


@pytest.mark.parametrize("name", ["tps", "bspline", "flow"])
def test_no_points_are_displaced_to_no_points(name):
  """Points that are given, and points that the program computes."""
  apply = stn.get_transform(name).apply
  theta = stn.get_transform(name).identity
  none = np.zeros((0, 2), np.float32)
  assert apply(theta, none).shape == jax.jit(apply)(theta, none).shape == (0, 2)


def test_lattice_sizes_may_be_numpys():
  for size in (np.int64(4), np.array([4, 4]), (np.int32(4), 4)):
    for name, option in (("tps", "num_control_points"), ("flow", "size")):
      family = stn.get_transform(name, **{option: size})
      assert family.num_params == 32


@pytest.mark.parametrize("value", [2.5, (4, 2.5), "ab"], ids=str)
def test_lattice_sizes_are_ints(own_errors, value):
  with pytest.raises(TypeError, match="`size` must be an int, or 2 ints"):
    flow(size=value)


# All three.


@EACH
@DIMS
def test_equal_displacements_move_all_points_equally(name, d):
  family = stn.get_transform(name, ndim=d)
  moves = np.tile(uniform(1, d), (family.num_params // d, 1))
  got = displaced(family, moves, uniform(20, d, seed=1))
  np.testing.assert_allclose(got, np.tile(moves[:1], (20, 1)), atol=1e-5)


OPTIONS = {
  "tps": {"num_control_points": 3},
  "flow": {"size": 3},
  "bspline": {"num_control_points": 4},
}


@EACH
@DIMS
def test_gradients(name, d, x64):
  family = stn.get_transform(name, ndim=d, **OPTIONS[name])
  theta = uniform(family.num_params, dtype=np.float64, size=0.3)
  points = uniform(2, d, seed=1, dtype=np.float64)
  check_derivatives(family.apply, theta, points)


@EACH
def test_vmap_is_a_loop(name):
  family = stn.get_transform(name, **OPTIONS[name])
  thetas, points = uniform(3, family.num_params), uniform(3, 5, 2, seed=1)
  apply = jax.jit(family.apply)
  shared = jax.vmap(apply, (0, None))(thetas, points[0])
  own = jax.vmap(apply)(thetas, points)
  for i, theta in enumerate(thetas):
    np.testing.assert_allclose(shared[i], apply(theta, points[0]), atol=1e-5)
    np.testing.assert_allclose(own[i], apply(theta, points[i]), atol=1e-5)


def test_control_points_are_in_the_order_of_pixels():
  """Each is moved alone; the point nearest to it moves the most."""
  size = (2, 3)
  family, corners = flow(size=size), lattice(*size).astype(np.float32)
  for i, (row, column) in enumerate(itertools.product(range(2), range(3))):
    moves = np.zeros((*size, 2), np.float32)
    moves[row, column] = 1
    moved = displaced(family, moves, corners)
    np.testing.assert_array_equal(np.flatnonzero(moved.sum(-1)), [i])
