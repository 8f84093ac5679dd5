/* A CUDA driver without a GPU: it accepts every module and writes down every launch, so that a test can run Triton's
   launching code and see what would have reached the GPU. */
#include <stdint.h>
#include <string.h>

enum { MAX_THREADS_PER_BLOCK = 0, SHARED_MEMORY = 200 * 1024, PARAMETERS = 64 };

typedef struct {
  unsigned grid[3], block[3], shared;
  void* stream;
} Configuration; /* the beginning of CUlaunchConfig */

Configuration last_configuration;
void* last_parameters[PARAMETERS];
long launches;
int parameters; /* of the kernel that is launched next */

int cuLaunchKernelEx(const Configuration* configuration, void* function, void** values, void** extra) {
  last_configuration = *configuration;
  for (int i = 0; i < parameters; i++) memcpy(&last_parameters[i], values[i], 4 + 4 * (i < 4));
  launches++;
  return 0;
}

int cuFuncGetAttribute(int* value, int attribute, void* function) {
  *value = attribute == MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return 0;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = SHARED_MEMORY;
  return 0;
}

int cuPointerGetAttribute(uint64_t* value, int attribute, uint64_t pointer) {
  *value = pointer;
  return 0;
}

int cuStreamIsCapturing(void* stream, int* status) { /* asked by Triton 3.9 and later */
  *status = 0;
  return 0;
}

static int hand_out(void** handle) {
  *handle = (void*)1;
  return 0;
}

int cuCtxGetCurrent(void** context) { return hand_out(context); }
int cuDevicePrimaryCtxRetain(void** context, int device) { return hand_out(context); }
int cuModuleLoadData(void** module, const void* image) { return hand_out(module); }
int cuModuleGetFunction(void** function, void* module, const char* name) { return hand_out(function); }

#define ACCEPT(name) \
  int name(void) { return 0; }
ACCEPT(cuInit)
ACCEPT(cuCtxSetCurrent)
ACCEPT(cuCtxGetDevice)
ACCEPT(cuCtxGetLimit)
ACCEPT(cuCtxSetLimit)
ACCEPT(cuDeviceGet)
ACCEPT(cuDriverGetVersion)
ACCEPT(cuFuncSetAttribute)
ACCEPT(cuFuncSetCacheConfig)
ACCEPT(cuGetErrorString)
ACCEPT(cuModuleUnload)
ACCEPT(cuOccupancyMaxActiveClusters)
ACCEPT(cuPointerGetAttributes)
ACCEPT(cuTensorMapEncodeTiled)
ACCEPT(cuTensorMapEncodeIm2col)
