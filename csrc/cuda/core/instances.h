// The compiled instances of each kernel, for the library's introspection: a kernel's source lists its own.
#pragma once

#include <string>
#include <vector>

namespace bam_fused::cuda {

struct Instance {
  std::string name;
  const void* function;
  int shared_bytes;  // of the widest block
};

using ListInstances = void (*)(std::vector<Instance>& to);

inline std::vector<ListInstances>& instance_lists() {
  static std::vector<ListInstances> lists;
  return lists;
}

/// A constant of this type in a kernel's source adds its list.
struct Listed {
  explicit Listed(ListInstances list) { instance_lists().push_back(list); }
};

}  // namespace bam_fused::cuda
