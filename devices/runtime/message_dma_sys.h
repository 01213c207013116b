#ifndef HOLDFAST_DEVICES_RUNTIME_MESSAGE_DMA_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_MESSAGE_DMA_SYS_H_

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/bus/dma_windows.h"
#include "devices/vfio_user/ask_journal.h"
#include "statestore/lane_io.h"

namespace holdfast {

// Reaches memory that the VMM has granted without a file, by DMA_READ and
// DMA_WRITE: threads of the device wait here, the control thread asks for them
// between the VMM's own messages and brings them the answers.
//
// A VMM may be unable to answer while it waits for an answer of ours: QEMU
// answers on the thread that makes a guest's accesses wait. So the control
// thread never waits for what is asked here; and where it must wait for the
// device's threads, it serves meanwhile, or has the transfers fail (Refuse).
//
// There is no limit in time: a VMM that does not answer stops the device's
// work until it does, or leaves. Bounds: kMaxAsks requests of kMaxAskBytes at a
// time, whatever the threads want.
//
// What holds when this process dies: vfio_user/ask_journal.h.
class MessageDma final : public DmaMessenger {
 public:
  MessageDma();

  // The journal, locked into memory; once, before all that follows. Without it
  // every transfer is UNAVAILABLE.
  void SetMemory(vfio_user::AskMemory& memory) { journal_.emplace(memory); }
  bool has_memory() const { return journal_.has_value(); }

  // What becomes readable in place of event(); outlives this object. Before
  // transfers.
  void UseEvent(BorrowedFd event) { wake_ = event; }

  // Any thread except the control thread, which gets FAILED_PRECONDITION: it
  // would wait for itself. UNAVAILABLE: the VMM refused, is gone, or resets the
  // device. OUT_OF_RANGE: the window was taken away meanwhile.
  size_t max_transfer() const override { return kMaxTransfer; }
  absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) override;
  absl::Status Write(GuestAddress address,
                     absl::Span<const uint8_t> bytes) override;
  absl::Status AwaitForgotten() override;

  // ---- Of the control thread ----

  // Readable when a thread has something to ask: then call Clear, and Send.
  BorrowedFd event() const { return event_; }
  void ClearEvent();

  // Takes the journal over. kDataLoss: it is damaged.
  absl::Status Resume();

  // Whether a message of ours is in the stream in part: Send goes on with it,
  // and nothing else may be sent before.
  bool unfinished() const { return journal_ && journal_->unfinished(); }
  // Whether a thread waits for the VMM.
  bool waiting();
  // Whether the VMM owes an answer, wanted or not.
  bool is_owed();

  enum class Sent {
    kNothing,  // There is nothing to ask, or answers must come first.
    kAsked,    // Something was asked.
    kFull,     // There is more, and no room in the socket.
    kClosed,   // The VMM reads no more.
  };
  // Asks for what threads wait for and `granted` grants, in requests of at most
  // `max_bytes` (not 0). The lane of the same stream is idle.
  absl::StatusOr<Sent> Send(LaneIo& io, const DmaWindows& granted,
                            uint32_t max_bytes);

  // False: nobody waits for this answer.
  bool Take(const vfio_user::Answer& answer);

  // Until Accept: transfers fail, those that wait and all that come.
  void Refuse();
  void Accept();

  // The connection is over.
  void Forget();

 private:
  // Asked for together.
  static constexpr size_t kMaxTransfer = 64 << 10;

  // What a thread wants, on its stack while it waits.
  struct Transfer {
    bool read = false;
    uint64_t address = 0;
    uint8_t* out = nullptr;
    const uint8_t* in = nullptr;
    size_t size = 0;
    size_t asked = 0;    // Bytes, from the beginning.
    size_t pending = 0;  // Requests without an answer.
    bool done = false;
    absl::Status status;
    std::condition_variable wake;
  };
  // A request that waits for an answer. No transfer: of a predecessor's, or of
  // one that has failed; nobody wants the answer, but it must come before
  // anything new is asked.
  struct Slot {
    Transfer* transfer = nullptr;
    size_t offset = 0;
    size_t size = 0;
  };

  absl::Status Await(Transfer& transfer);
  absl::Status GrantsNext(const Transfer& transfer, size_t size,
                          const DmaWindows& granted) const;
  bool Unclaimed() const;
  void End(Transfer& transfer, absl::Status status);
  void EndAll(const absl::Status& status);

  UniqueFd event_;
  BorrowedFd wake_;
  std::atomic<std::thread::id> control_{};
  std::mutex mutex_;  // Of all that follows.
  std::optional<vfio_user::AskJournal> journal_;
  bool refusing_ = false;
  uint64_t refusals_ = 0;            // Calls of Refuse.
  size_t forgotten_waiters_ = 0;     // Threads in AwaitForgotten.
  std::condition_variable changed_;  // For them.
  std::deque<Transfer*> queue_;      // Not asked for, or not all of it.
  std::array<Slot, vfio_user::kMaxAsks> slots_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_MESSAGE_DMA_SYS_H_
