// The sampler's three loops, free of XLA: what ffi.cc calls on chunks.
//
// kernels.cc is compiled once for each level of the instruction set; every
// copy fills one `Kernels`, and ffi.cc picks the copy for this machine.
#pragma once

#include <cstdint>

namespace stn {

// The values are those of native.py.
enum class Padding : int {
  kZeros = 0,
  kBorder = 1,
  kReflectEdges = 2,    // align_corners=False: the edge pixel is repeated
  kReflectCentres = 3,  // align_corners=True: it is not
  kWrap = 4,
};

struct BFloat16 {
  uint16_t bits;
};

inline constexpr int kMaxAxes = 3;

// One axis of an image, and which pixel of it a coordinate c is: scale * c +
// offset, or an integer within `tolerance` of it.
struct Axis {
  int32_t size;
  float scale, offset, tolerance;
};

// A matrix applied to the regular grid, instead of a grid in memory: 2D. The
// tables go on for kMargin numbers: x begins anew, y has anything.
inline constexpr int kMargin = 8;
struct Map {
  const float* matrix;  // (2, 3), or (3, 3): divided by the third row
  bool divides;         // whether there is a third row
  const float *x, *y;   // the coordinates of the columns and of the rows
  int32_t width;        // columns
  int64_t start;        // the first point
};

// One image, the points at which it is looked at, and what belongs to them.
// Elements of an image are fewer than 2**31; coordinates may be anything.
struct Problem {
  int axes;             // 1 to 3
  Axis axis[kMaxAxes];  // in the image's order
  int64_t channels;     // at least 1
  Padding padding;
  int64_t points;     // of this chunk
  const float* grid;  // (points, axes), the coordinate of the LAST axis first;
  Map map;            // where it is null, this
};

template <typename T>
struct KernelsFor {
  // out (points, channels) = the image at the points. `zeros` are `channels`
  // zeros, what lies outside.
  void (*sample)(const Problem&, const T* image, const T* zeros, T* out);
  // out (points, axes) = sum over channels of ct * d sample / d grid; of a
  // map the sum over points of ct * d sample / d matrix, (3, 3).
  void (*pull)(const Problem&, const T* image, const T* zeros, const T* ct,
               float* out);
  // image (*size, channels) += the transpose of `sample` applied to ct, for
  // the indices [begin, end) along the first axis only: disjoint bands may be
  // filled at once, and every pixel sums in one order.
  void (*scatter)(const Problem&, const T* ct, int32_t begin, int32_t end,
                  float* image);
};

struct Kernels {
  KernelsFor<float> f32;
  KernelsFor<BFloat16> bf16;
};

namespace baseline {
extern const Kernels kKernels;
}
namespace v3 {
extern const Kernels kKernels;
}

}  // namespace stn
