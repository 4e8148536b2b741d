// Lines and frames: where records begin and end, whatever is in them and however the input is cut into pieces.
#include "tools/spillway/record_text.h"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "support/catch.h"

using namespace spillway::command;

namespace {

struct Found {
  std::string payload;
  std::optional<std::string> key;
  bool operator==(const Found&) const = default;
};

// Feeds `input` in pieces of `step` bytes, as a pipe might, and collects what comes out.
template <class Parser>
std::vector<Found> parse_in_pieces(Parser parser, const std::string& input, std::size_t step, Parsed& last) {
  std::vector<Found> found;
  std::string pending;
  std::size_t fed = 0;
  for (;;) {
    const std::size_t piece = std::min(step, input.size() - fed);
    pending += input.substr(fed, piece);
    fed += piece;
    const bool at_end = fed == input.size();
    for (;;) {
      const ParseResult parsed = parser.next(pending, at_end);
      last = parsed.status;
      if (parsed.status == Parsed::need_more) break;
      if (parsed.status != Parsed::record) return found;
      Found record{std::string(parsed.record.payload), std::nullopt};
      if (parsed.record.key) record.key = std::string(*parsed.record.key);
      found.push_back(std::move(record));
      pending.erase(0, parsed.consumed);
    }
    if (at_end) return found;
  }
}

std::vector<Found> lines_of(const std::string& input, const std::string& separator = {}, std::size_t step = 7) {
  Parsed last{};
  auto found = parse_in_pieces(LineParser(separator, 1000), input, step, last);
  REQUIRE(last == Parsed::need_more);
  return found;
}

std::string frame(const std::string& payload) {
  OutputFormat format;
  format.frames = true;
  std::string text;
  format_before(format, {0, 0, payload, std::nullopt}, text);
  return text + payload;
}

std::string keyed_frame(const std::optional<std::string>& key, const std::string& payload) {
  OutputFormat format;
  format.frames = format.keys = true;
  std::string text;
  OutputRecord record{0, 0, payload, std::nullopt};
  if (key) record.key = *key;
  format_before(format, record, text);
  return text + payload;
}

}  // namespace

TEST_CASE("lines: the newline is not stored, and the last one may be missing") {
  CHECK(lines_of("").empty());
  CHECK(lines_of("a") == std::vector<Found>{{"a", {}}});
  CHECK(lines_of("a\n") == std::vector<Found>{{"a", {}}});
  CHECK(lines_of("a\nb") == std::vector<Found>{{"a", {}}, {"b", {}}});
  CHECK(lines_of("\n\n") == std::vector<Found>{{"", {}}, {"", {}}});
  CHECK(lines_of("\na\n\n") == std::vector<Found>{{"", {}}, {"a", {}}, {"", {}}});
}

TEST_CASE("lines: any byte but the newline is part of the record") {
  const std::string binary("\0\r\xff\x80\0", 5);
  CHECK(lines_of(binary + "\n" + binary) == std::vector<Found>{{binary, {}}, {binary, {}}});
}

TEST_CASE("lines: what precedes the first separator is the key") {
  CHECK(lines_of("k:v\n", ":") == std::vector<Found>{{"v", "k"}});
  CHECK(lines_of("k:v:w\n", ":") == std::vector<Found>{{"v:w", "k"}});
  CHECK(lines_of("none\n", ":") == std::vector<Found>{{"none", {}}});
  CHECK(lines_of(":v\n", ":") == std::vector<Found>{{"v", ""}});
  CHECK(lines_of("k:\n", ":") == std::vector<Found>{{"", "k"}});
  CHECK(lines_of("k\xe2\x86\x92v\n", "\xe2\x86\x92") == std::vector<Found>{{"v", "k"}});
}

TEST_CASE("lines: a record may be as large as the limit and not larger") {
  LineParser parser("", 8);
  CHECK(parser.next("12345678\n", false).status == Parsed::record);
  const ParseResult larger = parser.next("123456789\n", false);
  CHECK(larger.status == Parsed::too_large);
  CHECK(larger.bytes == 9);
  // Without its newline in sight it is refused as soon as it can't be saved by one.
  CHECK(parser.next("12345678", false).status == Parsed::need_more);
  CHECK(parser.next("123456789", false).status == Parsed::too_large);
  CHECK(LineParser("", 8).next("123456789", true).status == Parsed::too_large);
}

TEST_CASE("lines: key and payload count together, the separator does not") {
  CHECK(LineParser(":", 8).next("1234:5678\n", false).status == Parsed::record);
  CHECK(LineParser(":", 8).next("1234:56789\n", false).status == Parsed::too_large);
  CHECK(LineParser(":", 8).next("1234:5678", false).status == Parsed::need_more);
  const std::string long_key(65'536, 'k');
  CHECK(LineParser(":", 1 << 20).next(long_key + ":v\n", false).status == Parsed::key_too_large);
  CHECK(LineParser(":", 1 << 20).next(long_key.substr(1) + ":v\n", false).status == Parsed::record);
}

TEST_CASE("frames: length and payload, empty ones too") {
  Parsed last{};
  const std::string input = frame("abc") + frame("") + frame(std::string("\n\0x", 3));
  for (const std::size_t step : {1U, 3U, 4U, 100U}) {
    CHECK(parse_in_pieces(FrameParser(false, 100), input, step, last) ==
          std::vector<Found>{{"abc", {}}, {"", {}}, {std::string("\n\0x", 3), {}}});
    CHECK(last == Parsed::need_more);
  }
}

TEST_CASE("frames: with keys, none is another thing than an empty one") {
  Parsed last{};
  const std::string input = keyed_frame("k", "v") + keyed_frame("", "v") + keyed_frame(std::nullopt, "v");
  for (const std::size_t step : {1U, 5U, 8U, 100U}) {
    CHECK(parse_in_pieces(FrameParser(true, 100), input, step, last) ==
          std::vector<Found>{{"v", "k"}, {"v", ""}, {"v", {}}});
    CHECK(last == Parsed::need_more);
  }
}

TEST_CASE("frames: one that the input ends in is truncated, and what came before it is whole") {
  for (std::size_t cut = 1; cut < frame("abcdef").size(); ++cut) {
    Parsed last{};
    const std::string input = frame("first") + frame("abcdef").substr(0, cut);
    CHECK(parse_in_pieces(FrameParser(false, 100), input, 3, last) == std::vector<Found>{{"first", {}}});
    CHECK(last == Parsed::truncated);
  }
}

TEST_CASE("frames: a length beyond the limit is refused before its bytes are asked for") {
  const std::string huge("\xff\xff\xff\xff", 4);
  const ParseResult parsed = FrameParser(false, 100).next(huge, false);
  CHECK(parsed.status == Parsed::too_large);
  CHECK(parsed.bytes == 0xFFFFFFFF);
  CHECK(FrameParser(true, 1 << 20).next(std::string("\0\0\1\0\0\0\0\0", 8), false).status == Parsed::key_too_large);
}

TEST_CASE("the separator is one character, or a tab written out") {
  CHECK(parse_separator(":") == ":");
  CHECK(parse_separator("\\t") == "\t");
  CHECK(parse_separator("\t") == "\t");
  CHECK(parse_separator("\\\\") == "\\");
  CHECK(parse_separator("\\") == "\\");
  CHECK(parse_separator("\\0") == std::string(1, '\0'));
  CHECK(parse_separator("\xe2\x86\x92") == "\xe2\x86\x92");
  for (const char* bad : {"", "::", "\n", "ab", "\xe2\x86"}) CHECK_FALSE(parse_separator(bad));
}

TEST_CASE("records are written as they are read") {
  OutputFormat format;
  const OutputRecord record{3, 4096, "v", "k"};
  const auto written = [&] {
    std::string text;
    format_before(format, record, text);
    return text + std::string(record.payload) + std::string(format_after(format));
  };
  CHECK(written() == "v\n");
  format.offsets = true;
  CHECK(written() == "3 4096\tv\n");
  format.separator = "=";
  CHECK(written() == "3 4096\tk=v\n");
  format = {.frames = true, .keys = false, .offsets = true, .separator = ""};
  CHECK(written() == std::string("\3\0\0\0\0\x10\0\0\0\0\0\0\1\0\0\0v", 17));
  format.keys = true;
  CHECK(written() == std::string("\3\0\0\0\0\x10\0\0\0\0\0\0\1\0\0\0\1\0\0\0kv", 22));
}

TEST_CASE("any lines in any pieces come out as they went in") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<Found> expected;
    std::string input;
    for (std::size_t i = random() % 20; i > 0; --i) {
      std::string line(random() % 50, '\0');
      for (char& c : line) {
        do c = static_cast<char>(random() % 256);
        while (c == '\n');
      }
      input += line + "\n";
      expected.push_back({line, {}});
    }
    CHECK(lines_of(input, "", 1 + random() % 60) == expected);
  }
}
