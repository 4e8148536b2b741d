// A producer makes no system call while nobody sleeps, and a consumer that polls makes none either.
// Method: the thread forbids itself all of them but its own end (a seccomp filter; any other ends it, too), and then
// appends ten million records, or reads what there is. It leaves through the one call that is left.
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <thread>

#include "spillway/spillway.h"
#include "support/catch.h"
#include "support/place.h"

namespace {

using namespace spillway;
using namespace spillway::test;

enum Outcome { worked = 0, failed = 1, made_a_call = 2, no_seccomp = 77 };

// From now on this thread may only end.
bool forbid_system_calls() {
  std::array<sock_filter, 4> program = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_THREAD),
  }};
  const sock_fprog filter = {static_cast<unsigned short>(program.size()), program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// Runs `work` in a thread that may not call the kernel.
template <class Work>
int without_system_calls(Work&& work) {
  std::atomic<int> outcome{made_a_call};
  std::thread thread([&] {
    if (!forbid_system_calls()) {
      outcome.store(no_seccomp);
      return;
    }
    outcome.store(work() ? worked : failed);
    ::syscall(SYS_exit, 0);  // of this thread; what C++ does at its end would be more calls
  });
  thread.join();
  return outcome.load();
}

// In a child: the thread that leaves so takes nothing down with it.
template <class Work>
int in_child_without_system_calls(Work&& work) {
  return result_of(in_child([&] { return work(); }));
}

TEST_CASE("ten million appends to an ephemeral topic make no system call while nobody sleeps") {
  const Place place;
  const int result = in_child_without_system_calls([&] {
    const Domain domain = place.domain();
    ExclusiveProducer producer = domain.open_or_create("t", {.ephemeral = true}).exclusive_producer();
    return without_system_calls([&] {
      for (int i = 0; i < 10'000'000; ++i) {
        if (!producer.append("thirty-two bytes of some payload")) return false;
      }
      return true;
    });
  });
  if (result == no_seccomp) SPILLWAY_SKIP("this kernel has no seccomp");
  CHECK(result == worked);
}

TEST_CASE("neither shared appends nor polls of a live consumer make a system call") {
  const Place place;
  const int result = in_child_without_system_calls([&] {
    const Domain domain = place.domain();
    const Topic topic = domain.open_or_create("t", {.ephemeral = true});
    SharedProducer producer = topic.shared_producer();
    Consumer consumer = topic.consumer({.from = From::earliest, .wait = Wait::spin});
    return without_system_calls([&] {
      for (int round = 0; round < 1'000; ++round) {
        for (int i = 0; i < 100; ++i) {
          if (!producer.append("thirty-two bytes of some payload")) return false;
        }
        std::size_t seen = 0;
        while (seen < 100) seen += consumer.poll([](const Record&) {}).records;
        if (consumer.poll([](const Record&) {}).records != 0) return false;
      }
      return true;
    });
  });
  if (result == no_seccomp) SPILLWAY_SKIP("this kernel has no seccomp");
  CHECK(result == worked);
}

TEST_CASE("a thread that calls the kernel is found out") {
  const int result =
      in_child_without_system_calls([&] { return without_system_calls([&] { return ::getppid() != 0; }); });
  if (result == no_seccomp) SPILLWAY_SKIP("this kernel has no seccomp");
  CHECK(result == made_a_call);
}

}  // namespace
