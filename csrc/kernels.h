// All kernels, for the instruction set that the including file is compiled for and in the namespace VARIANT.
#include "activations.h"
#include "census.h"
#include "hash.h"
#include "variant.h"

#define BACKWARD(surrogate) undying::VARIANT::sugar_backward<undying::VARIANT::surrogate>,
#define KERNELS                                                                      \
  {                                                                                  \
    undying::VARIANT::count_inputs, undying::VARIANT::count_outputs, {SURROGATES(BACKWARD)}, \
    undying::VARIANT::barelu, undying::VARIANT::barelu_backward, undying::VARIANT::hash \
  }
