#include "devices/bus/pci_interrupts.h"

namespace holdfast {
namespace {

constexpr uint32_t kMsiShift = 32;

uint64_t Bit(uint32_t n) { return uint64_t{1} << n; }

bool HasMsi(const PciState& state) { return state.spec().msi_vectors() != 0; }
bool HasMsix(const PciState& state) { return state.spec().msix_vectors() != 0; }

void RouteIntx(const PciState& state, StateTxn& txn, PciSignals& signals) {
  const bool level = IntxReachesGuest(state, txn);
  const bool was = state.Get(txn, pci::kIntxLevel) != 0;
  if (level == was) return;
  state.Set(txn, pci::kIntxLevel, level);
  if (level) signals[0] |= 1;
}

void RouteMsi(const PciState& state, StateTxn& txn, PciSignals& signals) {
  if (!MsiEnabled(state, txn)) return;
  const uint64_t pending = state.Get(txn, pci::kMsiPending);
  const uint64_t ready = pending & ~state.Get(txn, pci::kMsiMask);
  if (ready == 0) return;
  state.Set(txn, pci::kMsiPending, pending & ~ready);
  // The driver may have enabled fewer vectors: then they are shared.
  const uint32_t enabled = state.Get(txn, pci::kMsiControl) >> 4 & 7;
  const uint32_t vectors = enabled > 5 ? 32 : 1u << enabled;
  for (uint32_t vector = 0; vector < pci::kMaxMsiVectors; ++vector) {
    if ((ready & Bit(vector)) == 0) continue;
    signals[0] |= Bit(kMsiShift + (vector & (vectors - 1)));
  }
}

// Whether messages of this kind leave the function at all.
bool MsixFlows(const PciState& state, StateTxn& txn) {
  return MsixEnabled(state, txn) &&
         (state.Get(txn, pci::kMsixControl) & pci::kMsixMaskAll) == 0;
}

// Those of the vectors `wanted`, of the 64 from 64 * `word` on, that no mask
// holds back.
uint64_t Unmasked(const PciState& state, StateTxn& txn, bool vmm_has_table,
                  uint32_t word, uint64_t wanted) {
  if (vmm_has_table) return wanted;
  const MsixRegisters table(state.spec().msix_vectors(),
                            state.spec().msix_bar());
  for (uint32_t i = 0; i < 64 && wanted >> i != 0; ++i) {
    if ((wanted & Bit(i)) != 0 &&
        (state.Get(txn, table.control, 64 * word + i) & 1) != 0) {
      wanted &= ~Bit(i);
    }
  }
  return wanted;
}

void RouteMsix(const PciState& state, StateTxn& txn, bool vmm_has_table,
               PciSignals& signals) {
  if (!MsixFlows(state, txn)) return;
  const uint32_t vectors = state.spec().msix_vectors();
  const MsixRegisters table(vectors, state.spec().msix_bar());
  for (uint32_t word = 0; word * 64 < vectors; ++word) {
    const uint64_t pending = state.Get(txn, table.pending, word);
    if (pending == 0) continue;
    const uint64_t ready = Unmasked(state, txn, vmm_has_table, word, pending);
    if (ready == 0) continue;
    state.Set(txn, table.pending, pending & ~ready, word);
    signals[1 + word] |= ready;
  }
}

void SignalBits(uint64_t bits, uint32_t irq, uint32_t first, IrqSink& sink) {
  for (; bits != 0; bits &= bits - 1) {
    sink.Signal(irq, first + static_cast<uint32_t>(__builtin_ctzll(bits)));
  }
}

}  // namespace

void SetIntx(const PciState& state, StateTxn& txn, bool asserted) {
  const uint64_t status = state.Get(txn, pci::kStatus);
  const uint64_t next = asserted ? status | pci::kStatusIntx
                                 : status & ~uint64_t{pci::kStatusIntx};
  if (next != status) state.Set(txn, pci::kStatus, next);
}

void RaiseMsi(const PciState& state, StateTxn& txn, uint32_t vector) {
  // The check of the index fails the transaction where there is no such vector.
  if (vector >= state.spec().msi_vectors()) {
    return state.Set(txn, pci::kMsiPending, 0, pci::kMaxMsiVectors);
  }
  state.Set(txn, pci::kMsiPending,
            state.Get(txn, pci::kMsiPending) | Bit(vector));
}

void RaiseMsix(const PciState& state, StateTxn& txn, uint32_t vector) {
  const uint32_t vectors = state.spec().msix_vectors();
  const MsixRegisters table(vectors, state.spec().msix_bar());
  const uint32_t word = vector < vectors ? vector / 64 : pci::kMaxMsixVectors;
  state.Set(txn, table.pending,
            state.Get(txn, table.pending, word) | Bit(vector % 64), word);
}

bool MsiEnabled(const PciState& state, StateTxn& txn) {
  return HasMsi(state) &&
         (state.Get(txn, pci::kMsiControl) & pci::kMsiEnable) != 0;
}

bool MsixEnabled(const PciState& state, StateTxn& txn) {
  return HasMsix(state) &&
         (state.Get(txn, pci::kMsixControl) & pci::kMsixEnable) != 0;
}

bool MastersBus(const PciState& state, StateTxn& txn) {
  const bool awake =
      !state.spec().power() ||
      (state.Get(txn, pci::kPowerControl) & pci::kPowerState) == 0;
  return awake && (state.Get(txn, pci::kCommand) & pci::kCommandMaster) != 0;
}

bool IntxReachesGuest(const PciState& state, StateTxn& txn) {
  return state.spec().intx() &&
         (state.Get(txn, pci::kStatus) & pci::kStatusIntx) != 0 &&
         (state.Get(txn, pci::kCommand) & pci::kCommandIntxDisable) == 0 &&
         !MsiEnabled(state, txn) && !MsixEnabled(state, txn);
}

PciSignals RouteInterrupts(const PciState& state, StateTxn& txn, bool sent,
                           bool vmm_has_table) {
  PciSignals fresh = {};
  RouteIntx(state, txn, fresh);
  if (MastersBus(state, txn)) {
    RouteMsi(state, txn, fresh);
    RouteMsix(state, txn, vmm_has_table, fresh);
  }
  const PciSignals before = UnsentInterrupts(state, txn);
  for (uint32_t i = 0; i < before.size(); ++i) {
    const uint64_t next = fresh[i] | (sent ? 0 : before[i]);
    if (next != before[i]) state.Set(txn, pci::kUnsent, next, i);
  }
  return fresh;
}

PciSignals ReadyMsix(const PciState& state, StateTxn& txn, bool vmm_has_table) {
  PciSignals ready = {};
  if (!MastersBus(state, txn) || !MsixFlows(state, txn)) return ready;
  const uint32_t vectors = state.spec().msix_vectors();
  for (uint32_t word = 0; word * 64 < vectors; ++word) {
    const uint32_t count = vectors - word * 64;
    const uint64_t all = count >= 64 ? ~uint64_t{0} : Bit(count) - 1;
    ready[1 + word] = Unmasked(state, txn, vmm_has_table, word, all);
  }
  return ready;
}

PciSignals UnsentInterrupts(const PciState& state, StateTxn& txn) {
  PciSignals signals;
  for (uint32_t i = 0; i < signals.size(); ++i) {
    signals[i] = state.Get(txn, pci::kUnsent, i);
  }
  return signals;
}

void Signal(const PciSignals& signals, IrqSink& sink) {
  if ((signals[0] & 1) != 0) sink.Signal(kPciIntxIrq, 0);
  SignalBits(signals[0] >> kMsiShift & (Bit(pci::kMaxMsiVectors) - 1),
             kPciMsiIrq, 0, sink);
  for (uint32_t word = 1; word < signals.size(); ++word) {
    SignalBits(signals[word], kPciMsixIrq, 64 * (word - 1), sink);
  }
}

}  // namespace holdfast
