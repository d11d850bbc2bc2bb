r"""SIM2MNIST: digits of any rotation, scale and place, in clutter.

    python train.py --config=configs/sim2mnist.py:model=st_cnn_bn \
        --config.data.data_dir=DIR --workdir=runs/sim2mnist
    python train.py --config=configs/sim2mnist.py:data=mnist_5k \
        --workdir=runs/sim2mnist_5k         # needs no data folder

Esteves et al. (2018, https://arxiv.org/abs/1709.01889), section 4: 96x96
pixels, a rotation by any angle, a scale of 1 to 2.4, a place anywhere, clutter;
10,000 digits to learn from. Their clutter and placement are known in part: what
is uncertain are options of the distortion and the composition.
`transform=log_polar` is in the manner of their polar transformer: the centre is
that of a heat map, rotation and scale become shifts of the log-polar map, on
which the classifier convolves around the circle.
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg,
    model="st_cnn_bn",
    transform="similarity",
    data="mnist",
    recipe="adamw",
  )
  config = common.get_base()
  config.experiment = "sim2mnist"
  common.set_data(config, args["data"], small_epochs=8.0)
  if args["data"] == "mnist":
    config.data.train_size = 10_000
    config.num_epochs = 60.0
  config.data.composition = "clutter"
  config.data.distortion = "sim2mnist"
  config.data.eval_batch_size = 200
  config.model.name = args["model"]
  config.model.transform = args["transform"]
  if args["transform"] == "log_polar":
    config.model.centroid = True
    config.model.localisation_options.update({"features": (12, 16, 16)})
    config.model.output_size = (48, 32)  # angles, radii
  elif args["model"].startswith("st_"):
    config.model.localisation = "strided"
    config.model.localisation_options.update(
      {"features": (12, 16, 24), "kernel_size": 5, "stride": 2, "units": (24,)}
    )
    config.model.output_size = (32, 32)
  common.set_recipe(config, args["recipe"])
  return config.lock()
