// All kernels, for the instruction set that the including file is compiled for and in the namespace VARIANT.
#include "activations.h"
#include "census.h"
#include "variant.h"

#define BACKWARD(surrogate) undying::VARIANT::sugar_backward<undying::VARIANT::surrogate>,
#define QUANTISE(surrogate) undying::VARIANT::sugar_quantise<undying::VARIANT::surrogate>,
#define KERNELS                                                                             \
  {                                                                                         \
    undying::VARIANT::tally, undying::VARIANT::tally_output, {SURROGATES(BACKWARD)},        \
    {SURROGATES(QUANTISE)}, undying::VARIANT::sugar_dequantise, undying::VARIANT::barelu,   \
    undying::VARIANT::barelu_backward                                                       \
  }
