#include "devices/pci_nvme/disk.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace holdfast::nvme {
namespace {

constexpr uint32_t kForceUnitAccess = 1u << 30;  // Of cdw12.
constexpr uint32_t kMayDeallocate = 1u << 25;    // Of cdw12.
constexpr uint32_t kDeallocate = 1u << 2;        // Of cdw11.

uint32_t ShiftOf(uint32_t size) { return 31 - __builtin_clz(size); }

// Blocks larger than a page cannot be said by the format of every driver.
uint32_t BlockSizeFor(uint32_t engine) { return engine > 4096 ? 512 : engine; }

}  // namespace

Scratch::Scratch() : bounce_(new uint8_t[PrpRanges::kMaxTransfer]) {
  constexpr size_t kMost = (1u << PrpRanges::kMaxTransferShift) + 1;
  mappings_.reserve(kMost);
  buffers_.reserve(kMost);
}

Scratch::~Scratch() = default;

Disk::Disk(std::unique_ptr<block::BlockEngine> engine, uint64_t size,
           Options options)
    : engine_(std::move(engine)),
      options_(options),
      block_shift_(ShiftOf(BlockSizeFor(engine_->BlockSize()))),
      blocks_(size >> block_shift_) {}

bool Disk::Measure() {
  const absl::StatusOr<uint64_t> size = engine_->Size();
  if (!size.ok()) return false;
  const uint64_t now = *size >> block_shift_;
  return blocks_.exchange(now, std::memory_order_relaxed) != now;
}

Status Disk::Execute(const Command& command, bool write_through, Dma& dma,
                     Scratch& scratch) {
  // Neither fused operations nor scatter gather lists.
  if ((command.flags & 0xc3) != 0) return Status::kInvalidField;
  const auto opcode = static_cast<IoOpcode>(command.opcode);
  if (command.nsid != options_.nsid &&
      (opcode != IoOpcode::kFlush || command.nsid != kAllNamespaces)) {
    return Status::kInvalidNamespace;
  }
  switch (opcode) {
    case IoOpcode::kFlush:
      return Flush();
    case IoOpcode::kRead:
    case IoOpcode::kWrite:
      return Transfer(command, write_through, dma, scratch);
    case IoOpcode::kCompare:
      return Compare(command, dma, scratch);
    case IoOpcode::kWriteZeroes:
      return WriteZeroes(command, write_through);
    case IoOpcode::kDatasetManagement:
      return Deallocate(command, dma, scratch);
  }
  return Status::kInvalidOpcode;
}

Status Disk::Report(const absl::Status& status, const char* what,
                    Status failure) {
  if (status.ok()) return Status::kSuccess;
  errors_log_.Warning(
      what, " failed, the guest gets an I/O error: ", status.message());
  return failure;
}

Status Disk::Flush() {
  if (options_.read_only) return Status::kSuccess;
  return Report(engine_->Flush(), "flush", Status::kWriteFault);
}

Status Disk::ExtentOf(const Command& command, Extent* extent) const {
  const uint64_t first = uint64_t{command.cdw11} << 32 | command.cdw10;
  const uint64_t count = uint64_t{command.cdw12 & 0xffff} + 1;
  const uint64_t end = blocks();
  if (first > end || count > end - first) {
    return Status::kLbaOutOfRange;
  }
  *extent = {first << block_shift_, count << block_shift_};
  return Status::kSuccess;
}

Status Disk::Transfer(const Command& command, bool write_through, Dma& dma,
                      Scratch& scratch) {
  const bool write = static_cast<IoOpcode>(command.opcode) == IoOpcode::kWrite;
  Extent extent;
  Status status = ExtentOf(command, &extent);
  if (status != Status::kSuccess) return status;
  if (extent.size > PrpRanges::kMaxTransfer) return Status::kInvalidField;
  if (write && options_.read_only) return Status::kWriteProtected;
  status = scratch.prp_.Walk(command.prp1, command.prp2, extent.size, dma);
  if (status != Status::kSuccess) return status;
  status = Move(write ? Direction::kFromGuest : Direction::kToGuest, extent,
                dma, scratch);
  if (status != Status::kSuccess || !write) return status;
  if (!write_through && (command.cdw12 & kForceUnitAccess) == 0) return status;
  return Flush();
}

Status Disk::Map(Direction direction, Dma& dma, Scratch& scratch,
                 bool* mapped) {
  const DmaAccess access =
      direction == Direction::kToGuest ? DmaAccess::kWrite : DmaAccess::kRead;
  *mapped = true;
  for (const DmaRange& range : scratch.prp_.ranges()) {
    absl::StatusOr<DmaMapping> mapping =
        dma.Map(range.address, range.size, access);
    if (absl::IsFailedPrecondition(mapping.status())) {
      *mapped = false;
      continue;
    }
    if (!mapping.ok()) return Status::kDataTransferError;
    scratch.buffers_.push_back(
        {mapping->bytes().data(), mapping->bytes().size()});
    scratch.mappings_.push_back(*std::move(mapping));
  }
  return Status::kSuccess;
}

// Between the blocks of `extent` and the ranges of the scratch.
Status Disk::Move(Direction direction, const Extent& extent, Dma& dma,
                  Scratch& scratch) {
  const bool read = direction == Direction::kToGuest;
  const auto failure = read ? Status::kUnrecoveredRead : Status::kWriteFault;
  const Buffer whole = {scratch.bounce_.get(), extent.size};
  const auto engine = [&](absl::Span<const Buffer> buffers) {
    return Report(read ? engine_->Read(extent.offset, buffers)
                       : engine_->Write(extent.offset, buffers),
                  read ? "read" : "write", failure);
  };
  bool mapped = false;
  Status status = Map(direction, dma, scratch, &mapped);
  if (status == Status::kSuccess && mapped) {
    status = engine(scratch.buffers_);
    for (const DmaRange& range : scratch.prp_.ranges()) {
      if (read) dma.Written(range.address, range.size);
    }
  }
  // They pin windows: not longer than the transfer.
  scratch.buffers_.clear();
  scratch.mappings_.clear();
  if (status != Status::kSuccess || mapped) return status;
  if (read) status = engine({&whole, 1});
  uint8_t* at = scratch.bounce_.get();
  for (const DmaRange& range : scratch.prp_.ranges()) {
    if (status != Status::kSuccess) return status;
    const absl::Span<uint8_t> part(at, range.size);
    if (!(read ? dma.Write(range.address, part) : dma.Read(range.address, part))
             .ok()) {
      return Status::kDataTransferError;
    }
    at += range.size;
  }
  return read ? status : engine({&whole, 1});
}

Status Disk::Compare(const Command& command, Dma& dma, Scratch& scratch) {
  Extent extent;
  Status status = ExtentOf(command, &extent);
  if (status != Status::kSuccess) return status;
  if (extent.size > PrpRanges::kMaxTransfer) return Status::kInvalidField;
  status = scratch.prp_.Walk(command.prp1, command.prp2, extent.size, dma);
  if (status != Status::kSuccess) return status;
  const Buffer whole = {scratch.bounce_.get(), extent.size};
  status = Report(engine_->Read(extent.offset, {&whole, 1}), "compare",
                  Status::kUnrecoveredRead);
  if (status != Status::kSuccess) return status;
  const uint8_t* at = scratch.bounce_.get();
  std::array<uint8_t, kPageSize> page;
  for (DmaRange range : scratch.prp_.ranges()) {
    while (range.size > 0) {
      const size_t n = std::min<uint64_t>(range.size, page.size());
      if (!dma.Read(range.address, {page.data(), n}).ok()) {
        return Status::kDataTransferError;
      }
      if (std::memcmp(page.data(), at, n) != 0) return Status::kCompareFailure;
      range = {GuestAddress{ToInt(range.address) + n}, range.size - n};
      at += n;
    }
  }
  return Status::kSuccess;
}

Status Disk::WriteZeroes(const Command& command, bool write_through) {
  Extent extent;
  const Status status = ExtentOf(command, &extent);
  if (status != Status::kSuccess) return status;
  if (options_.read_only) return Status::kWriteProtected;
  const Status written =
      Report(engine_->WriteZeroes(extent.offset, extent.size,
                                  (command.cdw12 & kMayDeallocate) != 0),
             "write zeroes", Status::kWriteFault);
  if (written != Status::kSuccess) return written;
  if (!write_through && (command.cdw12 & kForceUnitAccess) == 0) return written;
  return Flush();
}

// Attributes are advice, but for the one that deallocates, which is advice too
// where the storage cannot.
Status Disk::Deallocate(const Command& command, Dma& dma, Scratch& scratch) {
  std::array<Range, 256> ranges;
  const size_t count = (command.cdw10 & 0xff) + 1;
  const size_t size = count * sizeof(Range);
  Status status = scratch.prp_.Walk(command.prp1, command.prp2, size, dma);
  if (status != Status::kSuccess) return status;
  uint8_t* at = reinterpret_cast<uint8_t*>(ranges.data());
  for (const DmaRange& range : scratch.prp_.ranges()) {
    if (!dma.Read(range.address, {at, range.size}).ok()) {
      return Status::kDataTransferError;
    }
    at += range.size;
  }
  if ((command.cdw11 & kDeallocate) == 0) return Status::kSuccess;
  if (options_.read_only) return Status::kWriteProtected;
  const uint64_t end = blocks();
  for (size_t i = 0; i < count; ++i) {
    if (ranges[i].lba > end || ranges[i].blocks > end - ranges[i].lba) {
      return Status::kLbaOutOfRange;
    }
  }
  for (size_t i = 0; i < count; ++i) {
    if (ranges[i].blocks == 0) continue;
    const absl::Status done =
        engine_->Discard(ranges[i].lba << block_shift_,
                         uint64_t{ranges[i].blocks} << block_shift_);
    if (absl::IsUnimplemented(done)) break;
    status = Report(done, "discard", Status::kWriteFault);
    if (status != Status::kSuccess) return status;
  }
  return Status::kSuccess;
}

}  // namespace holdfast::nvme
