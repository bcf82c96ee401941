// Vectors of the width that this translation unit is compiled for, by the compiler's own vector types (GCC, Clang).
//
// Included by every variant (see variant.h) and by nothing else. Variants are compiled with different instruction sets,
// so nothing here may be a function that the linker could share between them: everything lives in the variant's
// namespace, and the standard library's templates are kept out.
#pragma once

#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#pragma GCC diagnostic ignored "-Wpsabi"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // inside GCC's own intrinsics
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define INLINE static ALWAYS_INLINE

namespace undying::VARIANT {

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX2__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif
constexpr int WIDTH = BYTES / 4;  // float lanes

typedef float Floats __attribute__((vector_size(BYTES)));
typedef double Doubles __attribute__((vector_size(BYTES)));
typedef int32_t Ints __attribute__((vector_size(BYTES)));
typedef uint32_t Words __attribute__((vector_size(BYTES)));
typedef int64_t Longs __attribute__((vector_size(BYTES)));
typedef uint16_t Shorts __attribute__((vector_size(BYTES / 2)));  // as many as Floats

struct Bfloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

template <class To, class From>
INLINE To as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

template <class Vector>
INLINE Vector read(const void* from) {
  Vector to;
  __builtin_memcpy(&to, from, sizeof to);
  return to;
}

template <class Vector>
INLINE void write(void* to, Vector from) {
  __builtin_memcpy(to, &from, sizeof from);
}

INLINE Floats all(float value) { return value - Floats{}; }

INLINE Floats within(Floats x, float low, float high) {
#if defined(__AVX512F__)
  return (Floats)_mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), (__m512)x));
#elif defined(__AVX2__)
  return (Floats)_mm256_min_ps(_mm256_set1_ps(high), _mm256_max_ps(_mm256_set1_ps(low), (__m256)x));
#else
  x = x < low ? all(low) : x;
  return x > high ? all(high) : x;
#endif
}

// NaN stays.
INLINE Floats at_most(Floats x, float high) {
#if defined(__AVX512F__)
  return (Floats)_mm512_min_ps(_mm512_set1_ps(high), (__m512)x);
#else
  return x > high ? all(high) : x;
#endif
}

#if defined(__AVX512F__)
INLINE bool any_nan(Floats v) { return _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q) != 0; }
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Between lanes of 16 and 32 bits. GCC takes vectors apart for these, lane by lane, unless it is told the instruction.

INLINE Words widen(Shorts v) {
#if defined(__AVX512F__)
  return (Words)_mm512_cvtepu16_epi32((__m256i)v);
#elif defined(__AVX2__)
  return (Words)_mm256_cvtepu16_epi32((__m128i)v);
#else
  return __builtin_convertvector(v, Words);
#endif
}

// The values fit.
INLINE Shorts shorts(Words v) {
#if defined(__AVX512F__)
  return (Shorts)_mm512_cvtepi32_epi16((__m512i)v);
#elif defined(__AVX2__)
  const __m256i pairs = _mm256_packus_epi32((__m256i)v, (__m256i)v);
  return (Shorts)_mm256_castsi256_si128(_mm256_permute4x64_epi64(pairs, 0x08));
#else
  return __builtin_convertvector(v, Shorts);
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Loads and stores. The half types are widened to float and rounded once, to nearest even.

INLINE Floats load(const float* p) { return read<Floats>(p); }
INLINE Doubles load(const double* p) { return read<Doubles>(p); }

INLINE Floats load(const Bfloat16* p) { return as<Floats>(widen(read<Shorts>(p)) << 16); }

INLINE Floats load(const Float16* p) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtph_ps(read<__m256i>(p));
#elif defined(__F16C__)
  return (Floats)_mm256_cvtph_ps(read<__m128i>(p));
#else
  Words half = widen(read<Shorts>(p));
  Words magnitude = (half & 0x7fff) << 13;
  Words finite = as<Words>(as<Floats>(magnitude) * 0x1p112f);  // exact, for subnormal numbers too
  Words special = magnitude | 0x7f800000;
  Words wide = (magnitude >= (0x7c00u << 13)) ? special : finite;
  return as<Floats>(wide | ((half & 0x8000) << 16));
#endif
}

INLINE void store(float* p, Floats v) { write(p, v); }

// Rounded, in the upper half of each lane. NaN is none that rounding could carry out of: what is computed from bfloat16
// has a payload in the upper half alone.
INLINE Words rounded(Floats v) {
  const Words bits = as<Words>(v);
  return bits + 0x7fff + ((bits >> 16) & 1);
}

INLINE void store(Bfloat16* p, Floats v) { write(p, shorts(rounded(v) >> 16)); }

INLINE void store(Float16* p, Floats v) {
#if defined(__AVX512F__)
  write(p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__)
  write(p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
  Words bits = as<Words>(v), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  // Adding 1/2 leaves the subnormal number, rounded, in the last bits.
  Words small = as<Words>(as<Floats>(magnitude) + 0.5f) - as<Words>(all(0.5f));
  Words normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - (112u << 23)) >> 13;
  Words half = magnitude < (113u << 23) ? small : normal;
  Words infinity = Words{} + 0x7c00, nan = Words{} + 0x7e00;
  half = magnitude >= 0x477ff000 ? infinity : half;  // 65520, halfway to 2^16
  half = magnitude > 0x7f800000 ? nan : half;
  write(p, shorts(half | sign));
#endif
}

// The same for fewer elements than a vector has; the other lanes are 0.
template <class T>
INLINE auto load(const T* p, int count) {
  T padded[BYTES / (sizeof(T) == 8 ? 8 : 4)] = {};
  __builtin_memcpy(padded, p, count * sizeof(T));
  return load(padded);
}

// Two vectors at once, of elements that lie together. Which lane an element goes to is up to the type.
struct Pair {
  Floats a, b;
};

template <class T>
INLINE Pair load_pair(const T* p) {
  return {load(p), load(p + WIDTH)};
}

template <class T>
INLINE void store_pair(T* p, Pair v) {
  store(p, v.a), store(p + WIDTH, v.b);
}

// Whether all numbers are in [low, high].
INLINE bool all_within(Pair v, float low, float high) {
#if defined(__AVX512F__)
  // GCC takes the masks of its own comparisons to vectors and back.
  const __m512 l = _mm512_set1_ps(low), h = _mm512_set1_ps(high), a = (__m512)v.a, b = (__m512)v.b;
  __mmask16 k = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(a, l, _CMP_GE_OQ), a, h, _CMP_LE_OQ);
  k = _mm512_mask_cmp_ps_mask(_mm512_mask_cmp_ps_mask(k, b, l, _CMP_GE_OQ), b, h, _CMP_LE_OQ);
  return k == 0xffff;
#else
  const Ints k = (v.a >= low) & (v.a <= high) & (v.b >= low) & (v.b <= high);
#if defined(__AVX2__)
  return _mm256_movemask_ps((__m256)k) == 0xff;
#else
  return (k[0] & k[1] & k[2] & k[3]) != 0;
#endif
#endif
}

// The even ones and the odd ones: nothing has to be moved between lanes.
INLINE Pair load_pair(const Bfloat16* p) {
  const Words both = read<Words>(p);
  return {as<Floats>(both << 16), as<Floats>(both & 0xffff0000)};
}

INLINE void store_pair(Bfloat16* p, Pair v) { write(p, (rounded(v.a) >> 16) | (rounded(v.b) & 0xffff0000)); }

// sum += the lanes of v, in double precision; which lanes meet does not matter.
INLINE void add_to(Doubles sum[2], Floats v) {
#if defined(__AVX512F__)
  sum[0] += (Doubles)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v));
  sum[1] += (Doubles)_mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd((__m512d)v, 1)));
#elif defined(__AVX2__)
  sum[0] += (Doubles)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v));
  sum[1] += (Doubles)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1));
#else
  for (int i = 0; i < WIDTH; i++) sum[i / (WIDTH / 2)][i % (WIDTH / 2)] += v[i];
#endif
}

INLINE void add_to(Doubles sum[2], Doubles v) { sum[0] += v; }

INLINE Floats absolute(Floats v) { return as<Floats>(as<Words>(v) & 0x7fffffff); }
INLINE Doubles absolute(Doubles v) { return as<Doubles>(as<Longs>(v) & 0x7fffffffffffffff); }

}  // namespace undying::VARIANT
