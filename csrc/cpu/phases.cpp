#include "phases.h"

#include <atomic>
#include <memory>
#include <thread>

#include "layers.h"

namespace bam_fused::cpu {
namespace {

// Parts that follow each other and belong to one thread; the others help where they are done with their own. What
// several threads write shares no line of the cache with anything else.
struct alignas(kLine) Share {
  std::atomic<int64_t> next;
  int64_t end;
};

class SharedPhase {
 public:
  SharedPhase(const Phase& phase, int64_t threads)
      : phase_(phase), shares_(static_cast<size_t>(threads)), left_(phase.end - phase.begin) {
    const int64_t parts = left_;
    for (int64_t t = 0; t < threads; ++t) {
      Share& share = shares_[static_cast<size_t>(t)];
      share.next = phase.begin + parts * t / threads;
      share.end = phase.begin + parts * (t + 1) / threads;
    }
  }

  void help(int64_t thread) {
    const size_t own = static_cast<size_t>(thread);
    for (size_t i = 0; i < shares_.size(); ++i) run_rest(shares_[(own + i) % shares_.size()]);
  }

  void wait() const {
    constexpr int patience = 4096;  // what is waited for takes microseconds, unless its thread has lost its core
    for (int tries = 0; left_.load(std::memory_order_acquire) > 0; ++tries) {
      if (tries > patience) std::this_thread::yield();
    }
  }

 private:
  // Half of what is left at a time: many parts together, which is faster, and few at the end, where others may help.
  void run_rest(Share& share) {
    int64_t begin = share.next;
    while (begin < share.end) {
      const int64_t end = begin + (share.end - begin + 1) / 2;
      if (!share.next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
      phase_.run(begin, end);
      left_.fetch_sub(end - begin, std::memory_order_release);
      begin = share.next;
    }
  }

  const Phase& phase_;
  std::vector<Share> shares_;
  alignas(kLine) std::atomic<int64_t> left_;
};

}  // namespace

void run_phases(const std::vector<Phase>& phases, int64_t threads) {
  if (threads == 1) {
    for (const Phase& phase : phases) phase.run(phase.begin, phase.end);
    return;
  }
  std::vector<std::unique_ptr<SharedPhase>> shared;
  for (const Phase& phase : phases) shared.push_back(std::make_unique<SharedPhase>(phase, threads));
  torch::stable::parallel_for(0, threads, 1, [&](int64_t thread, int64_t) {
    for (const auto& phase : shared) {
      phase->help(thread);
      phase->wait();
    }
  });
}

}  // namespace bam_fused::cpu
