/* AVX-512 with VNNI, which multiplies and adds up four bytes at once. */
#include "vec_avx512.h"
