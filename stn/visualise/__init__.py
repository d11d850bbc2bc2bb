"""Pictures of what spatial transformers do (needs matplotlib and pillow)."""

from stn._extras import needs

with needs("viz", "A picture"):
  from stn.visualise.encode import encode_png, write_gif
  from stn.visualise.outlines import grid_outline, region_lines
  from stn.visualise.panel import panel, to_picture
  from stn.visualise.strip import strip

__all__ = [
  "encode_png",
  "grid_outline",
  "panel",
  "region_lines",
  "strip",
  "to_picture",
  "write_gif",
]
