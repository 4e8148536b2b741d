// Records as the command reads and writes them: lines, with a key before a separator if asked for, or frames.
//
//   line             [KEY SEPARATOR] PAYLOAD \n                        (no spaces; KEY ends at the first SEPARATOR)
//   frame            u32 payload bytes, payload                         (little-endian)
//   frame with keys  u32 key bytes (0xFFFFFFFF: no key), u32 payload bytes, key, payload
// With offsets, written only: "PARTITION OFFSET\t" before a line; u32 partition, u64 offset before a frame.
//
// Thread safety: stateless, but for LineParser, which belongs to one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace spillway::command {

// A record that was found in the input; the views point into it.
struct InputRecord {
  std::string_view payload;
  std::optional<std::string_view> key;
};

enum class Parsed : std::uint8_t {
  record,     // `record` is good; it took `consumed` bytes of the input
  need_more,  // no whole record yet
  too_large,  // the record needs `bytes` bytes (at least so many, if its end is not in sight), which is more than the limit
  key_too_large,
  truncated,  // the input ended inside a frame
};

struct ParseResult {
  Parsed status = Parsed::need_more;
  InputRecord record;
  std::size_t consumed = 0;
  std::uint64_t bytes = 0;
};

// `bytes_max` counts payload and key together, in both parsers.
class LineParser {
 public:
  // `separator` empty: no keys.
  LineParser(std::string separator, std::uint64_t bytes_max);

  // `input` begins where the last record ended; after need_more it is given again with more behind it. `at_end`: nothing will
  // follow, so what is left is a line.
  ParseResult next(std::string_view input, bool at_end);

 private:
  std::string separator_;
  std::uint64_t bytes_max_;
  std::size_t searched_ = 0;  // so much of the input is known to hold no newline
};

class FrameParser {
 public:
  FrameParser(bool keys, std::uint64_t bytes_max) : keys_(keys), bytes_max_(bytes_max) {}
  ParseResult next(std::string_view input, bool at_end) const;

 private:
  bool keys_;
  std::uint64_t bytes_max_;
};

inline constexpr std::uint32_t kNoKey = 0xFFFFFFFF;  // a frame's key bytes when there is none

// What `--key-separator C` means: one character, or \t, \0 or \\ written out. Nothing for anything else, and for a newline.
std::optional<std::string> parse_separator(std::string_view text);

// A record as it is written out.
struct OutputRecord {
  std::uint32_t partition = 0;
  std::uint64_t offset = 0;
  std::string_view payload;
  std::optional<std::string_view> key;
};
struct OutputFormat {
  bool frames = false;
  bool keys = false;  // frames only
  bool offsets = false;
  std::string separator;  // lines only; empty: keys are not written
};

// What stands before the payload and, the second, behind it.
void format_before(const OutputFormat& format, const OutputRecord& record, std::string& into);
inline std::string_view format_after(const OutputFormat& format) { return format.frames ? "" : "\n"; }

}  // namespace spillway::command
