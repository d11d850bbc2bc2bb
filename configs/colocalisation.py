r"""Co-localisation: finding a digit that images share, without any label.

    python train.py --config=configs/colocalisation.py:digit=3 \
        --config.data.data_dir=DIR --workdir=runs/colocalisation_3
    python train.py --config=configs/colocalisation.py:digit=3,data=mnist_5k \
        --workdir=runs/colocalisation_5k    # needs no data folder

Section 4.4 and appendix A.4: 100 images of one digit, each somewhere in 84x84
pixels (`clutter=no`, the paper's T) and among 16 pieces of others
(`clutter=yes`, TC). An attention transformer cuts 28x28 pixels out; crops of
different images must be closer to each other than to a random crop. A digit is
found where the box overlaps its 28x28 frame with an intersection over union of
more than 0.5. The paper tests on the images it learns from; here they are put
elsewhere at every step, and the digits of test are others.
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg, digit="3", clutter="no", data="mnist", recipe="adamw"
  )
  digit = common.one_of("digit", args["digit"], *map(str, range(10)))
  clutter = common.yes("clutter", args["clutter"])
  config = common.get_base()
  config.experiment = "colocalisation_tc" if clutter else "colocalisation"
  common.set_data(config, args["data"])
  config.task.name = "colocalisation"
  config.data.validation_size = 0
  config.data.classes = (int(digit),)
  config.data.train_size = 100
  config.data.distortion = "located"
  if clutter:
    config.data.composition = "clutter"
  config.data.batch_size = 50
  config.data.eval_batch_size = 100
  config.model.name = "colocaliser"
  config.model.transform = "attention"
  config.model.output_size = (28, 28)
  # The paper's net starts in the middle, where dark crops are as easily found
  # to be alike; the centroid of a heat map starts where there is something.
  config.model.centroid = True
  config.model.localisation_options.update({"features": (8, 16, 16)})
  config.eval_every = 250
  common.set_recipe(config, args["recipe"])
  config.num_steps = 1000
  config.num_epochs = 0.0
  return config.lock()
