// What all subcommands share: how numbers are read and sentences and JSON are printed.
#include "tools/spillway/command.h"

#include <string>

#include "support/catch.h"
#include "tools/spillway/topic_json.h"

using namespace spillway::command;

TEST_CASE("a number is decimal digits and nothing else, within its range") {
  CHECK(parse_number("0", 10) == 0);
  CHECK(parse_number("010", 10) == 10);
  CHECK(parse_number("18446744073709551615", UINT64_MAX) == UINT64_MAX);
  for (const char* bad : {"", " 5", "5 ", "+5", "-1", "0x5", "5.0", "1e1", "11", "18446744073709551616"}) {
    INFO(bad);
    CHECK_FALSE(parse_number(bad, 10));
  }
}

TEST_CASE("a sentence stays on its line, whatever names it holds") {
  CHECK(one_line("topic a is \xc3\xa4") == "topic a is \xc3\xa4");
  CHECK(one_line("a\nb\x1b[2J\x7f") == "a\\x0ab\\x1b[2J\\x7f");
}

TEST_CASE("JSON is printed though a name in it is no UTF-8, on one line if asked") {
  CHECK(print({{"name", "\xff"}}, -1) == "{\"name\":\"\xef\xbf\xbd\"}\n");
}
