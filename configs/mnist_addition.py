r"""MNIST addition: the sum of two digits, each distorted by itself.

    python train.py --config=configs/mnist_addition.py:model=st_fcn \
        --config.data.data_dir=DIR --workdir=runs/addition
    python train.py --config=configs/mnist_addition.py:data=mnist_5k \
        --workdir=runs/addition_5k          # needs no data folder

Section 4.2 and appendix A.2: two channels of 42x42 pixels, each with a digit
under RTS; 19 classes. Two spatial transformers in parallel, each of which sees
both channels and keeps both, and a classifier. `number` is how many. Networks
have about 150,000 parameters each. `model=staged` is a modern one, with batch
normalisation and a hidden layer, which adds up what the two channels say; it
has no transformer with `number=0`.
"""

from configs import common

# Widths of the classifier, by model and number of transformers.
FEATURES = {
  ("fcn", 0): (42, 42),
  ("cnn", 0): (32, 71),
  ("st_fcn", 1): (24, 24),
  ("st_fcn", 2): (28, 28),
  ("st_cnn", 1): (32, 75),
  ("st_cnn", 2): (32, 74),
  ("staged", 0): (32, 48, 64, 64),
  ("staged", 1): (16, 48, 64, 128),
  ("staged", 2): (16, 48, 64, 128),
}


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg,
    model="st_cnn",
    transform="affine",
    number="2",
    data="mnist",
    recipe="adamw",
  )
  config = common.get_base()
  config.experiment = "mnist_addition"
  common.set_data(config, args["data"], small_epochs=30.0)
  config.data.composition = "pairs"
  config.data.distortion = "addition"
  config.model.name = args["model"]
  config.model.transform = args["transform"]
  staged = args["model"] == "staged"
  fewest = ("0",) if staged else ()
  number = int(common.one_of("number", args["number"], *fewest, "1", "2"))
  number = number if staged or args["model"].startswith("st_") else 0
  config.model.num_transformers = max(number, 1)
  config.model.features = FEATURES.get((args["model"], number), ())
  if args["data"] == "mnist_5k" and args["model"].endswith("_bn"):
    config.model.features = (16, 32, 48)  # faster
  if number:
    config.model.output_size = (28, 28)
    config.model.places = (0,) if staged else ()
  if args["model"] == "st_fcn" and number > 1:
    config.model.localisation_options.update({"features": (16, 32, 32)})
  # Two that learn fast never settle.
  config.optim.localisation_lr = 0.3 if staged else 0.1
  common.set_recipe(config, args["recipe"])
  return config.lock()
