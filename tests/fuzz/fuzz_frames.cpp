// What `spillway pub` makes of its standard input: lines and frames, in whatever pieces they come through a pipe.
//
// Asserted: records lie within the input and no larger than the limit; how the input was cut into pieces makes no
// difference; reading ends; what is written out as `spillway sub` does is read back as the same records.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>

#include "fuzz_support.h"
#include "spillway/core/error.h"
#include "spillway/ipc/record_layout.h"
#include "tools/spillway/input.h"
#include "tools/spillway/record_text.h"

using namespace spillway;
using namespace spillway::command;
using namespace spillway_fuzz;

namespace {

struct Copy {
  std::string payload;
  std::optional<std::string> key;
  bool operator==(const Copy&) const = default;
};
struct Read {
  std::vector<Copy> records;
  Parsed ended = Parsed::need_more;
  bool operator==(const Read&) const = default;
};

struct Format {
  bool frames = false;
  bool keys = false;
  std::string separator;
  std::uint64_t bytes_max = 0;
};

// Either parser; as pub.cpp has it.
class Parser {
 public:
  explicit Parser(const Format& format)
      : frames_(format.frames), line_(format.separator, format.bytes_max), frame_(format.keys, format.bytes_max) {}
  ParseResult next(std::string_view input, bool at_end) {
    return frames_ ? frame_.next(input, at_end) : line_.next(input, at_end);
  }

 private:
  bool frames_;
  LineParser line_;
  FrameParser frame_;
};

void check_record(const ParseResult& result, std::string_view pending, const Format& format) {
  const auto inside = [&](std::string_view part) {
    return part.data() >= pending.data() && part.data() + part.size() <= pending.data() + result.consumed;
  };
  SPILLWAY_ASSERT(result.consumed > 0 && result.consumed <= pending.size());
  SPILLWAY_ASSERT(inside(result.record.payload) && (!result.record.key || inside(*result.record.key)));
  const std::size_t key_bytes = result.record.key ? result.record.key->size() : 0;
  SPILLWAY_ASSERT(result.record.payload.size() + key_bytes == result.bytes && result.bytes <= format.bytes_max);
  SPILLWAY_ASSERT(key_bytes <= kKeyBytesMax);
}

// Takes what can be taken; true: nothing more will be.
template <class Pending, class Consume>
bool take(Parser& parser, const Format& format, bool at_end, Read& read, Pending&& pending, Consume&& consume) {
  for (;;) {
    const std::string_view input = pending();
    const ParseResult result = parser.next(input, at_end);
    if (result.status != Parsed::record) {
      read.ended = result.status;
      if (result.status == Parsed::need_more && at_end) SPILLWAY_ASSERT(input.empty());
      return result.status != Parsed::need_more;
    }
    check_record(result, input, format);
    Copy copy{std::string(result.record.payload), std::nullopt};
    if (result.record.key) copy.key = std::string(*result.record.key);
    read.records.push_back(std::move(copy));
    consume(result.consumed);
  }
}

Read read_whole(const Format& format, std::string_view text) {
  Parser parser(format);
  Read read;
  take(parser, format, true, read, [&] { return text; }, [&](std::size_t bytes) { text.remove_prefix(bytes); });
  return read;
}

// Through a pipe, in pieces; a small buffer to begin with, so that it has to grow.
Read read_in_pieces(const Format& format, std::string_view text, std::uint8_t piece) {
  int ends[2];
  SPILLWAY_ASSERT(::pipe2(ends, O_CLOEXEC) == 0);
  Parser parser(format);
  Input input(ends[0], 16);
  Read read;
  for (bool over = false; !over;) {
    const std::string_view part = text.substr(0, std::min<std::size_t>(text.size(), 1U + piece));
    text.remove_prefix(part.size());
    if (part.empty()) {
      ::close(ends[1]);
    } else {
      SPILLWAY_ASSERT(::write(ends[1], part.data(), part.size()) == static_cast<ssize_t>(part.size()));
    }
    for (std::size_t got = 0; !over && (part.empty() || got < part.size());) {
      const std::size_t before = input.pending().size();
      const Input::Got status = input.read_more(0);
      SPILLWAY_ASSERT(status == (part.empty() ? Input::Got::end : Input::Got::data));
      got += input.pending().size() - before;
      over = take(
          parser, format, part.empty(), read, [&] { return input.pending(); },
          [&](std::size_t bytes) { input.consume(bytes); });
      if (part.empty()) break;
    }
    if (part.empty()) break;
    if (over) ::close(ends[1]);
  }
  ::close(ends[0]);
  return read;
}

// Lines that hold their own separator or a newline can't be told from others; frames always can.
bool can_be_written(const Format& format, const Copy& record) {
  if (format.frames) return true;
  if (record.payload.find('\n') != std::string::npos) return false;
  if (format.separator.empty()) return !record.key;
  return record.key ? true : record.payload.find(format.separator) == std::string::npos;
}

void check_round_trip(const Format& format, const Read& read) {
  OutputFormat output;
  output.frames = format.frames;
  output.keys = format.keys;
  output.separator = format.separator;
  std::string text;
  for (const Copy& record : read.records) {
    SPILLWAY_ASSERT(can_be_written(format, record));
    OutputRecord out{0, 0, record.payload, std::nullopt};
    if (record.key) out.key = *record.key;
    format_before(output, out, text);
    text += record.payload;
    text += format_after(output);
  }
  const Read again = read_whole(format, text);
  SPILLWAY_ASSERT(again.ended == Parsed::need_more && again.records == read.records);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  Source source({data, bytes});
  const std::uint8_t how = source.byte();
  const std::uint8_t piece = source.byte();
  Format format;
  format.frames = (how & 1) != 0;
  format.keys = format.frames && (how & 2) != 0;
  format.bytes_max = (how & 4) != 0 ? 100'000 : source.byte();
  if (!format.frames && (how & 2) != 0) {
    const std::optional<std::string> separator = parse_separator(source.text(1U + source.byte() % 4));
    if (separator) {
      SPILLWAY_ASSERT(!separator->empty() && separator->size() <= 4 && *separator != "\n");
      format.separator = *separator;
    }
  }
  const std::string_view text = source.text(bytes);
  const Read whole = read_whole(format, text);
  SPILLWAY_ASSERT(read_in_pieces(format, text, piece) == whole);
  check_round_trip(format, whole);
  return 0;
}
