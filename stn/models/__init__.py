"""Flax modules: the spatial transformer, localisation nets, networks.

A network is a module `(x, train) -> outputs`, one file each, and one row of
`MODELS` in `stn.models.factory`.
"""

from stn.models.cnn import CNN
from stn.models.cnn_bn import CNNBN
from stn.models.colocaliser import Colocaliser
from stn.models.factory import MODELS, check_name, create_model
from stn.models.fcn import FCN
from stn.models.localisation import (
  LOCALISATIONS,
  ConvLocalisation,
  FCLocalisation,
  MapLocalisation,
  StridedLocalisation,
)
from stn.models.network import Network, is_localisation, to_network
from stn.models.options import Options
from stn.models.part_network import PartNetwork
from stn.models.projection import Projection
from stn.models.resnet import ResNet
from stn.models.spatial_transformer import SpatialTransformer, Warp
from stn.models.st_classifier import STClassifier
from stn.models.staged_cnn import StagedCNN

__all__ = [
  "CNN",
  "CNNBN",
  "FCN",
  "LOCALISATIONS",
  "MODELS",
  "Colocaliser",
  "ConvLocalisation",
  "FCLocalisation",
  "Network",
  "Options",
  "PartNetwork",
  "Projection",
  "ResNet",
  "STClassifier",
  "StagedCNN",
  "SpatialTransformer",
  "MapLocalisation",
  "StridedLocalisation",
  "Warp",
  "check_name",
  "create_model",
  "is_localisation",
  "to_network",
]
