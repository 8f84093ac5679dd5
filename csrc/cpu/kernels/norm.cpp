// A norm and a ReLU behind a layer, chunk by chunk of rows.
#include "norm_sums.h"

namespace bam_fused::cpu {
namespace {

template <class A> void norm(const NormArguments& a, int64_t begin, int64_t end) {
  const int64_t stride = a.shape.stride;
  for_chunks<A>(
      a.shape, begin, end,
      [&](const Chunk& chunk, const A* in, A* out) {
        for_columns<A>(a.shape.columns, [&](int64_t k, auto part) {
          const FinishAt<A> at = finish_at<A>(a.finish, k, part);
          for (int64_t row = 0; row < chunk.rows; ++row) {
            const Vec<A> v = load(in + row * stride + k, part);
            store(out + row * stride + k, finished<A>(v, at.scale, at.shift, a.finish.relu), part);
          }
        });
      },
      a.in, a.out);
}

template <class A> void norm_grad(const NormGradArguments& a, int64_t begin, int64_t end) {
  const int64_t stride = a.shape.stride;
  for_chunks<A>(
      a.shape, begin, end,
      [&](const Chunk& chunk, const A* in, const A* grad, A* out) {
        for_columns<A>(a.shape.columns, [&](int64_t k, auto part) {
          const FinishAt<A> at = finish_at<A>(a.finish, k, part);
          const Vec<A> mean = load((const A*)a.mean + k, part), offset = load((const A*)a.offset + k, part),
                       slope = load((const A*)a.slope + k, part);
          for (int64_t row = 0; row < chunk.rows; ++row) {
            const Vec<A> v = load(in + row * stride + k, part);
            const Vec<A> d = behind_relu<A>(load(grad + row * stride + k, part), v, at, a.finish.relu);
            store(out + row * stride + k, at.scale * (d - offset - slope * (v - mean)), part);
          }
        });
      },
      a.in, a.grad, a.out);
}

}  // namespace

BAM_KERNEL_OF_COMPUTE_TYPE(NormStatisticsArguments, norm_statistics)
BAM_KERNEL_OF_COMPUTE_TYPE(NormArguments, norm)
BAM_KERNEL_OF_COMPUTE_TYPE(NormGradSumsArguments, norm_grad_sums)
BAM_KERNEL_OF_COMPUTE_TYPE(NormGradArguments, norm_grad)

}  // namespace bam_fused::cpu
