// Global memory: the cache-hinted loads and stores that the kernels use for every access, counted by kind and width.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace cuda_host {

// __ldcs streams feature maps in, __ldg reads logits and maps that are read again, __ldcg partial sums; plain
// stores write results, __stcg partial sums.
enum Kind { ldcs, ldg, ldcg, plain, stcg, kinds };

/// Accesses by kind and by log2 of their width in bytes.
inline std::atomic<uint64_t> accesses[kinds][5];

template <typename T>
inline void count(Kind kind, const T* at) {
  if (reinterpret_cast<uintptr_t>(at) % sizeof(T) != 0) {
    std::fprintf(stderr, "cuda_host: misaligned access of %zu bytes\n", sizeof(T));
    std::abort();
  }
  constexpr int log2 = sizeof(T) == 16 ? 4 : sizeof(T) == 8 ? 3 : sizeof(T) == 4 ? 2 : sizeof(T) == 2 ? 1 : 0;
  accesses[kind][log2].fetch_add(1, std::memory_order_relaxed);
}

template <typename T>
inline T load(Kind kind, const T* from) {
  count(kind, from);
  return *from;
}

template <typename T>
inline void store(Kind kind, T* to, const T& value) {
  count(kind, to);
  *to = value;
}

}  // namespace cuda_host

template <typename T>
inline T __ldcs(const T* from) {
  return cuda_host::load(cuda_host::ldcs, from);
}
template <typename T>
inline T __ldg(const T* from) {
  return cuda_host::load(cuda_host::ldg, from);
}
template <typename T>
inline T __ldcg(const T* from) {
  return cuda_host::load(cuda_host::ldcg, from);
}
template <typename T>
inline void store_to_global(T* to, T value) {
  cuda_host::store(cuda_host::plain, to, value);
}
template <typename T>
inline void __stcg(T* to, T value) {
  cuda_host::store(cuda_host::stcg, to, value);
}
