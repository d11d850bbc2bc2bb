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
"""

from configs import common

PLACES = {"none": (), "single": (0,), "multi": (0, 1, 2, 3)}


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg, transformers="multi", transform="affine", size="64", recipe="adamw"
  )
  places = PLACES[common.one_of("transformers", args["transformers"], *PLACES)]
  size = common.one_of("size", args["size"], "64", "128")
  config = common.get_base()
  config.experiment = "svhn"
  config.task.update({"name": "sequence", "blank": 10})
  config.data.name = f"svhn_{size}"
  config.data.validation_size = 5000
  config.data.in_memory = size == "64"  # 2.9 GB
  config.data.contrast = "global"
  config.data.batch_size = 128
  config.model.name = "house_numbers"
  config.model.transform = args["transform"]
  config.model.places = places
  config.model.dropout = 0.5
  config.optim.localisation_lr = 0.1
  config.num_epochs = 10.0
  config.log_every = 100
  config.eval_every = 2000
  common.set_recipe(config, args["recipe"])
  return config.lock()
