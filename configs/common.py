"""The config that every experiment starts from: every field, its default.

A config is data: this folder imports nothing of stn.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def parse_arg(arg: str, **defaults: str) -> dict[str, str]:
  """Reads what stands after the colon of `--config=FILE:name=value,...`.

  Args:
    arg: "name=value,name=value"; a value may not hold a comma.
    **defaults: every name there is, and its value when it is not given.

  Returns:
    A value for every name.

  Raises:
    ValueError: if a name is unknown or a part is no name=value.
  """
  values = dict(defaults)
  for part in filter(None, (arg or "").split(",")):
    name, equals, value = part.partition("=")
    if not equals or name not in defaults:
      raise ValueError(
        f"The config takes {', '.join(f'{n}=...' for n in defaults)} after its "
        f"colon, separated by commas; got {part!r}."
      )
    values[name] = value
  return values


def one_of(name: str, value: str, *choices: str) -> str:
  """Returns what was given, if it is a choice.

  Args:
    name: of what was given.
    value: what was given.
    *choices: what may be.

  Raises:
    ValueError: if it is none of them.
  """
  if value not in choices:
    expected = f"{', '.join(choices[:-1])} or {choices[-1]}"
    raise ValueError(f"`{name}` must be {expected}; got {value!r}.")
  return value


def yes(name: str, value: str) -> bool:
  """Whether "yes" was given, not "no"; ValueError if neither was."""
  return one_of(name, value, "yes", "no") == "yes"


def get_base() -> ConfigDict:
  """Returns a fresh config with every field.

  Wherever a name is asked for, it is a row of a table of stn, or
  "module:attribute" of an importable module of your own; but for `dtype`,
  `padding_mode`, `antialias` and `implementation`, which have the rows alone.
  """
  config = ConfigDict()
  config.version = 5  # of these fields; runs of another one are refused
  config.experiment = "mnist"
  config.recipe = "adamw"  # a name for the training settings, for the results
  config.seed = 0

  # What is learned: stn.tasks. Further fields are options of the task.
  config.task = ConfigDict({"name": "classification"})

  config.data = data = ConfigDict()
  data.name = "mnist_5k"  # a source of stn.data, or a set of tfds
  data.data_dir = ""  # of tfds; "": TFDS_DATA_DIR, else ~/tensorflow_datasets
  data.in_memory = True  # False: records are read and decoded as needed
  data.image_size = ()  # (H, W) that images are resized to; (): as they are
  data.augment = "none"  # on the host, of images that are not kept in memory
  data.num_threads = (
    -1
  )  # that read ahead; 0: none; -1: one per core if streamed
  data.prefetch = 2  # batches that are read ahead
  data.classes = ()  # only these labels; (): all
  data.train_size = 0  # only so many of train; 0: all
  data.validation_size = 0  # held out of train, stratified; 0: none
  data.hold_out_by = ""  # field of which whole groups are held out: "track"
  data.resplit = ()  # (train, test): pools both and cuts anew in these sizes
  # Of images to examples: single, pairs, clutter, parts, numbers.
  data.composition = "single"
  data.composition_options = ConfigDict()
  data.distortion = "none"  # on the device, see stn/data/distortions.py
  data.distortion_options = ConfigDict()
  data.train_distortion = "none"  # one more in training, before the other
  data.train_distortion_options = ConfigDict()
  data.redraw = True  # in training at every step; False: once an example
  data.mean = ()  # per channel, subtracted after the distortion; (): 0
  data.std = ()  # per channel, divided by; (): 1
  data.contrast = "none"  # none, global, local
  data.batch_size = 64  # of all devices together
  data.eval_batch_size = 500
  data.eval_seed = 0  # the distorted test set is drawn once from this seed

  # The network: stn.models. Further fields are options of it.
  config.model = model = ConfigDict()
  model.name = "st_cnn"
  model.features = ()  # widths of the classifier's hidden layers
  model.classifier_options = ConfigDict()  # of its module: docs/your_model.md
  model.dropout = 0.0  # of what the classifier's last layer sees
  model.dtype = "float32"  # of the computation; or bfloat16
  model.transform = "affine"  # of the spatial transformer: docs/transforms.md
  model.transform_options = ConfigDict()  # of the family
  model.localisation = ""  # its network: "" is the model's own; fc, conv, ...
  model.output_size = ()  # of the spatial transformer; (): that of its input
  model.num_transformers = 1  # in parallel
  model.places = ()  # stages of a staged network that have one before them
  model.localisation_options = ConfigDict()
  model.iterations = 1  # warps that are composed, see stn.models
  model.initial_theta = ()  # at the start; (0.5,): the middle half; (): all
  model.centroid = False  # the translation from a heat map: stn/models/heads.py
  model.limit = ()  # of theta's distance from its start; (): none
  model.method = "linear"  # of interpolation
  model.padding_mode = "zeros"  # outside: or border, reflection
  model.gradient = "exact"  # of the sampler, with respect to the grid
  model.implementation = ""  # of the sampler; "": the fastest
  model.trunk = "resnet"  # of the model parts: what describes a part
  model.trunk_options = ConfigDict()
  model.localisation_downsample = 1  # of its localisation network's input
  model.antialias = ""  # where it minifies: mip, or samples per axis, as "2"

  # Parameters to start from, see stn/training/start.py: tensors of a file.
  config.init_from = init_from = ConfigDict()
  init_from.file = ""  # safetensors, as `python -m stn.zoo` writes; "": none
  init_from.prefix = ""  # of the file's tensors; others are left alone
  init_from.into = ()  # parts of the network that get them all; (): itself
  init_from.skip = ()  # what stays as initialised, such as "head"

  config.optim = optim = ConfigDict()
  optim.name = "adamw"  # sgd, adamw
  optim.learning_rate = 3e-3
  optim.schedule = "cosine"  # cosine, step, constant
  optim.warmup = 0.05  # share of the steps (cosine)
  optim.momentum = 0.0  # (sgd)
  optim.weight_decay = 1e-2  # of kernels, not of biases
  optim.clip_norm = 1.0  # of localisation nets, and of the rest; 0: no limit
  optim.localisation_lr = 0.3  # factor on the localisation nets' learning rate
  # Share of the steps in which it rises from 0; None: 0 for adamw, 0.4 for sgd.
  optim.localisation_warmup = placeholder(float)

  # Added to the loss, weighted: stn/training/penalty.py.
  config.penalty = ConfigDict({"outside": 0.0, "theta": 0.0})

  config.num_epochs = 15.0
  config.num_steps = 0  # if not 0, instead of num_epochs
  config.steps_per_call = 1  # more on accelerators hides the dispatch
  config.log_every = 50  # steps
  config.eval_every = 500  # steps; a checkpoint follows every evaluation
  config.checkpoint_every = 0  # steps; further checkpoints; 0: none
  config.keep_checkpoints = 2  # the latest ones, in addition to the best
  config.num_devices = 0  # 0: all
  config.num_pictures = 10  # test examples in the pictures; 0: no pictures
  return config


def set_data(config: ConfigDict, name: str, small_epochs: float = 30.0) -> None:
  """Sets the digits to train on, and how much of them to hold out.

  Args:
    config: to change.
    name: "mnist": 55,000 train, 5,000 of train held out to choose the
      checkpoint, 10,000 test. "mnist_5k": the embedded 4,000 train and 1,000
      test; the last checkpoint is tested.
    small_epochs: length of the training on "mnist_5k".

  Raises:
    ValueError: if the name is another one.
  """
  config.data.name = one_of("data", name, "mnist", "mnist_5k")
  config.data.validation_size = 5000 if name == "mnist" else 0
  config.log_every = 100
  config.eval_every = 1000 if name == "mnist" else 250
  config.num_epochs = 15.0 if name == "mnist" else small_epochs


def set_staged(config: ConfigDict, transformers: str, transform: str) -> None:
  """Sets the small staged network, and how long it trains.

  Args:
    config: to change.
    transformers: how many there are, "0" to "3": before each of the first
      stages one.
    transform: their family.

  Raises:
    ValueError: if the number is another one.
  """
  number = one_of("transformers", transformers, "0", "1", "2", "3")
  config.data.contrast = "global"
  config.model.name = "staged"
  config.model.transform = transform
  config.model.places = tuple(range(int(number)))
  config.model.dropout = 0.3
  config.num_epochs = 15.0
  config.log_every = 100
  config.eval_every = 1000


def most_warps(model: ConfigDict) -> int:
  """Two, where warps can be composed: of one transformer, with an identity."""
  one = model.num_transformers == 1
  return 2 if one and model.transform != "log_polar" else 1


def compose_warps(config: ConfigDict) -> None:
  """Sets what helps rotated digits most, see docs/training.md.

  Warps are composed of two, where they can be, and localisation nets learn as
  fast as the rest.

  Args:
    config: to change.
  """
  if config.model.name.startswith("st_"):
    config.model.iterations = most_warps(config.model)
  config.optim.localisation_lr = 1.0


def smooth_labels(config: ConfigDict) -> None:
  """Sets smoothed labels in place of dropout, for the modern network.

  Args:
    config: to change, after its recipe.
  """
  config.model.dropout = 0.0
  config.task.label_smoothing = 0.1


def set_recipe(
  config: ConfigDict, name: str, *, photographs: bool = False
) -> None:
  """Sets how to train.

  Args:
    config: to change.
    name: "adamw": AdamW with warm-up and cosine, for `num_epochs`. "long": 100
      epochs of it in batches of 256. "augmented": 60 epochs of it; digits are
      bent before they are distorted, dropout, two composed warps, a
      localisation net that learns as fast as the rest. "paper": the paper's
      150,000 steps of plain SGD from learning rate 0.01, divided by 10 after
      each third, and localisation networks of ReLUs alone.
    photographs: these are the images; "augmented", of digits, is refused.

  Raises:
    ValueError: if the name is another one.
  """
  of_digits = () if photographs else ("augmented",)
  config.recipe = one_of("recipe", name, "adamw", "long", "paper", *of_digits)
  if name == "paper":
    config.data.batch_size = 256
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.01
    config.optim.schedule = "step"
    config.optim.weight_decay = 0.0
    config.optim.clip_norm = 0.0
    config.optim.localisation_lr = 1.0
    config.optim.localisation_warmup = 0.0
    config.model.localisation_options.norm = False
    config.model.iterations = 1
    config.num_steps = 150_000
    config.log_every = 1000
    config.eval_every = 10_000
  elif name == "long":
    config.data.batch_size = 256
    config.num_epochs = 100.0
  elif name == "augmented":
    config.data.train_distortion = "e"
    config.data.train_distortion_options.scale = (0.9, 1.1)
    config.data.train_distortion_options.sigma = 1.0
    config.model.dropout = 0.3
    config.model.iterations = most_warps(config.model)
    config.optim.localisation_lr = 1.0
    config.num_epochs = 60.0
