// From coordinates to pixels, kWide points at a time. Most points have all
// their pixels inside the image: kWide such ones take a path of their own.
#pragma once

#include "points.h"

#if defined(__GNUC__) && !defined(__clang__)
// Of a group in the interior the rest is not filled in, nor used.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace stn::STN_LEVEL {
namespace {

// Beyond this every coordinate is outside; `FAR` of stn/sampling/gather.py.
constexpr float kFar = 1073741824.0f;
// Up to this every integer is a float.
constexpr int32_t kExact = 1 << 24;

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

// Where a coordinate is along one axis, in pixels.
STN_INLINE Wide ToPixels(Wide coordinate, const Axis& axis) {
  if (axis.scale == 0) {  // one pixel: all but NaN is there, infinity too
    return Only(coordinate != coordinate, coordinate);
  }
  return coordinate * axis.scale + axis.offset;
}

// Fills in the coordinate, which is the lattice point where it is near one, and
// the weights. Returns the pixel before it.
STN_INLINE Wide Weigh(Wide p, const Axis& axis, Taps* taps) {
  const Wide whole = Round(p), off = p - whole;
  const Wide distance = Only(WideInt{} + 0x7fffffff, off);
  p = distance <= axis.tolerance ? whole : p;
  taps->pixel = p;
  const Wide floor = whole - Only(whole > p, Wide{} + 1.0f);
  taps->weight[1] = p - floor;
  taps->weight[0] = 1.0f - taps->weight[1];
  return floor;
}

// Fills in the pixels, of which some may be outside the image, from the one
// before each point: NaN counts as 0.
STN_INLINE void Resolve(Wide floor, int32_t size, int32_t stride,
                        Padding padding, Taps* taps) {
  // NaN has no integer: its weight is NaN, so any pixel will do.
  const WideInt number = floor == floor;
  const WideInt base = __builtin_convertvector(Only(number, floor), WideInt);
  const WideInt index[2] = {base, (base + 1) & number};
  const WideInt last = WideInt{} + (size - 1);
  ForEach<2>([&](auto tap) STN_LAMBDA {
    constexpr int t = decltype(tap)::value;
    WideInt within = index[t] < 0 ? WideInt{} : index[t];
    within = within > last ? last : within;
    taps->inside[t] = index[t] == within;
    if (padding != Padding::kZeros) {
      if (padding != Padding::kBorder && AnyOf(~taps->inside[t])) {
        within = Folded(index[t], size, padding);
      }
      taps->inside[t] = ~WideInt{};
    }
    taps->offset[t] = within * stride;
  });
}

// Where kWide points look. The 2**D pixels of a point are 2**(D - 1) rows of
// two, which are neighbours along the last axis.
template <int D>
struct Group {
  static constexpr int kRows = 1 << (D - 1);
  Taps axis[D];
  bool interior;  // all pixels of all points are inside: offset[0] says where

  // Which tap along axis a, of all but the last, row R takes.
  template <int R>
  static constexpr int Tap(int a) {
    return (R >> (D - 2 - a)) & 1;
  }
  // What lies between the pixels of row R and those of row 0 in the interior.
  template <int R>
  static STN_INLINE int64_t Step(const int32_t* stride) {
    int64_t step = 0;
    for (int a = 0; a < D - 1; ++a) step += Tap<R>(a) * stride[a];
    return step;
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

  // Locates points. Only the indices [begin, end) along the first axis count
  // as inside: false is returned, at once, if no point is there.
  STN_INLINE bool Fill(const Problem& problem, const Wide* coordinate,
                       const int32_t* stride, int32_t begin, int32_t end) {
    Wide pixel[D], floor[D];
    WideInt within = ~WideInt{};
    ForEach<D>([&](auto order) STN_LAMBDA {
      constexpr int a = decltype(order)::value;
      pixel[a] = ToPixels(coordinate[a], problem.axis[a]);
      floor[a] = Weigh(pixel[a], problem.axis[a], &axis[a]);
      const int32_t first = a ? 0 : begin;
      const int32_t last = (a ? problem.axis[a].size : end) - 2;
      within &= (floor[a] >= static_cast<float>(first)) &
                (floor[a] <= static_cast<float>(last < kExact ? last : kExact));
    });
    interior = AllOf(within);
    if (interior) {
      for (int a = 0; a < D; ++a) {
        axis[a].offset[0] =
            __builtin_convertvector(floor[a], WideInt) * stride[a];
      }
      return true;
    }
    WideInt near = ~WideInt{};
    for (int a = 0; a < D; ++a) {
      near &= (pixel[a] >= -kFar) & (pixel[a] <= kFar);
    }
    if (!AllOf(near)) {
      for (int a = 0; a < D; ++a) floor[a] = Clip(pixel[a], problem.axis[a], a);
    }
    Resolve(floor[0], problem.axis[0].size, stride[0], problem.padding,
            &axis[0]);
    if (begin > 0 || end < problem.axis[0].size) {
      // The others' offsets are moved inside too: what they add there is 0.
      const WideInt low = WideInt{} + begin * stride[0];
      const WideInt high = WideInt{} + (end - 1) * stride[0];
      for (int t = 0; t < 2; ++t) {
        const WideInt offset = axis[0].offset[t];
        const WideInt inside = (offset >= low) & (offset <= high);
        axis[0].inside[t] &= inside;
        axis[0].offset[t] = inside ? offset : low;
      }
      if (!AnyOf(axis[0].inside[0] | axis[0].inside[1])) return false;
    }
    ForEach<D - 1>([&](auto order) STN_LAMBDA {
      constexpr int a = decltype(order)::value + 1;
      Resolve(floor[a], problem.axis[a].size, stride[a], problem.padding,
              &axis[a]);
    });
    return true;
  }

  // Weighs again what is huge or NaN, within +-kFar.
  [[gnu::noinline]] Wide Clip(Wide p, const Axis& of, int a) {
    const Wide far = Wide{} + kFar;
    p = p < -far ? -far : p;  // NaN passes both
    p = p > far ? far : p;
    return Weigh(p, of, &axis[a]);
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
      LoadPairs(image, Offsets(row + start), &low, &high);
      *first = Select(x0 == start, low, high);
      *second = Select(x1 == start, low, high);
    } else {
      *first = LoadEach(image, row + x0);
      *second = LoadEach(image, row + x1);
    }
    *first = Only(inside & inner.inside[0], *first);
    *second = Only(inside & inner.inside[1], *second);
  }

  // Calls f(Index<R>{}, first, second) with the pixels of every row R.
  template <typename T, typename F>
  STN_INLINE void ForRows(const Problem& problem, const int32_t* stride,
                          const T* image, const F& f) const {
    Wide first[kRows], second[kRows];
    if (interior) {
      const Offsets from(RowOffset<0>() + axis[D - 1].offset[0]);
      ForEach<kRows>([&](auto row) STN_LAMBDA {
        constexpr int r = decltype(row)::value;
        LoadPairs(image + Step<r>(stride), from, &first[r], &second[r]);
      });
    } else {
      ForEach<kRows>([&](auto row) STN_LAMBDA {
        constexpr int r = decltype(row)::value;
        LoadRow<r>(problem, image, &first[r], &second[r]);
      });
    }
    ForEach<kRows>([&](auto row) STN_LAMBDA {
      constexpr int r = decltype(row)::value;
      f(row, first[r], second[r]);
    });
  }
};

// Elements of the image from one pixel to the next along every axis.
template <int D>
STN_INLINE void FillStrides(const Problem& problem, int32_t* stride) {
  stride[D - 1] = static_cast<int32_t>(problem.channels);
  for (int a = D - 1; a > 0; --a) {
    stride[a - 1] = stride[a] * problem.axis[a].size;
  }
}

}  // namespace
}  // namespace stn::STN_LEVEL
