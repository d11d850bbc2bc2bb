// From coordinates to pixels, kWide points at a time.
#pragma once

#include "simd.h"

namespace stn::STN_LEVEL {
namespace {

// Beyond this every coordinate is outside; `FAR` of stn/sampling/xla.py.
constexpr float kFar = 1073741824.0f;

// The two pixels of each point that take part along one axis.
struct Taps {
  WideInt offset[2];  // in elements of the image, always inside it
  WideInt inside[2];  // all ones, or 0 where there is no image
  Wide weight[2];
  Wide pixel;  // the coordinate, within +-kFar
};

// `index` modulo `period`, as an integer from 0.
STN_INLINE int64_t Modulo(int64_t index, int64_t period) {
  const int64_t rest = index % period;
  return rest < 0 ? rest + period : rest;
}

STN_INLINE int32_t Fold(int32_t index, int32_t size, Padding padding) {
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
    default:
      return static_cast<int32_t>(Modulo(index, n));
  }
}

[[gnu::noinline]] WideInt Folded(WideInt index, int32_t size, Padding padding) {
  for (int i = 0; i < kWide; ++i) index[i] = Fold(index[i], size, padding);
  return index;
}

STN_INLINE Taps Locate(Wide coordinate, const Axis& axis, int32_t stride,
                       Padding padding) {
  Taps taps;
  const Wide far = Wide{} + kFar;
  Wide p = coordinate * axis.scale + axis.offset;
  if (axis.scale == 0) {  // one pixel: all but NaN is there, infinity too
    p = Only(coordinate != coordinate, coordinate);
  }
  p = p < -far ? -far : p;  // NaN passes both
  p = p > far ? far : p;
  const Wide whole = Round(p), off = p - whole;
  const Wide distance = Only(WideInt{} + 0x7fffffff, off);
  p = distance <= axis.tolerance ? whole : p;
  taps.pixel = p;
  const Wide floor = whole - Only(whole > p, Wide{} + 1.0f);
  taps.weight[1] = p - floor;
  taps.weight[0] = 1.0f - taps.weight[1];
  // NaN has no integer: its weight is NaN, so any pixel will do.
  const WideInt number = p == p;
  const WideInt base = __builtin_convertvector(Only(number, floor), WideInt);
  const WideInt index[2] = {base, (base + 1) & number};
  const WideInt last = WideInt{} + (axis.size - 1);
  ForEach<2>([&](auto tap) STN_LAMBDA {
    constexpr int t = decltype(tap)::value;
    WideInt within = index[t] < 0 ? WideInt{} : index[t];
    within = within > last ? last : within;
    taps.inside[t] = index[t] == within;
    if (padding != Padding::kZeros) {
      if (padding != Padding::kBorder && AnyOf(~taps.inside[t])) {
        within = Folded(index[t], axis.size, padding);
      }
      taps.inside[t] = ~WideInt{};
    }
    taps.offset[t] = within * stride;
  });
  return taps;
}

// Every D-th of kWide * D coordinates, from number First on.
template <int D, int First>
STN_INLINE Wide Coordinates(const float* grid) {
  if constexpr (D == 1) return LoadWide(grid);
  if constexpr (D == 2) {
    const Wide a = LoadWide(grid), b = LoadWide(grid + kWide);
#if defined(__AVX__)
    return First ? STN_SHUFFLE(WideInt, a, b, 1, 3, 5, 7, 9, 11, 13, 15)
                 : STN_SHUFFLE(WideInt, a, b, 0, 2, 4, 6, 8, 10, 12, 14);
#else
    return First ? STN_SHUFFLE(WideInt, a, b, 1, 3, 5, 7)
                 : STN_SHUFFLE(WideInt, a, b, 0, 2, 4, 6);
#endif
  }
  // In one expression: a vector filled lane by lane goes through the stack.
  const auto at = [&](int i) STN_LAMBDA { return grid[D * i + First]; };
#if defined(__AVX__)
  return Wide{at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)};
#else
  return Wide{at(0), at(1), at(2), at(3)};
#endif
}

// Where kWide points look. The 2**D pixels of a point are 2**(D - 1) rows of
// two, which are neighbours along the last axis.
template <int D>
struct Group {
  static constexpr int kRows = 1 << (D - 1);
  Taps axis[D];

  // Which tap along axis a, of all but the last, row R takes.
  template <int R>
  static constexpr int Tap(int a) {
    return (R >> (D - 2 - a)) & 1;
  }
  template <int R>
  STN_INLINE WideInt RowOffset() const {
    WideInt offset = {};
    ForEach<D - 1>([&](auto outer) STN_LAMBDA {
      constexpr int a = decltype(outer)::value;
      offset += axis[a].offset[Tap<R>(a)];
    });
    return offset;
  }
  template <int R>
  STN_INLINE WideInt RowInside() const {
    WideInt inside = ~WideInt{};
    ForEach<D - 1>([&](auto outer) STN_LAMBDA {
      constexpr int a = decltype(outer)::value;
      inside &= axis[a].inside[Tap<R>(a)];
    });
    return inside;
  }
  template <int R>
  STN_INLINE Wide RowWeight() const {
    Wide weight = Wide{} + 1.0f;
    ForEach<D - 1>([&](auto outer) STN_LAMBDA {
      constexpr int a = decltype(outer)::value;
      weight = a ? weight * axis[a].weight[Tap<R>(a)]
                 : axis[a].weight[Tap<R>(a)];
    });
    return weight;
  }

  // Locates the first `n` of the points at `grid`, at most kWide; what is
  // behind them is not read. Only the indices [begin, end) along the first
  // axis count as inside: false is returned, at once, if no point is there.
  STN_INLINE bool Fill(const Problem& problem, const float* grid, int64_t n,
                       int32_t begin, int32_t end) {
    float rest[kWide * D];
    if (n < kWide) {
      for (int i = 0; i < kWide * D; ++i) rest[i] = i < n * D ? grid[i] : 0;
      grid = rest;
    }
    int32_t stride[D];
    stride[D - 1] = static_cast<int32_t>(problem.channels);
    for (int a = D - 1; a > 0; --a) {
      stride[a - 1] = stride[a] * problem.axis[a].size;
    }
    axis[0] = Locate(Coordinates<D, D - 1>(grid), problem.axis[0], stride[0],
                     problem.padding);
    if (begin > 0 || end < problem.axis[0].size) {
      // The others' offsets are moved inside too: what they add there is 0.
      const WideInt low = WideInt{} + begin * stride[0];
      const WideInt high = WideInt{} + (end - 1) * stride[0];
      for (int t = 0; t < 2; ++t) {
        const WideInt offset = axis[0].offset[t];
        const WideInt within = (offset >= low) & (offset <= high);
        axis[0].inside[t] &= within;
        axis[0].offset[t] = within ? offset : low;
      }
      if (!AnyOf(axis[0].inside[0] | axis[0].inside[1])) return false;
    }
    ForEach<D - 1>([&](auto order) STN_LAMBDA {
      constexpr int a = decltype(order)::value + 1;
      axis[a] = Locate(Coordinates<D, D - 1 - a>(grid), problem.axis[a],
                       stride[a], problem.padding);
    });
    return true;
  }

  // The pixels of row R of an image of one channel, 0 where they are outside.
  template <int R, typename T>
  STN_INLINE void LoadRow(const Problem& problem, const T* image, Wide* first,
                          Wide* second) const {
    const Taps& inner = axis[D - 1];
    const WideInt row = RowOffset<R>(), inside = RowInside<R>();
    const WideInt x0 = inner.offset[0], x1 = inner.offset[1];
    const int32_t size = problem.axis[D - 1].size;
    if (size > 1 && problem.padding != Padding::kWrap) {
      // Both are within two neighbours: one load fetches them.
      const WideInt last = WideInt{} + (size - 2);
      WideInt start = x0 < x1 ? x0 : x1;
      start = start < last ? start : last;
      Wide low, high;
      LoadPairs(image, row + start, &low, &high);
      *first = Select(x0 == start, low, high);
      *second = Select(x1 == start, low, high);
    } else {
      *first = LoadEach(image, row + x0);
      *second = LoadEach(image, row + x1);
    }
    *first = Only(inside & inner.inside[0], *first);
    *second = Only(inside & inner.inside[1], *second);
  }
};

// Calls f(group, i, n) for groups of points: `group` is that of the first of
// the `n` points from i on. Those without a point in [begin, end) are left out.
// Some are located before the first is used: the steps of one depend on each
// other, and the processor has to see others.
template <int D, typename F>
STN_INLINE void ForGroups(const Problem& problem, int32_t begin, int32_t end,
                          const F& f) {
  constexpr int kGroups = 8;
  Group<D> groups[kGroups];
  bool any[kGroups];
  for (int64_t start = 0; start < problem.points; start += kGroups * kWide) {
    const int64_t left = problem.points - start;
    for (int g = 0; g < kGroups && g * kWide < left; ++g) {
      any[g] = groups[g].Fill(problem, problem.grid + (start + g * kWide) * D,
                              left - g * kWide, begin, end);
    }
    for (int g = 0; g < kGroups && g * kWide < left; ++g) {
      if (any[g]) f(groups[g], start + g * kWide, left - g * kWide);
    }
  }
}

// The same for a block of points that are then done one by one. It stays in
// the first cache. Pixel 2 R + t of a point is tap t of row R.
constexpr int kBlock = 128;

template <int D>
struct Block {
  static constexpr int kPixels = 2 * Group<D>::kRows;
  int n;     // points
  bool any;  // of them in [begin, end)
  int32_t offset[kPixels][kBlock];
  int32_t inside[kPixels][kBlock];
  int32_t whole[kBlock];  // all ones where rows are in one piece and inside
};

// Fills a block from the point `start` on, and passes on every group of it.
template <int D, typename F>
STN_INLINE void FillBlock(const Problem& problem, int64_t start, int32_t begin,
                          int32_t end, Block<D>* block, const F& each) {
  const int64_t left = problem.points - start;
  const int n = static_cast<int>(left < kBlock ? left : kBlock);
  const auto channels = static_cast<int32_t>(problem.channels);
  block->n = n;
  block->any = false;
  for (int i = 0; i < n; i += kWide) {
    Group<D> group;
    if (!group.Fill(problem, problem.grid + (start + i) * D, n - i, begin,
                    end)) {
      for (auto& offset : block->offset) StoreAs(WideInt{}, offset + i);
      for (auto& inside : block->inside) StoreAs(WideInt{}, inside + i);
      StoreAs(WideInt{}, block->whole + i);
      continue;
    }
    block->any = true;
    const Taps& inner = group.axis[D - 1];
    WideInt whole = inner.offset[1] - inner.offset[0] == channels;
    ForEach<Group<D>::kRows>([&](auto row) STN_LAMBDA {
      constexpr int r = decltype(row)::value;
      ForEach<2>([&](auto tap) STN_LAMBDA {
        constexpr int t = decltype(tap)::value;
        const WideInt inside = group.template RowInside<r>() & inner.inside[t];
        whole &= inside;
        StoreAs(inside, block->inside[2 * r + t] + i);
        StoreAs(group.template RowOffset<r>() + inner.offset[t],
                block->offset[2 * r + t] + i);
      });
    });
    StoreAs(whole, block->whole + i);
    each(group, i);
  }
}

// The pixels of row R for point i of an image of C channels.
template <int R, int C, int D, typename T>
STN_INLINE void LoadRow(const Block<D>& block, int i, const T* image,
                        const T* zeros, Quad* first, Quad* second) {
  const T* pixel[2];
  for (int t = 0; t < 2; ++t) pixel[t] = image + block.offset[2 * R + t][i];
  if (block.whole[i]) {
    LoadQuads<C>(pixel[0], first, second);
  } else {
    *first = LoadQuad<C>(block.inside[2 * R][i] ? pixel[0] : zeros);
    *second = LoadQuad<C>(block.inside[2 * R + 1][i] ? pixel[1] : zeros);
  }
}

// Fetches the pixels of a point ahead of their use, where the image has more
// elements than the second cache may hold: along a grid that is turned, each
// is on another line and no hardware guesses it.
template <int kWrite, int D, typename T>
STN_INLINE void Prefetch(const Problem& problem, const Block<D>& block, int i,
                         const T* image) {
  constexpr int kAhead = 16;
  constexpr int64_t kLarge = 1 << 17;
  int64_t elements = problem.channels;
  for (int a = 0; a < D; ++a) elements *= problem.axis[a].size;
  if (elements <= kLarge || i + kAhead >= block.n) return;
  for (int k = 0; k < Block<D>::kPixels; k += 2) {
    __builtin_prefetch(image + block.offset[k][i + kAhead], kWrite);
  }
}

}  // namespace
}  // namespace stn::STN_LEVEL
