#include "statestore/store/child_channel.h"

#include <cstring>
#include <utility>

#include "base/status_macros.h"
#include "statestore/store/incoming.h"
#include "statestore/store/message_io_sys.h"

namespace holdfast::store {
namespace {

// Fills `event` from a checked message. False: not an event.
bool ToEvent(Incoming& incoming, ChildEvent& event) {
  const Message& message = incoming.message;
  event = ChildEvent();
  switch (message.type) {
    case Type::kForward:
      event.kind = ChildEvent::Kind::kForward;
      event.slot = message.slot;
      event.connection = message.arg0;
      event.fd = UniqueFd(Take(incoming, 0));
      return true;
    case Type::kForwardDone:
      event.kind = ChildEvent::Kind::kForwardDone;
      return true;
    case Type::kPromote:
      event.kind = ChildEvent::Kind::kPromote;
      event.epoch = message.arg0;
      event.death_ns = message.arg1;
      return true;
    case Type::kSync:
      event.kind = ChildEvent::Kind::kSync;
      std::memcpy(event.slots.words, message.bitmap, sizeof(message.bitmap));
      event.sync = message.arg0;
      return true;
    default:
      return false;
  }
}

}  // namespace

ChildChannel::ChildChannel(UniqueFd channel) : channel_(std::move(channel)) {}

absl::Status ChildChannel::Gone() {
  gone_ = true;
  return absl::UnavailableError("the store is gone");
}

ChildChannel::Step ChildChannel::ReadOne(uint64_t& acked) {
  if (queued_ == kMaxQueued) return Step::kOverflow;
  Incoming incoming;
  const IoResult result = store::Receive(channel_, incoming);
  Step step = Step::kGone;
  if (result == IoResult::kAgain) {
    step = Step::kNothing;
  } else if (result == IoResult::kDone &&
             Check(incoming, Sender::kStore) == Error::kNone) {
    if (incoming.message.type == Type::kAck) {
      acked = incoming.message.tag;
      step = Step::kAck;
    } else if (ToEvent(incoming, queue_[(first_ + queued_) % kMaxQueued])) {
      ++queued_;
      step = Step::kQueued;
    }
  }
  CloseFds(incoming);
  if (step == Step::kGone) gone_ = ended_ = true;
  return step;
}

ChildChannel::Received ChildChannel::Receive(ChildEvent& event) {
  uint64_t late;  // An answer that nobody waits for any more.
  while (queued_ == 0) {
    if (ended_) return Received::kGone;
    const Step step = ReadOne(late);
    if (step == Step::kNothing) return Received::kNothing;
  }
  event = std::move(queue_[first_]);
  first_ = (first_ + 1) % kMaxQueued;
  --queued_;
  return Received::kEvent;
}

absl::Status ChildChannel::Deliver(const Message& message, BorrowedFd fd) {
  const Handle fds[] = {fd.valid() ? fd.get() : kNoHandle};
  while (!gone_) {
    switch (store::Send(channel_, message, fds)) {
      case IoResult::kDone:
        return absl::OkStatus();
      case IoResult::kAgain:
        // Waiting for room alone is enough: the store never waits for us.
        WaitFor(channel_, Readiness::kWritable, -1);
        break;
      case IoResult::kGone:
        return Gone();
      case IoResult::kError:
        return absl::InternalError("cannot send to the store");
    }
  }
  return Gone();
}

absl::Status ChildChannel::AwaitAck(uint64_t tag) {
  while (!gone_) {
    uint64_t acked = 0;
    switch (ReadOne(acked)) {
      case Step::kAck:
        if (acked == tag) return absl::OkStatus();
        break;
      case Step::kNothing:
        WaitFor(channel_, Readiness::kReadable, -1);
        break;
      case Step::kOverflow:
        return absl::ResourceExhaustedError(
            "too many events of the store are unread");
      case Step::kQueued:
      case Step::kGone:
        break;
    }
  }
  return Gone();
}

absl::Status ChildChannel::Request(Message& message, BorrowedFd fd) {
  message.tag = ++last_tag_;
  RETURN_IF_ERROR(Deliver(message, fd));
  return AwaitAck(message.tag);
}

absl::Status ChildChannel::Escrow(Slot slot, BorrowedFd fd) {
  Message message;
  message.type = Type::kEscrow;
  message.slot = slot;
  return Request(message, fd);
}

absl::Status ChildChannel::Retain(const SlotSet& slots) {
  Message message;
  message.type = Type::kRetain;
  std::memcpy(message.bitmap, slots.words, sizeof(message.bitmap));
  return Deliver(message, BorrowedFd(-1));
}

absl::Status ChildChannel::Ready() {
  Message message;
  message.type = Type::kReady;
  return Deliver(message, BorrowedFd(-1));
}

absl::Status ChildChannel::Settled(uint64_t sync) {
  if (sync == 0) return absl::OkStatus();
  Message message;
  message.type = Type::kSettled;
  message.arg0 = sync;
  return Deliver(message, BorrowedFd(-1));
}

absl::Status ChildChannel::VmmClosed(uint64_t connection) {
  Message message;
  message.type = Type::kVmmClosed;
  message.arg0 = connection;
  return Request(message, BorrowedFd(-1));
}

absl::Status ChildChannel::Reattach(UniqueFd channel,
                                    absl::Span<const Deposit> deposits) {
  channel_ = std::move(channel);
  gone_ = ended_ = false;
  while (queued_ != 0) {
    queue_[first_] = ChildEvent();
    first_ = (first_ + 1) % kMaxQueued;
    --queued_;
  }
  for (const Deposit& deposit : deposits) {
    Message message;
    message.type = Type::kEscrow;
    message.slot = deposit.slot;
    message.arg0 = deposit.connection;
    RETURN_IF_ERROR(Request(message, deposit.fd));
  }
  return Ready();
}

}  // namespace holdfast::store
