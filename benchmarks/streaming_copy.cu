// The ceiling: a streaming copy of 16-byte accesses, as the kernels make them, timed by events with the level-2 cache
// flushed. Prints one JSON line per size: bytes copied, median and quantiles in microseconds over the samples.
//
//     nvcc -O3 -arch=native streaming_copy.cu -o streaming_copy && ./streaming_copy 1000000 100000000
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#define CHECK(call)                                                                       \
  do {                                                                                    \
    const cudaError_t error = (call);                                                     \
    if (error != cudaSuccess) {                                                           \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(error)); \
      std::exit(1);                                                                       \
    }                                                                                     \
  } while (0)

constexpr int kLoads = 4;

__global__ void __launch_bounds__(256) streaming_copy(const uint4* from, uint4* to, long long count) {
  const long long begin = blockIdx.x * 256ll * kLoads + threadIdx.x;
  uint4 values[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    if (begin + i * 256 < count) values[i] = __ldcs(from + begin + i * 256);
  }
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    if (begin + i * 256 < count) to[begin + i * 256] = values[i];
  }
}

/// Reads as much as fills the level-2 cache: a flush that wrote would leave lines to be written back during the copy.
__global__ void flush_by_reading(const uint4* from, long long count, unsigned* never) {
  unsigned seen = 0;
  for (long long i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) seen |= from[i].x;
  if (seen == 1) *never = seen;  // the memory is all zeros
}

int main(int argc, char** argv) {
  int cache = 0;
  CHECK(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, 0));
  void* flush;
  const long long flushed = 2ll * cache / 16;
  CHECK(cudaMalloc(&flush, flushed * 16));
  CHECK(cudaMemset(flush, 0, flushed * 16));
  cudaEvent_t start, stop;
  CHECK(cudaEventCreate(&start));
  CHECK(cudaEventCreate(&stop));
  for (int a = 1; a < argc; ++a) {
    const long long count = std::atoll(argv[a]) / 16;
    std::vector<unsigned> words(count * 4);
    unsigned state = 1;
    for (unsigned& word : words) word = state = state * 1664525u + 1013904223u;  // a copy of zeros may run faster
    uint4 *from, *to;
    CHECK(cudaMalloc(&from, count * 16));
    CHECK(cudaMalloc(&to, count * 16));
    CHECK(cudaMemcpy(from, words.data(), count * 16, cudaMemcpyHostToDevice));
    const unsigned blocks = static_cast<unsigned>((count + 256 * kLoads - 1) / (256 * kLoads));
    std::vector<float> times;
    for (int i = 0; i < 110; ++i) {
      flush_by_reading<<<1024, 256>>>(static_cast<const uint4*>(flush), flushed, static_cast<unsigned*>(flush));
      CHECK(cudaGetLastError());
      CHECK(cudaEventRecord(start));
      streaming_copy<<<blocks, 256>>>(from, to, count);
      CHECK(cudaGetLastError());
      CHECK(cudaEventRecord(stop));
      CHECK(cudaEventSynchronize(stop));
      float milliseconds = 0;
      CHECK(cudaEventElapsedTime(&milliseconds, start, stop));
      if (i >= 10) times.push_back(milliseconds * 1000);
    }
    std::vector<unsigned> copied(count * 4);
    CHECK(cudaMemcpy(copied.data(), to, count * 16, cudaMemcpyDeviceToHost));
    if (copied != words) {
      std::fprintf(stderr, "the copy differs\n");
      return 1;
    }
    std::sort(times.begin(), times.end());
    std::printf(
        "{\"bytes\": %lld, \"median_us\": %.2f, \"q20_us\": %.2f, \"q80_us\": %.2f}\n", count * 16, times[50],
        times[20], times[80]);
    CHECK(cudaFree(from));
    CHECK(cudaFree(to));
  }
  return 0;
}
