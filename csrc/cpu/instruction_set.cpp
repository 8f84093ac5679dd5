#include "instruction_set.h"

#ifdef BAM_X86_64
#include <cpuid.h>
#endif

#include <atomic>

#include "kernels/kernel.h"

namespace bam_fused::cpu {

#ifdef BAM_X86_64
namespace {

// What __builtin_cpu_supports does not know in every compiler: float16 before Clang 16, bfloat16 before GCC 12.
bool converts_float16() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool multiplies_bfloat16() {
  constexpr unsigned avx512_bf16 = 1u << 5;
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & avx512_bf16) != 0;
}

}  // namespace
#endif

std::vector<InstructionSet> runnable_instruction_sets() {
  std::vector<InstructionSet> sets;
#ifdef BAM_X86_64
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && converts_float16();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && multiplies_bfloat16()) sets.push_back(InstructionSet::avx512_bf16);
  if (avx512) sets.push_back(InstructionSet::avx512);
  if (avx2) sets.push_back(InstructionSet::avx2);
#endif
  sets.push_back(InstructionSet::baseline);
  return sets;
}

namespace {

std::atomic<InstructionSet> chosen{runnable_instruction_sets().front()};

}  // namespace

InstructionSet instruction_set() { return chosen.load(std::memory_order_relaxed); }

bool use_instruction_set(const std::string& name) {
  for (const InstructionSet set : runnable_instruction_sets()) {
    if (name_of(set) == name) {
      chosen = set;
      return true;
    }
  }
  return false;
}

std::string name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::avx512_bf16: return "avx512_bf16";
    case InstructionSet::avx512: return "avx512";
    case InstructionSet::avx2: return "avx2";
    default: return "baseline";
  }
}

int64_t vector_bytes() {
  switch (instruction_set()) {
#ifdef BAM_X86_64
    case InstructionSet::avx512_bf16: return VectorBytes::avx512_bf16;
    case InstructionSet::avx512: return VectorBytes::avx512;
    case InstructionSet::avx2: return VectorBytes::avx2;
#endif
    default: return VectorBytes::baseline;
  }
}

}  // namespace bam_fused::cpu
