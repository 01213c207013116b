#ifndef HOLDFAST_DEVICES_BUS_REGISTER_BANKS_H_
#define HOLDFAST_DEVICES_BUS_REGISTER_BANKS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "devices/bus/access_keeper.h"
#include "devices/bus/register_bank.h"
#include "devices/bus/registers.h"
#include "statestore/schema.h"
#include "statestore/transaction.h"

namespace holdfast {

// The register files of a function, by region: those that the guest sees, and
// the function's own (access::kBank). Immutable once bound.
class RegisterBanks {
 public:
  static constexpr uint32_t kOwn = access::kBank;

  // Of a new segment: what the device declared, then all registers.
  const Schema& schema() const { return schema_; }
  // Errors: RegisterBank::Bind. CheckCompatible is the caller's.
  absl::Status Bind(const Schema& stored);

  // The registers of a region; null: it has none.
  const RegisterBank* bank(uint32_t region) const {
    return region < banks_.size() ? banks_[region].get() : nullptr;
  }

  // For the device itself. A register that no file has fails the transaction.
  uint64_t Get(StateTxn& txn, const Register& reg, uint32_t index = 0) const;
  void Set(StateTxn& txn, const Register& reg, uint64_t value,
           uint32_t index = 0) const;

  // Gives all that the guest sees its reset values.
  void Reset(StateTxn& txn) const;

 protected:
  RegisterBanks() = default;

  // Before all files. Errors: the device's.
  absl::Status SetSchema(const absl::StatusOr<Schema>& schema);
  // Errors: RegisterBank::Create, RegisterBank::AddFields.
  absl::Status Add(std::string file, uint32_t region,
                   const RegisterFile& registers);

 private:
  Schema schema_;
  std::array<std::unique_ptr<RegisterBank>, kOwn + 1> banks_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_REGISTER_BANKS_H_
