#ifndef HOLDFAST_STATESTORE_STORE_TESTING_FAKE_DEVICE_SYS_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_FAKE_DEVICE_SYS_H_

#include <atomic>
#include <cstdint>
#include <optional>

#include "base/unique_fd.h"
#include "statestore/store/child_channel.h"
#include "statestore/store/protocol.h"
#include "statestore/store/testing/store_process_sys.h"

namespace holdfast::store::testing {

// What a fake device does on the test's word. Plain data, sent over a socket.
struct Command {
  enum class Kind : uint8_t {
    kEscrow,  // Deposits a token of `value` in `slot`; 0 clears it.
    kRetain,  // `slots`.
    kReady,
    kVmmClosed,  // Connection number `value`.
    kRaw,        // Sends `size` bytes of `raw` with `value` descriptors.
    kReattach,   // Goes on with the channel that comes along, after it has
                 // read what the old store had sent; `value` 1: the mistake
                 // of not doing so.
    kChurn,      // Deposits for ever in slots [32, 32 + kChurnSlots).
    kFlood,      // Sends kReady for ever.
    kHangUp,     // Closes its store channel.
    kFork,       // Leaves a grandchild behind that lives for `value` ms.
  };
  Kind kind{};
  Slot slot = 0;
  uint64_t value = 0;
  SlotSet slots;
  uint64_t size = sizeof(Message);
  Message raw;
};

// What a fake device says: each event of its store channel, and the result of
// each command.
struct Note {
  bool is_result = false;
  bool ok = false;
  ChildEvent::Kind kind{};
  Slot slot = 0;
  uint64_t token = 0;
  uint64_t epoch = 0;
  uint64_t connection = 0;
  uint64_t death_ns = 0;
  uint64_t seen_ns = 0;            // When the child had it.
  uint64_t held[kSlotCount] = {};  // Tokens of all slots, with kPromote.
};

// Memory that a test shares with its fake devices: how far kChurn has come.
struct Progress {
  static constexpr Slot kChurnSlots = 8;
  std::atomic<uint64_t> next{1};            // Token of the next deposit.
  std::atomic<uint64_t> end{~uint64_t{0}};  // It ends here.
  std::atomic<uint64_t> begun[kChurnSlots] = {};
  std::atomic<uint64_t> acknowledged[kChurnSlots] = {};
  // Count a deposit as acknowledged as soon as it is sent: the mistake that
  // waiting for kAck prevents.
  std::atomic<bool> trust_sending{false};
  // Do not tell the test of what is forwarded: a test that reads no notes for a
  // while would stop the child.
  std::atomic<bool> silent_forwards{false};
  // How many events of the store the child may still read: less than there are
  // make a slow one.
  std::atomic<uint64_t> credit{~uint64_t{0}};
};
// In shared memory, for the test's whole life.
Progress* NewProgress();

// A child that keeps what it is forwarded, parks, and does what it is told.
class FakeDevice {
 public:
  explicit FakeDevice(ChildId id, Progress* progress = nullptr);

  FakeChild& child() { return child_; }
  // The next note that fits, dropping others; nullopt after 10 s or its death.
  std::optional<Note> AwaitEvent(ChildEvent::Kind kind);
  // Does it and returns whether it was a success.
  bool Do(const Command& command, BorrowedFd fd = BorrowedFd(-1));
  // Starts it without waiting; waits for its result.
  void Start(const Command& command, BorrowedFd fd = BorrowedFd(-1));
  bool Finish();
  bool Escrow(Slot slot, uint64_t value);

 private:
  std::optional<Note> Read();
  FakeChild child_;
};

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_FAKE_DEVICE_SYS_H_
