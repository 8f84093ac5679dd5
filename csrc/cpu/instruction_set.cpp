// The kernels for one instruction set. The build compiles this file once for each, with the compiler's flags for it,
// BAM_VECTOR_BYTES (the width of its vectors) and BAM_INSTRUCTION_SET (its name).
#include "bam_kernel.h"
#include "dilated_conv_kernel.h"
#include "dilated_conv_weight_grad_kernel.h"
#include "gate_kernel.h"
#include "global_avg_pool_kernel.h"
#include "squeeze_input_grad_kernel.h"
#include "squeeze_kernel.h"
#include "squeeze_weight_grad_kernel.h"
#include "sum_partials_kernel.h"

#define BAM_QUOTE_(name) #name
#define BAM_QUOTE(name) BAM_QUOTE_(name)
#define BAM_TABLE_(name) kernels_##name
#define BAM_TABLE(name) BAM_TABLE_(name)
#define BAM_EACH_DTYPE(kernel)                                           \
  {                                                                      \
    { kernel<double>, kernel<float>, kernel<BFloat16>, kernel<Float16> } \
  }
#define BAM_EACH_COMPUTE_TYPE(kernel)                               \
  {                                                                 \
    { kernel<double>, kernel<float>, kernel<float>, kernel<float> } \
  }

namespace bam_fused::cpu {

extern const Kernels BAM_TABLE(BAM_INSTRUCTION_SET);
const Kernels BAM_TABLE(BAM_INSTRUCTION_SET) = {
    BAM_QUOTE(BAM_INSTRUCTION_SET),
    BAM_EACH_DTYPE(gate),
    BAM_EACH_DTYPE(gate_backward),
    BAM_EACH_DTYPE(global_avg_pool),
    BAM_EACH_DTYPE(sum_partials),
    BAM_EACH_DTYPE(squeeze),
    BAM_EACH_DTYPE(squeeze_input_grad),
    BAM_EACH_DTYPE(squeeze_weight_grad),
    BAM_EACH_COMPUTE_TYPE(pack_weight),
    BAM_EACH_COMPUTE_TYPE(dilated_conv),
    BAM_EACH_COMPUTE_TYPE(dilated_conv_weight_grad),
    BAM_EACH_COMPUTE_TYPE(channel_layer),
    BAM_EACH_COMPUTE_TYPE(spatial_logits),
    BAM_VECTOR_BYTES,
};

}  // namespace bam_fused::cpu
