// libcuda and libcudart for tests: one GPU of compute capability 9.0 whose memory is this process's and whose kernels
// are those that the stand-in for nvcc has compiled with emulator.h. Everything is done when it is called, in order;
// what is begun on a stream that is being captured is kept in a graph instead, and done at each of its launches.
//
// The functions are those that TVM's CUDA runtime and this package call, with CUDA's names and constants.
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {
enum Error { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500, NOT_SUPPORTED = 801, UNKNOWN = 999 };

constexpr size_t DEVICE_BYTES = size_t(8) << 30, ALIGNMENT = 256, STACK_BYTES = size_t(1024) * 61760;
constexpr unsigned char POISON = 0xFF;  // of memory that nobody has written

using Work = std::function<Error()>;
struct Graph { std::vector<Work> work; };
struct Stream { Graph* captured = nullptr; };
struct Event { std::chrono::steady_clock::time_point time; };
struct Module { void* library; };
struct Kernel {
  const char* (*launch)(void**, const unsigned*, unsigned, int, char*);
  std::string name, parameters;  // of these, 'p' is a pointer
};

constexpr Error ILLEGAL_ADDRESS = Error(700);

std::atomic<bool> broken{false};  // as after a kernel that reads where nothing is: all fails from then on
std::recursive_mutex one_at_a_time;
Stream default_stream;
std::atomic<Error> last_error{SUCCESS};
std::string said;  // of the kernel that failed
std::map<const char*, size_t> allocated;  // of the GPU's memory

// Whether it is an address of the GPU's memory: a host's works here, and nowhere else.
bool is_on_gpu(uint64_t value) {
  const char* address = reinterpret_cast<const char*>(value);
  auto behind = allocated.upper_bound(address);
  return behind != allocated.begin() && address < std::prev(behind)->first + std::prev(behind)->second;
}

Stream& stream_of(void* handle) { return handle ? *static_cast<Stream*>(handle) : default_stream; }

Error remembered(Error error) {
  if (error != SUCCESS) last_error = error;
  return error;
}

// Does it, or keeps it for the graph that the stream is captured into.
Error begin(void* stream, Work work) {
  if (broken) return remembered(ILLEGAL_ADDRESS);
  std::lock_guard<std::recursive_mutex> turn(one_at_a_time);
  if (Graph* graph = stream_of(stream).captured) {
    graph->work.push_back(std::move(work));
    return SUCCESS;
  }
  return remembered(work());
}

char* stacks() {
  static char* made = static_cast<char*>(
      mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return made;
}

// For tests: the first launch that finds the file of this name takes it away, and breaks the GPU of its process.
bool breaks_now() {
  const char* trigger = getenv("FASTCONV_BREAKS_THE_GPU");
  return trigger && !unlink(trigger);
}

int attribute_of_device(int attribute) {
  switch (attribute) {
    case 1: return 1024;          // threads per block
    case 2: case 3: return 1024;  // of a block, in x and y
    case 4: return 64;
    case 8: return 49152;         // shared memory per block
    case 10: return 32;           // lanes of a warp
    case 12: return 65536;        // registers per block
    case 13: return 1980000;      // kHz
    case 16: return 132;          // multiprocessors
    case 38: return 50 << 20;     // bytes of L2
    case 75: return 9;            // compute capability
    case 76: return 0;
    case 97: return 232448;       // shared memory per block, on request
    default: return 0;
  }
}
}  // namespace

// ------------------------------------------------------------------------------------------------------ the driver
EXPORTED Error cuInit(unsigned) { return SUCCESS; }
EXPORTED Error cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal ? INVALID_VALUE : SUCCESS;
}
EXPORTED Error cuDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute_of_device(attribute);
  return SUCCESS;
}
EXPORTED Error cuDeviceGetName(char* name, int length, int) {
  snprintf(name, length, "Stand-in GPU");
  return SUCCESS;
}
EXPORTED Error cuGetErrorName(Error error, const char** name) {
  *name = error == SUCCESS ? "CUDA_SUCCESS" : "CUDA_ERROR";
  return SUCCESS;
}
EXPORTED Error cuGetErrorString(Error error, const char** text) {
  *text = error == SUCCESS ? "no error" : said.empty() ? "an error of the stand-in" : said.c_str();
  return SUCCESS;
}

// An image is what the stand-in for nvcc writes: the header of a fat binary, and a library of kernels.
EXPORTED Error cuModuleLoadData(Module** made, const void* image) {
  const unsigned char magic[] = {0x50, 0xed, 0x55, 0xba};
  if (memcmp(image, magic, sizeof magic)) return INVALID_VALUE;
  uint64_t size;
  memcpy(&size, static_cast<const char*>(image) + 8, sizeof size);
  // A name of its own: dlopen takes two of one name for the same.
  std::string path = std::filesystem::temp_directory_path() / "kernels-XXXXXX";
  const int file = mkstemp(path.data());
  const ssize_t written = write(file, static_cast<const char*>(image) + 16, size);
  close(file);
  void* library = written == ssize_t(size) ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
  unlink(path.c_str());
  if (!library) return UNKNOWN;
  *made = new Module{library};
  return SUCCESS;
}
EXPORTED Error cuModuleUnload(Module* module) {
  delete module;  // its code stays: a graph may hold it
  return SUCCESS;
}
EXPORTED Error cuModuleGetFunction(Kernel** made, Module* module, const char* name) {
  const std::string kernel = name;
  void* launch = dlsym(module->library, ("launch_" + kernel).c_str());
  void* parameters = dlsym(module->library, ("parameters_" + kernel).c_str());
  if (!launch || !parameters) return NOT_FOUND;
  *made = new Kernel{reinterpret_cast<decltype(Kernel::launch)>(launch), kernel, static_cast<char*>(parameters)};
  return SUCCESS;
}
EXPORTED Error cuFuncSetAttribute(Kernel*, int, int) { return SUCCESS; }
EXPORTED Error cuTensorMapEncodeTiled(...) { return NOT_SUPPORTED; }

struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  void* stream;
  void* attributes;
  unsigned attribute_count;
};
EXPORTED Error cuLaunchKernelEx(const LaunchConfig* config, Kernel* kernel, void** parameters, void**) {
  if (breaks_now()) broken = true;
  std::vector<uint64_t> values(kernel->parameters.size());
  for (size_t i = 0; i < values.size(); ++i) {
    memcpy(&values[i], parameters[i], sizeof values[i]);
    if (kernel->parameters[i] != 'p' || is_on_gpu(values[i])) continue;
    said = kernel->name + ": parameter " + std::to_string(i) + " is no address of the GPU's memory";
    return remembered(ILLEGAL_ADDRESS);
  }
  return begin(config->stream, [config = *config, kernel, values]() mutable {
    std::vector<void*> pointers(values.size() + 1);
    for (size_t i = 0; i < values.size(); ++i) pointers[i] = &values[i];
    const char* order = getenv("FASTCONV_EMULATED_ORDER");
    const char* message =
        kernel->launch(pointers.data(), config.grid, config.shared_bytes, order ? atoi(order) : 0, stacks());
    if (!message) return SUCCESS;
    said = message;
    fprintf(stderr, "%s\n", message);
    return UNKNOWN;
  });
}

// ----------------------------------------------------------------------------------------------------- the runtime
EXPORTED Error cudaGetDeviceCount(int* count) {
  *count = 1;
  return SUCCESS;
}
EXPORTED Error cudaSetDevice(int device) { return device ? INVALID_VALUE : SUCCESS; }
EXPORTED Error cudaGetDevice(int* device) {
  *device = 0;
  return SUCCESS;
}
EXPORTED Error cudaDeviceGetAttribute(int* value, int attribute, int device) {
  return cuDeviceGetAttribute(value, attribute, device);
}
EXPORTED Error cudaGetDeviceProperties(char* properties, int) {
  snprintf(properties, 256, "Stand-in GPU");  // which is where they begin
  return SUCCESS;
}
EXPORTED const char* cudaGetErrorName(Error) { return "cudaError"; }
EXPORTED const char* cudaGetErrorString(Error error) {
  const char* text;
  cuGetErrorString(error, &text);
  return text;
}
EXPORTED Error cudaPeekAtLastError() { return last_error; }
EXPORTED Error cudaGetLastError() { return last_error.exchange(SUCCESS); }

EXPORTED Error cudaMalloc(void** memory, size_t bytes) {
  if (bytes > DEVICE_BYTES) return remembered(OUT_OF_MEMORY);
  *memory = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
  if (!*memory) return remembered(OUT_OF_MEMORY);
  memset(*memory, POISON, bytes);
  std::lock_guard<std::recursive_mutex> turn(one_at_a_time);
  allocated[static_cast<char*>(*memory)] = bytes ? bytes : 1;
  return SUCCESS;
}
EXPORTED Error cudaFree(void* memory) {
  std::lock_guard<std::recursive_mutex> turn(one_at_a_time);
  allocated.erase(static_cast<char*>(memory));
  free(memory);
  return SUCCESS;
}
EXPORTED Error cudaMallocHost(void** memory, size_t bytes) { return cudaMalloc(memory, bytes); }
EXPORTED Error cudaFreeHost(void* memory) { return cudaFree(memory); }
EXPORTED Error cudaMemGetInfo(size_t* unused, size_t* total) {
  std::lock_guard<std::recursive_mutex> turn(one_at_a_time);
  *unused = *total = DEVICE_BYTES;
  for (const auto& block : allocated) *unused -= block.second;
  return SUCCESS;
}
EXPORTED Error cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, void* stream) {
  return begin(stream, [=] { return memmove(to, from, bytes), SUCCESS; });
}
EXPORTED Error cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, void* stream) {
  return cudaMemcpyAsync(to, from, bytes, 0, stream);
}
EXPORTED Error cudaMemsetAsync(void* to, int value, size_t bytes, void* stream) {
  return begin(stream, [=] { return memset(to, value, bytes), SUCCESS; });
}

EXPORTED Error cudaStreamCreate(Stream** stream) {
  *stream = new Stream;
  return SUCCESS;
}
EXPORTED Error cudaStreamCreateWithFlags(Stream** stream, unsigned) { return cudaStreamCreate(stream); }
EXPORTED Error cudaStreamDestroy(Stream* stream) {
  delete stream;
  return SUCCESS;
}
EXPORTED Error cudaStreamSynchronize(void* stream) {
  if (broken) return ILLEGAL_ADDRESS;
  return stream_of(stream).captured ? remembered(INVALID_VALUE) : SUCCESS;  // not while it is captured
}
EXPORTED Error cudaDeviceSynchronize() { return broken ? ILLEGAL_ADDRESS : SUCCESS; }
EXPORTED Error cudaStreamWaitEvent(void*, Event*, unsigned) { return SUCCESS; }

EXPORTED Error cudaEventCreate(Event** event) {
  *event = new Event;
  return SUCCESS;
}
EXPORTED Error cudaEventDestroy(Event* event) {
  delete event;
  return SUCCESS;
}
EXPORTED Error cudaEventRecord(Event* event, void* stream) {
  return begin(stream, [=] { return event->time = std::chrono::steady_clock::now(), SUCCESS; });
}
EXPORTED Error cudaEventSynchronize(Event*) { return SUCCESS; }
EXPORTED Error cudaEventElapsedTime(float* ms, Event* first, Event* last) {
  *ms = std::chrono::duration<float, std::milli>(last->time - first->time).count();
  return SUCCESS;
}

EXPORTED Error cudaStreamBeginCapture(void* stream, int) {
  if (!stream || stream_of(stream).captured) return remembered(INVALID_VALUE);  // never the default stream
  stream_of(stream).captured = new Graph;
  return SUCCESS;
}
EXPORTED Error cudaStreamEndCapture(void* stream, Graph** graph) {
  *graph = stream_of(stream).captured;
  stream_of(stream).captured = nullptr;
  return *graph ? SUCCESS : remembered(INVALID_VALUE);
}
EXPORTED Error cudaGraphInstantiate(Graph** executable, const Graph* graph, unsigned long long) {
  *executable = new Graph(*graph);
  return SUCCESS;
}
EXPORTED Error cudaGraphLaunch(const Graph* executable, void* stream) {
  for (const Work& work : executable->work) {
    if (const Error error = begin(stream, work)) return error;
  }
  return SUCCESS;
}
EXPORTED Error cudaGraphDestroy(Graph* graph) {
  delete graph;
  return SUCCESS;
}
EXPORTED Error cudaGraphExecDestroy(Graph* executable) { return cudaGraphDestroy(executable); }
