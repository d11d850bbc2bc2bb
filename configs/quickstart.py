"""Quickstart: 5,000 real MNIST digits, rotated by -90 to 90 degrees.

    python train.py --config=configs/quickstart.py --workdir=runs/st_cnn
    python train.py --config=configs/quickstart.py:model=cnn --workdir=runs/cnn

needs no network and no data folder, and takes about a minute on two CPU cores.
The two models have equal numbers of parameters (within 1 %).
"""

from configs import common
from configs.mnist import FEATURES_28


def get_config(arg: str = ""):
  """Returns the config; `arg` may name model and transform."""
  args = common.parse_arg(arg, model="st_cnn", transform="affine")
  config = common.get_base()
  config.experiment = "quickstart"
  common.set_data(config, "mnist_5k")
  config.data.distortion = "r"
  config.model.name = args["model"]
  config.model.transform = args["transform"]
  config.model.features = FEATURES_28.get(args["model"], ())
  config.optim.localisation_lr = 1.0
  return config.lock()
