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
