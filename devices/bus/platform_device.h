#ifndef HOLDFAST_DEVICES_BUS_PLATFORM_DEVICE_H_
#define HOLDFAST_DEVICES_BUS_PLATFORM_DEVICE_H_

#include <cstdint>
#include <type_traits>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "devices/bus/access_keeper.h"
#include "devices/bus/platform_spec.h"
#include "devices/bus/platform_state.h"
#include "devices/bus/region_context.h"
#include "devices/bus/register_bank.h"
#include "devices/bus/work_keeper.h"
#include "statestore/cell.h"
#include "statestore/transaction.h"

namespace holdfast {

// What one access of the guest, or one piece of work, does to the device. The
// framework commits it: registers, state, interrupts and ordered work become
// true together or not at all, at whatever instruction the process dies.
// Belongs to the calling thread; valid until the handler returns.
class PlatformTxn {
 public:
  PlatformTxn(const PlatformState& state, StateTxn& txn, uint32_t levels)
      : state_(state), txn_(txn), levels_(levels) {}
  PlatformTxn(const PlatformTxn&) = delete;
  PlatformTxn& operator=(const PlatformTxn&) = delete;

  // The value of a register, whatever the guest may do with it.
  template <typename T>
  T Get(const Reg<T>& reg, uint32_t index = 0) {
    return static_cast<T>(state_.Get(txn_, reg, index));
  }
  template <typename T>
  void Set(const Reg<T>& reg, const std::common_type_t<T>& value,
           uint32_t index = 0) {
    state_.Set(txn_, reg, value, index);
  }
  // Takes back what the guest has written.
  void Restore(const RegWrite& write) {
    state_.Set(txn_, write.reg(), write.old(), write.index());
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

  // Has OnWork(work) called after the access is answered; `work` below 64.
  // Ordering twice before it begins is ordering once.
  void Order(uint32_t work) {
    work::Order(*state_.bank(access::kBank), txn_, work);
  }
  // This transaction ends the work: OnWork will not be called again for it, so
  // what the transaction does is done once.
  void Done(uint32_t work) {
    work::Done(*state_.bank(access::kBank), txn_, work);
  }

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

// What a device may use, besides what all with registers may. Lives as long as
// the device. Thread-safe.
class PlatformContext : public RegionContext {
 public:
  // A transaction outside a register access. An error of `change` gives it up.
  // CANCELLED, inside OnWork: the guest has reset the device meanwhile; end the
  // work. Others: RegionDevice.
  virtual absl::Status Update(
      absl::FunctionRef<absl::Status(PlatformTxn&)> change) = 0;
};

// A memory-mapped device as its author writes it. It never sees a socket, a
// message, an eventfd or a thread.
//
//   construct --> OnReset --> [ OnRead, OnWrite, OnWork ... ] --> OnReset ...
//
// The first OnReset is for a new segment only. A crash or an upgrade ends the
// object anywhere and constructs a new one in another process, with the same
// registers and state: what is kept in members of the object is lost.
//
// Threading law:
//  - OnRead, OnWrite, OnReset and OnResourceChanged never run beside one
//    another, and never inside an Update.
//  - OnWork runs on one thread at a time, or with PlatformSpec::WorkThreads on
//    as many, the same work never beside itself; perhaps beside register
//    accesses. A reset waits for it, or cuts it off at its next Update or
//    transfer.
//  - The constructor runs before the steady-state sandbox applies: open,
//    measure and allocate there, and nowhere else.
//
// Effects outside (bytes to a file) are not part of the transaction: they come
// before it and may repeat after a crash, so make them idempotent.
//
// Mistakes of the guest are absl::Status, never a CHECK: the access then has
// not happened, reads return ones, and it is counted.
class PlatformDevice {
 public:
  virtual ~PlatformDevice() = default;

  // State and areas are this process's from here on, and another one may have
  // changed them since it last had them: forget what was remembered of them.
  // Before the first access; perhaps again. Nothing else runs.
  virtual void OnTakeOver() {}

  // Outside events may have changed a resource (an image has another size):
  // look again, and tell the guest in `txn` if what it knows, by the state, is
  // not so. Comes when somebody says that a resource has changed, and in every
  // process before its first access, for what a dead one did not live to tell:
  // a difference that the same transaction settles is told once.
  virtual void OnResourceChanged(PlatformTxn& txn) { (void)txn; }

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
  // Does what an access ordered: what takes long, waits, or transfers. May have
  // been begun before, by a predecessor that died: read what to do in an
  // Update, transfer, and end with an Update that says Done. Otherwise it is
  // done when it returns.
  virtual absl::Status OnWork(uint32_t work, PlatformContext& context) {
    (void)work;
    (void)context;
    return absl::OkStatus();
  }
  // The calling thread has crashed in OnWork(work), by its own fault: the place
  // to blame what it was doing, by stores to an area. Async-signal-safe.
  virtual void OnCrash(uint32_t work) { (void)work; }
  // The device is new or was reset: registers have their reset values, lines
  // are low, work is gone. Give the state fields theirs; they begin as zeros.
  virtual void OnReset(PlatformTxn& txn) { (void)txn; }
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_PLATFORM_DEVICE_H_
