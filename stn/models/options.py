"""What a config may say of a network, whichever it is."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What a config may say of a network of `MODELS`.

  Those of the spatial transformer do nothing for a network without one, so that
  one config serves both.

  Attributes:
    features: widths of the classifier's hidden layers, of a staged network the
      filters of its stages, then the units; () keeps its default.
    classifier_options: of the classifier, attributes of its module, such as
      `global_pool` of `stn.models.CNNBN`.
    dropout: share of what the classifier's last layer sees, dropped in
      training.
    dtype: dtype of the computation, "float32" or "bfloat16". Parameters,
      theta, coordinates and outputs are float32.
    transform: family of the spatial transformer, a name in `stn.TRANSFORMS`, or
      "module:attribute" of a function `make(ndim=..., **options)` of one's own.
    transform_options: of the family, such as `scale` of "translation".
    localisation: its network: a key of `LOCALISATIONS`, "module:attribute" of
      one's own, "shared" for one that shares the classifier's first layers, or
      "" for the network's own.
    localisation_options: of that network.
    output_size: of the spatial transformer; () keeps the input's.
    num_transformers: spatial transformers in parallel; 0 for "parts" without
      any.
    places: of a staged network, the stages before which there is one, from 0;
      `output_size` and `initial_theta` are of that before the first.
    iterations: warps that are composed.
    initial_theta: theta at the start, of all transformers or of each; one
      number, where theta has more, is the scale of what they look at; () is the
      identity.
    centroid: whether the translation is the centroid of a heat map, see
      `stn.models.SpatialTransformer`; "map" is then the localisation network.
    limit: of theta's distance from its start, one number for all of theta or
      one for each; () sets none.
    method: see `stn.grid_sample`, or "module:attribute" of an `stn.Kernel`.
    padding_mode: see `stn.grid_sample`.
    gradient: see `stn.grid_sample`, or "module:attribute" of a rule.
    antialias: where the transformer minifies, "mip" or samples per axis, as
      "2"; "" is none. See `stn.spatial_transform`.
    implementation: of the sampler, see `stn.sampling.implementations`; "" takes
      the fastest.
    trunk: of "parts", the network that describes a part: a key of
      `stn.models.part_network.TRUNKS`, or "module:attribute" of one's own.
    trunk_options: of that network.
    localisation_downsample: of "parts", the localisation network sees the image
      averaged over blocks of so many pixels per axis.
  """

  features: Sequence[int] = ()
  classifier_options: Mapping[str, Any] = dataclasses.field(
    default_factory=dict
  )
  dropout: float = 0.0
  dtype: str = "float32"
  transform: str = "affine"
  transform_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  localisation: str = ""
  localisation_options: Mapping[str, Any] = dataclasses.field(
    default_factory=dict
  )
  output_size: Sequence[int] = ()
  num_transformers: int = 1
  places: Sequence[int] = ()
  iterations: int = 1
  initial_theta: Sequence[float] | Sequence[Sequence[float]] = ()
  centroid: bool = False
  limit: Sequence[float] = ()
  method: str = "linear"
  padding_mode: str = "zeros"
  gradient: str = "exact"
  antialias: str = ""
  implementation: str = ""
  trunk: str = "resnet"
  trunk_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  localisation_downsample: int = 1
