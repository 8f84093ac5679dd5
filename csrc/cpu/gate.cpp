// The launches of gate and its backward on the CPU.
#include "../operations/gate.h"

#include "run_tiles.h"

BAM_TILED(GateCall)
BAM_TILED(GateBackwardCall)

namespace bam_fused {

void launch(const GateCall& call, const Target& target) { cpu::run_tiles(call, target); }

void launch(const GateBackwardCall& call, const Target& target) {
  cpu::run_tiles(call, target, {call.drow, call.dcolumn});
}

}  // namespace bam_fused
