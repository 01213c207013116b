#ifndef HOLDFAST_DEVICES_BUS_PLATFORM_FUNCTION_H_
#define HOLDFAST_DEVICES_BUS_PLATFORM_FUNCTION_H_

#include <array>
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
#include "devices/bus/options.h"
#include "devices/bus/platform_device.h"
#include "devices/bus/region_device.h"
#include "statestore/schema.h"
#include "statestore/transaction.h"

namespace holdfast {

// A PlatformDevice with all that its author does not write: transactions,
// interrupt lines, the answer to a repeated access. Each line is an IRQ of its
// own with one vector.
//
// Threads: as RegionDevice says. Start before all others.
class PlatformFunction final : public RegionDevice,
                               private PlatformContext,
                               private PlatformState {
 public:
  // What a function is given. All of it outlives the function.
  struct Services {
    IrqSink* irqs = nullptr;
    DeviceOptions options;
    Resources resources;
  };
  using MakeDevice =
      std::function<absl::StatusOr<std::unique_ptr<PlatformDevice>>(
          PlatformContext&)>;

  // The state of a new segment: what the device declared, then all registers.
  // INVALID_ARGUMENT: too many regions or lines, no region, or what breaks a
  // rule of registers.h.
  static absl::StatusOr<Schema> StateSchema(const PlatformSpec& spec);

  // `stored` is the schema of the segment. Errors: StateSchema,
  // RegisterBank::Bind, and those of `make`.
  static absl::StatusOr<std::unique_ptr<PlatformFunction>> Create(
      const PlatformSpec& spec, const Schema& stored, Services services,
      const MakeDevice& make);

  ~PlatformFunction() override;

  // Takes the state over; `bank` outlives the function. Until then all accesses
  // fail.
  absl::Status Start(StateBank& bank);

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
  bool work_pending() const override { return false; }
  absl::Status RunWork() override { return absl::OkStatus(); }

  // Accesses that the device refused, since Create.
  uint64_t guest_errors() const { return keeper_.guest_errors(); }

 private:
  using Change = absl::FunctionRef<absl::Status(StateTxn&, PlatformTxn&)>;

  PlatformFunction() = default;
  static absl::StatusOr<std::unique_ptr<PlatformFunction>> Describe(
      const PlatformSpec& spec);

  // PlatformContext.
  const DeviceOptions& options() const override { return services_.options; }
  BorrowedFd Resource(absl::string_view name) const override {
    return services_.resources.Get(name);
  }
  absl::Status Update(
      absl::FunctionRef<absl::Status(PlatformTxn&)> change) override;
  const Schema& schema() const override { return schema_; }

  // PlatformState.
  const RegisterBank* bank(uint32_t region) const override {
    return region < banks_.size() ? banks_[region].get() : nullptr;
  }

  uint64_t Get(StateTxn& txn, const Register& reg, uint32_t index = 0) const;
  void Set(StateTxn& txn, const Register& reg, uint64_t value,
           uint32_t index = 0) const;
  absl::Status Transact(Change change);
  absl::Status CheckRange(uint32_t region, uint64_t offset,
                          uint64_t size) const;
  void ResetIn(StateTxn& txn, PlatformTxn& device);
  void Signal(uint32_t lines);

  Schema schema_;
  Services services_;
  // By region; the last is the framework's own.
  std::array<std::unique_ptr<RegisterBank>, PlatformSpec::kMaxRegions + 1>
      banks_;
  std::vector<RegionInfo> regions_;
  std::vector<IrqInfo> irqs_;
  std::unique_ptr<PlatformDevice> device_;

  AccessKeeper keeper_{"platform"};
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
