#include "devices/runtime/request_execution_sys.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/log.h"

namespace holdfast {

size_t RefuseRequest(const ExecutingQueue& queue, const absl::Status& why) {
  queue.log.Warning("queue ", queue.index,
                    ": request refused: ", why.message());
  Count(queue.stats.errors);
  return 0;
}

void AnswerPoison(const ExecutingQueue& queue, const TakenRequest& work,
                  Request& request, Txn& txn) {
  Count(queue.stats.poisoned);
  StampPoisoned(queue.stamp, work.head, work.deaths, MonotonicNow());
  queue.log.Error("queue ", queue.index, ": request ", work.head,
                  " killed its executor twice and is answered with an error");
  queue.device.OnPoisoned(request, txn);
}

bool TakeRecorded(uint16_t queue, StateBank& bank,
                  std::vector<TakenRequest>& left, uint16_t* head,
                  uint32_t* written) {
  const CompletionRecord record = bank.completion(queue);
  if (record.counter == 0) return false;
  const auto it =
      std::find_if(left.begin(), left.end(), [&](const TakenRequest& work) {
        return work.head == record.head && work.counter == record.counter;
      });
  if (it == left.end()) return false;
  left.erase(it);
  *head = static_cast<uint16_t>(record.head);
  *written = record.written;
  return true;
}

absl::Status ForgetRecorded(uint16_t queue, StateBank& bank) {
  if (bank.completion(queue).counter == 0) return absl::OkStatus();
  StateTxn txn = bank.Begin();
  txn.RecordCompletion(queue, CompletionRecord{});
  return bank.Commit(txn);
}

void CommitRequest(const ExecutingQueue& queue, StateBank& bank,
                   const TakenRequest& work, size_t written, StateTxn& state) {
  state.RecordCompletion(
      queue.index, {work.counter, work.head, static_cast<uint32_t>(written)});
  const absl::Status committed = bank.Commit(state);
  if (committed.ok()) return;
  LogError("queue ", queue.index, ": ", committed.message());
  _exit(EXIT_FAILURE);
}

}  // namespace holdfast
