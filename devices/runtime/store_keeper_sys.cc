#include "devices/runtime/store_keeper_sys.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/log.h"
#include "base/unix_socket_sys.h"

namespace holdfast {

StoreKeeper::StoreKeeper(UniqueFd store, UniqueFd control,
                         DescriptorSlots& descriptors)
    : channel_(std::move(store)),
      control_(std::move(control)),
      descriptors_(descriptors) {}

StoreKeeper::Control StoreKeeper::ReceiveControl() {
  if (std::exchange(stop_seen_, false)) return Control::kStop;
  if (std::exchange(change_seen_, false)) return Control::kResourceChanged;
  if (!control_.valid()) return Control::kNone;
  ControlMessage message;
  UniqueFd fd;
  const Received received = ReceiveFds(
      control_, {reinterpret_cast<uint8_t*>(&message), sizeof(message)},
      absl::MakeSpan(&fd, 1), MSG_DONTWAIT);
  if (received.size < 0 && errno == EAGAIN) return Control::kNone;
  if (received.size <= 0) {
    // Launcher and store are both gone: there is nobody left to ask.
    if (observer_ != nullptr) observer_->BeforeClose(control_);
    control_.Reset();
    return Control::kLauncherGone;
  }
  if (received.size != sizeof(message) ||
      message.version != ControlMessage().version) {
    LogWarning("ignored a control message of another version");
    return Control::kNone;
  }
  switch (message.type) {
    case ControlMessage::Type::kStoreChannel:
      if (!fd.valid()) return Control::kNone;
      next_store_ = std::move(fd);
      return Control::kNewStore;
    case ControlMessage::Type::kStop:
      return Control::kStop;
    case ControlMessage::Type::kResourceChanged:
      return Control::kResourceChanged;
  }
  return Control::kNone;
}

absl::Status StoreKeeper::Reattach() {
  if (!next_store_.valid()) return absl::OkStatus();
  std::array<store::Deposit, store::kSlotCount> deposits;
  size_t count = 0;
  for (store::Slot slot = 0; slot < store::kSlotCount; ++slot) {
    const BorrowedFd fd = descriptors_.Get(slot);
    if (!fd.valid()) continue;
    deposits[count++] = {
        slot, fd,
        slot == store::kSlotConnection ? descriptors_.connection() : 0};
  }
  if (observer_ != nullptr) observer_->BeforeClose(channel_.fd());
  const absl::Status status = channel_.Reattach(
      std::move(next_store_), absl::MakeConstSpan(deposits).first(count));
  return channel_.gone() ? absl::OkStatus() : status;
}

void StoreKeeper::AwaitStore() {
  // What is not about the store waits for its turn. Locals, since
  // ReceiveControl would give it out again and again.
  bool stop = false;
  bool change = false;
  while (channel_.gone() && control_.valid()) {
    // Only an active child waits here: it knows better than the old store.
    if (next_store_.valid()) {
      const absl::Status status = Reattach();
      if (!status.ok()) LogWarning("new store: ", status.message());
      continue;
    }
    pollfd poll = {control_.get(), POLLIN, 0};
    (void)!ppoll(&poll, 1, nullptr, nullptr);
    const Control said = ReceiveControl();
    stop |= said == Control::kStop;
    change |= said == Control::kResourceChanged;
  }
  stop_seen_ = stop;
  change_seen_ = change;
}

absl::Status StoreKeeper::Escrow(store::Slot slot, BorrowedFd fd) {
  for (;;) {
    const absl::Status status = channel_.Escrow(slot, fd);
    if (status.ok() || !channel_.gone()) return status;
    AwaitStore();
    if (channel_.gone()) return status;
  }
}

void StoreKeeper::Retain(absl::Span<const uint64_t> bitmap) {
  store::SlotSet slots;
  for (size_t i = 0; i < bitmap.size(); ++i) slots.words[i] = bitmap[i];
  // A store that dies now learns it from the deposits of the next one.
  (void)channel_.Retain(slots);
}

void StoreKeeper::VmmClosed(uint64_t connection) {
  while (!channel_.VmmClosed(connection).ok() && channel_.gone()) {
    AwaitStore();
    if (channel_.gone()) return;
  }
}

}  // namespace holdfast
