"""All implementations of the linear sampler agree: docs/conventions.md."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stn
from stn.sampling import implementations

# Those that weigh no pixel but the neighbours: `matmul` spreads what is NaN.
NAMES = [
  name
  for name, reason in implementations().items()
  if not reason and name != "matmul"
]
PADDINGS = ("zeros", "border", "reflection", "wrap")
COORDINATES = ("plain", "lattice", "hostile", "far")
PIXELS = ("plain", "hostile")
KINDS = [(c, p) for c in COORDINATES for p in PIXELS]
FAR = (np.nan, np.inf, -np.inf, 1e30, -3e38, 2.0**30, 0.0, -0.0, 1.0, -1.0)


def draw_grid(rng, shape, kind):
  grid = rng.uniform(-1.6, 1.6, shape)
  if kind == "lattice":
    grid = np.round(grid * 8) / 8
  if kind == "hostile":
    grid = np.where(rng.random(shape) < 0.3, rng.choice(FAR, shape), grid)
  if kind == "far":
    grid = grid * 1000
  return grid.astype(np.float32)


def draw_image(rng, shape, kind, dtype):
  image = rng.standard_normal(shape)
  if kind == "hostile":
    image = np.where(
      rng.random(shape) < 0.05, rng.choice(FAR[:3], shape), image
    )
  return jnp.asarray(image, dtype)


def run(name, image, grid, ct, tangent, **options):
  """The value, both gradients, and a jvp."""
  f = functools.partial(stn.grid_sample, implementation=name, **options)
  value, pull = jax.vjp(f, image, grid)
  _, moved = jax.jvp(lambda grid: f(image, grid), (grid,), (tangent,))
  return dict(zip(("image", "grid"), pull(ct), strict=True)) | {
    "value": value,
    "jvp": moved,
  }


def check(rng, spatial, points, channels, dtype, **options):
  runs = {
    name: jax.jit(functools.partial(run, name, **options)) for name in NAMES
  }
  periodic = options["padding_mode"] in ("reflection", "wrap")
  for coordinates, pixels in KINDS:
    image = draw_image(rng, (*spatial, channels), pixels, dtype)
    grid = draw_grid(rng, (*points, len(spatial)), coordinates)
    if periodic:  # which pixel it is, is not specified
      grid = np.where(np.abs(grid) > 2e3, 2e3 * np.sign(grid), grid)
      grid = grid.astype(np.float32)
    tolerance = 3e-2
    if dtype == jnp.float32:  # far away it has few digits for the weights
      tolerance = 1e-5 if coordinates in ("plain", "lattice") else 2e-3
    ct = jnp.asarray(rng.standard_normal((*points, channels)), dtype)
    tangent = rng.standard_normal(grid.shape).astype(np.float32)
    first, *others = (
      {
        key: np.asarray(array, np.float32)
        for key, array in f(image, grid, ct, tangent).items()
      }
      for f in runs.values()
    )
    for other, name in zip(others, NAMES[1:], strict=True):
      for key, a in first.items():
        b, what = other[key], f"{key} {name} {coordinates} {pixels} {options}"
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b), what)
        finite = np.isfinite(a) & np.isfinite(b)
        np.testing.assert_array_equal(a[~finite], b[~finite], what)
        scale = max(spatial) * max(1, np.abs(a[finite]).max(initial=0))
        np.testing.assert_allclose(
          a[finite] / scale,
          b[finite] / scale,
          rtol=0,
          atol=tolerance,
          err_msg=what,
        )


@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("align_corners", [False, True])
def test_hostile_coordinates_and_pixels(padding_mode, align_corners):
  rng = np.random.default_rng(0)
  for spatial, dtype in (((2, 6), jnp.float32), ((1, 7), jnp.bfloat16)):
    check(
      rng,
      spatial,
      (60,),
      3 if spatial[0] > 1 else 1,
      dtype,
      padding_mode=padding_mode,
      align_corners=align_corners,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_campaign(seed):
  """Random sizes, channels, dtypes and options."""
  rng = np.random.default_rng(seed)
  for _ in range(12):
    d = int(rng.integers(1, 4))
    most = {1: 80, 2: 16, 3: 8}[d]
    check(
      rng,
      tuple(int(n) for n in rng.choice([1, 2, *range(1, most + 1)], d)),
      tuple(int(n) for n in rng.integers(1, 9, rng.integers(0, 4))),
      int(rng.choice([1, 2, 3, 4, 5, 8, 9, 16, 31, 64, 130])),
      jnp.bfloat16 if rng.random() < 0.25 else jnp.float32,
      padding_mode=str(rng.choice(PADDINGS)),
      align_corners=bool(rng.integers(2)),
    )
  jax.clear_caches()
