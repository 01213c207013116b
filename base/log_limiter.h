#ifndef HOLDFAST_BASE_LOG_LIMITER_H_
#define HOLDFAST_BASE_LOG_LIMITER_H_

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace holdfast {

// Holds back lines of the log that somebody outside can cause at will: a guest
// by its requests, a VMM by its messages, whoever connects. A burst goes
// through, so that what happens now and then is told each time, and then one
// line in kInterval, which says how many were left out before it: 9,000 lines a
// day at most. One for each such somebody, over all that it can cause: so one
// cannot silence what is told about another. Thread-safe.
class LogLimiter {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr uint64_t kBurst = 64;
  static constexpr Clock::duration kInterval = std::chrono::seconds(10);

  LogLimiter() = default;
  LogLimiter(const LogLimiter&) = delete;
  LogLimiter& operator=(const LogLimiter&) = delete;

  // Whether a line may be written at `now`, which never goes back: if so, how
  // many were left out since the last one.
  std::optional<uint64_t> Admit(Clock::time_point now = Clock::now());

  // What the line that was admitted ends with: "", or
  // " (lines like this one left out before it: 7)".
  static std::string LeftOutText(uint64_t left_out);

  template <typename... Args>
  void Warning(const Args&... args) {
    Line(LogSeverity::kWarning, args...);
  }
  template <typename... Args>
  void Error(const Args&... args) {
    Line(LogSeverity::kError, args...);
  }

 private:
  template <typename... Args>
  void Line(LogSeverity severity, const Args&... args) {
    if (const std::optional<uint64_t> left_out = Admit()) {
      LogLine(severity, absl::StrCat(args..., LeftOutText(*left_out)));
    }
  }

  std::mutex mutex_;
  uint64_t tokens_ = kBurst;
  Clock::time_point credited_until_;
  uint64_t left_out_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_BASE_LOG_LIMITER_H_
