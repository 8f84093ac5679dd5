// The launchers as plain C functions, for ctypes. Strides in elements; each returns 0, or 1 where a launcher threw.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/target.h"
#include "../operations/gate.h"
#include "../operations/global_avg_pool.h"

struct Call {
  int64_t samples, rows, columns;
  int dtype, combine;
  int multiprocessors, bandwidth, threads;
  uint64_t seed;
};

namespace {

using namespace bam_fused;

struct Workspaces {
  std::vector<void*> memory;
  ~Workspaces() {
    for (void* m : memory) std::free(m);
  }
  void* operator()(size_t bytes) {
    memory.push_back(std::aligned_alloc(16, (bytes + 15) / 16 * 16));
    std::memset(memory.back(), 0xff, bytes);
    return memory.back();
  }
};

// Launches a call of an operation, whose workspaces live as long as it runs.
template <typename Operation>
int run(const Call* call, const Operation& operation) try {
  cuda_host::seed = call->seed;
  Workspaces workspaces;
  const auto allocate = [&](size_t bytes) { return workspaces(bytes); };
  launch(operation, {nullptr, {0, call->multiprocessors, call->bandwidth}, call->threads, allocate});
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}

Extent extent_of(const Call* call) { return {call->samples, call->rows, call->columns}; }

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

void counts(uint64_t* to) {
  for (auto& kind : cuda_host::accesses) {
    for (auto& width : kind) *to++ = width.exchange(0);
  }
}

int gate(const Call* call, const Map* x, const Logits* row, const Logits* column, const Map* out) {
  return run(call, GateCall{extent_of(call), Dtype(call->dtype), Combine(call->combine), *x, *out, *row, *column});
}

int gate_backward(
    const Call* call, const Map* grad, int uniform_grad, const Map* x, const Logits* row, const Logits* column,
    const Map* dx, const Results* drow, const Results* dcolumn) {
  return run(
      call, GateBackwardCall{
                extent_of(call), Dtype(call->dtype), Combine(call->combine), *grad, uniform_grad != 0, *x, *dx, *row,
                *column, *drow, *dcolumn});
}

int global_avg_pool(const Call* call, int of_rows, const Map* x, const Results* means) {
  return run(call, PoolCall{extent_of(call), Dtype(call->dtype), of_rows != 0, *x, *means});
}
}
#pragma GCC visibility pop
