"""Networks by name: from the options of a config to a Flax module."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from stn._checks import check_choice, check_options, lookup
from stn.models.cnn import CNN
from stn.models.cnn_bn import CNNBN
from stn.models.colocaliser import Colocaliser
from stn.models.fcn import FCN
from stn.models.localisation import (
  LOCALISATIONS,
  ConvLocalisation,
  FCLocalisation,
  MapLocalisation,
  StridedLocalisation,
)
from stn.models.options import Options
from stn.models.part_network import TRUNKS, PartNetwork, tiled
from stn.models.projection import Projection
from stn.models.spatial_transformer import SpatialTransformer
from stn.models.st_classifier import STClassifier
from stn.models.staged_cnn import (
  HOUSE_NUMBERS,
  LARGE,
  SMALL,
  Preset,
  StagedCNN,
)
from stn.transforms import TRANSFORMS, Transform, get_transform

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
_Make = Callable[..., nn.Module]


def _classifier(make: _Make, head: Sequence[int], options: Options, **more):
  check_options("model.classifier", make, options.classifier_options)
  attributes: dict[str, Any] = {
    "dropout": options.dropout,
    "dtype": _DTYPES[options.dtype],
    **({"features": tuple(options.features)} if options.features else {}),
    **more,
    **options.classifier_options,
  }
  return make(head, **attributes)


# Sees a classifier's first layers, not the image.
_on_features = functools.partial(
  StridedLocalisation, (20,), kernel_size=3, stride=1, pool=2, units=(20,)
)


def _localisation(
  default: _Make, options: Options, *, may_share: bool = False
) -> nn.Module:
  make = MapLocalisation if options.centroid else default
  if options.localisation == "shared":
    if not may_share:
      raise ValueError(
        '`model.localisation="shared"` is for a transformer in front of a '
        "classifier: st_fcn, st_cnn, st_cnn_bn."
      )
    make = _on_features
  elif options.localisation:
    make = lookup("model.localisation", options.localisation, LOCALISATIONS)
  more = options.localisation_options
  check_options("model.localisation", make, more)
  return make(dtype=_DTYPES[options.dtype], **more)


def _own(field: str, name: str) -> Any:
  """What "module:attribute" names; any other name as it is, for the sampler."""
  return lookup(f"model.{field}", name, {}) if ":" in name else name


def _family(options: Options, ndim: int) -> Transform:
  make, more = _own("transform", options.transform), options.transform_options
  if isinstance(make, str):
    return get_transform(make, ndim=ndim, **more)
  check_options("model.transform", make, more)
  return make(ndim=ndim, **more)


def _transformer(
  localisation: _Make,
  options: Options,
  *,
  ndim: int = 2,
  may_share: bool = False,
):
  family = _family(options, ndim)  # fails before `init` does
  limit = tuple(options.limit)
  initial = tuple(options.initial_theta)
  if len(initial) == 1 < family.num_params and np.ndim(initial[0]) == 0:
    (initial,) = initial  # a scale
  antialias = options.antialias
  # By its name where that says it all, which errors then quote.
  named = options.transform in TRANSFORMS and not options.transform_options
  return SpatialTransformer(
    _localisation(localisation, options, may_share=may_share),
    transform=options.transform
    if named
    else functools.partial(_family, options),
    output_size=tuple(options.output_size) or None,
    num_transformers=options.num_transformers,
    iterations=options.iterations,
    initial_theta=None if initial == () else initial,
    centroid=options.centroid,
    limit=limit[0] if len(limit) == 1 else limit or None,
    method=_own("method", options.method),
    padding_mode=options.padding_mode,
    gradient=_own("gradient", options.gradient),
    antialias=int(antialias) if antialias.isdecimal() else antialias or None,
    implementation=options.implementation or None,
  )


def _transformed(
  make: _Make, localisation: _Make, head: Sequence[int], options: Options
):
  # The rows of a log-polar map are angles: the first follows the last.
  wraps = make is CNNBN and options.transform == "log_polar"
  return STClassifier(
    _transformer(localisation, options, may_share=True),
    _classifier(make, head, options, **({"wrap_rows": True} if wraps else {})),
    shared=options.localisation == "shared",
  )


def _projection(head: Sequence[int], options: Options):
  return Projection(_classifier(CNN, head, options))


def _st_projection(head: Sequence[int], options: Options):
  localisation = functools.partial(FCLocalisation, (64, 32), downsample=4)
  transformer = _transformer(localisation, options, ndim=3)
  return Projection(_classifier(CNN, head, options), transformer)


def _refuse_unused(model: str, options: Options, *names: str) -> None:
  """Raises ValueError if an option is set that a network does not have."""
  defaults = Options()
  for name in names:
    value, default = getattr(options, name), getattr(defaults, name)
    # A config that was read from JSON has lists.
    if (list(value) != list(default)) if default == () else value != default:
      raise ValueError(f"`model.{name}` is not for {model}; got {value!r}.")


def _staged(preset: Preset, head: Sequence[int], options: Options):
  _refuse_unused("a staged network", options, "classifier_options")
  layers, localisations = preset
  later = dataclasses.replace(options, output_size=(), initial_theta=())
  most = len(localisations)
  if not all(0 <= place < most for place in options.places):
    raise ValueError(
      f"`model.places` must be stages in [0, {most}); got "
      f"{tuple(options.places)}."
    )
  if 0 not in options.places:
    _refuse_unused(
      "a staged network without place 0",
      options,
      "output_size",
      "initial_theta",
    )
  transformers = tuple(
    _transformer(localisation, later if place else options)
    if place in options.places
    else None
    for place, localisation in enumerate(localisations)
  )
  if options.features:
    stages = len(layers.get("features", StagedCNN.features))
    filters, units = options.features[:stages], options.features[stages:]
    layers = {**layers, "features": tuple(filters), "units": tuple(units)}
  return StagedCNN(
    head,
    transformers=transformers,
    dropout=options.dropout,
    dtype=_DTYPES[options.dtype],
    **layers,
  )


def _colocaliser(head: Sequence[int], options: Options):
  del head  # it ends in codes, whatever the data
  if options.transform != "attention":
    raise ValueError(
      "`model.transform` must be attention for colocaliser; got "
      f"{options.transform!r}."
    )
  _refuse_unused(
    "colocaliser",
    options,
    "classifier_options",
    "transform_options",
    "dropout",
    "num_transformers",
    "places",
    "iterations",
    "initial_theta",
    "limit",
    "antialias",
    "implementation",
  )
  sizes: Any = {
    "features": options.features,
    "crop_size": options.output_size,
  }
  return Colocaliser(
    _localisation(StridedLocalisation, options),
    centroid=options.centroid,
    padding_mode=options.padding_mode,
    method=_own("method", options.method),
    gradient=_own("gradient", options.gradient),
    dtype=_DTYPES[options.dtype],
    **{name: size for name, size in sizes.items() if size},
  )


def _parts(head: Sequence[int], options: Options):
  _refuse_unused("parts", options, "features", "classifier_options", "places")
  make = lookup("model.trunk", options.trunk, TRUNKS)
  check_options("model.trunk", make, options.trunk_options)
  more = dict(options.trunk_options)
  if make in TRUNKS.values():
    more = {"dtype": _DTYPES[options.dtype], **more}
  number = options.num_transformers
  transformer = None
  if number:
    family = _family(options, 2)
    start = options.initial_theta
    if not start:
      tiles = tiled(family.identity, family.shift, number)
      start = tuple(map(tuple, tiles.tolist()))
    localisation = functools.partial(
      StridedLocalisation, (16, 32), 5, units=(32,)
    )
    transformer = _transformer(
      localisation, dataclasses.replace(options, initial_theta=start)
    )
  return PartNetwork(
    head,
    trunks=[make(**more) for _ in range(max(number, 1))],
    transformer=transformer,
    downsample=options.localisation_downsample,
    dropout=options.dropout,
  )


MODELS: Mapping[str, Callable[[Sequence[int], Options], nn.Module]] = {
  "fcn": functools.partial(_classifier, FCN),
  "cnn": functools.partial(_classifier, CNN),
  "cnn_bn": functools.partial(_classifier, CNNBN),
  "st_fcn": functools.partial(_transformed, FCN, FCLocalisation),
  "st_cnn": functools.partial(_transformed, CNN, ConvLocalisation),
  "st_cnn_bn": functools.partial(_transformed, CNNBN, ConvLocalisation),
  "projection": _projection,
  "st_projection": _st_projection,
  "colocaliser": _colocaliser,
  "staged": functools.partial(_staged, SMALL),
  "staged_large": functools.partial(_staged, LARGE),
  "house_numbers": functools.partial(_staged, HOUSE_NUMBERS),
  "parts": _parts,
}


def check_name(name: str) -> None:
  """Raises ValueError if there is no network of a name.

  Example:
    >>> check_name("st_cnn")
  """
  lookup("model.name", name, MODELS)


def create_model(name: str, head: Sequence[int], **options: Any) -> nn.Module:
  """Makes a network by name.

  Args:
    name: a key of `MODELS`, or "module:attribute" of a function or module class
      of one's own, which is called as `make(head, **options)`.
    head: shape of one example's outputs, such as (10,).
    **options: the fields of `stn.models.Options`, or those of one's own.

  Returns:
    A module `(x, train) -> outputs`.

  Raises:
    ValueError: if a name is unknown, or there is no such option.

  Example:
    >>> create_model("st_cnn", (10,)).classifier.features
    (32, 64)
  """
  make = lookup("model.name", name, MODELS)
  if make not in MODELS.values():
    check_options("model", make, options)
    return make(tuple(head), **options)
  check_options("model", Options, options)
  values = Options(**options)
  check_choice("model.dtype", values.dtype, _DTYPES)
  return make(tuple(head), values)
