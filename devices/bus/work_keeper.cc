#include "devices/bus/work_keeper.h"

#include <utility>

#include "base/status_macros.h"

namespace holdfast {
namespace {

uint64_t Bit(uint32_t number) { return uint64_t{1} << (number % kMaxWorks); }

}  // namespace

void work::Order(const RegisterBank& own, StateTxn& txn, uint32_t number) {
  own.Set(txn, kOrdered, 0, own.Get(txn, kOrdered, 0) | Bit(number));
}

void work::Done(const RegisterBank& own, StateTxn& txn, uint32_t number) {
  own.Set(txn, kRunning, 0, own.Get(txn, kRunning, 0) & ~Bit(number));
}

thread_local const WorkKeeper::Working* WorkKeeper::working_ = nullptr;

WorkKeeper::View WorkKeeper::Look(StateTxn& txn) const {
  return {own_->Get(txn, work::kOrdered, 0) | own_->Get(txn, work::kRunning, 0),
          own_->Get(txn, work::kResets, 0)};
}

void WorkKeeper::Publish(const View& view) {
  resets_.store(view.resets);
  work_.store(view.work);
}

void WorkKeeper::Reset(StateTxn& txn) const {
  own_->Set(txn, work::kOrdered, 0, 0);
  own_->Set(txn, work::kRunning, 0, 0);
  own_->Set(txn, work::kResets, 0, own_->Get(txn, work::kResets, 0) + 1);
}

absl::Status WorkKeeper::CheckNotCutOff(StateTxn& txn) const {
  if (Does() && working_->began_at != own_->Get(txn, work::kResets, 0)) {
    return absl::CancelledError("the function was reset");
  }
  return absl::OkStatus();
}

bool WorkKeeper::CutOff() const {
  return Does() && working_->began_at != resets_.load();
}

void WorkKeeper::CallIn(uint64_t works) {
  uint64_t called = called_.load();
  for (;;) {
    const uint64_t idle = works & ~(called | active_.load());
    if (idle == 0) return;
    if (called_.compare_exchange_weak(called, called | (idle & -idle))) break;
  }
  if (caller_ != nullptr) caller_->CallThread();
}

void WorkKeeper::CallAll(uint64_t works) {
  called_.fetch_or(works);
  if (caller_ != nullptr) caller_->CallThread();
}

// Leaves working->number at kMaxWorks if there is none.
absl::Status WorkKeeper::Begin(Transact transact, Working* working) {
  uint64_t bit = 0;
  const absl::Status begun = transact([&](StateTxn& txn) {
    const uint64_t active = active_.load();
    const uint64_t ordered = own_->Get(txn, work::kOrdered, 0);
    const uint64_t running = own_->Get(txn, work::kRunning, 0);
    // What a predecessor had begun comes first.
    const uint64_t left = running & ~active;
    const uint64_t fresh = left != 0 ? left : ordered & ~active;
    const uint64_t from = fresh != 0 ? fresh : called_.load() & ~active;
    if (from == 0) return absl::OkStatus();
    working->number = static_cast<uint32_t>(__builtin_ctzll(from));
    working->began_at = own_->Get(txn, work::kResets, 0);
    bit = Bit(working->number);
    called_.fetch_and(~bit);
    if (left == 0 && fresh != 0) {
      own_->Set(txn, work::kOrdered, 0, ordered & ~bit);
      own_->Set(txn, work::kRunning, 0, running | bit);
    }
    active_.fetch_or(bit);
    return absl::OkStatus();
  });
  if (!begun.ok()) {
    active_.fetch_and(~bit);
    called_.store(0);
  }
  return begun;
}

absl::Status WorkKeeper::Run(Transact transact, Do piece) {
  Working working = {this, kMaxWorks, 0};
  RETURN_IF_ERROR(Begin(transact, &working));
  if (working.number == kMaxWorks) return absl::OkStatus();
  if (caller_ != nullptr && pending()) caller_->CallThread();
  const Working* const outer = std::exchange(working_, &working);
  const absl::Status done = piece(working.number);
  const absl::Status ended = transact([&](StateTxn& txn) {
    RETURN_IF_ERROR(CheckNotCutOff(txn));
    work::Done(*own_, txn, working.number);
    return absl::OkStatus();
  });
  working_ = outer;
  active_.fetch_and(~Bit(working.number));
  if (!ended.ok() && !absl::IsCancelled(ended)) return ended;
  return absl::IsCancelled(ended) ? absl::OkStatus() : done;
}

}  // namespace holdfast
