#ifndef HOLDFAST_STATESTORE_STORE_CLIENT_H_
#define HOLDFAST_STATESTORE_STORE_CLIENT_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "statestore/store/actions.h"
#include "statestore/store/protocol.h"

namespace holdfast::store {

// The launcher's side of the channel to holdfast-store: requests that wait for
// their answer, and a queue of the events that come at any time. One thread.
// Never blocks longer than kTimeoutMs in one call.
//
// After a new start of the store (it died; nothing else did), for every
// instance: CreateInstance with the kept segment, SetResource, PutBlob;
// AddChild of the active child with kAddReattached | kAddActive and the last
// epoch that was told, then of the others with kAddReattached; last
// SetListener. Each child gets its new channel by kStoreChannel. When the
// active one died in the meantime, the standby is added with kAddReattached
// alone: it deposits what it was forwarded and is promoted.
class Client {
 public:
  // A live store answers within microseconds; beyond this it hangs, and
  // kDeadlineExceeded says so.
  static constexpr int kTimeoutMs = 5000;

  // `channel`: SEQPACKET, the other end of the store's --launcher-fd.
  explicit Client(UniqueFd channel);

  // For poll: readable when ReadEvents() has something to read.
  BorrowedFd fd() const { return channel_; }

  struct InstanceInfo {
    InstanceId id = 0;
    std::string name;
    uint64_t epoch = 0;
    ChildId active = 0;
    bool held = false;
    UniqueFd segment;
    UniqueFd blob;  // Not valid: none was put.
  };
  struct ChildInfo {
    InstanceId instance = 0;
    ChildId id = 0;
    uint32_t pid = 0;
    ChildState state{};
    bool dying = false;  // SIGKILL was tried; its end is not proven.
    UniqueFd control;
    UniqueFd pidfd;
  };
  struct SlotInfo {
    InstanceId instance = 0;
    Slot slot = 0;
  };
  struct Inventory {
    std::vector<InstanceInfo> instances;
    std::vector<ChildInfo> children;
    std::vector<SlotInfo> slots;
  };
  // What the store holds. Drops events that were not read before: the answer
  // is newer. `nonce`: any number that an earlier launcher did not use, such as
  // the time.
  absl::StatusOr<Inventory> Hello(uint64_t nonce);

  // Requests. Errors: kInvalidArgument (kBadMessage), kNotFound (kUnknown),
  // kResourceExhausted (kLimit), kAlreadyExists (kExists), kInternal
  // (kSystem), kUnavailable (the store is gone), kDeadlineExceeded.
  // Descriptors are lent for the call; the store has duplicates then.

  // `name`: at most kMaxNameSize - 1 bytes. `listener_fence`: whether the HUP
  // of a child's seccomp listener proves its death (fence_sys.h has the probe).
  absl::Status CreateInstance(InstanceId instance, absl::string_view name,
                              BorrowedFd segment, bool listener_fence);
  absl::Status SetListener(InstanceId instance, BorrowedFd listening);
  absl::Status SetConnection(InstanceId instance, BorrowedFd vmm);
  absl::Status SetResource(InstanceId instance, Slot slot, BorrowedFd fd);

  struct NewChild {
    ChildId id = 0;
    uint32_t pid = 0;
    uint64_t flags = 0;  // kAddReattached, kAddActive.
    uint64_t epoch = 0;  // With kAddReattached: the last one told.
    BorrowedFd channel = BorrowedFd(-1);
    BorrowedFd pidfd = BorrowedFd(-1);
    BorrowedFd control = BorrowedFd(-1);
    BorrowedFd seccomp_listener = BorrowedFd(-1);
  };
  absl::Status AddChild(InstanceId instance, const NewChild& child);
  absl::Status KillChild(InstanceId instance, ChildId child);
  // kAlreadyExists while it has children.
  absl::Status RemoveInstance(InstanceId instance);
  absl::StatusOr<UniqueFd> GetSlot(InstanceId instance, Slot slot);
  absl::StatusOr<UniqueFd> GetControl(InstanceId instance, ChildId child);
  absl::StatusOr<UniqueFd> GetPidfd(InstanceId instance, ChildId child);
  // The child's seccomp listener, to add the child to a later store.
  absl::StatusOr<UniqueFd> GetSeccompListener(InstanceId instance,
                                              ChildId child);
  absl::Status HoldPromotion(InstanceId instance, bool hold);
  absl::Status PutBlob(InstanceId instance, BorrowedFd blob);

  // Reads all events that are there, without blocking. kUnavailable: the store
  // is gone; what it had sent can still be taken by NextEvent().
  absl::Status ReadEvents();
  // The oldest event that was not taken: kChildReady, kChildLost, kPromoted,
  // kVmmConnected, kVmmGone, kVmmWaiting, kChildMisbehaved or kEventsLost.
  std::optional<Message> NextEvent();

 private:
  absl::Status Request(Message& message, absl::Span<const Handle> fds);
  absl::StatusOr<UniqueFd> Get(Message& message);
  absl::StatusOr<UniqueFd> RequestWithAnswer(Message& message,
                                             absl::Span<const Handle> fds);
  absl::Status Deliver(const Message& message, absl::Span<const Handle> fds,
                       uint64_t deadline_ns);
  // Waits for the next message of any kind.
  absl::Status Await(Incoming& incoming, uint64_t deadline_ns);

  UniqueFd channel_;
  uint64_t last_tag_;
  std::deque<Message> events_;
};

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_CLIENT_H_
