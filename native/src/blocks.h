// Points in groups, for one channel, and in blocks, for more.
#pragma once

#include "locate.h"

namespace stn::STN_LEVEL {
namespace {

// Calls f(group, i, n) for groups of points: `group` is that of the first of
// the `n` points from i on. Those without a point in [begin, end) are left out.
template <int D, typename Points, typename F>
STN_INLINE void ForGroups(const Problem& problem, const int32_t* stride,
                          int32_t begin, int32_t end, const F& f) {
  Points points(problem);
  for (int64_t i = 0; i < problem.points; i += kWide) {
    const int64_t left = problem.points - i;
    Wide coordinate[D];
    points.Next(left, coordinate);
    Group<D> group;
    if (group.Fill(problem, coordinate, stride, begin, end)) f(group, i, left);
  }
}

// Points that are located first and then done one by one. A block stays in the
// first cache. Pixel 2 R + t of a point is tap t of row R.
constexpr int kBlock = 128;

template <int D>
struct Block {
  static constexpr int kPixels = 2 * Group<D>::kRows;
  int n;     // points
  bool any;  // of them in [begin, end)
  int32_t stride[D];
  int64_t step[kPixels];  // of `whole` points, from pixel 0 to each
  // All ones where all pixels are inside and `step` apart; of these points
  // offset[0] alone is filled in, and nothing of `inside`.
  int32_t whole[kBlock];
  int32_t offset[kPixels][kBlock];
  int32_t inside[kPixels][kBlock];

  explicit Block(const Problem& problem) {
    FillStrides<D>(problem, stride);
    ForEach<kPixels>([&](auto pixel) STN_LAMBDA {
      constexpr int k = decltype(pixel)::value;
      step[k] = Group<D>::template Step<k / 2>(stride) + k % 2 * stride[D - 1];
    });
  }

  // Fills a block with the points from `start` on, and passes on every group
  // of it.
  template <typename Points, typename F>
  STN_INLINE void Fill(const Problem& problem, Points* points, int64_t start,
                       int32_t begin, int32_t end, const F& each) {
    const int64_t left = problem.points - start;
    n = static_cast<int>(left < kBlock ? left : kBlock);
    any = false;
    for (int i = 0; i < n; i += kWide) {
      Wide coordinate[D];
      points->Next(n - i, coordinate);
      Group<D> group;
      if (!group.Fill(problem, coordinate, stride, begin, end)) {
        for (auto& to : offset) StoreAs(WideInt{}, to + i);
        for (auto& to : inside) StoreAs(WideInt{}, to + i);
        StoreAs(WideInt{}, whole + i);
        continue;
      }
      any = true;
      each(group, i);
      const Taps& inner = group.axis[D - 1];
      const WideInt first = group.template RowOffset<0>() + inner.offset[0];
      StoreAs(first, offset[0] + i);
      WideInt all = ~WideInt{};
      if (!group.interior) {
        ForEach<kPixels>([&](auto pixel) STN_LAMBDA {
          constexpr int k = decltype(pixel)::value;
          const WideInt within = group.template RowInside<k / 2>() &
                                 inner.inside[k % 2];
          const WideInt from = group.template RowOffset<k / 2>() +
                               inner.offset[k % 2];
          all &= within & (from - first == static_cast<int32_t>(step[k]));
          StoreAs(within, inside[k] + i);
          StoreAs(from, offset[k] + i);
        });
      }
      StoreAs(all, whole + i);
    }
  }

  // Pixel k of point i, or null where it is outside.
  template <typename T>
  STN_INLINE T* Pixel(T* image, int k, int i) const {
    if (whole[i]) return image + offset[0][i] + step[k];
    return inside[k][i] ? image + offset[k][i] : nullptr;
  }

  // Calls f(Index<R>{}, first, second) with the pixels of every row R of point
  // i, of C channels.
  template <int C, typename T, typename F>
  STN_INLINE void ForRows(int i, const T* image, const T* zeros,
                          const F& f) const {
    constexpr int kRows = kPixels / 2;
    Quad first[kRows], second[kRows];
    if (whole[i]) {
      const T* from = image + offset[0][i];
      for (int r = 0; r < kRows; ++r) {
        LoadQuads<C>(from + step[2 * r], &first[r], &second[r]);
      }
    } else {
      for (int r = 0; r < kRows; ++r) {
        const T* a = inside[2 * r][i] ? image + offset[2 * r][i] : zeros;
        const T* b =
            inside[2 * r + 1][i] ? image + offset[2 * r + 1][i] : zeros;
        first[r] = LoadQuad<C>(a);
        second[r] = LoadQuad<C>(b);
      }
    }
    ForEach<kRows>([&](auto row) STN_LAMBDA {
      constexpr int r = decltype(row)::value;
      f(row, first[r], second[r]);
    });
  }

  // Fetches the pixels of a point ahead of their use, where the image has more
  // elements than the second cache may hold: along a grid that is turned, each
  // is on another line and no hardware guesses it.
  template <int kWrite, typename T>
  STN_INLINE void Prefetch(const Problem& problem, int i,
                           const T* image) const {
    constexpr int kAhead = 16;
    constexpr int64_t kLarge = 1 << 17;
    const int64_t elements = int64_t{stride[0]} * problem.axis[0].size;
    if (elements <= kLarge || i + kAhead >= n) return;
    for (int k = 0; k < kPixels; k += 2) {
      __builtin_prefetch(image + offset[0][i + kAhead] + step[k], kWrite);
    }
  }
};

}  // namespace
}  // namespace stn::STN_LEVEL
