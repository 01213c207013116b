#ifndef HOLDFAST_DEVICES_RUNTIME_TESTING_PROCESS_RIG_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_TESTING_PROCESS_RIG_SYS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/command_line.h"
#include "devices/runtime/descriptors.h"
#include "devices/runtime/device_host.h"
#include "devices/runtime/device_process_sys.h"
#include "devices/runtime/poller_sys.h"
#include "devices/vhost_user/testing/front_end.h"

namespace holdfast::testing {

// Keeps descriptors as the store does, in this process.
class FakeKeeper final : public DescriptorKeeper {
 public:
  absl::Status Escrow(store::Slot slot, BorrowedFd fd) override;
  void Retain(absl::Span<const uint64_t> bitmap) override;
  void VmmClosed(uint64_t connection) override;

  // Deposits everything with a process that begins.
  void GiveTo(DescriptorSlots& descriptors);
  bool Holds(store::Slot slot);
  // What `slot` holds, once more.
  UniqueFd Duplicate(store::Slot slot);
  size_t session_slots();
  std::vector<uint64_t> closed();

 private:
  std::mutex mutex_;
  std::map<store::Slot, UniqueFd> held_;
  uint64_t connection_ = 0;
  std::vector<uint64_t> closed_;

  friend class ProcessRig;
};

// One device instance without launcher, store and sandbox: a segment, a keeper,
// and device processes in this very process, one after the other. A process
// that "dies" here has finished what its workers do; real deaths are the
// subject of tests/recovery.
//
// By default the device answers a request with one byte: the request's first,
// or '.'. One rig at a time.
class ProcessRig {
 public:
  struct Options {
    std::string name = "rig";
    uint16_t queues = 1;
    uint32_t compat_version = 1;
    uint32_t pinned_version = 0;  // --compat-version.
    bool has_state = false;
    // Another device than the one below: of an open DeviceClass.
    std::function<absl::StatusOr<std::unique_ptr<DeviceHost>>()> host;
    // Its resources, by name.
    std::map<std::string, store::Slot> resources = {};
  };
  explicit ProcessRig(const Options& options);
  ProcessRig() : ProcessRig(Options()) {}
  ~ProcessRig();

  // A device process that nobody runs. In order: AttachSegment, Build, ...
  std::unique_ptr<DeviceProcess> NewProcess();
  std::unique_ptr<DeviceProcess> NewProcess(const Options& options);

  // Makes a process and runs it on a thread of its own until Die().
  absl::Status Run();
  void Die();

  // Gives a resource, or another one in its place, to whoever runs and to those
  // that follow.
  void GiveResource(store::Slot slot, UniqueFd fd);

  // A VMM's end of a connection to whoever runs.
  UniqueFd ConnectSocket();
  // A vhost-user front-end on it.
  std::unique_ptr<FrontEnd> Connect(const FrontEnd::Options& options = {});

  BorrowedFd segment() const { return segment_; }
  FakeKeeper& keeper() { return keeper_; }

  // Of the device, read and called on its threads. Set before Run().
  std::function<void(uint8_t first)> on_request = [](uint8_t) {};
  std::atomic<uint64_t> config{1};
  std::atomic<int> resets{0};
  std::atomic<uint64_t> features{0};
  // False, as a negative control: a lane is left alone with what it has left in
  // a silent socket. The next wait looks.
  std::atomic<bool> settles{true};
  // Says that `config` has changed, as the running device.
  void NotifyConfigChange();

 private:
  friend class RigDevice;
  void Loop();

  const Options options_;
  UniqueFd segment_;
  UniqueFd wake_;
  FakeKeeper keeper_;
  std::map<std::string, CommandLine> lines_;
  std::optional<Poller> poller_;  // Outlives the process.
  std::unique_ptr<DeviceProcess> process_;
  VirtioContext* context_ = nullptr;
  std::thread thread_;
  std::atomic<bool> end_{false};
  uint64_t epoch_ = 0;
  std::mutex mutex_;
  UniqueFd arrived_;  // A connection that the loop has not seen yet.
  uint64_t connections_ = 0;
  std::map<store::Slot, UniqueFd> given_;  // Likewise.
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_RUNTIME_TESTING_PROCESS_RIG_SYS_H_
