#ifndef HOLDFAST_DEVICES_KEEPER_KEEPER_STATE_H_
#define HOLDFAST_DEVICES_KEEPER_KEEPER_STATE_H_

#include <cstddef>
#include <cstdint>

#include "devices/keeper/inflight_region.h"
#include "devices/vhost_user/message.h"
#include "devices/vhost_user/session_state.h"
#include "statestore/cell.h"
#include "statestore/schema.h"

namespace holdfast::keeper {

// What a back-end says of itself. The VMM is told what the first life offered,
// and every later one must offer as much.
struct Offer {
  uint64_t features;           // As offered, vhost's bits included.
  uint64_t protocol_features;  // As offered.
  uint32_t known;              // 0: no life has been asked yet.
  uint32_t queue_count;
  uint32_t max_mem_slots;
  uint32_t config_size;
  uint8_t config[vhost_user::kMaxConfigAccess];
  // One bit a byte of `config`: the VMM has written it, so that a new life is
  // told, and is not expected to know by itself.
  uint8_t config_written[vhost_user::kMaxConfigAccess / 8];
};
static_assert(sizeof(Offer) == 320);

// What is remembered of the life in one seat.
struct LifeCells {
  // The one that was last spoken to: its socket's cookie; 0: none was.
  Cell<uint64_t> life;
  // It is being told something, and may have understood any part of that.
  Cell<bool> talking;
  // The session that it knows, when it is not.
  Cell<vhost_user::SessionState> done;
};

// What of the session is the keeper's own; the VMM's is in the lane's bank.
struct KeeperState {
  static constexpr SchemaId kSchema{"keeper", /*version=*/3};
  Cell<Offer> offer{"offer"};
  // Where its table of requests in flight is. Since version 2.
  Cell<RegionLayout> region{"region"};
  // Of the first seat.
  LifeCells life{Cell<uint64_t>("life"), Cell<bool>("talking"),
                 Cell<vhost_user::SessionState>("done")};
};

// What version 2 did not have: then what was said in the second seat is not
// remembered, and who sits there is given up when a keeper dies.
struct SecondSeatState {
  static constexpr SchemaId kSchema = KeeperState::kSchema;
  LifeCells life{Cell<uint64_t>("life.2"), Cell<bool>("talking.2"),
                 Cell<vhost_user::SessionState>("done.2")};
};

// A new segment has both.
struct WholeKeeperState {
  static constexpr SchemaId kSchema = KeeperState::kSchema;
  KeeperState first;
  SecondSeatState second;
};

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_KEEPER_STATE_H_
