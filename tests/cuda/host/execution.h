// Blocks and threads on the CPU.
//
// A CUDA thread is a fiber by default: all fibers of a few resident blocks take turns on one thread of the system, in
// an order drawn anew at every turn, and change places only where a kernel synchronises (fibers.cpp). In threads.cpp
// each is a real thread instead, so that ThreadSanitizer sees which accesses nothing orders. Barriers, shuffles and
// fences order no more than they do on a GPU; a barrier that not all threads of a block reach ends the program.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace cuda_host {

/// What a running CUDA thread knows of itself.
struct Thread {
  unsigned thread, block, block_size;
  struct Block* owner;
};

Thread& current();
void barrier();
uint64_t exchange(uint64_t value, unsigned lane);  // among the 32 lanes of a warp
void fence();
void* shared_memory();

/// Run a kernel over a grid; returns when all blocks are done.
void run(unsigned blocks, unsigned threads, size_t shared_bytes, const std::function<void()>& kernel);

/// The seed of the orders in which blocks and threads run, and how many blocks run at once.
extern uint64_t seed;
extern unsigned resident;

}  // namespace cuda_host

/// threadIdx.x and its like: a field that reads the running thread's.
template <unsigned cuda_host::Thread::* FIELD>
struct BuiltIn {
  struct X {
    operator unsigned() const { return cuda_host::current().*FIELD; }
  } x;
};
inline constexpr BuiltIn<&cuda_host::Thread::thread> threadIdx{};
inline constexpr BuiltIn<&cuda_host::Thread::block> blockIdx{};
inline constexpr BuiltIn<&cuda_host::Thread::block_size> blockDim{};

inline void __syncthreads() { cuda_host::barrier(); }
inline void __threadfence() { cuda_host::fence(); }

template <typename T>
inline T __shfl_xor_sync(unsigned, T value, int mask) {
  static_assert(sizeof(T) <= 8);
  uint64_t word = 0;
  __builtin_memcpy(&word, &value, sizeof(T));
  word = cuda_host::exchange(word, threadIdx.x % 32 ^ mask);
  __builtin_memcpy(&value, &word, sizeof(T));
  return value;
}

inline unsigned atomicAdd(unsigned* at, unsigned value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }

inline void* block_shared_memory() { return cuda_host::shared_memory(); }
