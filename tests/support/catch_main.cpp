// main of every test executable, and with Catch2 2 also the framework itself: it is header-only there, and
// compiling it once is half of a test build's time.
#define CATCH_CONFIG_RUNNER
#include "support/catch.h"

namespace {

constexpr int kSkipped = 77;  // what ctest is told to read as "Skipped"

}  // namespace

int main(int argc, char** argv) {
  const int result = Catch::Session().run(argc, argv);
  if (result == 0 && spillway_test::skipped) return kSkipped;
  return result == kSkipped ? 1 : result;  // Catch2 returns how many checks failed
}
