#ifndef HOLDFAST_DEVICES_BUS_PCI_DEVICE_H_
#define HOLDFAST_DEVICES_BUS_PCI_DEVICE_H_

#include <cstdint>
#include <type_traits>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "devices/bus/pci_interrupts.h"
#include "devices/bus/pci_spec.h"
#include "devices/bus/pci_state.h"
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
class PciTxn {
 public:
  PciTxn(const PciState& state, StateTxn& txn) : state_(state), txn_(txn) {}
  PciTxn(const PciTxn&) = delete;
  PciTxn& operator=(const PciTxn&) = delete;

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

  // At least once: may repeat after a crash, is never lost. Held back as PCI
  // says while masked, disabled, or not a bus master.
  void RaiseMsix(uint32_t vector) { holdfast::RaiseMsix(state_, txn_, vector); }
  void RaiseMsi(uint32_t vector) { holdfast::RaiseMsi(state_, txn_, vector); }
  // The level of the legacy interrupt.
  void SetIntx(bool asserted) { holdfast::SetIntx(state_, txn_, asserted); }
  // By the way that the driver has chosen. The level stays until
  // SetIntx(false).
  void Interrupt(uint32_t vector) {
    if (MsixEnabled(state_, txn_)) return RaiseMsix(vector);
    if (MsiEnabled(state_, txn_)) return RaiseMsi(vector);
    SetIntx(true);
  }

  // An access to the registers of a BAR inside this one, by the rules of
  // registers.h, as if the guest made it; `handler` instead of OnRead and
  // OnWrite. OUT_OF_RANGE: no such registers.
  absl::Status ReadRegisters(uint32_t bar, uint64_t offset,
                             absl::Span<uint8_t> out,
                             RegisterBank::OnRead handler) {
    const RegisterBank* bank = BankFor(bar, offset, out.size());
    if (bank == nullptr) return absl::OutOfRangeError("no such registers");
    return bank->Read(txn_, offset, out, handler);
  }
  absl::Status WriteRegisters(uint32_t bar, uint64_t offset,
                              absl::Span<const uint8_t> bytes,
                              RegisterBank::OnWrite handler) {
    const RegisterBank* bank = BankFor(bar, offset, bytes.size());
    if (bank == nullptr) return absl::OutOfRangeError("no such registers");
    return bank->Write(txn_, offset, bytes, handler);
  }

  // Whether the driver has chosen messages of either kind; if not, a level.
  bool UsesMessages() {
    return MsixEnabled(state_, txn_) || MsiEnabled(state_, txn_);
  }

  // Has OnWork(work) called after the access is answered; `work` below 64.
  // Ordering twice before it begins is ordering once.
  void Order(uint32_t work) {
    work::Order(*state_.bank(pci::kInternal), txn_, work);
  }
  // This transaction ends the work: OnWork will not be called again for it, so
  // what the transaction does is done once.
  void Done(uint32_t work) {
    work::Done(*state_.bank(pci::kInternal), txn_, work);
  }

 private:
  const RegisterBank* BankFor(uint32_t bar, uint64_t offset,
                              uint64_t size) const {
    const RegisterBank* bank = bar < pci::kBars ? state_.bank(bar) : nullptr;
    return bank != nullptr && offset <= bank->size() &&
                   size <= bank->size() - offset
               ? bank
               : nullptr;
  }

  const PciState& state_;
  StateTxn& txn_;
};

// What a device may use, besides what all with registers may. Lives as long as
// the device. Thread-safe.
//
// dma(): while the driver lets the function master the bus.
class PciContext : public RegionContext {
 public:
  // The bytes of a memory BAR. The guest writes them at any time: read them
  // once, and believe nothing. Empty for any other BAR.
  virtual absl::Span<uint8_t> BarMemory(uint32_t bar) const = 0;

  // For OnWork, where a transaction costs too much: interrupts by MSI-X
  // `vector` at once. False: it is to be held back (masked, disabled, another
  // way of interrupting), so use PciTxn::Interrupt, which does that. A crash
  // forgets it: find out from your own state what may not have been signalled.
  virtual bool SignalMsix(uint32_t vector) = 0;

  // A transaction outside a register access. An error of `change` gives it up.
  // CANCELLED, inside OnWork: the guest has reset the function meanwhile; end
  // the work. Others: RegionDevice.
  virtual absl::Status Update(
      absl::FunctionRef<absl::Status(PciTxn&)> change) = 0;
};

// A PCI function as its author writes it. It never sees a socket, a message, an
// eventfd or a thread; registers, masks, configuration space and capabilities
// are the spec's.
//
// Life cycle:
//
//   construct --> OnReset --> [ OnRead, OnWrite, OnWork ... ] --> OnReset --+
//                                   ^                                       |
//                                   +---------------------------------------+
//
// The first OnReset is for a new segment only. A crash or an upgrade ends the
// object anywhere and constructs a new one in another process, with the same
// registers and state. There is no save and no restore: what is kept in members
// of the object is lost.
//
// Threading law:
//  - OnRead, OnWrite, OnReset and OnResourceChanged never run beside one
//    another, and never inside an Update.
//  - OnWork runs on one thread at a time, or with PciSpec::WorkThreads on as
//    many, the same work never beside itself; perhaps beside register accesses.
//    A reset waits for it, or cuts it off at its next Update or transfer.
//  - The constructor runs before the steady-state sandbox applies: open,
//    measure and allocate there, and nowhere else.
//
// Mistakes of the guest are absl::Status, never a CHECK: the access then has
// not happened, reads return ones, and it is counted.
class PciDevice {
 public:
  virtual ~PciDevice() = default;

  // State and areas are this process's from here on, and another one may have
  // changed them since it last had them: forget what was remembered of them.
  // Before the first access; perhaps again. Nothing else runs.
  virtual void OnTakeOver() {}

  // Outside events may have changed a resource (an image has another size):
  // look again, and tell the guest in `txn` if what it knows, by the state, is
  // not so. Comes when somebody says that a resource has changed, and in every
  // process before its first access, for what a dead one did not live to tell:
  // a difference that the same transaction settles is told once.
  virtual void OnResourceChanged(PciTxn& txn) { (void)txn; }

  // The guest reads a register of a BAR, or of a capability that the spec put
  // there with VendorAt; its value is taken when this returns.
  virtual absl::Status OnRead(const RegRead& read, PciTxn& txn) {
    (void)read;
    (void)txn;
    return absl::OkStatus();
  }

  // The guest has written a register of a BAR, to which the register's masks
  // apply: the new value is in `txn`.
  virtual absl::Status OnWrite(const RegWrite& write, PciTxn& txn) {
    (void)write;
    (void)txn;
    return absl::OkStatus();
  }

  // Does what an access ordered: what takes long, waits, or transfers. May have
  // been begun before, by a predecessor that died: read what to do in an
  // Update, transfer, and end with an Update that says Done. Otherwise it is
  // done when it returns.
  virtual absl::Status OnWork(uint32_t work, PciContext& context) {
    (void)work;
    (void)context;
    return absl::OkStatus();
  }

  // The calling thread has crashed in OnWork(work), by its own fault: the place
  // to blame what it was doing, by stores to an area. Async-signal-safe.
  virtual void OnCrash(uint32_t work) { (void)work; }

  // The function is new or was reset: registers have their reset values, work
  // and interrupts are gone. Give the state fields theirs; they begin as zeros.
  virtual void OnReset(PciTxn& txn) { (void)txn; }
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_PCI_DEVICE_H_
