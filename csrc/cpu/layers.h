// What the operators on BAM's layers share: packed weights, and how squeeze is cut into tiles.
#pragma once

#include <vector>

#include "../shared/bam.h"
#include "dispatch.h"
#include "kernels/pack_weight.h"
#include "kernels/squeeze.h"

namespace bam_fused::cpu {

// Of x's compute type.
int64_t compute_bytes(const Tensor& x);

// That type as a dtype.
Dtype computed_dtype(const Tensor& x);

// Whether the factors of products of x's dtype are pairs of numbers (kernels/simd.h).
bool multiplies_pairs(const Tensor& x);
inline Pairs pairs_of_inputs(const Tensor& x) { return multiplies_pairs(x) ? Pairs::of_inputs : Pairs::none; }
inline Pairs pairs_of_outputs(const Tensor& x) { return multiplies_pairs(x) ? Pairs::of_outputs : Pairs::none; }

// `length` rounded up to whole vectors of x's compute type.
int64_t padded(const Tensor& x, int64_t length);

// A layer's weight as a kernel reads it, contiguous and of x's dtype or compute type: itself, if it is.
Tensor readable_weight(const Tensor& weight, const Tensor& x);

// How a weight (O, I), (O, I, 1, 1) or (O, I, 3, 3) of any dtype and strides is packed: in one part, or cut into runs
// of the factors of a 1x1 weight, whose sums are kept meanwhile, and of the outputs of a 3x3 one.
class Packing {
 public:
  // A 1x1 weight may be cut between multiples of `unit` factors.
  Packing(const Tensor& x, const Tensor& weight, Pairs pairs, int64_t unit);

  void cut(int64_t room);  // into parts of at most so many bytes, if it can be
  int64_t parts() const { return (length_ + part_ - 1) / part_; }
  int64_t part_bytes() const { return part_ * bytes_; }

  // What there is to do for a part: the kernel's arguments for so many factors, and the weight that it leaves in
  // `packed`.
  struct Part {
    PackArguments arguments;
    Dtype dtype;
    int64_t factors;
    PackedWeight weight;
  };
  Part part(void* packed, int64_t index) const;

  PackedWeight run(void* packed, int64_t index) const;

 private:
  Tensor weight_;
  PackArguments arguments_;
  int64_t inputs_;                // in a factor
  int64_t bytes_;                 // of each factor or output, packed
  int64_t length_, part_, unit_;  // factors or outputs
};

// All of a weight in memory of its own.
Tensor packed_weight(const Tensor& x, const Tensor& weight, Pairs pairs);

// Memory is used in whole cache lines.
constexpr int64_t kLine = 64;
inline int64_t lines(int64_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

// Memory somewhere, from a new line on.
struct Span {
  char* begin = nullptr;
  int64_t bytes = 0;

  char* take(int64_t count);  // null where that is not left
};

// Memory of a call in x's compute type, handed out piece by piece.
class Workspace {
 public:
  explicit Workspace(const Tensor& x) : x_(x) {}

  void use(const Span& span) { given_ = span; }  // it comes first
  const Span& rest() const { return given_; }    // of it
  void* take(int64_t numbers);

 private:
  const Tensor& x_;
  std::vector<Tensor> blocks_;
  Span given_, left_;
};

// The numbers of a vector (any dtype), `count` of them; where it is missing, all are `otherwise`.
std::vector<double> numbers_of(const std::optional<Tensor>& vector, int64_t count, double otherwise);

// A row of numbers in x's compute type, padded with zeros to whole vectors.
const void* padded_numbers(const Tensor& x, const std::vector<double>& numbers, Workspace& space);

// One row of a weight, (1, I) or (1, I, 1, 1), padded with zeros to whole vectors.
const void* padded_row(const Tensor& x, const Tensor& weight, Workspace& space);

// What follows the sums of a layer that has a bias, or not even that.
Finish bias_alone(const Tensor& x, const std::optional<Tensor>& bias, int64_t outputs, bool relu, Workspace& space);

// What follows a layer's sums: bias and BatchNorm in one, from their tensors as they are now.
Finish finish_of(const Tensor& x, const BamLayer& layer, Workspace& space);

// The arguments of squeeze that follow from x's shape and rows, its tiles among them; the weight is all of it.
SqueezeArguments squeeze_arguments(const FeatureMap& map, const Tensor& x, int64_t outputs);

}  // namespace bam_fused::cpu
