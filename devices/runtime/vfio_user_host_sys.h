#ifndef HOLDFAST_DEVICES_RUNTIME_VFIO_USER_HOST_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_VFIO_USER_HOST_SYS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/log_limiter.h"
#include "base/unique_fd.h"
#include "devices/bus/dma.h"
#include "devices/bus/dma_windows.h"
#include "devices/bus/region_device.h"
#include "devices/runtime/crash_handler_sys.h"
#include "devices/runtime/descriptors.h"
#include "devices/runtime/device_host.h"
#include "devices/runtime/event_interrupts_sys.h"
#include "devices/runtime/message_dma_sys.h"
#include "devices/runtime/twin_channel_sys.h"
#include "devices/runtime/window_maps_sys.h"
#include "devices/runtime/work_runner_sys.h"
#include "devices/vfio_user/answers.h"
#include "devices/vfio_user/ask_journal.h"
#include "devices/vfio_user/server.h"
#include "devices/vfio_user/session_state.h"
#include "statestore/lane.h"
#include "statestore/segment.h"

namespace holdfast {

// Section kSession of a device that is served over vfio-user. Zeros at first.
struct VfioUserRecord {
  vfio_user::SessionMemory memory;
  uint64_t connections;  // That are over.
  // The access that crashed the last process that crashed in one, and how many
  // it has crashed so far.
  uint64_t blamed;
  uint64_t crashes;
  uint8_t zero[40];
};
static_assert(sizeof(VfioUserRecord) == sizeof(vfio_user::SessionMemory) + 64);

// The same with DMA by message; without, memory that the VMM gives no file of
// cannot be used.
struct VfioUserRecordWithAsks {
  VfioUserRecord record;
  vfio_user::AskMemory asks;
};

// The same with a second socket for these requests; without, they go by the
// first one.
struct VfioUserRecordWithTwin {
  VfioUserRecordWithAsks record;
  uint8_t lane[TwinChannel::kMemorySize];
};
static_assert(offsetof(VfioUserRecordWithTwin, lane) % 64 == 0);

// Who uses windows and vectors past dma() and irqs(), told when they change.
// Control thread.
class VfioUserWatcher {
 public:
  virtual ~VfioUserWatcher() = default;
  // Mapped windows may go: nothing may use them when this returns.
  virtual void BeforeMemoryChanges() = 0;
  // These are the mapped windows now.
  virtual void MemoryChanged() = 0;
  // What was signalled on vectors may not have been seen.
  virtual void VectorsChanged() = 0;
};

// Serves a RegionDevice to a vfio-user client: the connection's lane and
// session, windows, interrupts, and a thread for the work that accesses order.
// Everything it must remember is in the segment and in the descriptor slots; a
// new object over the same ones goes on.
//
// Control thread only. References outlive the host.
class VfioUserHost final : private vfio_user::ServerEnvironment,
                           private CrashObserver {
 public:
  // Sizes of the lane of every vfio-user instance.
  static LaneSizes Sizes();

  VfioUserHost(const Segment& segment, DescriptorSlots& descriptors,
               DescriptorKeeper& keeper);
  ~VfioUserHost() override;

  // What the device is made with.
  IrqSink& irqs() { return interrupts_; }
  Dma& dma() { return windows_; }
  DmaWindows& windows() { return windows_; }
  MessageDma& messages() { return asks_; }
  // Outlives the host. Before Resume.
  void SetWatcher(VfioUserWatcher& watcher) { watcher_ = &watcher; }

  // The device that is served; once, before all that follows, on the thread
  // that will serve: when it crashes, the access that it makes is blamed, and
  // refused when it has crashed two processes. Errors: vfio_user::CheckDevice.
  absl::Status SetDevice(RegionDevice& device);

  // As DeviceHost says.
  void MapAhead();
  bool TouchSome() { return false; }
  // The device has its state.
  absl::Status Resume(Lane& lane);
  absl::StatusOr<DeviceHost::Served> Serve(Lane::Waiting waiting);
  BorrowedFd event() const { return interrupts_.unmask_event(); }
  // Another one: work wants memory that only the VMM can reach.
  BorrowedFd ask_event() const { return asks_.event(); }
  // The second socket, if the VMM has one.
  BorrowedFd twin() const {
    return descriptors_.Get(applied_.twin_socket != 0 ? vfio_user::kTwinSlot
                                                      : store::kSlotCount);
  }
  void OnEvent();
  void ResourceChanged();
  // Serves the VMM while work waits for it.
  void Quiesce();

 private:
  using SessionState = vfio_user::SessionState;
  using ConstWindowTable = vfio_user::ConstWindowTable;

  // ServerEnvironment.
  absl::StatusOr<vfio_user::FileId> IdentifyFile(store::Slot slot) override;
  absl::Status CheckFile(store::Slot slot, uint32_t access, uint64_t offset,
                         uint64_t size) override;
  absl::Status ReleaseWindow(const vfio_user::WindowState& window) override;
  absl::Status ResetDevice() override;
  absl::Status Escrow(store::Slot slot, UniqueFd descriptor) override;
  void Apply(const SessionState& state, ConstWindowTable table) override;
  void Do(const vfio_user::Afterwards& afterwards) override;
  bool IsPoison(AccessId access) override;
  bool OfferTwin() override;
  BorrowedFd TwinOfClient() override {
    return descriptors_.Get(vfio_user::kTwinClientSlot);
  }
  void Answered() override;
  bool Take(const vfio_user::Answer& answer) override;
  void Refused(const absl::Status& refusal) override;

  // CrashObserver.
  void OnCrash(int signal) override;

  VfioUserRecord& record() const;
  uint64_t CurrentAccess() const;
  void NewServer();
  void Unmasked(uint32_t irq, uint32_t vector);
  absl::Status Disconnect();
  absl::Status UseAsks();
  absl::Status TakeAnswers();
  absl::StatusOr<MessageDma::Sent> SendAsks(BorrowedFd by);
  absl::StatusOr<DeviceHost::Served> GiveUp(const absl::Status& why);
  absl::StatusOr<DeviceHost::Served> ServeSocket(BorrowedFd socket,
                                                 Lane::Waiting waiting);

  const Segment& segment_;
  DescriptorSlots& descriptors_;
  DescriptorKeeper& keeper_;
  MessageDma asks_;
  TwinChannel twin_;
  vfio_user::AnswerReader answers_{*this};
  DmaWindows windows_{&asks_};
  WindowMaps maps_;
  EventInterrupts interrupts_;
  VfioUserWatcher* watcher_ = nullptr;
  RegionDevice* device_ = nullptr;
  std::optional<WorkRunner> worker_;
  std::optional<vfio_user::Server> server_;
  Lane* lane_ = nullptr;  // Since Resume.

  // Whether `applied_` is what this process is in line with.
  bool in_line_ = false;
  SessionState applied_ = {};
  bool resuming_ = false;
  volatile bool deciding_ = false;  // A message.
  bool retain_ = false;  // Slots may be occupied that nothing refers to.
  // Of what clients do, whatever the connection.
  LogLimiter vmm_log_;
  LogLimiter refusal_log_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_VFIO_USER_HOST_SYS_H_
