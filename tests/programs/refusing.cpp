// refusing GROUP COMMAND [ARGUMENT ...]: runs the command where the kernel answers EPERM to a group of system calls, as it does
// where the seccomp profile of a container leaves them out. Exit 77 where this kernel has no such filters.
//
//   io_uring   io_uring_setup, io_uring_enter, io_uring_register
//   newer      those, and membarrier and futex_waitv, which older profiles don't know either
//   listing    getdents64: a directory opens, and can't be read
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <string_view>
#include <vector>

namespace {

constexpr unsigned kFutexWaitv = 449;  // older headers have no name for it

std::vector<unsigned> calls_of(std::string_view group) {
  if (group == "listing") return {SYS_getdents64};
  std::vector<unsigned> calls = {SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register};
  if (group == "newer") calls.insert(calls.end(), {SYS_membarrier, kFutexWaitv});
  return calls;
}

bool refuse(const std::vector<unsigned>& calls) {
  std::vector<sock_filter> program = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const unsigned call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter = {static_cast<unsigned short>(program.size()), program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view group = argc > 2 ? argv[1] : "";
  if (group != "io_uring" && group != "newer" && group != "listing") {
    std::fprintf(stderr, "usage: refusing io_uring|newer|listing COMMAND [ARGUMENT ...]\n");
    return 2;
  }
  if (!refuse(calls_of(group))) {
    std::perror("refusing: this kernel has no filters of system calls");
    return 77;
  }
  ::execvp(argv[2], argv + 2);
  std::perror(argv[2]);
  return 127;
}
