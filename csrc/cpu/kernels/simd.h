// SIMD through the compiler's own vector types (GCC and Clang): the same source for AVX-512, AVX2, SSE2 and NEON.
//
// BAM_VECTOR_BYTES, set by the build for each instruction set, is the width. Everything lies in an unnamed namespace:
// each instruction set keeps its own copy.
#pragma once

#include <stdint.h>
#include <string.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

namespace bam_fused::cpu {
namespace {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

template <class A> struct VectorOf;
template <> struct VectorOf<float> {
  typedef float type __attribute__((vector_size(BAM_VECTOR_BYTES)));
  typedef int32_t bits __attribute__((vector_size(BAM_VECTOR_BYTES)));
};
template <> struct VectorOf<double> {
  typedef double type __attribute__((vector_size(BAM_VECTOR_BYTES)));
  typedef int64_t bits __attribute__((vector_size(BAM_VECTOR_BYTES)));
};
template <class A> using Vec = typename VectorOf<A>::type;   // a vector of the compute type
template <class A> using Bits = typename VectorOf<A>::bits;  // integers of the same width; also what a comparison gives
template <class A> constexpr int kLanes = BAM_VECTOR_BYTES / sizeof(A);

// The type that an element in memory is computed in.
template <class T> struct ComputeOf {
  using type = float;
};
template <> struct ComputeOf<double> {
  using type = double;
};
template <class T> using Compute = typename ComputeOf<T>::type;

template <class To, class From> inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// ---- one vector from memory, one vector to memory ----

inline Vec<float> load(const float* p) {
  Vec<float> v;
  memcpy(&v, p, sizeof v);
  return v;
}
inline Vec<double> load(const double* p) {
  Vec<double> v;
  memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec<float> v) { memcpy(p, &v, sizeof v); }
inline void store(double* p, Vec<double> v) { memcpy(p, &v, sizeof v); }

typedef uint16_t HalfBits __attribute__((vector_size(BAM_VECTOR_BYTES / 2)));
typedef uint32_t WordBits __attribute__((vector_size(BAM_VECTOR_BYTES)));

// Unsigned 16-bit integers to 32 bits and back, by one instruction where GCC makes five of __builtin_convertvector.
#if defined(__AVX512F__)
inline WordBits widen(HalfBits half) { return (WordBits)_mm512_cvtepu16_epi32((__m256i)half); }
inline HalfBits narrow(WordBits word) { return (HalfBits)_mm512_cvtepi32_epi16((__m512i)word); }
#else
#if defined(__AVX2__)
inline WordBits widen(HalfBits half) { return (WordBits)_mm256_cvtepu16_epi32((__m128i)half); }
#else
inline WordBits widen(HalfBits half) { return __builtin_convertvector(half, WordBits); }
#endif
inline HalfBits narrow(WordBits word) { return __builtin_convertvector(word, HalfBits); }
#endif

inline Vec<float> load(const BFloat16* p) {
  HalfBits half;
  memcpy(&half, p, sizeof half);
  return bit_cast<Vec<float>>(widen(half) << 16);
}

inline void store(BFloat16* p, Vec<float> v) {  // to nearest, ties to even; every NaN becomes the quiet one
  const WordBits bits = bit_cast<WordBits>(v);
  const WordBits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Bits<float> is_number = v == v;
  const HalfBits half = narrow(is_number ? rounded : rounded * 0 + 0x7fc0);
  memcpy(p, &half, sizeof half);
}

#if defined(__AVX512F__)
inline Vec<float> load(const Float16* p) { return (Vec<float>)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline void store(Float16* p, Vec<float> v) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#elif defined(__F16C__)
inline Vec<float> load(const Float16* p) { return (Vec<float>)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
inline void store(Float16* p, Vec<float> v) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
#else  // in integers: compilers before GCC 12 and Clang 15 have no _Float16 for x86
inline Vec<float> load(const Float16* p) {
  HalfBits half;
  memcpy(&half, p, sizeof half);
  const Bits<float> bits = (Bits<float>)widen(half), magnitude = bits & 0x7fff;
  constexpr int32_t rebias = (127 - 15) << 23;  // of the exponent; once more to that of infinity and NaN
  const Bits<float> normal = (magnitude << 13) + rebias + ((magnitude >= 0x7c00) & rebias);
  const Bits<float> subnormal = bit_cast<Bits<float>>(__builtin_convertvector(magnitude, Vec<float>) * 0x1p-24f);
  return bit_cast<Vec<float>>((magnitude < 0x400 ? subnormal : normal) | (bits & 0x8000) << 16);
}

inline void store(Float16* p, Vec<float> v) {  // to nearest, ties to even; every NaN becomes a quiet one
  const Bits<float> bits = bit_cast<Bits<float>>(v), magnitude = bits & 0x7fffffff;
  constexpr int32_t rebias = (127 - 15) << 23, least_normal = (127 - 14) << 23, too_large = (127 + 16) << 23;
  const Bits<float> normal = (magnitude - rebias + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // The sum has the wanted integer in its low bits, rounded.
  const Bits<float> subnormal = bit_cast<Bits<float>>(bit_cast<Vec<float>>(magnitude) * 0x1p24f + 0x1p23f) & 0x7fffff;
  Bits<float> half = magnitude < least_normal ? subnormal : normal;
  half = magnitude >= too_large ? half * 0 + 0x7c00 : half;
  half = magnitude > 0x7f800000 ? half * 0 + 0x7e00 : half;
  const HalfBits narrowed = narrow((WordBits)(half | ((bits >> 16) & 0x8000)));
  memcpy(p, &narrowed, sizeof narrowed);
}
#endif

// ---- arithmetic ----

template <class A> inline Vec<A> splat(A value) { return value - Vec<A>{}; }  // x - 0 is x, 0 + x is not for -0

// ---- factors ----

// What products are taken of: numbers of the compute type, or, where the processor multiplies bfloat16 by pairs and
// adds both products to a float32, two numbers in one, which follow each other in the sum. Steps, strides and depths of
// products count factors.
struct BFloat16Pair {
  BFloat16 first, second;
};
template <> struct VectorOf<BFloat16Pair> {
  using type = WordBits;
};

template <class T> struct FactorOf {
  using type = Compute<T>;
};
#if defined(__AVX512BF16__)
template <> struct FactorOf<BFloat16> {
  using type = BFloat16Pair;
};
#endif
template <class T> using Factor = typename FactorOf<T>::type;

template <class F> struct NumberOf {
  using type = F;
};
template <> struct NumberOf<BFloat16Pair> {
  using type = BFloat16;
};
template <class F> using Number = typename NumberOf<F>::type;               // that a factor is made of
template <class F> constexpr int kNumbers = sizeof(F) / sizeof(Number<F>);  // and how many of them

// The factors that hold so many numbers; those that are missing are zeros.
template <class F> inline int64_t depth_of(int64_t numbers) { return (numbers + kNumbers<F> - 1) / kNumbers<F>; }

inline Vec<float> multiply_add(Vec<float> sum, Vec<float> left, Vec<float> right) { return sum + left * right; }
inline Vec<double> multiply_add(Vec<double> sum, Vec<double> left, Vec<double> right) { return sum + left * right; }

#if defined(__AVX512BF16__)
inline WordBits load(const BFloat16Pair* p) {
  WordBits v;
  memcpy(&v, p, sizeof v);
  return v;
}
inline void store(BFloat16Pair* p, WordBits v) { memcpy(p, &v, sizeof v); }
// Both rounded; below the normal numbers is zero, as in their products.
inline WordBits pairs_of(Vec<float> first, Vec<float> second) {
  return widen((HalfBits)_mm512_cvtneps_pbh((__m512)first)) | widen((HalfBits)_mm512_cvtneps_pbh((__m512)second)) << 16;
}
inline WordBits splat(BFloat16Pair pair) { return WordBits{} + bit_cast<uint32_t>(pair); }
inline Vec<float> multiply_add(Vec<float> sum, WordBits left, WordBits right) {
  return (Vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
}
#endif

// The upper half is added to the lower until one lane is left.
template <class A, int lanes = kLanes<A>, class V> inline A sum_lanes(V v) {
  if constexpr (lanes == 1) {
    return bit_cast<A>(v);
  } else {
    typedef A Half __attribute__((vector_size(lanes / 2 * sizeof(A))));
    Half halves[2];
    memcpy(halves, &v, sizeof v);
    return sum_lanes<A, lanes / 2>(halves[0] + halves[1]);
  }
}

// All ones in the lanes from `first` on.
template <class A> inline Bits<A> lanes_from(int64_t first) {
  Bits<A> mask;
  for (int i = 0; i < kLanes<A>; ++i) mask[i] = i >= first ? -1 : 0;
  return mask;
}

template <class A> inline Vec<A> keep(Bits<A> mask, Vec<A> v) { return bit_cast<Vec<A>>(bit_cast<Bits<A>>(v) & mask); }

// 1 / v for v in [1, 1e38]. What is rounded to 16 bits needs no exact division: an estimate of 12 or 14 bits and one
// step of Newton's method, good to about 23 bits, take half its time.
template <class T> inline Vec<Compute<T>> reciprocal(Vec<Compute<T>> v) {
#if defined(__AVX512F__) || defined(__AVX2__)
  if constexpr (sizeof(T) == 2) {
#if defined(__AVX512F__)
    const Vec<float> estimate = (Vec<float>)_mm512_rcp14_ps((__m512)v);
#else
    const Vec<float> estimate = (Vec<float>)_mm256_rcp_ps((__m256)v);
#endif
    return estimate * (2.0f - v * estimate);
  }
#endif
  return Compute<T>(1) / v;
}

// Into [low, high]; NaN stays NaN.
template <class A> inline Vec<A> clamp(Vec<A> v, A low, A high) {
  v = v > high ? splat(high) : v;
  return v < low ? splat(low) : v;
}
#if defined(__AVX512F__)
// One instruction each, where GCC makes two of a selection.
inline Vec<float> clamp(Vec<float> v, float low, float high) {
  return (Vec<float>)_mm512_max_ps(_mm512_set1_ps(low), _mm512_min_ps(_mm512_set1_ps(high), (__m512)v));
}
#elif defined(__AVX2__)
inline Vec<float> clamp(Vec<float> v, float low, float high) {
  return (Vec<float>)_mm256_max_ps(_mm256_set1_ps(low), _mm256_min_ps(_mm256_set1_ps(high), (__m256)v));
}
#endif

// step(i) for i from 0 to count, one after the other.
template <int count, class Step> inline __attribute__((always_inline)) void for_each(Step&& step) {
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) step(i);
}

// exp for arguments whose result is a normal number. x = n ln2 + r with |r| <= ln2 / 2, exp(r) by a polynomial, 2^n by
// the exponent bits; under one unit in the last place. The float32 polynomial is Cephes' (Moshier, expf.c), the float64
// one Taylor's, whose first neglected term is 4e-18. Several at a time, step by step: one alone waits for each step's
// result.
template <int count> inline void exp_in_range(Vec<float> (&x)[count]) {
  constexpr float shift = 0x1.8p23f;  // adding it rounds to an integer, left in the low bits
  constexpr float polynomial[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                  4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  Vec<float> shifted[count], r[count], p[count];
  for_each<count>([&](int i) { shifted[i] = x[i] * 1.44269504088896341f + shift; });
  for_each<count>([&](int i) { p[i] = shifted[i] - shift; });
  for_each<count>([&](int i) { r[i] = x[i] - p[i] * 0.693359375f; });
  for_each<count>([&](int i) { r[i] = r[i] - p[i] * -2.12194440e-4f; });
  for_each<count>([&](int i) { p[i] = splat(polynomial[0]); });
#pragma GCC unroll 5
  for (int k = 1; k < 6; ++k) for_each<count>([&](int i) { p[i] = p[i] * r[i] + polynomial[k]; });
  for_each<count>([&](int i) { p[i] = p[i] * r[i]; });
  for_each<count>([&](int i) { p[i] = p[i] * r[i] + r[i]; });
  for_each<count>([&](int i) { p[i] = p[i] + 1.0f; });
  for_each<count>([&](int i) {
    x[i] = bit_cast<Vec<float>>(bit_cast<Bits<float>>(p[i]) + (bit_cast<Bits<float>>(shifted[i]) << 23));
  });
}

inline Vec<float> exp_in_range(Vec<float> x) {
  Vec<float> one[1] = {x};
  exp_in_range(one);
  return one[0];
}

inline Vec<double> exp_in_range(Vec<double> x) {
  const double shift = 0x1.8p52;
  const Vec<double> shifted = x * 1.44269504088896340736 + shift;
  const Vec<double> n = shifted - shift;
  const Vec<double> r = (x - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6;
  Vec<double> p = splat(1.0 / 6227020800.0);
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = (p * r * r + r) + 1.0;
  return bit_cast<Vec<double>>(bit_cast<Bits<double>>(p) + (bit_cast<Bits<double>>(shifted) << 52));
}

template <int count> inline void exp_in_range(Vec<double> (&x)[count]) {
  for_each<count>([&](int i) { x[i] = exp_in_range(x[i]); });
}

template <class A> struct ExpRange;  // exp(±largest) is a normal number; from `overflow` on exp is infinite
template <> struct ExpRange<float> {
  static constexpr float largest = 87.0f, overflow = 88.7228f;
};
template <> struct ExpRange<double> {
  static constexpr double largest = 708.0, overflow = 709.7827;
};

template <class A> struct Sigmoid {
  Vec<A> value, slope;  // and its derivative
};

// 1 / (1 + exp(-z)) for any z, as precise as T can hold; NaN stays NaN, and 0 comes where exp(-z) overflows, as in
// PyTorch. The slope is taken from the exponential: s (1 - s) would lose its digits where s is close to 1. It is 0
// where exp(-z) is below the normal numbers.
template <class T> inline Sigmoid<Compute<T>> sigmoid(Vec<Compute<T>> z) {
  using A = Compute<T>;
  const A largest = ExpRange<A>::largest;
  const Vec<A> e = exp_in_range(clamp(-z, -largest, largest));
  Vec<A> s = reciprocal<T>(A(1) + e);
  s = z < -ExpRange<A>::overflow ? splat(A(0)) : s;
  s = z == z ? s : z;
  return {s, keep<A>(~(z > largest), s * (e * s))};
}

}  // namespace
}  // namespace bam_fused::cpu
