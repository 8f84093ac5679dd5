// CUDA threads as fibers: deterministic for a seed, no cost but a switch of stacks at each synchronisation.
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "execution.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define BEFORE_SWITCH(saved, bottom, size) __sanitizer_start_switch_fiber(saved, bottom, size)
#define AFTER_SWITCH(saved, bottom, size) __sanitizer_finish_switch_fiber(saved, bottom, size)
#else
#define BEFORE_SWITCH(saved, bottom, size) (void)(bottom), (void)(size)
#define AFTER_SWITCH(saved, bottom, size) (void)(saved)
#endif

namespace cuda_host {

uint64_t seed = 0;
unsigned resident = 3;

namespace {

constexpr size_t kStack = 256 * 1024;

enum class State { ready, at_barrier, at_exchange, done };

struct Fiber {
  Thread thread;
  ucontext_t context;
  std::vector<char>* stack;
  void* fake_stack = nullptr;
  State state = State::ready;
};

struct Warp {
  uint64_t values[2][32];
  unsigned rounds[32] = {};
};

const std::function<void()>* kernel_of_launch;
Fiber* running;
ucontext_t scheduler;
void* scheduler_fake_stack;
const void* scheduler_bottom;
size_t scheduler_size;
std::vector<std::unique_ptr<std::vector<char>>> idle_stacks;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "cuda_host: %s\n", what);
  std::abort();
}

void to_scheduler(bool last) {
  Fiber* self = running;
  BEFORE_SWITCH(last ? nullptr : &self->fake_stack, scheduler_bottom, scheduler_size);
  swapcontext(&self->context, &scheduler);
  AFTER_SWITCH(self->fake_stack, &scheduler_bottom, &scheduler_size);
}

void body() {
  AFTER_SWITCH(nullptr, &scheduler_bottom, &scheduler_size);
  (*kernel_of_launch)();
  running->state = State::done;
  to_scheduler(true);
}

void resume(Fiber& fiber) {
  running = &fiber;
  BEFORE_SWITCH(&scheduler_fake_stack, fiber.stack->data(), kStack);
  swapcontext(&scheduler, &fiber.context);
  AFTER_SWITCH(scheduler_fake_stack, nullptr, nullptr);
}

}  // namespace

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::unique_ptr<char[]> shared;

  Block(unsigned index, unsigned threads, size_t shared_bytes)
      : fibers(threads), warps(threads / 32), shared(new char[shared_bytes]) {
    std::memset(shared.get(), 0xff, shared_bytes);  // NaN, for whoever reads what was not written
    for (unsigned i = 0; i < threads; ++i) {
      Fiber& fiber = fibers[i];
      fiber.thread = {i, index, threads, this};
      if (idle_stacks.empty()) idle_stacks.push_back(std::make_unique<std::vector<char>>(kStack));
      fiber.stack = idle_stacks.back().release();
      idle_stacks.pop_back();
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack->data();
      fiber.context.uc_stack.ss_size = kStack;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, body, 0);
    }
  }

  ~Block() {
    for (Fiber& fiber : fibers) idle_stacks.emplace_back(fiber.stack);
  }

  bool done() const {
    return std::all_of(fibers.begin(), fibers.end(), [](const Fiber& f) { return f.state == State::done; });
  }

  /// One turn: every thread that can run does, in a drawn order, up to its next synchronisation.
  void turn(std::mt19937_64& draw) {
    std::vector<unsigned> order(fibers.size());
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), draw);
    bool moved = false;
    for (unsigned i : order) {
      Fiber& fiber = fibers[i];
      if (fiber.state == State::at_exchange && complete(i)) fiber.state = State::ready;
      if (fiber.state != State::ready) continue;
      resume(fiber);
      moved = true;
    }
    if (moved || done()) return;
    for (Fiber& fiber : fibers) {
      if (fiber.state != State::at_barrier) fail("threads of a block wait at different places");
      fiber.state = State::ready;
    }
  }

  /// Whether all lanes have brought their value for the exchange that thread i waits in.
  bool complete(unsigned i) const {
    const Warp& warp = warps[i / 32];
    return std::all_of(warp.rounds, warp.rounds + 32, [&](unsigned r) { return r >= warp.rounds[i % 32]; });
  }
};

Thread& current() { return running->thread; }

void barrier() {
  running->state = State::at_barrier;
  to_scheduler(false);
}

uint64_t exchange(uint64_t value, unsigned lane) {
  Warp& warp = running->thread.owner->warps[running->thread.thread / 32];
  const unsigned round = ++warp.rounds[running->thread.thread % 32];
  warp.values[round % 2][running->thread.thread % 32] = value;  // no lane can be two rounds ahead of another
  running->state = State::at_exchange;
  to_scheduler(false);
  return warp.values[round % 2][lane];
}

void fence() {}

void* shared_memory() { return running->thread.owner->shared.get(); }

void run(unsigned blocks, unsigned threads, size_t shared_bytes, const std::function<void()>& kernel) {
  if (blocks == 0 || threads == 0 || threads % 32 != 0 || threads > 1024) fail("invalid launch");
  kernel_of_launch = &kernel;
  std::mt19937_64 draw(seed);
  std::vector<unsigned> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), draw);
  std::vector<std::unique_ptr<Block>> active;
  size_t next = 0;
  while (next < order.size() || !active.empty()) {
    while (active.size() < resident && next < order.size()) {
      active.push_back(std::make_unique<Block>(order[next++], threads, shared_bytes));
    }
    const size_t i = draw() % active.size();
    active[i]->turn(draw);
    if (active[i]->done()) active.erase(active.begin() + i);
  }
}

}  // namespace cuda_host
