r"""Cluttered MNIST: a digit somewhere in 40x40 pixels, among pieces of others.

    python train.py --config=configs/cluttered.py:model=st_cnn \
        --config.data.data_dir=DIR --workdir=runs/cluttered
    python train.py --config=configs/cluttered.py:data=mnist_5k \
        --workdir=runs/cluttered_5k         # needs no data folder

The benchmark of public implementations of spatial transformers, after Mnih et
al. (2014), with 10,000 training examples and 8 pieces of 8x8 pixels; number and
size are `data.composition_options`. Here every example is drawn afresh at every
step.
"""

from configs import common

# Widths of the classifier, for about 130,000 parameters each.
FEATURES = {
  "fcn": (76, 76),
  "cnn": (32, 70),
  "st_fcn": (90, 76),
  "st_cnn": (32, 68),
}


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg, model="st_cnn", transform="affine", data="mnist", recipe="adamw"
  )
  config = common.get_base()
  config.experiment = "cluttered"
  common.set_data(config, args["data"])
  if args["data"] == "mnist":
    config.data.train_size = 10_000
    config.num_epochs = 60.0
  config.data.composition = "clutter"
  config.data.composition_options.update({"number": 8, "size": 8})
  config.data.distortion = "cluttered"
  config.model.name = args["model"]
  config.model.transform = args["transform"]
  config.model.features = FEATURES.get(args["model"], ())
  if args["model"].startswith("st_"):
    config.model.output_size = (28, 28)
  config.optim.localisation_lr = 1.0
  common.set_recipe(config, args["recipe"])
  return config.lock()
