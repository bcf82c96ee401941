// One pass over a tensor that counts, for every unit, what the census asks.
#pragma once

#include <new>

#include "simd.h"
#include "variant.h"

namespace undying::VARIANT {

template <class T>
struct Of {
  typedef Floats Vector;
  typedef Ints Integers;
  typedef float Scalar;
};
template <>
struct Of<double> {
  typedef Doubles Vector;
  typedef Longs Integers;
  typedef double Scalar;
};
template <class T>
constexpr int LANES = BYTES / sizeof(typename Of<T>::Scalar);

// Lane i of a vector is always added to the same place.
template <class T>
INLINE double lane_of(const Doubles sum[2], int lane) {
  constexpr int half = BYTES / 8;
  return sum[lane / half][lane % half];
}

// Counters hold as many numbers as their 32 bits can count; then their lanes go into a Result.
constexpr int64_t MOST = int64_t(1) << 30;

template <class T>
struct InputCounter {
  typedef T Element;
  typedef InputCounts Result;
  typedef typename Of<T>::Vector Vector;
  typedef typename Of<T>::Integers Integers;
  struct Limits {
    typename Of<T>::Scalar low, high;
  };

  Integers positive{}, nonfinite{}, nan{}, low{}, high{};
  Vector peak = Vector{} - (typename Of<T>::Scalar)__builtin_inf();
  Doubles total[2] = {};

  // Counts the lanes in which mask is -1.
  ALWAYS_INLINE void add(Vector x, Integers mask, const Limits& limits) {
    const Vector infinity = Vector{} + (typename Of<T>::Scalar)__builtin_inf();
    x = mask ? x : -infinity;
    positive = x > 0 ? positive + 1 : positive;
    nonfinite = (~(absolute(x) < infinity) & mask) ? nonfinite + 1 : nonfinite;
    nan = x != x ? nan + 1 : nan;
    low = ((x <= limits.low) & mask) ? low + 1 : low;
    high = ((x >= limits.high) & mask) ? high + 1 : high;
    peak = x > peak ? x : peak;
    add_to(total, x > 0 ? x : Vector{});
  }

  ALWAYS_INLINE void add_lane(int lane, InputCounts& into) const {
    into.positive += positive[lane];
    into.nonfinite += nonfinite[lane];
    into.nan += nan[lane];
    into.low += low[lane];
    into.high += high[lane];
    into.peak = peak[lane] > into.peak ? peak[lane] : into.peak;
    into.total += lane_of<T>(total, lane);
  }
};

template <class T>
struct OutputCounter {
  typedef T Element;
  typedef OutputCounts Result;
  typedef typename Of<T>::Vector Vector;
  typedef typename Of<T>::Integers Integers;
  struct Limits {};

  Integers zeros{};
  Doubles total[2] = {};

  ALWAYS_INLINE void add(Vector h, Integers mask, const Limits&) {
    zeros -= (h == 0) & mask;
    add_to(total, mask ? absolute(h) : Vector{});
  }

  ALWAYS_INLINE void add_lane(int lane, OutputCounts& into) const {
    into.zeros += zeros[lane];
    into.total += lane_of<T>(total, lane);
  }
};

// How many rows are read side by side: enough to keep counters in registers, few enough for the prefetcher.
constexpr int64_t ROWS = 16;

// Units at least a vector long: a counter at a time, for up to ROWS rows.
template <class Counter>
void count_runs(const View& view, const typename Counter::Limits& limits, typename Counter::Result* results) {
  typedef typename Counter::Integers Integers;
  constexpr int lanes = LANES<typename Counter::Element>;
  const auto* data = static_cast<const typename Counter::Element*>(view.data);
  const int64_t stride = view.units * view.inner, block = MOST / ROWS * lanes;
  const Integers every = Integers{} - 1;
  Integers index;
  for (int i = 0; i < lanes; i++) index[i] = i;

  for (int64_t row = view.outer_begin; row < view.outer_end; row += ROWS) {
    const int64_t row_end = row + ROWS < view.outer_end ? row + ROWS : view.outer_end;
    for (int64_t unit = view.unit_begin; unit < view.unit_end; unit++) {
      for (int64_t begin = 0; begin < view.inner; begin += block) {
        const int64_t length = view.inner - begin < block ? view.inner - begin : block;
        Counter counter;
        for (int64_t r = row; r < row_end; r++) {
          const auto* run = data + r * stride + unit * view.inner + begin;
          int64_t i = 0;
          for (; i + lanes <= length; i += lanes) counter.add(load(run + i), every, limits);
          // The rest is the end of a vector that reaches back to what is counted already. A block but the first has
          // a block before it; the first is at least a vector long.
          if (i < length)
            counter.add(load(run + length - lanes), index >= Integers{} + int(lanes - (length - i)), limits);
        }
        for (int lane = 0; lane < lanes; lane++) counter.add_lane(lane, results[unit - view.unit_begin]);
      }
    }
  }
}

// Units shorter than a vector: a counter for every vector of a row, kept in memory between blocks of rows.
template <class Counter>
void count_columns(const View& view, const typename Counter::Limits& limits, typename Counter::Result* results) {
  typedef typename Counter::Integers Integers;
  typedef typename Counter::Element Element;
  constexpr int lanes = LANES<Element>;
  const int64_t stride = view.units * view.inner, first = view.unit_begin * view.inner;
  const int64_t columns = (view.unit_end - view.unit_begin) * view.inner;
  const int64_t strips = (columns + lanes - 1) / lanes;
  const auto* data = static_cast<const Element*>(view.data) + first;
  const auto* end = static_cast<const Element*>(view.data) + view.outer * stride;
  const Integers every = Integers{} - 1;

  auto* counters = static_cast<Counter*>(::operator new(strips * sizeof(Counter), std::align_val_t(BYTES)));
  for (int64_t begin = view.outer_begin; begin < view.outer_end; begin += MOST) {
    const int64_t rows_end = view.outer_end - begin < MOST ? view.outer_end : begin + MOST;
    for (int64_t s = 0; s < strips; s++) new (counters + s) Counter;
    for (int64_t row = begin; row < rows_end; row += ROWS) {
      const int64_t row_end = row + ROWS < rows_end ? row + ROWS : rows_end;
      for (int64_t s = 0; s < strips; s++) {
        Counter counter = counters[s];
        for (int64_t r = row; r < row_end; r++) {
          const Element* at = data + r * stride + s * lanes;
          // Lanes past the last column count something else, and are not asked.
          const int64_t left = end - at;
          counter.add(left >= lanes ? load(at) : load(at, int(left)), every, limits);
        }
        counters[s] = counter;
      }
    }
    for (int64_t column = 0; column < columns; column++)
      counters[column / lanes].add_lane(int(column % lanes), results[column / view.inner]);
  }
  ::operator delete(counters, std::align_val_t(BYTES));
}

template <class Counter>
void count(const View& view, const typename Counter::Limits& limits, typename Counter::Result* results) {
  if (view.inner >= LANES<typename Counter::Element>)
    count_runs<Counter>(view, limits, results);
  else
    count_columns<Counter>(view, limits, results);
}

template <class T>
INLINE void count_inputs_as(const View& view, double low, double high, InputCounts* per_unit) {
  typedef typename Of<T>::Scalar Scalar;
  count<InputCounter<T>>(view, {Scalar(low), Scalar(high)}, per_unit);
}

static void count_inputs(const View& view, double low, double high, InputCounts* per_unit) {
  switch (view.dtype) {
    case FLOAT32: return count_inputs_as<float>(view, low, high, per_unit);
    case BFLOAT16: return count_inputs_as<Bfloat16>(view, low, high, per_unit);
    case FLOAT16: return count_inputs_as<Float16>(view, low, high, per_unit);
    case FLOAT64: return count_inputs_as<double>(view, low, high, per_unit);
  }
}

static void count_outputs(const View& view, OutputCounts* per_unit) {
  switch (view.dtype) {
    case FLOAT32: return count<OutputCounter<float>>(view, {}, per_unit);
    case BFLOAT16: return count<OutputCounter<Bfloat16>>(view, {}, per_unit);
    case FLOAT16: return count<OutputCounter<Float16>>(view, {}, per_unit);
    case FLOAT64: return count<OutputCounter<double>>(view, {}, per_unit);
  }
}

}  // namespace undying::VARIANT
