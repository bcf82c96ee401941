// The derivatives of the surrogates. A new one is a functor here and a name in variant.h.
//
// Each takes x and the surrogate's parameter (0 where it has none) and returns f~'(x) for x within the surrogate's
// reach; what it returns elsewhere, NaN too, is not used. float32 throughout.
#pragma once

#include "simd.h"

namespace undying::VARIANT {

// exp(x) for x in [-87, 88]; the value at the end beyond them.
INLINE Floats exp(Floats x) {
  x = within(x, -87.0f, 88.0f);
  // 2^n exp(r), |r| <= log(2) / 2. Adding 1.5 * 2^23 rounds to a whole number, which is then in the last bits.
  const Floats shifted = x * 1.44269504f + 12582912.0f;
  const Floats n = shifted - 12582912.0f;
  const Floats r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  // Minimax fit of (exp(r) - 1 - r) / r^2: relative error of exp below 1.1e-7 before rounding.
  Floats q = r * 0x1.106250p-7f + 0x1.572a64p-5f;
  q = q * r + 0x1.5557b0p-3f;
  q = q * r + 0x1.fffdfcp-2f;
  const Floats e = (q * r) * r + r + 1.0f;
  return as<Floats>(as<Ints>(e) + (as<Ints>(shifted) << 23));
}

// 1 / x for x in [1, 2^127].
INLINE Floats reciprocal(Floats x) {
#if defined(__AVX512F__)
  const Floats r = (Floats)_mm512_rcp14_ps((__m512)x);
  return r * (2.0f - x * r);
#else
  return 1.0f / x;
#endif
}

struct bsilu {
  INLINE Floats derivative(Floats x, float a) {
    const Floats e = exp(-x), s = reciprocal(1.0f + e);
    return s + (x + a) * s * (e * s);  // e s = 1 - s, without its cancellation
  }
};

struct silu {
  INLINE Floats derivative(Floats x, float) { return bsilu::derivative(x, 0.0f); }
};

struct nelu {
  INLINE Floats derivative(Floats x, float a) {
    const Floats r = reciprocal(1.0f + x * x);
    return x > 0 ? all(1.0f) : 2 * a * (x * r) * r;
  }
};

struct leaky_relu {
  INLINE Floats derivative(Floats x, float slope) { return x > 0 ? all(1.0f) : all(slope); }
};

struct elu {
  INLINE Floats derivative(Floats x, float alpha) { return x > 0 ? all(1.0f) : alpha * exp(x); }
};

struct selu {
  INLINE Floats derivative(Floats x, float) {
    return x > 0 ? all(1.05070098735548f) : 1.05070098735548f * 1.67326324235438f * exp(x);
  }
};

struct gelu {
  INLINE Floats derivative(Floats x, float) {
    const Floats z = absolute(x), bell = exp(-0.5f * z * z), t = reciprocal(1.0f + 0.3f * z);
    // Minimax fit of Phi(-z) = bell(z) t h(t): absolute error below 2.5e-9 before rounding.
    Floats h = t * 0.03887070715427399f - 0.25193342566490173f;
    h = h * t + 0.536861777305603f;
    h = h * t - 0.32459110021591187f;
    h = h * t + 0.30701377987861633f;
    h = h * t + 0.0685485377907753f;
    h = h * t + 0.12522973120212555f;
    const Floats tail = bell * (t * h);
    return (x > 0 ? 1.0f - tail : tail) + x * (bell * 0.3989422804014327f);
  }
};

struct gelu_tanh {
  INLINE Floats derivative(Floats x, float) {
    constexpr float k = 0.7978845608028654f, c = 0.044715f;
    // (1 + tanh(u)) / 2 = sigmoid(2 u), u = k (x + c x^3)
    const Floats square = x * x, e = exp(-2 * k * x * (1.0f + c * square)), s = reciprocal(1.0f + e);
    return s + x * (2 * k * (1.0f + 3 * c * square)) * s * (e * s);
  }
};

struct mish {
  INLINE Floats derivative(Floats x, float) {
    // t = tanh(softplus(x)) = n / (n + 2), 1 - t = 2 / (n + 2), n = e^x (e^x + 2)
    const Floats e = exp(x), n = e * (e + 2.0f), r = reciprocal(n + 2.0f), t = n * r;
    return t + x * (2 * r * (1.0f + t)) * (e * reciprocal(1.0f + e));
  }
};

struct helu {
  INLINE Floats derivative(Floats x, float alpha) { return x > -alpha ? all(1.0f) : all(0.0f); }
};

struct frigorelu {
  INLINE Floats derivative(Floats x, float alpha) { return x >= 0 ? all(1.0f) : all(alpha); }
};

}  // namespace undying::VARIANT
