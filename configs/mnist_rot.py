r"""MNIST-rot's protocol: 12,000 digits to learn from, turned by any angle.

    python train.py --config=configs/mnist_rot.py:model=st_cnn_bn \
        --config.data.data_dir=DIR --workdir=runs/rot
    python train.py --config=configs/mnist_rot.py:data=mnist_5k \
        --workdir=runs/rot_5k               # needs no data folder

Larochelle et al. (2007) rotate 62,000 digits by 0 to 360 degrees, 12,000 for
training, of which 2,000 are for validation, and 50,000 for testing. Their files
are not read here: the protocol is regenerated from MNIST, train and test pooled
and cut anew, so results compare with published ones up to that draw. Every
digit is turned afresh at every step, "with augmentation", or once
(`augmentation=no`).

`transform=log_polar` makes a rotation of the digit a shift along the angles, on
which `st_cnn_bn` convolves around the circle. `recipe=augmented` is 90 epochs
of digits that are bent before they are turned.

On `data=mnist_5k` the same proportions give 967 digits to learn from and 4,032
to test.
"""

from configs import common
from configs.mnist import FEATURES_28


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg,
    model="st_cnn",
    transform="affine",
    augmentation="yes",
    data="mnist",
    recipe="adamw",
  )
  augmentation = common.yes("augmentation", args["augmentation"])
  config = common.get_base()
  config.experiment = "mnist_rot" if augmentation else "mnist_rot_once"
  common.set_data(config, args["data"])
  config.data.resplit = (12_000, 50_000)
  config.data.validation_size = 2000 if args["data"] == "mnist" else 0
  config.num_epochs = 60.0 if args["data"] == "mnist" else 300.0
  config.data.distortion = "rot"
  config.data.redraw = augmentation
  config.model.name = args["model"]
  config.model.transform = args["transform"]
  config.model.features = FEATURES_28.get(args["model"], ())
  config.optim.localisation_lr = 1.0
  if args["transform"] == "log_polar":
    config.model.output_size = (44, 24)  # angles, radii
    config.model.transform_options.max_radius = 1.0  # the edge of the image
  common.set_recipe(config, args["recipe"])
  if args["recipe"] == "augmented":
    config.data.batch_size = 128
    config.num_epochs = 90.0
    if args["model"].endswith("_bn"):
      common.smooth_labels(config)
  return config.lock()
