// bfloat16 on the CPU, under the names of the toolkit's header; rounds to nearest even.
#pragma once

#include <cstring>

struct __nv_bfloat16 {
  unsigned short bits;
};

struct __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  unsigned word;
  std::memcpy(&word, &value, 4);
  if (value != value) return {0x7fff};
  return {static_cast<unsigned short>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16)};
}

inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high) {
  return {__float2bfloat16_rn(low), __float2bfloat16_rn(high)};
}
