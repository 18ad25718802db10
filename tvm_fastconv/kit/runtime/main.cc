// @name@ from C++: reads raw files, writes raw files.
//
//   @name@_cc INPUT... OUTPUT...      in the folder of the kit
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "kit_illegal.h"
#include "kit_program.h"

namespace {

namespace ffi = tvm::ffi;

struct Port {
  std::vector<int64_t> shape;  // -1: the batch
  DLDataType dtype;
};
const std::vector<Port> ports = {@cc_ports@};

// Memory that is aligned as the network wants it.
struct Aligned {
  void AllocData(DLTensor* tensor) {
    tensor->data = std::aligned_alloc(ALIGNMENT, ffi::GetDataSize(*tensor) / ALIGNMENT * ALIGNMENT + ALIGNMENT);
    if (!tensor->data) throw std::bad_alloc();
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

class Network {
 public:
  explicit Network(const std::string& path)
      : machine_(ffi::Module::LoadFromFile(path)->GetFunction("vm_load_executable").value()().cast<ffi::Module>()) {
    // A CPU for everything, pooled memory; and again, for what is computed of shapes.
    machine_->GetFunction("vm_initialization").value()(kDLCPU, 0, 2, kDLCPU, 0, 2);
    main_ = machine_->GetFunction("main").value();
  }

  std::vector<ffi::Tensor> operator()(const std::vector<ffi::Tensor>& inputs) const {
    std::vector<ffi::AnyView> arguments(inputs.begin(), inputs.end());
    ffi::Any result;
    main_.CallPacked(ffi::PackedArgs(arguments.data(), static_cast<int>(arguments.size())), &result);
    if (OUTPUTS == 1) return {result.cast<ffi::Tensor>()};
    const auto outputs = result.cast<ffi::Array<ffi::Tensor>>();
    return {outputs.begin(), outputs.end()};
  }

 private:
  ffi::Module machine_;
  ffi::Function main_{nullptr};
};

ffi::Tensor read_tensor(const char* path, const Port& port) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(std::string(path) + ": cannot be opened");
  const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
  int64_t bytes = port.dtype.bits / 8;
  for (const int64_t extent : port.shape) bytes *= std::max<int64_t>(extent, 1);
  std::vector<int64_t> shape = port.shape;
  std::replace(shape.begin(), shape.end(), int64_t{-1}, static_cast<int64_t>(content.size()) / bytes);
  const auto tensor = ffi::Tensor::FromNDAlloc(Aligned(), ffi::Shape(shape), port.dtype, DLDevice{kDLCPU, 0});
  if (content.empty() || content.size() != ffi::GetDataSize(tensor))
    throw std::runtime_error(std::string(path) + ": not a file of this input's size");
  std::copy(content.begin(), content.end(), static_cast<char*>(tensor.data_ptr()));
  return tensor;
}

void write_tensor(const char* path, const ffi::Tensor& tensor) {
  std::ofstream file(path, std::ios::binary);
  const auto bytes = static_cast<std::streamsize>(ffi::GetDataSize(tensor));
  file.write(static_cast<const char*>(tensor.data_ptr()), bytes);
  if (!file.flush()) throw std::runtime_error(std::string(path) + ": cannot be written");
}

}  // namespace

int main(int count, char** arguments) try {
  signal(SIGILL, say_illegal);
  if (count != 1 + TENSORS) throw std::runtime_error("usage: @name@_cc INPUT... OUTPUT...");
  const Network network("./@name@.so");
  std::vector<ffi::Tensor> inputs;
  for (int i = 0; i < INPUTS; i++) inputs.push_back(read_tensor(arguments[1 + i], ports[i]));
  const std::vector<ffi::Tensor> outputs = network(inputs);
  for (int i = 0; i < OUTPUTS; i++) write_tensor(arguments[1 + INPUTS + i], outputs[i]);
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 2;
}
