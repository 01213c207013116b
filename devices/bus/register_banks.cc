#include "devices/bus/register_banks.h"

#include <utility>

#include "base/status_macros.h"
#include "statestore/cell.h"

namespace holdfast {

absl::Status RegisterBanks::SetSchema(const absl::StatusOr<Schema>& schema) {
  ASSIGN_OR_RETURN(schema_, schema);
  return absl::OkStatus();
}

absl::Status RegisterBanks::Add(std::string file, uint32_t region,
                                const RegisterFile& registers) {
  ASSIGN_OR_RETURN(RegisterBank bank,
                   RegisterBank::Create(std::move(file), region, registers));
  RETURN_IF_ERROR(bank.AddFields(schema_));
  banks_[region] = std::make_unique<RegisterBank>(std::move(bank));
  return absl::OkStatus();
}

absl::Status RegisterBanks::Bind(const Schema& stored) {
  for (const auto& bank : banks_) {
    if (bank != nullptr) RETURN_IF_ERROR(bank->Bind(stored));
  }
  return absl::OkStatus();
}

uint64_t RegisterBanks::Get(StateTxn& txn, const Register& reg,
                            uint32_t index) const {
  const RegisterBank* bank = this->bank(reg.bar());
  if (bank != nullptr) return bank->Get(txn, reg, index);
  return txn.Get(Cell<uint8_t>::At(SchemaBuilder::kUnbound));
}

void RegisterBanks::Set(StateTxn& txn, const Register& reg, uint64_t value,
                        uint32_t index) const {
  const RegisterBank* bank = this->bank(reg.bar());
  if (bank != nullptr) return bank->Set(txn, reg, index, value);
  txn.Set(Cell<uint8_t>::At(SchemaBuilder::kUnbound), uint8_t{0});
}

void RegisterBanks::Reset(StateTxn& txn) const {
  for (uint32_t region = 0; region < kOwn; ++region) {
    if (bank(region) != nullptr) bank(region)->Reset(txn);
  }
}

}  // namespace holdfast
