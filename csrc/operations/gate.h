// What the kernels of gate and of its backward are given. Row logits belong to the rows of a feature map (the channel
// logits in NCHW), column logits to its columns. No header of PyTorch here.
#pragma once

#include "../shared/combine.h"
#include "../shared/dtype.h"
#include "../shared/layout.h"

namespace bam_fused {

// out = x + x * sigmoid(combine(row, column)): one read of x, one write of out.
struct GateCall {
  Extent extent;
  Dtype dtype;
  Combine combine;
  Map x, out;
  Logits row, column;
};

// dx and the gradients of both logits: one read of grad and of x, one write of dx.
struct GateBackwardCall {
  Extent extent;
  Dtype dtype;
  Combine combine;
  Map grad;
  bool uniform_grad;  // one number everywhere: grad is a row of it, aligned to 16 bytes, and its strides are 0
  Map x, dx;          // dx null: the logits' gradients alone
  Logits row, column;
  Results drow, dcolumn;
};

void launch(const GateCall& call, const Target& target);
void launch(const GateBackwardCall& call, const Target& target);

}  // namespace bam_fused
