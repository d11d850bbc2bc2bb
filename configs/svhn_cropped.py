r"""House numbers, one digit an image (svhn_cropped), with spatial transformers.

    python -m stn.data.prepare svhn_cropped --data_dir=DIR
    python train.py --config=configs/svhn_cropped.py:transformers=1 \
        --config.data.data_dir=DIR --workdir=runs/svhn_cropped

73,257 images of 32x32 pixels to learn from, of which 6,000 choose the
checkpoint, and 26,032 to test; parts of the neighbouring digits are seen at the
sides. `transformers` is how many: none, one at the input, another after the
first convolution, a third after the second, as in configs/gtsrb.py. For full
numbers, which the paper has, see configs/svhn.py.
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg, transformers="1", transform="affine", recipe="adamw"
  )
  config = common.get_base()
  config.experiment = "svhn_cropped"
  config.data.name = "svhn_cropped"
  config.data.validation_size = 6000
  common.set_staged(config, args["transformers"], args["transform"])
  common.set_recipe(config, args["recipe"], photographs=True)
  return config.lock()
