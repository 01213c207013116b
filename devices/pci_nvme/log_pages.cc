// Log pages (section 5.14), and what they tell of.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/status_macros.h"
#include "devices/pci_nvme/events.h"
#include "devices/pci_nvme/pci_nvme.h"

namespace holdfast::nvme {
namespace {

constexpr uint16_t kTemperature = 300;  // Kelvin, always.

// Bytes of a log page; 0: there is none of this name.
size_t LogPageSize(uint8_t page) {
  switch (static_cast<LogPage>(page)) {
    case LogPage::kErrors:
      return sizeof(ErrorLog::Page);
    case LogPage::kSmart:
    case LogPage::kFirmware:
      return 512;
    case LogPage::kChangedNamespaces:
      return 4096;
  }
  return 0;
}

template <typename T>
void Put(absl::Span<uint8_t> bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

}  // namespace

bool PciNvme::IsTooHotOrCold(const FeatureValues& features) {
  const auto over = static_cast<uint16_t>(
      features[static_cast<size_t>(Feature::kTemperatureThreshold)]);
  const auto under = static_cast<uint16_t>(features[kUnderTemperature]);
  return kTemperature >= over || kTemperature <= under;
}

void PciNvme::FillSmart(PciContext& context, absl::Span<uint8_t> bytes) {
  FeatureValues features = {};
  static_cast<void>(context.Update([&](PciTxn& txn) {
    features = txn.Get(state_.features);
    return absl::OkStatus();
  }));
  const Traffic traffic = AllTraffic();
  bytes[0] = IsTooHotOrCold(features) ? 1u << 1 : 0;
  Put(bytes, 1, kTemperature);
  bytes[3] = 100;  // Spare: percent, and the threshold below.
  bytes[4] = 10;
  // Thousands of sectors, rounded up.
  Put(bytes, 32, (traffic.sectors_read + 999) / 1000);
  Put(bytes, 48, (traffic.sectors_written + 999) / 1000);
  Put(bytes, 64, traffic.reads);
  Put(bytes, 80, traffic.writes);
  Put(bytes, 112, uint64_t{1});  // A segment is made for one power cycle.
  Put(bytes, 160, log_.media_errors());
  Put(bytes, 176, log_.errors());
}

void PciNvme::FillLogPage(uint8_t page, PciContext& context,
                          absl::Span<uint8_t> bytes) {
  switch (static_cast<LogPage>(page)) {
    case LogPage::kErrors: {
      const ErrorLog::Page errors = log_.page();
      std::memcpy(bytes.data(), errors.data(), sizeof(errors));
      return;
    }
    case LogPage::kSmart:
      return FillSmart(context, bytes);
    case LogPage::kFirmware:
      bytes[0] = 1;  // The active slot.
      std::memcpy(bytes.data() + 8, "1.0     ", 8);
      return;
    case LogPage::kChangedNamespaces: {
      size_t at = 0;
      for (uint32_t nsid = 1; nsid <= disks_.size(); ++nsid) {
        if ((log_.changed() >> (nsid - 1) & 1) == 0) continue;
        Put(bytes, at, nsid);
        at += sizeof(nsid);
      }
    }
  }
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
  FillLogPage(page, context, absl::MakeSpan(bytes));
  const absl::Span<const uint8_t> part =
      absl::MakeConstSpan(bytes).subspan(offset, whole - offset);
  const Status sent =
      SendToGuest(command, part.subspan(0, size), context.dma());
  if (sent != Status::kSuccess || retain) return Outcome{sent};
  const absl::StatusOr<Outcome> done =
      Once(counter, {}, context, [&](PciTxn& txn) {
        txn.Set(state_.events, AfterLogPage(txn.Get(state_.events), page));
      });
  // Perhaps not, if this process dies here: then the guest looks once too
  // often.
  if (done.ok() && static_cast<LogPage>(page) == LogPage::kChangedNamespaces) {
    log_.ForgetChanged();
  }
  return done;
}

// What the guest could have known (that a feature is not there) is no error of
// the controller's: drivers try what they find.
void PciNvme::RecordError(uint16_t queue, const Command& command,
                          uint64_t counter, Status status) {
  if (status == Status::kSuccess ||
      (queue == 0 && IsPermanent(status) && status != Status::kPoison)) {
    return;
  }
  ErrorEntry entry = {};
  entry.sq_id = queue;
  entry.cid = command.cid;
  entry.status = StatusField(status);
  entry.location = 0xffff;
  entry.nsid = command.nsid;
  if (queue != 0) entry.lba = uint64_t{command.cdw11} << 32 | command.cdw10;
  log_.Add(entry, {sqs_[queue].queue.life(), queue, counter},
           status == Status::kUnrecoveredRead || status == Status::kWriteFault);
}

// A driver that has asked before may believe another size.
absl::Status PciNvme::TellOfSizes(PciContext& context) {
  for (uint32_t nsid = 1; nsid <= disks_.size(); ++nsid) {
    const uint64_t blocks = disks_[nsid - 1]->blocks();
    if (!log_.Differs(nsid, blocks)) continue;
    RETURN_IF_ERROR(context.Update([this](PciTxn& txn) {
      RaiseEvent(kNamespaceChanged, txn);
      return absl::OkStatus();
    }));
    log_.Settle(nsid, blocks);
  }
  return absl::OkStatus();
}

}  // namespace holdfast::nvme
