"""Quickstart: 5,000 real MNIST digits, rotated by -90 to 90 degrees.

    python train.py --config=configs/quickstart.py --workdir=runs/st_cnn
    python train.py --config=configs/quickstart.py:model=cnn --workdir=runs/cnn

needs no network and no data folder, and takes about a minute on two CPU cores.
The two models have equal numbers of parameters (within 1 %).
"""

from configs import common, sweeps
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
  common.compose_warps(config)
  return config.lock()


def sweep_seeds():
  """Three seeds."""
  return sweeps.seeds(3)


def sweep_lr():
  """Three learning rates."""
  return sweeps.over("optim.learning_rate", 1e-3, 3e-3, 1e-2)


def sweep_search():
  """A search, which chooses on digits held out of train."""
  yield {
    "data.validation_size": 500,
    "optim.learning_rate": sweeps.log_uniform(5e-4, 2e-2),
    "optim.localisation_lr": sweeps.log_uniform(0.03, 3.0),
    "optim.weight_decay": sweeps.log_uniform(1e-4, 0.3),
    "data.batch_size": sweeps.choice(32, 64, 128),
  }
