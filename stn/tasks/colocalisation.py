"""Finding what images have in common, without labels (paper, section 4.4)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from stn.tasks.base import Caption, Spec, Task


def box_of_theta(theta: Float[ArrayLike, "*n 3"]) -> Float[jax.Array, "*n 4"]:
  """The box that an attention transform looks at.

  Args:
    theta: (s, tx, ty) of the family "attention".

  Returns:
    (x0, y0, x1, y1), normalised.

  Example:
    >>> box_of_theta(jnp.array([0.5, 0.25, 0.]))
    Array([-0.25, -0.5 ,  0.75,  0.5 ], dtype=float32)
  """
  theta = jnp.asarray(theta)
  centre, half = theta[..., 1:], jnp.abs(theta[..., :1])
  return jnp.concatenate([centre - half, centre + half], axis=-1)


def intersection_over_union(
  a: Float[ArrayLike, "*n 4"], b: Float[ArrayLike, "*n 4"]
) -> Float[jax.Array, "*n"]:
  """The overlap of boxes (x0, y0, x1, y1), over what they cover together.

  Example:
    >>> box = jnp.array([0., 0., 2., 1.])
    >>> intersection_over_union(box, box + jnp.array([1., 0., 1., 0.])).round(4)
    Array(0.3333, dtype=float32)
  """
  a, b = jnp.asarray(a), jnp.asarray(b)
  low, high = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a, b)[..., 2:]
  both = jnp.maximum(high - low, 0).prod(axis=-1)
  areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (a, b)]
  return both / (areas[0] + areas[1] - both)


def _head(spec: Spec) -> tuple[int, ...]:
  if "box" not in spec.example:
    raise ValueError(
      "`task` colocalisation needs the field 'box', to tell what was found; "
      f"the examples have {sorted(spec.example)}."
    )
  return ()


def _iou(outputs, batch):
  return intersection_over_union(box_of_theta(outputs["theta"]), batch["box"])


def standardise(
  codes: Float[ArrayLike, "k n f"], weight: Float[ArrayLike, " n"]
) -> Float[jax.Array, "k n f"]:
  """Codes of mean 0 over a batch, whose mean square norm is 1.

  Args:
    codes: K codes of each example.
    weight: of the examples; those of weight 0 have no influence.

  Returns:
    For each of the F numbers, the mean over all codes is subtracted and the
    standard deviation divided by, then all by sqrt(F). Codes that are all the
    same remain so.
  """
  codes = jnp.asarray(codes, jnp.float32)
  weight = jnp.asarray(weight, jnp.float32)
  weight = (weight / jnp.maximum(weight.sum(), 1) / len(codes))[:, None]
  codes -= (weight * codes).sum(axis=(0, 1))
  variance = (weight * codes**2).sum(axis=(0, 1))
  return codes * jax.lax.rsqrt((variance + 1e-6) * codes.shape[-1])


def _losses(
  found: jax.Array, random: jax.Array, weight: jax.Array, margin: float
) -> jax.Array:
  found, random = standardise(jnp.stack([found, random]), weight)
  squares = (found**2).sum(axis=1)
  apart = (
    squares[:, None]
    + squares[None]
    - 2 * jnp.matmul(found, found.T, precision="highest")
  )
  away = ((found - random) ** 2).sum(axis=1)
  hinge = jax.nn.relu(apart - away[:, None] + margin)
  others = weight * (1 - jnp.eye(len(found)))
  return (hinge * others).sum(axis=1) / jnp.maximum(others.sum(axis=1), 1)


def colocalisation(*, margin: float = 1.0) -> Task:
  r"""What is common to all images of a batch, none of them labelled.

  Outputs are "found" (N, F), the code of what the spatial transformer cut out,
  "random" (N, F), that of a random crop of the same image, and "theta" (N, 3)
  of an attention transform. What is cut out of two images must be closer than
  either is to a random crop (the paper's section 4.4, a hinge), here over all
  pairs of the batch:

  $$L_n = \sum_{m \ne n} \max(0, |e_n - e_m|^2 - |e_n - r_n|^2 + margin)$$

  divided by the number of the other images. The codes e and r are standardised
  over the batch, which the paper does not say: otherwise the encoder soon maps
  every crop to the same code, where the loss is `margin` and its gradient zero.

  "error" is the share of images whose box overlaps that of the field "box" with
  an intersection over union of 0.5 or less; "iou" its mean.

  Args:
    margin: of the hinge; independent codes have a squared distance of 2.

  Example:
    >>> colocalisation().separable
    False
  """

  def loss(outputs, batch):
    found, random = outputs["found"], outputs["random"]
    weight = batch.get("mask", jnp.ones(len(found)))  # padding, in evaluation
    return _losses(found, random, weight.astype(jnp.float32), margin)

  def answer(outputs, batch):
    overlaps = np.asarray(_iou(outputs, batch))
    return [
      Caption(f"{overlap:.2f}", bool(overlap > 0.5), box)
      for overlap, box in zip(overlaps, np.asarray(batch["box"]), strict=True)
    ]

  return Task(
    head=_head,
    loss=loss,
    metrics={
      # NaN is not found either.
      "error": lambda outputs, batch: ~(_iou(outputs, batch) > 0.5),
      "iou": _iou,
    },
    monitor="error",
    group=lambda batch: batch["label"],
    answer=answer,
    separable=False,
  )
