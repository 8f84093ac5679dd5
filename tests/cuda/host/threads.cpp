// CUDA threads as threads of the system, for ThreadSanitizer: what barriers and fences do not order is a data race
// here.
#include <atomic>
#include <cstdlib>
#include <cstring>
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

/// Orders the threads of one block and nothing else. (Waiting for a std::barrier, or for any atomic, goes through
/// counters that all of them share, and would order blocks, too.)
class Barrier {
 public:
  explicit Barrier(unsigned threads) : threads_(threads) {}

  void arrive_and_wait() {
    const unsigned turn = turn_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
    } else {
      while (turn_.load(std::memory_order_acquire) == turn) std::this_thread::yield();
    }
  }

 private:
  const unsigned threads_;
  std::atomic<unsigned> arrived_ = 0, turn_ = 0;
};

struct Block {
  Barrier arrived;
  std::vector<Warp> warps;
  std::unique_ptr<char[]> shared;

  Block(unsigned threads, size_t shared_bytes) : arrived(threads), warps(threads / 32), shared(new char[shared_bytes]) {
    std::memset(shared.get(), 0xff, shared_bytes);
  }
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

void* shared_memory() { return running->owner->shared.get(); }

void run(unsigned blocks, unsigned threads, size_t shared_bytes, const std::function<void()>& kernel) {
  for (unsigned first = 0; first < blocks; first += resident) {
    const unsigned count = std::min(resident, blocks - first);
    std::vector<std::unique_ptr<Block>> active;
    std::vector<std::thread> running_threads;
    for (unsigned b = 0; b < count; ++b) active.push_back(std::make_unique<Block>(threads, shared_bytes));
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
