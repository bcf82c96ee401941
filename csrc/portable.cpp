#define VARIANT portable_code
#include "kernels.h"

const undying::Variant undying::portable = KERNELS;
