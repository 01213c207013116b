#ifndef HOLDFAST_DEVICES_BUS_PCI_FUNCTION_H_
#define HOLDFAST_DEVICES_BUS_PCI_FUNCTION_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <shared_mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/bus/access_keeper.h"
#include "devices/bus/device_context.h"
#include "devices/bus/dma.h"
#include "devices/bus/guarded_dma.h"
#include "devices/bus/options.h"
#include "devices/bus/pci_device.h"
#include "devices/bus/pci_state.h"
#include "devices/bus/region_device.h"
#include "devices/bus/work_keeper.h"
#include "statestore/transaction.h"

namespace holdfast {

// What a function is given. All of it outlives the function.
struct PciServices {
  // Memory of a memory BAR: as many bytes as its spec says, and what to give
  // the VMM to map them. Kept outside the process, as the segment is.
  struct BarMemory {
    absl::Span<uint8_t> bytes;
    BorrowedFd fd{-1};
  };

  IrqSink* irqs = nullptr;
  Dma* dma = nullptr;
  DeviceOptions options;
  Resources resources;
  std::array<BarMemory, pci::kBars> memory{};
};

// A PciDevice with all that its author does not write: configuration space,
// capabilities, interrupts, transactions, the answer to a repeated access.
//
// Threads: as RegionDevice says. Start before all others.
class PciFunction final : public RegionDevice, private PciContext {
 public:
  using MakeDevice =
      std::function<absl::StatusOr<std::unique_ptr<PciDevice>>(PciContext&)>;

  // `stored` is the schema of the segment, or state.schema() of a new one.
  // INVALID_ARGUMENT: a service or the memory of a BAR is missing. Others:
  // those of PciState::Bind and `make`.
  static absl::StatusOr<std::unique_ptr<PciFunction>> Create(
      PciState state, const Schema& stored, PciServices services,
      const MakeDevice& make);

  ~PciFunction() override;

  // Takes the state over: makes a new segment's registers what a reset makes
  // them. `bank` must have Threads::kOne, or kMany, and outlive the function.
  // `areas`: spec().areas_size() bytes of the segment, at a multiple of 64;
  // they outlive the function, too. Until then all accesses fail.
  // INVALID_ARGUMENT: not so many areas. Others: those of Read.
  absl::Status Start(StateBank& bank, absl::Span<uint8_t> areas = {});

  bool is_pci() const override { return true; }
  absl::Span<const RegionInfo> regions() const override { return regions_; }
  absl::Span<const IrqInfo> irqs() const override { return irqs_; }
  BorrowedFd RegionMemory(uint32_t region) const override;
  absl::Status Read(AccessId id, uint32_t region, uint64_t offset,
                    absl::Span<uint8_t> out) override;
  absl::Status Write(AccessId id, uint32_t region, uint64_t offset,
                     absl::Span<const uint8_t> bytes) override;
  absl::Status Reset() override;
  void OnUnmask(uint32_t irq, uint32_t vector) override;
  absl::Status Resume() override;
  absl::Status ResourceChanged() override;
  uint32_t work_threads() const override {
    return state_.spec().work_threads();
  }
  void SetWorkCaller(WorkCaller* caller) override { work_.SetCaller(caller); }
  bool work_pending() const override { return work_.pending(); }
  absl::Status RunWork() override;
  void OnWorkCrash() override;

  // Accesses and work that the device refused, since Create.
  uint64_t guest_errors() const { return keeper_.guest_errors(); }

 private:
  using Change = AccessKeeper::Change;

  PciFunction(PciState state, PciServices services);
  void Describe();

  // PciContext.
  const DeviceOptions& options() const override { return services_.options; }
  BorrowedFd Resource(absl::string_view name) const override {
    return services_.resources.Get(name);
  }
  Dma& dma() override { return dma_; }
  absl::Span<uint8_t> BarMemory(uint32_t bar) const override;
  absl::Span<uint8_t> Area(absl::string_view name) const override;
  bool SignalMsix(uint32_t vector) override;
  void CallIn(uint64_t works) override { work_.CallIn(works); }
  void CallAll(uint64_t works) override { work_.CallAll(works); }
  absl::Status Update(absl::FunctionRef<absl::Status(PciTxn&)> change) override;
  const Schema& schema() const override { return schema_; }

  // Whether `change` may have changed which vectors reach the guest.
  enum class Routes { kSame, kChanged };
  absl::Status Transact(Change change, Routes routes = Routes::kSame);
  void PublishReady(const PciSignals& ready);
  absl::Status CheckRange(uint32_t region, uint64_t offset,
                          uint64_t size) const;
  bool IsDevices(const Register& reg) const;
  absl::Status OnConfigWrite(const RegWrite& write, StateTxn& txn);
  void ResetIn(StateTxn& txn);
  void LookAgain(StateTxn& txn);
  absl::Status MayTransfer() const;

  PciState state_;
  Schema schema_;
  PciServices services_;
  std::vector<RegionInfo> regions_;
  std::vector<IrqInfo> irqs_;
  // Stops when the driver takes the bus away or resets.
  GuardedDma dma_;
  std::unique_ptr<PciDevice> device_;

  AccessKeeper keeper_{"PCI"};
  WorkKeeper work_;
  absl::Span<uint8_t> areas_;

  // What the last transaction left, for threads that open none.
  std::atomic<bool> masters_bus_{false};
  std::atomic<bool> intx_{false};

  // Which vectors reach the guest without more ado, as PciSignals. Where this
  // function masks them itself, a thread that signals holds the mutex shared,
  // so that nothing comes after the access that masks is answered.
  std::shared_mutex ready_mutex_;
  std::array<std::atomic<uint64_t>, pci::kUnsentWords> ready_{};
};

// For a class D with  static PciSpec Spec()  and  explicit D(PciContext&).
template <typename D>
PciFunction::MakeDevice PciDeviceMaker() {
  return [](PciContext& context) {
    return std::unique_ptr<PciDevice>(std::make_unique<D>(context));
  };
}

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_PCI_FUNCTION_H_
