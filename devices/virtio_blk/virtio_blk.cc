#include "devices/virtio_blk/virtio_blk.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/status_macros.h"
#include "devices/block/file_engine.h"
#include "devices/block/image_file_sys.h"

namespace holdfast::virtio_blk {
namespace {

// Compat version 2 tells guests the storage's topology.
constexpr uint32_t kTopologyVersion = 2;

constexpr uint64_t kFeatures = kFeatureSegMax | kFeatureBlockSize |
                               kFeatureFlush | kFeatureMultiQueue |
                               kFeatureDiscard | kFeatureWriteZeroes;
// One request occupies a worker while it zeroes; 1 GiB is what QEMU offers too.
constexpr uint32_t kMaxRangeSectors = 1u << 21;
constexpr uint32_t kMaxRangeSegments = 16;
constexpr uint16_t kDefaultQueueSize = 256;
// Threads that may be blocked in I/O for one queue.
constexpr uint16_t kWorkers = 4;

// Reason: the chain walker admits no more buffers to a request.
constexpr size_t kMaxBuffers = 1024;

// The part [skip, skip + size) of a request's buffers. Valid until the thread's
// next call: a part that begins or ends inside a buffer is put together in
// memory of the thread.
absl::Span<const Buffer> Part(absl::Span<const Buffer> buffers, size_t skip,
                              size_t size) {
  thread_local std::array<Buffer, kMaxBuffers> scratch;
  size_t count = 0;
  for (const Buffer& buffer : buffers) {
    if (size == 0 || count == kMaxBuffers) break;
    if (skip >= buffer.size) {
      skip -= buffer.size;
      continue;
    }
    const size_t step = std::min(buffer.size - skip, size);
    scratch[count++] = {buffer.data + skip, step};
    size -= step;
    skip = 0;
  }
  return {scratch.data(), count};
}

// Section 5.2.4: in logical blocks, of `block_size` bytes; 0 where nothing is
// known or a hint would say no more than the block size does.
void PutTopology(const block::Topology& topology, uint32_t block_size,
                 Config& config) {
  for (uint32_t size = block_size; size < topology.physical_block; size *= 2) {
    ++config.physical_block_exp;
  }
  config.alignment_offset = static_cast<uint8_t>(
      std::min<uint32_t>(topology.alignment_offset / block_size, UINT8_MAX));
  config.min_io_size = static_cast<uint16_t>(
      std::min<uint32_t>(topology.min_io / block_size, UINT16_MAX));
  config.opt_io_size = topology.optimal_io / block_size;
}

}  // namespace

std::vector<OptionSpec> VirtioBlk::Options() {
  return {{"read-only", "", "refuse writes; needs no write access"},
          {"direct", "", "no page cache (stand-alone; else in the spec)"},
          {"serial", "TEXT", "what the guest sees as serial, at most 20 bytes"},
          {"num-queues", "N", "request queues, 1 to 16 (default 1)"},
          {"queue-size", "N", "entries a queue, power of 2 (default 256)"},
          {"workers", "N", "threads that do I/O for a queue (default 4)"}};
}

absl::StatusOr<VirtioSpec> VirtioBlk::Spec(const DeviceOptions& options) {
  ASSIGN_OR_RETURN(const bool read_only, options.Switch("read-only", false));
  ASSIGN_OR_RETURN(const uint64_t queues,
                   options.Number("num-queues", 1, 1, VirtioSpec::kMaxQueues));
  ASSIGN_OR_RETURN(const uint64_t size,
                   options.Number("queue-size", kDefaultQueueSize, 8,
                                  VirtioSpec::kMaxQueueSize));
  ASSIGN_OR_RETURN(const uint64_t workers,
                   options.Number("workers", kWorkers, 1, 64));
  RETURN_IF_ERROR(options.Switch("direct", false).status());
  if ((size & (size - 1)) != 0) {
    return absl::InvalidArgumentError("--queue-size: give a power of 2");
  }
  if (options.Text("serial", "").size() > kIdSize) {
    return absl::InvalidArgumentError("--serial: at most 20 bytes");
  }
  VirtioSpec spec(virtio::kDeviceIdBlock);
  spec.Features(kFeatures | (read_only ? kFeatureReadOnly : 0))
      .FeaturesSince(kTopologyVersion, kFeatureTopology)
      .CompatVersion(kTopologyVersion)
      .ConfigSize(sizeof(Config))
      .Resource("image", "raw image file or block device");
  for (uint64_t i = 0; i < queues; ++i) {
    spec.Queue("requestq", static_cast<uint16_t>(size),
               static_cast<uint16_t>(workers));
  }
  return spec;
}

absl::StatusOr<std::unique_ptr<VirtioDevice>> VirtioBlk::Make(
    VirtioContext& context) {
  const BorrowedFd image = context.Resource("image");
  if (!image.valid()) {
    return absl::InvalidArgumentError(
        "no image: give --image=PATH, or a resource named 'image' in the spec");
  }
  const DeviceOptions& options = context.options();
  ASSIGN_OR_RETURN(auto file, block::OpenImageFile(image));
  ASSIGN_OR_RETURN(const bool direct, options.Switch("direct", false));
  if (direct && !file->direct()) {
    return absl::InvalidArgumentError(
        "--direct: the launcher opens the image: set direct: true in its "
        "resource of the launch spec");
  }
  auto engine = std::make_unique<block::FileEngine>(std::move(file));
  ASSIGN_OR_RETURN(const uint64_t size, engine->Size());
  ASSIGN_OR_RETURN(const bool read_only, options.Switch("read-only", false));
  ASSIGN_OR_RETURN(const uint64_t queues,
                   options.Number("num-queues", 1, 1, VirtioSpec::kMaxQueues));
  ASSIGN_OR_RETURN(const uint64_t queue_size,
                   options.Number("queue-size", kDefaultQueueSize, 8,
                                  VirtioSpec::kMaxQueueSize));
  return std::unique_ptr<VirtioDevice>(std::make_unique<VirtioBlk>(
      context, std::move(engine), size, read_only,
      options.Text("serial", "holdfast"), static_cast<uint16_t>(queues),
      static_cast<uint16_t>(queue_size), block::TopologyOf(image)));
}

VirtioBlk::VirtioBlk(VirtioContext& context,
                     std::unique_ptr<block::BlockEngine> engine,
                     uint64_t capacity, bool read_only, std::string serial,
                     uint16_t queue_count, uint16_t queue_size,
                     const block::Topology& topology)
    : context_(context),
      engine_(std::move(engine)),
      block_size_(engine_->BlockSize()),
      capacity_(capacity / kSectorSize),
      read_only_(read_only),
      serial_(std::move(serial)),
      queue_count_(queue_count),
      queue_size_(queue_size),
      topology_(topology) {}

absl::Status VirtioBlk::OnRequest(Request& request, Txn& txn) {
  RequestHeader header;
  const size_t n =
      request.Read({reinterpret_cast<uint8_t*>(&header), sizeof(header)});
  if (n != sizeof(header) || request.writable_size() == 0) {
    return absl::InvalidArgumentError(
        "a block request has 16 bytes of header and a byte for the status");
  }
  size_t written = 0;
  const auto status = static_cast<uint8_t>(Execute(header, request, &written));
  request.WriteAt(request.writable_size() - 1, {&status, 1});
  txn.Complete(request, written + 1);
  return absl::OkStatus();
}

void VirtioBlk::OnPoisoned(Request& request, Txn& txn) {
  const auto status = static_cast<uint8_t>(RequestStatus::kIoError);
  if (request.writable_size() > 0) {
    request.WriteAt(request.writable_size() - 1, {&status, 1});
  }
  txn.Complete(request, request.writable_size() > 0 ? 1 : 0);
}

RequestStatus VirtioBlk::Execute(const RequestHeader& header, Request& request,
                                 size_t* written) {
  switch (static_cast<RequestType>(header.type)) {
    case RequestType::kIn:
      return ReadOrWrite(false, header.sector, request, written);
    case RequestType::kOut:
      return ReadOrWrite(true, header.sector, request, written);
    case RequestType::kFlush:
      return Report(engine_->Flush(), "flush");
    case RequestType::kGetId:
      return GetId(request, written);
    case RequestType::kDiscard:
    case RequestType::kWriteZeroes:
      return Ranges(static_cast<RequestType>(header.type), request);
  }
  return RequestStatus::kUnsupported;
}

bool VirtioBlk::InsideDisk(uint64_t sector, uint64_t bytes) const {
  const uint64_t capacity = capacity_.load(std::memory_order_relaxed);
  return bytes % kSectorSize == 0 && sector <= capacity &&
         bytes / kSectorSize <= capacity - sector;
}

RequestStatus VirtioBlk::ReadOrWrite(bool write, uint64_t sector,
                                     Request& request, size_t* written) {
  const size_t size = write ? request.readable_size() - sizeof(RequestHeader)
                            : request.writable_size() - 1;
  if (!InsideDisk(sector, size) || (write && read_only_)) {
    return RequestStatus::kIoError;
  }
  const uint64_t offset = sector * kSectorSize;
  if (write) {
    absl::Status status = engine_->Write(
        offset, Part(request.readable(), sizeof(RequestHeader), size));
    if (status.ok() && write_through_.load(std::memory_order_relaxed)) {
      status = engine_->Flush();
    }
    return Report(status, "write");
  }
  const RequestStatus status =
      Report(engine_->Read(offset, Part(request.writable(), 0, size)), "read");
  if (status == RequestStatus::kOk) *written = size;
  return status;
}

RequestStatus VirtioBlk::GetId(Request& request, size_t* written) {
  std::array<uint8_t, kIdSize> id = {};
  std::memcpy(id.data(), serial_.data(), std::min(serial_.size(), id.size()));
  const size_t room = request.writable_size() - 1;
  *written = request.WriteAt(0, absl::MakeSpan(id).subspan(0, room));
  return RequestStatus::kOk;
}

RequestStatus VirtioBlk::Ranges(RequestType type, Request& request) {
  const size_t size = request.readable_size() - sizeof(RequestHeader);
  if (size == 0 || size % sizeof(RangeSegment) != 0 ||
      size / sizeof(RangeSegment) > kMaxRangeSegments) {
    return RequestStatus::kUnsupported;
  }
  if (read_only_) return RequestStatus::kIoError;
  for (size_t i = 0; i < size / sizeof(RangeSegment); ++i) {
    RangeSegment segment;
    request.Read({reinterpret_cast<uint8_t*>(&segment), sizeof(segment)});
    const RequestStatus status = Range(type, segment);
    if (status != RequestStatus::kOk) return status;
  }
  return RequestStatus::kOk;
}

RequestStatus VirtioBlk::Range(RequestType type, const RangeSegment& segment) {
  // Section 5.2.6.2: reserved flags, and unmap on discard, are unsupported.
  const bool unmap = (segment.flags & kRangeFlagUnmap) != 0;
  if ((segment.flags & ~kRangeFlagUnmap) != 0 ||
      (type == RequestType::kDiscard && unmap)) {
    return RequestStatus::kUnsupported;
  }
  const uint64_t size = uint64_t{segment.sector_count} * kSectorSize;
  if (segment.sector_count > kMaxRangeSectors ||
      !InsideDisk(segment.sector, size)) {
    return RequestStatus::kIoError;
  }
  if (size == 0) return RequestStatus::kOk;
  const uint64_t offset = segment.sector * kSectorSize;
  if (type == RequestType::kWriteZeroes) {
    return Report(engine_->WriteZeroes(offset, size, unmap), "write zeroes");
  }
  const absl::Status status = engine_->Discard(offset, size);
  if (absl::IsUnimplemented(status)) return RequestStatus::kUnsupported;
  return Report(status, "discard");
}

RequestStatus VirtioBlk::Report(const absl::Status& status, const char* what) {
  if (status.ok()) return RequestStatus::kOk;
  errors_log_.Warning(
      what, " failed, the guest gets an I/O error: ", status.message());
  return RequestStatus::kIoError;
}

void VirtioBlk::ReadConfig(uint32_t offset, absl::Span<uint8_t> out) const {
  Config config = {};
  config.capacity = capacity_.load(std::memory_order_relaxed);
  config.seg_max = queue_size_ - 2;  // Header and status take two.
  config.block_size = block_size_;
  config.num_queues = queue_count_;
  config.max_discard_sectors = kMaxRangeSectors;
  config.max_discard_seg = kMaxRangeSegments;
  config.discard_sector_alignment = block_size_ / kSectorSize;
  config.max_write_zeroes_sectors = kMaxRangeSectors;
  config.max_write_zeroes_seg = kMaxRangeSegments;
  config.write_zeroes_may_unmap = 1;
  if (context_.guest_version() >= kTopologyVersion) {
    PutTopology(topology_, block_size_, config);
  }
  std::memcpy(out.data(), reinterpret_cast<const uint8_t*>(&config) + offset,
              out.size());
}

void VirtioBlk::OnFeatures(uint64_t accepted) {
  write_through_.store((accepted & kFeatureFlush) == 0,
                       std::memory_order_relaxed);
}

void VirtioBlk::OnResourceChanged() {
  const absl::StatusOr<uint64_t> size = engine_->Size();
  if (!size.ok()) return;
  const uint64_t sectors = *size / kSectorSize;
  if (capacity_.exchange(sectors) != sectors) context_.NotifyConfigChange();
}

}  // namespace holdfast::virtio_blk
