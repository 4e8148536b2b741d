// One process of the demo: this same program in another role, connected by two pipes that carry lines of text.
//
// It dies with the process that started it, and is in a process group of its own, so that an interrupt from the terminal
// reaches only the one that directs the demo.
// Thread safety: one thread, which must outlive the process: the kernel ties the child's life to that thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "spillway/core/descriptor.h"

namespace spillway::command::demo {

class Process {
 public:
  // Starts this program with `arguments`. `name` is for messages. Throws Error.
  Process(std::string name, const std::vector<std::string>& arguments);
  // Kills it if it still runs.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const std::string& name() const noexcept { return name_; }
  pid_t pid() const noexcept { return pid_; }
  int descriptor() const noexcept { return from_child_.get(); }  // readable when it wrote something

  // One line to its standard input. What a process that has died can't read is dropped: see ended().
  void send(const std::string& line) noexcept;
  // The whole lines it wrote since the last call.
  std::vector<std::string> take_lines();
  void signal(int number) noexcept;
  // How it ended, in words (`exit code 4`), or nothing while it runs.
  const std::optional<std::string>& ended();
  bool succeeded() const noexcept { return succeeded_; }  // ended with exit code 0

 private:
  std::string name_;
  pid_t pid_ = -1;
  FileDescriptor to_child_;
  FileDescriptor from_child_;
  std::string unread_;  // the beginning of a line
  std::optional<std::string> end_;
  bool succeeded_ = false;
};

}  // namespace spillway::command::demo
