#include "statestore/store/backlog.h"

#include <cstddef>

namespace holdfast::store {

bool Backlog::Add(const Message& message, uint64_t now) {
  if (empty()) since_ = now;
  switch (message.type) {
    case Type::kForward:
      slots_.set(message.slot);
      return true;
    case Type::kForwardDone:
      forward_done_ = true;
      return true;
    case Type::kSync:
      syncs_ = true;
      return true;
    case Type::kPromote:
      promotes_ = true;
      since_ = now;
      promotion_ = message;
      return true;
    case Type::kAck:
      if (answers_) return false;
      answers_ = true;
      answer_ = message;
      return true;
    default:
      return false;
  }
}

Message Backlog::Next() const {
  if (answers_) return answer_;
  Message message;
  if (slots_.any()) {
    message.type = Type::kForward;
    while (!slots_[message.slot]) ++message.slot;
  } else if (forward_done_) {
    message.type = Type::kForwardDone;
  } else if (syncs_) {
    message.type = Type::kSync;
  } else {
    message = promotion_;
  }
  return message;
}

void Backlog::Taken(const Message& message, uint64_t now) {
  since_ = now;
  switch (message.type) {
    case Type::kForward:
      slots_.reset(message.slot);
      break;
    case Type::kForwardDone:
      forward_done_ = false;
      break;
    case Type::kSync:
      syncs_ = false;
      break;
    case Type::kPromote:
      promotes_ = false;
      break;
    default:
      answers_ = false;
  }
}

}  // namespace holdfast::store
