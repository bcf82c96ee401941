// The derivatives of the surrogates. A new one is a functor here and a name in variant.h.
//
// Each takes x and the surrogate's parameter (0 where it has none) and returns f~'(x) for x within the surrogate's
// reach; what it returns elsewhere, NaN too, is not used. float32 throughout. That is as Careful.
//
// One with `quick` is also asked as Quick or QuickHalf, for any x. It may then return NaN for any x, which is asked again
// as Careful; what is no NaN must be right, and outside of [low, high] relu'(x), to within 1e-37.
#pragma once

#include "simd.h"
#include "variant.h"

namespace undying::VARIANT {

struct Careful {
  static constexpr bool quick = false, half = false;
};
// With AVX-512 only.
struct Quick {
  static constexpr bool quick = true, half = false;
};
// For half types, which have 11 bits at most: 13 are right.
struct QuickHalf {
  static constexpr bool quick = true, half = true;
};
template <class T>
struct Precision {
  typedef QuickHalf Of;
};
template <>
struct Precision<float> {
  typedef Quick Of;
};

#if defined(__AVX512F__)
// 2^t for any t, by minimax fits of 2^f, 0 <= f < 1: relative errors below 7.5e-8 and 7.5e-5 before rounding.
template <class P>
INLINE Floats power_of_two(Floats t) {
  const Floats f = (Floats)_mm512_reduce_ps((__m512)t, 9);  // t - floor(t)
  Floats p;
  if (P::half) {
    p = f * 0x1.3f96a4p-4f + 0x1.cefc4cp-3f;
    p = p * f + 0x1.64444cp-1f;
    p = p * f + 0x1.fff632p-1f;
  } else {
    p = f * 0x1.ec320ap-10f + 0x1.26900cp-7f;
    p = p * f + 0x1.c95446p-5f;
    p = p * f + 0x1.ebd5a8p-3f;
    p = p * f + 0x1.62e4f6p-1f;
    p = p * f + 0x1.fffffep-1f;
  }
  return (Floats)_mm512_scalef_ps((__m512)p, (__m512)t);  // p 2^floor(t)
}

template <int N>
INLINE Floats polynomial(const float (&power)[N][PIECES], Ints piece, Floats r) {
  const auto coefficient = [&](int i) __attribute__((always_inline)) {
    return (Floats)_mm512_permutexvar_ps((__m512i)piece, _mm512_load_ps(power[i]));
  };
  Floats p = coefficient(N - 1);
#pragma GCC unroll 8
  for (int i = N - 2; i >= 0; i--) p = p * r + coefficient(i);
  return p;
}

// NaN beyond the pieces.
template <class P>
INLINE Floats in_pieces(Floats x, const Pieces& pieces) {
  const Floats z = absolute(x), shifted = z + PIECE * 12582912.0f;  // rounds as in exp
  const Floats r = z - (shifted - PIECE * 12582912.0f);
  Floats below;
  if constexpr (P::half) below = polynomial(pieces.half, as<Ints>(shifted), r);
  else below = polynomial(pieces.full, as<Ints>(shifted), r);
  return z > PIECE * (PIECES - 1) ? all(__builtin_nanf("")) : x > 0 ? 1.0f - below : below;
}
#endif

// exp(x). Careful: for x in [-87, 88]; the value at the end beyond them. Quick: also 0 and infinity.
template <class P>
INLINE Floats exp(Floats x) {
#if defined(__AVX512F__)
  if constexpr (P::quick) return power_of_two<P>(x * 1.44269504f);
#endif
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

// 1 / x for x in [1, 2^127]. Quick: NaN, or for half types 0, beyond.
template <class P>
INLINE Floats reciprocal(Floats x) {
#if defined(__AVX512F__)
  const Floats r = (Floats)_mm512_rcp14_ps((__m512)x);
  return P::half ? r : r + r * (1.0f - x * r);
#else
  return 1.0f / x;
#endif
}

struct bsilu {
  static constexpr bool quick = true;
  static constexpr float low = -110, high = 110;
  template <class P>
  INLINE Floats derivative(Floats x, float a) {
    const Floats e = exp<P>(-x), s = reciprocal<P>(1.0f + e);
    return s + (x + a) * s * (e * s);  // e s = 1 - s, without its cancellation
  }
};

struct silu : bsilu {
  template <class P>
  INLINE Floats derivative(Floats x, float) {
    return bsilu::derivative<P>(x, 0.0f);
  }
};

struct nelu {
  static constexpr bool quick = true;
  static constexpr float low = -1e15f, high = 0;
  template <class P>
  INLINE Floats derivative(Floats x, float a) {
    const Floats r = reciprocal<P>(1.0f + x * x);
    return x > 0 ? all(1.0f) : 2 * a * (x * r) * r;
  }
};

struct leaky_relu {
  static constexpr bool quick = false;
  template <class P>
  INLINE Floats derivative(Floats x, float slope) { return x > 0 ? all(1.0f) : all(slope); }
};

struct elu {
  static constexpr bool quick = true;
  static constexpr float low = -110, high = 0;
  template <class P>
  INLINE Floats derivative(Floats x, float alpha) { return x > 0 ? all(1.0f) : alpha * exp<P>(x); }
};

struct selu {
  static constexpr bool quick = true;
  static constexpr float low = -110, high = 0x1.fffffep125f;  // a quarter of the largest number
  template <class P>
  INLINE Floats derivative(Floats x, float) {
    constexpr float scale = 1.05070098735548f, alpha = 1.67326324235438f;
    const Floats above = P::quick ? (x > high ? all(__builtin_nanf("")) : all(scale)) : all(scale);
    return x > 0 ? above : scale * alpha * exp<P>(x);
  }
};

struct gelu {
  static constexpr bool quick = true;
  static constexpr float low = -40, high = 40;
  template <class P>
  INLINE Floats derivative(Floats x, float) {
#if defined(__AVX512F__)
    if constexpr (P::quick) return in_pieces<P>(x, gelu_pieces);
#endif
    const Floats z = absolute(x), bell = exp<P>(-0.5f * z * z), t = reciprocal<P>(1.0f + 0.3f * z);
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
  static constexpr bool quick = true;
  static constexpr float low = -40, high = 40;
  template <class P>
  INLINE Floats derivative(Floats x, float) {
#if defined(__AVX512F__)
    if constexpr (P::quick) return in_pieces<P>(x, gelu_tanh_pieces);
#endif
    constexpr float k = 0.7978845608028654f, c = 0.044715f;
    // (1 + tanh(u)) / 2 = sigmoid(2 u), u = k (x + c x^3)
    const Floats square = x * x, e = exp<P>(-2 * k * x * (1.0f + c * square)), s = reciprocal<P>(1.0f + e);
    return s + x * (2 * k * (1.0f + 3 * c * square)) * s * (e * s);
  }
};

struct mish {
  static constexpr bool quick = true;
  static constexpr float low = -110, high = 40;
  template <class P>
  INLINE Floats derivative(Floats x, float) {
    // tanh(softplus(x)) = n / (n + 2), n = e^x (e^x + 2), and its derivative times x. Their sum is 1 from 12 on.
    x = at_most(x, 20.0f);
    const Floats e = exp<P>(x), n = e * (e + 2.0f), r = reciprocal<P>(n + 2.0f);
    return r * (n + 4.0f * x * ((n - e) * r));
  }
};

struct helu {
  static constexpr bool quick = false;
  template <class P>
  INLINE Floats derivative(Floats x, float alpha) { return x > -alpha ? all(1.0f) : all(0.0f); }
};

struct frigorelu {
  static constexpr bool quick = false;
  template <class P>
  INLINE Floats derivative(Floats x, float alpha) { return x >= 0 ? all(1.0f) : all(alpha); }
};

}  // namespace undying::VARIANT
