#ifndef HOLDFAST_STATESTORE_STORE_INCOMING_H_
#define HOLDFAST_STATESTORE_STORE_INCOMING_H_

#include <cstdint>

#include "statestore/store/actions.h"
#include "statestore/store/protocol.h"

namespace holdfast::store {

enum class Sender : uint8_t { kLauncher, kChild, kStore };

// Whether `incoming` is a message that `sender` may send: exact size, version,
// a type of that direction, the number of descriptors that the type carries, a
// slot below kSlotCount and a terminated name. kNone or kBadMessage. Reads
// nothing of a message that is too short.
Error Check(const Incoming& incoming, Sender sender);

// Takes descriptor `index` out of `incoming`; the caller owns it.
Handle Take(Incoming& incoming, size_t index);

// Closes what nobody took.
void CloseRest(Incoming& incoming, ActionList& actions);

constexpr bool IsResource(Slot slot) {
  return slot >= kSlotFirstResource && slot < kSlotEndResource;
}
constexpr bool IsDevice(Slot slot) {
  return slot >= kSlotFirstDevice && slot < kSlotEndDevice;
}
constexpr bool IsSession(Slot slot) {
  return slot >= kSlotFirstSession && slot < kSlotEndSession;
}
static_assert(kSlotConnection < kSlotFirstResource &&
              kSlotEndResource == kSlotFirstDevice &&
              kSlotEndDevice == kSlotFirstSession &&
              kSlotEndSession == kSlotCount);

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_INCOMING_H_
