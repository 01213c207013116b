#ifndef HOLDFAST_DEVICES_VFIO_USER_ASK_JOURNAL_H_
#define HOLDFAST_DEVICES_VFIO_USER_ASK_JOURNAL_H_

// Requests of the server, DMA_READ and DMA_WRITE, on the stream of a lane. What
// was sent of them and which of them are answered outlives the process: a
// successor ends the message that its predecessor has begun, knows which
// answers are still to come, and takes none of them for an answer to itself.
//
// What holds across a death:
//  - The stream stays whole: a message is sent once and in one piece, or not at
//    all. As in the lane, the kernel itself writes how much went out.
//  - Each answer is counted once. Whoever asked is dead with its process, so
//    the answer is dropped; its successor makes the transfer again. A DMA_READ
//    is then asked a second time, and a DMA_WRITE of the same bytes reaches the
//    client a second time: at least once, never with other bytes, as long as
//    the device repeats its transfers from what it has journaled (bus/dma.h).
//  - A successor must ask nothing before waiting() is 0. Else a client that
//    does not answer in order could do a dead process's write after what its
//    successor has told the guest is done.

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "devices/vfio_user/message.h"
#include "statestore/lane_format.h"
#include "statestore/lane_io.h"

namespace holdfast::vfio_user {

// Requests that wait for an answer.
inline constexpr size_t kMaxAsks = 8;
// Data of one request. A message of so many bytes enters a socket's buffer
// whole or not at all, unless that buffer was made small.
inline constexpr uint32_t kMaxAskBytes = 16 << 10;

// A request that waits. `name` is command << 16 | id; 0: the entry is free.
struct AskRecord {
  uint64_t address;
  uint32_t count;
  uint32_t name;
};
static_assert(sizeof(AskRecord) == 16);

// Lies in the segment, locked into memory in this process. Zeros: nothing was
// asked yet.
struct AskMemory {
  uint64_t sending;  // What goes out (ask_journal.cc); 0: nothing.
  uint64_t next_id;
  uint8_t padding[48];
  AskRecord asks[kMaxAsks];
  LaneTxSet tx[2];
  uint8_t message[sizeof(MessageHeader) + sizeof(DmaAccess) + kMaxAskBytes];
  uint8_t zero[32];
};
static_assert(sizeof(AskMemory) == 832 + 16384 + 64);

// An answer to a request of ours.
struct Answer {
  uint16_t id = 0;
  Command command{};
  uint32_t error = 0;              // errno; 0: done.
  absl::Span<const uint8_t> data;  // Of DMA_READ. Points into the message.
};

// The control thread's, like the lane. It and the lane send on one stream:
// while unfinished() the lane must not run, and Send only while the lane is
// idle.
class AskJournal {
 public:
  // `memory` outlives this object.
  explicit AskJournal(AskMemory& memory) : memory_(memory) {}

  // Takes over what is there. kDataLoss: no journal leaves that.
  absl::Status Resume();

  // The connection is over.
  void Clear();

  // Requests that were sent and not answered.
  size_t waiting() const;
  // Whether a message is in the stream in part: call Finish.
  bool unfinished() const { return memory_.sending != 0; }

  struct Ask {
    Command command{};  // kDmaRead, kDmaWrite.
    uint64_t address = 0;
    uint32_t count = 0;              // Of a read.
    absl::Span<const uint8_t> data;  // Of a write.
  };
  enum class Sent {
    kWhole,
    kNothing,  // There is no room in the socket; forgotten again.
    kPart,     // Room for a part; now unfinished().
    kClosed,   // The client reads no more.
  };
  // Sends a request; `slot` is its entry, below kMaxAsks, unless kNothing.
  // kResourceExhausted: kMaxAsks wait. kInvalidArgument: nothing is asked for,
  // or more than kMaxAskBytes. kDataLoss as above. Never waits.
  absl::StatusOr<Sent> Send(LaneIo& io, const Ask& ask, size_t* slot);
  // Goes on with it: kWhole, kPart or kClosed.
  absl::StatusOr<Sent> Finish(LaneIo& io);

  // What an answer is to; its entry is free then. An answer of another size
  // than was asked for is an error of the client's. Trusts nothing in `answer`.
  struct Taken {
    size_t slot = 0;
    uint32_t error = 0;  // errno; 0: done, and `data` is all that was asked.
    absl::Span<const uint8_t> data;
  };
  // Null: nobody waits for it.
  absl::optional<Taken> Take(const Answer& answer);

 private:
  uint16_t NewId();
  void Free(size_t slot);

  AskMemory& memory_;
};

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_ASK_JOURNAL_H_
