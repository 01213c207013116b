#include "statestore/store/outbox.h"

namespace holdfast::store {
namespace {

size_t Room(Type type) {
  switch (type) {
    case Type::kOk:
    case Type::kError:
    case Type::kDescriptor:
      return Outbox::kCapacity;
    case Type::kVmmWaiting:
      return Outbox::kCapacity / 2;
    default:
      return Outbox::kCapacity - 1;
  }
}

}  // namespace

bool Outbox::Push(const Entry& entry) {
  if (size_ >= Room(entry.message.type)) {
    ++lost_;
    return false;
  }
  Append(entry);
  return true;
}

void Outbox::Pop() {
  entries_[first_] = Entry();
  first_ = (first_ + 1) % kCapacity;
  --size_;
  if (size_ != 0 || lost_ == 0) return;
  Entry entry;
  entry.message.type = Type::kEventsLost;
  entry.message.arg0 = lost_;
  lost_ = 0;
  Append(entry);
}

void Outbox::Append(const Entry& entry) {
  entries_[(first_ + size_) % kCapacity] = entry;
  ++size_;
}

}  // namespace holdfast::store
