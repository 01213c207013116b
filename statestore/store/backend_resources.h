#ifndef HOLDFAST_STATESTORE_STORE_BACKEND_RESOURCES_H_
#define HOLDFAST_STATESTORE_STORE_BACKEND_RESOURCES_H_

#include <cstddef>
#include <cstdint>

namespace holdfast::store {

// What the launcher and the keeper of a wrapped back-end agree on. The launcher
// starts lives of the back-end, and gives the keeper these resources, in slots
// that follow those of the spec in this order. Each life has a seat of its own
// while it lives; of two, one is current, and the other waits to be it. What is
// in a seat is set in this order, and stays until somebody else sits there.
enum BackendResource : size_t {
  // Where the keeper tells of lives that are to be killed, and is told how they
  // ended: datagrams of one BackendVerdict. Another one whenever the launcher
  // was started again.
  kBackendVerdicts,
  // The first seat. The keeper's end of the channel for requests of the
  // back-end's, and the end that the back-end is given.
  kBackendRequests,
  kBackendRequestsPeer,
  // The keeper's end of a connection with the back-end.
  kBackendConnection,
  // The other seat: the same.
  kBackendSecondSeat,
  // The connection of the life that is current, once more: set when the one
  // before has ended for certain. Never set: the first seat's.
  kBackendCurrent = kBackendSecondSeat + 3,
  // Of the first seat: hangs up when no thread of the life runs any more, and
  // nothing of what it has begun goes on by itself. It speaks before the life
  // has ended, whose memory is still to be taken down then. Something that
  // never becomes readable: nothing tells of this one so early.
  kBackendFence,
  // The other seat's.
  kBackendSecondFence,
  // The connection of the life that is to be current as soon as the fence of
  // the current one has fallen, without another word; its own stays what it
  // was until then.
  kBackendNext,
};
inline constexpr const char* kBackendResourceNames[] = {
    "backend-verdicts", "backend-requests",   "backend-requests-peer",
    "backend",          "backend-2-requests", "backend-2-requests-peer",
    "backend-2",        "backend-current",    "backend-fence",
    "backend-2-fence",  "backend-next"};
inline constexpr size_t kBackendResourceCount = 11;
static_assert(sizeof(kBackendResourceNames) ==
              kBackendResourceCount * sizeof(const char*));

inline constexpr size_t kBackendSeats = 2;
// `resource` names the first seat's.
inline constexpr BackendResource InSeat(size_t seat, BackendResource resource) {
  constexpr size_t kOfSeat = kBackendSecondSeat - kBackendRequests;
  return static_cast<BackendResource>(resource + seat * kOfSeat);
}
static_assert(InSeat(1, kBackendConnection) + 1 == kBackendCurrent);
inline constexpr BackendResource FenceOf(size_t seat) {
  return static_cast<BackendResource>(kBackendFence + seat);
}
static_assert(FenceOf(1) == kBackendSecondFence);

// What the keeper says of a life, and the launcher. It may repeat itself.
struct BackendVerdict {
  enum Kind : uint32_t {
    // Of no use any more and to be killed. Not by way of its connection: a
    // back-end whose front-end is gone forgets the in-flight region first and
    // completes later what it has in hand.
    kUseless,
    // It will do, and knows everything, or, while it waits for its turn,
    // everything but the rings.
    kReady,
    // As kUseless, but it has done nothing wrong: the VMM that it knows of has
    // closed, and it serves no other one, or has taken a ring away that it
    // works
    // on.
    kFinished,
    // The other way round, from the launcher: it ended by a fault of its own.
    // Before the next life becomes current; never said where nobody knows.
    kFault,
    // A request was answered with an error, since it ends its lives. Of no
    // life:
    // `life` is 0.
    kRefused,
  };
  uint64_t life;  // SO_COOKIE of its connection.
  uint32_t kind;
  char why[116];  // For people; the rest is zeros.
};
static_assert(sizeof(BackendVerdict) == 128);

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_BACKEND_RESOURCES_H_
