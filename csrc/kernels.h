// All kernels, for the instruction set that the including file is compiled for and in the namespace VARIANT.
#include "census.h"
#include "variant.h"

#define KERNELS {undying::VARIANT::tally, undying::VARIANT::tally_output}
