#ifndef HOLDFAST_DEVICES_BUS_PLATFORM_FUNCTION_H_
#define HOLDFAST_DEVICES_BUS_PLATFORM_FUNCTION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
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
#include "devices/bus/platform_device.h"
#include "devices/bus/platform_state.h"
#include "devices/bus/region_device.h"
#include "devices/bus/work_keeper.h"
#include "statestore/schema.h"
#include "statestore/transaction.h"

namespace holdfast {

// What a function is given. All of it outlives the function.
struct PlatformServices {
  IrqSink* irqs = nullptr;
  Dma* dma = nullptr;
  DeviceOptions options;
  Resources resources;
};

// A PlatformDevice with all that its author does not write: transactions,
// interrupt lines, the answer to a repeated access. Each line is an IRQ of its
// own with one vector.
//
// Threads: as RegionDevice says. Start before all others.
class PlatformFunction final : public RegionDevice, private PlatformContext {
 public:
  using MakeDevice =
      std::function<absl::StatusOr<std::unique_ptr<PlatformDevice>>(
          PlatformContext&)>;

  // `stored` is the schema of the segment, or state.schema() of a new one.
  // INVALID_ARGUMENT: a service is missing. Others: those of
  // PlatformState::Bind and `make`.
  static absl::StatusOr<std::unique_ptr<PlatformFunction>> Create(
      PlatformState state, const Schema& stored, PlatformServices services,
      const MakeDevice& make);

  ~PlatformFunction() override;

  // Takes the state over. `bank` must have Threads::kOne, or kMany; `areas` are
  // as PciFunction::Start has them; both outlive the function. Until then all
  // accesses fail.
  absl::Status Start(StateBank& bank, absl::Span<uint8_t> areas = {});

  bool is_pci() const override { return false; }
  absl::Span<const RegionInfo> regions() const override { return regions_; }
  absl::Span<const IrqInfo> irqs() const override { return irqs_; }
  BorrowedFd RegionMemory(uint32_t) const override { return BorrowedFd(-1); }
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
  using Change = absl::FunctionRef<absl::Status(StateTxn&, PlatformTxn&)>;

  PlatformFunction(PlatformState state, PlatformServices services);

  // PlatformContext.
  const DeviceOptions& options() const override { return services_.options; }
  BorrowedFd Resource(absl::string_view name) const override {
    return services_.resources.Get(name);
  }
  Dma& dma() override { return dma_; }
  absl::Span<uint8_t> Area(absl::string_view name) const override {
    return state_.spec().areas().Find(name, areas_);
  }
  void CallIn(uint64_t works) override { work_.CallIn(works); }
  void CallAll(uint64_t works) override { work_.CallAll(works); }
  absl::Status Update(
      absl::FunctionRef<absl::Status(PlatformTxn&)> change) override;
  const Schema& schema() const override { return schema_; }

  absl::Status Transact(Change change);
  uint32_t Unsent(StateTxn& txn) const {
    return static_cast<uint32_t>(state_.Get(txn, platform::kUnsent));
  }
  absl::Status CheckRange(uint32_t region, uint64_t offset,
                          uint64_t size) const;
  void ResetIn(StateTxn& txn, PlatformTxn& device);
  void Signal(uint32_t lines);

  PlatformState state_;
  Schema schema_;
  PlatformServices services_;
  std::vector<RegionInfo> regions_;
  std::vector<IrqInfo> irqs_;
  // Stops when the guest resets.
  GuardedDma dma_;
  std::unique_ptr<PlatformDevice> device_;

  AccessKeeper keeper_{"platform"};
  WorkKeeper work_;
  absl::Span<uint8_t> areas_;
  std::atomic<uint32_t> levels_{0};
};

// For a class D with  static PlatformSpec Spec()  and  explicit
// D(PlatformContext&).
template <typename D>
PlatformFunction::MakeDevice PlatformDeviceMaker() {
  return [](PlatformContext& context) {
    return std::unique_ptr<PlatformDevice>(std::make_unique<D>(context));
  };
}

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_PLATFORM_FUNCTION_H_
