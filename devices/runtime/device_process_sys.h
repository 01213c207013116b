#ifndef HOLDFAST_DEVICES_RUNTIME_DEVICE_PROCESS_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_DEVICE_PROCESS_SYS_H_

#include <time.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/shm_sys.h"
#include "base/unique_fd.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/command_line.h"
#include "devices/runtime/descriptors.h"
#include "devices/runtime/device_class.h"
#include "devices/runtime/queue_runner_sys.h"
#include "devices/runtime/store_keeper_sys.h"
#include "devices/runtime/vhost_user_host_sys.h"
#include "statestore/lane.h"
#include "statestore/segment.h"
#include "statestore/transaction.h"

namespace holdfast {

// One process of a device, from its start to its end: what a managed child and
// a stand-alone program have in common. Control thread only.
//
//   Attach -> Build -> (sandbox) -> [ MapAhead ]* -> Promote -> [ Serve ]*
//
// A first start, a restart and an upgrade all take this way.
class DeviceProcess final : private VirtioContext {
 public:
  // The slot of the in-flight region that front-ends get (GET_INFLIGHT_FD).
  static constexpr store::Slot kInflightSlot = store::kSlotFirstDevice;

  DeviceProcess(const DeviceClass& device_class, VirtioSpec spec,
                const CommandLine& command_line, std::string name);
  ~DeviceProcess() override;

  DescriptorSlots& descriptors() { return descriptors_; }
  void SetKeeper(DescriptorKeeper& keeper) { keeper_ = &keeper; }
  // `slot` holds the resource `name`.
  void NameResource(const std::string& name, store::Slot slot) {
    resources_[name] = slot;
  }

  // Bytes that the segment must have at least.
  absl::StatusOr<size_t> SegmentBytes() const;

  // Maps and locks the segment; formats it when it is new. Errors name what
  // does not fit: another device, state or version.
  absl::Status AttachSegment(BorrowedFd segment);

  // Makes device, threads and everything else that the steady state must not.
  // Resources are in their slots. Deposits the in-flight region when the
  // instance has none.
  absl::Status Build();

  // While parked.
  void MapAhead();
  bool TouchSome() { return host_->TouchSome(); }

  // Becomes the active process under `epoch`. Harmless in one that is active:
  // see the store's promotions after a restart.
  absl::Status Promote(uint64_t epoch);
  bool active() const { return lane_.has_value(); }

  // Handles what the VMM sent, if anything.
  absl::Status Serve();
  // Whether Serve would only find what it has seen: part of a message. Then
  // the socket is to be looked at again after kStallPause, not at once.
  bool stalled() const { return stalled_; }
  static constexpr timespec kStallPause = {0, 1'000'000};

  // Becomes readable when the device wants its configuration change told: then
  // call TellConfigChange.
  BorrowedFd config_event() const { return config_event_; }
  void TellConfigChange();
  // Looks again. The active process tells the driver; what it does not come to
  // tell is found in Promote.
  void ResourceChanged();

  // Answers what is in flight and takes no more.
  void Quiesce();

 private:
  // VirtioContext.
  const DeviceOptions& options() const override {
    return command_line_.options;
  }
  BorrowedFd Resource(absl::string_view name) const override;
  void NotifyConfigChange() override;
  const Schema& schema() const override { return segment_->schema(); }

  SegmentSpec MakeSegmentSpec() const;
  vhost_user::BackendInfo MakeBackendInfo() const;
  absl::Status CheckSegment() const;
  absl::Status DepositInflight();

  const DeviceClass& device_class_;
  const VirtioSpec spec_;
  const CommandLine& command_line_;
  const std::string name_;
  DescriptorSlots descriptors_;
  DescriptorKeeper* keeper_ = nullptr;
  std::map<std::string, store::Slot> resources_;
  UniqueFd config_event_;
  Mapping memory_;
  std::optional<Segment> segment_;
  std::unique_ptr<VirtioDevice> device_;
  std::vector<std::unique_ptr<QueueRunner>> runners_;
  std::unique_ptr<VhostUserHost> host_;
  std::optional<StateBank> state_;  // Since Promote.
  std::optional<Lane> lane_;        // Since Promote.
  uint64_t epoch_ = 0;              // Claimed by the last Promote.
  bool stalled_ = false;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_DEVICE_PROCESS_SYS_H_
