r"""Birds of 200 species (CUB-200-2011), told apart by their parts.

    tfds build caltech_birds2011 --data_dir=DIR --file_format=array_record
    python train.py --config=configs/cub.py:transformers=4,size=448 \
        --config.data.data_dir=DIR --workdir=runs/cub_4 \
        --config.init_from.file=trunk.safetensors
    python train.py --config=configs/cub.py:data=synthetic,transformers=2 \
        --workdir=runs/parts            # needs no data folder

Section 4.3: `transformers` in parallel, 0, 2 or 4, cut out crops of half the
image's width and height, 224x224 pixels each; only where they look is learned,
by one network for all. They start side by side (2) or as the quadrants (4). A
trunk for each describes its crop, and what they say is concatenated and
classified. The paper's accuracy: CNN 82.3, two transformers 83.1 on images of
224 pixels (`size=224`) and 83.9 on 448, four on 448 84.1 %.

Its trunks, and its localisation network, are Inception networks trained on
ImageNet, which are not part of this package: here a trunk is a ResNet-18, or
any Flax module, `model.trunk=module:attribute`, that starts from the tensors of
a safetensors file, `init_from`, see docs/training.md. From random parameters
6,000 photographs are too few. What else the paper leaves open, or is from
memory (?): that crops are taken from all 448 pixels while the localisation
network sees 224 (`model.localisation_downsample`), how images are augmented,
the optimiser, and that the image is resized to a square. For GPUs.

`data=synthetic` is its small relative, for two CPU cores: two handwritten
digits from 0 to 4 on a photograph of 64x64 pixels make one of 25 classes.
"""

from configs import common

SYNTHETIC_TRUNK = {
  "features": (16, 32, 64),
  "depths": (1, 1, 1),
  "stem": "small",
}


def get_config(arg: str = ""):
  """Returns the config; `arg` may set the names below."""
  args = common.parse_arg(
    arg, transformers="4", size="448", data="cub", recipe="adamw"
  )
  number = common.one_of("transformers", args["transformers"], "0", "2", "4")
  size = common.one_of("size", args["size"], "224", "448")
  data = common.one_of("data", args["data"], "cub", "synthetic")
  config = common.get_base()
  config.experiment = "cub"
  config.model.name = "parts"
  config.model.transform = "translation"
  config.model.transform_options.scale = 0.5
  config.model.num_transformers = int(number)
  if data == "synthetic":
    _set_synthetic(config)
  else:
    _set_birds(config, int(size))
  common.set_recipe(config, args["recipe"], photographs=True)
  return config.lock()


def _set_birds(config, size):
  data, model = config.data, config.model
  data.name = "caltech_birds2011"
  data.in_memory = False
  data.image_size = (size, size)
  data.augment = "crop_flip"
  data.mean = (0.485, 0.456, 0.406)  # of ImageNet, as its networks expect
  data.std = (0.229, 0.224, 0.225)
  data.batch_size = 32
  data.eval_batch_size = 32
  model.output_size = (224, 224)
  model.localisation_downsample = size // 224
  model.dropout = 0.5
  trunks = max(model.num_transformers, 1)
  config.init_from.into = tuple(f"trunks_{i}" for i in range(trunks))
  config.optim.learning_rate = 1e-3
  config.optim.localisation_lr = 1e-4
  config.num_epochs = 90.0
  config.log_every = 50
  config.eval_every = 1000


def _set_synthetic(config):
  data, model = config.data, config.model
  config.experiment = "parts"
  data.name = "mnist_5k"
  data.composition = "parts"
  data.composition_options.height = (22, 30)
  data.classes = (0, 1, 2, 3, 4)
  data.num_threads = 1  # draws ahead of the step
  model.output_size = (32, 32)
  model.localisation = "conv"
  model.trunk_options.update(SYNTHETIC_TRUNK)
  config.optim.localisation_lr = 0.3
  config.num_epochs = 30.0
  config.log_every = 100
  config.eval_every = 250
