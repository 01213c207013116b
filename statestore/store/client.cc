#include "statestore/store/client.h"

#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "statestore/store/incoming.h"
#include "statestore/store/message_io_sys.h"

namespace holdfast::store {
namespace {

bool IsEvent(Type type) {
  return type >= Type::kChildReady && type <= Type::kEventsLost;
}

absl::Status ToStatus(const Message& answer) {
  switch (static_cast<Error>(answer.arg0)) {
    case Error::kNone:
      return absl::OkStatus();
    case Error::kBadMessage:
      return absl::InvalidArgumentError("the store refused the request");
    case Error::kUnknown:
      return absl::NotFoundError(
          "the store has no such instance, child or slot");
    case Error::kLimit:
      return absl::ResourceExhaustedError("a table of the store is full");
    case Error::kNotActive:
      return absl::FailedPreconditionError("not the active child");
    case Error::kExists:
      return absl::AlreadyExistsError("the store has it already");
    case Error::kSystem:
      break;
  }
  return absl::InternalError(absl::StrCat(
      "a system call of the store failed (errno ", answer.arg1, ")"));
}

absl::Status StoreGone() {
  return absl::UnavailableError("holdfast-store is gone");
}

void AddTo(Client::Inventory& inventory, Incoming& incoming) {
  const Message& m = incoming.message;
  switch (m.type) {
    case Type::kInstanceInfo:
      inventory.instances.push_back({m.instance, m.name, m.arg0,
                                     static_cast<ChildId>(m.arg1), m.arg2 != 0,
                                     UniqueFd(Take(incoming, 0)),
                                     UniqueFd(Take(incoming, 1))});
      break;
    case Type::kChildInfo:
      inventory.children.push_back(
          {m.instance, m.child, static_cast<uint32_t>(m.arg0),
           static_cast<ChildState>(m.arg1), m.arg2 != 0,
           UniqueFd(Take(incoming, 0)), UniqueFd(Take(incoming, 1))});
      break;
    case Type::kSlotInfo:
      inventory.slots.push_back({m.instance, m.slot});
      break;
    default:
      break;
  }
}

Message Make(Type type, InstanceId instance) {
  Message message;
  message.type = type;
  message.instance = instance;
  return message;
}

}  // namespace

// Tags of an earlier launcher's requests must not look like answers to ours.
Client::Client(UniqueFd channel)
    : channel_(std::move(channel)), last_tag_(MonotonicNs()) {}

absl::Status Client::Await(Incoming& incoming, uint64_t deadline_ns) {
  while (true) {
    switch (Receive(channel_, incoming)) {
      case IoResult::kDone:
        if (Check(incoming, Sender::kStore) == Error::kNone) {
          return absl::OkStatus();
        }
        CloseFds(incoming);
        return absl::InternalError("holdfast-store sent an invalid message");
      case IoResult::kAgain:
        break;
      default:
        return StoreGone();
    }
    const uint64_t now = MonotonicNs();
    if (now >= deadline_ns) {
      return absl::DeadlineExceededError("holdfast-store does not answer");
    }
    WaitFor(channel_, Readiness::kReadable,
            static_cast<int>((deadline_ns - now) / 1000000 + 1));
  }
}

absl::Status Client::Deliver(const Message& message,
                             absl::Span<const Handle> fds,
                             uint64_t deadline_ns) {
  while (true) {
    switch (Send(channel_, message, fds)) {
      case IoResult::kDone:
        return absl::OkStatus();
      case IoResult::kAgain:
        break;
      case IoResult::kGone:
        return StoreGone();
      case IoResult::kError:
        return absl::InternalError("cannot send to holdfast-store");
    }
    if (MonotonicNs() >= deadline_ns) {
      return absl::DeadlineExceededError("holdfast-store takes no requests");
    }
    // It reads nothing while we do not read its events.
    RETURN_IF_ERROR(ReadEvents());
    WaitFor(channel_, Readiness::kEither, kTimeoutMs);
  }
}

absl::StatusOr<UniqueFd> Client::RequestWithAnswer(
    Message& message, absl::Span<const Handle> fds) {
  const uint64_t deadline_ns = MonotonicNs() + uint64_t{kTimeoutMs} * 1000000;
  message.tag = ++last_tag_;
  RETURN_IF_ERROR(Deliver(message, fds, deadline_ns));
  while (true) {
    Incoming incoming;
    RETURN_IF_ERROR(Await(incoming, deadline_ns));
    const Message& answer = incoming.message;
    UniqueFd fd;
    if (answer.tag == message.tag && answer.type == Type::kDescriptor) {
      fd = UniqueFd(Take(incoming, 0));
    }
    CloseFds(incoming);
    if (IsEvent(answer.type)) {
      events_.push_back(answer);
    } else if (answer.tag == message.tag) {
      if (answer.type == Type::kError) return ToStatus(answer);
      return fd;
    }
  }
}

absl::Status Client::Request(Message& message, absl::Span<const Handle> fds) {
  return RequestWithAnswer(message, fds).status();
}

absl::StatusOr<UniqueFd> Client::Get(Message& message) {
  ASSIGN_OR_RETURN(UniqueFd fd, RequestWithAnswer(message, {}));
  if (!fd.valid()) return absl::InternalError("no descriptor in the answer");
  return fd;
}

absl::StatusOr<Client::Inventory> Client::Hello(uint64_t nonce) {
  const uint64_t deadline_ns = MonotonicNs() + uint64_t{kTimeoutMs} * 1000000;
  events_.clear();
  Message hello;
  hello.type = Type::kHello;
  hello.arg0 = nonce;
  RETURN_IF_ERROR(Deliver(hello, {}, deadline_ns));
  events_.clear();
  Inventory inventory;
  while (true) {
    Incoming incoming;
    RETURN_IF_ERROR(Await(incoming, deadline_ns));
    const bool ours = incoming.message.tag == nonce;
    if (ours) AddTo(inventory, incoming);
    CloseFds(incoming);
    if (ours && incoming.message.type == Type::kHelloDone) return inventory;
  }
}

absl::Status Client::CreateInstance(InstanceId instance, absl::string_view name,
                                    BorrowedFd segment, bool listener_fence) {
  Message m = Make(Type::kCreateInstance, instance);
  if (name.size() >= sizeof(m.name)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "instance name '", name, "' is longer than ", kMaxNameSize - 1));
  }
  std::memcpy(m.name, name.data(), name.size());
  m.arg0 = listener_fence ? 1 : 0;
  return Request(m, {segment.get()});
}

absl::Status Client::SetListener(InstanceId instance, BorrowedFd listening) {
  Message m = Make(Type::kSetListener, instance);
  return Request(m, {listening.get()});
}

absl::Status Client::SetConnection(InstanceId instance, BorrowedFd vmm) {
  Message m = Make(Type::kSetConnection, instance);
  return Request(m, {vmm.get()});
}

absl::Status Client::SetResource(InstanceId instance, Slot slot,
                                 BorrowedFd fd) {
  Message m = Make(Type::kSetResource, instance);
  m.slot = slot;
  return Request(m, {fd.get()});
}

absl::Status Client::AddChild(InstanceId instance, const NewChild& child) {
  Message m = Make(Type::kAddChild, instance);
  m.child = child.id;
  m.arg0 = child.pid;
  m.arg1 = child.flags;
  m.arg2 = child.epoch;
  return Request(m, {child.channel.get(), child.pidfd.get(),
                     child.control.get(), child.seccomp_listener.get()});
}

absl::Status Client::KillChild(InstanceId instance, ChildId child) {
  Message m = Make(Type::kKillChild, instance);
  m.child = child;
  return Request(m, {});
}

absl::Status Client::RemoveInstance(InstanceId instance) {
  Message m = Make(Type::kRemoveInstance, instance);
  return Request(m, {});
}

absl::StatusOr<UniqueFd> Client::GetSlot(InstanceId instance, Slot slot) {
  Message m = Make(Type::kGetDescriptor, instance);
  m.slot = slot;
  return Get(m);
}

absl::StatusOr<UniqueFd> Client::GetControl(InstanceId instance,
                                            ChildId child) {
  Message m = Make(Type::kGetDescriptor, instance);
  m.child = child;
  return Get(m);
}

absl::StatusOr<UniqueFd> Client::GetPidfd(InstanceId instance, ChildId child) {
  Message m = Make(Type::kGetDescriptor, instance);
  m.child = child;
  m.arg0 = 1;
  return Get(m);
}

absl::StatusOr<UniqueFd> Client::GetSeccompListener(InstanceId instance,
                                                    ChildId child) {
  Message m = Make(Type::kGetDescriptor, instance);
  m.child = child;
  m.arg0 = 2;
  return Get(m);
}

absl::Status Client::HoldPromotion(InstanceId instance, bool hold) {
  Message m = Make(Type::kHoldPromotion, instance);
  m.arg0 = hold ? 1 : 0;
  return Request(m, {});
}

absl::Status Client::PutBlob(InstanceId instance, BorrowedFd blob) {
  Message m = Make(Type::kPutBlob, instance);
  return Request(m, {blob.get()});
}

absl::Status Client::ReadEvents() {
  while (true) {
    Incoming incoming;
    const absl::Status status = Await(incoming, 0);
    if (absl::IsDeadlineExceeded(status)) return absl::OkStatus();
    RETURN_IF_ERROR(status);
    CloseFds(incoming);
    // Anything else answers a request that was given up.
    if (IsEvent(incoming.message.type)) events_.push_back(incoming.message);
  }
}

std::optional<Message> Client::NextEvent() {
  if (events_.empty()) return std::nullopt;
  const Message event = events_.front();
  events_.pop_front();
  return event;
}

}  // namespace holdfast::store
