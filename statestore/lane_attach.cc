// Taking over a section: format, validate, claim.

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/status_macros.h"
#include "statestore/lane.h"
#include "statestore/lane_journal.h"

namespace holdfast {
namespace {

constexpr size_t kHeaderCrcSpan = offsetof(LaneHeader, crc);

absl::Span<const uint8_t> BytesOf(const LaneHeader& header) {
  return {reinterpret_cast<const uint8_t*>(&header), sizeof(header)};
}

bool AllZero(absl::Span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](uint8_t byte) { return byte == 0; });
}

// The fixed part of the header, up to the commit word.
LaneHeader ExpectedHeader(const LaneSizes& sizes,
                          uint32_t version = kLaneVersion) {
  LaneHeader header{};
  header.magic = kLaneMagic;
  header.version = version;
  header.bank_size = sizes.bank;
  header.max_message = sizes.max_message;
  header.max_reply = sizes.max_reply;
  header.section_size = LaneSize(sizes);
  header.crc = Crc32c(BytesOf(header).first(kHeaderCrcSpan));
  return header;
}

}  // namespace

absl::StatusOr<Lane> Lane::Attach(absl::Span<uint8_t> section, LaneSizes sizes,
                                  uint64_t epoch) {
  if (sizes.bank > kLaneMaxBytes ||
      sizes.max_message > kLaneMaxBytes - kLaneMaxUnread ||
      sizes.max_reply > kLaneMaxBytes) {
    return absl::InvalidArgumentError("lane: a size is too large");
  }
  if (reinterpret_cast<uintptr_t>(section.data()) % kLaneAlignment != 0 ||
      section.size() != LaneSize(sizes)) {
    return absl::InvalidArgumentError("lane: wrong section");
  }
  Lane lane(section, sizes, static_cast<uint32_t>(epoch));
  if (__atomic_load_n(&lane.header().commit, __ATOMIC_ACQUIRE) == 0) {
    RETURN_IF_ERROR(lane.Format());
  }
  RETURN_IF_ERROR(lane.Validate());
  RETURN_IF_ERROR(lane.ClaimEpoch());
  return lane;
}

// Makes a section of zeros a lane; the commit word comes last. A crash on the
// way leaves zeros and values that are written here again.
absl::Status Lane::Format() {
  LaneHeader& header = this->header();
  const LaneHeader expected = ExpectedHeader(sizes_);
  if (!AllZero(Bank(0)) || !AllZero(Bank(1)) ||
      header.records[0].sequence != 0 || header.records[1].sequence != 0 ||
      (header.magic != 0 && header.magic != expected.magic)) {
    return absl::DataLossError("lane: neither formatted nor empty");
  }
  __atomic_store_n(&header.magic, expected.magic, __ATOMIC_RELAXED);
  std::memcpy(&header.version, &expected.version,
              offsetof(LaneHeader, commit) - offsetof(LaneHeader, version));
  header.records[0] = LaneRecord{};
  header.records[0].crc = LaneSum(header.records[0], Bank(0));
  ArmRx(header.rx[0]);
  ArmEntries(header.tx[0].entries);
  LaneWord first;
  first.epoch = epoch_;
  __atomic_store_n(&header.commit, PackLaneWord(first), __ATOMIC_SEQ_CST);
  return absl::OkStatus();
}

// A header of version 1 becomes one of version 2 by two stores. Cut between
// them it is version 2 with the old sum.
absl::Status Lane::ValidateHeader() {
  LaneHeader& header = this->header();
  const LaneHeader expected = ExpectedHeader(sizes_);
  const LaneHeader before = ExpectedHeader(sizes_, kLaneVersionConsuming);
  if (std::memcmp(&header, &expected, kHeaderCrcSpan) == 0 &&
      header.crc == before.crc) {
    RaiseVersion();
  }
  if (header.magic != kLaneMagic ||
      header.crc != Crc32c(BytesOf(header).first(kHeaderCrcSpan))) {
    return absl::DataLossError("lane: header damaged");
  }
  ahead_ = std::memcmp(&header, &before, kHeaderCrcSpan) != 0;
  if (ahead_ && std::memcmp(&header, &expected, kHeaderCrcSpan) != 0) {
    return absl::FailedPreconditionError(
        "lane: made with other sizes, or by a later version");
  }
  return absl::OkStatus();
}

void Lane::RaiseVersion() {
  const LaneHeader expected = ExpectedHeader(sizes_);
  StoreWord(header().version, expected.version);
  StoreWord(header().crc, expected.crc);
  ahead_ = true;
}

absl::Status Lane::Validate() {
  RETURN_IF_ERROR(ValidateHeader());
  const LaneHeader& header = this->header();
  const uint64_t bits = __atomic_load_n(&header.commit, __ATOMIC_ACQUIRE);
  word_ = UnpackLaneWord(bits);
  const LaneWord& word = word_;
  if (PackLaneWord(word) != bits) {
    return absl::DataLossError("lane: commit word damaged");
  }
  if (word.epoch > epoch_) {
    return absl::FailedPreconditionError("lane: a later epoch owns it");
  }
  const LaneRecord& record = header.records[word.bank];
  if (record.crc != LaneSum(record, Bank(word.bank))) {
    return absl::DataLossError("lane: bank damaged");
  }
  const LaneRxSet& set = header.rx[word.rx];
  if (record.reply_size > sizes_.max_reply || set.fd_count > kLaneMaxFds ||
      set.admitted > sizes_.max_message ||
      UnreadOf(record) > (ahead_ ? kLaneMaxUnread : 0)) {
    return absl::DataLossError("lane: journal damaged");
  }
  if (word.replying) RETURN_IF_ERROR(TallyTx().status());
  return TallyRx().status();
}

// From here on commits of earlier epochs fail.
absl::Status Lane::ClaimEpoch() {
  uint64_t bits = __atomic_load_n(&header().commit, __ATOMIC_ACQUIRE);
  word_ = UnpackLaneWord(bits);
  word_.epoch = epoch_;
  if (!__atomic_compare_exchange_n(&header().commit, &bits, PackLaneWord(word_),
                                   /*weak=*/false, __ATOMIC_SEQ_CST,
                                   __ATOMIC_SEQ_CST)) {
    return absl::AbortedError("lane: in use by another process");
  }
  return absl::OkStatus();
}

}  // namespace holdfast
