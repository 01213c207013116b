// The admin command set (section 5). Whatever changes the controller is one
// transaction with the answer, so that a successor answers and does it no
// second time; data goes to the guest before it.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/status_macros.h"
#include "devices/pci_nvme/events.h"
#include "devices/pci_nvme/pci_nvme.h"
#include "devices/pci_nvme/registers.h"

namespace holdfast::nvme {

absl::Status PciNvme::ServeAdmin(PciContext& context) {
  RETURN_IF_ERROR(EnsureAttached(context));
  RETURN_IF_ERROR(Settle(context));
  Submission& sq = sqs_[0];
  if (!sq.live) return absl::OkStatus();
  RETURN_IF_ERROR(TellOfSizes(context));
  for (;;) {
    std::optional<Taken> taken;
    absl::Status status = Next(sq, context, &taken);
    if (status.ok() && !taken.has_value()) break;
    if (status.ok()) status = ServeAdminCommand(*taken, context);
    if (!status.ok()) return Fail(context);
  }
  return DeliverEvents(context);
}

absl::Status PciNvme::ServeAdminCommand(const Taken& taken,
                                        PciContext& context) {
  const size_t slot = taken.slot;
  const Command command = sqs_[0].queue.command(slot);
  const uint64_t counter = sqs_[0].queue.counter(slot);
  Outcome outcome;
  bool done = false;
  RETURN_IF_ERROR(context.Update([&](PciTxn& txn) {
    done = txn.Get(state_.done_counter) == counter;
    outcome = {txn.Get(state_.done_status), txn.Get(state_.done_result)};
    return absl::OkStatus();
  }));
  if (!done && sqs_[0].queue.IsAborted(slot)) {
    outcome = {Status::kAborted};
  } else if (!done && taken.crashes >= kCrashesOfPoison) {
    RETURN_IF_ERROR(ReportPoison(0, taken, context));
    outcome = {Status::kPoison};
  } else if (!done) {
    Executing::Scope executing(executing_[0], {0, slot});
    ASSIGN_OR_RETURN(outcome, Execute(command, counter, context));
  }
  RecordError(0, command, counter, outcome.status);
  if (outcome.parked) {
    // It takes no room until there is something to say.
    Unreserve(cqs_[0]);
    parked_.push_back(slot);
    return absl::OkStatus();
  }
  return Complete(0, slot, outcome.status, outcome.result, context);
}

absl::StatusOr<PciNvme::Outcome> PciNvme::Execute(const Command& command,
                                                  uint64_t counter,
                                                  PciContext& context) {
  // Neither fused operations nor scatter gather lists.
  if ((command.flags & 0xc3) != 0) return Outcome{Status::kInvalidField};
  switch (static_cast<AdminOpcode>(command.opcode)) {
    case AdminOpcode::kIdentify:
      return DoIdentify(command, context.dma());
    case AdminOpcode::kGetLogPage:
      return GetLogPage(command, counter, context);
    case AdminOpcode::kGetFeatures:
      return GetFeatures(command, context);
    case AdminOpcode::kSetFeatures:
      return SetFeatures(command, counter, context);
    case AdminOpcode::kCreateSq:
      return CreateSq(command, counter, context);
    case AdminOpcode::kCreateCq:
      return CreateCq(command, counter, context);
    case AdminOpcode::kDeleteSq:
    case AdminOpcode::kDeleteCq:
      return DeleteQueue(command, counter, context);
    case AdminOpcode::kDoorbellBuffers:
      return SetDoorbellBuffers(command, context);
    case AdminOpcode::kAbort:
      return Abort(command, counter, context);
    case AdminOpcode::kAsyncEvent:
      if (parked_.size() >= kAsyncEventLimit) {
        return Outcome{Status::kAsyncEventLimit};
      }
      return Outcome{Status::kSuccess, 0, /*parked=*/true};
  }
  return Outcome{Status::kInvalidOpcode};
}

absl::StatusOr<PciNvme::Outcome> PciNvme::Once(
    uint64_t counter, Outcome outcome, PciContext& context,
    absl::FunctionRef<void(PciTxn&)> change) {
  RETURN_IF_ERROR(context.Update([&](PciTxn& txn) {
    change(txn);
    txn.Set(state_.done_counter, counter);
    txn.Set(state_.done_result, outcome.result);
    txn.Set(state_.done_status, outcome.status);
    return absl::OkStatus();
  }));
  return outcome;
}

Status PciNvme::SendToGuest(const Command& command,
                            absl::Span<const uint8_t> bytes, Dma& dma) {
  const Status walked =
      admin_prp_.Walk(command.prp1, command.prp2, bytes.size(), dma);
  if (walked != Status::kSuccess) return walked;
  for (const DmaRange& range : admin_prp_.ranges()) {
    if (!dma.Write(range.address, bytes.subspan(0, range.size)).ok()) {
      return Status::kDataTransferError;
    }
    bytes.remove_prefix(range.size);
  }
  return Status::kSuccess;
}

PciNvme::Outcome PciNvme::DoIdentify(const Command& command, Dma& dma) {
  for (size_t i = 0; i < disks_.size(); ++i) {
    identity_.namespaces[i].blocks = disks_[i]->blocks();
  }
  IdentifyPage page;
  const auto cns = static_cast<uint8_t>(command.cdw10);
  const Status status = Identify(identity_, cns, command.nsid, &page);
  if (status != Status::kSuccess) return {status};
  return {SendToGuest(command, page, dma)};
}

// What queues of both kinds have in common: they are contiguous, begin with a
// page, and are not too large.
Status PciNvme::CheckNewQueue(const Command& command) const {
  const uint32_t size = (command.cdw10 >> 16) + 1;
  if (size < 2 || size > max_queue_size_) return Status::kInvalidQueueSize;
  if (command.prp1 % kPageSize != 0) return Status::kInvalidPrpOffset;
  return (command.cdw11 & 1) != 0 ? Status::kSuccess : Status::kInvalidField;
}

// Lets the queue whose area was made live.
absl::StatusOr<PciNvme::Outcome> PciNvme::Begin(const Cell<Lives>& cell,
                                                uint16_t id, uint32_t life,
                                                uint64_t counter,
                                                PciContext& context) {
  return Once(counter, {}, context, [&](PciTxn& txn) {
    Lives lives = txn.Get(cell);
    lives[id] = life;
    txn.Set(cell, lives);
    txn.Set(state_.generation, life);
  });
}

absl::StatusOr<PciNvme::Outcome> PciNvme::CreateCq(const Command& command,
                                                   uint64_t counter,
                                                   PciContext& context) {
  const auto id = static_cast<uint16_t>(command.cdw10);
  const auto vector = static_cast<uint16_t>(command.cdw11 >> 16);
  const bool interrupts = (command.cdw11 & 2) != 0;
  if (id == 0 || id > io_queues_ || cqs_[id].live) {
    return Outcome{Status::kInvalidQueueId};
  }
  if (interrupts && vector > io_queues_) return Outcome{Status::kInvalidVector};
  const Status status = CheckNewQueue(command);
  if (status != Status::kSuccess) return Outcome{status};
  Gate::Alone alone(gate_);
  ASSIGN_OR_RETURN(const uint32_t life, NextLife(context));
  cqs_[id].queue.Format(
      life, {command.prp1, (command.cdw10 >> 16) + 1, vector, interrupts});
  ASSIGN_OR_RETURN(const Outcome outcome,
                   Begin(state_.cq_lives, id, life, counter, context));
  cqs_[id].live = cqs_[id].queue.Attach(life);
  cqs_[id].reserved = 0;
  return outcome;
}

absl::StatusOr<PciNvme::Outcome> PciNvme::CreateSq(const Command& command,
                                                   uint64_t counter,
                                                   PciContext& context) {
  const auto id = static_cast<uint16_t>(command.cdw10);
  const auto cq = static_cast<uint16_t>(command.cdw11 >> 16);
  if (cq == 0 || cq > io_queues_ || !cqs_[cq].live) {
    return Outcome{Status::kInvalidCq};
  }
  if (id == 0 || id > io_queues_ || sqs_[id].live) {
    return Outcome{Status::kInvalidQueueId};
  }
  const Status status = CheckNewQueue(command);
  if (status != Status::kSuccess) return Outcome{status};
  Gate::Alone alone(gate_);
  ASSIGN_OR_RETURN(const uint32_t life, NextLife(context));
  sqs_[id].queue.Format(life, {command.prp1, (command.cdw10 >> 16) + 1, cq,
                               identity_.fingerprint()});
  ASSIGN_OR_RETURN(const Outcome outcome,
                   Begin(state_.sq_lives, id, life, counter, context));
  sqs_[id].live = sqs_[id].queue.Attach(life);
  return outcome;
}

Status PciNvme::CheckDeletion(bool submission, uint16_t id) const {
  if (id == 0 || id > io_queues_) return Status::kInvalidQueueId;
  if (submission) {
    return sqs_[id].live ? Status::kSuccess : Status::kInvalidQueueId;
  }
  if (!cqs_[id].live) return Status::kInvalidQueueId;
  for (const Submission& sq : sqs_) {
    if (sq.live && sq.queue.config().cq == id) {
      return Status::kInvalidQueueDeletion;
    }
  }
  return Status::kSuccess;
}

// What the queue has taken is completed by then; what it has not is completed
// by the deletion (section 5.6).
absl::StatusOr<PciNvme::Outcome> PciNvme::DeleteQueue(const Command& command,
                                                      uint64_t counter,
                                                      PciContext& context) {
  const bool submission =
      static_cast<AdminOpcode>(command.opcode) == AdminOpcode::kDeleteSq;
  const auto id = static_cast<uint16_t>(command.cdw10);
  const Status status = CheckDeletion(submission, id);
  if (status != Status::kSuccess) return Outcome{status};
  Gate::Alone alone(gate_);
  RETURN_IF_ERROR(context.dma().AwaitForgotten());
  ASSIGN_OR_RETURN(
      const Outcome outcome, Once(counter, {}, context, [&](PciTxn& txn) {
        const auto& cell = submission ? state_.sq_lives : state_.cq_lives;
        Lives lives = txn.Get(cell);
        lives[id] = 0;
        txn.Set(cell, lives);
        if (!txn.UsesMessages()) txn.SetIntx(IntxLevel(txn));
      }));
  if (submission) {
    // What a predecessor had taken and this process has not begun.
    CompletionSide& cq = cqs_[sqs_[id].queue.config().cq];
    std::lock_guard<std::mutex> lock(cq.mutex);
    const auto left = static_cast<uint32_t>(sqs_[id].queue.in_flight());
    cq.reserved -= std::min(cq.reserved, left);
    sqs_[id].live = false;
  } else {
    cqs_[id].live = false;
  }
  return outcome;
}

// Commands are executed as they come, so only an event request that waits is
// left to be aborted. The mark comes first: a successor that finds it aborts
// the request, which is older, and then says so here.
absl::StatusOr<PciNvme::Outcome> PciNvme::Abort(const Command& command,
                                                uint64_t counter,
                                                PciContext& context) {
  constexpr uint32_t kNotAborted = 1;
  const auto sq_id = static_cast<uint16_t>(command.cdw10);
  const auto cid = static_cast<uint16_t>(command.cdw10 >> 16);
  SubmissionQueue& queue = sqs_[0].queue;
  if (sq_id != 0) return Outcome{Status::kSuccess, kNotAborted};
  if (queue.HasAborted(counter)) return Outcome{};
  const auto waits = [&queue, cid](size_t slot) {
    return queue.command(slot).cid == cid;
  };
  const auto found = std::find_if(parked_.begin(), parked_.end(), waits);
  if (found == parked_.end() || !Reserve(cqs_[0])) {
    return Outcome{Status::kSuccess, kNotAborted};
  }
  const size_t slot = *found;
  parked_.erase(found);
  queue.MarkAborted(slot, counter);
  RETURN_IF_ERROR(Complete(0, slot, Status::kAborted, 0, context));
  return Outcome{};
}

absl::Status PciNvme::DeliverEvents(PciContext& context) {
  while (!parked_.empty()) {
    if (!ReserveOrStall(sqs_[0], context)) return absl::OkStatus();
    const size_t slot = parked_.front();
    uint32_t event = 0;
    RETURN_IF_ERROR(context.Update([&](PciTxn& txn) {
      const uint32_t events = txn.Get(state_.events);
      event = NextEvent(events);
      if (event == 0) return absl::OkStatus();
      txn.Set(state_.events, AfterReport(events, event));
      txn.Set(state_.done_counter, sqs_[0].queue.counter(slot));
      txn.Set(state_.done_result, EventResult(event));
      txn.Set(state_.done_status, Status::kSuccess);
      return absl::OkStatus();
    }));
    if (event == 0) {
      Unreserve(cqs_[0]);
      return absl::OkStatus();
    }
    parked_.erase(parked_.begin());
    const absl::Status completed =
        Complete(0, slot, Status::kSuccess, EventResult(event), context);
    if (!completed.ok()) return Fail(context);
  }
  return absl::OkStatus();
}

}  // namespace holdfast::nvme
