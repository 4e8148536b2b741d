// What `doctor` looks at: each check says what was found, and, where something is amiss, its cause and its cure.
//
// Only looks. Thread safety: stateless.
#pragma once

#include <string>
#include <vector>

#include "spillway/core/error.h"
#include "spillway/persist/domain.h"

namespace spillway::command {

enum class Verdict : std::uint8_t {
  fine,
  advice,   // it works, but worse than it could, or something wants attention
  prevents  // Spillway can't run like this
};
std::string_view name_of(Verdict value) noexcept;

struct Finding {
  std::string check;
  Verdict verdict = Verdict::fine;
  std::string found;
  std::string cause;  // empty when fine
  std::string cure;
};

// A finding whose cause and cure are those that the error's sentence names.
Finding finding_of(const Error& error, std::string check, Verdict verdict, std::string found);

// Of the machine.
Finding check_kernel();
Finding check_wakeups();
Finding check_io_uring();
Finding check_memlock();
Finding check_remove_ipc(const std::string& shm);
// Of the two directories.
Finding check_shm(const std::string& shm);
Finding check_data(const std::string& data);
Finding check_direct_io(const std::string& data);
// Of the topics in them. Several findings, or one that all is well.
std::vector<Finding> check_topics(const Domain& domain);
std::vector<Finding> check_leftovers(const Domain& domain);

// The parts of the above that can be told apart without the machine, for tests.
bool kernel_at_least(const std::string& release, int major, int minor);
// The value of RemoveIPC in the text of a logind.conf; nothing when it does not set it.
std::string remove_ipc_setting(const std::string& text);

}  // namespace spillway::command
