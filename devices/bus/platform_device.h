#ifndef HOLDFAST_DEVICES_BUS_PLATFORM_DEVICE_H_
#define HOLDFAST_DEVICES_BUS_PLATFORM_DEVICE_H_

#include <array>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "devices/bus/device_context.h"
#include "devices/bus/device_spec.h"
#include "devices/bus/register_bank.h"
#include "devices/bus/registers.h"
#include "statestore/cell.h"
#include "statestore/schema.h"
#include "statestore/transaction.h"

namespace holdfast {

// What a memory-mapped device of a system on chip is, as data: register files
// and interrupt lines, no bus that could be asked for more. Built once at
// start.
class PlatformSpec {
 public:
  static constexpr uint32_t kMaxRegions = 8;
  static constexpr uint32_t kMaxLines = 32;  // Bits of a word of state.

  // Registers, as the next region: the first is 0. They say so (InBar). Their
  // values are state, and each access is a transaction.
  PlatformSpec& Region(RegisterFile file) {
    regions_.push_back(std::move(file));
    return *this;
  }
  // An interrupt line, as the next number. A level stays until it is let go.
  PlatformSpec& LevelLine() { return Line(true); }
  PlatformSpec& EdgeLine() { return Line(false); }
  PlatformSpec& Resource(std::string name, std::string help) {
    resources_.push_back({std::move(name), std::move(help)});
    return *this;
  }
  // Pins what a guest can see. A device serves every version up to this one.
  PlatformSpec& CompatVersion(uint32_t version) {
    compat_version_ = version;
    return *this;
  }
  // The device's durable state beside its registers; see statestore/cell.h.
  template <typename S>
  PlatformSpec& State() {
    schema_ = DescribeState<S>();
    return *this;
  }

  const std::vector<RegisterFile>& regions() const { return regions_; }
  // Whether each line is a level.
  const std::vector<bool>& lines() const { return lines_; }
  const std::vector<ResourceSpec>& resources() const { return resources_; }
  uint32_t compat_version() const { return compat_version_; }
  const absl::StatusOr<Schema>& schema() const { return schema_; }

 private:
  PlatformSpec& Line(bool level) {
    lines_.push_back(level);
    return *this;
  }

  std::vector<RegisterFile> regions_;
  std::vector<bool> lines_;
  std::vector<ResourceSpec> resources_;
  uint32_t compat_version_ = 1;
  absl::StatusOr<Schema> schema_ = DescribeState<NoState>();
};

// Where a device's registers are in the segment, for PlatformTxn.
class PlatformState {
 public:
  virtual ~PlatformState() = default;
  // Null: there is no such region.
  virtual const RegisterBank* bank(uint32_t region) const = 0;
};

// What one access of the guest does to the device. The framework commits it:
// registers, state and interrupts become true together or not at all, at
// whatever instruction the process dies. Belongs to the calling thread; valid
// until the handler returns.
class PlatformTxn {
 public:
  PlatformTxn(const PlatformState& state, StateTxn& txn, uint32_t levels)
      : state_(state), txn_(txn), levels_(levels) {}
  PlatformTxn(const PlatformTxn&) = delete;
  PlatformTxn& operator=(const PlatformTxn&) = delete;

  // The value of a register, whatever the guest may do with it.
  template <typename T>
  T Get(const Reg<T>& reg, uint32_t index = 0) {
    const RegisterBank* bank = state_.bank(reg.bar());
    return bank == nullptr ? T{} : static_cast<T>(bank->Get(txn_, reg, index));
  }
  template <typename T>
  void Set(const Reg<T>& reg, const std::common_type_t<T>& value,
           uint32_t index = 0) {
    const RegisterBank* bank = state_.bank(reg.bar());
    if (bank != nullptr) bank->Set(txn_, reg, index, value);
  }
  // Takes back what the guest has written.
  void Restore(const RegWrite& write) {
    const RegisterBank* bank = state_.bank(write.reg().bar());
    bank->Set(txn_, write.reg(), write.index(), write.old());
  }

  // The value of a state field.
  template <typename T>
  T Get(const Cell<T>& cell) {
    return txn_.Get(cell);
  }
  template <typename T>
  void Set(const Cell<T>& cell, const std::common_type_t<T>& value) {
    txn_.Set(cell, value);
  }

  // The level of a line.
  void SetLine(uint32_t line, bool asserted) {
    levels_ = asserted ? levels_ | Bit(line) : levels_ & ~Bit(line);
  }
  // An edge. At least once: may repeat after a crash, is never lost.
  void Pulse(uint32_t line) { pulses_ |= Bit(line); }

  // For the framework.
  uint32_t levels() const { return levels_; }
  uint32_t pulses() const { return pulses_; }

 private:
  static uint32_t Bit(uint32_t line) {
    return line < PlatformSpec::kMaxLines ? uint32_t{1} << line : 0;
  }

  const PlatformState& state_;
  StateTxn& txn_;
  uint32_t levels_;
  uint32_t pulses_ = 0;
};

// What a device may use. Lives as long as the device. Thread-safe.
class PlatformContext : public DeviceContext {
 public:
  // A transaction outside a register access. An error of `change` gives it up.
  virtual absl::Status Update(
      absl::FunctionRef<absl::Status(PlatformTxn&)> change) = 0;
};

// A memory-mapped device as its author writes it. It never sees a socket, a
// message, an eventfd or a thread.
//
//   construct --> OnReset --> [ OnRead, OnWrite ... ] --> OnReset --> ...
//
// The first OnReset is for a new segment only. A crash or an upgrade ends the
// object anywhere and constructs a new one in another process, with the same
// registers and state: what is kept in members of the object is lost.
//
// Threading law: OnRead, OnWrite and OnReset never run beside one another. The
// constructor runs before the steady-state sandbox applies: open, measure and
// allocate there, and nowhere else.
//
// Effects outside (bytes to a file) are not part of the transaction: they come
// before it and may repeat after a crash, so make them idempotent.
//
// Mistakes of the guest are absl::Status, never a CHECK: the access then has
// not happened, reads return ones, and it is counted.
class PlatformDevice {
 public:
  virtual ~PlatformDevice() = default;

  // The guest reads a register; its value is taken when this returns.
  virtual absl::Status OnRead(const RegRead& read, PlatformTxn& txn) {
    (void)read;
    (void)txn;
    return absl::OkStatus();
  }
  // The guest has written a register, to which the register's masks apply: the
  // new value is in `txn`.
  virtual absl::Status OnWrite(const RegWrite& write, PlatformTxn& txn) {
    (void)write;
    (void)txn;
    return absl::OkStatus();
  }
  // The device is new or was reset: registers have their reset values, lines
  // are low. Give the state fields theirs; they begin as zeros.
  virtual void OnReset(PlatformTxn& txn) { (void)txn; }
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_PLATFORM_DEVICE_H_
