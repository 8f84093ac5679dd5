// The launchers as plain C functions, for ctypes. Strides in elements; each returns 0, or 1 where a launcher threw.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels.h"

namespace {

using namespace bam_fused;
using namespace bam_fused::cuda;

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

template <typename F>
int guarded(F&& f) {
  try {
    f();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

struct Call {
  int64_t samples, rows, columns;
  int dtype, combine;
  int multiprocessors, in_flight, threads;
  uint64_t seed;
};

static Target target_of(const Call* call) {
  return {nullptr, {0, call->multiprocessors, call->in_flight}, call->threads};
}

void counts(uint64_t* to) {
  for (auto& kind : cuda_host::accesses) {
    for (auto& width : kind) *to++ = width.exchange(0);
  }
}

int gate(const Call* call, const Map* x, const Logits* row, const Logits* column, const Map* out) {
  cuda_host::seed = call->seed;
  return guarded([&] {
    gate(
        {call->samples, call->rows, call->columns}, Dtype(call->dtype), Combine(call->combine), *x, *row, *column, *out,
        target_of(call));
  });
}

int gate_backward(
    const Call* call, const Map* grad, int uniform_grad, const Map* x, const Logits* row, const Logits* column,
    const Map* dx, const Results* drow, const Results* dcolumn) {
  cuda_host::seed = call->seed;
  Workspaces workspaces;
  return guarded([&] {
    gate_backward(
        {call->samples, call->rows, call->columns}, Dtype(call->dtype), Combine(call->combine), *grad,
        uniform_grad != 0, *x, *row, *column, *dx, *drow, *dcolumn, target_of(call),
        [&](size_t bytes) { return workspaces(bytes); });
  });
}

int global_avg_pool(const Call* call, int of_rows, const Map* x, const Results* means) {
  cuda_host::seed = call->seed;
  Workspaces workspaces;
  return guarded([&] {
    global_avg_pool(
        {call->samples, call->rows, call->columns}, Dtype(call->dtype), of_rows != 0, *x, *means, target_of(call),
        [&](size_t bytes) { return workspaces(bytes); });
  });
}
}
#pragma GCC visibility pop
