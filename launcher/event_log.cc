#include "launcher/event_log.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace holdfast::launcher {

uint64_t EventLog::Add(LaunchEvent event) {
  event.sequence = next_++;
  if (events_.size() == capacity_) events_.pop_front();
  events_.push_back(std::move(event));
  return next_ - 1;
}

void EventLog::Read(uint64_t since, Answer& answer) const {
  answer.last_sequence = since;
  if (events_.empty() || since == last_sequence()) return;
  const uint64_t first = events_.front().sequence;
  uint64_t at = since + 1;
  if (since > last_sequence()) {
    // A number from the future is one of an earlier life, when the clock went
    // otherwise: start over. How many that life had more, nobody knows.
    answer.events_lost = 1;
    at = first;
  } else if (at < first) {
    answer.events_lost = first - at;
    at = first;
  }
  while (at <= last_sequence() && answer.events.size() < kMaxEventsInAnswer) {
    answer.events.push_back(events_[at - first]);
    answer.last_sequence = at++;
  }
}

std::string EventText(const LaunchEvent& event) {
  std::string text = event.type;
  if (!event.instance.empty()) absl::StrAppend(&text, " ", event.instance);
  if (event.pid != 0) absl::StrAppend(&text, " pid=", event.pid);
  if (!event.cause.empty()) absl::StrAppend(&text, " cause=", event.cause);
  if (event.microseconds != 0) {
    absl::StrAppend(&text, " ", event.microseconds, "us");
  }
  if (!event.detail.empty()) absl::StrAppend(&text, " ", event.detail);
  return text;
}

}  // namespace holdfast::launcher
