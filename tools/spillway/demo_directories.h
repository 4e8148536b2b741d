// Where a demo keeps its topics: two directories of its own, removed when it ends, however it ends.
//
// A demo that was killed outright can't remove them; the next one does. That they are left over is proved by their lock,
// which the kernel releases with the process that held it.
#pragma once

#include <cstdint>
#include <string>

#include "command.h"
#include "spillway/core/descriptor.h"

namespace spillway::command::demo {

class Directories {
 public:
  // Below what --data and --shm (or the environment) name; without them below the temporary directory that lies on disk,
  // and /dev/shm. Throws Error.
  explicit Directories(const Context& context);
  ~Directories();
  Directories(const Directories&) = delete;
  Directories& operator=(const Directories&) = delete;

  const std::string& data() const noexcept { return data_.path; }
  const std::string& shm() const noexcept { return shm_.path; }
  std::uint64_t disk_free() const;  // bytes
  std::uint64_t shm_free() const;

 private:
  struct Scratch {
    std::string path;
    std::string made_parent;  // to be removed too if it is empty then; or empty
    FileDescriptor lock;
  };
  static Scratch make(const std::string& parent);
  static void remove(Scratch& scratch) noexcept;

  Scratch data_;
  Scratch shm_;
};

}  // namespace spillway::command::demo
