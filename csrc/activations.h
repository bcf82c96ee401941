// SUGAR's backward pass and BAReLU, element by element over memory of one order.
#pragma once

#include "simd.h"
#include "surrogates.h"
#include "variant.h"

namespace undying::VARIANT {

INLINE Floats square_root(Floats x) {
#if defined(__AVX512F__)
  return (Floats)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
  return (Floats)_mm256_sqrt_ps((__m256)x);
#else
  for (int i = 0; i < WIDTH; i++) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// out[i] = f(a[i], b[i])
template <class T, class F>
INLINE void map(const T* a, const T* b, T* out, int64_t begin, int64_t end, const F& f) {
  int64_t i = begin;
  for (; i + WIDTH <= end; i += WIDTH) store(out + i, f(load(a + i), load(b + i)));
  if (i < end) store(out + i, f(load(a + i, int(end - i)), load(b + i, int(end - i))), int(end - i));
}

template <class F>
INLINE void map(const Elements& e, const F& f) {
  switch (e.dtype) {
    case FLOAT32:
      return map((const float*)e.first, (const float*)e.second, (float*)e.out, e.begin, e.end, f);
    case BFLOAT16:
      return map((const Bfloat16*)e.first, (const Bfloat16*)e.second, (Bfloat16*)e.out, e.begin, e.end, f);
    case FLOAT16:
      return map((const Float16*)e.first, (const Float16*)e.second, (Float16*)e.out, e.begin, e.end, f);
    case FLOAT64: return;  // refused by library.cpp
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// SUGAR: strength f~'(x) + (1 - strength) relu'(x) for low <= x <= high, relu'(x) elsewhere.

template <class Surrogate, bool blended>
INLINE Floats blend(Floats x, const Slope& slope) {
  const Floats derivative = Surrogate::derivative(x, slope.a);
  if (!blended) return derivative;
  const Floats relu = x <= 0 ? Floats{} : all(1.0f);
  return relu + slope.strength * (derivative - relu);
}

template <class Surrogate, bool blended>
INLINE void sugar_backward(const Slope& slope, const Elements& elements) {
  const Slope s = slope;
  map(elements, [=](Floats gradient, Floats x) __attribute__((always_inline)) {
    const Floats derivative = blend<Surrogate, blended>(x, s);
    // A product with 0, the surrogate's derivative or relu', would be NaN for an infinite gradient.
    const Floats product = derivative == 0 ? Floats{} : gradient * derivative;
    const Ints inside = (x >= s.low) & (x <= s.high);
    if (all_of(inside)) return product;
    const Floats outside = x <= 0 ? Floats{} : gradient;
    return inside ? product : outside;
  });
}

template <class Surrogate>
void sugar_backward(const Slope& slope, const Elements& elements) {
  if (slope.strength == 1.0f) return sugar_backward<Surrogate, false>(slope, elements);
  return sugar_backward<Surrogate, true>(slope, elements);
}

// ---------------------------------------------------------------------------------------------------------------------
// The same derivative as a code: code = round(derivative * scale) + zero in 8 bits, or in 4, two to a byte.

// Random bits of element i; the same whichever thread comes by it.
INLINE Words random(int64_t i, uint64_t seed) {
  Words h;
  for (int lane = 0; lane < WIDTH; lane++) h[lane] = lane;
  h += uint32_t(i);
  const uint32_t keys[2] = {uint32_t(seed), uint32_t(seed >> 32) + uint32_t(i >> 32) * 0x9e3779b9u};
  for (uint32_t key : keys) {  // MurmurHash3's finaliser, twice
    h += key;
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    h = h ^ (h >> 16);
  }
  return h;
}

template <class Surrogate>
INLINE Words encode(Floats x, const Slope& slope, const Grid& grid, int64_t i) {
  const Floats derivative = blend<Surrogate, true>(x, slope);
  const Floats relu = x <= 0 ? Floats{} : all(1.0f);
  const Floats exact = ((x >= slope.low) & (x <= slope.high)) ? derivative : relu;
  Floats up = all(0.5f);
  if (grid.stochastic) up = __builtin_convertvector((Ints)(random(i, grid.seed) >> 8), Floats) * 0x1p-24f;
  const Floats code = within(exact * grid.scale + float(grid.zero) + up, 0.0f, float((1 << grid.bits) - 1));
  return (Words)__builtin_convertvector(code, Ints);
}

// The codes of a vector of elements from i on, which is even where two share a byte.
INLINE void put(Words code, uint8_t* codes, int64_t i, int bits) {
  if (bits == 8)
    write(codes + i, bytes(code));
  else
    write(codes + i / 2, pairs(code));
}

INLINE Words get(const uint8_t* codes, int64_t i, int bits) {
  return bits == 8 ? widen(read<Bytes>(codes + i)) : unpair(read<Pairs>(codes + i / 2));
}

INLINE int64_t bytes_of(int count, int bits) { return bits == 8 ? count : (count + 1) / 2; }

// The same for fewer elements than a vector has.
INLINE void put(Words code, uint8_t* codes, int64_t i, int bits, int count) {
  for (int lane = 0; lane < WIDTH; lane++) code[lane] = lane < count ? code[lane] : 0;
  uint8_t padded[WIDTH];
  put(code, padded, 0, bits);
  __builtin_memcpy(codes + (bits == 8 ? i : i / 2), padded, bytes_of(count, bits));
}

INLINE Words get(const uint8_t* codes, int64_t i, int bits, int count) {
  uint8_t padded[WIDTH] = {};
  __builtin_memcpy(padded, codes + (bits == 8 ? i : i / 2), bytes_of(count, bits));
  return get(padded, 0, bits);
}

template <class Surrogate, class T>
INLINE void quantise(const T* x, uint8_t* codes, int64_t begin, int64_t end, Slope slope, Grid grid) {
  int64_t i = begin;
  for (; i + WIDTH <= end; i += WIDTH)
    put(encode<Surrogate>(load(x + i), slope, grid, i), codes, i, grid.bits);
  const int rest = int(end - i);
  if (rest) put(encode<Surrogate>(load(x + i, rest), slope, grid, i), codes, i, grid.bits, rest);
}

template <class Surrogate>
void sugar_quantise(const Slope& slope, const Grid& grid, const Elements& e) {
  switch (e.dtype) {
    case FLOAT32: return quantise<Surrogate>((const float*)e.first, (uint8_t*)e.out, e.begin, e.end, slope, grid);
    case BFLOAT16: return quantise<Surrogate>((const Bfloat16*)e.first, (uint8_t*)e.out, e.begin, e.end, slope, grid);
    case FLOAT16: return quantise<Surrogate>((const Float16*)e.first, (uint8_t*)e.out, e.begin, e.end, slope, grid);
    case FLOAT64: return;  // refused by library.cpp
  }
}

template <class T>
INLINE void dequantise(const T* gradient, const uint8_t* codes, T* out, int64_t begin, int64_t end, Grid grid) {
  const float step = 1.0f / grid.scale, zero = float(grid.zero);
  const auto slope = [=](Words code) __attribute__((always_inline)) {
    return (__builtin_convertvector((Ints)code, Floats) - zero) * step;
  };
  int64_t i = begin;
  for (; i + WIDTH <= end; i += WIDTH) store(out + i, load(gradient + i) * slope(get(codes, i, grid.bits)));
  const int rest = int(end - i);
  if (rest) store(out + i, load(gradient + i, rest) * slope(get(codes, i, grid.bits, rest)), rest);
}

static void sugar_dequantise(const Grid& grid, const Elements& e) {
  const auto* codes = (const uint8_t*)e.second;
  switch (e.dtype) {
    case FLOAT32: return dequantise((const float*)e.first, codes, (float*)e.out, e.begin, e.end, grid);
    case BFLOAT16: return dequantise((const Bfloat16*)e.first, codes, (Bfloat16*)e.out, e.begin, e.end, grid);
    case FLOAT16: return dequantise((const Float16*)e.first, codes, (Float16*)e.out, e.begin, e.end, grid);
    case FLOAT64: return;  // refused by library.cpp
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// BAReLU with eps > 0; alpha x for x <= 0, and the root above.

static void barelu(float alpha, float eps, const Elements& elements) {
  const float r = __builtin_sqrtf(eps);
  map(elements, [=](Floats x, Floats) __attribute__((always_inline)) {
    const Floats c = x < ROOTED ? x : all(1.0f);
    const Floats root = c * (c / (square_root(c * c + eps) + r));
    const Floats above = x < ROOTED ? root : x;
    return x > 0 ? above : alpha * x;
  });
}

static void barelu_backward(float alpha, float eps, const Elements& elements) {
  map(elements, [=](Floats gradient, Floats x) __attribute__((always_inline)) {
    const Floats c = x < ROOTED ? x : all(1.0f);
    const Floats root = gradient * (c / square_root(c * c + eps));
    const Floats above = x < ROOTED ? root : gradient;
    const Floats below = alpha == 0 ? Floats{} : alpha * gradient;  // not NaN for an infinite gradient
    return x > 0 ? above : below;
  });
}

}  // namespace undying::VARIANT
