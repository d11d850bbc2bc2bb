"""In how many parts a batch is differentiated on CPUs."""

import jax
import jax.numpy as jnp
import pytest

from configs import mnist
from stn.models import create_model, to_network
from stn.training import parts as parts_lib


@pytest.mark.parametrize(
  ("batch_size", "parts"), [(64, 1), (71, 1), (150, 3), (256, 4)]
)
def test_parts_are_a_divisor_of_the_batch(batch_size, parts):
  program = jax.make_jaxpr(jnp.sin)(
    jax.ShapeDtypeStruct((batch_size, 10**6), jnp.float32)
  )
  assert parts_lib.num_parts(program, batch_size) == parts


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_parts_do_not_depend_on_the_number_of_devices(devices):
  """Dropout is drawn for each part: its masks must not change either."""
  program = jax.make_jaxpr(jnp.sin)(
    jax.ShapeDtypeStruct((256, 10**6), jnp.float32)
  )
  assert parts_lib.num_parts(program, 256, devices) == 4


@pytest.mark.parametrize(
  ("name", "transform", "parts"),
  [
    ("st_cnn", "affine", 4),
    ("cnn", "affine", 4),
    ("st_fcn", "tps", 4),
    ("st_fcn", "affine", 1),  # writes little
    ("cnn_bn", "affine", 1),  # has XLA's convolutions
  ],
)
def test_what_writes_much_is_differentiated_in_parts(name, transform, parts):
  """256 images of 28x28, with networks as they are."""
  config = mnist.get_config(f"model={name},transform={transform}")
  options = config.model.to_dict()
  network = to_network(create_model(options.pop("name"), (10,), **options))
  x = jax.ShapeDtypeStruct((256, 28, 28, 1), jnp.float32)
  params, state = jax.eval_shape(network.init, jax.random.key(0), x)

  def loss(params, state, x):
    return network.apply(params, state, x, jax.random.key(0), True)[0].sum()

  program = jax.make_jaxpr(jax.grad(loss))(params, state, x)
  assert parts_lib.num_parts(program, 256) == parts
