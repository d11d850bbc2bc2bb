"""The convolution with a fast gradient is the convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from stn.models import layers


def _reference(x, kernel):
  return lax.conv_general_dilated(
    x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def _draw(shape, seed):
  return jax.random.normal(jax.random.key(seed), shape)


SHAPES = [
  ((2, 7, 6, 3), (3, 2, 3, 4)),
  ((1, 5, 5, 1), (5, 5, 1, 2)),
  ((3, 4, 4, 2), (1, 1, 2, 3)),
]


@pytest.mark.parametrize(("x_shape", "kernel_shape"), SHAPES)
def test_values_and_both_gradients_are_those_of_lax(x_shape, kernel_shape):
  x, kernel = _draw(x_shape, 0), _draw(kernel_shape, 1)
  value, vjp = jax.vjp(layers.conv_valid, x, kernel)
  expected, expected_vjp = jax.vjp(_reference, x, kernel)
  np.testing.assert_array_equal(value, expected)
  cotangent = _draw(value.shape, 2)
  for ours, theirs in zip(vjp(cotangent), expected_vjp(cotangent), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_under_jit_vmap_and_a_second_gradient():
  x, kernel = _draw((2, 2, 6, 6, 2), 0), _draw((3, 3, 2, 3), 1)

  def penalty(conv, x):
    grad = jax.grad(lambda x: jnp.sin(conv(x, kernel)).sum())
    return (grad(x) ** 2).sum()

  def second(conv):
    return jax.jit(jax.vmap(jax.grad(lambda x: penalty(conv, x))))(x)

  np.testing.assert_allclose(
    second(layers.conv_valid), second(_reference), rtol=1e-3, atol=1e-3
  )


def test_bfloat16_stays_bfloat16():
  x = _draw((1, 5, 5, 2), 0).astype(jnp.bfloat16)
  kernel = _draw((3, 3, 2, 2), 1).astype(jnp.bfloat16)
  value, vjp = jax.vjp(layers.conv_valid, x, kernel)
  assert {value.dtype, *(g.dtype for g in vjp(value))} == {x.dtype}


def test_only_a_cpu_takes_the_input_gradient_by_matrix_products():
  grad = jax.jit(
    jax.grad(lambda x, k: layers.conv_valid(x, k).sum(), argnums=0)
  )
  shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in SHAPES[0]]

  def lowered(platform):
    exported = jax.export.export(grad, platforms=[platform])(*shapes)
    return exported.mlir_module()

  assert "stablehlo.dot_general" in lowered("cpu")
  for platform in ("cuda", "tpu"):
    assert "stablehlo.dot_general" not in lowered(platform)
    assert "stablehlo.convolution" in lowered(platform)


def test_a_flax_module_of_it_has_the_parameters_of_any_other():
  x = _draw((1, 6, 6, 2), 0)
  ours = layers.valid_conv(3, 4)
  import flax.linen as nn

  theirs = nn.Conv(3, (4, 4), padding="VALID")
  variables = theirs.init(jax.random.key(0), x)
  np.testing.assert_array_equal(
    ours.apply(variables, x), theirs.apply(variables, x)
  )
