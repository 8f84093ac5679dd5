// Which instruction set the kernels use, chosen at run time.
#pragma once

#include <string>
#include <vector>

namespace bam_fused::cpu {

// The names of those that this processor can run, widest first: "avx512", "avx2", "baseline".
std::vector<std::string> instruction_sets();

const char* instruction_set();

// For tests and for comparing; false if this processor cannot run it.
bool use_instruction_set(const std::string& name);

}  // namespace bam_fused::cpu
