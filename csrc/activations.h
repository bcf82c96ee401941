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

// out[i] = f(T{}, a[i], b[i]), for two vectors at a time
template <class T, class F>
INLINE void map_pairs(const T* a, const T* b, T* out, int64_t begin, int64_t end, const F& f) {
  int64_t i = begin;
  for (; i + 2 * WIDTH <= end; i += 2 * WIDTH) store_pair(out + i, f(T{}, load_pair(a + i), load_pair(b + i)));
  if (i == end) return;
  T first[2 * WIDTH] = {}, second[2 * WIDTH] = {}, result[2 * WIDTH];
  __builtin_memcpy(first, a + i, (end - i) * sizeof(T));
  __builtin_memcpy(second, b + i, (end - i) * sizeof(T));
  store_pair(result, f(T{}, load_pair(first), load_pair(second)));
  __builtin_memcpy(out + i, result, (end - i) * sizeof(T));
}

template <class F>
INLINE void map_pairs(const Elements& e, const F& f) {
  switch (e.dtype) {
    case FLOAT32:
      return map_pairs((const float*)e.first, (const float*)e.second, (float*)e.out, e.begin, e.end, f);
    case BFLOAT16:
      return map_pairs((const Bfloat16*)e.first, (const Bfloat16*)e.second, (Bfloat16*)e.out, e.begin, e.end, f);
    case FLOAT16:
      return map_pairs((const Float16*)e.first, (const Float16*)e.second, (Float16*)e.out, e.begin, e.end, f);
    case FLOAT64: return;  // refused by library.cpp
  }
}

template <class F>
INLINE void map(const Elements& e, const F& f) {
  map_pairs(e, [&](auto, Pair p, Pair q) __attribute__((always_inline)) { return Pair{f(p.a, q.a), f(p.b, q.b)}; });
}

// ---------------------------------------------------------------------------------------------------------------------
// SUGAR: strength f~'(x) + (1 - strength) relu'(x) for low <= x <= high, relu'(x) elsewhere.

INLINE Floats relu_slope(Floats x) { return x <= 0 ? Floats{} : all(1.0f); }

template <class Surrogate, bool blended>
INLINE Floats slope_within(Floats x, const Slope& slope) {
  const Floats derivative = Surrogate::template derivative<Careful>(x, slope.a);
  return blended ? relu_slope(x) + slope.strength * (derivative - relu_slope(x)) : derivative;
}

// A product with 0, the surrogate's derivative or relu', would be NaN for an infinite gradient.
INLINE Floats times(Floats gradient, Floats derivative) { return derivative == 0 ? Floats{} : gradient * derivative; }

// The same for a derivative that is known within the limits.
INLINE Floats times(Floats gradient, Floats derivative, Floats x, const Slope& slope) {
  return times(gradient, (x >= slope.low) & (x <= slope.high) ? derivative : relu_slope(x));
}

template <class Surrogate, bool blended>
INLINE void carefully(const Slope& slope, const Elements& elements) {
  const Slope s = slope;
  map_pairs(elements, [=](auto, Pair g, Pair x) __attribute__((always_inline)) {
    const Pair d = {slope_within<Surrogate, blended>(x.a, s), slope_within<Surrogate, blended>(x.b, s)};
    if (all_within(x, s.low, s.high)) return Pair{times(g.a, d.a), times(g.b, d.b)};
    return Pair{times(g.a, d.a, x.a, s), times(g.b, d.b, x.b, s)};
  });
}

#if defined(__AVX512F__)
template <class Surrogate>
__attribute__((noinline)) Floats again(Floats gradient, Floats x, Floats derivative, const Slope& slope) {
  if (any_nan(derivative)) {
    const Floats within = slope_within<Surrogate, false>(x, slope);
    const Floats careful = (x >= slope.low) & (x <= slope.high) ? within : relu_slope(x);
    derivative = derivative != derivative ? careful : derivative;
  }
  return times(gradient, derivative);
}

// The same where nothing is blended and the limits are the surrogate's, by derivatives that are cheaper and may be NaN
// where they are not right. That, and a product of 0 and infinity, is seen by one comparison for two vectors.
template <class Surrogate>
INLINE void quickly(const Slope& slope, const Elements& elements) {
  const Slope s = slope;
  map_pairs(elements, [=](auto type, Pair g, Pair x) __attribute__((always_inline)) {
    typedef typename Precision<decltype(type)>::Of P;
    const Pair d = {Surrogate::template derivative<P>(x.a, s.a), Surrogate::template derivative<P>(x.b, s.a)};
    const Pair product = {g.a * d.a, g.b * d.b};
    if (__builtin_expect(!any_nan(product.a + product.b), 1)) return product;
    return Pair{again<Surrogate>(g.a, x.a, d.a, s), again<Surrogate>(g.b, x.b, d.b, s)};
  });
}
#endif

template <class Surrogate>
void sugar_backward(const Slope& slope, const Elements& elements) {
  if (slope.strength != 1.0f) return carefully<Surrogate, true>(slope, elements);
#if defined(__AVX512F__)
  if constexpr (Surrogate::quick)
    if (slope.low <= Surrogate::low && slope.high >= Surrogate::high) return quickly<Surrogate>(slope, elements);
#endif
  carefully<Surrogate, false>(slope, elements);
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
