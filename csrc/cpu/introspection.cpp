// The Python module _C of the CPU library: importing it registers the operators; what it offers is its own introspection.
// This file includes no header of PyTorch, as pybind11 and the stable ABI's headers do not mix in one source.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "instruction_set.h"

PYBIND11_MODULE(_C, m) {
  m.doc() = "bam_fused's CPU library: its operators are torch.ops.bam_fused.*";
  m.def("build_info", [] {
    pybind11::dict info;
    info["compiler"] = BAM_COMPILER;
    info["flags"] = BAM_FLAGS;
    info["torch_headers"] = BAM_TORCH_VERSION;
    info["torch_target"] = BAM_TORCH_TARGET;
    return info;
  });
  m.def("instruction_set", [] { return std::string(bam_fused::cpu::instruction_set()); }, "The one in use.");
  m.def("instruction_sets", &bam_fused::cpu::instruction_sets, "Those that this processor can run, widest first.");
  m.def("use_instruction_set", [](const std::string& name) {
    if (!bam_fused::cpu::use_instruction_set(name)) {
      throw pybind11::value_error("instruction_set: this processor cannot run " + name);
    }
  }, pybind11::arg("name"), "Use another one, for tests and comparisons.");
}
