r"""House numbers of up to five digits (SVHN): the paper's section 4.2.

    python -m stn.data.prepare svhn_64 --data_dir=DIR
    python train.py --config=configs/svhn.py:transformers=multi \
        --config.data.data_dir=DIR --workdir=runs/svhn_multi

235,755 photographs to learn from (train and extra), 13,068 to test, cropped
around the number: `size=64`, or `size=128` with twice as much around it. Each
of five places has a softmax over ten digits and "none"; the error is the share
of numbers with any place wrong. `transformers` is none, single (at the input)
or multi (before each of the first four convolutions). The paper's errors on 64
and 128 pixels: 4.0 and 5.6 % without, 3.7 and 3.9 % single, 3.6 and 3.9 %
multi; its localisation nets learn at a tenth of the rate. For GPUs.

    python train.py --config=configs/svhn.py:data=synthetic \
        --workdir=runs/numbers              # needs no data folder

`data=synthetic` is its small relative, for two CPU cores: one to three
handwritten digits in a row on a photograph, and narrower layers.
"""

from configs import common

PLACES = {"none": (), "single": (0,), "multi": (0, 1, 2, 3)}

# Filters of eight convolutions, and units.
SYNTHETIC_FEATURES = (8, 16, 16, 24, 24, 32, 32, 32, 128, 128)


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg,
    transformers="multi",
    transform="affine",
    size="64",
    data="svhn",
    recipe="adamw",
  )
  places = PLACES[common.one_of("transformers", args["transformers"], *PLACES)]
  size = common.one_of("size", args["size"], "64", "128")
  data = common.one_of("data", args["data"], "svhn", "synthetic")
  config = common.get_base()
  config.experiment = "svhn"
  config.task.update({"name": "sequence", "blank": 10})
  config.data.contrast = "global"
  config.model.name = "house_numbers"
  config.model.transform = args["transform"]
  config.model.places = places
  config.optim.localisation_lr = 0.1
  config.log_every = 100
  if data == "synthetic":
    _set_synthetic(config, int(size))
  else:
    _set_svhn(config, size)
  common.set_recipe(config, args["recipe"], photographs=True)
  return config.lock()


def _set_svhn(config, size):
  config.data.name = f"svhn_{size}"
  config.data.validation_size = 5000
  config.data.in_memory = size == "64"  # 2.9 GB
  config.data.batch_size = 128
  config.model.dropout = 0.5
  config.num_epochs = 10.0
  config.eval_every = 2000


def _set_synthetic(config, size):
  config.experiment = "numbers"
  config.data.name = "mnist_5k"
  config.data.composition = "numbers"
  config.data.composition_options.size = (size, size)
  config.data.composition_options.lengths = (1, 3)
  config.data.num_threads = 1  # draws ahead of the step
  config.model.features = SYNTHETIC_FEATURES
  config.num_epochs = 20.0
  config.eval_every = 250
