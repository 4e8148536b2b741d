#include "spillway/core/size_text.h"

#include "spillway/core/bytes.h"
#include "support/catch.h"

namespace {

using namespace spillway;

TEST_CASE("sizes are read as people write them") {
  CHECK(parse_size("0") == 0U);
  CHECK(parse_size("65536") == 65536U);
  CHECK(parse_size("7B") == 7U);
  CHECK(parse_size("64KiB") == 64 * kKiB);
  CHECK(parse_size("16MiB") == 16 * kMiB);
  CHECK(parse_size("1GiB") == kGiB);
  CHECK(parse_size("16777215TiB") == std::uint64_t{16777215} << 40);
  CHECK(parse_size("18446744073709551615") == UINT64_MAX);
}

TEST_CASE("what is no size is refused, never guessed") {
  for (const char* text : {"", " ", "KiB", "-1", "+1", "1 KiB", " 1", "1KB", "1kib", "1K", "1.5MiB", "0x10", "1KiBB",
                           "1e3", "18446744073709551616", "16777216TiB", "18014398509481984KiB"}) {
    INFO(text);
    CHECK_FALSE(parse_size(text).has_value());
  }
}

TEST_CASE("sizes are written exactly where a unit divides them, and read back") {
  CHECK(format_size(0) == "0B");
  CHECK(format_size(1023) == "1023B");
  CHECK(format_size(1024) == "1KiB");
  CHECK(format_size(16 * kMiB) == "16MiB");
  CHECK(format_size(kGiB + kGiB / 2) == "1536MiB");
  CHECK(format_size(1536) == "1.5KiB");
  for (const std::uint64_t size : {kKiB, 64 * kKiB, 3 * kMiB, kGiB, std::uint64_t{5} << 40}) {
    CHECK(parse_size(format_size(size)) == size);
  }
}

}  // namespace
