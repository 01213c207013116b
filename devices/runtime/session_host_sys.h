#ifndef HOLDFAST_DEVICES_RUNTIME_SESSION_HOST_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_SESSION_HOST_SYS_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/log_limiter.h"
#include "base/unique_fd.h"
#include "devices/runtime/descriptors.h"
#include "devices/runtime/device_host.h"
#include "devices/vhost_user/session.h"
#include "statestore/lane.h"

namespace holdfast {

// The connection of a vhost-user front-end, whoever runs its queues: messages
// go through the lane and are decided by vhost_user::Decide, descriptors go to
// their slots. What a session asks of the world is the derived class's:
// SessionEnvironment and the hooks below.
//
// Control thread only. References outlive the host.
class SessionHost : public LaneHandler,
                    protected vhost_user::SessionEnvironment {
 public:
  // Sizes of the lane of every vhost-user instance.
  static LaneSizes Sizes();

  // Takes over: brings the process in line with the committed session.
  absl::Status ResumeSession(Lane& lane);

  // As DeviceHost says.
  using Served = DeviceHost::Served;
  absl::StatusOr<Served> Serve(Lane& lane, Lane::Waiting waiting);

 protected:
  using SessionState = vhost_user::SessionState;

  SessionHost(const vhost_user::BackendInfo& info, DescriptorSlots& descriptors,
              DescriptorKeeper& keeper)
      : info_(info), descriptors_(descriptors), keeper_(keeper) {}

  // Brings the process in line with `session`, whose descriptors are in their
  // slots; applied() is the session before, all zeros in a new process. What
  // fails stays undone and is reported.
  virtual absl::Status Apply(const SessionState& session) = 0;
  // The connection is over: stops all queues and forgets what the session
  // named, whose descriptors are still there.
  virtual void Forget() = 0;
  // The front-end may have to be told of another configuration space: the
  // connection has begun, ended, or has a channel for that now.
  virtual void OnChannel() = 0;

  // What was last given to Apply, and this is done when it returns.
  const SessionState& applied() const { return applied_; }
  // Tells the front-end, if it can be told, that its configuration space has
  // changed.
  void SendConfigChange();

  vhost_user::BackendInfo info_;
  DescriptorSlots& descriptors_;
  // Of what VMMs do, whatever the connection.
  LogLimiter vmm_log_;

 private:
  // LaneHandler.
  size_t header_size() const override;
  absl::StatusOr<size_t> MessageSize(
      absl::Span<const uint8_t> header) const override;
  absl::Status Escrow(absl::Span<const uint8_t> message,
                      absl::Span<UniqueFd> fds) override;
  absl::StatusOr<Outcome> Execute(absl::Span<const uint8_t> message,
                                  size_t fd_count,
                                  absl::Span<const uint8_t> old_bank,
                                  absl::Span<uint8_t> new_bank,
                                  absl::Span<uint8_t> reply,
                                  uint32_t attempts) override;
  void Committed(absl::Span<const uint8_t> bank) override;
  absl::Span<const int> ReplyFds(absl::Span<const uint8_t> bank) override;

  // SessionEnvironment.
  absl::Status CheckRegion(store::Slot slot, uint64_t offset,
                           uint64_t size) override;
  void ClearInflight() override;

  void ApplyAndRemember(const SessionState& session);
  void Disconnect(Lane& lane);

  DescriptorKeeper& keeper_;
  SessionState applied_ = {};
  int reply_fd_ = -1;
  LogLimiter refusal_log_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_SESSION_HOST_SYS_H_
