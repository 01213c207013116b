#include "devices/bus/pci_state.h"

#include <utility>

#include "base/status_macros.h"
#include "devices/bus/work_keeper.h"

namespace holdfast {
namespace {

constexpr const char* kFileNames[pci::kBars] = {"bar0", "bar1", "bar2",
                                                "bar3", "bar4", "bar5"};

RegisterFile InternalFile() {
  return {access::kName,  work::kOrdered,  work::kRunning,  work::kResets,
          access::kReady, pci::kIntxLevel, access::kAnswer, pci::kUnsent};
}

}  // namespace

absl::StatusOr<PciState> PciState::Create(const PciSpec& spec) {
  ASSIGN_OR_RETURN(PciSpec resolved, spec.Resolve());
  PciState state(std::move(resolved));
  RETURN_IF_ERROR(state.SetSchema(state.spec_.schema()));
  RETURN_IF_ERROR(state.Add("function", pci::kInternal, InternalFile()));
  RETURN_IF_ERROR(state.Add("pci", pci::kConfig, state.spec_.ConfigFile()));
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    const BarSpec& bar_spec = state.spec_.bar(bar);
    if (bar_spec.kind == BarSpec::Kind::kRegisters) {
      RETURN_IF_ERROR(state.Add(kFileNames[bar], bar, bar_spec.file));
    } else if (bar_spec.kind == BarSpec::Kind::kMsix) {
      RETURN_IF_ERROR(state.Add("msix", bar, state.spec_.MsixFile()));
    }
  }
  RETURN_IF_ERROR(ValidateSchema(state.schema()));
  return state;
}

void PciState::Reset(StateTxn& txn) const {
  RegisterBanks::Reset(txn);
  Set(txn, pci::kIntxLevel, 0);
  for (uint32_t i = 0; i < pci::kUnsentWords; ++i) {
    Set(txn, pci::kUnsent, 0, i);
  }
}

}  // namespace holdfast
