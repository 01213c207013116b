#ifndef HOLDFAST_DEVICES_BUS_WORK_KEEPER_H_
#define HOLDFAST_DEVICES_BUS_WORK_KEEPER_H_

#include <atomic>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "devices/bus/access_keeper.h"
#include "devices/bus/device_spec.h"
#include "devices/bus/region_device.h"
#include "devices/bus/register_bank.h"
#include "devices/bus/registers.h"
#include "statestore/transaction.h"

namespace holdfast {

// What a keeper of work remembers, in a function's own bank beside what
// access_keeper.h does: a bit for each work that was ordered, and for each that
// some process has begun; how often the function was reset.
namespace work {

inline constexpr Reg64 kOrdered =
    Reg64{"work_ordered", 0x08, kReadWrite}.InBar(access::kBank);
inline constexpr Reg64 kRunning =
    Reg64{"work_running", 0x10, kReadWrite}.InBar(access::kBank);
inline constexpr Reg64 kResets =
    Reg64{"resets", 0x18, kReadWrite}.InBar(access::kBank);

// Has it begun after the transaction's commit; `number` counts modulo
// kMaxWorks. Twice before it begins is once.
void Order(const RegisterBank& own, StateTxn& txn, uint32_t number);
// It has ended with this transaction, and is not done again.
void Done(const RegisterBank& own, StateTxn& txn, uint32_t number);

}  // namespace work

// Work that accesses to a function order, of which threads do pieces: never the
// same beside itself, what a dead process had begun first, and cut off by a
// reset.
//
// Thread-safe. What takes a StateTxn is for inside the function's transactions,
// which its access keeper makes one at a time.
class WorkKeeper {
 public:
  using Change = AccessKeeper::Change;
  // The function's own way of making a transaction.
  using Transact = absl::FunctionRef<absl::Status(Change)>;
  using Do = absl::FunctionRef<absl::Status(uint32_t number)>;

  WorkKeeper() = default;
  WorkKeeper(const WorkKeeper&) = delete;
  WorkKeeper& operator=(const WorkKeeper&) = delete;

  // `own` is bound, has the registers above and outlives the keeper. Once,
  // before everything else.
  void SetBank(const RegisterBank& own) { own_ = &own; }
  void SetCaller(WorkCaller* caller) { caller_ = caller; }

  // For threads that open no transaction: look at the end of each one, and
  // publish what was seen once it is committed.
  struct View {
    uint64_t work = 0;
    uint64_t resets = 0;
  };
  View Look(StateTxn& txn) const;
  void Publish(const View& view);

  // Of a reset: nothing is left to do, and what is being done is cut off.
  void Reset(StateTxn& txn) const;
  // CANCELLED: the calling thread does work that a reset has cut off.
  absl::Status CheckNotCutOff(StateTxn& txn) const;
  // As far as was published.
  bool CutOff() const;

  // What the calling thread does; kMaxWorks: none. Async-signal-safe.
  uint32_t Current() const { return Does() ? working_->number : kMaxWorks; }

  // Whether there is work that no thread has begun; whether some thread of this
  // process does any.
  bool pending() const {
    return ((work_.load() | called_.load()) & ~active_.load()) != 0;
  }
  bool active() const { return active_.load() != 0; }

  // RegionContext says what they do.
  void CallIn(uint64_t works);
  void CallAll(uint64_t works);

  // RegionDevice::RunWork: begins a piece, does it, and says that it is done.
  // Errors: those of both, but for work that was cut off.
  absl::Status Run(Transact transact, Do piece);

 private:
  // Work that the calling thread does.
  struct Working {
    const WorkKeeper* keeper;
    uint32_t number;
    uint64_t began_at;  // In resets.
  };
  absl::Status Begin(Transact transact, Working* working);
  bool Does() const { return working_ != nullptr && working_->keeper == this; }

  const RegisterBank* own_ = nullptr;
  WorkCaller* caller_ = nullptr;
  // What the last transaction left.
  std::atomic<uint64_t> work_{0};
  std::atomic<uint64_t> resets_{0};
  // A bit for each work that a thread of this process does. Set inside a
  // transaction.
  std::atomic<uint64_t> active_{0};
  // A bit for each work that the device wants done without having ordered it.
  std::atomic<uint64_t> called_{0};

  static thread_local const Working* working_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_WORK_KEEPER_H_
