"""The convolution with a fast gradient is the convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

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
  ((2, 5, 11, 3), (2, 3, 3, 4)),  # blocks that do not divide the width
]


@pytest.mark.parametrize(("x_shape", "kernel_shape"), SHAPES)
def test_values_and_both_gradients_are_those_of_lax(x_shape, kernel_shape):
  x, kernel = _draw(x_shape, 0), _draw(kernel_shape, 1)
  alone = jax.jit(layers.conv_valid)(x, kernel)
  np.testing.assert_allclose(alone, _reference(x, kernel), rtol=1e-5)
  cotangent = _draw(alone.shape, 2)

  @functools.partial(jax.jit, static_argnums=0)
  def differentiated(conv, x, kernel, cotangent):
    value, vjp = jax.vjp(conv, x, kernel)
    return value, *vjp(cotangent)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    differentiated(layers.conv_valid, x, kernel, cotangent),
    differentiated(_reference, x, kernel, cotangent),
  )


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


def test_forward_mode():
  x, kernel = _draw((2, 5, 11, 3), 0), _draw((2, 3, 3, 4), 1)
  tangents = _draw(x.shape, 2), _draw(kernel.shape, 3)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    jax.jit(lambda: jax.jvp(layers.conv_valid, (x, kernel), tangents))(),
    jax.jvp(_reference, (x, kernel), tangents),
  )


def test_bfloat16_stays_bfloat16():
  x = _draw((1, 5, 5, 2), 0).astype(jnp.bfloat16)
  kernel = _draw((3, 3, 2, 2), 1).astype(jnp.bfloat16)
  value, vjp = jax.vjp(layers.conv_valid, x, kernel)
  assert {value.dtype, *(g.dtype for g in vjp(value))} == {x.dtype}


def test_only_a_cpu_differentiates_matrix_products():
  grad = jax.jit(jax.grad(lambda x, k: layers.conv_valid(x, k).sum(), (0, 1)))
  shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in SHAPES[0]]

  def lowered(platform):
    exported = jax.export.export(grad, platforms=[platform])(*shapes)
    return exported.mlir_module()

  assert "stablehlo.dot_general" in lowered("cpu")
  assert "stablehlo.convolution" not in lowered("cpu")
  for platform in ("cuda", "tpu"):
    assert "stablehlo.dot_general" not in lowered(platform)
    assert "stablehlo.convolution" in lowered(platform)


def test_a_batch_of_any_size_is_exported_with_its_gradient():
  (n,) = jax.export.symbolic_shape("n")
  kernel = jax.ShapeDtypeStruct((3, 3, 2, 4), jnp.float32)
  exported = jax.export.export(
    jax.jit(jax.grad(lambda k, x: layers.conv_valid(x, k).sum())),
    platforms=["cpu", "cuda"],
  )(kernel, jax.ShapeDtypeStruct((n, 7, 6, 2), jnp.float32))
  x, kernel = _draw((3, 7, 6, 2), 0), _draw((3, 3, 2, 4), 1)
  np.testing.assert_allclose(
    exported.call(kernel, x),
    jax.grad(lambda k: _reference(x, k).sum())(kernel),
    rtol=1e-4,
    atol=1e-4,
  )


def test_images_on_many_devices_stay_there():
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

  def loss(x, kernel):
    return (layers.conv_valid(x, kernel) ** 2).sum()

  text = (
    jax.jit(
      jax.grad(loss, (0, 1)),
      in_shardings=(split, whole),
      out_shardings=(split, whole),
    )
    .lower(jnp.ones((8, 6, 9, 2)), jnp.ones((3, 3, 2, 4)))
    .compile()
    .as_text()
  )
  assert "all-reduce" in text
  assert "all-gather" not in text


def test_a_flax_module_of_it_has_the_parameters_of_any_other():
  x = _draw((1, 6, 6, 2), 0)
  ours = layers.valid_conv(3, 4)
  import flax.linen as nn

  theirs = nn.Conv(3, (4, 4), padding="VALID")
  variables = theirs.init(jax.random.key(0), x)
  np.testing.assert_array_equal(
    ours.apply(variables, x), theirs.apply(variables, x)
  )
