// The launchers of the kernels. Which logits belong to the rows and which to the columns is the caller's business.
#pragma once

#include "core/call.h"

namespace bam_fused::cuda {

/// out = x + x * sigmoid(combine(row, column)): one read of x, one write of out.
void gate(
    const Extent& extent, Dtype dtype, Combine combine, const Map& x, const Logits& row, const Logits& column,
    const Map& out, const Target& target);

/// dx and the gradients of both logits: one read of grad and of x, one write of dx. `uniform_grad`: a vector of one number,
/// aligned to 16 bytes, is the whole of grad, and its strides are 0.
void gate_backward(
    const Extent& extent, Dtype dtype, Combine combine, const Map& grad, bool uniform_grad, const Map& x,
    const Logits& row, const Logits& column, const Map& dx, const Results& drow, const Results& dcolumn,
    const Target& target, const Allocate& allocate);

/// The mean of each row (`of_rows`, the pool in NCHW) or of each column (in NHWC): one read of x.
void global_avg_pool(
    const Extent& extent, Dtype dtype, bool of_rows, const Map& x, const Results& means, const Target& target,
    const Allocate& allocate);

}  // namespace bam_fused::cuda
