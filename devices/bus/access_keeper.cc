#include "devices/bus/access_keeper.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace holdfast {

void AccessKeeper::TakeOver(const RegisterBank& own, StateBank& state,
                            absl::FunctionRef<void()> taken) {
  std::lock_guard<std::mutex> lock(mutex_);
  own_ = &own;
  state_ = &state;
  taken();
}

absl::Status AccessKeeper::Transact(Change change,
                                    absl::FunctionRef<void()> committed) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (state_ == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(bus_, ": the function is not started"));
  }
  StateTxn txn = state_->Begin();
  if (!txn.intact()) return state_->Commit(txn);
  RETURN_IF_ERROR(change(txn));
  RETURN_IF_ERROR(state_->Commit(txn));
  committed();
  return absl::OkStatus();
}

void AccessKeeper::SetResumed() {
  std::lock_guard<std::mutex> lock(mutex_);
  resumed_ = true;
}

absl::Status AccessKeeper::CheckRange(absl::Span<const RegionInfo> regions,
                                      uint32_t region, uint64_t offset,
                                      uint64_t size) const {
  const uint64_t end = region < regions.size() ? regions[region].size : 0;
  if (offset > end || size > end - offset) {
    return absl::OutOfRangeError(
        absl::StrFormat("%s: %d bytes at 0x%x of region %d, which has 0x%x",
                        bus_, size, offset, region, end));
  }
  return absl::OkStatus();
}

absl::Status AccessKeeper::CheckSize(uint64_t size) const {
  if (size > access::kMaxSize) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d bytes of registers at once, at most %d", bus_,
                        size, access::kMaxSize));
  }
  return absl::OkStatus();
}

bool AccessKeeper::Made(StateTxn& txn, AccessId name) const {
  return name != AccessId::kNone &&
         own_->Get(txn, access::kName, 0) == static_cast<uint64_t>(name);
}

absl::Status AccessKeeper::Read(StateTxn& txn, AccessId name,
                                absl::Span<uint8_t> out, Make make) const {
  uint64_t kept[access::kMaxSize / 8] = {};
  const size_t size = std::min(out.size(), sizeof(kept));
  if (Made(txn, name)) {
    for (uint32_t i = 0; i < access::kMaxSize / 8; ++i) {
      kept[i] = own_->Get(txn, access::kAnswer, i);
    }
    std::memcpy(out.data(), kept, size);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(make());
  if (name == AccessId::kNone || !txn.dirty()) return absl::OkStatus();
  std::memcpy(kept, out.data(), size);
  own_->Set(txn, access::kName, 0, static_cast<uint64_t>(name));
  for (uint32_t i = 0; i < access::kMaxSize / 8; ++i) {
    own_->Set(txn, access::kAnswer, i, kept[i]);
  }
  return absl::OkStatus();
}

absl::Status AccessKeeper::Write(StateTxn& txn, AccessId name,
                                 Make make) const {
  if (Made(txn, name)) return absl::OkStatus();
  RETURN_IF_ERROR(make());
  if (name != AccessId::kNone && txn.dirty()) {
    own_->Set(txn, access::kName, 0, static_cast<uint64_t>(name));
  }
  return absl::OkStatus();
}

void AccessKeeper::MakeReady(StateTxn& txn,
                             absl::FunctionRef<void()> reset) const {
  if (own_->Get(txn, access::kReady, 0) != 0) return;
  reset();
  own_->Set(txn, access::kReady, 0, 1);
}

absl::Status AccessKeeper::Blame(const absl::Status& status) {
  if (status.ok()) return status;
  guest_errors_.fetch_add(1);
  return absl::InvalidArgumentError(absl::StrCat("device: ", status.message()));
}

}  // namespace holdfast
