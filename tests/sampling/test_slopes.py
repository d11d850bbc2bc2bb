"""The gradient option: what stays, what changes, and what it is good for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_image, smooth_grid

import stn

RULES = [name for name, rule in stn.GRADIENTS.items() if rule]
each_rule = pytest.mark.parametrize("rule", RULES)
WIDE = stn.linearised_gradient(num_samples=16, sigma=4.0)


# What stays.


@each_rule
@pytest.mark.parametrize("method", ["linear", "cubic_bspline"])
def test_values_and_image_gradients_stay(rule, method):
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (9,), False)

  @functools.partial(jax.jit, static_argnames="gradient")
  def both(image, gradient):
    f = functools.partial(
      stn.grid_sample, grid=grid, method=method, gradient=gradient
    )
    value, pull = jax.vjp(f, image)
    return value, *pull(jnp.ones_like(value)), jax.jvp(f, (image,), (image,))[1]

  for ours, exact in zip(both(image, rule), both(image, "exact"), strict=True):
    np.testing.assert_allclose(ours, exact, atol=1e-6)


@each_rule
def test_forward_mode_is_reverse_mode(rule):
  image, grid = random_image(4, 5, 2), smooth_grid((4, 5), (9,), False)
  f = jax.jit(lambda g: stn.grid_sample(image, g, gradient=rule).sum(0))
  np.testing.assert_allclose(
    jax.jacfwd(f)(grid), jax.jacrev(f)(grid), atol=1e-5
  )


@each_rule
def test_a_gradient_to_all_at_once(rule):
  """To image, grid and fill value, under vmap and jit, and twice."""
  images = random_image(2, 4, 5, 1)
  grids = np.stack([smooth_grid((4, 5), (6,), False, i) for i in range(2)])

  @jax.jit
  def total(image, grid, fill):
    f = functools.partial(
      stn.grid_sample, padding_mode="fill", fill_value=fill, gradient=rule
    )
    return (jax.vmap(f)(image, grid) ** 2).sum()

  gradients = jax.grad(total, (0, 1, 2))(images, grids, 0.5)
  assert all(np.isfinite(g).all() and np.any(g) for g in gradients)
  second = jax.grad(lambda g: (jax.grad(total, 1)(images, g, 0.5) ** 2).sum())
  assert np.isfinite(second(jnp.asarray(grids))).all()


def test_bfloat16():
  image = jnp.asarray(random_image(4, 5, 2), jnp.bfloat16)
  grid = smooth_grid((4, 5), (9,), False)
  for rule in RULES:

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients_of_total(image, grid, rule=rule):
      warped = stn.grid_sample(image, grid, gradient=rule)
      return warped.astype(jnp.float32).sum()

    gradients = gradients_of_total(image, grid)
    assert [g.dtype for g in gradients] == [jnp.bfloat16, jnp.float32]


# Linearised.


@pytest.mark.parametrize("spatial", [(9,), (8, 9), (7, 8, 9)], ids=str)
def test_linearised_is_exact_for_linear_images(x64, spatial):
  axes = np.meshgrid(*map(np.arange, spatial), indexing="ij")
  image = sum(float(i + 1) * a for i, a in enumerate(axes))[..., None]
  grid = jnp.full((1, len(spatial)), 0.1)
  rule = stn.linearised_gradient(num_samples=12, sigma=0.8)

  def slope(gradient):
    f = functools.partial(stn.grid_sample, image, gradient=gradient)
    return jax.jit(jax.grad(lambda g: f(g).sum()))(grid)

  np.testing.assert_allclose(slope(rule), slope("exact"), rtol=1e-12)


def test_linearised_is_its_closed_form(x64):
  """In 1D: the regression line through samples at the pattern's offsets."""
  image = random_image(30, 1, dtype=np.float64)
  center = 0.03
  offsets = np.array([0.0, 0.67448975, -0.67448975, 0.0])  # quantiles: 1/2, 1/4
  offsets = 2 * offsets / offsets.std()
  values = np.interp(15 * center + 14.5 + offsets, np.arange(30), image[:, 0])
  expected = 15 * np.polyfit(offsets, values, 1)[0]
  rule = stn.linearised_gradient(num_samples=4, sigma=2.0)
  slope = jax.grad(lambda x: stn.grid_sample(image, x[None], gradient=rule)[0])(
    jnp.array(center)
  )
  np.testing.assert_allclose(slope, expected, rtol=1e-7)


@pytest.mark.parametrize("num_samples", [0, 7, -2])
def test_linearised_needs_an_even_number(num_samples):
  with pytest.raises(ValueError, match="`num_samples` must be even .* got"):
    stn.linearised_gradient(num_samples=num_samples)


def test_linearised_needs_enough_samples_and_a_width():
  with pytest.raises(ValueError, match="`sigma` must be positive; got 0"):
    stn.linearised_gradient(sigma=0)
  rule = stn.linearised_gradient(num_samples=4)
  with pytest.raises(ValueError, match="`num_samples` must be more than 4"):
    jax.grad(
      lambda g: stn.grid_sample(random_image(4, 5, 1), g, gradient=rule).sum()
    )(jnp.zeros((1, 2)))


def test_one_rule_is_made_for_each_pair_of_numbers():
  options = {"num_samples": 16, "sigma": 4.0}
  rule = stn.linearised_gradient(**options)
  assert rule is stn.linearised_gradient(**options)


# What they are good for.


def blob(size=28):
  y, x = np.mgrid[:size, :size] - (size - 1) / 2
  ring = np.exp(-(((np.hypot(x, y) - 5) / 1.2) ** 2))
  return jnp.asarray((ring * (x > -3))[..., None], jnp.float32)


def descend(loss, theta, rate, steps):
  """Gradient descent by steps of a fixed length, which shrinks to nothing."""

  @jax.jit
  def run(theta):
    def step(theta, size):
      gradient = jax.grad(loss)(theta)
      norm = jnp.sqrt((gradient**2).sum())
      return theta - size * gradient / jnp.maximum(norm, 1e-12), None

    sizes = jnp.linspace(rate, 0, steps)
    return jax.lax.scan(step, theta, sizes)[0]

  return np.asarray(run(jnp.array(theta)))


@pytest.mark.parametrize("start", [(0.5, -0.5), (-0.6, 0.3)])
def test_linearised_aligns_where_plain_linear_fails(start):
  """7 pixels away: thin strokes that do not touch."""
  image = blob()

  def loss(theta, gradient):
    warped = stn.spatial_transform(
      image, theta, transform="translation", gradient=gradient
    )
    return ((warped - image) ** 2).mean()

  ends = {
    rule: descend(functools.partial(loss, gradient=rule), start, 0.05, 100)
    for rule in ("exact", WIDE)
  }
  assert np.abs(ends["exact"]).max() > 0.3
  assert np.abs(ends[WIDE]).max() < 0.02


@pytest.mark.parametrize("start", [(2.2, 0.4), (-1.0, 40.0), (-3.0, -3.0)])
@pytest.mark.long
def test_multiscale_comes_back_from_outside(start):
  image = blob()

  def loss(theta, gradient):
    warped = stn.spatial_transform(
      image, theta, transform="translation", gradient=gradient
    )
    return -(warped * image).mean()

  lost = jax.grad(loss)(jnp.array(start), "exact")
  assert not np.any(lost)
  end = descend(functools.partial(loss, gradient="multiscale"), start, 0.5, 300)
  assert loss(jnp.asarray(end), "exact") < 0.8 * loss(jnp.zeros(2), "exact")


def test_multiscale_is_exact_inside(x64):
  image = random_image(8, 9, 1, dtype=np.float64)
  grid = smooth_grid((8, 9), (200,), False, dtype=np.float64)

  def slope(gradient):
    f = functools.partial(stn.grid_sample, image, gradient=gradient)
    return jax.jit(jax.grad(lambda g: f(g).sum()))(grid)

  ours, exact = slope("multiscale"), slope("exact")
  pixels = (grid + 1) / 2 * [9, 8] - 0.5
  inside = ((pixels >= 0) & (pixels <= [8, 7])).all(-1)
  assert 10 < inside.sum() < 190
  np.testing.assert_allclose(ours[inside], exact[inside], atol=1e-12)
  assert np.abs(ours[~inside]).min() > 0


def test_a_user_s_rule():
  """Twice the exact slope."""

  def doubled(sample, image, pixels):
    def value(x):
      return sample(image, [x])

    slope = jax.jvp(value, tuple(pixels), (jnp.ones_like(pixels[0]),))[1]
    return [2 * slope]

  image = random_image(6, 1)
  grid = jnp.array([[0.1], [0.5]])

  def slope(gradient):
    f = functools.partial(stn.grid_sample, image, gradient=gradient)
    return jax.grad(lambda g: f(g).sum())(grid)

  np.testing.assert_allclose(slope(doubled), 2 * slope("exact"), rtol=1e-6)


def test_an_unknown_rule():
  with pytest.raises(ValueError, match="`gradient` must be one of 'exact'"):
    stn.grid_sample(random_image(4, 1), jnp.zeros((1, 1)), gradient="exakt")
