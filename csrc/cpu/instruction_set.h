// Which instruction set the kernels use, chosen at run time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bam_fused::cpu {

enum class InstructionSet { baseline, avx2, avx512, avx512_bf16 };

// Those that this processor can run, widest first.
std::vector<InstructionSet> runnable_instruction_sets();

// The one in use: the widest that this processor has, unless another was asked for.
InstructionSet instruction_set();

// For tests and for comparing; false if this processor cannot run it.
bool use_instruction_set(const std::string& name);

std::string name_of(InstructionSet set);

// The width of the vectors of the one in use.
int64_t vector_bytes();

}  // namespace bam_fused::cpu
