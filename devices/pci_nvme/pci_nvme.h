#ifndef HOLDFAST_DEVICES_PCI_NVME_PCI_NVME_H_
#define HOLDFAST_DEVICES_PCI_NVME_PCI_NVME_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "devices/bus/options.h"
#include "devices/bus/pci_device.h"
#include "devices/pci_nvme/disk.h"
#include "devices/pci_nvme/error_log.h"
#include "devices/pci_nvme/executing.h"
#include "devices/pci_nvme/gate.h"
#include "devices/pci_nvme/identify.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/prp.h"
#include "devices/pci_nvme/sides.h"

namespace holdfast::nvme {

// An NVMe controller (NVM Express 1.4) with namespaces over raw image files or
// block devices, as the drivers of Linux, Windows and UEFI want it.
//
// Work 0 is the controller itself: enabling, shutdown, the admin queue. Work n
// is I/O queue n. From kFirstHelper on there are helpers, which serve any I/O
// queue whose commands take long. What a queue has taken from the guest and not
// completed is in an area of the segment; see submission_queue.h and
// completion_queue.h.
class PciNvme final : public PciDevice {
 public:
  static std::vector<OptionSpec> Options();
  static absl::StatusOr<PciSpec> Spec(const DeviceOptions& options);
  static absl::StatusOr<std::unique_ptr<PciDevice>> Make(PciContext& context);

  struct Backing {
    std::unique_ptr<block::BlockEngine> engine;
    uint64_t size;  // Of the disk, in bytes.
  };
  // For tests: over any engines, one a namespace.
  static absl::StatusOr<std::unique_ptr<PciDevice>> MakeOver(
      PciContext& context, std::vector<Backing> backings);

  void OnTakeOver() override;
  void OnResourceChanged(PciTxn& txn) override;
  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override;
  absl::Status OnWork(uint32_t work, PciContext& context) override;
  void OnCrash(uint32_t work) override;
  void OnReset(PciTxn& txn) override;

 private:
  static constexpr uint32_t kFirstHelper = kMaxQueues;
  static constexpr uint32_t kMaxHelpers = 64 - kFirstHelper;
  static constexpr size_t kFeatures = 12;
  // Where the threshold from below is: LBA Range Type, of this number, is none.
  static constexpr size_t kUnderTemperature = 3;
  using Lives = std::array<uint32_t, kMaxQueues>;
  using FeatureValues = std::array<uint32_t, kFeatures>;

  enum class Phase : uint8_t { kDisabled, kEnabled, kStopping };

  struct State {
    static constexpr SchemaId kSchema{"pci_nvme", /*version=*/1};
    Cell<Phase> phase{"phase"};
    Cell<uint32_t> generation{"generation"};  // The last that a queue got.
    // The life of each queue; 0: there is none.
    Cell<Lives> sq_lives{"sq_lives"};
    Cell<Lives> cq_lives{"cq_lives"};
    Cell<FeatureValues> features{"features"};
    Cell<uint32_t> events{"events"};  // See kEvent... in admin.cc.
    // The last admin command whose effects are in here, and its answer.
    Cell<uint64_t> done_counter{"done_counter"};
    Cell<uint32_t> done_result{"done_result"};
    Cell<Status> done_status{"done_status"};
  };

  // How much there is of everything.
  struct Shape {
    uint16_t io_queues = 0;
    uint32_t max_queue_size = 0;
    uint32_t helpers = 0;
    // The works that are helpers, a bit each.
    uint64_t helper_works() const {
      return ((uint64_t{1} << helpers) - 1) << kFirstHelper;
    }
  };
  static absl::StatusOr<Shape> ShapeOf(const DeviceOptions& options);

  struct Outcome {
    Status status = Status::kSuccess;
    uint32_t result = 0;
    bool parked = false;  // Answered later.
  };

  PciNvme(PciContext& context, std::vector<std::unique_ptr<Disk>> disks,
          Identity identity, const Shape& shape);

  // ---- Registers: pci_nvme.cc ----
  void OnConfiguration(const RegWrite& write, PciTxn& txn);
  void OnDoorbell(const RegWrite& write, PciTxn& txn);
  void OnSubmissionTail(uint16_t queue, uint32_t value, PciTxn& txn);
  void OnCompletionHead(uint16_t queue, uint32_t value, PciTxn& txn);
  void RaiseEvent(uint32_t event, PciTxn& txn);
  bool IntxLevel(PciTxn& txn);
  void FindAreas();

  // ---- Life of the controller: control.cc. Work 0. ----
  absl::Status Settle(PciContext& context);
  absl::Status Enable(PciContext& context);
  absl::Status Disable(PciContext& context);
  absl::Status ShutDown(PciContext& context);
  // A name for the next life of a queue, which nobody has yet.
  absl::StatusOr<uint32_t> NextLife(PciContext& context);
  void Forget(PciTxn& txn);
  static FeatureValues DefaultFeatures();

  // ---- Queues: queues.cc ----
  absl::Status EnsureAttached(PciContext& context);  // Work 0.
  absl::Status Attach(PciContext& context);
  absl::Status AttachQueues(const Lives& sq, const Lives& cq,
                            PciContext& context);
  void DropQueues();
  bool Reserve(CompletionSide& cq);
  bool ReserveOrStall(Submission& sq, PciContext& context);
  void Unreserve(CompletionSide& cq);
  // A command that has crashed as many processes is executed no more.
  static constexpr uint32_t kCrashesOfPoison = 2;
  // The next one; none: nothing is to be done.
  absl::Status Next(Submission& sq, PciContext& context,
                    std::optional<Taken>* taken);
  absl::Status Complete(uint16_t sq_id, size_t slot, Status status,
                        uint32_t result, PciContext& context,
                        uint32_t traffic = 0);
  uint32_t TrafficOf(const Command& command) const;
  absl::Status Interrupt(CompletionSide& cq, PciContext& context);
  absl::Status ServeIo(uint16_t queue, uint32_t work, PciContext& context);
  absl::Status ServeIoCommand(uint16_t queue, const Taken& taken, uint32_t work,
                              PciContext& context);
  absl::Status ReportPoison(uint16_t queue, const Taken& taken,
                            PciContext& context);
  Status ExecuteIo(const Command& command, Scratch& scratch,
                   PciContext& context);
  Status FlushAll();
  absl::Status Help(uint32_t work, PciContext& context);
  // The queues are beyond reach: the guest has to reset the controller.
  absl::Status Fail(PciContext& context);

  // ---- Shadow doorbells: shadows.cc ----
  Outcome SetDoorbellBuffers(const Command& command, PciContext& context);
  // Look at what the guest did not ring for. True: the queue has new commands,
  // or the completion queue has room.
  bool FindTail(Submission& sq, PciContext& context);
  bool FindHead(CompletionSide& cq, PciContext& context);
  absl::optional<uint32_t> Shadow(uint32_t doorbell, uint32_t size,
                                  PciContext& context);
  void PublishEvent(uint32_t doorbell, uint32_t value, PciContext& context);

  // ---- The admin queue: admin.cc. Work 0. ----
  absl::Status ServeAdmin(PciContext& context);
  absl::Status ServeAdminCommand(const Taken& taken, PciContext& context);
  absl::StatusOr<Outcome> Execute(const Command& command, uint64_t counter,
                                  PciContext& context);
  Outcome DoIdentify(const Command& command, Dma& dma);
  Status CheckNewQueue(const Command& command) const;
  absl::StatusOr<Outcome> Begin(const Cell<Lives>& cell, uint16_t id,
                                uint32_t life, uint64_t counter,
                                PciContext& context);
  absl::StatusOr<Outcome> CreateSq(const Command& command, uint64_t counter,
                                   PciContext& context);
  absl::StatusOr<Outcome> CreateCq(const Command& command, uint64_t counter,
                                   PciContext& context);
  absl::StatusOr<Outcome> DeleteQueue(const Command& command, uint64_t counter,
                                      PciContext& context);
  Status CheckDeletion(bool submission, uint16_t id) const;
  absl::Status DeliverEvents(PciContext& context);
  absl::StatusOr<Outcome> Abort(const Command& command, uint64_t counter,
                                PciContext& context);
  // `change` and its answer, once.
  absl::StatusOr<Outcome> Once(uint64_t counter, Outcome outcome,
                               PciContext& context,
                               absl::FunctionRef<void(PciTxn&)> change);
  Status SendToGuest(const Command& command, absl::Span<const uint8_t> bytes,
                     Dma& dma);

  // ---- log_pages.cc and features.cc. Work 0, but for RecordError. ----
  absl::StatusOr<Outcome> GetLogPage(const Command& command, uint64_t counter,
                                     PciContext& context);
  Traffic AllTraffic();
  void FillSmart(PciContext& context, absl::Span<uint8_t> bytes);
  void FillLogPage(uint8_t page, PciContext& context,
                   absl::Span<uint8_t> bytes);
  void RecordError(uint16_t queue, const Command& command, uint64_t counter,
                   Status status);
  absl::Status TellOfSizes(PciContext& context);
  static bool IsTooHotOrCold(const FeatureValues& features);
  static absl::optional<size_t> PlaceOf(Feature feature, uint32_t value);
  absl::StatusOr<Outcome> GetFeatures(const Command& command,
                                      PciContext& context);
  absl::StatusOr<Outcome> SetFeatures(const Command& command, uint64_t counter,
                                      PciContext& context);
  Status CheckFeature(Feature feature, uint32_t value) const;

  PciContext& context_;
  const State state_;
  const std::vector<std::unique_ptr<Disk>> disks_;
  Identity identity_;  // Sizes are of work 0, the rest is constant.
  const uint16_t io_queues_;
  const uint32_t max_queue_size_;
  const uint64_t helper_works_;

  std::once_flag areas_found_;
  Gate gate_;
  std::atomic<bool> attached_{false};
  std::array<Submission, kMaxQueues> sqs_;
  std::array<CompletionSide, kMaxQueues> cqs_;
  std::vector<std::unique_ptr<Scratch>> scratch_;  // By work.
  ErrorLog log_;
  std::array<Executing, 64> executing_;  // By work.
  // Addresses; 0: there are none.
  std::atomic<uint64_t> shadows_{0};
  std::atomic<uint64_t> events_{0};
  // Without a volatile write cache, what is completed is durable.
  std::atomic<bool> write_through_{false};

  // Of work 0.
  PrpRanges admin_prp_;
  std::vector<size_t>
      parked_;  // Entries of async event requests, oldest first.
};

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_PCI_NVME_H_
