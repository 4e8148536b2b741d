#include "record_text.h"

#include <charconv>
#include <cstring>

#include "spillway/ipc/record_layout.h"

namespace spillway::command {
namespace {

static_assert(std::endian::native == std::endian::little, "frames are little-endian");

std::uint32_t u32_at(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

template <class Number>
void put_binary(Number value, std::string& into) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  into.append(bytes, sizeof bytes);
}

void put_decimal(std::uint64_t value, std::string& into) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  into.append(digits, static_cast<std::size_t>(end - digits));
}

// How many bytes the character takes that begins with `first`, by UTF-8; 1 for what can't begin one.
std::size_t character_bytes(unsigned char first) {
  if (first >= 0xF0 && first < 0xF8) return 4;
  if (first >= 0xE0) return first < 0xF0 ? 3 : 1;
  return first >= 0xC0 ? 2 : 1;
}

}  // namespace

LineParser::LineParser(std::string separator, std::uint64_t bytes_max)
    : separator_(std::move(separator)), bytes_max_(bytes_max) {}

ParseResult LineParser::next(std::string_view input, bool at_end) {
  const void* found =
      searched_ < input.size() ? std::memchr(input.data() + searched_, '\n', input.size() - searched_) : nullptr;
  ParseResult result;
  std::string_view line = input;
  if (found != nullptr) {
    line = input.substr(0, static_cast<std::size_t>(static_cast<const char*>(found) - input.data()));
    result.consumed = line.size() + 1;
  } else if (at_end && !input.empty()) {
    result.consumed = line.size();
  } else if (input.size() <= bytes_max_ + separator_.size()) {
    searched_ = input.size();
    return result;
  }
  searched_ = 0;
  result.record.payload = line;
  if (!separator_.empty()) {
    const std::size_t at = line.find(separator_);
    if (at != std::string_view::npos) {
      result.record.key = line.substr(0, at);
      result.record.payload = line.substr(at + separator_.size());
    }
  }
  const std::size_t key_bytes = result.record.key ? result.record.key->size() : 0;
  result.bytes = result.record.payload.size() + key_bytes;
  result.status = result.bytes > bytes_max_  ? Parsed::too_large
                  : key_bytes > kKeyBytesMax ? Parsed::key_too_large
                                             : Parsed::record;
  return result;
}

ParseResult FrameParser::next(std::string_view input, bool at_end) const {
  ParseResult result;
  const std::size_t head = keys_ ? 8 : 4;
  if (input.empty()) return result;
  if (input.size() < head) {
    if (at_end) result.status = Parsed::truncated;
    return result;
  }
  const std::uint32_t key_field = keys_ ? u32_at(input, 0) : kNoKey;
  const std::size_t key_bytes = key_field == kNoKey ? 0 : key_field;
  const std::size_t payload_bytes = u32_at(input, head - 4);
  result.bytes = std::uint64_t{key_bytes} + payload_bytes;
  if (key_bytes > kKeyBytesMax || result.bytes > bytes_max_) {
    result.status = key_bytes > kKeyBytesMax ? Parsed::key_too_large : Parsed::too_large;
    return result;
  }
  if (input.size() - head < result.bytes) {
    if (at_end) result.status = Parsed::truncated;
    return result;
  }
  if (key_field != kNoKey) result.record.key = input.substr(head, key_bytes);
  result.record.payload = input.substr(head + key_bytes, payload_bytes);
  result.consumed = head + key_bytes + payload_bytes;
  result.status = Parsed::record;
  return result;
}

std::optional<std::string> parse_separator(std::string_view text) {
  if (text == "\\t") return "\t";
  if (text == "\\0") return std::string(1, '\0');
  if (text == "\\\\") return "\\";
  if (text.empty() || text == "\n") return std::nullopt;
  if (text.size() != character_bytes(static_cast<unsigned char>(text.front()))) return std::nullopt;
  return std::string(text);
}

void format_before(const OutputFormat& format, const OutputRecord& record, std::string& into) {
  if (format.frames) {
    if (format.offsets) {
      put_binary(record.partition, into);
      put_binary(record.offset, into);
    }
    if (format.keys) put_binary(record.key ? static_cast<std::uint32_t>(record.key->size()) : kNoKey, into);
    put_binary(static_cast<std::uint32_t>(record.payload.size()), into);
    if (format.keys && record.key) into.append(*record.key);
    return;
  }
  if (format.offsets) {
    put_decimal(record.partition, into);
    into.push_back(' ');
    put_decimal(record.offset, into);
    into.push_back('\t');
  }
  if (!format.separator.empty() && record.key) {
    into.append(*record.key);
    into.append(format.separator);
  }
}

}  // namespace spillway::command
