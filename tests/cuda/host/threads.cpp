// CUDA threads as threads of the system, for ThreadSanitizer: what barriers and fences do not order is a data race here.
#include <atomic>
#include <barrier>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "execution.h"

namespace cuda_host {

uint64_t seed = 0;
unsigned resident = 3;

namespace {

/// A deliberate fault, which the sanitizer must report.
bool left_out(const char* what) {
  static const char* const fault = std::getenv("CUDA_HOST_WITHOUT");
  return fault && std::strcmp(fault, what) == 0;
}

thread_local Thread* running;
std::atomic<uint64_t> fences;

struct Warp {
  std::atomic<uint64_t> values[2][32];
  std::atomic<unsigned> rounds[32];
};

}  // namespace

struct Block {
  std::barrier<> arrived;
  std::vector<Warp> warps;
  std::mutex lock;
  std::unique_ptr<char[]> shared;

  explicit Block(unsigned threads) : arrived(threads), warps(threads / 32) {}
};

Thread& current() { return *running; }

void barrier() {
  if (!left_out("barriers")) running->owner->arrived.arrive_and_wait();
}

// Relaxed, so that a shuffle orders no other access. The fences stop the compiler, and x86 keeps stores in order.
uint64_t exchange(uint64_t value, unsigned lane) {
  Warp& warp = running->owner->warps[running->thread / 32];
  const unsigned self = running->thread % 32;
  const unsigned round = warp.rounds[self].load(std::memory_order_relaxed) + 1;
  warp.values[round % 2][self].store(value, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  warp.rounds[self].store(round, std::memory_order_relaxed);
  for (const std::atomic<unsigned>& other : warp.rounds) {
    while (other.load(std::memory_order_relaxed) < round) std::this_thread::yield();
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return warp.values[round % 2][lane].load(std::memory_order_relaxed);
}

// All fences of a device are totally ordered; what came before one happens before what comes after a later one.
void fence() {
  if (!left_out("fences")) fences.fetch_add(1, std::memory_order_acq_rel);
}

void* shared_memory(size_t bytes) {
  Block& block = *running->owner;
  const std::lock_guard<std::mutex> guard(block.lock);
  if (!block.shared) {
    block.shared.reset(new char[bytes]);
    std::memset(block.shared.get(), 0xff, bytes);
  }
  return block.shared.get();
}

void run(unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
  for (unsigned first = 0; first < blocks; first += resident) {
    const unsigned count = std::min(resident, blocks - first);
    std::vector<std::unique_ptr<Block>> active;
    std::vector<std::thread> running_threads;
    for (unsigned b = 0; b < count; ++b) active.push_back(std::make_unique<Block>(threads));
    for (unsigned b = 0; b < count; ++b) {
      for (unsigned i = 0; i < threads; ++i) {
        running_threads.emplace_back([&, b, i] {
          Thread self{i, blocks - 1 - first - b, threads, active[b].get()};
          running = &self;
          kernel();
        });
      }
    }
    for (std::thread& thread : running_threads) thread.join();
  }
}

}  // namespace cuda_host
