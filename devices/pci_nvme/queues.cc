// Queues: taking them over, fetching, completing, interrupts. The orders that
// make a completion come once are in submission_queue.h and completion_queue.h.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/log.h"
#include "base/shared_access.h"
#include "base/status_macros.h"
#include "devices/pci_nvme/events.h"
#include "devices/pci_nvme/pci_nvme.h"

namespace holdfast::nvme {
namespace {

uint64_t Now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The guest looks at the last four bytes, which hold the phase, first.
absl::Status WriteCompletion(Dma& dma, uint64_t address,
                             const Completion& completion) {
  constexpr size_t kLast = sizeof(completion) - sizeof(uint32_t);
  uint8_t bytes[sizeof(completion)];
  std::memcpy(bytes, &completion, sizeof(bytes));
  uint32_t last;
  std::memcpy(&last, bytes + kLast, sizeof(last));
  const GuestAddress to{address};
  const absl::StatusOr<DmaMapping> mapping =
      dma.Map(to, sizeof(bytes), DmaAccess::kWrite);
  if (absl::IsFailedPrecondition(mapping.status())) {
    RETURN_IF_ERROR(dma.Write(to, {bytes, kLast}));
    return dma.Write(GuestAddress{address + kLast},
                     {bytes + kLast, sizeof(last)});
  }
  RETURN_IF_ERROR(mapping.status());
  // A queue begins with a page, so entries are aligned.
  uint8_t* const at = mapping->bytes().data();
  SharedAccess::Copy(at, bytes, kLast);
  SharedAccess::StoreRelease(reinterpret_cast<uint32_t*>(at + kLast), last);
  dma.Written(to, sizeof(bytes));
  return absl::OkStatus();
}

}  // namespace

// Never beside work 0, which uses the admin queue without passing the gate:
// therefore it is work 0 that does this.
absl::Status PciNvme::EnsureAttached(PciContext& context) {
  if (attached_.load()) return absl::OkStatus();
  Gate::Alone alone(gate_);
  return Attach(context);
}

void PciNvme::DropQueues() {
  for (Submission& sq : sqs_) sq.live = false;
  for (CompletionSide& cq : cqs_) cq.live = false;
  shadows_.store(0);
  parked_.clear();
}

// Alone.
absl::Status PciNvme::Attach(PciContext& context) {
  Lives sq = {};
  Lives cq = {};
  FeatureValues features = {};
  // Before looking, so that a reset in the middle is not overlooked.
  attached_.store(true);
  DropQueues();
  const absl::Status read = context.Update([&](PciTxn& txn) {
    features = txn.Get(state_.features);
    if (txn.Get(state_.phase) != Phase::kEnabled) return absl::OkStatus();
    sq = txn.Get(state_.sq_lives);
    cq = txn.Get(state_.cq_lives);
    return absl::OkStatus();
  });
  if (!read.ok()) {
    attached_.store(false);
    return read;
  }
  write_through_.store(
      (features[static_cast<size_t>(Feature::kWriteCache)] & 1) == 0);
  return AttachQueues(sq, cq, context);
}

// Completions that were begun are ended before anything is executed again.
absl::Status PciNvme::AttachQueues(const Lives& sq, const Lives& cq,
                                   PciContext& context) {
  for (uint16_t i = 0; i <= io_queues_; ++i) {
    sqs_[i].live = sq[i] != 0 && sqs_[i].queue.Attach(sq[i]);
    cqs_[i].live = cq[i] != 0 && cqs_[i].queue.Attach(cq[i]);
    cqs_[i].reserved = 0;
    if (sqs_[i].live != (sq[i] != 0) || cqs_[i].live != (cq[i] != 0)) {
      LogError("NVMe: queue ", i, " is damaged in the segment: giving up");
      return Fail(context);
    }
  }
  // Its driver has asked once, and believes the answer until it resets.
  if (sqs_[0].live && sqs_[0].queue.config().identity != 0 &&
      sqs_[0].queue.config().identity != identity_.fingerprint()) {
    LogError(
        "NVMe: this is not the controller that the guest knows: other "
        "namespaces, serial number or model; it has to reset it");
    DropQueues();
    return Fail(context);
  }
  if (sqs_[0].live) {
    events_.store(sqs_[0].queue.events());
    shadows_.store(sqs_[0].queue.shadows());
  }
  Dma& dma = context.dma();
  for (uint16_t i = 0; i <= io_queues_; ++i) {
    if (!cqs_[i].live) continue;
    const absl::Status resolved = cqs_[i].queue.Resolve(
        [&dma](uint64_t address, const Completion& completion) {
          return WriteCompletion(dma, address, completion);
        },
        [this](const CompletionRecord& record) {
          const uint16_t id = record.completion.sq_id;
          if (id > io_queues_ || !sqs_[id].live) return;
          sqs_[id].queue.Clear(record.slot, record.counter);
        });
    if (!resolved.ok()) return Fail(context);
  }
  uint64_t live = 0;
  for (uint16_t i = 0; i <= io_queues_; ++i) {
    if (!sqs_[i].live) continue;
    live |= uint64_t{1} << i;
    cqs_[sqs_[i].queue.config().cq].reserved +=
        static_cast<uint32_t>(sqs_[i].queue.in_flight());
  }
  // Of what was posted nobody knows whether the guest was told.
  for (uint16_t i = 0; i <= io_queues_; ++i) {
    if (!cqs_[i].live || !cqs_[i].queue.HasUnseen()) continue;
    RETURN_IF_ERROR(Interrupt(cqs_[i], context));
  }
  // Also those without an order: a helper may have left a command.
  context.CallAll(live & ~uint64_t{1});
  return absl::OkStatus();
}

bool PciNvme::Reserve(CompletionSide& cq) {
  std::lock_guard<std::mutex> lock(cq.mutex);
  if (cq.queue.Room() <= cq.reserved) return false;
  ++cq.reserved;
  return true;
}

// False: the queue is served again when the guest has made room.
bool PciNvme::ReserveOrStall(Submission& sq, PciContext& context) {
  CompletionSide& cq = cqs_[sq.queue.config().cq];
  if (Reserve(cq)) return true;
  sq.queue.Stall();
  if (!Reserve(cq) && (!FindHead(cq, context) || !Reserve(cq))) return false;
  sq.queue.Unstall();
  return true;
}

void PciNvme::Unreserve(CompletionSide& cq) {
  std::lock_guard<std::mutex> lock(cq.mutex);
  if (cq.reserved > 0) --cq.reserved;
}

absl::Status PciNvme::Next(Submission& sq, PciContext& context,
                           std::optional<Taken>* taken) {
  std::lock_guard<std::mutex> lock(sq.mutex);
  sq.queue.Unstall();
  std::optional<size_t> slot = sq.queue.TakeLeft();
  if (!slot.has_value()) {
    if (!sq.queue.HasRoom()) return absl::OkStatus();
    if (!sq.queue.HasNew() && !FindTail(sq, context)) return absl::OkStatus();
    if (!ReserveOrStall(sq, context)) return absl::OkStatus();
    Command command;
    RETURN_IF_ERROR(context.dma().Read(
        GuestAddress{sq.queue.next_address()},
        {reinterpret_cast<uint8_t*>(&command), sizeof(command)}));
    slot = sq.queue.Fetch(command);
  }
  *taken = {*slot, sq.queue.HasMore(), sq.queue.crashes(*slot)};
  return absl::OkStatus();
}

absl::Status PciNvme::Complete(uint16_t sq_id, size_t slot, Status status,
                               uint32_t result, PciContext& context,
                               uint32_t traffic) {
  SubmissionQueue& sq = sqs_[sq_id].queue;
  CompletionSide& cq = cqs_[sq.config().cq];
  std::lock_guard<std::mutex> sq_lock(sqs_[sq_id].mutex);
  Completion completion = {};
  completion.result = result;
  completion.sq_head = sq.head();
  completion.sq_id = sq_id;
  completion.cid = sq.command(slot).cid;
  completion.status = StatusField(status);
  Dma& dma = context.dma();
  {
    std::lock_guard<std::mutex> lock(cq.mutex);
    RETURN_IF_ERROR(cq.queue.Post(
        completion, sq.counter(slot), slot, traffic,
        [&dma](uint64_t address, const Completion& entry) {
          return WriteCompletion(dma, address, entry);
        },
        [&sq](const CompletionRecord& record) {
          sq.Clear(record.slot, record.counter);
        }));
    if (cq.reserved > 0) --cq.reserved;
  }
  return Interrupt(cq, context);
}

absl::Status PciNvme::Interrupt(CompletionSide& cq, PciContext& context) {
  const CompletionConfig& config = cq.queue.config();
  if (!config.interrupts || context.SignalMsix(config.vector)) {
    return absl::OkStatus();
  }
  // A level falls when the guest says that it has seen all.
  FindHead(cq, context);
  return context.Update([&](PciTxn& txn) {
    if (txn.UsesMessages()) {
      txn.Interrupt(config.vector);
    } else {
      txn.SetIntx(IntxLevel(txn));
    }
    return absl::OkStatus();
  });
}

absl::Status PciNvme::ServeIo(uint16_t queue, uint32_t work,
                              PciContext& context) {
  Gate::Shared shared(gate_);
  Submission& sq = sqs_[queue];
  // Others may delete it between two commands, and even make it anew.
  while (sq.live) {
    std::optional<Taken> taken;
    absl::Status status = Next(sq, context, &taken);
    if (status.ok() && !taken.has_value()) return absl::OkStatus();
    if (status.ok() && taken->more &&
        sq.service_time.load(std::memory_order_relaxed) > kWorthAHelper) {
      sq.wants_help.store(true);
      context.CallIn(helper_works_);
    }
    if (status.ok()) status = ServeIoCommand(queue, *taken, work, context);
    // The queues themselves are out of reach, unless the work was cut off.
    if (!status.ok()) return Fail(context);
    shared.Yield();
  }
  return absl::OkStatus();
}

absl::Status PciNvme::ServeIoCommand(uint16_t queue, const Taken& taken,
                                     uint32_t work, PciContext& context) {
  Submission& sq = sqs_[queue];
  const Command command = sq.queue.command(taken.slot);
  if (taken.crashes >= kCrashesOfPoison) {
    RETURN_IF_ERROR(ReportPoison(queue, taken, context));
    RecordError(queue, command, sq.queue.counter(taken.slot), Status::kPoison);
    return Complete(queue, taken.slot, Status::kPoison, 0, context);
  }
  const uint64_t begin = Now();
  Status executed;
  {
    Executing::Scope executing(executing_[work], {queue, taken.slot});
    executed = ExecuteIo(command, *scratch_[work], context);
  }
  const uint64_t took = Now() - begin;
  // One that is slow alone was interrupted, or met a lock.
  const uint64_t last = sq.last_took.exchange(took, std::memory_order_relaxed);
  const uint64_t before = sq.service_time.load(std::memory_order_relaxed);
  sq.service_time.store(std::max(std::min(took, last), before - before / 16),
                        std::memory_order_relaxed);
  if (executed != Status::kSuccess) {
    RecordError(queue, command, sq.queue.counter(taken.slot), executed);
  }
  const uint32_t traffic =
      executed == Status::kSuccess ? TrafficOf(command) : 0;
  return Complete(queue, taken.slot, executed, 0, context, traffic);
}

// Of a command that was executed, so what it says is so.
uint32_t PciNvme::TrafficOf(const Command& command) const {
  if (command.nsid == 0 || command.nsid > disks_.size()) return 0;
  const uint64_t bytes = (uint64_t{command.cdw12 & 0xffff} + 1)
                         << disks_[command.nsid - 1]->block_shift();
  switch (static_cast<IoOpcode>(command.opcode)) {
    case IoOpcode::kRead:
    case IoOpcode::kCompare:
      return Traffic::OfRead(bytes);
    case IoOpcode::kWrite:
      return Traffic::OfWrite(bytes);
    default:
      return 0;
  }
}

// Before it is answered: perhaps twice, if this process dies in between.
absl::Status PciNvme::ReportPoison(uint16_t queue, const Taken& taken,
                                   PciContext& context) {
  LogError("NVMe: command ", sqs_[queue].queue.command(taken.slot).cid,
           " of queue ", queue, " has crashed ", taken.crashes,
           " processes and is answered with an error");
  return context.Update([this](PciTxn& txn) {
    RaiseEvent(kTransientError, txn);
    return absl::OkStatus();
  });
}

void PciNvme::OnCrash(uint32_t work) {
  if (work >= executing_.size()) return;
  const std::optional<Executing::What> what = executing_[work].Get();
  if (what.has_value()) sqs_[what->queue].queue.Blame(what->slot);
}

Status PciNvme::ExecuteIo(const Command& command, Scratch& scratch,
                          PciContext& context) {
  const bool all = command.nsid == kAllNamespaces;
  if (!all && (command.nsid == 0 || command.nsid > disks_.size())) {
    return Status::kInvalidNamespace;
  }
  // Only a flush is for all; to others each of them says that there is no such
  // namespace.
  const size_t first = all ? 0 : command.nsid - 1;
  const size_t end = all ? disks_.size() : command.nsid;
  Status status = Status::kSuccess;
  for (size_t i = first; i < end && status == Status::kSuccess; ++i) {
    status = disks_[i]->Execute(command, write_through_.load(), context.dma(),
                                scratch);
  }
  return status;
}

Status PciNvme::FlushAll() {
  Status status = Status::kSuccess;
  for (const auto& disk : disks_) {
    const Status flushed = disk->Flush();
    if (status == Status::kSuccess) status = flushed;
  }
  return status;
}

absl::Status PciNvme::Help(uint32_t work, PciContext& context) {
  for (uint16_t i = 1; i <= io_queues_; ++i) {
    if (!sqs_[i].wants_help.exchange(false)) continue;
    RETURN_IF_ERROR(ServeIo(i, work, context));
  }
  return absl::OkStatus();
}

}  // namespace holdfast::nvme
