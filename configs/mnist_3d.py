r"""Digits as solid bodies in a volume, read from a 2D projection.

    python train.py --config=configs/mnist_3d.py:model=st_projection \
        --config.data.data_dir=DIR --workdir=runs/3d
    python train.py --config=configs/mnist_3d.py:data=mnist_5k \
        --workdir=runs/3d_5k                # needs no data folder

Appendix A.3: a digit is extruded along depth and put into a volume at a random
place, in a random pose; a 3D affine spatial transformer turns the volume, which
is then flattened along depth and classified. `model=projection` flattens it as
it is. The paper's volume has 60 voxels along every axis (`size=60`); the
default of 32, in which the digit is relatively larger, trains on a CPU. It
gives no figures; the range of the pose is an option of the distortion.
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg,
    model="st_projection",
    transform="affine",
    size="32",
    data="mnist",
    recipe="adamw",
  )
  size = int(common.one_of("size", args["size"], "32", "60"))
  config = common.get_base()
  config.experiment = "mnist_3d"
  common.set_data(config, args["data"], small_epochs=10.0)
  config.data.distortion = "volume"
  options = {"size": size, "angle": 45.0}
  if size < 60:
    options["extent"] = 0.6
  config.data.distortion_options.update(options)
  config.data.eval_batch_size = 100
  config.model.name = args["model"]
  config.model.transform = args["transform"]
  # The network without a transformer has 15 % more parameters, not fewer.
  config.model.features = (
    (32, 64) if args["model"] == "st_projection" else (32, 98)
  )
  common.set_recipe(config, args["recipe"])
  return config.lock()
