#define VARIANT avx512_code
#include "kernels.h"

const undying::Variant undying::avx512 = KERNELS;
