"""The figures that others have published, in percent."""

_FAMILIES = ("affine", "projective", "tps")

# Test errors in percent of the paper's Table 1: distortion -> FCN, CNN, and
# ST-FCN and ST-CNN of each family.
_TABLE_1 = {
  "r": (2.1, 1.2, (1.2, 1.3, 1.1), (0.7, 0.8, 0.7)),
  "rts": (5.2, 0.8, (0.8, 0.9, 0.8), (0.5, 0.6, 0.5)),
  "p": (3.1, 1.5, (1.5, 1.4, 1.4), (0.8, 0.8, 0.8)),
  "e": (3.2, 1.4, (2.7, 2.6, 2.4), (1.2, 1.3, 1.1)),
}


def _published() -> dict[tuple[str, str, str, str | None], float]:
  """(experiment, distortion, model, transform) -> test error in percent."""
  table: dict[tuple[str, str, str, str | None], float] = {}
  for distortion, (fcn, cnn, st_fcn, st_cnn) in _TABLE_1.items():
    table["mnist", distortion, "fcn", None] = fcn
    table["mnist", distortion, "cnn", None] = cnn
    for model, errors in (("st_fcn", st_fcn), ("st_cnn", st_cnn)):
      for family, error in zip(_FAMILIES, errors, strict=True):
        table["mnist", distortion, model, family] = error
  # The family of the transformers is not stated.
  for model, error in (("fcn", 13.2), ("cnn", 3.5)):
    table["mnist", "tc", model, None] = error
  for model, error in (("st_fcn", 2.0), ("st_cnn", 1.7)):
    table["mnist", "tc", model, "affine"] = error
  table["mnist_addition", "addition", "fcn", None] = 47.7
  table["mnist_addition", "addition", "cnn", None] = 14.7
  for family, error in zip(_FAMILIES, (9.0, 5.9, 5.8), strict=True):
    table["mnist_addition", "addition", "st_fcn", family] = error
  # Esteves et al., Polar Transformer Networks (ICLR 2018), Tables 1 and 2.
  for distortion, cnn, st_cnn in (("r", 0.74, 0.61), ("rts", 0.62, 0.54)):
    table["mnist", distortion, "cnn_bn", None] = cnn
    table["mnist", distortion, "st_cnn_bn", "affine"] = st_cnn
  for experiment, cnn, st_cnn in (
    ("mnist_rot", 1.53, 1.31),
    ("mnist_rot_once", 5.76, 7.87),
  ):
    table[experiment, "rot", "cnn_bn", None] = cnn
    table[experiment, "rot", "st_cnn_bn", "affine"] = st_cnn
  table["sim2mnist", "sim2mnist", "cnn_bn", None] = 11.73
  table["sim2mnist", "sim2mnist", "st_cnn_bn", "affine"] = 12.35
  table["sim2mnist", "sim2mnist", "st_cnn_bn", "log_polar"] = 5.03
  # The best public implementations, as their pages say.
  table["cluttered", "cluttered", "cnn", None] = 8.0
  table["cluttered", "cluttered", "st_cnn", "affine"] = 2.4
  table["colocalisation", "located", "colocaliser", "attention"] = 0.0
  return table


PUBLISHED = _published()
