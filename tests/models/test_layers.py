import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn.models.layers import average_pool_2x2, max_pool_2x2

SHAPES = pytest.mark.parametrize(
  "shape", [(2, 4, 6, 3), (1, 2, 2, 1), (2, 7, 5, 2), (1, 3, 8, 1)], ids=str
)
POOLS = pytest.mark.parametrize(
  ("pool", "reference"),
  [(max_pool_2x2, nn.max_pool), (average_pool_2x2, nn.avg_pool)],
  ids=["max", "average"],
)


def without_ties(shape):
  """Negative and positive, no two equal."""
  size = np.prod(shape)
  values = np.random.default_rng(0).permutation(size) - size / 2
  return jnp.asarray(values.reshape(shape), jnp.float32)


@SHAPES
@POOLS
def test_values_are_those_of_flax(pool, reference, shape):
  x = without_ties(shape)
  expected = reference(x, (2, 2), strides=(2, 2))
  pooled = pool(x)
  assert pooled.shape == (shape[0], shape[1] // 2, shape[2] // 2, shape[3])
  np.testing.assert_allclose(pooled, expected, rtol=1e-6)


@SHAPES
@POOLS
def test_gradients_are_those_of_flax(pool, reference, shape):
  x = without_ties(shape)
  pooled, vjp = jax.vjp(pool, x)
  cotangent = np.random.default_rng(1).normal(size=pooled.shape)
  cotangent = cotangent.astype(np.float32)
  _, flax_vjp = jax.vjp(lambda x: reference(x, (2, 2), strides=(2, 2)), x)
  np.testing.assert_allclose(
    vjp(cotangent)[0], flax_vjp(cotangent)[0], rtol=1e-6
  )


@POOLS
def test_ties_share_a_gradient_that_sums_to_one(pool, reference):
  del reference
  gradient = jax.grad(lambda x: pool(x).sum())(jnp.ones((1, 2, 2, 1)))
  assert gradient.sum() == 1


@POOLS
def test_the_dtype_stays(pool, reference):
  del reference
  x = jnp.ones((1, 2, 2, 1), jnp.bfloat16)
  assert pool(x).dtype == jnp.bfloat16
