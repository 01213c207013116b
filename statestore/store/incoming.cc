#include "statestore/store/incoming.h"

#include <cstring>
#include <utility>

namespace holdfast::store {
namespace {

bool MaySend(Sender sender, Type type) {
  switch (sender) {
    case Sender::kLauncher:
      return type >= Type::kHello && type <= Type::kPutBlob;
    case Sender::kChild:
      return type >= Type::kEscrow && type <= Type::kSettled;
    case Sender::kStore:
      return (type >= Type::kOk && type <= Type::kEventsLost) ||
             (type >= Type::kAck && type <= Type::kSync);
  }
  return false;
}

}  // namespace

Error Check(const Incoming& incoming, Sender sender) {
  const Message& message = incoming.message;
  if (incoming.truncated || incoming.size != sizeof(Message) ||
      message.version != kProtocolVersion || !MaySend(sender, message.type)) {
    return Error::kBadMessage;
  }
  const FdCount count = FdsOf(message.type);
  if (incoming.fd_count < count.least || incoming.fd_count > count.most ||
      message.slot >= kSlotCount ||
      std::memchr(message.name, '\0', sizeof(message.name)) == nullptr) {
    return Error::kBadMessage;
  }
  return Error::kNone;
}

Handle Take(Incoming& incoming, size_t index) {
  return std::exchange(incoming.fds[index], kNoHandle);
}

void CloseRest(Incoming& incoming, ActionList& actions) {
  for (Handle& handle : incoming.fds) {
    Close(handle, actions, Closer::kApart);
  }
}

}  // namespace holdfast::store
