#ifndef HOLDFAST_DEVICES_KEEPER_PROBE_ATTEMPT_SYS_H_
#define HOLDFAST_DEVICES_KEEPER_PROBE_ATTEMPT_SYS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace holdfast::keeper {

// One process of a program that nobody knows, and whatever it starts: none of
// it outlives this object, nor the thread that has made it.
//
// Threads: one. Calls wait no longer than they say.
class Attempt {
 public:
  // The number that a descriptor which is handed over has in the program.
  static constexpr int kFd = 3;

  // `program` is a path. `fd`, which may be none, becomes kFd; it is borrowed.
  static absl::StatusOr<std::unique_ptr<Attempt>> Start(
      const std::string& program, absl::Span<const std::string> arguments,
      BorrowedFd fd);
  ~Attempt();
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  pid_t pid() const { return pid_; }
  void Send(int signal);
  // How it has ended, for people ("status 1", "signal 11"); nothing: it goes
  // on.
  absl::optional<std::string> AwaitEnd(int timeout_ms);

  // What it has printed on either of its outputs, up to the limit below.
  static constexpr size_t kMaxOutput = 64 * 1024;
  const std::string& Output();
  // The last line of that.
  std::string LastLine();

 private:
  Attempt() = default;

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd output_;  // A pipe.
  std::string text_;
  absl::optional<std::string> end_;
};

// The first of the files that process `pid` executes code of in which `text`
// stands; empty: none.
std::string ExecutedFileWith(pid_t pid, absl::string_view text);

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_PROBE_ATTEMPT_SYS_H_
