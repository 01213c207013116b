#ifndef HOLDFAST_DEVICES_KEEPER_HANDSHAKE_H_
#define HOLDFAST_DEVICES_KEEPER_HANDSHAKE_H_

#include <chrono>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/keeper/backend_link_sys.h"
#include "devices/keeper/backend_plan.h"
#include "devices/keeper/keeper_state.h"
#include "devices/keeper/kick_back.h"
#include "devices/vhost_user/session.h"

namespace holdfast::keeper {

// How requests in flight are found again when a back-end dies.
enum class Tracking : uint8_t {
  // The back-end offers INFLIGHT_SHMFD.
  kOffered,
  // It does not, but it is built on libvhost-user, which tracks whenever the
  // bit is acknowledged.
  kForced,
  // It is not tracked: it answers in order, so that everything after the used
  // index is to be done again.
  kInOrder,
  // It is not tracked and answers in any order: the keeper passes requests and
  // answers on by rings of its own.
  kShadow,
};

// What a profile says of a kind of back-end.
struct BackendTraits {
  Tracking tracking = Tracking::kOffered;
  uint64_t masked_features = 0;
  uint64_t masked_protocol_features = 0;
  // A ring by which the guest is told that its connections ended with a life,
  // of virtio-vsock; 0: there is none. For back-ends in order.
  uint16_t reset_queue = 0;
  // A ring that has requests and makes no progress for so long: the life hangs.
  // 0: nobody looks.
  std::chrono::milliseconds hang_limit{0};
  // One bit a byte of the configuration space, of the first 64: another life
  // may say something else. The VMM keeps what it was told.
  uint64_t config_may_differ = 0;
  // Of requests that end every life; with shadow rings only.
  KickBack kick_back = KickBack::kNever;
};

// The agreement with a back-end that offers this. Where its in-flight region is
// becomes known with the rings' sizes.
Agreement AgreementWith(const Offer& offer, const BackendTraits& traits);

// What the VMM is offered: what the keeper can say again to another life.
vhost_user::BackendInfo InfoFor(const Offer& offer, const BackendTraits& traits,
                                store::Slot inflight_slot);

// Whether `now` can take the place of `first` behind a VMM that was told of
// `first`. kFailedPrecondition: what is missing, in words.
absl::Status CheckSuccessor(const Offer& first, const Offer& now,
                            const BackendTraits& traits);

// Whether it takes a channel for requests of its own.
bool HasRequestChannel(const Offer& offer, const BackendTraits& traits);

// What `offer` is when the configuration space is read again.
absl::StatusOr<Offer> ReadConfigOf(BackendLink& link, const Offer& offer);

// Writes into it. kAborted: the back-end does not take that.
absl::Status WriteConfigOf(BackendLink& link, uint32_t offset, uint32_t flags,
                           absl::Span<const uint8_t> bytes);
// Whether the VMM has written any of it.
bool WasWritten(const Offer& offer);
// That, again.
absl::Status WriteConfigAgain(BackendLink& link, const Offer& offer);

// The beginning of every conversation: owner, features, protocol features,
// limits and configuration space. `expected_config`: 0, or as many bytes of it
// are known to exist.
absl::StatusOr<Offer> ShakeHands(BackendLink& link, const BackendTraits& traits,
                                 uint32_t expected_config);

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_HANDSHAKE_H_
