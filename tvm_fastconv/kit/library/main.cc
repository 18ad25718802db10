// @name@ from C++: reads raw files, writes raw files.
//
//   @name@_cc INPUT... OUTPUT...
#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "@name@.hpp"
#include "kit_illegal.h"

namespace {

void read_file(const char* path, void* memory, std::size_t bytes) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(std::string(path) + ": cannot be opened");
  const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
  if (content.size() != bytes) throw std::runtime_error(std::string(path) + ": not a file of " + std::to_string(bytes) + " bytes");
  std::copy(content.begin(), content.end(), static_cast<char*>(memory));
}

void write_file(const char* path, const void* memory, std::size_t bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(memory), static_cast<std::streamsize>(bytes));
  if (!file.flush()) throw std::runtime_error(std::string(path) + ": cannot be written");
}

}  // namespace

int main(int count, char** arguments) try {
  signal(SIGILL, say_illegal);
  if (count != 1 + @NAME@_INPUTS + @NAME@_OUTPUTS) throw std::runtime_error("usage: @name@_cc INPUT... OUTPUT...");
@cc_tensors@  @name@_network::Network()({@cc_inputs@}, {@cc_outputs@});
@cc_writes@  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 2;
}
