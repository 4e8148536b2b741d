#include "spillway/ipc/topic_config.h"

#include <nlohmann/json.hpp>

#include "spillway/core/bytes.h"
#include "spillway/core/checksum.h"
#include "spillway/core/error.h"
#include "support/catch.h"

namespace {

using namespace spillway;
using nlohmann::json;

Code refused(const std::string& name, const TopicOptions& options, std::string* sentence = nullptr) {
  try {
    static_cast<void>(make_topic_config(name, options));
  } catch (const Error& e) {
    if (sentence != nullptr) *sentence = e.what();
    return e.code();
  }
  FAIL("accepted");
  return Code::io;
}

TopicOptions with(const std::function<void(TopicOptions&)>& change) {
  TopicOptions o;
  change(o);
  return o;
}

TEST_CASE("defaults: the ring by the number of partitions, the segment by the ring") {
  const TopicConfig one = make_topic_config("t", {});
  CHECK(one.partitions == 1);
  CHECK(one.ring_bytes == 16 * kMiB);
  CHECK(one.segment_bytes == 64 * kMiB);
  CHECK(one.retain_bytes == 0);
  CHECK(one.on_full == OnFull::block);
  CHECK(one.sync == SyncPolicy::interval);
  CHECK(one.wakeups);
  CHECK(make_topic_config("t", with([](auto& o) { o.partitions = 3; })).ring_bytes == 4 * kMiB);
  CHECK(make_topic_config("t", with([](auto& o) { o.partitions = 1024; })).ring_bytes == kMiB);
  CHECK(make_topic_config("t", with([](auto& o) { o.ring = 256 * kMiB; })).segment_bytes == 256 * kMiB);
  const TopicConfig ephemeral = make_topic_config("t", with([](auto& o) { o.ephemeral = true; }));
  CHECK(ephemeral.segment_bytes == 0);
  CHECK(ephemeral.sync == SyncPolicy::none);
  CHECK(make_topic_config("t", {}).id != make_topic_config("t", {}).id);
}

TEST_CASE("each impossible setting is refused, and the sentence says what is possible") {
  struct Row {
    const char* says;
    std::function<void(TopicOptions&)> change;
  };
  const Row rows[] = {
      {"at least one partition", [](auto& o) { o.partitions = 0; }},
      {"1 to 1024", [](auto& o) { o.partitions = 1025; }},
      {"power of two from 64KiB", [](auto& o) { o.ring = 0; }},
      {"power of two from 64KiB", [](auto& o) { o.ring = 32 * kKiB; }},
      {"power of two from 64KiB", [](auto& o) { o.ring = 65537; }},
      {"power of two from 64KiB", [](auto& o) { o.ring = std::uint64_t{1} << 41; }},
      {"multiple of the ring", [](auto& o) { o.segment = 8 * kMiB; }},
      {"multiple of the ring", [](auto& o) { o.segment = 48 * kMiB; }},
      {"at most", [](auto& o) { o.segment = std::uint64_t{1} << 37; }},
      {"two segments", [](auto& o) { o.retain = 127 * kMiB; }},
      {"keeps nothing on disk", [](auto& o) { o.ephemeral = true, o.retain = kGiB; }},
      {"nothing there can age", [](auto& o) { o.ephemeral = true, o.retain_age_s = 1; }},
      {"sync can only be none", [](auto& o) { o.ephemeral = true, o.sync = SyncPolicy::interval; }},
      {"no segments", [](auto& o) { o.ephemeral = true, o.segment = 64 * kMiB; }},
      {"1 to 3600000 ms", [](auto& o) { o.sync_interval_ms = 0; }},
      {"1 to 3600000 ms", [](auto& o) { o.sync_interval_ms = 3'600'001; }},
      {"alignment must be", [](auto& o) { o.type = RecordType{"s", 32, 32}; }},
      {"alignment must be", [](auto& o) { o.type = RecordType{"s", 32, 0}; }},
      {"at most 1024 bytes", [](auto& o) { o.schema = std::string(1025, 's'); }},
      {"UTF-8", [](auto& o) { o.schema = "\xFF\xFE"; }},
  };
  for (const Row& row : rows) {
    INFO(row.says);
    std::string sentence;
    CHECK(refused("t", with(row.change), &sentence) == Code::invalid_argument);
    INFO(sentence);
    CHECK(sentence.find(row.says) != std::string::npos);
  }
}

TEST_CASE("names that could leave the directory or confuse a shell are refused") {
  for (const std::string& name : {std::string(), std::string("."), std::string(".."), std::string(".hidden"),
                                  std::string("a/b"), std::string("../a"), std::string("a b"), std::string("a\n"),
                                  std::string("a\0b", 3), std::string("\xC3\xA4"), std::string(201, 'a')}) {
    INFO(name);
    CHECK(refused(name, {}) == Code::invalid_argument);
  }
  for (const std::string& name : {std::string("a"), std::string("A.b_c-9"), std::string("-"), std::string(200, 'a')}) {
    CHECK_NOTHROW(check_topic_name(name));
  }
}

TopicConfig sample() {
  return make_topic_config("orders", with([](auto& o) {
                             o.partitions = 7, o.ring = 2 * kMiB, o.segment = 8 * kMiB, o.retain = 64 * kMiB;
                             o.retain_age_s = 86'400;
                             o.on_full = OnFull::drop_new, o.sync = SyncPolicy::every_batch, o.sync_interval_ms = 17;
                             o.wakeups = false, o.sharing = Sharing::group_read;
                             o.type = RecordType{"order.v3 \"quoted\" \xC3\xBC", 48, 8};
                           }));
}

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
TopicConfig parse(const std::string& text) {
  return topic_config_from_json(std::as_bytes(std::span(text)), "/d/topic.json");
}

TEST_CASE("a configuration comes back from its file as it was written") {
  const TopicConfig c = sample();
  const TopicConfig back = parse(text_of(to_json(c)));
  CHECK(back.name == c.name);
  CHECK(back.id == c.id);
  CHECK(back.partitions == c.partitions);
  CHECK(back.ring_bytes == c.ring_bytes);
  CHECK(back.segment_bytes == c.segment_bytes);
  CHECK(back.retain_bytes == c.retain_bytes);
  CHECK(back.retain_age_s == c.retain_age_s);
  CHECK(back.on_full == c.on_full);
  CHECK(back.sync == c.sync);
  CHECK(back.sync_interval_ms == c.sync_interval_ms);
  CHECK(back.wakeups == c.wakeups);
  CHECK(back.ephemeral == c.ephemeral);
  CHECK(back.sharing == c.sharing);
  CHECK(back.type == c.type);
  CHECK(back.salt(0) == c.salt(0));
  CHECK(c.salt(0) != c.salt(1));
}

Code broken(const std::string& text) {
  try {
    static_cast<void>(parse(text));
  } catch (const Error& e) {
    CHECK(std::string(e.what()).find("/d/topic.json") != std::string::npos);
    return e.code();
  }
  FAIL("accepted: " + text);
  return Code::io;
}

std::string sealed(json j) {
  j.erase("checksum");
  const std::string body = j.dump();
  j["checksum"] = xxh3(std::as_bytes(std::span(body)));
  return j.dump();
}

TEST_CASE(
    "every field that is missing, of another type or out of range makes the file corrupt, though its checksum holds") {
  const json good = json::parse(text_of(to_json(sample())));
  CHECK_NOTHROW(parse(sealed(good)));
  for (const auto& [key, value] : good.items()) {
    if (key == "checksum") continue;
    INFO(key);
    json missing = good;
    missing.erase(key);
    if (key != "retain_age_s") CHECK(broken(sealed(missing)) == Code::corrupt);
    json null = good;
    null[key] = nullptr;
    CHECK(broken(sealed(null)) == Code::corrupt);
    json list = good;
    list[key] = json::array({1});
    CHECK(broken(sealed(list)) == Code::corrupt);
    json swapped = good;
    swapped[key] = value.is_string() ? json(7) : json("seven");
    CHECK(broken(sealed(swapped)) == Code::corrupt);
  }
  const std::pair<const char*, json> out_of_range[] = {
      {"partitions", 0},
      {"partitions", 1025},
      {"ring", 65537},
      {"ring", 0},
      {"segment", 3},
      {"retain", 1},
      {"on_full", "wait"},
      {"sync", "sometimes"},
      {"sharing", "all"},
      {"sync_interval_ms", 0},
      {"retain_age_s", 4'294'967'296},
      {"retain_age_s", -1},
      {"name", "../escape"},
      {"name", ""},
      {"partitions", -1},
      {"ring", -65536},
      {"ephemeral", true},
  };
  for (const auto& [key, value] : out_of_range) {
    INFO(key << " " << value);
    json j = good;
    j[key] = value;
    CHECK(broken(sealed(j)) == Code::corrupt);
  }
  json future = good;
  future["spillway_topic"] = 2;
  CHECK(broken(sealed(future)) == Code::unsupported);
}

TEST_CASE("a file of before there was a limit to age has none") {
  json old = json::parse(text_of(to_json(sample())));
  old.erase("retain_age_s");
  const TopicConfig c = parse(sealed(old));
  CHECK(c.retain_age_s == 0);
  CHECK(c.retain_bytes == 64 * kMiB);
}

TEST_CASE("a file that was cut, filled, replaced or has one byte changed is refused") {
  const std::string good = text_of(to_json(sample()));
  CHECK(broken("") == Code::corrupt);
  CHECK(broken(std::string(good.size(), '\0')) == Code::corrupt);
  CHECK(broken("[]") == Code::corrupt);
  CHECK(broken("{}") == Code::corrupt);
  CHECK(broken("null") == Code::corrupt);
  CHECK(broken(std::string(100'000, '[')) == Code::corrupt);
  for (std::size_t cut = 1; cut + 2 < good.size(); cut += 13) CHECK(broken(good.substr(0, cut)) == Code::corrupt);
  int refusals = 0;
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    try {
      const TopicConfig c = parse(bad);
      CHECK(to_json(c) == to_json(parse(good)));  // white space, at most
    } catch (const Error& e) {
      CHECK((e.code() == Code::corrupt || e.code() == Code::unsupported));
      ++refusals;
    }
  }
  CHECK(refusals > 200);
}

TEST_CASE("an existing topic is compared with what was asked for only, and both sides are shown") {
  const TopicConfig c = sample();
  CHECK_NOTHROW(check_same(c, {}));
  CHECK_NOTHROW(check_same(c, with([](auto& o) { o.partitions = 7, o.ring = 2 * kMiB, o.wakeups = false; })));
  struct Row {
    const char* has;
    const char* asked;
    std::function<void(TopicOptions&)> change;
  };
  const Row rows[] = {
      {"partitions 7", "8", [](auto& o) { o.partitions = 8; }},
      {"ring 2MiB", "4MiB", [](auto& o) { o.ring = 4 * kMiB; }},
      {"segment 8MiB", "16MiB", [](auto& o) { o.segment = 16 * kMiB; }},
      {"retain 64MiB", "0B", [](auto& o) { o.retain = 0; }},
      {"retain-age 86400", "60", [](auto& o) { o.retain_age_s = 60; }},
      {"drop_new", "block", [](auto& o) { o.on_full = OnFull::block; }},
      {"every_batch", "none", [](auto& o) { o.sync = SyncPolicy::none; }},
      {"17", "100", [](auto& o) { o.sync_interval_ms = 100; }},
      {"wakeups off", "on", [](auto& o) { o.wakeups = true; }},
      {"ephemeral off", "on", [](auto& o) { o.ephemeral = true; }},
      {"group_read", "owner", [](auto& o) { o.sharing = Sharing::owner; }},
      {"order.v3", "order.v4", [](auto& o) { o.schema = "order.v4"; }},
      {"48 bytes aligned to 8", "16 bytes aligned to 8", [](auto& o) { o.type = RecordType{"", 16, 8}; }},
  };
  for (const Row& row : rows) {
    INFO(row.has);
    try {
      check_same(c, with(row.change));
      FAIL("no conflict");
    } catch (const Error& e) {
      CHECK(e.code() == Code::conflict);
      const std::string sentence = e.what();
      INFO(sentence);
      CHECK(sentence.find(row.has) != std::string::npos);
      CHECK(sentence.find(row.asked) != std::string::npos);
      CHECK(sentence.find("orders") != std::string::npos);
    }
  }
}

TEST_CASE("of several settings that differ all are shown, not only the first") {
  const auto wanted = with([](auto& o) {
    o.partitions = 7;  // as it has
    o.ring = 4 * kMiB;
    o.segment = 16 * kMiB;
    o.sync = SyncPolicy::none;
  });
  try {
    check_same(sample(), wanted);
    FAIL("no conflict");
  } catch (const Error& e) {
    const std::string sentence = e.what();
    INFO(sentence);
    for (const char* text : {"ring 2MiB", "4MiB", "segment 8MiB", "16MiB", "sync every_batch", "none"}) {
      CHECK(sentence.find(text) != std::string::npos);
    }
    CHECK(sentence.find("partitions") == std::string::npos);
  }
}

TEST_CASE("what the parser says of a topic.json that is none is no cure") {
  for (const std::string text : {"garbage", "{\"spillway_topic\": 1; }", "[1, 2", ""}) {
    try {
      topic_config_from_json(std::as_bytes(std::span(text)), "topic.json");
      FAIL("it was read");
    } catch (const Error& e) {
      const std::string sentence = e.what();
      INFO(sentence);
      CHECK(sentence.substr(sentence.find("; ")) == "; restore it from a copy");
    }
  }
}

}  // namespace
