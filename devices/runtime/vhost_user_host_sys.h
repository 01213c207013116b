#ifndef HOLDFAST_DEVICES_RUNTIME_VHOST_USER_HOST_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_VHOST_USER_HOST_SYS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/config_notice.h"
#include "devices/runtime/descriptors.h"
#include "devices/runtime/file_range_sys.h"
#include "devices/runtime/memory_map_sys.h"
#include "devices/runtime/queue_runner_sys.h"
#include "devices/runtime/session_host_sys.h"
#include "devices/runtime/virtio_class.h"
#include "devices/vhost_user/session.h"
#include "statestore/lane.h"
#include "statestore/segment.h"
#include "statestore/transaction.h"

namespace holdfast {

// Serves a VirtioDevice to a vhost-user front-end: the connection's lane, its
// session, guest memory and queues. Everything it must remember is in the
// segment and in the descriptor slots; a new object over the same ones goes on.
//
// Control thread only. References outlive the host.
class VhostUserHost final : public SessionHost {
 public:
  // `runners` has one runner a queue.
  VhostUserHost(const vhost_user::BackendInfo& info, VirtioDevice& device,
                const Segment& segment, DescriptorSlots& descriptors,
                DescriptorKeeper& keeper,
                std::vector<std::unique_ptr<QueueRunner>>& runners);

  // While parked: maps what the committed session of another process names, so
  // that nothing is left to map at promotion. Reads the lane's bytes without
  // owning it; a torn read is seen and skipped.
  void MapAhead(const vhost_user::SessionState& session) {
    memory_.UpdateAhead(session, descriptors_);
  }
  // Faults in a slice of what is mapped; false: nothing is left.
  bool TouchSome() { return memory_.TouchSome(descriptors_); }

  // Takes over: brings memory and queues in line with the committed session.
  // From here on this object serves; `lane` and `state` outlive its last call.
  absl::Status Resume(Lane& lane, StateBank& state);

  // VirtioClass::in_flight.
  void SetInFlight(InFlight in_flight) { in_flight_ = in_flight; }

  // Stops all queues; requests in flight are answered.
  void StopQueues() { QuiesceAll(); }

  // Sees to it that the front-end knows the configuration space: tells it when
  // the device has `asked` for that, or when it was last told of another one,
  // by whatever process. A front-end that cannot be told yet is told when it
  // gives a channel for that (SET_BACKEND_REQ_FD).
  void TellConfig(bool asked);

 private:
  // SessionHost.
  absl::Status Apply(const SessionState& session) override;
  void Forget() override;
  void OnChannel() override { TellConfig(/*asked=*/false); }

  // SessionEnvironment.
  absl::Status PrepareQueue(const SessionState& next, uint16_t queue,
                            vhost_user::QueueStart how) override;
  uint32_t QuiesceQueue(uint16_t queue) override;
  void QuiesceAll() override;
  absl::Status ReadConfig(uint32_t offset, absl::Span<uint8_t> bytes) override;
  absl::Status WriteConfig(uint32_t offset, bool migration,
                           absl::Span<const uint8_t> bytes) override;
  void ResetDevice() override;

  // Bringing the process in line with `session`.
  absl::Status ApplyLog(const SessionState& session);
  absl::Status ApplyInflight(const SessionState& session);
  absl::Status ApplyQueue(const SessionState& session, uint16_t queue);
  absl::StatusOr<QueueRunner::Config> ConfigOf(const SessionState& session,
                                               uint16_t queue);
  absl::StatusOr<InflightTable> TableOf(const SessionState& session,
                                        uint16_t queue);

  VirtioDevice& device_;
  const Segment& segment_;
  std::vector<std::unique_ptr<QueueRunner>>& runners_;

  ConfigNotice config_notice_;
  MemoryMap memory_;
  UnalignedMapping log_;
  UnalignedMapping inflight_;   // Of the front-end; else the segment's is used.
  StateBank* state_ = nullptr;  // Since Resume.
  InFlight in_flight_ = InFlight::kTracked;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_VHOST_USER_HOST_SYS_H_
