#ifndef HOLDFAST_DEVICES_VHOST_USER_TURN_H_
#define HOLDFAST_DEVICES_VHOST_USER_TURN_H_

// Private to the session: what the handlers of one request work on.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status_macros.h"
#include "devices/vhost_user/codec.h"
#include "devices/vhost_user/session.h"

namespace holdfast::vhost_user {

// One request being decided. Handlers change `next` and reply; an error from a
// handler refuses the request, and `next` is dropped.
class Turn {
 public:
  Turn(const SessionState& state, const Request& request_in,
       const SlotList& slots_in, const BackendInfo& info_in,
       SessionEnvironment& environment_in, absl::Span<uint8_t> reply_buffer)
      : request(request_in),
        slots(slots_in),
        info(info_in),
        environment(environment_in),
        next(state),
        reply_buffer_(reply_buffer) {}

  const Request& request;
  const SlotList& slots;
  const BackendInfo& info;
  SessionEnvironment& environment;
  SessionState next;
  store::Slot reply_slot = 0;

  size_t reply_size() const { return reply_size_; }

  template <typename T>
  absl::Status Reply(const T& value) {
    ASSIGN_OR_RETURN(reply_size_,
                     EncodeReply(request.type, value, reply_buffer_));
    return absl::OkStatus();
  }

  // Errors whose text begins with the request's name.
  template <typename... Parts>
  absl::Status Invalid(const Parts&... parts) const {
    return absl::InvalidArgumentError(Text(parts...));
  }
  template <typename... Parts>
  absl::Status Precondition(const Parts&... parts) const {
    return absl::FailedPreconditionError(Text(parts...));
  }
  template <typename... Parts>
  absl::Status Unsupported(const Parts&... parts) const {
    return absl::UnimplementedError(Text(parts...));
  }
  template <typename... Parts>
  absl::Status Exhausted(const Parts&... parts) const {
    return absl::ResourceExhaustedError(Text(parts...));
  }

  bool AnyStarted() const {
    return std::any_of(std::begin(next.queues), std::end(next.queues),
                       [](const QueueState& q) { return q.started != 0; });
  }
  void QuiesceIfRunning() {
    if (AnyStarted()) environment.QuiesceAll();
  }

 private:
  template <typename... Parts>
  std::string Text(const Parts&... parts) const {
    return absl::StrCat(RequestName(request.type), ": ", parts...);
  }

  const absl::Span<uint8_t> reply_buffer_;
  size_t reply_size_ = 0;
};

// While the front-end has memory logged, the log covers all of it: a page
// without a bit would be lost in a migration.
absl::Status CheckLogCoverage(const Turn& turn);

// Whether [start, start + size) leaves 64 bits.
inline bool Wraps(uint64_t start, uint64_t size) {
  return start + size < start;
}

// The requests about memory, log and in-flight region; kUnimplemented for
// others.
absl::Status DecideMemoryRequest(Turn& turn);

// The requests about one queue; kUnimplemented for others.
absl::Status DecideQueueRequest(Turn& turn);

// Starts every ring whose kick, size, address and memory are known by now.
absl::Status StartQueues(Turn& turn);

}  // namespace holdfast::vhost_user

#endif  // HOLDFAST_DEVICES_VHOST_USER_TURN_H_
