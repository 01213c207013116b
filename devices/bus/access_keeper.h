#ifndef HOLDFAST_DEVICES_BUS_ACCESS_KEEPER_H_
#define HOLDFAST_DEVICES_BUS_ACCESS_KEEPER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "devices/bus/region_device.h"
#include "devices/bus/register_bank.h"
#include "devices/bus/registers.h"
#include "statestore/transaction.h"

namespace holdfast {

// What a keeper remembers: registers that no guest sees, in a bank of the
// function's own, which has others beside them from 0x08 and from 0x80 on.
namespace access {

inline constexpr uint32_t kBank = 8;
inline constexpr Reg64 kName =
    Reg64{"access_id", 0x00, kReadWrite}.InBar(kBank);
// Whether the segment's registers have been made what a reset makes them.
inline constexpr Reg8 kReady = Reg8{"ready", 0x38, kReadWrite}.InBar(kBank);
// What the last access with side effects returned.
inline constexpr size_t kMaxSize = 64;  // Bytes: a cache line.
inline constexpr Reg64 kAnswer =
    Reg64{"access_data", 0x40, kReadWrite}.Array(kMaxSize / 8).InBar(kBank);

}  // namespace access

// Makes the accesses to a function's registers transactions, and answers the
// one that a crash left open as it was answered, or would have been: its name
// and its answer, if it changed anything, are part of what it commits.
//
// Thread-safe; one transaction at a time.
class AccessKeeper {
 public:
  using Change = absl::FunctionRef<absl::Status(StateTxn&)>;
  using Make = absl::FunctionRef<absl::Status()>;

  // `bus` begins what is said of the guest's mistakes: "PCI".
  explicit AccessKeeper(const char* bus) : bus_(bus) {}
  AccessKeeper(const AccessKeeper&) = delete;
  AccessKeeper& operator=(const AccessKeeper&) = delete;

  // From here on `state` is this process's, and `own` has the registers above;
  // both outlive the keeper. Calls taken() before any transaction.
  void TakeOver(const RegisterBank& own, StateBank& state,
                absl::FunctionRef<void()> taken);

  // One transaction, and what follows its commit before the next begins. An
  // error of `change` gives it up. FAILED_PRECONDITION: nothing has been taken
  // over. Others: StateBank::Commit.
  absl::Status Transact(Change change, absl::FunctionRef<void()> committed);

  // All that a predecessor may not have signalled has been. `resumed`: for
  // `change`, inside Transact.
  void SetResumed();
  bool resumed() const { return resumed_; }

  // OUT_OF_RANGE: the device has no such bytes. INVALID_ARGUMENT: more than
  // registers take at once.
  absl::Status CheckRange(absl::Span<const RegionInfo> regions, uint32_t region,
                          uint64_t offset, uint64_t size) const;
  absl::Status CheckSize(uint64_t size) const;

  // For `change`: make() makes the access, unless a predecessor has. Of a long
  // answer the first access::kMaxSize bytes are kept.
  absl::Status Read(StateTxn& txn, AccessId name, absl::Span<uint8_t> out,
                    Make make) const;
  absl::Status Write(StateTxn& txn, AccessId name, Make make) const;

  // For `change`: the first transaction of a segment calls reset().
  void MakeReady(StateTxn& txn, absl::FunctionRef<void()> reset) const;

  // What the device says of an access, so that it does not look like what the
  // state says; counts errors.
  absl::Status Blame(const absl::Status& status);
  uint64_t guest_errors() const { return guest_errors_.load(); }

 private:
  bool Made(StateTxn& txn, AccessId name) const;

  const char* const bus_;
  std::mutex mutex_;
  const RegisterBank* own_ = nullptr;  // Since TakeOver.
  StateBank* state_ = nullptr;
  bool resumed_ = false;
  std::atomic<uint64_t> guest_errors_{0};
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_ACCESS_KEEPER_H_
