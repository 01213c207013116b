#ifndef HOLDFAST_LAUNCHER_EVENT_LOG_H_
#define HOLDFAST_LAUNCHER_EVENT_LOG_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "launcher/core_protocol.h"

namespace holdfast::launcher {

// The last events, in order. Older ones make room; whoever asks for them learns
// how many were lost. Pure; not thread-safe.
class EventLog {
 public:
  // Enough for a crash loop of every instance; some 300 KiB.
  static constexpr size_t kCapacity = 1024;

  // The first event gets `next_sequence`, so that numbers go on over a restart
  // of the core.
  explicit EventLog(uint64_t next_sequence = 1, size_t capacity = kCapacity)
      : next_(next_sequence), capacity_(capacity) {}

  // Gives `event` its number and keeps it; the number.
  uint64_t Add(LaunchEvent event);

  // At most kMaxEventsInAnswer of those after `since`, oldest first, with
  // `last_sequence` and `events_lost` filled in.
  void Read(uint64_t since, Answer& answer) const;

  uint64_t last_sequence() const { return next_ - 1; }

 private:
  std::deque<LaunchEvent> events_;
  uint64_t next_;
  size_t capacity_;
};

// "promoted disk0 pid=12 cause=SIGKILL 143us text": one log line.
std::string EventText(const LaunchEvent& event);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_EVENT_LOG_H_
