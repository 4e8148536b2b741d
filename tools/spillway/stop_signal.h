// SIGINT and SIGTERM as a request: the command finishes what it promised and exits by itself.
#pragma once

namespace spillway::command {

// From here on both signals only set a flag and make a descriptor readable. Called once, by commands that run on.
void catch_stop_signals();
bool stop_requested() noexcept;
// Readable from the first signal on, for poll(2). -1 unless catch_stop_signals() was called.
int stop_descriptor() noexcept;

// A write into a closed pipe becomes EPIPE instead of a signal.
void ignore_closed_pipes() noexcept;
// A file that would grow past RLIMIT_FSIZE becomes EFBIG instead of a signal. The library may not decide that for its process.
void ignore_file_size_limit() noexcept;

}  // namespace spillway::command
