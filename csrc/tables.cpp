// Derivatives of surrogates in pieces, for kernels that can look up a coefficient for every lane at once. They are
// computed when the library is loaded, by instructions that every machine has.
#include <cmath>

#include "variant.h"

namespace undying {
namespace {

constexpr double ROOT_2 = 1.4142135623730951, ROOT_2_PI = 2.5066282746310002;

double gelu(double x) { return std::erfc(-x / ROOT_2) / 2 + x * std::exp(-x * x / 2) / ROOT_2_PI; }

double gelu_tanh(double x) {
  constexpr double k = 2 / ROOT_2_PI, c = 0.044715;
  const double e = std::exp(-2 * k * x * (1 + c * x * x)), s = 1 / (1 + e);
  return s + x * 2 * k * (1 + 3 * c * x * x) * s * (e * s);
}

// Interpolates f(-z) at Chebyshev's nodes of each piece, by Newton's differences, and turns that into powers.
template <int N>
void interpolate(double (*f)(double), float (&power)[N][PIECES]) {
  for (int piece = 0; piece < PIECES; piece++) {
    double node[N], y[N];
    for (int i = 0; i < N; i++) {
      node[i] = PIECE / 2 * std::cos(std::acos(-1.0) * (i + 0.5) / N);
      y[i] = f(-(PIECE * piece + node[i]));
    }
    for (int order = 1; order < N; order++)
      for (int i = N - 1; i >= order; i--) y[i] = (y[i] - y[i - 1]) / (node[i] - node[i - order]);
    for (int order = N - 2; order >= 0; order--)
      for (int i = order; i < N - 1; i++) y[i] -= node[order] * y[i + 1];
    for (int i = 0; i < N; i++) power[i][piece] = float(y[i]);
  }
}

Pieces pieces_of(double (*derivative)(double)) {
  Pieces pieces;
  interpolate(derivative, pieces.full);
  interpolate(derivative, pieces.half);
  return pieces;
}

}  // namespace

const Pieces gelu_pieces = pieces_of(gelu), gelu_tanh_pieces = pieces_of(gelu_tanh);

}  // namespace undying
