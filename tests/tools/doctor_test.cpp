// What doctor makes of the texts it finds on a machine.
#include <string>

#include "support/catch.h"
#include "tools/spillway/doctor_checks.h"

using namespace spillway::command;

TEST_CASE("kernel releases are compared by number") {
  CHECK(kernel_at_least("5.15.0-91-generic", 5, 15));
  CHECK(kernel_at_least("6.1.0", 5, 15));
  CHECK(kernel_at_least("5.100.3", 5, 15));
  CHECK_FALSE(kernel_at_least("5.9.0", 5, 15));
  CHECK_FALSE(kernel_at_least("4.19.1", 5, 15));
  CHECK_FALSE(kernel_at_least("unknown", 5, 15));
}

TEST_CASE("RemoveIPC is found in a logind.conf, the last setting of it, comments aside") {
  CHECK(remove_ipc_setting("").empty());
  CHECK(remove_ipc_setting("[Login]\n#RemoveIPC=no\n").empty());
  CHECK(remove_ipc_setting("[Login]\nRemoveIPC=no\n") == "no");
  CHECK(remove_ipc_setting("[Login]\n RemoveIPC = no \r\n") == "no");
  CHECK(remove_ipc_setting("RemoveIPC=no\nRemoveIPC=yes") == "yes");
  CHECK(remove_ipc_setting("NoRemoveIPC=no\n").empty());
}

TEST_CASE("a finding that is not fine names its cause and its cure") {
  for (const Finding& finding :
       {check_kernel(), check_wakeups(), check_io_uring(), check_memlock(), check_remove_ipc("/dev/shm/x"),
        check_shm("/dev/shm/spillway-test"), check_data("/tmp/spillway-test"), check_direct_io("/proc"),
        check_shm("/proc/x"), check_data("/proc/x"), check_shm("/etc/passwd/x"), check_data("/etc/passwd/x"),
        finding_of({spillway::Code::io, "it failed"}, "topics", Verdict::advice, "not usable"),
        finding_of({spillway::Code::io, "it failed; mend it"}, "topics", Verdict::advice, "not usable")}) {
    INFO(finding.check << ": " << finding.found);
    CHECK_FALSE(finding.check.empty());
    CHECK_FALSE(finding.found.empty());
    CHECK((finding.verdict == Verdict::fine) == finding.cause.empty());
    CHECK((finding.verdict == Verdict::fine) == finding.cure.empty());
  }
}
