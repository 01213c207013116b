#include "bench/nvme_queue_sys.h"

#include <poll.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/shared_access.h"
#include "base/status_macros.h"
#include "devices/bus/pci_registers.h"
#include "devices/bus/region_device.h"
#include "devices/pci_nvme/registers.h"

namespace holdfast::bench {
namespace {

using nvme::kPageSize;

// Where the guest's memory begins, and what is in it: a page for each of the
// four queues, one of shadow doorbells and one of their events, then the
// buffers.
constexpr uint64_t kBase = 0x100000;
constexpr uint64_t kShadows = kBase + 4 * kPageSize;
constexpr uint64_t kEvents = kShadows + kPageSize;
constexpr uint64_t kBuffers = kEvents + kPageSize;
constexpr uint32_t kEntries = 64;
constexpr uint16_t kVector = 1;
constexpr int kPatienceMs = 20'000;

uint64_t SqBase(uint32_t queue) { return kBase + 2 * queue * kPageSize; }
uint64_t CqBase(uint32_t queue) { return SqBase(queue) + kPageSize; }

nvme::Command Admin(nvme::AdminOpcode opcode, uint32_t cdw10, uint32_t cdw11,
                    uint64_t prp1) {
  nvme::Command command = {};
  command.opcode = static_cast<uint8_t>(opcode);
  command.cdw10 = cdw10;
  command.cdw11 = cdw11;
  command.prp1 = prp1;
  return command;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NvmeQueue>> NvmeQueue::Open(
    const Options& options) {
  if (options.depth >= kEntries || options.max_request_bytes > 2 * kPageSize) {
    return absl::InvalidArgumentError(
        "NVMe: at most 63 requests of at most two pages");
  }
  std::unique_ptr<NvmeQueue> queue(new NvmeQueue(options));
  RETURN_IF_ERROR(queue->Connect());
  RETURN_IF_ERROR(queue->EnableInterrupts());
  RETURN_IF_ERROR(queue->Enable());
  RETURN_IF_ERROR(queue->FindSize());
  RETURN_IF_ERROR(queue->CreateQueue());
  return queue;
}

absl::Status NvmeQueue::Connect() {
  ASSIGN_OR_RETURN(client_, vfio_user::Client::Connect(options_.socket));
  RETURN_IF_ERROR(client_->Negotiate());
  const uint64_t size = kBuffers - kBase + options_.depth * 2 * kPageSize;
  ASSIGN_OR_RETURN(file_, CreateSealedMemfd("nvme-guest", size));
  ASSIGN_OR_RETURN(memory_, MapShared(file_, 0, size, MapAccess::kReadWrite));
  return client_->Map(kBase, file_, 0, size);
}

absl::Status NvmeQueue::EnableInterrupts() {
  RETURN_IF_ERROR(client_->Write(kPciConfigRegion, pci::kCommand.offset(),
                                 pci::kCommandMemory | pci::kCommandMaster, 2));
  ASSIGN_OR_RETURN(interrupt_, client_->Listen(kPciMsixIrq, kVector));
  return client_->Write(kPciConfigRegion, pci::kMsixControl.offset(),
                        pci::kMsixEnable, 2);
}

absl::Status NvmeQueue::Enable() {
  RETURN_IF_ERROR(client_->Write(0, nvme::kAdminQueues.offset(),
                                 (kEntries - 1) << 16 | (kEntries - 1), 4));
  RETURN_IF_ERROR(client_->Write(0, nvme::kAdminSq.offset(), SqBase(0), 8));
  RETURN_IF_ERROR(client_->Write(0, nvme::kAdminCq.offset(), CqBase(0), 8));
  RETURN_IF_ERROR(
      client_->Write(0, nvme::kConfiguration.offset(), 0x00460001, 4));
  for (int ms = 0; ms < kPatienceMs; ++ms) {
    ASSIGN_OR_RETURN(const uint64_t status,
                     client_->Read(0, nvme::kStatus.offset(), 4));
    if ((status & nvme::kReady) != 0) return absl::OkStatus();
    usleep(1000);
  }
  return absl::DeadlineExceededError("NVMe: the controller is not ready");
}

absl::Status NvmeQueue::CreateQueue() {
  const uint32_t what = (kEntries - 1) << 16 | io_.number;
  constexpr uint32_t kContiguous = 1;
  constexpr uint32_t kInterrupts = 2;
  RETURN_IF_ERROR(Do(Admin(nvme::AdminOpcode::kCreateCq, what,
                           uint32_t{kVector} << 16 | kInterrupts | kContiguous,
                           CqBase(io_.number))));
  RETURN_IF_ERROR(
      Do(Admin(nvme::AdminOpcode::kCreateSq, what,
               io_.number << 16 | kContiguous, SqBase(io_.number))));
  if (!options_.shadow_doorbells) return absl::OkStatus();
  nvme::Command command =
      Admin(nvme::AdminOpcode::kDoorbellBuffers, 0, 0, kShadows);
  command.prp2 = kEvents;
  RETURN_IF_ERROR(Do(command));
  shadows_ = true;
  return absl::OkStatus();
}

absl::Status NvmeQueue::FindSize() {
  nvme::Command command = Admin(nvme::AdminOpcode::kIdentify, 0, 0, kBuffers);
  command.nsid = 1;
  RETURN_IF_ERROR(Do(command));
  // Identify Namespace (figure 245): blocks, and the first format.
  uint64_t blocks;
  uint32_t format;
  std::memcpy(&blocks, At(kBuffers), sizeof(blocks));
  std::memcpy(&format, At(kBuffers + 128), sizeof(format));
  block_shift_ = format >> 16 & 0xff;
  size_ = blocks << block_shift_;
  return absl::OkStatus();
}

uint8_t* NvmeQueue::At(uint64_t address) const {
  return memory_.data() + (address - kBase);
}

void NvmeQueue::Put(Ring& ring, const nvme::Command& command) {
  std::memcpy(At(SqBase(ring.number) + ring.tail * sizeof(command)), &command,
              sizeof(command));
  ring.tail = (ring.tail + 1) % kEntries;
}

bool NvmeQueue::Take(Ring& ring, nvme::Completion* completion) {
  const uint8_t* const entry =
      At(CqBase(ring.number) + ring.head * sizeof(*completion));
  // The phase comes last.
  const uint32_t last =
      SharedAccess::LoadAcquire(reinterpret_cast<const uint32_t*>(entry + 12));
  if ((last >> 16 & 1) != ring.phase) return false;
  std::memcpy(completion, entry, sizeof(*completion));
  ring.head = (ring.head + 1) % kEntries;
  if (ring.head == 0) ring.phase ^= 1;
  return true;
}

bool NvmeQueue::UpdateShadow(uint32_t doorbell, uint16_t value) {
  auto* const shadow = reinterpret_cast<uint32_t*>(At(kShadows + 4 * doorbell));
  const auto* const event =
      reinterpret_cast<const uint32_t*>(At(kEvents + 4 * doorbell));
  const auto old = static_cast<uint16_t>(SharedAccess::Load(shadow));
  SharedAccess::StoreRelease(shadow, uint32_t{value});
  SharedAccess::Fence();
  const auto passed = static_cast<uint16_t>(value - SharedAccess::Load(event));
  return static_cast<uint16_t>(passed - 1) < static_cast<uint16_t>(value - old);
}

absl::Status NvmeQueue::RingDoorbell(const Ring& ring, bool completions) {
  const uint32_t doorbell = 2 * ring.number + (completions ? 1 : 0);
  const uint32_t value = completions ? ring.head : ring.tail;
  if (shadows_ && ring.number != 0 &&
      !UpdateShadow(doorbell, static_cast<uint16_t>(value))) {
    return absl::OkStatus();
  }
  return client_->PostWrite(0, nvme::kDoorbells.offset() + 4 * doorbell, value,
                            4);
}

absl::Status NvmeQueue::Do(const nvme::Command& command) {
  Put(admin_, command);
  RETURN_IF_ERROR(RingDoorbell(admin_, /*completions=*/false));
  nvme::Completion completion;
  for (int ms = 0; !Take(admin_, &completion); ++ms) {
    if (ms == kPatienceMs) {
      return absl::DeadlineExceededError("NVMe: no answer to a command");
    }
    usleep(1000);
  }
  if (completion.status >> 1 != 0) {
    return absl::InternalError(absl::StrCat("NVMe: opcode ", command.opcode,
                                            " failed with status ",
                                            completion.status >> 1));
  }
  return RingDoorbell(admin_, /*completions=*/true);
}

absl::Span<uint8_t> NvmeQueue::buffer(uint32_t slot) {
  return {At(kBuffers + slot * 2 * kPageSize), options_.max_request_bytes};
}

void NvmeQueue::Add(uint32_t slot, const load::LoadRequest& request) {
  nvme::Command command = {};
  command.cid = static_cast<uint16_t>(slot);
  command.nsid = 1;
  if (request.kind == load::LoadRequest::Kind::kFlush) {
    command.opcode = static_cast<uint8_t>(nvme::IoOpcode::kFlush);
  } else {
    const bool read = request.kind == load::LoadRequest::Kind::kRead;
    command.opcode = static_cast<uint8_t>(read ? nvme::IoOpcode::kRead
                                               : nvme::IoOpcode::kWrite);
    const uint64_t first =
        request.first_block * load::kBlockSize >> block_shift_;
    command.cdw10 = static_cast<uint32_t>(first);
    command.cdw11 = static_cast<uint32_t>(first >> 32);
    command.cdw12 = static_cast<uint32_t>(request.bytes() >> block_shift_) - 1;
    command.prp1 = kBuffers + slot * 2 * kPageSize;
    if (request.bytes() > kPageSize) command.prp2 = command.prp1 + kPageSize;
  }
  Put(io_, command);
}

absl::Status NvmeQueue::Submit() {
  return RingDoorbell(io_, /*completions=*/false);
}

absl::StatusOr<std::vector<NvmeQueue::Completion>> NvmeQueue::Wait(
    int timeout_ms) {
  std::vector<Completion> completions;
  const auto take = [&] {
    nvme::Completion completion;
    while (Take(io_, &completion)) {
      completions.push_back({completion.cid, completion.status >> 1 == 0});
    }
  };
  take();
  if (completions.empty()) {
    pollfd wait = {interrupt_.get(), POLLIN, 0};
    if (poll(&wait, 1, timeout_ms) > 0) {
      uint64_t count;
      (void)!read(interrupt_.get(), &count, sizeof(count));
    }
    take();
  }
  if (completions.empty()) return completions;
  RETURN_IF_ERROR(RingDoorbell(io_, /*completions=*/true));
  return completions;
}

}  // namespace holdfast::bench
