// What the kernel says of this host and its processes, as samples.
#pragma once

#include <functional>
#include <string_view>

#include "demo_records.h"

namespace spillway::command::demo {

// Takes one pass over /proc: a sample per CPU, one of the memory, one per process. Sequence and hash are left to `take`,
// which answers false to end the pass early. What can't be read (a process that has just ended, a /proc that hides others)
// is left out.
void sample_host(const std::function<bool(Sample&)>& take);

// The parts that read the kernel's text. False: it is not such a line.
bool parse_cpu(std::string_view line, Sample& sample);      // a line of /proc/stat
bool parse_process(std::string_view text, Sample& sample);  // /proc/<pid>/stat
bool parse_memory(std::string_view text, Sample& sample);   // /proc/meminfo

}  // namespace spillway::command::demo
