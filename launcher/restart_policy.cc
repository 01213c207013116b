#include "launcher/restart_policy.h"

#include <algorithm>

namespace holdfast::launcher {

RestartPolicy::RestartPolicy(const RestartLimits& limits, uint64_t seed)
    : limits_(limits), tokens_(limits.budget), random_(seed) {}

RestartPolicy::Decision RestartPolicy::OnLoss(Uptime now) {
  Credit(now);
  in_a_row_ = now - last_loss_ > limits_.healthy_after ? 1 : in_a_row_ + 1;
  last_loss_ = now;
  if (limits_.budget != 0) {
    if (tokens_ < 1) return {false, absl::ZeroDuration()};
    tokens_ -= 1;
  }
  if (in_a_row_ == 1) return {true, absl::ZeroDuration()};
  const uint32_t doublings = std::min<uint32_t>(in_a_row_ - 2, 40);
  return {true, Jitter(std::min(limits_.backoff_max,
                                limits_.backoff_base *
                                    static_cast<int64_t>(1ull << doublings)))};
}

void RestartPolicy::OnServing(Uptime now) {
  if (serving_) return;
  serving_ = true;
  credited_until_ = now;
}

void RestartPolicy::OnNotServing(Uptime now) {
  Credit(now);
  serving_ = false;
}

bool RestartPolicy::TryTakeToken(Uptime now) {
  Credit(now);
  if (limits_.budget == 0) return true;
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

void RestartPolicy::Reset() {
  tokens_ = limits_.budget;
  in_a_row_ = 0;
  last_loss_ = -absl::InfiniteDuration();
}

RestartPolicy::Saved RestartPolicy::Save() const {
  return {tokens_, in_a_row_, last_loss_, serving_, credited_until_};
}

void RestartPolicy::Restore(const Saved& saved) {
  // Written so that what is not a number becomes 0.
  tokens_ =
      saved.tokens > 0 ? std::min<double>(saved.tokens, limits_.budget) : 0;
  in_a_row_ = saved.in_a_row;
  last_loss_ = saved.last_loss;
  serving_ = saved.serving;
  credited_until_ = saved.credited_until;
}

void RestartPolicy::Credit(Uptime now) {
  if (!serving_ || now <= credited_until_) return;
  const absl::Duration healthy = now - credited_until_;
  credited_until_ = now;
  if (limits_.refill_every <= absl::ZeroDuration()) {
    tokens_ = limits_.budget;
    return;
  }
  tokens_ = std::min<double>(
      limits_.budget,
      tokens_ + absl::FDivDuration(healthy, limits_.refill_every));
}

absl::Duration RestartPolicy::Jitter(absl::Duration bound) {
  // SplitMix64: small, seedable, good enough to spread starts.
  random_ += 0x9e3779b97f4a7c15;
  uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  z ^= z >> 31;
  const double fraction = static_cast<double>(z >> 11) / (1ull << 53);
  return bound * fraction;
}

}  // namespace holdfast::launcher
