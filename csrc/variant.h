// What one variant, the kernels compiled for one instruction set, offers to library.cpp.
#pragma once

#include <cstdint>

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
struct Tally {
  int64_t positive = 0, nonfinite = 0, nan = 0, low = 0, high = 0;
  double peak = -__builtin_inf();  // NaN does not count
  double total = 0.0;              // of max(x, 0); NaN does not count
};

struct OutputTally {
  int64_t zeros = 0;
  double total = 0.0;
};

struct Variant {
  // Add to tallies[0 ... unit_end - unit_begin).
  void (*tally)(const View&, double low, double high, Tally* tallies);
  void (*tally_output)(const View&, OutputTally* tallies);
};

extern const Variant portable, avx2, avx512;

}  // namespace undying
