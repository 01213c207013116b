#include "devices/runtime/message_dma_sys.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/runtime/event_sys.h"

namespace holdfast {

using vfio_user::AskJournal;
using vfio_user::Command;

MessageDma::MessageDma()
    : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), wake_(event_) {}

// ---- Threads of the device ----

absl::Status MessageDma::Read(GuestAddress address, absl::Span<uint8_t> out) {
  Transfer transfer;
  transfer.read = true;
  transfer.address = ToInt(address);
  transfer.out = out.data();
  transfer.size = out.size();
  return Await(transfer);
}

absl::Status MessageDma::Write(GuestAddress address,
                               absl::Span<const uint8_t> bytes) {
  Transfer transfer;
  transfer.address = ToInt(address);
  transfer.in = bytes.data();
  transfer.size = bytes.size();
  return Await(transfer);
}

absl::Status MessageDma::Await(Transfer& transfer) {
  if (transfer.size == 0) return absl::OkStatus();
  if (control_.load() == std::this_thread::get_id()) {
    return absl::FailedPreconditionError(
        "DMA by message inside an access, which would wait for itself");
  }
  std::unique_lock<std::mutex> lock(mutex_);
  if (!journal_.has_value()) {
    return absl::UnavailableError(
        "the VMM gave no file for this memory, and cannot be asked: the "
        "instance was started by an older program, or without locked memory");
  }
  if (refusing_) return absl::UnavailableError("the device is being reset");
  queue_.push_back(&transfer);
  RaiseEvent(wake_);
  transfer.wake.wait(lock, [&transfer] { return transfer.done; });
  return transfer.status;
}

absl::Status MessageDma::AwaitForgotten() {
  if (control_.load() == std::this_thread::get_id()) {
    return absl::FailedPreconditionError(
        "a wait for the VMM inside an access, which would wait for itself");
  }
  std::unique_lock<std::mutex> lock(mutex_);
  const uint64_t refusals = refusing_ ? refusals_ - 1 : refusals_;
  ++forgotten_waiters_;
  changed_.wait(lock, [this, refusals] {
    return refusals_ != refusals || !journal_.has_value() || !Unclaimed();
  });
  --forgotten_waiters_;
  return refusals_ != refusals
             ? absl::UnavailableError("the device is being reset")
             : absl::OkStatus();
}

// ---- The control thread ----

void MessageDma::ClearEvent() { DrainEvent(event_); }

absl::Status MessageDma::Resume() {
  control_.store(std::this_thread::get_id());
  std::lock_guard<std::mutex> lock(mutex_);
  return journal_.has_value() ? journal_->Resume() : absl::OkStatus();
}

bool MessageDma::waiting() {
  std::lock_guard<std::mutex> lock(mutex_);
  return !queue_.empty() || forgotten_waiters_ != 0 ||
         std::any_of(slots_.begin(), slots_.end(),
                     [](const Slot& slot) { return slot.transfer != nullptr; });
}

bool MessageDma::is_owed() {
  std::lock_guard<std::mutex> lock(mutex_);
  return journal_.has_value() && journal_->waiting() != 0;
}

// Whether the client owes an answer that nobody wants.
bool MessageDma::Unclaimed() const {
  const auto claimed =
      std::count_if(slots_.begin(), slots_.end(),
                    [](const Slot& slot) { return slot.transfer != nullptr; });
  return journal_->waiting() > static_cast<size_t>(claimed);
}

absl::Status MessageDma::GrantsNext(const Transfer& transfer, size_t size,
                                    const DmaWindows& granted) const {
  return granted.CheckGranted(
      GuestAddress{transfer.address + transfer.asked}, size,
      transfer.read ? DmaAccess::kRead : DmaAccess::kWrite);
}

absl::StatusOr<MessageDma::Sent> MessageDma::Send(LaneIo& io,
                                                  const DmaWindows& granted,
                                                  uint32_t max_bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!journal_.has_value()) return Sent::kNothing;
  bool asked = false;
  if (journal_->unfinished()) {
    ASSIGN_OR_RETURN(const AskJournal::Sent sent, journal_->Finish(io));
    if (sent == AskJournal::Sent::kClosed) return Sent::kClosed;
    if (sent != AskJournal::Sent::kWhole) return Sent::kFull;
    asked = true;
  }
  const size_t limit = std::min(max_bytes, vfio_user::kMaxAskBytes);
  while (!queue_.empty() && !Unclaimed() &&
         journal_->waiting() < vfio_user::kMaxAsks) {
    Transfer& transfer = *queue_.front();
    const size_t size = std::min(limit, transfer.size - transfer.asked);
    // Here, where windows come and go, and not where it was asked for: what is
    // no longer granted must not be asked for any more.
    if (absl::Status status = GrantsNext(transfer, size, granted);
        !status.ok()) {
      End(transfer, std::move(status));
      continue;
    }
    AskJournal::Ask ask;
    ask.command = transfer.read ? Command::kDmaRead : Command::kDmaWrite;
    ask.address = transfer.address + transfer.asked;
    ask.count = static_cast<uint32_t>(size);
    if (!transfer.read) ask.data = {transfer.in + transfer.asked, size};
    size_t slot = 0;
    ASSIGN_OR_RETURN(const AskJournal::Sent sent,
                     journal_->Send(io, ask, &slot));
    if (sent == AskJournal::Sent::kClosed) return Sent::kClosed;
    if (sent == AskJournal::Sent::kNothing) return Sent::kFull;
    slots_[slot] = {&transfer, transfer.asked, size};
    transfer.asked += size;
    ++transfer.pending;
    if (transfer.asked == transfer.size) queue_.pop_front();
    if (sent == AskJournal::Sent::kPart) return Sent::kFull;
    asked = true;
  }
  return asked ? Sent::kAsked : Sent::kNothing;
}

bool MessageDma::Take(const vfio_user::Answer& answer) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!journal_.has_value()) return false;
  const auto taken = journal_->Take(answer);
  if (!taken.has_value()) return false;
  const Slot slot = std::exchange(slots_[taken->slot], Slot());
  if (slot.transfer == nullptr) {
    changed_.notify_all();
    return true;
  }
  Transfer& transfer = *slot.transfer;
  --transfer.pending;
  if (taken->error != 0) {
    End(transfer, absl::UnavailableError(absl::StrCat(
                      "the VMM refused DMA by message: ",
                      std::strerror(static_cast<int>(taken->error)))));
    return true;
  }
  if (transfer.read) {
    std::memcpy(transfer.out + slot.offset, taken->data.data(), slot.size);
  }
  if (transfer.asked == transfer.size && transfer.pending == 0) {
    End(transfer, absl::OkStatus());
  }
  return true;
}

// The thread may be gone as soon as the mutex is free.
void MessageDma::End(Transfer& transfer, absl::Status status) {
  for (Slot& slot : slots_) {
    if (slot.transfer == &transfer) slot = Slot();
  }
  queue_.erase(std::remove(queue_.begin(), queue_.end(), &transfer),
               queue_.end());
  transfer.status = std::move(status);
  transfer.done = true;
  transfer.wake.notify_one();
}

void MessageDma::EndAll(const absl::Status& status) {
  for (const Slot& slot : slots_) {
    if (slot.transfer != nullptr) End(*slot.transfer, status);
  }
  while (!queue_.empty()) End(*queue_.front(), status);
}

void MessageDma::Refuse() {
  std::lock_guard<std::mutex> lock(mutex_);
  refusing_ = true;
  ++refusals_;
  EndAll(absl::UnavailableError("the device is being reset"));
  changed_.notify_all();
}

void MessageDma::Accept() {
  std::lock_guard<std::mutex> lock(mutex_);
  refusing_ = false;
}

void MessageDma::Forget() {
  std::lock_guard<std::mutex> lock(mutex_);
  EndAll(absl::UnavailableError("the VMM is gone"));
  if (journal_.has_value()) journal_->Clear();
  changed_.notify_all();
}

}  // namespace holdfast
