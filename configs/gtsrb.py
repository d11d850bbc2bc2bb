r"""German traffic signs (GTSRB), with up to three spatial transformers.

    python -m stn.data.prepare gtsrb --data_dir=DIR
    python train.py --config=configs/gtsrb.py:transformers=3,recipe=augmented \
        --config.data.data_dir=DIR --workdir=runs/gtsrb_3

39,209 images of 43 classes to learn from, 12,630 to test. `transformers` is how
many: none, one at the input, another after the first convolution, a third after
the second. `size=small` has 0.4 million parameters and 32x32 pixels;
`size=large` about 13 million and 48x48 (`prepare gtsrb_48`), in the manner of
Arcos-Garcia et al. (2018, https://doi.org/10.1016/j.neunet.2018.01.005), who
have 99.71 % right with three; humans 98.84 %. Contrast is normalised around
each pixel of the image; between layers, batch normalisation stands for that.

`recipe=augmented` changes the light of what is learned, too, and smooths
labels: more of the test signs are right (docs/real_images.md).

All of train is learned, and the last checkpoint is tested. To choose settings,
`--config.data.validation_size=4000` holds out whole tracks: images of one sign,
a track, look alike.
"""

from configs import common, sweeps


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg, transformers="1", transform="affine", size="small", recipe="adamw"
  )
  size = common.one_of("size", args["size"], "small", "large")
  config = common.get_base()
  config.experiment = "gtsrb"
  config.data.name = "gtsrb" if size == "small" else "gtsrb_48"
  config.data.validation_size = 0
  config.data.hold_out_by = "track"
  config.data.train_distortion = "jitter"
  common.set_staged(config, args["transformers"], args["transform"])
  config.data.contrast = "local"
  config.num_epochs = 10.0
  if size == "large":
    config.model.name = "staged_large"
  if args["recipe"] == "augmented":  # of photographs; common's is of digits
    config.recipe = "augmented"
    config.data.train_distortion = "jitter_light"
    config.task.label_smoothing = 0.1
  else:
    common.set_recipe(config, args["recipe"])
  return config.lock()


def sweep_transformers():
  """How many there are."""
  return sweeps.over("arg.transformers", "0", "1", "2", "3")


def sweep_seeds():
  """Three seeds."""
  return sweeps.seeds(3)
