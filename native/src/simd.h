// Vectors of the level that a file is compiled for, and how they are loaded.
//
// No function of the standard library is used: a copy of one, compiled for a
// newer instruction set, could be linked in for all.
#pragma once

#include "kernels.h"

#define STN_INLINE inline __attribute__((always_inline))
#define STN_RESTRICT __restrict__
#define STN_LAMBDA __attribute__((always_inline))
#if defined(__clang__)
#define STN_SHUFFLE(Bits, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define STN_SHUFFLE(Bits, a, b, ...) __builtin_shuffle(a, b, Bits{__VA_ARGS__})
#endif

namespace stn::STN_LEVEL {
namespace {

// The widest vectors of this level; those of other machines are 16 bytes.
#if defined(__AVX__)
constexpr int kWide = 8;
#else
constexpr int kWide = 4;
#endif
typedef float Wide __attribute__((vector_size(4 * kWide)));
typedef int32_t WideInt __attribute__((vector_size(4 * kWide)));
typedef uint16_t WideHalf __attribute__((vector_size(2 * kWide)));
typedef double WidePairs __attribute__((vector_size(4 * kWide)));
typedef float Quad __attribute__((vector_size(16)));
typedef int32_t QuadInt __attribute__((vector_size(16)));

// Calls f(Index<0>{}) ... f(Index<N - 1>{}): the number is a constant in f.
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

template <typename To, typename From>
STN_INLINE To Bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}
template <typename To, typename From>
STN_INLINE To LoadAs(const From* p) {
  To to;
  __builtin_memcpy(&to, p, sizeof(to));
  return to;
}
template <typename From, typename To>
STN_INLINE void StoreAs(const From& from, To* p) {
  __builtin_memcpy(p, &from, sizeof(from));
}

STN_INLINE Wide Only(WideInt mask, Wide value) {
  return Bits<Wide>(mask & Bits<WideInt>(value));
}
STN_INLINE Wide Select(WideInt mask, Wide yes, Wide no) {
  return Bits<Wide>((mask & Bits<WideInt>(yes)) |
                    (~mask & Bits<WideInt>(no)));
}

STN_INLINE bool AnyOf(WideInt mask) {
#if defined(__AVX__)
  return __builtin_ia32_movmskps256(Bits<Wide>(mask)) != 0;
#else
  int64_t part[kWide / 2], any = 0;
  __builtin_memcpy(part, &mask, sizeof(mask));
  for (int i = 0; i < kWide / 2; ++i) any |= part[i];
  return any != 0;
#endif
}
STN_INLINE bool AllOf(WideInt mask) {
#if defined(__AVX__)
  return __builtin_ia32_movmskps256(Bits<Wide>(mask)) == 0xff;
#else
  return !AnyOf(~mask);
#endif
}

// To the nearest integer, at ties the even one.
STN_INLINE Wide Round(Wide value) {
#if defined(__AVX__)
  return __builtin_ia32_roundps256(value, 0);
#else
  const Wide shift = Wide{} + 12582912.0f;  // 1.5 * 2**23: no room for halves
  const WideInt small = (value < 4194304.0f) & (value > -4194304.0f);
  return Select(small, (value + shift) - shift, value);
#endif
}

// One element.

STN_INLINE float Load(const float* p) { return *p; }
STN_INLINE float Load(const BFloat16* p) {
  return Bits<float>(uint32_t{p->bits} << 16);
}
STN_INLINE void Store(float value, float* p) { *p = value; }
STN_INLINE void Store(float value, BFloat16* p) {
  const uint32_t bits = Bits<uint32_t>(value);
  // To the nearest, at ties the even one; NaN stays NaN.
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  p->bits = static_cast<uint16_t>(value != value ? 0x7fc0 : rounded);
}

// kWide of them.

STN_INLINE Wide LoadWide(const float* p) { return LoadAs<Wide>(p); }
STN_INLINE Wide LoadWide(const BFloat16* p) {
  const auto half = LoadAs<WideHalf>(p);
  return Bits<Wide>(__builtin_convertvector(half, WideInt) << 16);
}
STN_INLINE void StoreWide(Wide value, float* p) {
  StoreAs(value, p);
}
STN_INLINE void StoreWide(Wide value, BFloat16* p) {
  const WideInt bits = Bits<WideInt>(value);
  const WideInt rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const WideInt number = value == value;
  StoreAs(__builtin_convertvector(number ? rounded : WideInt{} + 0x7fc0,
                                  WideHalf), p);
}

// The first n of them, or all; the others are 0, and not touched.
template <typename T>
STN_INLINE Wide LoadFirst(const T* p, int64_t n) {
  if (n >= kWide) return LoadWide(p);
  Wide value = {};
  for (int i = 0; i < n; ++i) value[i] = Load(p + i);
  return value;
}
template <typename T>
STN_INLINE void StoreFirst(Wide value, int64_t n, T* p) {
  if (n >= kWide) return StoreWide(value, p);
  for (int i = 0; i < n; ++i) Store(value[i], p + i);
}

// Offsets to be used one by one. They are not negative: unsigned ones need no
// instruction to become addresses.
struct Offsets {
  uint32_t at[kWide];
  STN_INLINE explicit Offsets(WideInt offsets) { StoreAs(offsets, at); }
};

// kWide pairs of neighbours, apart: at the offsets, and one further.
STN_INLINE void LoadPairs(const float* p, const Offsets& from, Wide* first,
                          Wide* second) {
  const auto pair = [&](int i) STN_LAMBDA { return LoadAs<double>(p + from.at[i]); };
#if defined(__AVX__)
  const Wide a = Bits<Wide>(WidePairs{pair(0), pair(1), pair(4), pair(5)});
  const Wide b = Bits<Wide>(WidePairs{pair(2), pair(3), pair(6), pair(7)});
  *first = STN_SHUFFLE(WideInt, a, b, 0, 2, 8, 10, 4, 6, 12, 14);
  *second = STN_SHUFFLE(WideInt, a, b, 1, 3, 9, 11, 5, 7, 13, 15);
#else
  const Wide a = Bits<Wide>(WidePairs{pair(0), pair(1)});
  const Wide b = Bits<Wide>(WidePairs{pair(2), pair(3)});
  *first = STN_SHUFFLE(WideInt, a, b, 0, 2, 4, 6);
  *second = STN_SHUFFLE(WideInt, a, b, 1, 3, 5, 7);
#endif
}
STN_INLINE void LoadPairs(const BFloat16* p, const Offsets& from, Wide* first,
                          Wide* second) {
  WideInt pairs;
  for (int i = 0; i < kWide; ++i) pairs[i] = LoadAs<int32_t>(p + from.at[i]);
  *first = Bits<Wide>(pairs << 16);
  *second = Bits<Wide>(pairs & static_cast<int32_t>(0xffff0000));
}

// One from each offset.
template <typename T>
STN_INLINE Wide LoadEach(const T* p, WideInt offsets) {
  const Offsets from(offsets);
  float value[kWide];
  for (int i = 0; i < kWide; ++i) value[i] = Load(p + from.at[i]);
  return LoadWide(value);
}

// The C channels of a pixel, in four lanes; the others are 0. Three are loaded
// one by one: a copy of 12 bytes goes through the stack.
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
template <>
STN_INLINE Quad LoadQuad<4, float>(const float* p) {
  return LoadAs<Quad>(p);
}
typedef float Half __attribute__((vector_size(8)));
template <int C, typename T>
STN_INLINE void StoreQuad(Quad value, T* p) {
  for (int c = 0; c < C; ++c) Store(value[c], p + c);
}
template <>
STN_INLINE void StoreQuad<2, float>(Quad value, float* p) {
  StoreAs(Half{value[0], value[1]}, p);
}
template <>
STN_INLINE void StoreQuad<3, float>(Quad value, float* p) {
  StoreAs(Half{value[0], value[1]}, p);
  p[2] = value[2];
}
template <>
STN_INLINE void StoreQuad<4, float>(Quad value, float* p) {
  StoreAs(value, p);
}

// The same, and anything in up to 4 - C numbers behind it.
template <int C, typename T>
STN_INLINE void StoreOver(Quad value, T* p) {
  StoreQuad<C>(value, p);
}
template <>
STN_INLINE void StoreOver<3, float>(Quad value, float* p) {
  StoreAs(value, p);
}

// A pixel and the next one. Of lanes that are no channel anything may come,
// also a NaN, but nothing from beyond the two.
template <int C, typename T>
STN_INLINE void LoadQuads(const T* p, Quad* first, Quad* second) {
  *first = LoadQuad<C>(p);
  *second = LoadQuad<C>(p + C);
}
template <>
STN_INLINE void LoadQuads<3, float>(const float* p, Quad* first, Quad* second) {
  *first = LoadAs<Quad>(p);
  const Quad last = LoadAs<Quad>(p + 2);
  *second = STN_SHUFFLE(QuadInt, last, last, 1, 2, 3, 3);
}
template <>
STN_INLINE void LoadQuads<2, float>(const float* p, Quad* first, Quad* second) {
  *first = LoadAs<Quad>(p);
  *second = STN_SHUFFLE(QuadInt, *first, *first, 2, 3, 2, 3);
}

// p[0 ... C - 1] += value. In pieces that the next point's pixel, which may
// be the same one, loads in the same way: the processor hands them over.
template <int C>
STN_INLINE void AddQuad(Quad value, float* p) {
  if constexpr (C == 1) {
    p[0] += value[0];
  } else if constexpr (C == 4) {
    StoreQuad<4>(LoadAs<Quad>(p) + value, p);
  } else {
    const Half sum = LoadAs<Half>(p) + Half{value[0], value[1]};
    StoreAs(sum, p);
    if constexpr (C == 3) p[2] += value[2];
  }
}

STN_INLINE float Sum(Quad v) { return (v[0] + v[2]) + (v[1] + v[3]); }
template <int C>
STN_INLINE float SumOf(Quad v) {
  if constexpr (C == 2) return v[0] + v[1];
  if constexpr (C == 3) return (v[0] + v[2]) + v[1];
  return Sum(v);
}

STN_INLINE Quad SumOfQuads(Wide v) {
  Quad part[kWide / 4];
  __builtin_memcpy(part, &v, sizeof(v));
  Quad sum = part[0];
  for (int i = 1; i < kWide / 4; ++i) sum += part[i];
  return sum;
}

}  // namespace
}  // namespace stn::STN_LEVEL
