import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import PADDINGS, families, random_image

import stn

pytestmark = pytest.mark.optimised

ALIGN = pytest.mark.parametrize("align_corners", [False, True])
STATIC = ("output_size", "method", "padding_mode", "align_corners")
warp = jax.jit(stn.spatial_transform, static_argnames=STATIC)


def rotation(angle, scale=1.0):
  cos, sin = scale * np.cos(angle), scale * np.sin(angle)
  return np.array([cos, -sin, 0, sin, cos, 0], np.float32)


# The identity, in one program from theta to the image. All sizes of theta's
# grid alone, and of the sampler alone, are in transforms/test_identity.py and
# sampling/test_kernel_identity.py.
SHORT = ("nearest", "linear")


@pytest.mark.parametrize(
  ("method", "spatial", "align_corners"),
  [
    *((method, (7, 28), False) for method in stn.KERNELS),
    *(
      (method, size, True)
      for method in SHORT
      for size in [(1, 1), (2, 3), (224, 5)]
    ),
  ],
  ids=str,
)
def test_identity_is_bit_exact(spatial, method, align_corners):
  image = random_image(*spatial, 2)
  identity = stn.get_transform("affine").identity
  warped = warp(image, identity, method=method, align_corners=align_corners)
  np.testing.assert_array_equal(warped, image)


@pytest.mark.parametrize(
  ("name", "padding_mode"),
  [
    *((name, "zeros") for name in families()),
    *((n, p) for n in ("affine", "tps") for p in PADDINGS if p != "zeros"),
  ],
)
def test_identity_of_every_family_is_bit_exact(name, padding_mode):
  family = stn.get_transform(name)
  image = random_image(5, 7, 2)
  f = functools.partial(
    stn.spatial_transform, transform=family, padding_mode=padding_mode
  )
  for call in (f, jax.jit(f)):
    np.testing.assert_array_equal(call(image, family.identity), image)


# What the parameters do.


@pytest.mark.parametrize(("down", "right"), [(0, 1), (2, 0), (-1, -3)])
def test_a_shift_by_whole_pixels_moves_pixels(down, right):
  image = random_image(4, 5, 2)
  theta = np.array([1, 0, 2 * right / 5, 0, 1, 2 * down / 4], np.float32)
  padded = np.pad(image, [(5, 5), (5, 5), (0, 0)])
  expected = padded[5 + down :, 5 + right :][:4, :5]
  np.testing.assert_allclose(warp(image, theta), expected, atol=1e-6)


@ALIGN
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_is_exact(quarters, align_corners):
  image = random_image(6, 6, 2)
  warped = warp(
    image, rotation(quarters * np.pi / 2), align_corners=align_corners
  )
  np.testing.assert_allclose(warped, np.rot90(image, quarters), atol=1e-5)


@ALIGN
@pytest.mark.parametrize(
  ("theta", "flip"),
  [
    ([-1, 0, 0, 0, 1, 0], lambda a: a[:, ::-1]),
    ([1, 0, 0, 0, -1, 0], lambda a: a[::-1]),
    ([0, 1, 0, 1, 0, 0], lambda a: a.swapaxes(0, 1)),
  ],
  ids=["left-right", "up-down", "transpose"],
)
def test_flips_are_exact(theta, flip, align_corners):
  image = random_image(6, 6, 2)
  theta = np.array(theta, np.float32)
  warped = warp(image, theta, align_corners=align_corners)
  np.testing.assert_array_equal(warped, flip(image))


@pytest.mark.parametrize("spatial", [(6,), (2, 3, 4)], ids=str)
def test_lines_and_volumes(spatial):
  image = random_image(*spatial, 2)
  theta = -stn.get_transform("affine", ndim=len(spatial)).identity
  np.testing.assert_array_equal(
    warp(image, theta), np.flip(image, range(len(spatial)))
  )


@pytest.mark.parametrize("output_size", [(3, 9), [1, 1]], ids=str)
def test_it_is_the_grid_then_the_sampler(output_size):
  image, theta = random_image(4, 5, 2), rotation(0.4, 1.3)
  options = {"align_corners": True}
  warped = stn.spatial_transform(
    image,
    theta,
    output_size=output_size,
    method="nearest",
    padding_mode="border",
    **options,
  )
  assert warped.shape == (*output_size, 2)
  grid = stn.transform_grid("affine", theta, output_size, **options)
  expected = stn.grid_sample(
    image, grid, method="nearest", padding_mode="border", **options
  )
  np.testing.assert_array_equal(warped, expected)


def test_a_transform_is_as_good_as_its_name():
  image, theta = random_image(4, 5, 2), rotation(0.4, 1.3)
  np.testing.assert_array_equal(
    stn.spatial_transform(image, theta, transform=stn.get_transform("affine")),
    stn.spatial_transform(image, theta, transform="affine"),
  )


@pytest.mark.parametrize(
  ("dtype", "expected"),
  [("bfloat16", "bfloat16"), ("uint8", "float32"), ("bool", "float32")],
)
def test_dtypes(dtype, expected):
  image = jnp.asarray(random_image(2, 300, 1) > 0, dtype)
  warped = warp(image, stn.get_transform("affine").identity)
  assert warped.dtype == expected
  np.testing.assert_array_equal(warped, image.astype(expected))


# Properties.

ANGLES, SCALES = st.floats(-3.2, 3.2), st.floats(0.8, 1.25)


@hypothesis.given(ANGLES, SCALES)
def test_a_mirrored_image_turns_the_other_way(angle, scale):
  image = random_image(6, 6, 2)
  mirrored = warp(image[:, ::-1], rotation(-angle, scale))
  turned = warp(image, rotation(angle, scale))
  np.testing.assert_allclose(mirrored, turned[:, ::-1], atol=2e-5)


@hypothesis.given(ANGLES, st.permutations(range(3)))
def test_channels_are_warped_alike(angle, order):
  image = random_image(4, 5, 3)
  warped = np.asarray(warp(image, rotation(angle)))
  np.testing.assert_array_equal(
    warp(image[..., order], rotation(angle)), warped[..., order]
  )


def test_vmap_is_a_loop():
  images = random_image(3, 4, 5, 2)
  thetas = np.stack([rotation(angle) for angle in (0.1, 0.5, -2.0)])
  batched = jax.jit(jax.vmap(stn.spatial_transform))(images, thetas)
  for warped, image, theta in zip(batched, images, thetas, strict=True):
    np.testing.assert_allclose(warped, warp(image, theta), atol=2e-6)


# Bad arguments.

IMAGE, THETA = np.zeros((4, 5, 3), np.float32), np.zeros(6, np.float32)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 5, 1)])
def test_the_image_has_1_to_3_spatial_axes(own_errors, shape):
  with pytest.raises(
    ValueError, match=r"`image` must have shape \(\*spatial, C\), 1 to 3"
  ):
    stn.spatial_transform(jnp.zeros(shape), THETA)


@pytest.mark.parametrize("shape", [(2, 3), (12,), ()])
def test_theta_fits_the_transform(own_errors, shape):
  with pytest.raises(ValueError, match=r"`theta` must have shape \(6,\); got"):
    stn.spatial_transform(IMAGE, jnp.zeros(shape))


def test_theta_is_floating(own_errors):
  with pytest.raises(TypeError, match="`theta` must have a floating dtype"):
    stn.spatial_transform(IMAGE, THETA.astype(np.int32))


def test_the_image_is_real(own_errors):
  with pytest.raises(TypeError, match="`image` must be real"):
    stn.spatial_transform(IMAGE.astype(np.complex64), THETA)


@pytest.mark.parametrize(
  ("size", "error"),
  [((2, 0), ValueError), ((2, -1), ValueError), ((2.5, 2), TypeError)],
)
def test_the_output_size_is_positive_ints(own_errors, size, error):
  with pytest.raises(error, match="`output_size` must be 2 positive"):
    stn.spatial_transform(IMAGE, THETA, output_size=size)


@pytest.mark.parametrize("size", [(2,), (2, 2, 2)])
def test_the_output_has_as_many_axes_as_the_image(own_errors, size):
  theta = stn.get_transform("affine", ndim=len(size)).identity
  with pytest.raises(ValueError, match="`output_size` must be 2 positive"):
    stn.spatial_transform(IMAGE, theta, output_size=size)


@pytest.mark.parametrize(
  ("argument", "value"),
  [
    ("transform", "afine"),
    ("method", "linaer"),
    ("padding_mode", "zero"),
    ("implementation", "xlaa"),
  ],
)
def test_unknown_names_get_a_hint(own_errors, argument, value):
  with pytest.raises(
    ValueError, match=rf"`{argument}` must be one of .*Did you mean"
  ):
    stn.spatial_transform(IMAGE, THETA, **{argument: value})
