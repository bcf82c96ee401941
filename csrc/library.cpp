// The operators of torch.ops.undying, on PyTorch's stable ABI: they check, divide the work among PyTorch's threads and
// call the kernels of the best instruction set that the machine has. Schemas are in STABLE_TORCH_LIBRARY below.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "variant.h"

namespace undying {
namespace {

// Of the operators: raised, here and in src/undying/ops/native.py, with every change to what they take, do or return, so
// that a library which was left over from before is not used.
constexpr int64_t INTERFACE = 4;

int64_t interface() { return INTERFACE; }

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// ---------------------------------------------------------------------------------------------------------------------
// Which instruction set

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

// From plain to wide; what is not there is null.
struct Choice {
  const Variant* variant;
  int64_t level;
};

const Variant* variant_at(int64_t level) {
  if (level == 0) return &portable;
#if defined(__x86_64__)
  if (level == 1 && has_avx2()) return &avx2;
  if (level == 2 && has_avx512()) return &avx512;
#endif
  return nullptr;
}

Choice best() {
  int64_t level = 2;
  while (variant_at(level) == nullptr) level--;
  return {variant_at(level), level};
}

Choice in_use = best();

// wanted: 0 portable, 1 AVX2, 2 AVX-512, -1 the best. Returns the one that is in use from now on, or -1 where this
// machine or library does not have what is wanted.
int64_t use_instructions(int64_t wanted) {
  if (wanted == -1) in_use = best();
  else if (const Variant* variant = variant_at(wanted)) in_use = {variant, wanted};
  else return -1;
  return in_use.level;
}

// ---------------------------------------------------------------------------------------------------------------------
// Checks

Dtype dtype_of(const char* op, const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Float: return FLOAT32;
    case ScalarType::BFloat16: return BFLOAT16;
    case ScalarType::Half: return FLOAT16;
    case ScalarType::Double: return FLOAT64;
    default: STD_TORCH_CHECK(false, op, ": x must be float16, bfloat16, float32 or float64");
  }
}

void check_running(const char* op, const Tensor& x, ScalarType dtype, std::vector<int64_t> shape) {
  STD_TORCH_CHECK(x.is_cpu() && x.is_contiguous() && x.scalar_type() == dtype, op,
                  ": the running counts must be contiguous, on the CPU, int64 for counts and float64 for the rest");
  auto sizes = x.sizes();
  STD_TORCH_CHECK(std::equal(sizes.begin(), sizes.end(), shape.begin(), shape.end()), op,
                  ": the running counts do not have the shape that goes with ", shape.back(), " units");
}

// ---------------------------------------------------------------------------------------------------------------------
// Census

constexpr int64_t GRAIN = 32768;  // elements below which a thread is not worth its start

View view_of(const char* op, const Tensor& x, int64_t units, int64_t inner) {
  STD_TORCH_CHECK(x.is_cpu() && x.is_contiguous(), op, ": x must be contiguous and on the CPU");
  STD_TORCH_CHECK(units >= 1 && inner >= 1 && units <= std::numeric_limits<int64_t>::max() / inner &&
                      x.numel() % (units * inner) == 0,
                  op, ": ", x.numel(), " elements are not (outer, ", units, " units, ", inner, ")");
  const int64_t outer = x.numel() / (units * inner);
  return {x.const_data_ptr(), dtype_of(op, x), outer, units, inner, 0, outer, 0, units};
}

// f(part of the view, its number) for parts that are the same whenever the number of threads is, so that sums are too.
// Returns a result for every unit.
template <class Result, class Merge, class F>
std::vector<Result> over_parts(const View& view, const Merge& merge, const F& f) {
  const int64_t elements = view.outer * view.units * view.inner;
  const int64_t wanted = std::min<int64_t>(torch::stable::get_num_threads(), (elements + GRAIN - 1) / GRAIN);
  std::vector<Result> results(view.units);
  if (wanted <= 1) {
    if (elements) f(view, results.data());
    return results;
  }
  const bool by_rows = view.outer >= 4 * wanted || view.units < wanted;
  const int64_t length = by_rows ? view.outer : view.units, parts = std::min(wanted, length);
  std::vector<Result> partial(by_rows ? (parts - 1) * view.units : 0);
  torch::stable::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) {
      View part = view;
      const int64_t from = length * p / parts, to = length * (p + 1) / parts;
      if (by_rows) {
        part.outer_begin = from, part.outer_end = to;
        f(part, p == 0 ? results.data() : partial.data() + (p - 1) * view.units);
      } else {
        part.unit_begin = from, part.unit_end = to;
        f(part, results.data() + from);
      }
    }
  });
  for (size_t i = 0; i < partial.size(); i++) merge(results[i % view.units], partial[i]);
  return results;
}

void count_inputs(
    Tensor x, int64_t units, int64_t inner, double low, double high, Tensor counts, Tensor peak, Tensor total) {
  const View view = view_of("count_inputs", x, units, inner);
  check_running("count_inputs", counts, ScalarType::Long, {5, units});
  check_running("count_inputs", peak, ScalarType::Double, {units});
  check_running("count_inputs", total, ScalarType::Double, {units});
  const Variant* variant = in_use.variant;
  auto per_unit = over_parts<InputCounts>(
      view,
      [](InputCounts& into, const InputCounts& from) {
        into.positive += from.positive;
        into.nonfinite += from.nonfinite;
        into.nan += from.nan;
        into.low += from.low;
        into.high += from.high;
        into.peak = std::max(into.peak, from.peak);
        into.total += from.total;
      },
      [&](const View& part, InputCounts* into) { variant->count_inputs(part, low, high, into); });

  auto* count = static_cast<int64_t*>(counts.mutable_data_ptr());
  auto* highest = static_cast<double*>(peak.mutable_data_ptr());
  auto* sum = static_cast<double*>(total.mutable_data_ptr());
  constexpr double NaN = std::numeric_limits<double>::quiet_NaN();
  for (int64_t u = 0; u < units; u++) {
    const InputCounts& t = per_unit[u];
    count[u] += t.positive;
    count[units + u] += t.nonfinite;
    count[2 * units + u] += t.nan;
    count[3 * units + u] += t.low;
    count[4 * units + u] += t.high;
    highest[u] = t.nan || std::isnan(highest[u]) ? NaN : std::max(highest[u], t.peak);
    sum[u] += t.nan ? NaN : t.total;
  }
}

void count_outputs(Tensor h, int64_t units, int64_t inner, Tensor zeros, Tensor total) {
  const View view = view_of("count_outputs", h, units, inner);
  check_running("count_outputs", zeros, ScalarType::Long, {units});
  check_running("count_outputs", total, ScalarType::Double, {units});
  const Variant* variant = in_use.variant;
  auto per_unit = over_parts<OutputCounts>(
      view, [](OutputCounts& into, const OutputCounts& from) { into.zeros += from.zeros, into.total += from.total; },
      [&](const View& part, OutputCounts* into) { variant->count_outputs(part, into); });

  auto* count = static_cast<int64_t*>(zeros.mutable_data_ptr());
  auto* sum = static_cast<double*>(total.mutable_data_ptr());
  for (int64_t u = 0; u < units; u++) count[u] += per_unit[u].zeros, sum[u] += per_unit[u].total;
}

// ---------------------------------------------------------------------------------------------------------------------
// Fingerprints

// out[r] = the hash of row r of the words of x, of which the first is number ``first``: a row has a word for every factor.
void hash_rows(Tensor x, int64_t first, Tensor factors, Tensor out) {
  const int64_t width = factors.numel(), words = x.numel() / 8, rows = width ? (first + words + width - 1) / width : 0;
  STD_TORCH_CHECK(x.is_cpu() && x.is_contiguous() && x.scalar_type() == ScalarType::Byte && x.numel() % 8 == 0,
                  "hash_rows: x must be the bytes of words of 64 bits, contiguous and on the CPU");
  for (const Tensor* t : {&factors, &out})
    STD_TORCH_CHECK(t->is_cpu() && t->is_contiguous() && t->scalar_type() == ScalarType::Long,
                    "hash_rows: factors and out must be int64, contiguous and on the CPU");
  STD_TORCH_CHECK(0 <= first && first < width && out.numel() == rows, "hash_rows: ", out.numel(), " rows are not ", rows);
  const auto* bytes = static_cast<const char*>(x.const_data_ptr());
  const auto* factor = static_cast<const int64_t*>(factors.const_data_ptr());
  auto* sums = static_cast<int64_t*>(out.mutable_data_ptr());
  const Variant* variant = in_use.variant;
  torch::stable::parallel_for(0, rows, std::max<int64_t>(GRAIN / width, 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const int64_t from = std::max(r * width, first), to = std::min((r + 1) * width, first + words);
      sums[r] = variant->hash(bytes + 8 * (from - first), factor + from - r * width, to - from);
    }
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Activations

// x in the order of memory of ``like``, which has x's shape.
Tensor ordered_as(const Tensor& like, const Tensor& x) {
  bool same = true;
  for (int64_t d = 0; d < x.dim(); d++) same = same && (x.size(d) == 1 || x.stride(d) == like.stride(d));
  if (same) return x;
  Tensor copy = torch::stable::empty_like(like);
  return torch::stable::copy_(copy, x);
}

// out = f(first, second) of x's type and shape, and dense in x's order; first has x's shape too.
template <class F>
Tensor map(const char* op, const Tensor& first, const Tensor& x, const F& f) {
  STD_TORCH_CHECK(x.is_cpu() && first.is_cpu(), op, ": the tensors must be on the CPU");
  STD_TORCH_CHECK(first.scalar_type() == x.scalar_type(), op, ": the gradient must have the type of x");
  auto a = first.sizes(), b = x.sizes();
  STD_TORCH_CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()), op, ": the gradient must have the shape of x");
  const Dtype dtype = dtype_of(op, x);
  STD_TORCH_CHECK(dtype != FLOAT64, op, ": float64 is for the reference implementation");
  Tensor out = torch::stable::empty_like(x);
  const Tensor one = ordered_as(out, first), other = ordered_as(out, x);
  const void *p = one.const_data_ptr(), *q = other.const_data_ptr();
  void* to = out.mutable_data_ptr();
  torch::stable::parallel_for(0, x.numel(), GRAIN, [&](int64_t begin, int64_t end) {
    f(Elements{p, q, to, dtype, begin, end});
  });
  return out;
}

template <int surrogate>
Tensor sugar_backward(Tensor gradient, Tensor x, double a, double strength, double low, double high) {
  const Variant* variant = in_use.variant;
  const Slope slope{float(a), float(strength), float(low), float(high)};
  return map("sugar_backward", gradient, x, [&](const Elements& e) { variant->sugar_backward[surrogate](slope, e); });
}

Tensor barelu(Tensor x, double alpha, double eps) {
  const Variant* variant = in_use.variant;
  return map("barelu", x, x, [&](const Elements& e) { variant->barelu(float(alpha), float(eps), e); });
}

Tensor barelu_backward(Tensor gradient, Tensor x, double alpha, double eps) {
  const Variant* variant = in_use.variant;
  return map("barelu_backward", gradient, x,
             [&](const Elements& e) { variant->barelu_backward(float(alpha), float(eps), e); });
}

#define NUMBER(surrogate) number_of_##surrogate,
enum { SURROGATES(NUMBER) };

}  // namespace
}  // namespace undying

// The same without PyTorch's dispatcher, which takes longer than the work on a small tensor. The caller answers for it
// that the tensors are on the CPU, of one type and shape, and contiguous.
#define DIRECT(surrogate)                                                                                              \
  extern "C" __attribute__((visibility("default"))) void undying_##surrogate##_backward(                               \
      int32_t dtype, const void* gradient, const void* x, void* out, int64_t count, float a, float strength, float low, \
      float high) {                                                                                                    \
    const auto kernel = undying::in_use.variant->sugar_backward[undying::number_of_##surrogate];                       \
    const undying::Slope slope{a, strength, low, high};                                                                \
    torch::stable::parallel_for(0, count, undying::GRAIN, [&](int64_t begin, int64_t end) {                            \
      kernel(slope, {gradient, x, out, undying::Dtype(dtype), begin, end});                                            \
    });                                                                                                                \
  }
SURROGATES(DIRECT)

STABLE_TORCH_LIBRARY(undying, m) {
  m.def("interface() -> int");
  m.def("use_instructions(int wanted) -> int");
  m.def(
      "count_inputs(Tensor x, int units, int inner, float low, float high, Tensor(a!) counts, Tensor(b!) peak, "
      "Tensor(c!) total) -> ()");
  m.def("count_outputs(Tensor h, int units, int inner, Tensor(a!) zeros, Tensor(b!) total) -> ()");
  m.def("hash_rows(Tensor x, int first, Tensor factors, Tensor(a!) out) -> ()");
#define DEFINE(surrogate) \
  m.def(#surrogate "_backward(Tensor gradient, Tensor x, float a, float strength, float low, float high) -> Tensor");
  SURROGATES(DEFINE)
  m.def("barelu(Tensor x, float alpha, float eps) -> Tensor");
  m.def("barelu_backward(Tensor gradient, Tensor x, float alpha, float eps) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(undying, CompositeExplicitAutograd, m) {
  m.impl("interface", TORCH_BOX(&undying::interface));
  m.impl("use_instructions", TORCH_BOX(&undying::use_instructions));
}

STABLE_TORCH_LIBRARY_IMPL(undying, CPU, m) {
  m.impl("count_inputs", TORCH_BOX(&undying::count_inputs));
  m.impl("count_outputs", TORCH_BOX(&undying::count_outputs));
  m.impl("hash_rows", TORCH_BOX(&undying::hash_rows));
#define IMPLEMENT(surrogate) \
  m.impl(#surrogate "_backward", TORCH_BOX(&undying::sugar_backward<undying::number_of_##surrogate>));
  SURROGATES(IMPLEMENT)
  m.impl("barelu", TORCH_BOX(&undying::barelu));
  m.impl("barelu_backward", TORCH_BOX(&undying::barelu_backward));
}
