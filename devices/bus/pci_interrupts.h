#ifndef HOLDFAST_DEVICES_BUS_PCI_INTERRUPTS_H_
#define HOLDFAST_DEVICES_BUS_PCI_INTERRUPTS_H_

#include <array>
#include <cstdint>

#include "devices/bus/pci_state.h"
#include "devices/bus/region_device.h"
#include "statestore/transaction.h"

namespace holdfast {

// Interrupts of a PCI function: what is raised, masked, pending and on its way
// is state, and becomes true with the access that caused it. Signalling comes
// after the commit. What was committed and perhaps not signalled stands in
// pci::kUnsent until the next transaction, so that a successor signals it
// again: at least once, never lost.
//
// Pure functions on an open transaction.

// A set of interrupts, as pci::kUnsent counts them.
using PciSignals = std::array<uint64_t, pci::kUnsentWords>;

// The level of the legacy interrupt. A message of the vector, which is
// delivered when it is enabled, not masked, and the function may master the
// bus; until then it is pending. A vector that the function does not have is
// the device's mistake and fails the transaction.
void SetIntx(const PciState& state, StateTxn& txn, bool asserted);
void RaiseMsi(const PciState& state, StateTxn& txn, uint32_t vector);
void RaiseMsix(const PciState& state, StateTxn& txn, uint32_t vector);

// Whether the driver has chosen messages of this kind.
bool MsiEnabled(const PciState& state, StateTxn& txn);
bool MsixEnabled(const PciState& state, StateTxn& txn);

// Whether the function may send messages and transfer memory: the driver made
// it a bus master, and it is in power state D0.
bool MastersBus(const PciState& state, StateTxn& txn);

// Whether the legacy interrupt reaches the guest now.
bool IntxReachesGuest(const PciState& state, StateTxn& txn);

// At the end of a transaction: what is pending and may go is now on its way,
// and returned: signal it after the commit. `sent`: all that was on its way
// before was signalled. `vmm_has_table`: vectors are masked elsewhere, the
// table of this function says nothing.
PciSignals RouteInterrupts(const PciState& state, StateTxn& txn, bool sent,
                           bool vmm_has_table);

// The MSI-X vectors that would reach the guest at once.
PciSignals ReadyMsix(const PciState& state, StateTxn& txn, bool vmm_has_table);

// What was perhaps not signalled.
PciSignals UnsentInterrupts(const PciState& state, StateTxn& txn);

void Signal(const PciSignals& signals, IrqSink& sink);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_PCI_INTERRUPTS_H_
