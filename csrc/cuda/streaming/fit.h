// The tiling of a kernel's instance on the device at hand, remembered: the occupancy query and the choice are made once
// for every size of sample, and of batch where nothing is summed.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <tuple>

#include "../core/check.h"
#include "choose_tiling.h"

namespace bam_fused::cuda {

/// Gives the bytes of shared memory that a block of that many threads takes.
using SharedBytes = std::function<int(int threads)>;

inline Residency residency(const void* kernel, const SharedBytes& shared_bytes) {
  Residency found{};
  for (int warps = 1; warps <= kWarps; ++warps) {
    const int threads = warps * 32;
    check(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&found.blocks[warps], kernel, threads, shared_bytes(threads)),
        "asking for a kernel's occupancy");
  }
  return found;
}

inline Tiling fit(
    const void* kernel, const Extent& extent, const Work& work, const Target& target, const SharedBytes& shared_bytes) {
  const Device& d = target.device;
  const int64_t chosen_for = work.row_sums || work.column_sums ? 0 : extent.samples;
  const std::tuple key(
      kernel, extent.rows, extent.columns, chosen_for, d.index, d.multiprocessors, d.bandwidth, target.threads);
  static std::mutex lock;
  static std::map<std::remove_const_t<decltype(key)>, Tiling> choices;
  constexpr size_t most = 4096;  // sizes that change at every call are forgotten some day
  Tiling tiling;
  {
    const std::lock_guard<std::mutex> guard(lock);
    const auto found = choices.find(key);
    if (found != choices.end()) {
      tiling = found->second;
    } else {
      tiling = choose_tiling(extent, work, d, residency(kernel, shared_bytes), target.threads);
      if (choices.size() == most) choices.clear();
      choices.emplace(key, tiling);
    }
  }
  tiling.samples = extent.samples;
  return tiling;
}

}  // namespace bam_fused::cuda
