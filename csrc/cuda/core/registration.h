// Under which library and dispatch key the operators are registered; the program that executes the kernels on the CPU
// (tests/cuda) registers them under others.
#pragma once

#include "../../shared/stable.h"

#ifndef BAM_LIBRARY
#define BAM_LIBRARY bam_fused
#define BAM_DISPATCH_KEY CUDA
#endif

#define BAM_OPERATORS_(library, key, m) STABLE_TORCH_LIBRARY_IMPL(library, key, m)
#define BAM_OPERATORS(m) BAM_OPERATORS_(BAM_LIBRARY, BAM_DISPATCH_KEY, m)
