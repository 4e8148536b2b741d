#include "demo_process.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "spillway/core/error.h"

namespace spillway::command::demo {
namespace {

struct Pipe {
  FileDescriptor read;
  FileDescriptor write;
};

Pipe make_pipe() {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) throw system_error(errno, "can't make a pipe");
  return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

// In the child, before anything else: only what is safe after a fork. Does not return.
[[noreturn]] void become(pid_t parent, int input, int output, char* const* arguments) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have died before that took effect.
  if (::getppid() == parent && ::dup2(input, STDIN_FILENO) >= 0 && ::dup2(output, STDOUT_FILENO) >= 0) {
    ::execv("/proc/self/exe", arguments);
  }
  ::_exit(127);
}

}  // namespace

Process::Process(std::string name, const std::vector<std::string>& arguments) : name_(std::move(name)) {
  std::vector<std::string> words = {"spillway"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);

  Pipe input = make_pipe();
  Pipe output = make_pipe();
  // Taken before the fork: in the child these descriptors no longer count as ours.
  const int child_input = input.read.get();
  const int child_output = output.write.get();
  // The descriptors that the child keeps must survive the library's handler, which closes ours in a forked child.
  const int kept_input = ::fcntl(child_input, F_DUPFD_CLOEXEC, 3);
  const int kept_output = ::fcntl(child_output, F_DUPFD_CLOEXEC, 3);
  const int dup_error = errno;
  const pid_t parent = ::getpid();
  pid_ = kept_input < 0 || kept_output < 0 ? -1 : ::fork();
  if (pid_ == 0) become(parent, kept_input, kept_output, pointers.data());
  const int error = kept_input < 0 || kept_output < 0 ? dup_error : errno;
  if (kept_input >= 0) ::close(kept_input);
  if (kept_output >= 0) ::close(kept_output);
  if (pid_ < 0) throw system_error(error, "can't start the demo's " + name_);
  to_child_ = std::move(input.write);
  from_child_ = std::move(output.read);
  ::fcntl(from_child_.get(), F_SETFL, O_NONBLOCK);
}

Process::~Process() {
  if (ended()) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Process::send(const std::string& line) noexcept {
  const std::string text = line + "\n";
  // Short enough for the pipe to take it whole, and SIGPIPE is ignored.
  [[maybe_unused]] const ssize_t written = ::write(to_child_.get(), text.data(), text.size());
}

std::vector<std::string> Process::take_lines() {
  std::array<char, 16 * 1024> buffer;
  for (;;) {
    const ssize_t got = ::read(from_child_.get(), buffer.data(), buffer.size());
    if (got > 0) {
      unread_.append(buffer.data(), static_cast<std::size_t>(got));
    } else if (got == 0 || errno != EINTR) {
      break;
    }
  }
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t end = unread_.find('\n'); end != std::string::npos; end = unread_.find('\n', begin)) {
    lines.push_back(unread_.substr(begin, end - begin));
    begin = end + 1;
  }
  unread_.erase(0, begin);
  return lines;
}

void Process::signal(int number) noexcept {
  if (!ended()) ::kill(pid_, number);
}

const std::optional<std::string>& Process::ended() {
  int status = 0;
  if (!end_ && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    if (WIFSIGNALED(status)) {
      end_ = "killed by signal " + std::to_string(WTERMSIG(status)) + " (" + ::strsignal(WTERMSIG(status)) + ")";
    } else {
      end_ = "exit code " + std::to_string(WEXITSTATUS(status));
      succeeded_ = WEXITSTATUS(status) == 0;
    }
  }
  return end_;
}

}  // namespace spillway::command::demo
