#include "kernel.h"

namespace bam_fused::cpu {

const int64_t VectorBytes::BAM_INSTRUCTION_SET = BAM_VECTOR_BYTES;

}  // namespace bam_fused::cpu
