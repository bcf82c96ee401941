// What one variant, the kernels compiled for one instruction set, offers to library.cpp.
#pragma once

#include <cstdint>

// A new surrogate is a functor in surrogates.h and a name here.
#define SURROGATES(X) \
  X(bsilu) X(nelu) X(leaky_relu) X(elu) X(selu) X(gelu) X(gelu_tanh) X(silu) X(mish) X(helu) X(frigorelu)

namespace undying {

enum Dtype { FLOAT32, BFLOAT16, FLOAT16, FLOAT64 };

// A contiguous tensor seen as (outer, units, inner), and the part of it that is meant.
struct View {
  const void* data;
  Dtype dtype;
  int64_t outer, units, inner;
  int64_t outer_begin, outer_end, unit_begin, unit_end;
};

// Counts of one unit.
struct InputCounts {
  int64_t positive = 0, nonfinite = 0, nan = 0, low = 0, high = 0;
  double peak = -__builtin_inf();  // NaN does not count
  double total = 0.0;              // of max(x, 0); NaN does not count
};

struct OutputCounts {
  int64_t zeros = 0;
  double total = 0.0;
};

// Two inputs and an output of the same order in memory, and the part of them that is meant.
struct Elements {
  const void *first, *second;
  void* out;
  Dtype dtype;
  int64_t begin, end;
};

// SUGAR's derivative: strength f~'(x; a) + (1 - strength) relu'(x) within [low, high], relu'(x) elsewhere.
struct Slope {
  float a, strength, low, high;
};

// f~'(-z) of a surrogate whose f~'(z) is 1 - f~'(-z): polynomials in z - PIECE k, their coefficients by power and k.
constexpr int PIECES = 16;
constexpr float PIECE = 0.5f;
struct alignas(64) Pieces {
  float full[6][PIECES], half[4][PIECES];
};
extern const Pieces gelu_pieces, gelu_tanh_pieces;

// Above this sqrt(x^2 + eps) - sqrt(eps) rounds to x, and x^2 would overflow further up.
constexpr float ROOTED = 4.6e18f;

#define COUNT(surrogate) +1
constexpr int SURROGATE_COUNT = 0 SURROGATES(COUNT);
#undef COUNT

struct Variant {
  // Add to per_unit[0 ... unit_end - unit_begin).
  void (*count_inputs)(const View&, double low, double high, InputCounts* per_unit);
  void (*count_outputs)(const View&, OutputCounts* per_unit);
  void (*sugar_backward[SURROGATE_COUNT])(const Slope&, const Elements& gradient_x_out);
  void (*barelu)(float alpha, float eps, const Elements& x_x_out);
  void (*barelu_backward)(float alpha, float eps, const Elements& gradient_x_out);
  int64_t (*hash)(const void* words, const int64_t* factors, int64_t count);
};

extern const Variant portable, avx2, avx512;

}  // namespace undying
