#define VARIANT avx2_code
#include "kernels.h"

const undying::Variant undying::avx2 = KERNELS;
