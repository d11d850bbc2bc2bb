// See kernels.h. No function of the standard library is used here: a copy of
// one, compiled for a newer instruction set, could be linked in for all.
//
// Contraction of a * b + c is off (see CMakeLists.txt) and sums have a fixed
// order, so that every copy gives the same bits.
#include "kernels.h"

#define STN_INLINE inline __attribute__((always_inline))
#define STN_RESTRICT __restrict__

namespace stn::STN_LEVEL {
namespace {

// Points are located a block at a time: the arrays stay in the first cache.
constexpr int kBlock = 128;
// Beyond this every coordinate is outside; `_FAR` of stn/sampling/xla.py.
constexpr float kFar = 1073741824.0f;

// Vectors of 16 whatever the machine has: the compiler splits them.
typedef float Wide __attribute__((vector_size(64)));
typedef float Quad __attribute__((vector_size(16)));
typedef uint16_t WideHalf __attribute__((vector_size(32)));
typedef uint32_t WideBits __attribute__((vector_size(64)));
constexpr int kWide = 16;

STN_INLINE float FromBits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

STN_INLINE uint32_t ToBits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

STN_INLINE float Load(const float* p) { return *p; }
STN_INLINE float Load(const BFloat16* p) {
  return FromBits(uint32_t{p->bits} << 16);
}

STN_INLINE void Store(float value, float* p) { *p = value; }
STN_INLINE void Store(float value, BFloat16* p) {
  const uint32_t bits = ToBits(value);
  // To the nearest, at ties the even one; NaN stays NaN.
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  p->bits = static_cast<uint16_t>(value != value ? 0x7fc0 : rounded);
}

STN_INLINE Wide LoadWide(const float* p) {
  Wide value;
  __builtin_memcpy(&value, p, sizeof(value));
  return value;
}
STN_INLINE Wide LoadWide(const BFloat16* p) {
  WideHalf half;
  __builtin_memcpy(&half, p, sizeof(half));
  const WideBits bits = __builtin_convertvector(half, WideBits) << 16;
  Wide value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

STN_INLINE void StoreWide(Wide value, float* p) {
  __builtin_memcpy(p, &value, sizeof(value));
}
STN_INLINE void StoreWide(Wide value, BFloat16* p) {
  for (int i = 0; i < kWide; ++i) Store(value[i], p + i);
}

// The first C of four lanes; the others are 0.
template <int C>
STN_INLINE Quad LoadQuad(const float* p) {
  Quad value = {0, 0, 0, 0};
  __builtin_memcpy(&value, p, C * sizeof(float));
  return value;
}
template <int C>
STN_INLINE Quad LoadQuad(const BFloat16* p) {
  Quad value = {0, 0, 0, 0};
  for (int c = 0; c < C; ++c) value[c] = Load(p + c);
  return value;
}
template <int C>
STN_INLINE void StoreQuad(Quad value, float* p) {
  __builtin_memcpy(p, &value, C * sizeof(float));
}
template <int C>
STN_INLINE void StoreQuad(Quad value, BFloat16* p) {
  for (int c = 0; c < C; ++c) Store(value[c], p + c);
}

// The two pixels that take part along one axis, for a block of points.
struct Taps {
  int32_t offset[2][kBlock];  // in elements of the image, always inside it
  int32_t inside[2][kBlock];  // all ones, or 0 where there is no image
  float weight[2][kBlock];
};

// `index` modulo `period`, as a whole number from 0.
STN_INLINE int64_t Modulo(int64_t index, int64_t period) {
  const int64_t rest = index % period;
  return rest < 0 ? rest + period : rest;
}

STN_INLINE int32_t Fold(int32_t index, int32_t size, Padding padding) {
  if (index >= 0 && index < size) return index;
  const int64_t n = size;
  switch (padding) {
    case Padding::kReflectEdges: {
      const int64_t i = Modulo(index, 2 * n);
      return static_cast<int32_t>(i < n ? i : 2 * n - 1 - i);
    }
    case Padding::kReflectCentres: {
      const int64_t period = n > 1 ? 2 * (n - 1) : 1;
      const int64_t i = Modulo(index, period);
      return static_cast<int32_t>(i < n ? i : period - i);
    }
    case Padding::kWrap:
      return static_cast<int32_t>(Modulo(index, n));
    default:
      return index < 0 ? 0 : size - 1;
  }
}

void Locate(const float* STN_RESTRICT pixel, int n, int32_t size,
            int32_t stride, Padding padding, Taps* STN_RESTRICT taps) {
  for (int i = 0; i < n; ++i) {
    float p = pixel[i];
    p = p < -kFar ? -kFar : p;  // NaN passes both
    p = p > kFar ? kFar : p;
    const bool nan = p != p;
    const float q = nan ? 0.0f : p;
    int32_t base = static_cast<int32_t>(q);
    base -= static_cast<float>(base) > q;
    const float fraction = p - static_cast<float>(base);
    taps->weight[0][i] = 1.0f - fraction;
    taps->weight[1][i] = fraction;
    // NaN has no integer: its weight is NaN, so any pixel will do.
    taps->offset[0][i] = base;
    taps->offset[1][i] = nan ? 0 : base + 1;
  }
  for (int t = 0; t < 2; ++t) {
    int32_t* STN_RESTRICT offset = taps->offset[t];
    int32_t* STN_RESTRICT inside = taps->inside[t];
    if (padding == Padding::kZeros || padding == Padding::kBorder) {
      const bool all = padding == Padding::kBorder;
      for (int i = 0; i < n; ++i) {
        const int32_t index = offset[i];
        const int32_t low = index < 0 ? 0 : index;
        const int32_t within = low > size - 1 ? size - 1 : low;
        inside[i] = -static_cast<int32_t>(all | (index == within));
        offset[i] = within * stride;
      }
    } else {
      for (int i = 0; i < n; ++i) {
        inside[i] = -1;
        offset[i] = Fold(offset[i], size, padding) * stride;
      }
    }
  }
}

template <int D>
struct Block {
  Taps axis[D];

  // Corner k takes the second tap of the axes whose bit is set.
  static STN_INLINE int Tap(int k, int a) { return (k >> (D - 1 - a)) & 1; }

  STN_INLINE int32_t Offset(int k, int i) const {
    int32_t offset = 0;
    for (int a = 0; a < D; ++a) offset += axis[a].offset[Tap(k, a)][i];
    return offset;
  }
  STN_INLINE int32_t Inside(int k, int i) const {
    int32_t inside = -1;
    for (int a = 0; a < D; ++a) inside &= axis[a].inside[Tap(k, a)][i];
    return inside;
  }
  STN_INLINE float Weight(int k, int i) const {
    float weight = axis[0].weight[Tap(k, 0)][i];
    for (int a = 1; a < D; ++a) weight *= axis[a].weight[Tap(k, a)][i];
    return weight;
  }
  // The derivative of Weight along one axis.
  STN_INLINE float Slope(int k, int along, int i) const {
    float slope = Tap(k, along) ? 1.0f : -1.0f;
    for (int a = 0; a < D; ++a) {
      if (a != along) slope *= axis[a].weight[Tap(k, a)][i];
    }
    return slope;
  }
  // Where corner k's channels are: outside, a row of zeros.
  template <typename T>
  STN_INLINE const T* Row(int k, int i, const T* image, const T* zeros) const {
    return Inside(k, i) ? image + Offset(k, i) : zeros;
  }

  void Fill(const Problem& problem, int64_t start, int n) {
    int32_t stride = static_cast<int32_t>(problem.channels);
    for (int a = D - 1; a >= 0; --a) {
      Locate(problem.pixel[a] + start, n, problem.size[a], stride,
             problem.padding, &axis[a]);
      stride *= problem.size[a];
    }
  }
};

STN_INLINE int BlockAt(const Problem& problem, int64_t start) {
  const int64_t left = problem.points - start;
  return static_cast<int>(left < kBlock ? left : kBlock);
}

// C is the number of channels if it is 1 to 4, otherwise 0.

template <int D, int C, typename T>
void Sample(const Problem& problem, const T* STN_RESTRICT image,
            const T* STN_RESTRICT zeros, T* STN_RESTRICT out) {
  constexpr int kCorners = 1 << D;
  const int64_t channels = problem.channels;
  Block<D> block;
  for (int64_t start = 0; start < problem.points; start += kBlock) {
    const int n = BlockAt(problem, start);
    block.Fill(problem, start, n);
    if constexpr (C == 1) {
      for (int i = 0; i < n; ++i) {
        float total = 0;
        for (int k = 0; k < kCorners; ++k) {
          const uint32_t bits = ToBits(Load(image + block.Offset(k, i)));
          total += block.Weight(k, i) *
                   FromBits(bits & static_cast<uint32_t>(block.Inside(k, i)));
        }
        Store(total, out + start + i);
      }
    } else {
      for (int i = 0; i < n; ++i) {
        const T* row[kCorners];
        float weight[kCorners];
        for (int k = 0; k < kCorners; ++k) {
          row[k] = block.Row(k, i, image, zeros);
          weight[k] = block.Weight(k, i);
        }
        T* to = out + (start + i) * channels;
        if constexpr (C > 1) {
          Quad total = {0, 0, 0, 0};
          for (int k = 0; k < kCorners; ++k) {
            total += weight[k] * LoadQuad<C>(row[k]);
          }
          StoreQuad<C>(total, to);
        } else {
          int64_t c = 0;
          for (; c + kWide <= channels; c += kWide) {
            Wide total = weight[0] * LoadWide(row[0] + c);
            for (int k = 1; k < kCorners; ++k) {
              total += weight[k] * LoadWide(row[k] + c);
            }
            StoreWide(total, to + c);
          }
          for (; c + 4 <= channels; c += 4) {
            Quad total = weight[0] * LoadQuad<4>(row[0] + c);
            for (int k = 1; k < kCorners; ++k) {
              total += weight[k] * LoadQuad<4>(row[k] + c);
            }
            StoreQuad<4>(total, to + c);
          }
          for (; c < channels; ++c) {
            float total = weight[0] * Load(row[0] + c);
            for (int k = 1; k < kCorners; ++k) {
              total += weight[k] * Load(row[k] + c);
            }
            Store(total, to + c);
          }
        }
      }
    }
  }
}

STN_INLINE float Sum(Quad v) { return (v[0] + v[2]) + (v[1] + v[3]); }

STN_INLINE Quad SumOfQuads(Wide v) {
  Quad part[4];
  __builtin_memcpy(part, &v, sizeof(v));
  return (part[0] + part[2]) + (part[1] + part[3]);
}

template <int D, int C, typename T>
void Pull(const Problem& problem, const T* STN_RESTRICT image,
          const T* STN_RESTRICT zeros, const T* STN_RESTRICT ct,
          float* const* out) {
  constexpr int kCorners = 1 << D;
  const int64_t channels = problem.channels;
  Block<D> block;
  float dot[kCorners][kBlock];  // sum over channels of ct * the corner
  for (int64_t start = 0; start < problem.points; start += kBlock) {
    const int n = BlockAt(problem, start);
    block.Fill(problem, start, n);
    if constexpr (C == 1) {
      for (int k = 0; k < kCorners; ++k) {
        for (int i = 0; i < n; ++i) {
          const uint32_t bits = ToBits(Load(image + block.Offset(k, i)));
          dot[k][i] =
              Load(ct + start + i) *
              FromBits(bits & static_cast<uint32_t>(block.Inside(k, i)));
        }
      }
    } else {
      for (int i = 0; i < n; ++i) {
        const T* row[kCorners];
        for (int k = 0; k < kCorners; ++k) {
          row[k] = block.Row(k, i, image, zeros);
        }
        const T* from = ct + (start + i) * channels;
        if constexpr (C > 1) {
          const Quad factor = LoadQuad<C>(from);
          for (int k = 0; k < kCorners; ++k) {
            dot[k][i] = Sum(factor * LoadQuad<C>(row[k]));
          }
        } else {
          Quad sum[kCorners];
          int64_t c = 0;
          {
            Wide total[kCorners] = {};
            for (; c + kWide <= channels; c += kWide) {
              const Wide factor = LoadWide(from + c);
              for (int k = 0; k < kCorners; ++k) {
                total[k] += factor * LoadWide(row[k] + c);
              }
            }
            for (int k = 0; k < kCorners; ++k) sum[k] = SumOfQuads(total[k]);
          }
          for (; c + 4 <= channels; c += 4) {
            const Quad factor = LoadQuad<4>(from + c);
            for (int k = 0; k < kCorners; ++k) {
              sum[k] += factor * LoadQuad<4>(row[k] + c);
            }
          }
          for (; c < channels; ++c) {
            for (int k = 0; k < kCorners; ++k) {
              sum[k][0] += Load(from + c) * Load(row[k] + c);
            }
          }
          for (int k = 0; k < kCorners; ++k) dot[k][i] = Sum(sum[k]);
        }
      }
    }
    for (int a = 0; a < D; ++a) {
      const float* STN_RESTRICT pixel = problem.pixel[a] + start;
      float* STN_RESTRICT to = out[a] + start;
      for (int i = 0; i < n; ++i) {
        float total = 0;
        for (int k = 0; k < kCorners; ++k) {
          total += block.Slope(k, a, i) * dot[k][i];
        }
        // Beyond kFar the coordinate was clipped: it moves nothing.
        const bool far = pixel[i] > kFar || pixel[i] < -kFar;
        to[i] = far ? 0.0f : total + 0.0f * block.axis[a].weight[0][i];
      }
    }
  }
}

template <int D, int C, typename T>
void Scatter(const Problem& problem, const T* STN_RESTRICT ct, int32_t begin,
             int32_t end, float* STN_RESTRICT image) {
  constexpr int kCorners = 1 << D;
  const int64_t channels = problem.channels;
  const bool whole = begin == 0 && end == problem.size[0];
  int32_t row = static_cast<int32_t>(channels);
  for (int a = 1; a < D; ++a) row *= problem.size[a];
  const int32_t low = begin * row;
  const int32_t high = low + (end - begin) * row;
  Block<D> block;
  for (int64_t start = 0; start < problem.points; start += kBlock) {
    const int n = BlockAt(problem, start);
    block.Fill(problem, start, n);
    if (!whole) {
      int32_t any = 0;
      for (int t = 0; t < 2; ++t) {
        for (int i = 0; i < n; ++i) {
          const int32_t offset = block.axis[0].offset[t][i];
          block.axis[0].inside[t][i] &=
              -static_cast<int32_t>((offset >= low) & (offset < high));
          any |= block.axis[0].inside[t][i];
        }
      }
      if (!any) continue;
    }
    for (int i = 0; i < n; ++i) {
      const T* from = ct + (start + i) * channels;
      if constexpr (C > 0) {
        float factor[C];
        for (int c = 0; c < C; ++c) factor[c] = Load(from + c);
        for (int k = 0; k < kCorners; ++k) {
          if (!block.Inside(k, i)) continue;
          const float weight = block.Weight(k, i);
          float* to = image + block.Offset(k, i);
          for (int c = 0; c < C; ++c) to[c] += weight * factor[c];
        }
      } else {
        for (int k = 0; k < kCorners; ++k) {
          if (!block.Inside(k, i)) continue;
          const float weight = block.Weight(k, i);
          float* to = image + block.Offset(k, i);
          int64_t c = 0;
          for (; c + kWide <= channels; c += kWide) {
            StoreWide(LoadWide(to + c) + weight * LoadWide(from + c), to + c);
          }
          for (; c + 4 <= channels; c += 4) {
            StoreQuad<4>(LoadQuad<4>(to + c) + weight * LoadQuad<4>(from + c),
                         to + c);
          }
          for (; c < channels; ++c) to[c] += weight * Load(from + c);
        }
      }
    }
  }
}

// From the run-time numbers of axes and channels to the compiled ones.
#define STN_DISPATCH_CHANNELS(D, FUNCTION, ...)      \
  switch (problem.channels) {                        \
    case 1: return FUNCTION<D, 1, T>(__VA_ARGS__);   \
    case 2: return FUNCTION<D, 2, T>(__VA_ARGS__);   \
    case 3: return FUNCTION<D, 3, T>(__VA_ARGS__);   \
    case 4: return FUNCTION<D, 4, T>(__VA_ARGS__);   \
    default: return FUNCTION<D, 0, T>(__VA_ARGS__);  \
  }
#define STN_DISPATCH(FUNCTION, ...)                           \
  switch (problem.axes) {                                     \
    case 1: STN_DISPATCH_CHANNELS(1, FUNCTION, __VA_ARGS__)   \
    case 2: STN_DISPATCH_CHANNELS(2, FUNCTION, __VA_ARGS__)   \
    default: STN_DISPATCH_CHANNELS(3, FUNCTION, __VA_ARGS__)  \
  }

template <typename T>
void SampleAny(const Problem& problem, const T* image, const T* zeros, T* out) {
  STN_DISPATCH(Sample, problem, image, zeros, out)
}
template <typename T>
void PullAny(const Problem& problem, const T* image, const T* zeros,
             const T* ct, float* const* out) {
  STN_DISPATCH(Pull, problem, image, zeros, ct, out)
}
template <typename T>
void ScatterAny(const Problem& problem, const T* ct, int32_t begin, int32_t end,
                float* image) {
  STN_DISPATCH(Scatter, problem, ct, begin, end, image)
}

template <typename T>
constexpr KernelsFor<T> kFor = {SampleAny<T>, PullAny<T>, ScatterAny<T>};

}  // namespace

extern const Kernels kKernels = {kFor<float>, kFor<BFloat16>};

}  // namespace stn::STN_LEVEL
