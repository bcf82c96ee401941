// The sum that tells data and weights apart.
#pragma once

#include "simd.h"
#include "variant.h"

namespace undying::VARIANT {

// Wrapping sum of (bits ^ bits >> 32) * factor over 64-bit words at any address.
static int64_t hash(const void* words, const int64_t* factors, int64_t count) {
  typedef uint64_t Unsigned __attribute__((vector_size(BYTES)));
  constexpr int lanes = BYTES / 8;
  const auto* bytes = static_cast<const char*>(words);
  Unsigned sums{};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const Longs bits = read<Longs>(bytes + 8 * i);
    sums += as<Unsigned>(bits ^ (bits >> 32)) * read<Unsigned>(factors + i);
  }
  uint64_t sum = 0;
  for (int lane = 0; lane < lanes; lane++) sum += sums[lane];
  for (; i < count; i++) {
    const auto bits = read<int64_t>(bytes + 8 * i);
    sum += uint64_t(bits ^ (bits >> 32)) * uint64_t(factors[i]);
  }
  return int64_t(sum);
}

}  // namespace undying::VARIANT
