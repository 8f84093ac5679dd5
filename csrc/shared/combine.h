// How the two logits become one: the paper's sum, the authors' product, the ablation's maximum.
#pragma once

namespace bam_fused {

enum class Combine { sum, product, max };

}  // namespace bam_fused
