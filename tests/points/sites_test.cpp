// Goal: there is no store to shared memory, no copy into the ring and no I/O without a point that a scenario gets to.
// Method: every place of the source that stores is found in its text, and each must be among the places where the scenarios
// have been, or be listed, with a reason, in unreached.txt.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>

#include "points/run.h"
#include "support/catch.h"

namespace spillway::test {
namespace {

struct Site {
  std::string file;
  std::size_t line = 0;      // from 1
  std::size_t line_end = 0;  // of its statement
  std::string text;
};

// A store to an atomic; a copy into the ring; a call that changes a file; a point that stands for another kind of store.
const std::regex& stores() {
  static const std::regex pattern(
      R"((\.|->)(store|exchange|fetch_[a-z]+|compare_exchange_[a-z]+)\([^)]|\bcopy_to_ring\(|\bdisk::[a-z_]+\(|points::at\(\))");
  return pattern;
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::vector<Site> sites_of(const std::filesystem::path& root, const std::filesystem::path& path) {
  std::vector<Site> sites;
  const std::vector<std::string> lines = lines_of(path);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string code = lines[i].substr(0, lines[i].find("//"));
    if (!std::regex_search(code, stores()) || code.starts_with("inline ") ||
        code.find("disk::watch") != std::string::npos) {
      continue;
    }
    std::size_t end = i;
    while (end + 1 < lines.size() && lines[end].substr(0, lines[end].find("//")).find(';') == std::string::npos) ++end;
    const std::size_t begin = code.find_first_not_of(' ');
    sites.push_back({std::filesystem::relative(path, root).string(), i + 1, end + 1, code.substr(begin)});
  }
  return sites;
}

// "file: a part of the line -- reason"
struct Exception {
  std::string file, part;
  bool used = false;
};
std::vector<Exception> exceptions(const std::filesystem::path& path) {
  std::vector<Exception> all;
  for (const std::string& line : lines_of(path)) {
    if (line.empty() || line.front() == '#') continue;
    const std::size_t colon = line.find(": "), reason = line.find(" -- ");
    REQUIRE(colon != std::string::npos);
    REQUIRE(reason != std::string::npos);
    all.push_back({line.substr(0, colon), line.substr(colon + 2, reason - colon - 2)});
  }
  return all;
}

}  // namespace

TEST_CASE("every store to shared memory and every I/O has a point that a scenario gets to") {
  const std::filesystem::path root = SPILLWAY_SOURCE_DIRECTORY;
  std::map<std::string, std::set<std::size_t>> reached;
  // What a thread or a timer brings about is not in every run.
  const auto go = [&](const Scenario& scenario) {
    for (const std::string& place : places_of(scenario)) {
      const std::size_t colon = place.rfind(':');
      reached[place.substr(0, colon)].insert(std::stoul(place.substr(colon + 1)));
    }
  };
  for (const Scenario& scenario : scenarios()) go(scenario);

  std::vector<Exception> listed = exceptions(root / "tests/points/unreached.txt");
  std::size_t count = 0;
  for (const char* const layer : {"core", "ipc", "persist"}) {
    for (const auto& entry : std::filesystem::directory_iterator(root / layer)) {
      const std::string name = entry.path().filename().string();
      if (!name.ends_with(".h") && !name.ends_with(".cpp")) continue;
      if (name == "points.h") continue;
      if (name.ends_with("_layout.h")) {
        for (const std::string& line : lines_of(entry.path())) {
          if (line.find("std::atomic<") != std::string::npos) {
            FAIL_CHECK(layer << "/" << name << ": a mapped word that is not Shared: " << line);
          }
        }
      }
      for (const Site& site : sites_of(root, entry.path())) {
        ++count;
        const std::set<std::size_t>& lines = reached[site.file];
        const auto at = lines.lower_bound(site.line);
        const bool seen = at != lines.end() && *at <= site.line_end;
        const auto exception = std::find_if(listed.begin(), listed.end(), [&](const Exception& e) {
          return e.file == site.file && site.text.find(e.part) != std::string::npos;
        });
        if (exception != listed.end()) exception->used = true;
        if (!seen && exception == listed.end()) {
          FAIL_CHECK(site.file << ":" << site.line << ": no scenario gets to a point at: " << site.text);
        }
      }
    }
  }
  for (const Exception& e : listed) {
    if (!e.used) FAIL_CHECK("unreached.txt names what is not there: " << e.file << ": " << e.part);
  }
  std::cout << count << " stores, copies and calls\n";
  CHECK(count > 100);
}

}  // namespace spillway::test
