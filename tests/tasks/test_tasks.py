"""Tasks: losses and metrics per example, heads, captions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from stn.tasks import TASKS, Spec, Task, make_task
from stn.tasks.classification import cross_entropy
from stn.tasks.colocalisation import box_of_theta, intersection_over_union

RNG = np.random.default_rng(0)
SIZE = 6


def floats(*shape):
  return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def labels(*shape):
  return jnp.asarray(RNG.integers(0, 3, shape), jnp.int32)


# A batch and outputs of every task.
CASES = {
  "classification": (floats(SIZE, 3), {"label": labels(SIZE)}),
  "sequence": (floats(SIZE, 4, 3), {"label": labels(SIZE, 4)}),
  "regression": (floats(SIZE, 2), {"target": floats(SIZE, 2)}),
  "colocalisation": (
    {
      "found": floats(SIZE, 5),
      "random": floats(SIZE, 5),
      "theta": jnp.abs(floats(SIZE, 3)),
    },
    {
      "label": labels(SIZE),
      "box": jnp.tile(jnp.array([-0.5, -0.5, 0.5, 0.5]), (SIZE, 1)),
    },
  ),
}
each_task = pytest.mark.parametrize("name", TASKS)


def test_every_task_has_a_case_here():
  assert set(CASES) == set(TASKS)


@each_task
def test_loss_and_metrics_are_numbers_per_example(name):
  task = make_task(name)
  outputs, batch = CASES[name]
  loss = task.loss(outputs, batch)
  assert (loss.shape, loss.dtype) == ((SIZE,), jnp.float32)
  for metric in task.metrics.values():
    values = metric(outputs, batch)
    assert values.shape == (SIZE,)
    assert values.dtype in (bool, jnp.float32)
  assert task.monitor in task.metrics


@each_task
def test_the_loss_has_finite_gradients(name):
  outputs, batch = CASES[name]
  grads = jax.grad(lambda o: make_task(name).loss(o, batch).sum())(outputs)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@each_task
def test_the_loss_of_an_example_is_its_own_if_the_task_is_separable(name):
  task = make_task(name)
  outputs, batch = CASES[name]
  whole = task.loss(outputs, batch)
  half = jax.tree.map(lambda x: x[:3], (outputs, batch))
  same = np.allclose(task.loss(*half), whole[:3], rtol=1e-5)
  assert same == task.separable


@each_task
def test_there_is_a_caption_for_every_example(name):
  outputs, batch = jax.device_get(CASES[name])
  captions = make_task(name).answer(outputs, batch)
  assert len(captions) == SIZE
  assert all(caption.text for caption in captions)


def test_cross_entropy_is_the_negative_log_softmax():
  logits, batch = CASES["classification"]
  log_softmax = scipy.special.log_softmax(np.asarray(logits, float), axis=1)
  expected = -log_softmax[np.arange(SIZE), batch["label"]]
  np.testing.assert_allclose(
    cross_entropy(logits, batch["label"]), expected, rtol=1e-5, atol=1e-6
  )


def test_smoothed_labels_are_optax_s():
  logits, batch = CASES["classification"]
  one_hot = jax.nn.one_hot(batch["label"], logits.shape[1])
  expected = optax.softmax_cross_entropy(
    logits, optax.smooth_labels(one_hot, 0.2)
  )
  task = make_task("classification", label_smoothing=0.2)
  np.testing.assert_allclose(task.loss(logits, batch), expected, rtol=1e-5)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan"), "0.1"])
def test_a_share_of_smoothing_is_checked(own_errors, share):
  with pytest.raises(ValueError, match="`task.label_smoothing` must be a num"):
    make_task("classification", label_smoothing=share)


def test_cross_entropy_of_huge_logits_is_finite():
  logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])
  losses = cross_entropy(logits, jnp.array([0, 1]))
  np.testing.assert_allclose(losses, [0, 2e4])


def test_a_classification_is_wrong_where_the_largest_logit_is_another_s():
  task = make_task("classification")
  logits, batch = jnp.eye(3), {"label": jnp.array([0, 1, 0])}
  assert task.metrics["error"](logits, batch).tolist() == [False, False, True]
  texts = [caption.text for caption in task.answer(logits, batch)]
  assert texts == ["0 ✓", "1 ✓", "2 ✗ (0)"]


def test_a_sequence_is_wrong_if_any_place_is():
  task = make_task("sequence", blank=2)
  outputs = jnp.eye(3)[jnp.array([[0, 1, 2], [0, 1, 1]])]
  batch = {"label": jnp.array([[0, 1, 2], [0, 1, 2]])}
  assert task.metrics["error"](outputs, batch).tolist() == [False, True]
  np.testing.assert_allclose(
    task.metrics["place_error"](outputs, batch), [0, 1 / 3], rtol=1e-6
  )
  answers = task.answer(outputs, jax.device_get(batch))
  assert [(a.text, a.correct) for a in answers] == [
    ("01", True),
    ("011 ✗ (01)", False),
  ]


@pytest.mark.parametrize("huber", [None, 0.5])
def test_a_regression_by_hand(huber):
  outputs, batch = jnp.array([[1.0, 0.0]]), {"target": jnp.array([[0.0, 0.2]])}
  task = make_task("regression", huber=huber)
  large = 0.5 if huber is None else 0.5 * (1 - 0.25)
  np.testing.assert_allclose(
    task.loss(outputs, batch), [large + 0.02], rtol=1e-6
  )
  np.testing.assert_allclose(
    task.metrics["rmse"](outputs, batch), [np.sqrt(1.04 / 2)], rtol=1e-6
  )


@pytest.mark.parametrize("huber", [0.0, -1.0])
def test_a_bound_of_huber_is_positive(huber):
  with pytest.raises(ValueError, match="`task.huber` must be None or a pos"):
    make_task("regression", huber=huber)


def test_an_intersection_over_union_by_hand():
  a = jnp.array([0.0, 0.0, 2.0, 2.0])
  others = jnp.array(
    [[0, 0, 2, 2], [1, 1, 3, 3], [3, 3, 4, 4], [0, 0, 1, 1]], jnp.float32
  )
  got = intersection_over_union(jnp.broadcast_to(a, others.shape), others)
  np.testing.assert_allclose(got, [1, 1 / 7, 0, 1 / 4], rtol=1e-6)


def test_the_box_of_an_attention_is_what_it_looks_at():
  import stn

  theta = jnp.array([0.5, 0.25, -0.1])
  grid = stn.transform_grid("attention", theta, (3, 3), align_corners=True)
  box = box_of_theta(theta)
  np.testing.assert_allclose(box[:2], grid[0, 0], atol=1e-6)
  np.testing.assert_allclose(box[2:], grid[-1, -1], atol=1e-6)


def test_co_localisation_is_satisfied_by_equal_codes_far_from_random_ones():
  task = make_task("colocalisation", margin=1.0)
  found = jnp.ones((4, 5))
  outputs = {"found": found, "random": found + 0.1}
  np.testing.assert_allclose(task.loss(outputs, {}), 0, atol=1e-6)
  outputs = {"found": found, "random": found}  # the encoder has collapsed
  np.testing.assert_allclose(task.loss(outputs, {}), 1, rtol=1e-6)


def test_co_localisation_by_hand():
  codes = np.random.default_rng(7).normal(2.0, 3.0, (2, 4, 5))
  outputs = dict(zip(("found", "random"), jnp.asarray(codes), strict=True))
  codes = (codes - codes.mean(axis=(0, 1))) / codes.std(axis=(0, 1)) / 5**0.5
  found, random = codes
  expected = [
    np.mean(
      [
        max(
          0,
          ((found[n] - found[m]) ** 2).sum()
          - ((found[n] - random[n]) ** 2).sum()
          + 0.7,
        )
        for m in range(4)
        if m != n
      ]
    )
    for n in range(4)
  ]
  got = make_task("colocalisation", margin=0.7).loss(outputs, {})
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_a_box_of_nan_is_not_found():
  task = make_task("colocalisation")
  batch = {"box": jnp.array([[-0.5, -0.5, 0.5, 0.5]])}
  for scale, wrong in ((0.5, False), (jnp.nan, True)):
    outputs = {"theta": jnp.array([[scale, 0.0, 0.0]])}
    assert task.metrics["error"](outputs, batch).tolist() == [wrong]


def test_co_localisation_ignores_padding():
  outputs = {name: floats(SIZE, 5) * 3 for name in ("found", "random")}
  outputs["random"] += 1
  task = make_task("colocalisation")
  some = task.loss(jax.tree.map(lambda x: x[:4], outputs), {})
  padded = task.loss(outputs, {"mask": jnp.arange(SIZE) < 4})
  np.testing.assert_allclose(padded[:4], some, rtol=1e-5)
  assert (task.loss(outputs, {})[:4] != some).any()


@pytest.mark.parametrize(
  ("name", "spec", "message"),
  [
    ("classification", Spec({}, 0), "2 or more classes; got 0"),
    ("sequence", Spec({}, 10), r"labels of shape \(length,\).*got labels None"),
    ("regression", Spec({}, 0), r"field 'target'; the examples have \[\]"),
    ("colocalisation", Spec({}, 0), "field 'box'"),
  ],
)
def test_data_that_do_not_fit_the_task_are_refused(name, spec, message):
  with pytest.raises(ValueError, match=message):
    make_task(name).head(spec)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("classify", {}, "`task.name` must be one of 'classification'"),
    ("colocalisation", {"margn": 2}, "option of task.*Did you mean 'margin'"),
  ],
)
def test_a_wrong_name_says_what_is_right(name, options, message):
  with pytest.raises(ValueError, match=message):
    make_task(name, **options)


def test_a_monitor_that_is_no_metric_is_refused():
  with pytest.raises(
    ValueError, match=r"'loss' or one of \['error'\]; got 'e'"
  ):
    Task(
      head=lambda spec: (),
      loss=lambda outputs, batch: outputs,
      metrics={"error": lambda outputs, batch: outputs},
      monitor="e",
    )
