#ifndef HOLDFAST_DEVICES_RUNTIME_DEVICE_PROCESS_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_DEVICE_PROCESS_SYS_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/shm_sys.h"
#include "base/unique_fd.h"
#include "devices/bus/device_spec.h"
#include "devices/runtime/command_line.h"
#include "devices/runtime/descriptors.h"
#include "devices/runtime/device_host.h"
#include "statestore/lane.h"
#include "statestore/segment.h"
#include "statestore/transaction.h"

namespace holdfast {

// One process of a device, from its start to its end: what a managed child and
// a stand-alone program have in common, whatever the device and its protocol.
// Control thread only.
//
//   Attach -> Build -> (sandbox) -> [ MapAhead ]* -> Promote -> [ Serve ]*
//
// A first start, a restart and an upgrade all take this way.
class DeviceProcess final {
 public:
  DeviceProcess(std::unique_ptr<DeviceHost> host,
                const CommandLine& command_line, std::string name);
  ~DeviceProcess();

  DescriptorSlots& descriptors() { return descriptors_; }
  void SetKeeper(DescriptorKeeper& keeper) { keeper_ = &keeper; }
  // `slot` holds the resource `name`.
  void NameResource(const std::string& name, store::Slot slot) {
    resources_[name] = slot;
  }
  const std::vector<ResourceSpec>& resources() const {
    return host_->resources();
  }

  // Bytes that the segment must have at least.
  absl::StatusOr<size_t> SegmentBytes() const;

  // Maps and locks the segment; formats it when it is new. Errors name what
  // does not fit: another device, state or version.
  absl::Status AttachSegment(BorrowedFd segment);

  // Makes device, threads and everything else that the steady state must not.
  // Resources are in their slots.
  absl::Status Build();

  // While parked.
  void MapAhead() { host_->MapAhead(); }
  bool TouchSome() { return host_->TouchSome(); }

  // Becomes the active process under `epoch`. Harmless in one that is active:
  // see the store's promotions after a restart.
  absl::Status Promote(uint64_t epoch);
  bool active() const { return lane_.has_value(); }

  // Handles what the VMM sent, if anything. `waiting` is how the caller learns
  // of more: Lane::Run.
  absl::Status Serve(Lane::Waiting waiting);
  // How the VMM's socket is to be waited for.
  Lane::Waiting waiting() const { return host_->waiting(); }
  // Whether the socket shows only what Serve has seen: part of a message. Then
  // it is not to be waited for by level, but looked at after a pause.
  bool stalled() const { return stalled_; }
  // For Poller::WaitUnlessSilent. When nothing has come, Serve(kAny).
  int pause_ms() const;

  // See DeviceHost.
  BorrowedFd event() const { return host_->event(); }
  BorrowedFd other_event() const { return host_->other_event(); }
  BorrowedFd third_event() const { return host_->third_event(); }
  BorrowedFd fourth_event() const { return host_->fourth_event(); }
  BorrowedFd other_stream() const { return host_->other_stream(); }
  void OnEvent() { host_->OnEvent(); }
  void ResourceChanged() { host_->ResourceChanged(); }
  // Whether the resource in `slot` may be replaced, see DeviceHost.
  bool IsReplaceable(store::Slot slot) const;
  void ResourceReplaced() {
    if (active()) host_->ResourceReplaced();
  }
  // Ends what is being done, for the process will end.
  void Quiesce();

 private:
  absl::StatusOr<SegmentSpec> MakeSegmentSpec() const;
  absl::Status CheckSegment(const SegmentSpec& spec) const;

  const CommandLine& command_line_;
  const std::string name_;
  DescriptorSlots descriptors_;
  DescriptorKeeper* keeper_ = nullptr;
  std::map<std::string, store::Slot> resources_;
  Mapping memory_;
  std::optional<Segment> segment_;
  std::optional<StateBank> state_;  // Since Promote.
  std::optional<Lane> lane_;        // Since Promote.
  uint64_t epoch_ = 0;              // Claimed by the last Promote.
  bool stalled_ = false;
  std::unique_ptr<DeviceHost> host_;  // Last: it uses the others.
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_DEVICE_PROCESS_SYS_H_
