// Where the points are: coordinates, kWide points at a time and in their
// order, from a grid in memory or from a matrix. Each has a counterpart that
// takes the cotangents of the coordinates, in the same order.
#pragma once

#include "simd.h"

namespace stn::STN_LEVEL {
namespace {

constexpr int kLanes[8] = {0, 1, 2, 3, 4, 5, 6, 7};

// All ones in the first n lanes.
STN_INLINE WideInt FirstLanes(int64_t n) {
  return LoadAs<WideInt>(kLanes) < static_cast<int32_t>(n < kWide ? n : kWide);
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

// A grid in memory.
template <int D>
struct GridPoints {
  const float* grid;

  STN_INLINE explicit GridPoints(const Problem& problem) : grid(problem.grid) {}

  // coordinate[a] = those of the next points along the image's axis a. `n` are
  // left; what is behind them is not read.
  STN_INLINE void Next(int64_t n, Wide* coordinate) {
    const float* from = grid;
    float rest[kWide * D];
    if (n < kWide) {
      for (int i = 0; i < kWide * D; ++i) rest[i] = i < n * D ? grid[i] : 0;
      from = rest;
    }
    ForEach<D>([&](auto axis) STN_LAMBDA {
      constexpr int a = decltype(axis)::value;
      coordinate[a] = Coordinates<D, D - 1 - a>(from);
    });
    grid += kWide * D;
  }
};

// The cotangent of a grid: those of its points, in memory.
template <int D>
struct GridCotangent {
  float* out;

  STN_INLINE GridCotangent(const Problem&, float* to) : out(to) {}

  // along[a] = of the next points, of which `n` are left, along axis a.
  STN_INLINE void Add(const Wide* along, int64_t n) {
    float each[D][kWide];
    for (int a = 0; a < D; ++a) StoreWide(along[a], each[a]);
    if (n > kWide) n = kWide;
    for (int i = 0; i < n; ++i) {
      for (int a = 0; a < D; ++a) out[i * D + (D - 1 - a)] = each[a][i];
    }
    out += kWide * D;
  }
  STN_INLINE void Finish() {}
};

// A matrix applied to the regular grid: what stn.grids.rows_grid computes.
struct MapPoints {
  // A point whose denominator is at most kHorizon is at kBeyond: HORIZON and
  // FAR of stn/transforms/rows.py.
  static constexpr float kHorizon = 1e-3f, kBeyond = 1e4f;

  const Map& map;
  int32_t column, row;

  STN_INLINE explicit MapPoints(const Problem& problem)
      : map(problem.map),
        column(static_cast<int32_t>(map.start % map.width)),
        row(static_cast<int32_t>(map.start / map.width)) {}

  // The next points of the regular grid.
  STN_INLINE void NextRegular(Wide* x, Wide* y) {
    *x = LoadWide(map.x + column);
    *y = Wide{} + map.y[row];
    const int32_t left = map.width - column;
    column += kWide;
    if (left > kWide) return;
    if (map.width >= kWide) {
      *y = Select(FirstLanes(left), *y, Wide{} + map.y[row + 1]);
    } else {
      float each[kWide];
      for (int i = 0; i < kWide; ++i) {
        each[i] = map.y[row + (i + map.width - left) / map.width];
      }
      *y = LoadWide(each);
    }
    while (column >= map.width) {
      column -= map.width;
      ++row;
    }
  }

  STN_INLINE Wide Row(int r, Wide x, Wide y) const {
    const float* m = map.matrix + 3 * r;
    return (m[0] * x + m[2]) + m[1] * y;
  }

  // What the coordinates are divided by, and where they are beyond the horizon.
  STN_INLINE Wide Denominator(Wide x, Wide y, WideInt* beyond) const {
    const Wide w = Row(2, x, y);
    *beyond = w <= kHorizon;
    return Select(*beyond, Wide{} + 1.0f, w);
  }

  STN_INLINE void Apply(Wide x, Wide y, Wide* source) const {
    for (int r = 0; r < 2; ++r) source[r] = Row(r, x, y);
    if (map.divides) {
      WideInt beyond;
      const Wide w = Denominator(x, y, &beyond);
      for (int r = 0; r < 2; ++r) {
        source[r] = Select(beyond, Wide{} + kBeyond, source[r] / w);
      }
    }
  }

  STN_INLINE void Next(int64_t, Wide* coordinate) {
    Wide x, y, source[2];
    NextRegular(&x, &y);
    Apply(x, y, source);
    coordinate[0] = source[1];
    coordinate[1] = source[0];
  }
};

// The cotangent of a matrix: the sum over the points, (3, 3).
struct MapCotangent {
  MapPoints points;
  float* out;
  Wide sum[9] = {};

  STN_INLINE MapCotangent(const Problem& problem, float* to)
      : points(problem), out(to) {}

  STN_INLINE void AddRow(int r, Wide ct, Wide x, Wide y) {
    sum[3 * r] += ct * x;
    sum[3 * r + 1] += ct * y;
    sum[3 * r + 2] += ct;
  }

  STN_INLINE void Add(const Wide* along, int64_t n) {
    Wide x, y;
    points.NextRegular(&x, &y);
    Wide ct[2] = {along[1], along[0]};
    if (n < kWide) {
      for (int r = 0; r < 2; ++r) ct[r] = Only(FirstLanes(n), ct[r]);
    }
    if (points.map.divides) {
      WideInt beyond;
      const Wide w = points.Denominator(x, y, &beyond);
      Wide source[2];
      points.Apply(x, y, source);
      for (int r = 0; r < 2; ++r) ct[r] = Only(~beyond, ct[r] / w);
      AddRow(2, -(ct[0] * source[0] + ct[1] * source[1]), x, y);
    }
    for (int r = 0; r < 2; ++r) AddRow(r, ct[r], x, y);
  }

  STN_INLINE void Finish() {
    for (int i = 0; i < 9; ++i) out[i] = Sum(SumOfQuads(sum[i]));
  }
};

// The two, as an argument of templates.
template <int D>
struct FromGrid {
  using Points = GridPoints<D>;
  using Cotangent = GridCotangent<D>;
};
template <int D>
struct FromMap {
  static_assert(D == 2);
  using Points = MapPoints;
  using Cotangent = MapCotangent;
};

}  // namespace
}  // namespace stn::STN_LEVEL
