#include "demo_host.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <memory>
#include <string>

#include "spillway/core/clock.h"
#include "spillway/core/descriptor.h"

namespace spillway::command::demo {
namespace {

// The first bytes of a file of /proc; empty when it can't be read. Valid until the next call.
std::string_view read_proc(const std::string& path, std::string& buffer) {
  buffer.resize(64 * 1024);
  std::size_t filled = 0;
  const FileDescriptor file = try_open_file(path, O_RDONLY);
  while (file && filled < buffer.size()) {
    const ssize_t got = ::read(file.get(), buffer.data() + filled, buffer.size() - filled);
    if (got <= 0) break;
    filled += static_cast<std::size_t>(got);
  }
  return {buffer.data(), filled};
}

// Takes the next word from `text`; empty at the end of the line.
std::string_view next_word(std::string_view& text) {
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos || text[begin] == '\n') return {};
  const std::size_t end = std::min(text.find_first_of(" \n", begin), text.size());
  const std::string_view word = text.substr(begin, end - begin);
  text.remove_prefix(end);
  return word;
}

template <class Number>
bool parse(std::string_view word, Number& number) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  return error == std::errc() && end == word.data() + word.size();
}

bool all_digits(std::string_view word) {
  return !word.empty() && word.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

bool parse_cpu(std::string_view line, Sample& sample) {
  const std::string_view name = next_word(line);
  if (name.substr(0, 3) != "cpu" || !parse(name.substr(3), sample.id)) return false;
  std::uint64_t nice = 0;
  auto& [user, system, idle, waiting] = sample.values;
  sample.kind = SampleKind::cpu;
  return parse(next_word(line), user) && parse(next_word(line), nice) && parse(next_word(line), system) &&
         parse(next_word(line), idle) && parse(next_word(line), waiting);
}

bool parse_process(std::string_view text, Sample& sample) {
  // The name in parentheses may hold anything, parentheses too: what follows begins behind the last one.
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos || !parse(next_word(text), sample.id)) return false;
  text = text.substr(text.rfind(')') + 1);
  auto& [user, system, resident, threads] = sample.values;
  sample.kind = SampleKind::process;
  // Fields are numbered as in proc(5); the first behind the name is the third.
  for (int field = 3; field <= 24; ++field) {
    const std::string_view word = next_word(text);
    if (field == 14 && !parse(word, user)) return false;
    if (field == 15 && !parse(word, system)) return false;
    if (field == 20 && !parse(word, threads)) return false;
    if (field == 24) return parse(word, resident);
  }
  return false;
}

bool parse_memory(std::string_view text, Sample& sample) {
  sample.kind = SampleKind::memory;
  sample.id = 0;
  int found = 0;
  while (!text.empty()) {
    const std::string_view key = next_word(text);
    const std::string_view value = next_word(text);
    const std::string_view keys[4] = {"MemTotal:", "MemFree:", "MemAvailable:", "Cached:"};
    for (std::size_t i = 0; i < 4; ++i) {
      if (key == keys[i] && parse(value, sample.values[i])) ++found;
    }
    text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  }
  return found > 0;
}

void sample_host(const std::function<bool(Sample&)>& take) {
  std::string buffer;
  const auto sample_now = [] {
    Sample sample = {};
    sample.time_ns = wall_ns();
    return sample;
  };
  std::string_view text = read_proc("/proc/stat", buffer);
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1);
    Sample sample = sample_now();
    if (parse_cpu(text.substr(0, end), sample) && !take(sample)) return;
    text.remove_prefix(end + 1);
  }
  Sample memory = sample_now();
  if (parse_memory(read_proc("/proc/meminfo", buffer), memory) && !take(memory)) return;

  const std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), ::closedir);
  if (!proc) return;
  while (const dirent* entry = ::readdir(proc.get())) {
    const std::string name = static_cast<const char*>(entry->d_name);
    if (!all_digits(name)) continue;
    Sample sample = sample_now();
    if (parse_process(read_proc("/proc/" + name + "/stat", buffer), sample) && !take(sample)) return;
  }
}

}  // namespace spillway::command::demo
