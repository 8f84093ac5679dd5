#include <atomic>

#include "instruction_set.h"
#include "kernels.h"

namespace bam_fused::cpu {

extern const Kernels kernels_baseline;
#ifdef BAM_X86_64
extern const Kernels kernels_avx2, kernels_avx512;
#endif

namespace {

std::vector<const Kernels*> runnable() {
  std::vector<const Kernels*> tables;
#ifdef BAM_X86_64
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512) tables.push_back(&kernels_avx512);
  if (avx2) tables.push_back(&kernels_avx2);
#endif
  tables.push_back(&kernels_baseline);
  return tables;
}

std::atomic<const Kernels*> chosen{runnable().front()};

}  // namespace

const Kernels& kernels() { return *chosen.load(std::memory_order_relaxed); }

const char* instruction_set() { return kernels().name; }

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* table : runnable()) names.emplace_back(table->name);
  return names;
}

bool use_instruction_set(const std::string& name) {
  for (const Kernels* table : runnable()) {
    if (table->name == name) {
      chosen = table;
      return true;
    }
  }
  return false;
}

}  // namespace bam_fused::cpu
