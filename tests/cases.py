"""Images and grids that the tests of the pure core share."""

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import stn

# "fill" needs a value, and its own tests: test_paddings.py.
PADDINGS = ("zeros", "border", "reflection", "wrap")


def families(ndim=2):
  """The names of the families that have an identity in so many dimensions."""
  found = []
  for name in stn.TRANSFORMS:
    try:
      family = stn.get_transform(name, ndim=ndim)
    except ValueError:  # not in so many
      continue
    if family.has_identity:
      found.append(name)
  return found


def random_image(*shape, seed=0, dtype=np.float32):
  """Uniform in [-1, 1)."""
  return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def to_normalised(pixel, size, align_corners):
  """The definition, in NumPy's float64: what `stn.grids` is tested against."""
  if align_corners:
    return 2 * pixel / (size - 1) - 1
  return (2 * pixel + 1) / size - 1


def normalised_grid(pixels, align_corners, spatial, dtype=np.float32):
  """(..., d) pixels in the image's order of axes -> a grid in (x, y, z)."""
  columns = [
    to_normalised(pixels[..., axis], size, align_corners)
    for axis, size in enumerate(spatial)
  ]
  return np.stack(columns[::-1], -1).astype(dtype)


def smooth_grid(spatial, output, align_corners, seed=0, dtype=np.float32):
  """A random grid, inside and outside, away from lattice points and halves.

  There the sampler is smooth, and the pixel that is nearest is no matter of
  rounding: values and gradients can be compared.
  """
  rng = np.random.default_rng(seed)
  pixels = np.empty((*output, len(spatial)))
  for axis, size in enumerate(spatial):
    whole = rng.integers(-size - 1, 2 * size + 1, output)
    half = rng.integers(0, 2, output) / 2
    pixels[..., axis] = whole + half + rng.uniform(0.1, 0.4, output)
  return normalised_grid(pixels, align_corners, spatial, dtype)


def make_mesh(axis_type=AxisType.Auto, devices=4):
  """A mesh of the first devices over the axis "data"."""
  return jax.make_mesh(
    (devices,),
    ("data",),
    axis_types=(axis_type,),
    devices=jax.devices()[:devices],
  )


def check_shard_map(f, args, mesh, handler):
  """Within `shard_map` each device runs C++, on its own examples.

  `f` is of arrays of examples; `handler` is one that has to be in the program.
  Returns the arguments, split over the mesh.
  """
  sharded = jax.jit(
    jax.shard_map(f, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
  )
  split = jax.device_put(args, NamedSharding(mesh, P("data")))
  text = sharded.lower(*split).compile().as_text()
  assert handler in text
  assert "all-gather" not in text
  for a, b in zip(sharded(*split), jax.jit(f)(*args), strict=True):
    np.testing.assert_array_equal(a, b)
  return split
