import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn.training.turns import average_turns

IMAGES = jax.random.uniform(jax.random.key(0), (3, 6, 6, 2))
WEIGHTS = jax.random.normal(jax.random.key(1), (72, 4))


def apply(params, model_state, images, key, train):
  return images.reshape(len(images), -1) @ params, {"seen": images}, "kept"


def test_quarter_turns_are_those_of_numpy():
  outputs, aux, state = average_turns(apply, 4)(
    WEIGHTS, {}, IMAGES, None, False
  )
  turned = [np.rot90(IMAGES, k, axes=(1, 2)) for k in range(4)]
  expected = np.mean([x.reshape(3, -1) @ WEIGHTS for x in turned], axis=0)
  np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
  assert (aux["seen"] == IMAGES).all()
  assert state == "kept"


def test_the_mean_over_a_circle_does_not_depend_on_where_it_begins():
  averaged = average_turns(apply, 8)
  mean = jax.jit(lambda x: averaged(WEIGHTS, {}, x, None, False)[0])
  outputs, turned = mean(IMAGES), mean(jnp.rot90(IMAGES, axes=(1, 2)))
  np.testing.assert_allclose(outputs, turned, rtol=1e-4, atol=1e-4)


def test_turns_within_a_range_are_on_both_sides():
  seen = []

  def see(params, model_state, images, key, train):
    jax.debug.callback(lambda image: seen.append(np.array(image)), images[0])
    return images[:, 0, 0], {}, model_state

  average_turns(see, 3, degrees=270.0)({}, {}, IMAGES, None, False)
  jax.effects_barrier()
  assert len(seen) == 3
  for k in (0, 1, -1):
    expected = np.rot90(IMAGES[0], k)
    assert any(np.allclose(image, expected, atol=1e-4) for image in seen)


def test_one_copy_is_the_image():
  assert average_turns(apply, 1) is apply


def test_what_cannot_be_turned_is_named():
  with pytest.raises(ValueError, match="`turns` must be 1 or more; got 0"):
    average_turns(apply, 0)
  with pytest.raises(ValueError, match=r"`degrees` must be in \(0, 360\]"):
    average_turns(apply, 2, degrees=0.0)
  with pytest.raises(ValueError, match=r"\(=2\) are of images .*\(3, 6, 6\)"):
    average_turns(apply, 2)(WEIGHTS, {}, IMAGES[..., 0], None, False)

  def two(params, model_state, images, key, train):
    return (images, images), {}, model_state

  with pytest.raises(ValueError, match=r"outputs that are an array; got tuple"):
    average_turns(two, 2)(WEIGHTS, {}, IMAGES, None, False)
