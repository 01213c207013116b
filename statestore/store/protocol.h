#ifndef HOLDFAST_STATESTORE_STORE_PROTOCOL_H_
#define HOLDFAST_STATESTORE_STORE_PROTOCOL_H_

// Messages between holdfast-store, the launcher core and the device children.
// Fixed size, no pointers, SOCK_SEQPACKET, descriptors by SCM_RIGHTS. The store
// trusts no child and reads nothing else from it. Byte order is the host's: all
// ends run on one machine and are built together; kProtocolVersion guards it.

#include <cstddef>
#include <cstdint>

namespace holdfast::store {

inline constexpr uint32_t kProtocolVersion = 1;

// Limits of the store's fixed memory. Beyond: the request is refused with
// Error::kLimit and an event names it.
inline constexpr size_t kMaxInstances = 32;
inline constexpr size_t kMaxChildrenPerInstance = 4;
inline constexpr size_t kMaxNameSize = 40;  // With the final NUL.

// Descriptor slots of an instance. A slot holds one descriptor or none. Numbers
// are chosen by who deposits; the store gives them no meaning beyond the
// ranges below.
using Slot = uint16_t;
inline constexpr Slot kSlotConnection = 0;     // VMM socket, set by the store.
inline constexpr Slot kSlotFirstResource = 1;  // Set by the launcher: images,
inline constexpr Slot kSlotEndResource = 16;   // ... listening socket, TAPs.
inline constexpr Slot kSlotFirstDevice = 16;   // Set once by the device at its
inline constexpr Slot kSlotEndDevice = 32;     // first start (in-flight memfd).
inline constexpr Slot kSlotFirstSession = 32;  // Escrowed from VMM messages;
inline constexpr Slot kSlotEndSession = 192;   // cleared when the VMM leaves.
inline constexpr size_t kSlotCount = kSlotEndSession;

// Children are named by the launcher: never 0, never reused in one run.
using ChildId = uint32_t;
using InstanceId = uint32_t;  // Likewise.

enum class Type : uint16_t {
  // ---- launcher -> store ----
  kHello = 1,       // arg0 = nonce. Answer: kInstanceInfo and kChildInfo for
                    // all there is, kSlotInfo for the connection and each
                    // resource slot, all with tag = nonce, then kHelloDone
                    // with the same nonce. Anything else the launcher reads
                    // before that kHelloDone is for an older launcher. Every
                    // other request has exactly one answer: kOk, kError or
                    // kDescriptor.
  kCreateInstance,  // instance, name; fds: segment. arg0 = flags (bit 0: the
                    // fence may use the seccomp listener; else pidfd).
  kSetListener,     // instance; fds: listening socket. The store accepts one
                    // VMM at a time; the next one waits in the backlog until
                    // the session before it has ended: kVmmWaiting.
  kSetConnection,   // instance; fds: connected VMM socket (--fd).
  kSetResource,     // instance, slot (resource range); fds: descriptor.
                    // Forwarded to every child present and to come.
  kAddChild,        // instance, child, arg0 = pid; fds: store's end of the
                    // child's store channel, pidfd, launcher's end of the
                    // child's control channel (kept only to be given back to
                    // a new launcher), seccomp listener. All four, in this
                    // order. A new child is a standby until promoted. arg1:
                    // kAddReattached, kAddActive; arg2: epoch of the earlier
                    // store (both only when a store died; see client.h).
  kKillChild,       // instance, child: SIGKILL through the pidfd.
  kRemoveInstance,  // instance: close everything. Children must be gone.
  kGetDescriptor,   // instance, slot; or child != 0: its control channel
                    // (arg0 = 0), pidfd (arg0 = 1) or seccomp listener
                    // (arg0 = 2: for the store after this one, when the
                    // launcher is not the first either). Answer: kDescriptor
                    // with the descriptor, or kError.
  kHoldPromotion,   // instance, arg0 = 1 hold, 0 go on: while held no standby
                    // is promoted (quarantine, ordered stop).
  kPutBlob,         // instance; fds: sealed memfd with the launcher's own
                    // record of the instance (spec); replaces the last one.
                    // Given back with kInstanceInfo.

  // ---- store -> launcher ----
  kOk = 64,          // In answer to a request with the same tag.
  kError,            // arg0 = Error; tag.
  kInstanceInfo,     // instance, name, arg0 = epoch, arg1 = active child or 0,
                     // arg2 = 1 while promotion is held; fds: segment, blob if
                     // any.
  kChildInfo,        // instance, child, arg0 = pid, arg1 = ChildState; fds:
                     // control channel, pidfd. arg2 = 1: it is dying, killed
                     // by the store or told to be, and was in that state
                     // before; the launcher must see that it ends. (0 of a
                     // store that is older than this.)
  kSlotInfo,         // instance, slot is occupied; arg0 = its connection
                     // number if it is the connection.
  kHelloDone,        // arg0 = nonce.
  kDescriptor,       // fds: the one asked for; tag.
  kChildReady,       // instance, child: the standby is parked and complete.
  kChildLost,        // instance, child; arg0 = CLOCK_MONOTONIC ns when the
                     // death was seen, arg1 = Fence. The child is removed.
  kPromoted,         // instance, child; arg0 = epoch, arg1 = ns when the
                     // promotion message was sent, arg2 = ns when the death
                     // that caused it was seen, 0 for a first start.
  kVmmConnected,     // instance; arg0 = connection number, see kForward.
  kVmmGone,          // instance: the active child said that the stream ended.
  kVmmWaiting,       // instance: a second VMM waits for the end of the first
                     // one's session, told once a session; or, with arg0 =
                     // errno, the store could not accept a VMM and tries
                     // again, told once until it can.
  kChildMisbehaved,  // instance, child; arg0 = Error. The store has killed it;
                     // arg1 = errno when that failed: the launcher must. With
                     // kNone: it closed its channel and the kill failed.
  kEventsLost,       // arg0 = how many: the launcher read nothing for so long
                     // that events were dropped. It says kHello again.

  // ---- child -> store ----
  kEscrow = 128,  // slot; fds: 1 descriptor, or none to clear the slot.
                  // Only the active child (session and device range) or a
                  // child of an instance without one (device range). A
                  // re-attached child: any range until its kReady; arg0 =
                  // connection number for kSlotConnection. One that is not
                  // active is heard where no active one of this store has
                  // spoken; else it is sent what the slot holds instead.
                  // Answered with kAck when held *and* forwarded, or noted
                  // for a child whose channel is full: see backlog.h.
  kRetain,        // bitmap: every session slot outside it is closed here
                  // and in the standby. Idempotent. No answer.
  kReady,         // The standby is parked: filter applied, memory mapped.
  kVmmClosed,     // The active child consumed the end of the stream: drop
                  // the connection and all session slots, accept the next.
                  // arg0 = connection number: acknowledged and nothing else
                  // when it is not the present one, so that a successor may
                  // say it again. Answered with kAck after the standby has
                  // been told.
  kSettled,       // arg0 of a kSync: what it told to let go of is let go of,
                  // memory unmapped. No answer.

  // ---- store -> child ----
  kAck = 192,  // tag of the kEscrow or kVmmClosed.
  kForward,    // slot; fds: 1 descriptor, or none: the slot is empty now.
               // At start all occupied slots, then kForwardDone. arg0 =
               // connection number for kSlotConnection: never 0, never
               // the same for two connections, even of two stores.
  kForwardDone,
  kPromote,  // arg0 = epoch; arg1 = ns when the death was seen, 0 for
             // a first start. From here the child is the active one.
  kSync,     // To the standby: the active child has just sent kRetain
             // (bitmap) or kVmmClosed (an empty one): a good moment to read
             // the segment and map. arg0 != 0: answered with kSettled; until
             // then the store keeps what was closed, so that the last holder
             // of a guest's memory, who has to free all of it before anything
             // else, is never a child that may be wanted at any moment.
};

enum class Error : uint64_t {
  kNone = 0,
  kBadMessage = 1,  // Size, type, descriptor count or range is wrong.
  kUnknown = 2,     // No such instance, child or slot.
  kLimit = 3,       // A table is full.
  kNotActive = 4,   // Only the active child may do this.
  kExists = 5,
  kSystem = 6,  // A system call of the store failed.
};

enum class ChildState : uint64_t { kStarting = 0, kStandby = 1, kActive = 2 };

// Flags of kAddChild.
inline constexpr uint64_t kAddReattached = 1;  // It lived under an older store
                                               // and deposits what it holds.
inline constexpr uint64_t kAddActive = 2;      // It is the active one already.

// What proved the death of a child.
enum class Fence : uint64_t { kSeccompListener = 1, kPidfd = 2 };

struct Message {
  uint32_t version = kProtocolVersion;
  Type type{};
  Slot slot = 0;
  InstanceId instance = 0;
  ChildId child = 0;
  uint64_t tag = 0;  // Chosen by the asker, returned in the answer.
  uint64_t arg0 = 0;
  uint64_t arg1 = 0;
  uint64_t arg2 = 0;
  uint64_t bitmap[kSlotCount / 64] = {};
  char name[kMaxNameSize] = {};
};
static_assert(kSlotCount % 64 == 0);
static_assert(sizeof(Message) == 112, "bump kProtocolVersion");

// Descriptors that a message of this type must carry, least and most.
struct FdCount {
  uint8_t least;
  uint8_t most;
};
constexpr FdCount FdsOf(Type type) {
  switch (type) {
    case Type::kCreateInstance:
    case Type::kSetListener:
    case Type::kSetConnection:
    case Type::kSetResource:
    case Type::kPutBlob:
    case Type::kDescriptor:
      return {1, 1};
    case Type::kAddChild:
      return {4, 4};
    case Type::kInstanceInfo:
      return {1, 2};
    case Type::kChildInfo:
      return {2, 2};
    case Type::kEscrow:
    case Type::kForward:
      return {0, 1};
    default:
      return {0, 0};
  }
}

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_PROTOCOL_H_
