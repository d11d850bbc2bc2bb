import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_image

from configs.mnist import FEATURES, FEATURES_400K
from stn.models import CNN, FCN, MODELS, create_model

# model -> numbers of parameters with the widths of configs/mnist.py, for images
# of 28x28 (none, R) and of 42x42 (RTS).
PARAMS = {
  "fcn": {28: 118_282, 42: 134_987},
  "cnn": {28: 116_873, 42: 135_421},
  "st_fcn": {28: 116_440, 42: 135_156},
  "st_cnn": {28: 116_696, 42: 136_136},
}
DISTORTION = {28: "r", 42: "rts"}
SIZE = pytest.mark.parametrize("size", [28, 42])
MODEL = pytest.mark.parametrize("name", MODELS)


def shapes(name, size, channels=1, **options):
  """Shapes and dtypes of the outputs and the parameters; nothing is run."""
  features = FEATURES[DISTORTION[size]][name]
  model = create_model(name, 10, features=features, **options)
  x = jax.ShapeDtypeStruct((3, size, size, channels), jnp.float32)
  return jax.eval_shape(model.init_with_output, jax.random.key(0), x)


def test_the_table_has_every_model():
  assert set(PARAMS) == set(MODELS)
  assert all(set(widths) == set(MODELS) for widths in FEATURES.values())


@SIZE
@MODEL
def test_number_of_parameters(name, size):
  _, params = shapes(name, size)
  assert sum(x.size for x in jax.tree.leaves(params)) == PARAMS[name][size]


@pytest.mark.parametrize("name", FEATURES_400K)
def test_number_of_parameters_of_the_larger_models(name):
  model = create_model(name, 10, features=FEATURES_400K[name])
  x = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
  params = jax.eval_shape(model.init, jax.random.key(0), x)
  count = sum(x.size for x in jax.tree.leaves(params))
  assert abs(count - 400_000) < 0.01 * 400_000


@SIZE
def test_models_of_one_distortion_are_equally_large(size):
  counts = [row[size] for row in PARAMS.values()]
  assert max(counts) < 1.05 * min(counts)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@SIZE
@MODEL
def test_outputs_and_dtypes(name, size, dtype):
  (logits, aux), params = shapes(name, size, dtype=dtype)
  assert (logits.shape, logits.dtype) == ((3, 10), jnp.float32)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
  expected = {
    "theta": (3, 1, 6),
    "grid": (3, 1, size, size, 2),
    "warped": (3, size, size, 1),
  }
  assert {key: x.shape for key, x in aux.items()} == (
    expected if name.startswith("st_") else {}
  )
  assert all(x.dtype == jnp.float32 for x in aux.values())


def test_bfloat16_is_the_dtype_of_the_computation():
  """Logits are close to float32's and not the same."""
  x = np.abs(random_image(2, 28, 28, 1))
  exact, rounded = (
    create_model("st_cnn", 10, features=(4, 4), dtype=dtype)
    for dtype in ("float32", "bfloat16")
  )
  params = jax.jit(exact.init)(jax.random.key(0), x)
  logits, _ = jax.jit(exact.apply)(params, x)
  half, aux = jax.jit(rounded.apply)(params, x)
  np.testing.assert_array_equal(aux["warped"], x)
  assert np.any(half != logits)
  np.testing.assert_allclose(half, logits, atol=0.1 * np.abs(logits).max())


@MODEL
def test_options_reach_the_transformer(name):
  options = {"output_size": [30, 31], "num_transformers": 2}
  _, aux = shapes(name, 28, channels=3, **options)[0]
  if name.startswith("st_"):
    assert aux["theta"].shape == (3, 2, 6)
    assert aux["warped"].shape == (3, 30, 31, 6)
  else:
    assert aux == {}


def test_an_untrained_transformer_changes_no_logits():
  """The classifier behind it sees the very image."""
  x = random_image(2, 28, 28, 1)
  model = create_model("st_fcn", 7, features=(6,))
  (logits, aux), params = jax.jit(model.init_with_output)(jax.random.key(0), x)
  classifier = {"params": params["params"]["classifier"]}
  expected, _ = jax.jit(FCN(7, (6,)).apply)(classifier, x)
  np.testing.assert_allclose(logits, expected, atol=1e-6)
  np.testing.assert_array_equal(aux["warped"], x)


def test_fcn_by_hand():
  x = jnp.asarray(random_image(2, 3, 3, 1))
  (logits, _), variables = FCN(3, (5, 4)).init_with_output(jax.random.key(0), x)
  params = variables["params"]
  hidden = x.reshape(2, -1)
  for name in ("Dense_0", "Dense_1"):
    hidden = np.maximum(hidden @ params[name]["kernel"], 0)
  np.testing.assert_allclose(
    logits, hidden @ params["head"]["kernel"], rtol=1e-5, atol=1e-6
  )


def test_cnn_has_the_paper_s_layers():
  """9x9, pool, 7x7, pool, without padding: 28 -> 20 -> 10 -> 4 -> 2."""
  x = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
  params = jax.eval_shape(CNN(10).init, jax.random.key(0), x)["params"]
  kernels = {name: layer["kernel"].shape for name, layer in params.items()}
  assert kernels == {
    "Conv_0": (9, 9, 1, 32),
    "Conv_1": (7, 7, 32, 64),
    "head": (2 * 2 * 64, 10),
  }


@pytest.mark.parametrize(
  ("options", "match"),
  [
    ({"name": "st_cn"}, "`model` .*'cnn', 'fcn', 'st_cnn', 'st_fcn'; got 'st_"),
    (
      {"name": "st_fcn", "transform": "afine"},
      "`transform` .*'affine'.* got 'afine'",
    ),
    ({"dtype": "float16"}, "`dtype` .*'bfloat16', 'float32'; got 'float16'"),
  ],
)
def test_errors_list_the_names(options, match):
  with pytest.raises(ValueError, match=match):
    create_model(**{"name": "cnn", "num_classes": 10, **options})
