#include "base/log_limiter.h"

#include <algorithm>
#include <utility>

namespace holdfast {

std::optional<uint64_t> LogLimiter::Admit(Clock::time_point now) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (tokens_ == kBurst) credited_until_ = now;
  const auto earned = std::max<int64_t>(0, (now - credited_until_) / kInterval);
  credited_until_ += earned * kInterval;
  tokens_ = std::min(kBurst, tokens_ + static_cast<uint64_t>(earned));
  if (tokens_ == 0) {
    ++left_out_;
    return std::nullopt;
  }
  --tokens_;
  return std::exchange(left_out_, 0);
}

std::string LogLimiter::LeftOutText(uint64_t left_out) {
  if (left_out == 0) return "";
  return absl::StrCat(" (lines like this one left out before it: ", left_out,
                      ")");
}

}  // namespace holdfast
