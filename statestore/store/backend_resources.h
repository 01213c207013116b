#ifndef HOLDFAST_STATESTORE_STORE_BACKEND_RESOURCES_H_
#define HOLDFAST_STATESTORE_STORE_BACKEND_RESOURCES_H_

#include <cstddef>
#include <cstdint>

namespace holdfast::store {

// What the launcher and the keeper of a wrapped back-end agree on. The launcher
// starts lives of the back-end, one after the other, and gives the keeper these
// resources, in slots that follow those of the spec in this order. With each
// life there are other ones; the connection is set last.
enum BackendResource : size_t {
  // Where the keeper tells of lives that are to be killed: datagrams of one
  // BackendVerdict. Another one whenever the launcher was started again.
  kBackendVerdicts,
  // The keeper's end of the channel for requests of the back-end's, and the end
  // that the back-end is given.
  kBackendRequests,
  kBackendRequestsPeer,
  // The keeper's end of a connection with the back-end.
  kBackendConnection,
};
inline constexpr const char* kBackendResourceNames[] = {
    "backend-verdicts", "backend-requests", "backend-requests-peer", "backend"};
inline constexpr size_t kBackendResourceCount = 4;

// This life is of no use any more and is to be killed. Not by way of its
// connection: a back-end whose front-end is gone forgets the in-flight region
// first and completes later what it has in hand.
struct BackendVerdict {
  uint64_t life;  // SO_COOKIE of its connection.
  char why[120];  // For people; the rest is zeros.
};
static_assert(sizeof(BackendVerdict) == 128);

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_BACKEND_RESOURCES_H_
