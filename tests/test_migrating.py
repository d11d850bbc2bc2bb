"""docs/migrating.md against the libraries that it is about."""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate
import scipy.ndimage
from cases import normalised_grid, random_image, smooth_grid

import stn

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "migrating.md"


@pytest.fixture(scope="module")
def ours():
  """What the page's blocks define."""
  names = {}
  for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
    exec(block, names)
  return names


IMAGE = random_image(6, 8, 2)
AFFINE = np.array([[0.93, 0.21, 0.53], [-0.13, 1.11, 0.37], [0, 0, 1]], "f4")
HOMOGRAPHY = AFFINE + np.array([[0, 0, 0], [0, 0, 0], [0.01, 0.02, 0]], "f4")
OUTPUT = (5, 7)
# name here -> the rule of align_corners, and the names elsewhere
BORDERS = [
  ("zeros", False, "constant"),
  ("border", False, "nearest"),
  ("reflection", False, "reflect"),
  ("reflection", True, "mirror"),
  ("wrap", False, "wrap"),
]
borders = pytest.mark.parametrize(
  ("padding_mode", "align_corners", "mode"), BORDERS
)


def close(a, b, atol=3e-6):
  np.testing.assert_allclose(a, b, atol=atol)


# torch


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_torch_s_grid_sample(ours, mode, padding_mode, align_corners):
  torch = pytest.importorskip("torch")
  images = np.moveaxis(random_image(2, 5, 6, 3), -1, 1)
  grids = np.stack(
    [smooth_grid((5, 6), (4, 3), align_corners, i) for i in range(2)]
  )
  rules = {
    "mode": mode,
    "padding_mode": padding_mode,
    "align_corners": align_corners,
  }
  theirs = torch.nn.functional.grid_sample(
    torch.from_numpy(images), torch.from_numpy(grids), **rules
  )
  close(ours["torch_grid_sample"](images, grids, **rules), theirs, atol=2e-5)


@pytest.mark.parametrize("align_corners", [False, True])
def test_torch_s_affine_grid_and_both_in_one(align_corners):
  torch = pytest.importorskip("torch")
  theta = AFFINE[:2]
  rule = {"align_corners": align_corners}
  grid = torch.nn.functional.affine_grid(
    torch.from_numpy(theta)[None], (1, 2, *OUTPUT), **rule
  )
  close(stn.affine_grid(theta, OUTPUT, **rule), grid[0])
  image = torch.from_numpy(IMAGE).moveaxis(-1, 0)[None]
  theirs = torch.nn.functional.grid_sample(image, grid, **rule)[0]
  warped = stn.spatial_transform(
    IMAGE, theta.reshape(-1), output_size=OUTPUT, **rule
  )
  close(warped, theirs.moveaxis(0, -1))


def test_torch_s_interpolate():
  torch = pytest.importorskip("torch")
  theirs = torch.nn.functional.interpolate(
    torch.from_numpy(IMAGE).moveaxis(-1, 0)[None], (11, 5), mode="bilinear"
  )
  warped = stn.spatial_transform(
    IMAGE,
    stn.get_transform("affine").identity,
    output_size=(11, 5),
    padding_mode="border",
  )
  close(warped, theirs[0].moveaxis(0, -1))


# SciPy, JAX


@borders
def test_map_coordinates(ours, padding_mode, align_corners, mode):
  image = IMAGE[..., 0]
  rng = np.random.default_rng(0)
  at = np.stack([rng.uniform(-n, 2 * n, 40) for n in image.shape]).astype("f4")
  warped = ours["map_coordinates"](
    image, at, align_corners, padding_mode=padding_mode
  )
  theirs = jax.scipy.ndimage.map_coordinates(image, list(at), 1, mode=mode)
  close(warped, theirs, atol=2e-5)


@pytest.mark.parametrize(
  ("order", "method"),
  list(enumerate(("nearest", "linear", "quadratic_bspline", "cubic_bspline"))),
)
def test_scipy_s_orders(ours, x64, order, method):
  image = random_image(6, 5, dtype=np.float64)
  at = np.random.default_rng(0).uniform(-2, 7, (2, 40))

  @jax.jit
  def map_coordinates(image, at):
    rules = {"method": method, "padding_mode": "reflection"}
    return ours["map_coordinates"](image, at, True, **rules)

  warped = map_coordinates(image, at)
  theirs = scipy.ndimage.map_coordinates(image, at, order=order, mode="mirror")
  close(warped, theirs)


def test_scipy_without_its_prefilter(ours, x64):
  image = random_image(6, 5, dtype=np.float64)
  at = np.random.default_rng(0).uniform(-2, 7, (2, 40))
  kernel = stn.Kernel(2, stn.KERNELS["cubic_bspline"].fn)
  warped = ours["map_coordinates"](image, at, method=kernel)
  theirs = scipy.ndimage.map_coordinates(
    image, at, prefilter=False, mode="grid-constant"
  )
  close(warped, theirs)


@borders
def test_scipy_s_affine_transform(ours, padding_mode, align_corners, mode):
  mode = {"constant": "grid-constant", "wrap": "grid-wrap"}.get(mode, mode)
  matrix, offset = AFFINE[:2, :2], AFFINE[:2, 2]
  warped = ours["affine_transform"](
    IMAGE, matrix, offset, align_corners, padding_mode=padding_mode
  )
  for channel in range(2):
    theirs = scipy.ndimage.affine_transform(
      IMAGE[..., channel], matrix, offset, order=1, mode=mode
    )
    close(warped[..., channel], theirs)


def test_a_turn_of_an_oblong_image(ours):
  """About the centre, in pixels, as `dm_pix.rotate`."""
  cos, sin = np.cos(0.4), np.sin(0.4)
  matrix = np.array([[cos, sin], [-sin, cos]], "f4")
  centre = (np.array(IMAGE.shape[:2], "f4") - 1) / 2
  warped = ours["affine_transform"](
    IMAGE, matrix, centre - matrix @ centre, padding_mode="border"
  )
  theirs = scipy.ndimage.rotate(
    IMAGE, np.rad2deg(0.4), reshape=False, order=1, mode="nearest"
  )
  close(warped, theirs)


def test_jax_s_resize():
  theirs = jax.image.resize(IMAGE, (11, 5, 2), "linear", antialias=False)
  identity = stn.get_transform("affine").identity
  options = {"output_size": (11, 5), "padding_mode": "border"}
  close(stn.spatial_transform(IMAGE, identity, **options), theirs)


def test_jax_s_scale_and_translate(ours):
  scale, translation = jnp.array([1.3, 0.8]), jnp.array([0.7, -0.4])
  warped = ours["scale_and_translate"](IMAGE, OUTPUT, scale, translation)
  theirs = jax.image.scale_and_translate(
    IMAGE, (*OUTPUT, 2), (0, 1), scale, translation, "linear", antialias=False
  )
  close(warped[1:-1, 1:-1], theirs[1:-1, 1:-1])  # JAX drops what lies outside


# kornia


def kornia_image():
  torch = pytest.importorskip("torch")
  return torch.from_numpy(IMAGE).moveaxis(-1, 0)[None]


def channels_last(images):
  return images[0].moveaxis(0, -1)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", ["zeros", "fill", "reflection"])
def test_kornia_s_warps(ours, padding_mode, align_corners):
  kornia = pytest.importorskip("kornia").geometry.transform
  torch = pytest.importorskip("torch")
  rules = {"padding_mode": padding_mode, "align_corners": align_corners}
  fill = np.array([0.3, 0.6], "f4")
  options = {"fill_value": fill} if padding_mode == "fill" else {}
  theirs = {"fill_value": torch.from_numpy(fill)} if options else {}
  for matrix, function, rows in (
    (AFFINE, kornia.warp_affine, 2),
    (HOMOGRAPHY, kornia.warp_perspective, 3),
  ):
    warped = ours["warp_perspective"](IMAGE, matrix, OUTPUT, **rules, **options)
    expected = function(
      kornia_image(),
      torch.from_numpy(matrix[:rows])[None],
      OUTPUT,
      **rules,
      **theirs,
    )
    close(warped, channels_last(expected), atol=1e-5)


@pytest.mark.parametrize("align_corners", [False, True])
def test_kornia_s_homography_warp(align_corners):
  kornia = pytest.importorskip("kornia").geometry.transform
  torch = pytest.importorskip("torch")
  theirs = kornia.homography_warp(
    kornia_image(),
    torch.from_numpy(HOMOGRAPHY)[None],
    OUTPUT,
    align_corners=align_corners,
  )
  warped = stn.spatial_transform(
    IMAGE,
    stn.from_matrix("projective", HOMOGRAPHY),
    transform="projective",
    output_size=OUTPUT,
    align_corners=align_corners,
  )
  close(warped, channels_last(theirs), atol=1e-5)


@pytest.mark.parametrize("align_corners", [False, True])
def test_kornia_s_remap(ours, align_corners):
  kornia = pytest.importorskip("kornia").geometry.transform
  torch = pytest.importorskip("torch")
  rng = np.random.default_rng(0)
  x, y = rng.uniform(-1, 8, (2, 4, 5)).astype("f4")
  theirs = kornia.remap(
    kornia_image(),
    *(torch.from_numpy(a)[None] for a in (x, y)),
    align_corners=align_corners,
  )
  grid = ours["grid_from_pixels"](
    jnp.stack([x, y], -1), (6, 8), align_corners=True
  )
  warped = stn.grid_sample(IMAGE, grid, align_corners=align_corners)
  close(warped, channels_last(theirs))


def test_kornia_s_splines_agree_at_the_control_points():
  kornia = pytest.importorskip("kornia").geometry.transform
  torch = pytest.importorskip("torch")
  source, target = random_image(6, 2), random_image(6, 2, seed=1)
  a, b = (torch.from_numpy(points)[None] for points in (source, target))
  weights = kornia.get_tps_transform(b, a)
  seen = kornia.warp_points_tps(b, a, *weights)[0]
  tps = stn.get_transform("tps", control_points=target)
  close(tps.apply((source - target).reshape(-1), target), seen, atol=1e-4)


# dm_pix


@borders
def test_dm_pix_s_affine_transform(ours, padding_mode, align_corners, mode):
  dm_pix = pytest.importorskip("dm_pix")
  matrix = np.eye(3, dtype=np.float32)
  matrix[:2, :2] = AFFINE[:2, :2]
  offset = np.append(AFFINE[:2, 2], 0).astype("f4")
  warped = ours["affine_transform"](
    IMAGE, matrix[:2, :2], offset[:2], align_corners, padding_mode=padding_mode
  )
  theirs = dm_pix.affine_transform(
    jnp.asarray(IMAGE), jnp.asarray(matrix), offset=jnp.asarray(offset),
    mode=mode,
  )  # fmt: skip
  if mode == "constant":  # theirs is constant as soon as a point is outside
    rows, columns = np.mgrid[:6, :8]
    points = np.stack([rows, columns], -1) @ matrix[:2, :2].T + offset[:2]
    inside = ((points >= 0) & (points <= [5, 7])).all(-1)
    assert not np.asarray(theirs)[~inside].any()
    warped, theirs = warped[inside], theirs[inside]
  close(warped, theirs)


def test_dm_pix_s_rotate_and_interpolate(ours):
  dm_pix = pytest.importorskip("dm_pix")
  square = jnp.asarray(IMAGE[:, :6])
  options = {"padding_mode": "border"}
  turned = stn.spatial_transform(
    square, np.array([0.4], "f4"), transform="rotation", **options
  )
  close(turned, dm_pix.rotate(square, 0.4))
  volume = random_image(4, 5, 6)
  at = np.random.default_rng(0).uniform(-2, 7, (3, 20)).astype("f4")
  theirs = dm_pix.flat_nd_linear_interpolate(volume, jnp.asarray(at))
  close(ours["map_coordinates"](volume, at, **options), theirs)


# TensorFlow: its formulas, as TensorFlow is not among the tests' needs.


def test_image_projective_transform(ours):
  transform = HOMOGRAPHY.reshape(-1)[:8]
  warped = ours["image_projective_transform"](IMAGE, transform, OUTPUT)
  rows, columns = np.indices(OUTPUT)
  a = transform
  k = a[6] * columns + a[7] * rows + 1
  x = (a[0] * columns + a[1] * rows + a[2]) / k
  y = (a[3] * columns + a[4] * rows + a[5]) / k
  for channel in range(2):
    theirs = scipy.ndimage.map_coordinates(
      IMAGE[..., channel], [y, x], order=1, mode="grid-constant"
    )
    close(warped[..., channel], theirs)


def test_dense_image_warp(ours):
  flow = random_image(6, 8, 2, seed=1) * 4
  warped = ours["dense_image_warp"](IMAGE, flow)
  at = np.indices((6, 8)) - np.moveaxis(flow, -1, 0)
  for channel in range(2):
    theirs = scipy.ndimage.map_coordinates(
      IMAGE[..., channel], at, order=1, mode="nearest"
    )
    close(warped[..., channel], theirs)


# scikit-image


@pytest.mark.parametrize(
  ("padding_mode", "align_corners", "mode"),
  [
    ("zeros", False, "constant"),
    ("border", False, "edge"),
    ("reflection", False, "symmetric"),
    ("reflection", True, "reflect"),
    ("wrap", False, "wrap"),
  ],
)
def test_scikit_image_s_warp(ours, padding_mode, align_corners, mode):
  skimage = pytest.importorskip("skimage.transform")
  tform = skimage.ProjectiveTransform(matrix=HOMOGRAPHY)
  theirs = functools.partial(
    skimage.warp, IMAGE, output_shape=OUTPUT, mode=mode, clip=False
  )
  rules = {"padding_mode": padding_mode, "align_corners": align_corners}
  theta = ours["theta_from_pixels"](HOMOGRAPHY, (6, 8), OUTPUT, align_corners)
  for order, method in ((1, "linear"), (3, "cubic")):
    warped = stn.spatial_transform(
      IMAGE,
      theta,
      transform="projective",
      output_size=OUTPUT,
      method=method,
      **rules,
    )
    close(warped, theirs(tform, order=order), atol=1e-5)
  if not align_corners:
    warped = ours["warp_by"](IMAGE, tform, OUTPUT, padding_mode=padding_mode)
    close(warped, theirs(lambda points: tform(points)), atol=1e-5)


def test_scikit_image_s_spline(ours):
  skimage = pytest.importorskip("skimage.transform")
  source, target = np.asarray(ours["source"]), np.asarray(ours["target"])
  tform = skimage.ThinPlateSplineTransform.from_estimate(source, target)
  theirs = skimage.warp(np.asarray(ours["image"]), tform, clip=False)
  close(ours["bent"], theirs, atol=1e-5)


def test_a_spline_in_pixels_is_scipy_s(ours):
  source, target = np.asarray(ours["source"]), np.asarray(ours["target"])
  spline = scipy.interpolate.RBFInterpolator(
    source, target, kernel="thin_plate_spline"
  )
  pixels = np.random.default_rng(0).uniform(0, 5, (20, 2))
  seen = ours["tps_in_pixels"](source, (6, 8)).apply(
    (target - source).reshape(-1),
    normalised_grid(pixels[:, ::-1], False, (6, 8)),
  )
  close(seen, normalised_grid(spline(pixels)[:, ::-1], False, (6, 8)), 1e-5)
