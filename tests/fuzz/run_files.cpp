// main() of a fuzz target without libFuzzer: runs each file, and each file in the directories, named on the command
// line once. So what the fuzzers kept is a test wherever the tests are built.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz_support.h"

namespace {

std::vector<std::string> files_of(const std::string& place) {
  if (!std::filesystem::is_directory(place)) return {place};
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(place)) files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const std::string& file : files_of(argv[i])) {
      std::ifstream stream(file, std::ios::binary);
      if (!stream) {
        std::fprintf(stderr, "can't read %s\n", file.c_str());
        return 2;
      }
      const std::string input{std::istreambuf_iterator<char>(stream), {}};
      std::fprintf(stderr, "%s\n", file.c_str());  // first: who crashes has been named
      LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
      ++count;
    }
  }
  std::fprintf(stderr, "%zu inputs\n", count);
  return count > 0 ? 0 : 2;  // an empty corpus tests nothing
}
