#include "devices/bus/pci_state.h"

#include <utility>

#include "base/status_macros.h"
#include "statestore/cell.h"

namespace holdfast {
namespace {

constexpr const char* kFileNames[pci::kBars] = {"bar0", "bar1", "bar2",
                                                "bar3", "bar4", "bar5"};

RegisterFile InternalFile() {
  return {access::kName,  pci::kWorkOrdered, pci::kWorkRunning, pci::kResets,
          access::kReady, pci::kIntxLevel,   access::kAnswer,   pci::kUnsent};
}

}  // namespace

absl::StatusOr<PciState> PciState::Create(const PciSpec& spec) {
  ASSIGN_OR_RETURN(PciSpec resolved, spec.Resolve());
  PciState state(std::move(resolved));
  state.schema_ = *state.spec_.schema();
  RETURN_IF_ERROR(state.AddBank("function", pci::kInternal, InternalFile()));
  RETURN_IF_ERROR(state.AddBank("pci", pci::kConfig, state.spec_.ConfigFile()));
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    const BarSpec& bar_spec = state.spec_.bar(bar);
    if (bar_spec.kind == BarSpec::Kind::kRegisters) {
      RETURN_IF_ERROR(state.AddBank(kFileNames[bar], bar, bar_spec.file));
    } else if (bar_spec.kind == BarSpec::Kind::kMsix) {
      RETURN_IF_ERROR(state.AddBank("msix", bar, state.spec_.MsixFile()));
    }
  }
  RETURN_IF_ERROR(ValidateSchema(state.schema_));
  return state;
}

absl::Status PciState::AddBank(const char* file, uint32_t region,
                               const RegisterFile& registers) {
  ASSIGN_OR_RETURN(RegisterBank bank,
                   RegisterBank::Create(file, region, registers));
  RETURN_IF_ERROR(bank.AddFields(schema_));
  banks_[region] = std::make_unique<RegisterBank>(std::move(bank));
  return absl::OkStatus();
}

absl::Status PciState::Bind(const Schema& stored) {
  for (const auto& bank : banks_) {
    if (bank != nullptr) RETURN_IF_ERROR(bank->Bind(stored));
  }
  return absl::OkStatus();
}

uint64_t PciState::Get(StateTxn& txn, const Register& reg,
                       uint32_t index) const {
  const RegisterBank* bank = this->bank(reg.bar());
  if (bank != nullptr) return bank->Get(txn, reg, index);
  return txn.Get(Cell<uint8_t>::At(SchemaBuilder::kUnbound));
}

void PciState::Set(StateTxn& txn, const Register& reg, uint64_t value,
                   uint32_t index) const {
  const RegisterBank* bank = this->bank(reg.bar());
  if (bank != nullptr) return bank->Set(txn, reg, index, value);
  txn.Set(Cell<uint8_t>::At(SchemaBuilder::kUnbound), uint8_t{0});
}

void PciState::Reset(StateTxn& txn) const {
  for (uint32_t region = 0; region < pci::kInternal; ++region) {
    if (bank(region) != nullptr) bank(region)->Reset(txn);
  }
  Set(txn, pci::kWorkOrdered, 0);
  Set(txn, pci::kWorkRunning, 0);
  Set(txn, pci::kIntxLevel, 0);
  for (uint32_t i = 0; i < pci::kUnsentWords; ++i) {
    Set(txn, pci::kUnsent, 0, i);
  }
  Set(txn, pci::kResets, Get(txn, pci::kResets) + 1);
}

}  // namespace holdfast
