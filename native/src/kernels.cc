// See kernels.h. Images of one channel are done kWide points at a time, of two
// to four channels in one vector a point, of more along the channels.
#include "blocks.h"

namespace stn::STN_LEVEL {
namespace {

// C is the number of channels if it is 1 to 4, otherwise 0; From is where the
// points come from, see points.h.

// A block, and the weight of every pixel of its points, times value(i).
template <int D, typename Points, typename Value>
STN_INLINE void FillWeighted(const Problem& problem, Points* points,
                             int64_t start, int32_t begin, int32_t end,
                             Block<D>* block, float (*weight)[kBlock],
                             const Value& value) {
  block->Fill(problem, points, start, begin, end,
              [&](const Group<D>& group, int i) STN_LAMBDA {
    const Wide factor = value(i);
    ForEach<Block<D>::kPixels>([&](auto pixel) STN_LAMBDA {
      constexpr int k = decltype(pixel)::value;
      StoreWide(group.template RowWeight<k / 2>() *
                    group.axis[D - 1].weight[k % 2] * factor,
                weight[k] + i);
    });
  });
}

// out = sum over k of weight[k] * pixel[k], channel by channel.
template <int N, typename T>
STN_INLINE void Combine(const float* weight, const T* const* pixel,
                        int64_t channels, T* out) {
  const auto total = [&](auto load, int64_t c) STN_LAMBDA {
    auto sum = weight[0] * load(pixel[0] + c);
    for (int k = 1; k < N; ++k) sum += weight[k] * load(pixel[k] + c);
    return sum;
  };
  const auto wide = [](const T* p) STN_LAMBDA { return LoadWide(p); };
  const auto quad = [](const T* p) STN_LAMBDA { return LoadQuad<4>(p); };
  const auto one = [](const T* p) STN_LAMBDA { return Load(p); };
  int64_t c = 0;
  for (; c + kWide <= channels; c += kWide) StoreWide(total(wide, c), out + c);
  for (; c + 4 <= channels; c += 4) StoreQuad<4>(total(quad, c), out + c);
  for (; c < channels; ++c) Store(total(one, c), out + c);
}

template <int D, int C, typename From, typename T>
void Sample(const Problem& problem, const T* STN_RESTRICT image,
            const T* STN_RESTRICT zeros, T* STN_RESTRICT out) {
  constexpr int kPixels = Block<D>::kPixels;
  const int64_t channels = problem.channels;
  const int32_t size = problem.axis[0].size;
  if constexpr (C == 1) {
    int32_t stride[D];
    FillStrides<D>(problem, stride);
    ForGroups<D, typename From::Points>(
        problem, stride, 0, size,
        [&](const Group<D>& group, int64_t i, int64_t n) STN_LAMBDA {
      const Taps& inner = group.axis[D - 1];
      Wide total = {};
      group.ForRows(problem, stride, image,
                    [&](auto row, Wide first, Wide second) STN_LAMBDA {
        constexpr int r = decltype(row)::value;
        const Wide part = inner.weight[0] * first + inner.weight[1] * second;
        total += group.template RowWeight<r>() * part;
      });
      StoreFirst(total, n, out + i);
    });
    return;
  }
  Block<D> block(problem);
  typename From::Points points(problem);
  float weight[kPixels][kBlock];
  for (int64_t start = 0; start < problem.points; start += kBlock) {
    FillWeighted(problem, &points, start, 0, size, &block, weight,
                 [](int) STN_LAMBDA { return Wide{} + 1.0f; });
    for (int i = 0; i < block.n; ++i) {
      block.template Prefetch<0>(problem, i, image);
      T* to = out + (start + i) * channels;
      if constexpr (C > 1) {
        Quad total = {};
        block.template ForRows<C>(
            i, image, zeros,
            [&](auto row, Quad first, Quad second) STN_LAMBDA {
          constexpr int r = decltype(row)::value;
          total += weight[2 * r][i] * first + weight[2 * r + 1][i] * second;
        });
        // The point behind it, if there is one, is written later.
        if (i + 1 < block.n) {
          StoreOver<C>(total, to);
        } else {
          StoreQuad<C>(total, to);
        }
      } else {
        const T* pixel[kPixels];
        float factor[kPixels];
        for (int k = 0; k < kPixels; ++k) {
          const T* from = block.Pixel(image, k, i);
          pixel[k] = from ? from : zeros;
          factor[k] = weight[k][i];
        }
        Combine<kPixels>(factor, pixel, channels, to);
      }
    }
  }
}

// dot[k] = sum over channels of ct * pixel[k].
template <int N, typename T>
STN_INLINE void Dots(const T* const* pixel, const T* ct, int64_t channels,
                     float* dot) {
  Quad sum[N];
  int64_t c = 0;
  {
    Wide total[N] = {};
    for (; c + kWide <= channels; c += kWide) {
      const Wide factor = LoadWide(ct + c);
      for (int k = 0; k < N; ++k) total[k] += factor * LoadWide(pixel[k] + c);
    }
    for (int k = 0; k < N; ++k) sum[k] = SumOfQuads(total[k]);
  }
  for (; c + 4 <= channels; c += 4) {
    const Quad factor = LoadQuad<4>(ct + c);
    for (int k = 0; k < N; ++k) sum[k] += factor * LoadQuad<4>(pixel[k] + c);
  }
  for (; c < channels; ++c) {
    for (int k = 0; k < N; ++k) sum[k][0] += Load(ct + c) * Load(pixel[k] + c);
  }
  for (int k = 0; k < N; ++k) dot[k] = Sum(sum[k]);
}

// slope[a] += d / d pixel[a] of what row R adds to the sample: `first` and
// `second` are its two pixels, or their products with a cotangent.
// `weight(a, tap)` is that of one tap along axis a.
template <int D, int R, typename V, typename W>
STN_INLINE void AddSlopes(const W& weight, V first, V second, V* slope) {
  V along = second - first;
  const V value = weight(D - 1, 0) * first + weight(D - 1, 1) * second;
  ForEach<D - 1>([&](auto outer) STN_LAMBDA {
    constexpr int a = decltype(outer)::value;
    along *= weight(a, Group<D>::template Tap<R>(a));
    V part = value;
    if constexpr (D == 3) {
      part *= weight(1 - a, Group<D>::template Tap<R>(1 - a));
    }
    slope[a] = Group<D>::template Tap<R>(a) ? slope[a] + part : slope[a] - part;
  });
  slope[D - 1] += along;
}

// Passes on the cotangents of the coordinates, of the next points: from their
// pixels and from the slopes along each axis of pixels.
template <int D, typename Cotangent>
STN_INLINE void AddCotangents(const Problem& problem, const Wide* pixel,
                              const Wide* slope, int64_t n,
                              Cotangent* cotangent) {
  Wide along[D];
  for (int a = 0; a < D; ++a) {
    // NaN stays NaN. Where the coordinate was clipped, it moves nothing.
    const WideInt clipped = (pixel[a] == kFar) | (pixel[a] == -kFar);
    const float scale = problem.axis[a].scale;
    Wide moved = 0.0f * pixel[a];
    // One pixel: nothing moves, whatever the slope is.
    if (scale != 0) moved += scale * slope[a];
    along[a] = Only(~clipped, moved);
  }
  cotangent->Add(along, n);
}

template <int D, int C, typename From, typename T>
void Pull(const Problem& problem, const T* STN_RESTRICT image,
          const T* STN_RESTRICT zeros, const T* STN_RESTRICT ct,
          float* STN_RESTRICT out) {
  constexpr int kPixels = Block<D>::kPixels;
  const int64_t channels = problem.channels;
  const int32_t size = problem.axis[0].size;
  typename From::Cotangent cotangent(problem, out);
  if constexpr (C == 1) {
    int32_t stride[D];
    FillStrides<D>(problem, stride);
    ForGroups<D, typename From::Points>(
        problem, stride, 0, size,
        [&](const Group<D>& group, int64_t i, int64_t n) STN_LAMBDA {
      const auto weight = [&](int a, int tap) STN_LAMBDA {
        return group.axis[a].weight[tap];
      };
      Wide slope[D] = {};
      group.ForRows(problem, stride, image,
                    [&](auto row, Wide first, Wide second) STN_LAMBDA {
        AddSlopes<D, decltype(row)::value>(weight, first, second, slope);
      });
      const Wide factor = LoadFirst(ct + i, n);
      Wide pixel[D];
      for (int a = 0; a < D; ++a) {
        pixel[a] = group.axis[a].pixel;
        slope[a] *= factor;
      }
      AddCotangents<D>(problem, pixel, slope, n, &cotangent);
    });
    cotangent.Finish();
    return;
  }
  Block<D> block(problem);
  typename From::Points points(problem);
  float weights[D][2][kBlock], slopes[D][kBlock] = {}, pixels[D][kBlock];
  for (int64_t start = 0; start < problem.points; start += kBlock) {
    block.Fill(problem, &points, start, 0, size,
               [&](const Group<D>& group, int i) STN_LAMBDA {
      for (int a = 0; a < D; ++a) {
        for (int t = 0; t < 2; ++t) {
          StoreWide(group.axis[a].weight[t], weights[a][t] + i);
        }
        StoreWide(group.axis[a].pixel, pixels[a] + i);
      }
    });
    for (int i = 0; i < block.n; ++i) {
      block.template Prefetch<0>(problem, i, image);
      const auto weight = [&](int a, int tap) STN_LAMBDA {
        return weights[a][tap][i];
      };
      const T* from = ct + (start + i) * channels;
      if constexpr (C > 1) {
        Quad slope[D] = {};
        block.template ForRows<C>(
            i, image, zeros,
            [&](auto row, Quad first, Quad second) STN_LAMBDA {
          AddSlopes<D, decltype(row)::value>(weight, first, second, slope);
        });
        const Quad factor = LoadQuad<C>(from);
        for (int a = 0; a < D; ++a) slopes[a][i] = SumOf<C>(factor * slope[a]);
      } else {
        const T* pixel[kPixels];
        for (int k = 0; k < kPixels; ++k) {
          const T* at = block.Pixel(image, k, i);
          pixel[k] = at ? at : zeros;
        }
        float dot[kPixels], slope[D] = {};
        Dots<kPixels>(pixel, from, channels, dot);
        ForEach<kPixels / 2>([&](auto row) STN_LAMBDA {
          constexpr int r = decltype(row)::value;
          AddSlopes<D, r>(weight, dot[2 * r], dot[2 * r + 1], slope);
        });
        for (int a = 0; a < D; ++a) slopes[a][i] = slope[a];
      }
    }
    for (int i = 0; i < block.n; i += kWide) {
      Wide pixel[D], slope[D];
      for (int a = 0; a < D; ++a) {
        pixel[a] = LoadWide(pixels[a] + i);
        slope[a] = LoadWide(slopes[a] + i);
      }
      AddCotangents<D>(problem, pixel, slope, block.n - i, &cotangent);
    }
  }
  cotangent.Finish();
}

// Points of a block, in an order in which neighbours are far apart: a sum that
// waits for that of the point before, at the same pixel, takes longer.
template <typename F>
STN_INLINE void ForPointsApart(int n, const F& f) {
  constexpr int kApart = 16;
  for (int first = 0; first < kApart && first < n; ++first) {
    for (int i = first; i < n; i += kApart) f(i);
  }
}

template <int D, int C, typename From, typename T>
void Scatter(const Problem& problem, const T* STN_RESTRICT ct, int32_t begin,
             int32_t end, float* STN_RESTRICT image) {
  constexpr int kPixels = Block<D>::kPixels;
  const int64_t channels = problem.channels;
  Block<D> block(problem);
  typename From::Points points(problem);
  float weight[kPixels][kBlock];
  for (int64_t start = 0; start < problem.points; start += kBlock) {
    FillWeighted(problem, &points, start, begin, end, &block, weight,
                 [&](int i) STN_LAMBDA {
      if constexpr (C != 1) return Wide{} + 1.0f;
      return LoadFirst(ct + start + i, problem.points - start - i);
    });
    if (!block.any) continue;
    // One channel: the weight is all that is added.
    if constexpr (C == 1) {
      ForPointsApart(block.n, [&](int i) STN_LAMBDA {
        float* to = image + block.offset[0][i];
        for (int k = 0; k < kPixels; ++k) {
          if (block.whole[i]) {
            to[block.step[k]] += weight[k][i];
          } else if (block.inside[k][i]) {
            image[block.offset[k][i]] += weight[k][i];
          }
        }
      });
      continue;
    }
    for (int i = 0; i < block.n; ++i) {
      block.template Prefetch<1>(problem, i, image);
      const T* from = ct + (start + i) * channels;
      Quad factor = {};
      if constexpr (C > 0) factor = LoadQuad<C>(from);
      for (int k = 0; k < kPixels; ++k) {
        float* to = block.Pixel(image, k, i);
        if (to == nullptr) continue;
        const float w = weight[k][i];
        if constexpr (C > 0) {
          AddQuad<C>(w * factor, to);
          continue;
        }
        int64_t c = 0;
        for (; c + kWide <= channels; c += kWide) {
          StoreWide(LoadWide(to + c) + w * LoadWide(from + c), to + c);
        }
        for (; c + 4 <= channels; c += 4) {
          StoreQuad<4>(LoadQuad<4>(to + c) + w * LoadQuad<4>(from + c),
                       to + c);
        }
        for (; c < channels; ++c) to[c] += w * Load(from + c);
      }
    }
  }
}

// From the run-time numbers of axes and channels to the compiled ones.
#define STN_DISPATCH_CHANNELS(D, From, FUNCTION, ...)         \
  switch (problem.channels) {                                 \
    case 1: return FUNCTION<D, 1, From<D>, T>(__VA_ARGS__);   \
    case 2: return FUNCTION<D, 2, From<D>, T>(__VA_ARGS__);   \
    case 3: return FUNCTION<D, 3, From<D>, T>(__VA_ARGS__);   \
    case 4: return FUNCTION<D, 4, From<D>, T>(__VA_ARGS__);   \
    default: return FUNCTION<D, 0, From<D>, T>(__VA_ARGS__);  \
  }
#define STN_DISPATCH(FUNCTION, ...)                                     \
  if (problem.grid == nullptr) {                                        \
    STN_DISPATCH_CHANNELS(2, FromMap, FUNCTION, __VA_ARGS__)            \
  }                                                                     \
  switch (problem.axes) {                                               \
    case 1: STN_DISPATCH_CHANNELS(1, FromGrid, FUNCTION, __VA_ARGS__)   \
    case 2: STN_DISPATCH_CHANNELS(2, FromGrid, FUNCTION, __VA_ARGS__)   \
    default: STN_DISPATCH_CHANNELS(3, FromGrid, FUNCTION, __VA_ARGS__)  \
  }

template <typename T>
void SampleAny(const Problem& problem, const T* image, const T* zeros, T* out) {
  STN_DISPATCH(Sample, problem, image, zeros, out)
}
template <typename T>
void PullAny(const Problem& problem, const T* image, const T* zeros,
             const T* ct, float* out) {
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
