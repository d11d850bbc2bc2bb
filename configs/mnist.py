"""Distorted MNIST: the paper's Table 1.

    python train.py --config=configs/mnist.py:distortion=r,model=st_cnn \
        --config.data.data_dir=DIR --workdir=runs/r_st_cnn

Section 4.1 and appendix A.4. `recipe=adamw` (default) is 15 epochs of AdamW
with warm-up and cosine; `recipe=long` 100 epochs of it in batches of 256;
`recipe=paper` the paper's 150,000 steps of plain SGD from learning rate 0.01,
divided by 10 after each third. The paper does not give the widths of its
layers: those of the convolutional networks are read from its "32-64 filters",
the others chosen so that all models of one distortion have equal numbers of
parameters within 2 %; `size=400k` has about as many as the paper may have. Nor
does it say how much slower its localisation nets learn:
`optim.localisation_lr` is 1 in its recipe. Results and times are in README.md
and results/.
"""

from configs import common

# Widths of the classifier by distortion (28x28 or 42x42 pixels) and model:
# about 117,000 parameters on 28x28 pixels, 135,000 on 42x42 ...
FEATURES = {
  "none": {
    "fcn": (128, 128),
    "cnn": (32, 71),
    "st_fcn": (104, 64),
    "st_cnn": (32, 64),
  },
  "rts": {
    "fcn": (73, 73),
    "cnn": (32, 73),
    "st_fcn": (42, 42),
    "st_cnn": (32, 64),
  },
}
FEATURES["r"] = FEATURES["none"]

# ... and 400,000 on 28x28, which may be what the paper has.
FEATURES_400K = {"cnn": (64, 124), "st_cnn": (64, 120)}


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg,
    distortion="r",
    model="st_cnn",
    transform="affine",
    recipe="adamw",
    size="117k",
  )
  config = common.get_base()
  config.data.name = "mnist"
  config.data.distortion = args["distortion"]
  config.data.validation_size = 5000
  config.model.name = args["model"]
  config.model.transform = args["transform"]
  widths = FEATURES.get(args["distortion"], {})
  if args["size"] == "400k":
    if args["model"] not in FEATURES_400K or args["distortion"] == "rts":
      raise ValueError("`size=400k` is for cnn and st_cnn on 28x28 pixels.")
    widths = FEATURES_400K
  elif args["size"] != "117k":
    raise ValueError(f"`size` must be 117k or 400k; got {args['size']!r}.")
  config.model.features = widths.get(args["model"], ())
  config.recipe = args["recipe"]
  config.log_every = 100
  config.eval_every = 1000
  if args["recipe"] == "paper":
    config.data.batch_size = 256
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.01
    config.optim.schedule = "step"
    config.optim.weight_decay = 0.0
    config.optim.clip_norm = 0.0
    config.optim.localisation_lr = 1.0
    config.num_steps = 150_000
    config.log_every = 1000
    config.eval_every = 10_000
  elif args["recipe"] == "long":
    config.data.batch_size = 256
    config.num_epochs = 100.0
  elif args["recipe"] != "adamw":
    raise ValueError(
      f"`recipe` must be adamw, long or paper; got {args['recipe']!r}."
    )
  return config.lock()
