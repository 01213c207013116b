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
namespace {

constexpr uint32_t kSave = 1u << 31;  // Of Set Features, cdw10.

// Bytes of a log page; 0: there is none of this name.
size_t LogPageSize(uint8_t page) {
  switch (static_cast<LogPage>(page)) {
    case LogPage::kErrors:
      return 64 * kErrorLogEntries;
    case LogPage::kSmart:
    case LogPage::kFirmware:
      return 512;
    case LogPage::kChangedNamespaces:
      return 4096;
  }
  return 0;
}

void FillLogPage(uint8_t page, const Traffic& traffic,
                 absl::Span<uint8_t> bytes) {
  if (static_cast<LogPage>(page) == LogPage::kSmart) {
    const uint16_t kelvin = 300;
    std::memcpy(bytes.data() + 1, &kelvin, sizeof(kelvin));
    bytes[3] = 100;  // Spare: percent, and the threshold below.
    bytes[4] = 10;
    const auto put = [bytes](size_t at, uint64_t value) {
      std::memcpy(bytes.data() + at, &value, sizeof(value));
    };
    // Thousands of sectors, rounded up.
    put(32, (traffic.sectors_read + 999) / 1000);
    put(48, (traffic.sectors_written + 999) / 1000);
    put(64, traffic.reads);
    put(80, traffic.writes);
    put(112, 1);  // The guest's: a segment is made for one power cycle.
  } else if (static_cast<LogPage>(page) == LogPage::kFirmware) {
    bytes[0] = 1;  // The active slot.
    std::memcpy(bytes.data() + 8, "1.0     ", 8);
  }
}

}  // namespace

absl::Status PciNvme::ServeAdmin(PciContext& context) {
  RETURN_IF_ERROR(Settle(context));
  Submission& sq = sqs_[0];
  if (!sq.live) return absl::OkStatus();
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
  if (!done && taken.crashes >= kCrashesOfPoison) {
    RETURN_IF_ERROR(ReportPoison(0, taken, context));
    outcome = {Status::kPoison};
  } else if (!done) {
    Executing::Scope executing(executing_[0], {0, slot});
    ASSIGN_OR_RETURN(outcome, Execute(command, counter, context));
  }
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
      // Commands are executed as they come: none is left to be aborted.
      return Outcome{Status::kSuccess, 1};
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
  IdentifyPage page;
  const auto cns = static_cast<uint8_t>(command.cdw10);
  const Status status = Identify(identity_, cns, command.nsid, &page);
  if (status != Status::kSuccess) return {status};
  return {SendToGuest(command, page, dma)};
}

Traffic PciNvme::AllTraffic() {
  Traffic sum;
  for (uint16_t i = 1; i <= io_queues_; ++i) {
    std::lock_guard<std::mutex> lock(cqs_[i].mutex);
    const Traffic one = CompletionQueue::TrafficIn(cqs_[i].area);
    sum.reads += one.reads;
    sum.writes += one.writes;
    sum.sectors_read += one.sectors_read;
    sum.sectors_written += one.sectors_written;
  }
  return sum;
}

absl::StatusOr<PciNvme::Outcome> PciNvme::GetLogPage(const Command& command,
                                                     uint64_t counter,
                                                     PciContext& context) {
  const auto page = static_cast<uint8_t>(command.cdw10);
  const bool retain = (command.cdw10 & 1u << 15) != 0;
  const uint64_t size =
      ((uint64_t{command.cdw11 & 0xffff} << 16 | command.cdw10 >> 16) + 1) * 4;
  const uint64_t offset = uint64_t{command.cdw13} << 32 | command.cdw12;
  const size_t whole = LogPageSize(page);
  if (whole == 0) return Outcome{Status::kInvalidLogPage};
  if (offset % 4 != 0 || offset > whole) return Outcome{Status::kInvalidField};
  if (command.nsid > identity_.namespaces.size() &&
      command.nsid != kAllNamespaces) {
    return Outcome{Status::kInvalidNamespace};
  }
  std::array<uint8_t, 4096> bytes = {};
  FillLogPage(page, AllTraffic(), absl::MakeSpan(bytes));
  const absl::Span<const uint8_t> part =
      absl::MakeConstSpan(bytes).subspan(offset, whole - offset);
  const Status sent =
      SendToGuest(command, part.subspan(0, size), context.dma());
  if (sent != Status::kSuccess || retain) return Outcome{sent};
  return Once(counter, {}, context, [&](PciTxn& txn) {
    txn.Set(state_.events, AfterLogPage(txn.Get(state_.events), page));
  });
}

absl::StatusOr<PciNvme::Outcome> PciNvme::GetFeatures(const Command& command,
                                                      PciContext& context) {
  const auto feature = static_cast<Feature>(command.cdw10 & 0xff);
  const uint32_t select = command.cdw10 >> 8 & 7;
  if (CheckFeature(feature, command.cdw11) == Status::kInvalidField) {
    return Outcome{Status::kInvalidField};
  }
  constexpr uint32_t kDefault = 1;
  constexpr uint32_t kSaved = 2;
  constexpr uint32_t kSupported = 3;
  if (select > kSupported) return Outcome{Status::kInvalidField};
  if (select == kSupported) return Outcome{Status::kSuccess, 1u << 2};
  if (feature == Feature::kQueues) {
    return Outcome{Status::kSuccess, (io_queues_ - 1u) * 0x10001u};
  }
  if (feature == Feature::kInterruptVector) {
    // Never coalesced.
    return Outcome{Status::kSuccess, (command.cdw11 & 0xffff) | 1u << 16};
  }
  FeatureValues values = DefaultFeatures();
  if (select != kDefault && select != kSaved) {
    RETURN_IF_ERROR(context.Update([&](PciTxn& txn) {
      values = txn.Get(state_.features);
      return absl::OkStatus();
    }));
  }
  // The threshold that is asked for: only the one of the whole, from above.
  if (feature == Feature::kTemperatureThreshold &&
      (command.cdw11 & 0x3f0000) != 0) {
    return Outcome{Status::kSuccess, 0};
  }
  return Outcome{Status::kSuccess, values[static_cast<size_t>(feature)]};
}

// kInvalidField: there is no such feature, or not this value of it.
Status PciNvme::CheckFeature(Feature feature, uint32_t value) const {
  switch (feature) {
    case Feature::kArbitration:
    case Feature::kTemperatureThreshold:
    case Feature::kErrorRecovery:
    case Feature::kWriteCache:
    case Feature::kQueues:
    case Feature::kInterruptCoalescing:
    case Feature::kPowerManagement:
    case Feature::kWriteAtomicity:
    case Feature::kAsyncEvents:
      return Status::kSuccess;
    case Feature::kInterruptVector:
      return (value & 0xffff) <= io_queues_ ? Status::kSuccess
                                            : Status::kInvalidField;
  }
  return Status::kInvalidField;
}

absl::StatusOr<PciNvme::Outcome> PciNvme::SetFeatures(const Command& command,
                                                      uint64_t counter,
                                                      PciContext& context) {
  const auto feature = static_cast<Feature>(command.cdw10 & 0xff);
  const uint32_t value = command.cdw11;
  const Status status = CheckFeature(feature, value);
  if (status != Status::kSuccess) return Outcome{status};
  if ((command.cdw10 & kSave) != 0) return Outcome{Status::kFeatureNotSaveable};
  if (feature == Feature::kQueues) {
    const auto lives = [](const auto& queue) { return queue.live; };
    if (std::any_of(sqs_.begin() + 1, sqs_.end(), lives) ||
        std::any_of(cqs_.begin() + 1, cqs_.end(), lives)) {
      return Outcome{Status::kCommandSequence};
    }
    if ((value & 0xffff) == 0xffff || value >> 16 == 0xffff) {
      return Outcome{Status::kInvalidField};
    }
    return Outcome{Status::kSuccess, (io_queues_ - 1u) * 0x10001u};
  }
  // The only power state there is.
  if (feature == Feature::kPowerManagement && (value & 0x1f) != 0) {
    return Outcome{Status::kInvalidField};
  }
  if (feature == Feature::kInterruptVector ||
      (feature == Feature::kTemperatureThreshold && (value & 0x3f0000) != 0)) {
    return Outcome{};
  }
  if (feature == Feature::kWriteCache) {
    // What was completed so far is durable before the promise is made.
    // No command is between its write and its completion then.
    Gate::Alone alone(gate_);
    if ((value & 1) == 0) {
      const Status flushed = FlushAll();
      if (flushed != Status::kSuccess) return Outcome{flushed};
    }
    write_through_.store((value & 1) == 0);
  }
  return Once(counter, {}, context, [&](PciTxn& txn) {
    FeatureValues values = txn.Get(state_.features);
    values[static_cast<size_t>(feature)] = value;
    txn.Set(state_.features, values);
  });
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
