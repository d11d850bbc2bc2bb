"""Fields of a config that are refused: name, value, what it must be.

Of a sequence, the item that is wrong has its place in the name.
"""

import math

COUNTS = [
  "data.batch_size",
  "data.eval_batch_size",
  "model.iterations",
  "model.localisation_downsample",
  "steps_per_call",
  "log_every",
  "eval_every",
  "keep_checkpoints",
]
COUNTS_OR_0 = [
  "model.num_transformers",
  "data.prefetch",
  "data.train_size",
  "data.validation_size",
  "num_steps",
  "checkpoint_every",
  "num_devices",
  "num_pictures",
]
NOT_NEGATIVE = [
  "optim.learning_rate",
  "optim.weight_decay",
  "optim.clip_norm",
  "optim.localisation_lr",
  "penalty.outside",
  "penalty.theta",
  "num_epochs",
]
BELOW_1 = ["model.dropout", "optim.warmup", "optim.momentum"]
BOOLS = ["data.in_memory", "data.redraw", "model.centroid"]
STRINGS = ["task.name", "data.name", "model.name", "recipe", "init_from.file"]

WRONG = [
  *((name, 0, "1 or more") for name in COUNTS),
  *((name, 2.5, "an integer") for name in COUNTS),
  *((name, -1, "0 or more") for name in COUNTS_OR_0),
  *((name, True, "an integer") for name in COUNTS_OR_0),
  *((name, 2**31, "less than 2**31") for name in COUNTS_OR_0),
  *((name, -0.1, "0 or more") for name in NOT_NEGATIVE),
  *((name, math.nan, "a finite number") for name in NOT_NEGATIVE),
  *((name, math.inf, "a finite number") for name in NOT_NEGATIVE),
  *((name, "1", "a finite number") for name in NOT_NEGATIVE),
  *((name, 1.0, "in [0, 1)") for name in BELOW_1),
  *((name, -0.5, "in [0, 1)") for name in BELOW_1),
  *((name, 1, "True or False") for name in BOOLS),
  *((name, 3, "a string") for name in STRINGS),
  ("optim.localisation_warmup", 1.5, "in [0, 1]"),
  ("optim.localisation_warmup", "all", "None or a finite number"),
  ("seed", -1, "in [0, 4294967295]"),
  ("seed", 2**32, "in [0, 4294967295]"),
  ("data.eval_seed", 0.5, "an integer"),
  ("data.num_threads", -2, "-1 or more"),
  ("data.image_size", (32,), "of length 0 or 2"),
  ("data.image_size[1]", (32, 0), "1 or more"),
  ("data.resplit", (10, 20, 30), "of length 0 or 2"),
  ("data.classes[0]", (-1,), "0 or more"),
  ("data.mean[1]", (0.5, math.nan), "a finite number"),
  ("data.std[0]", (0.0,), "more than 0"),
  ("experiment", "a/b", "a name without slashes"),
  ("experiment", "", "a name without slashes"),
  ("model.features", 32, "a tuple"),
  ("model.features[1]", (32, -4), "1 or more"),
  ("model.output_size", (1, 2, 3, 4), "of length 0 or 1 or 2 or 3"),
  ("model.output_size[0]", (0, 28), "1 or more"),
  ("model.initial_theta", (1.0, math.nan), "finite numbers"),
  ("model.limit[0]", (-1.0,), "more than 0"),
  ("init_from.into[0]", (3,), "a string"),
]
