"""Flax modules: the spatial transformer, localisation nets, classifiers.

A new model is one function from options to a module and one row of `MODELS`.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from stn._checks import check_choice
from stn.models.classifiers import CNN, FCN, STClassifier
from stn.models.localisation import ConvLocalisation, FCLocalisation
from stn.models.spatial_transformer import SpatialTransformer
from stn.transforms import get_transform

__all__ = [
  "CNN",
  "FCN",
  "MODELS",
  "ConvLocalisation",
  "FCLocalisation",
  "STClassifier",
  "SpatialTransformer",
  "create_model",
]

# name -> (classifier, localisation net of the spatial transformer before it)
MODELS = {
  "fcn": (FCN, None),
  "cnn": (CNN, None),
  "st_fcn": (FCN, FCLocalisation),
  "st_cnn": (CNN, ConvLocalisation),
}

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def create_model(
  name: str,
  num_classes: int,
  *,
  transform: str = "affine",
  features: Sequence[int] = (),
  output_size: Sequence[int] = (),
  num_transformers: int = 1,
  dtype: str = "float32",
) -> nn.Module:
  """Makes a model of the paper by name.

  Args:
    name: a key of `MODELS`.
    num_classes: number of logits.
    transform: family of the spatial transformer, a name in `stn.TRANSFORMS`.
      This and the next two do nothing for a model without one.
    features: widths of the classifier's hidden layers; () keeps its default.
    output_size: (H', W') of the spatial transformer; () keeps the input's.
    num_transformers: spatial transformers in parallel.
    dtype: dtype of the computation, "float32" or "bfloat16". Parameters,
      theta, coordinates and logits are float32.

  Returns:
    A module (N, H, W, C) -> `logits, aux`.

  Raises:
    ValueError: if a name is unknown.

  Example:
    >>> create_model("st_cnn", 10).classifier.features
    (32, 64)
  """
  check_choice("model", name, MODELS)
  check_choice("dtype", dtype, DTYPES)
  make_classifier, make_localisation = MODELS[name]
  options = {"features": tuple(features)} if features else {}
  classifier = make_classifier(num_classes, dtype=DTYPES[dtype], **options)
  if make_localisation is None:
    return classifier
  get_transform(transform)  # a wrong name should not wait for `init`
  transformer = SpatialTransformer(
    make_localisation(dtype=DTYPES[dtype]),
    transform=transform,
    output_size=tuple(output_size) or None,
    num_transformers=num_transformers,
  )
  return STClassifier(transformer, classifier)
