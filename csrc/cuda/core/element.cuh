// Elements: how the four dtypes are loaded, computed with and stored, one element or 16 bytes at a time.
//
// What a kernel writes is left to the cache's default, since the next layer reads it. Every access to global memory
// goes through the intrinsics used here and in streaming/.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "../../shared/layout.h"
#include "portable.cuh"

namespace bam_fused::cuda {

template <typename To, typename From>
__device__ __forceinline__ To bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

/// What a dtype is computed in, and its conversions, by elements and by pairs in 32 bits.
template <typename T>
struct Element;

template <>
struct Element<double> {
  using Compute = double;
  using Raw = double;
  __device__ static double widen(double value) { return value; }
  __device__ static double narrow(double value) { return value; }
};

template <>
struct Element<float> {
  using Compute = float;
  using Raw = float;
  __device__ static float widen(float value) { return value; }
  __device__ static float narrow(float value) { return value; }
};

template <>
struct Element<__nv_bfloat16> {
  using Compute = float;
  using Raw = unsigned short;
  __device__ static float widen(Raw raw) { return bits<float>(static_cast<unsigned>(raw) << 16); }
  __device__ static Raw narrow(float value) { return bits<Raw>(__float2bfloat16_rn(value)); }
  __device__ static float2 widen_pair(unsigned raw) {
    return make_float2(bits<float>(raw << 16), bits<float>(raw & 0xffff0000u));
  }
  __device__ static unsigned narrow_pair(float low, float high) {
    return bits<unsigned>(__floats2bfloat162_rn(low, high));
  }
};

template <>
struct Element<__half> {
  using Compute = float;
  using Raw = unsigned short;
  __device__ static float widen(Raw raw) { return __half2float(bits<__half>(raw)); }
  __device__ static Raw narrow(float value) { return bits<Raw>(__float2half_rn(value)); }
  __device__ static float2 widen_pair(unsigned raw) { return __half22float2(bits<__half2>(raw)); }
  __device__ static unsigned narrow_pair(float low, float high) { return bits<unsigned>(__floats2half2_rn(low, high)); }
};

template <typename T>
using Compute = typename Element<T>::Compute;

/// The V elements of one access as they lie in memory, and their conversion to and from the compute type.
template <typename T, int V>
struct Pack;

template <typename T>
struct Pack<T, 1> {
  typename Element<T>::Raw raw;
  __device__ void widen(Compute<T> (&to)[1]) const { to[0] = Element<T>::widen(raw); }
  __device__ void narrow(const Compute<T> (&from)[1]) { raw = Element<T>::narrow(from[0]); }
};

template <>
struct Pack<float, 4> {
  uint4 raw;
  __device__ void widen(float (&to)[4]) const {
    to[0] = bits<float>(raw.x), to[1] = bits<float>(raw.y), to[2] = bits<float>(raw.z), to[3] = bits<float>(raw.w);
  }
  __device__ void narrow(const float (&from)[4]) {
    raw =
        make_uint4(bits<unsigned>(from[0]), bits<unsigned>(from[1]), bits<unsigned>(from[2]), bits<unsigned>(from[3]));
  }
};

template <typename T>
struct Pack<T, 8> {
  uint4 raw;
  __device__ void widen(float (&to)[8]) const {
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = Element<T>::widen_pair(words[i]);
      to[2 * i] = pair.x, to[2 * i + 1] = pair.y;
    }
  }
  __device__ void narrow(const float (&from)[8]) {
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = Element<T>::narrow_pair(from[2 * i], from[2 * i + 1]);
    raw = make_uint4(words[0], words[1], words[2], words[3]);
  }
};

/// Elements in 16 bytes. float64 exists for exactness; it takes one element at a time, which spares its instances.
template <typename T>
constexpr int kWide = sizeof(T) == 8 ? 1 : 16 / static_cast<int>(sizeof(T));

/// A logit as it lies in memory. Its conversion is a step of its own: it waits for the load, and must not do so while
/// loads of the feature map are still to be issued.
template <typename T>
using RawLogit = std::conditional_t<sizeof(T) == 8, unsigned long long, unsigned>;

template <typename T>
__device__ __forceinline__ RawLogit<T> load_logit(const char* at, bool float32) {
  if (sizeof(T) == 4 || float32) return __ldg(reinterpret_cast<const unsigned*>(at));
  using Stored = std::conditional_t<sizeof(T) == 8, unsigned long long, unsigned short>;
  return __ldg(reinterpret_cast<const Stored*>(at));
}

template <typename T>
__device__ __forceinline__ Compute<T> widen_logit(RawLogit<T> raw, bool float32) {
  if (sizeof(T) == 4 || float32) return bits<float>(static_cast<unsigned>(raw));
  if constexpr (sizeof(T) == 8) return bits<double>(raw);
  if constexpr (sizeof(T) == 2) return Element<T>::widen(static_cast<unsigned short>(raw));
}

/// The logits of V columns: as they lie in memory until `widen`, which turns each word into a compute value's bits.
template <typename T, int V>
struct RawColumns {
  RawLogit<T> words[V] = {};

  /// V adjacent logits, aligned to 16 bytes.
  __device__ __forceinline__ void load_wide(const char* at, bool float32) {
    if constexpr (V > 1) {
      const auto* from = reinterpret_cast<const uint4*>(at);
#pragma unroll
      for (int i = 0; i < V / 4; ++i) {
        if (i > 0 && !float32) break;
        const uint4 raw = __ldg(from + i);
        words[4 * i] = raw.x, words[4 * i + 1] = raw.y, words[4 * i + 2] = raw.z, words[4 * i + 3] = raw.w;
      }
    }
  }

  /// In place. `wide`: they came by `load_wide`, 16-bit logits two to a word.
  __device__ __forceinline__ void widen(bool float32, bool wide) {
    if constexpr (sizeof(T) == 8) {
      if (float32)
        words[0] = bits<unsigned long long>(static_cast<double>(bits<float>(static_cast<unsigned>(words[0]))));
    }
    if constexpr (sizeof(T) == 2) {
      if (float32) return;
      if (V == 8 && wide) {
#pragma unroll
        for (int i = V / 2 - 1; i >= 0; --i) {
          const float2 pair = Element<T>::widen_pair(words[i]);
          words[2 * i] = bits<unsigned>(pair.x), words[2 * i + 1] = bits<unsigned>(pair.y);
        }
        return;
      }
#pragma unroll
      for (int i = 0; i < V; ++i) {
        words[i] = bits<unsigned>(Element<T>::widen(static_cast<unsigned short>(words[i])));
      }
    }
  }

  __device__ __forceinline__ void set(int i, Compute<T> logit) { words[i] = bits<RawLogit<T>>(logit); }

  __device__ __forceinline__ Compute<T> operator[](int i) const { return bits<Compute<T>>(words[i]); }
};

template <typename T>
__device__ __forceinline__ void store_result(const Results& results, int64_t at, Compute<T> value) {
  if (results.float32) {
    write(static_cast<float*>(results.data) + at, static_cast<float>(value));
  } else {
    write(static_cast<typename Element<T>::Raw*>(results.data) + at, Element<T>::narrow(value));
  }
}

}  // namespace bam_fused::cuda
