"""The config that every experiment starts from: every field, its default.

A config is data: this folder imports nothing of stn.
"""

from ml_collections import ConfigDict


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


def get_base() -> ConfigDict:
  """Returns a fresh config with every field."""
  config = ConfigDict()
  config.experiment = "mnist"
  config.recipe = "adamw"  # a name for the training settings, for the results
  config.seed = 0

  config.data = data = ConfigDict()
  data.name = "mnist_5k"  # a source of stn.data, or a set of tfds
  data.data_dir = ""  # of tfds; "": TFDS_DATA_DIR, else ~/tensorflow_datasets
  data.distortion = "none"  # none, r, rts
  data.validation_size = 0  # held out of train, stratified; 0: none
  data.batch_size = 64  # of all devices together
  data.eval_batch_size = 500
  data.eval_seed = 0  # the distorted test set is drawn once from this seed

  config.model = model = ConfigDict()
  model.name = "st_cnn"  # fcn, cnn, st_fcn, st_cnn
  model.transform = "affine"  # of the spatial transformer: docs/transforms.md
  model.features = ()  # widths of the classifier's hidden layers
  model.output_size = ()  # of the spatial transformer; (): that of its input
  model.num_transformers = 1  # in parallel
  model.dtype = "float32"  # of the computation; or bfloat16

  config.optim = optim = ConfigDict()
  optim.name = "adamw"  # sgd, adamw
  optim.learning_rate = 3e-3
  optim.schedule = "cosine"  # cosine, step, constant
  optim.warmup = 0.05  # share of the steps (cosine)
  optim.momentum = 0.0  # (sgd)
  optim.weight_decay = 1e-2  # of kernels, not of biases
  optim.clip_norm = 1.0  # of the global gradient; 0: no limit
  optim.localisation_lr = 0.3  # factor on the localisation nets' learning rate

  config.num_epochs = 15.0
  config.num_steps = 0  # if not 0, instead of num_epochs
  config.steps_per_call = 1  # more on accelerators hides the dispatch
  config.log_every = 50  # steps
  config.eval_every = 500  # steps; a checkpoint follows every evaluation
  config.checkpoint_every = 0  # steps; further checkpoints; 0: none
  config.keep_checkpoints = 2  # the latest ones, besides the best
  config.num_devices = 0  # 0: all
  config.num_pictures = 10  # test examples in the pictures; 0: no pictures
  return config
