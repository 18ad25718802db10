// @name@ in C++: memory that is aligned as the network wants it, and calls.
#ifndef @NAME@_HPP
#define @NAME@_HPP

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "@name@.h"

namespace @name@_network {

struct Free {
  void operator()(void* memory) const noexcept { std::free(memory); }
};

// So many bytes, aligned, all of them 0.
template <class Element>
std::unique_ptr<Element[], Free> allocate(std::size_t bytes) {
  constexpr std::size_t alignment = FASTCONV_ALIGNMENT;
  const std::size_t rounded = (bytes + alignment) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded);
  if (!memory) throw std::bad_alloc();
  for (std::size_t i = 0; i < rounded; i++) static_cast<char*>(memory)[i] = 0;
  return std::unique_ptr<Element[], Free>(static_cast<Element*>(memory));
}

// A workspace, and calls in it: one at a time. Networks share nothing, so each thread may have one of its own.
class Network {
 public:
  explicit Network(const fastconv_pool* pool = nullptr)
      : pool_(pool), bytes_(@name@_workspace_bytes(pool)), workspace_(allocate<char>(bytes_)) {}

  void operator()(const @name@_inputs& inputs, const @name@_outputs& outputs) const {
    const fastconv_status status = @name@_run(&inputs, &outputs, workspace_.get(), bytes_, pool_);
    if (status != FASTCONV_OK) throw std::runtime_error("@name@_run: status " + std::to_string(status));
  }

 private:
  const fastconv_pool* pool_;
  std::size_t bytes_;
  std::unique_ptr<char[], Free> workspace_;
};

}  // namespace @name@_network

#endif
