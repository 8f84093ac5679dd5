// Under which library and dispatch key the operators are registered. The build says the key of its library; the program
// that executes the CUDA kernels on the CPU (tests/cuda) registers them in a library of its own.
#pragma once

#include "stable.h"

#ifndef BAM_LIBRARY
#define BAM_LIBRARY bam_fused
#endif

#define BAM_OPERATORS_(library, key, m) STABLE_TORCH_LIBRARY_IMPL(library, key, m)
#define BAM_OPERATORS(m) BAM_OPERATORS_(BAM_LIBRARY, BAM_DISPATCH_KEY, m)
