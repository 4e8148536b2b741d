// Catch2, whichever of 2 and 3 is installed, and the one thing 2 lacks: a test that skips, and never passes,
// where the kernel or the machine has no such feature.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;  // where Catch2 2 has it
#else
#include <catch2/catch.hpp>
#endif

#include <iostream>

namespace spillway_test {

// Set by SPILLWAY_SKIP, read by main: a run in which nothing failed and something was skipped exits 77, which
// ctest reports as "Skipped". ctest runs one test case per process, so the verdict is that case's own.
inline bool skipped = false;

}  // namespace spillway_test

// Leaves the test case (it returns: use it in the case's own body) and says why. Checks made before it still
// count.
#define SPILLWAY_SKIP(reason)                                      \
  do {                                                             \
    std::cout << "skipped: " << (reason) << std::endl; /* flush */ \
    ::spillway_test::skipped = true;                               \
    return;                                                        \
  } while (false)
