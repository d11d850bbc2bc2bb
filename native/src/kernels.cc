// See kernels.h. No function of the standard library is used here: a copy of
// one, compiled for a newer instruction set, could be linked in for all.
//
// Contraction of a * b + c is off (see CMakeLists.txt), so that the ends of a
// vectorised loop round as its middle does.
#include "kernels.h"

#define STN_INLINE inline __attribute__((always_inline))
#define STN_RESTRICT __restrict__
#define STN_LAMBDA __attribute__((always_inline))

namespace stn::STN_LEVEL {
namespace {

// Points are located a block at a time: the arrays stay in the first cache.
constexpr int kBlock = 128;
// How many points ahead an image is fetched that has more elements than this,
// that is, more than the second cache may hold.
constexpr int kAhead = 16;
constexpr int64_t kLarge = 1 << 17;
// Beyond this every coordinate is outside; `_FAR` of stn/sampling/xla.py.
constexpr float kFar = 1073741824.0f;

// The widest vectors of this level; those of other machines are 16 bytes.
#if defined(__AVX__)
constexpr int kWide = 8;
#else
constexpr int kWide = 4;
#endif
typedef float Wide __attribute__((vector_size(4 * kWide)));
typedef float Quad __attribute__((vector_size(16)));
typedef uint16_t WideHalf __attribute__((vector_size(2 * kWide)));
typedef uint32_t WideBits __attribute__((vector_size(4 * kWide)));

// Calls f(Index<0>{}) ... f(Index<N - 1>{}): only where the number of a corner
// is known to the compiler does it vectorise the loops over points.
template <int N>
struct Index {
  static constexpr int value = N;
};
template <int N, typename F>
STN_INLINE void ForEach(const F& f) {
  if constexpr (N > 0) {
    ForEach<N - 1>(f);
    f(Index<N - 1>{});
  }
}

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

// The first C of four lanes; the others are 0. Three are loaded one by one: a
// copy of 12 bytes goes through the stack.
template <int C, typename T>
STN_INLINE Quad LoadQuad(const T* p) {
  Quad value = {Load(p), 0, 0, 0};
  if constexpr (C == 4) {
    value = Quad{Load(p), Load(p + 1), Load(p + 2), Load(p + 3)};
  } else if constexpr (C == 3) {
    value = Quad{Load(p), Load(p + 1), Load(p + 2), 0};
  } else if constexpr (C == 2) {
    value = Quad{Load(p), Load(p + 1), 0, 0};
  }
  return value;
}
template <int C, typename T>
STN_INLINE void StoreQuad(Quad value, T* p) {
  for (int c = 0; c < C; ++c) Store(value[c], p + c);
}
template <>
STN_INLINE Quad LoadQuad<4, float>(const float* p) {
  Quad value;
  __builtin_memcpy(&value, p, sizeof(value));
  return value;
}
template <>
STN_INLINE void StoreQuad<4, float>(Quad value, float* p) {
  __builtin_memcpy(p, &value, sizeof(value));
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
    // NaN has no integer: its weight is NaN, so any pixel will do. Masks, not
    // branches, which would keep the loop from being vectorised.
    const uint32_t number = ~static_cast<uint32_t>(-(p != p));
    const float q = FromBits(ToBits(p) & number);
    int32_t base = static_cast<int32_t>(q);
    base -= static_cast<float>(base) > q;
    const float fraction = p - static_cast<float>(base);
    taps->weight[0][i] = 1.0f - fraction;
    taps->weight[1][i] = fraction;
    taps->offset[0][i] = base;
    taps->offset[1][i] = (base + 1) & static_cast<int32_t>(number);
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

  // Corner K takes the second tap of the axes whose bit is set.
  template <int K>
  static constexpr int Tap(int a) {
    return (K >> (D - 1 - a)) & 1;
  }

  template <int K>
  STN_INLINE int32_t Offset(int i) const {
    int32_t offset = axis[0].offset[Tap<K>(0)][i];
    if constexpr (D > 1) offset += axis[1].offset[Tap<K>(1)][i];
    if constexpr (D > 2) offset += axis[2].offset[Tap<K>(2)][i];
    return offset;
  }
  template <int K>
  STN_INLINE int32_t Inside(int i) const {
    int32_t inside = axis[0].inside[Tap<K>(0)][i];
    if constexpr (D > 1) inside &= axis[1].inside[Tap<K>(1)][i];
    if constexpr (D > 2) inside &= axis[2].inside[Tap<K>(2)][i];
    return inside;
  }
  template <int K>
  STN_INLINE float Weight(int i) const {
    float weight = axis[0].weight[Tap<K>(0)][i];
    if constexpr (D > 1) weight *= axis[1].weight[Tap<K>(1)][i];
    if constexpr (D > 2) weight *= axis[2].weight[Tap<K>(2)][i];
    return weight;
  }
  // The derivative of Weight along one axis.
  template <int K, int Along>
  STN_INLINE float Slope(int i) const {
    float slope = Tap<K>(Along) ? 1.0f : -1.0f;
    if constexpr (Along != 0) slope *= axis[0].weight[Tap<K>(0)][i];
    if constexpr (D > 1 && Along != 1) slope *= axis[1].weight[Tap<K>(1)][i];
    if constexpr (D > 2 && Along != 2) slope *= axis[2].weight[Tap<K>(2)][i];
    return slope;
  }
  // Where corner K's channels are: outside, a row of zeros.
  template <int K, typename T>
  STN_INLINE const T* Row(int i, const T* image, const T* zeros) const {
    return Inside<K>(i) ? image + Offset<K>(i) : zeros;
  }
  // Fetches the pixels of point i ahead of their use: along a grid that is
  // turned, each is on another line and no hardware guesses it.
  template <int kWrite, typename T>
  STN_INLINE void Prefetch(int i, const T* image) const {
    ForEach<(1 << (D - 1))>([&](auto corner) STN_LAMBDA {
      constexpr int k = 2 * decltype(corner)::value;
      __builtin_prefetch(image + Offset<k>(i), kWrite);
    });
  }
  // The values of corner K of an image of one channel.
  template <int K, typename T>
  STN_INLINE void Gather(int n, const T* STN_RESTRICT image,
                         float* STN_RESTRICT value) const {
    int32_t offset[kBlock];
    for (int i = 0; i < n; ++i) offset[i] = Offset<K>(i);
    for (int i = 0; i < n; ++i) value[i] = Load(image + offset[i]);
    for (int i = 0; i < n; ++i) {
      const auto inside = static_cast<uint32_t>(Inside<K>(i));
      value[i] = FromBits(ToBits(value[i]) & inside);
    }
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

// The points of a block up to which there are any to fetch.
STN_INLINE int AheadIn(const Problem& problem, int n) {
  int64_t elements = problem.channels;
  for (int a = 0; a < problem.axes; ++a) elements *= problem.size[a];
  return elements > kLarge ? n : 0;
}

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
    const int ahead = AheadIn(problem, n);
    block.Fill(problem, start, n);
    if constexpr (C == 1) {
      float total[kBlock] = {};
      float value[kBlock];
      ForEach<kCorners>([&](auto corner) STN_LAMBDA {
        constexpr int k = decltype(corner)::value;
        block.template Gather<k>(n, image, value);
        for (int i = 0; i < n; ++i) {
          total[i] += block.template Weight<k>(i) * value[i];
        }
      });
      for (int i = 0; i < n; ++i) Store(total[i], out + start + i);
    } else {
      for (int i = 0; i < n; ++i) {
        if (i + kAhead < ahead) block.template Prefetch<0>(i + kAhead, image);
        const T* row[kCorners];
        float weight[kCorners];
        ForEach<kCorners>([&](auto corner) STN_LAMBDA {
          constexpr int k = decltype(corner)::value;
          row[k] = block.template Row<k>(i, image, zeros);
          weight[k] = block.template Weight<k>(i);
        });
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
  Quad part[kWide / 4];
  __builtin_memcpy(part, &v, sizeof(v));
  Quad sum = part[0];
  for (int i = 1; i < kWide / 4; ++i) sum += part[i];
  return sum;
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
    const int ahead = AheadIn(problem, n);
    block.Fill(problem, start, n);
    if constexpr (C == 1) {
      ForEach<kCorners>([&](auto corner) STN_LAMBDA {
        constexpr int k = decltype(corner)::value;
        block.template Gather<k>(n, image, dot[k]);
        for (int i = 0; i < n; ++i) dot[k][i] *= Load(ct + start + i);
      });
    } else {
      for (int i = 0; i < n; ++i) {
        if (i + kAhead < ahead) block.template Prefetch<0>(i + kAhead, image);
        const T* row[kCorners];
        ForEach<kCorners>([&](auto corner) STN_LAMBDA {
          constexpr int k = decltype(corner)::value;
          row[k] = block.template Row<k>(i, image, zeros);
        });
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
    ForEach<D>([&](auto axis) STN_LAMBDA {
      constexpr int a = decltype(axis)::value;
      const float* STN_RESTRICT pixel = problem.pixel[a] + start;
      float* STN_RESTRICT to = out[a] + start;
      float total[kBlock] = {};
      ForEach<kCorners>([&](auto corner) STN_LAMBDA {
        constexpr int k = decltype(corner)::value;
        for (int i = 0; i < n; ++i) {
          total[i] += block.template Slope<k, a>(i) * dot[k][i];
        }
      });
      for (int i = 0; i < n; ++i) {
        // Beyond kFar the coordinate was clipped: it moves nothing. The
        // weight makes NaN of what a NaN coordinate has.
        const bool far = (pixel[i] > kFar) | (pixel[i] < -kFar);
        to[i] = far ? 0.0f : total[i] + 0.0f * block.axis[a].weight[0][i];
      }
    });
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
    const int ahead = AheadIn(problem, n);
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
      if (i + kAhead < ahead) block.template Prefetch<1>(i + kAhead, image);
      const T* from = ct + (start + i) * channels;
      if constexpr (C > 0) {
        float factor[C];
        for (int c = 0; c < C; ++c) factor[c] = Load(from + c);
        ForEach<kCorners>([&](auto corner) STN_LAMBDA {
          constexpr int k = decltype(corner)::value;
          if (!block.template Inside<k>(i)) return;
          const float weight = block.template Weight<k>(i);
          float* to = image + block.template Offset<k>(i);
          for (int c = 0; c < C; ++c) to[c] += weight * factor[c];
        });
      } else {
        ForEach<kCorners>([&](auto corner) STN_LAMBDA {
          constexpr int k = decltype(corner)::value;
          if (!block.template Inside<k>(i)) return;
          const float weight = block.template Weight<k>(i);
          float* to = image + block.template Offset<k>(i);
          int64_t c = 0;
          for (; c + kWide <= channels; c += kWide) {
            StoreWide(LoadWide(to + c) + weight * LoadWide(from + c), to + c);
          }
          for (; c + 4 <= channels; c += 4) {
            StoreQuad<4>(LoadQuad<4>(to + c) + weight * LoadQuad<4>(from + c),
                         to + c);
          }
          for (; c < channels; ++c) to[c] += weight * Load(from + c);
        });
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
