// Maps and logits as a kernel's threads walk them: strides in bytes, those from group to group among them, so that
// neither has to be worked out, or held in registers, in a loop.
#pragma once

#include "tiling.h"

namespace bam_fused::cuda {

struct Course {
  void* data;
  int64_t sample, row, group;
  int column;  // 0 where one number stands for the whole map
};

inline Course course(const Map& m, const Tiling& t, int element_size, bool uniform = false) {
  const int64_t row = m.strides.row * element_size;
  return {m.data, m.strides.sample * element_size, row, row * t.group_rows, uniform ? 0 : element_size};
}

struct LogitCourse {
  const void* data;
  int64_t sample, group;
  int64_t step;
  bool float32;
  bool wide;  // as column logits: those of an access within a row can be loaded by 16 bytes
};

inline LogitCourse course(const Logits& l, const Tiling& t, Access access, int element_size) {
  const int size = l.float32 ? 4 : element_size;
  const int64_t sample = l.sample * size;
  const bool aligned = reinterpret_cast<uintptr_t>(l.data) % 16 == 0 && (t.samples == 1 || sample % 16 == 0);
  const bool wide = aligned && access.vector > 1 && !access.straddle && l.step == 1;
  return {l.data, sample, l.step * size * t.group_rows, l.step * size, l.float32, wide};
}

}  // namespace bam_fused::cuda
