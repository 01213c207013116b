#ifndef HOLDFAST_DEVICES_RUNTIME_REQUEST_EXECUTION_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_REQUEST_EXECUTION_SYS_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/log_limiter.h"
#include "devices/bus/txn.h"
#include "devices/bus/virtio_device.h"
#include "devices/virtqueue/chain.h"
#include "statestore/queue_stats.h"
#include "statestore/transaction.h"

namespace holdfast {

// What runners of queues have in common, wherever rings and buffers are: the
// device and its state see each request once.

// A request that a queue has taken.
struct TakenRequest {
  uint16_t head = 0;
  uint64_t counter = 0;
  uint16_t deaths = 0;  // Of processes that executed it.
};

// The queue that it is of. References outlive this.
struct ExecutingQueue {
  uint16_t index;
  VirtioDevice& device;
  QueueStats& stats;
  QueueStamp& stamp;
  LogLimiter& log;  // Of what the guest does.
};

inline constexpr uint16_t kDeathsOfPoison = 2;

// Nanoseconds of CLOCK_MONOTONIC.
inline uint64_t MonotonicNow() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// A chain's buffers as a device has them, in memory of the thread's.
using RequestBuffers = std::array<Buffer, Chain::kMaxSegments>;
inline Request AsRequest(uint16_t queue, const Chain& chain,
                         RequestBuffers& buffers) {
  size_t count = 0;
  const auto convert = [&](absl::Span<const ChainSegment> from) {
    Buffer* const to = buffers.data() + count;
    for (const ChainSegment& part : from) {
      buffers[count++] = {part.data, part.size};
    }
    return absl::Span<const Buffer>(to, from.size());
  };
  const absl::Span<const Buffer> readable = convert(chain.readable());
  return Request(queue, chain.head(), readable, convert(chain.writable()));
}

// How much a request that was not executed has written: nothing, and says so.
size_t RefuseRequest(const ExecutingQueue& queue, const absl::Status& why);

// As ExecuteRequest, for one that killed its executor twice.
void AnswerPoison(const ExecutingQueue& queue, const TakenRequest& work,
                  Request& request, Txn& txn);

// What a dead process committed and did not answer is taken out of `left`:
// true, and `head` and `written` are its answer, to be published before
// ForgetRecorded. A record of no such request is of an earlier life of the
// queue.
bool TakeRecorded(uint16_t queue, StateBank& bank,
                  std::vector<TakenRequest>& left, uint16_t* head,
                  uint32_t* written);
// Before a new request can be mistaken for the recorded one.
absl::Status ForgetRecorded(uint16_t queue, StateBank& bank);

// Commits what the request did to the state, together with its answer; ends the
// process if that cannot be: telling the driver of what is not true would be
// worse, and a successor decides what becomes of the state.
void CommitRequest(const ExecutingQueue& queue, StateBank& bank,
                   const TakenRequest& work, size_t written, StateTxn& state);

// Executes a request and returns how many bytes it has written. `handle` is the
// device's OnRequest; `deliver`, called before anything is committed, brings
// what was written to the guest: false, and nothing is committed, nor to be
// answered.
template <typename Handle, typename Deliver>
size_t ExecuteRequest(const ExecutingQueue& queue, StateBank& bank,
                      const TakenRequest& work, Request& request, Handle handle,
                      Deliver deliver) {
  StateTxn state = bank.Begin();
  Txn txn(state);
  if (work.deaths >= kDeathsOfPoison) {
    AnswerPoison(queue, work, request, txn);
    (void)deliver();
    return txn.written();
  }
  const absl::Status status = handle(request, txn);
  if (!status.ok()) {
    (void)deliver();
    return RefuseRequest(queue, status);
  }
  if (!deliver()) return 0;
  if (state.dirty()) CommitRequest(queue, bank, work, txn.written(), state);
  return txn.written();
}

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_REQUEST_EXECUTION_SYS_H_
