r"""Distorted MNIST: the paper's Table 1.

    python train.py --config=configs/mnist.py:distortion=r,model=st_cnn \
        --config.data.data_dir=DIR --workdir=runs/r_st_cnn
    python train.py --config=configs/mnist.py:distortion=tc,data=mnist_5k \
        --workdir=runs/tc                   # needs no data folder

Section 4.1 and appendix A.4. `distortion` is r, rts, p, e, t or tc, each in
stn/data/distortions.py; what the paper leaves open is set by
`data.distortion_options`. `recipe=adamw` (default) is 15 epochs of AdamW with
warm-up and cosine; `recipe=long` 100 epochs of it in batches of 256, with
labels smoothed by 0.1; `recipe=augmented` 60 epochs, of digits that are bent
before they are distorted; `recipe=paper` the paper's 150,000 steps of plain SGD
from learning rate 0.01, divided by 10 after each third.

The paper does not give the widths of its layers: those of the convolutional
networks are read from its "32-64 filters", the others chosen so that its models
have equal numbers of parameters on a canvas, within 2 %; `size=400k` has about
as many as the paper may have. On canvases larger than a digit (rts, t, tc) the
spatial transformer makes 28x28 pixels. `model=cnn_bn` and `st_cnn_bn` are a
modern network, 3x3 convolutions with batch normalisation, with and without a
spatial transformer; its `recipe=augmented` is 25 epochs, with labels smoothed
by 0.1 and no dropout. Nor does the paper say how much slower its localisation
nets learn: `optim.localisation_lr` is 1. But for its own recipe, warps are
composed of two, `model.iterations`. Results and times are in
docs/results.md. The functions `sweep_NAME` are for sweep.py:

    python sweep.py --config=configs/mnist.py --workdir=runs/table_1 \
        --sweep=distortions,models,seeds --config.data.data_dir=DIR
"""

from configs import common, sweeps

# Widths of the classifier by model, for equal numbers of parameters: about
# 117,000 on 28x28 pixels ...
FEATURES_28 = {
  "fcn": (128, 128),
  "cnn": (32, 71),
  "st_fcn": (104, 64),
  "st_cnn": (32, 64),
}
# ... 135,000 on 42x42, of which a spatial transformer makes 28x28 ...
FEATURES_42 = {
  "fcn": (73, 73),
  "cnn": (32, 73),
  "st_fcn": (87, 87),
  "st_cnn": (32, 72),
}
# ... 150,000 on 60x60 ...
FEATURES_60 = {
  "fcn": (41, 41),
  "cnn": (32, 57),
  "st_fcn": (40, 40),
  "st_cnn": (32, 64),
}
FEATURES = {
  "none": FEATURES_28,
  "r": FEATURES_28,
  "rts": FEATURES_42,
  "p": FEATURES_28,
  "e": FEATURES_28,
  "t": FEATURES_60,
  "tc": FEATURES_60,
}

# ... and 400,000 on 28x28, which may be what the paper has.
FEATURES_400K = {"cnn": (64, 124), "st_cnn": (64, 120)}

# The families that can look at the middle of the canvas alone.
SCALING = (
  "affine",
  "attention",
  "bspline",
  "flow",
  "projective",
  "similarity",
  "tps",
)


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg,
    distortion="r",
    model="st_cnn",
    transform="affine",
    data="mnist",
    recipe="adamw",
    size="117k",
  )
  distortion, model = args["distortion"], args["model"]
  config = common.get_base()
  config.task.label_smoothing = 0.0
  large = distortion in ("t", "tc")
  # On 60x60 pixels, what takes about five minutes on two CPU cores.
  epochs = {"fcn": 60.0, "st_fcn": 60.0, "st_cnn": 30.0}.get(model, 15.0)
  common.set_data(config, args["data"], epochs if large else 30.0)
  config.data.distortion = distortion
  if distortion == "tc":
    config.data.composition = "clutter"
  config.model.name = model
  config.model.transform = args["transform"]
  widths = FEATURES.get(distortion, {})
  if common.one_of("size", args["size"], "117k", "400k") == "400k":
    if model not in FEATURES_400K or widths is not FEATURES_28:
      raise ValueError("`size=400k` is for cnn and st_cnn on 28x28 pixels.")
    widths = FEATURES_400K
  config.model.features = widths.get(model, ())
  if large or distortion == "rts":
    # The digit fills a part of the canvas: the transformer cuts it out.
    config.model.output_size = (28, 28)
  if large and args["transform"] in SCALING:
    config.model.initial_theta = (0.6,)  # the middle 36x36 pixels
  common.compose_warps(config)
  common.set_recipe(config, args["recipe"])
  if args["recipe"] == "long":
    config.task.label_smoothing = 0.1
  if args["recipe"] == "augmented" and model.endswith("_bn"):
    # It is slow, and regular enough without dropout.
    common.smooth_labels(config)
    config.num_epochs = 25.0
  return config.lock()


def sweep_seeds():
  """The paper's three seeds."""
  return sweeps.seeds(3)


def sweep_distortions():
  """Every distortion of Table 1, and T."""
  return sweeps.over("arg.distortion", "r", "rts", "p", "e", "t", "tc")


def sweep_models():
  """The models of Table 1."""
  return sweeps.over("arg.model", "fcn", "cnn", "st_fcn", "st_cnn")


def sweep_families():
  """The families of transforms of Table 1."""
  return sweeps.over("arg.transform", "affine", "projective", "tps")


def sweep_what_helps():
  """What docs/training.md compares with one warp and rate 0.3, the first."""
  plain = {"model.iterations": 1, "optim.localisation_lr": 0.3}
  changes = sweeps.chained(
    [{}],
    sweeps.over("model.iterations", 2, 4),
    sweeps.over("model.localisation", "shared"),
    sweeps.over("arg.transform", "similarity", "bspline"),
    sweeps.over("arg.model", "st_cnn_bn"),
    sweeps.over("model.antialias", "2"),
    sweeps.over("model.gradient", "linearised", "multiscale"),
    sweeps.over("model.centroid", True),
    sweeps.over("model.localisation_options.norm", False),
    sweeps.over("optim.localisation_lr", 0.1, 1.0, 3.0),
    sweeps.over("optim.localisation_warmup", 0.2),
    sweeps.over("penalty.outside", 0.1),
    sweeps.over("penalty.theta", 0.01),
    sweeps.over("model.limit", (1.0,)),
  )
  return [{**plain, **change} for change in changes]


def sweep_lr():
  """Learning rates, of the classifier and of the localisation net."""
  return sweeps.product(
    sweeps.over("optim.learning_rate", 1e-3, 3e-3, 1e-2),
    sweeps.over("optim.localisation_lr", 0.1, 0.3, 1.0),
  )
