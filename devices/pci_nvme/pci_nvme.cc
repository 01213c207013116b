#include "devices/pci_nvme/pci_nvme.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/block/file_engine.h"
#include "devices/block/image_file_sys.h"
#include "devices/pci_nvme/events.h"
#include "devices/pci_nvme/registers.h"

namespace holdfast::nvme {
namespace {

constexpr PciId kId = {0x1b36, 0x00fe, /*revision=*/1,
                       /*class_code=*/0x010802};
constexpr uint64_t kDefaultQueues = 4;
constexpr uint64_t kDefaultQueueSize = 1024;
constexpr uint64_t kDefaultWorkers = 4;
// The admin queue has room for its event requests beside what it executes.
constexpr size_t kAdminInFlight = 16;
constexpr size_t kInFlight = 32;
constexpr size_t kSerialSize = 20;
constexpr size_t kModelSize = 40;

// "image", "image2", "image3"...
std::string ImageName(uint32_t nsid) {
  return nsid == 1 ? "image" : absl::StrCat("image", nsid);
}

std::string SqArea(uint32_t queue) { return absl::StrCat("sq", queue); }
std::string CqArea(uint32_t queue) { return absl::StrCat("cq", queue); }

}  // namespace

absl::StatusOr<PciNvme::Shape> PciNvme::ShapeOf(const DeviceOptions& options) {
  ASSIGN_OR_RETURN(
      const uint64_t queues,
      options.Number("num-queues", kDefaultQueues, 1, kMaxQueues - 1));
  ASSIGN_OR_RETURN(
      const uint64_t size,
      options.Number("queue-size", kDefaultQueueSize, 2, kMaxQueueSize));
  ASSIGN_OR_RETURN(const uint64_t workers,
                   options.Number("workers", kDefaultWorkers, 1, kMaxHelpers));
  Shape shape;
  shape.io_queues = static_cast<uint16_t>(queues);
  shape.max_queue_size = static_cast<uint32_t>(size);
  shape.helpers = static_cast<uint32_t>(
      std::min<uint64_t>(queues * (workers - 1), kMaxHelpers));
  return shape;
}

std::vector<OptionSpec> PciNvme::Options() {
  return {{"read-only", "", "refuse writes; needs no write access"},
          {"serial", "TEXT", "serial number, at most 20 bytes; one a disk"},
          {"model", "TEXT", "model, at most 40 bytes"},
          {"num-queues", "N", "I/O queues, 1 to 31 (default 4)"},
          {"queue-size", "N", "most entries of a queue (default 1024)"},
          {"shadow-doorbells", "", "let drivers keep doorbells in memory"},
          {"workers", "N", "threads that do I/O, per queue (default 4)"}};
}

absl::StatusOr<PciSpec> PciNvme::Spec(const DeviceOptions& options) {
  ASSIGN_OR_RETURN(const Shape shape, ShapeOf(options));
  RETURN_IF_ERROR(options.Switch("read-only", false).status());
  RETURN_IF_ERROR(options.Switch("shadow-doorbells", false).status());
  if (options.Text("serial", "").size() > kSerialSize ||
      options.Text("model", "").size() > kModelSize) {
    return absl::InvalidArgumentError(
        "--serial: at most 20 bytes; --model: at most 40");
  }
  const uint32_t queues = shape.io_queues + 1u;
  PciSpec spec(kId);
  spec.Bar(0,
           RegisterFile{
               kCapabilities.Reset(CapabilitiesOf(shape.max_queue_size)),
               kVersion, kMaskSet, kMaskClear, kConfiguration, kStatus,
               kAdminQueues, kAdminSq, kAdminCq, kDoorbells.Array(2 * queues)}
               .Size(kBarSize),
           kBar64)
      .Intx()
      .Msix(queues)
      .PowerManagement()
      .Express()
      .WorkThreads(queues + shape.helpers)
      .State<State>();
  for (uint32_t nsid = 1; nsid <= kMaxNamespaces; ++nsid) {
    spec.Resource(ImageName(nsid),
                  nsid == 1 ? "raw image file or block device"
                            : absl::StrCat("the same, of namespace ", nsid));
  }
  for (uint32_t i = 0; i < queues; ++i) {
    spec.Area(SqArea(i),
              SubmissionQueue::AreaSize(i == 0 ? kAdminInFlight : kInFlight));
    spec.Area(CqArea(i), sizeof(CompletionArea));
  }
  spec.Area("log", sizeof(LogArea));
  return spec;
}

absl::StatusOr<std::unique_ptr<PciDevice>> PciNvme::Make(PciContext& context) {
  std::vector<Backing> backings;
  bool ended = false;
  for (uint32_t nsid = 1; nsid <= kMaxNamespaces; ++nsid) {
    const std::string name = ImageName(nsid);
    const BorrowedFd image = context.Resource(name);
    if (!image.valid()) {
      ended = true;
      continue;
    }
    if (ended) {
      return absl::InvalidArgumentError(absl::StrCat(
          "there is an image '", name, "', but not the one before it"));
    }
    ASSIGN_OR_RETURN(auto file, block::OpenImageFile(image));
    auto engine = std::make_unique<block::FileEngine>(std::move(file));
    ASSIGN_OR_RETURN(const uint64_t size, engine->Size());
    backings.push_back({std::move(engine), size});
  }
  if (backings.empty()) {
    return absl::InvalidArgumentError(
        "no image: give --image=PATH, or a resource named 'image' in the spec");
  }
  return MakeOver(context, std::move(backings));
}

absl::StatusOr<std::unique_ptr<PciDevice>> PciNvme::MakeOver(
    PciContext& context, std::vector<Backing> backings) {
  const DeviceOptions& options = context.options();
  ASSIGN_OR_RETURN(const bool read_only, options.Switch("read-only", false));
  ASSIGN_OR_RETURN(const Shape shape, ShapeOf(options));
  std::vector<std::unique_ptr<Disk>> disks;
  Identity identity;
  identity.vendor = identity.subsystem_vendor = kId.vendor;
  identity.serial = options.Text("serial", "holdfast");
  identity.model = options.Text("model", "Holdfast NVMe");
  for (Backing& backing : backings) {
    const auto nsid = static_cast<uint32_t>(disks.size() + 1);
    disks.push_back(std::make_unique<Disk>(std::move(backing.engine),
                                           backing.size,
                                           Disk::Options{read_only, nsid}));
    identity.namespaces.push_back(
        {disks.back()->blocks(), disks.back()->block_shift()});
  }
  identity.read_only = read_only;
  ASSIGN_OR_RETURN(identity.shadow_doorbells,
                   options.Switch("shadow-doorbells", false));
  return std::unique_ptr<PciDevice>(
      new PciNvme(context, std::move(disks), std::move(identity), shape));
}

PciNvme::PciNvme(PciContext& context, std::vector<std::unique_ptr<Disk>> disks,
                 Identity identity, const Shape& shape)
    : context_(context),
      state_(context.State<State>()),
      disks_(std::move(disks)),
      identity_(std::move(identity)),
      io_queues_(shape.io_queues),
      max_queue_size_(shape.max_queue_size),
      helper_works_(shape.helper_works()) {
  for (uint32_t i = 0; i < kFirstHelper + shape.helpers; ++i) {
    const bool used = (i >= 1 && i <= io_queues_) || i >= kFirstHelper;
    scratch_.push_back(used ? std::make_unique<Scratch>() : nullptr);
  }
  parked_.reserve(kAsyncEventLimit);
}

// Not in the constructor: the process does not own them then.
void PciNvme::FindAreas() {
  std::call_once(areas_found_, [this] {
    for (uint32_t i = 0; i <= io_queues_; ++i) {
      sqs_[i].area = context_.Area(SqArea(i));
      cqs_[i].area = context_.Area(CqArea(i));
      sqs_[i].queue = SubmissionQueue(sqs_[i].area);
      cqs_[i].queue = CompletionQueue(cqs_[i].area);
    }
    log_.Attach(context_.Area("log"));
  });
}

void PciNvme::OnTakeOver() {
  attached_.store(false);
  context_.CallAll(1);
}

// Work 0 compares with what the guest knows, here as after a takeover.
void PciNvme::OnResourceChanged(PciTxn& txn) {
  bool changed = false;
  for (const auto& disk : disks_) changed |= disk->Measure();
  if (changed) txn.Order(0);
}

void PciNvme::OnReset(PciTxn& txn) {
  Forget(txn);
  // What this process knows of queues is of the life that ended.
  attached_.store(false);
}

absl::Status PciNvme::OnWork(uint32_t work, PciContext& context) {
  FindAreas();
  if (work == 0) return ServeAdmin(context);
  // Whoever attaches calls for what is left out here.
  if (!attached_.load()) return absl::OkStatus();
  if (work >= scratch_.size() || scratch_[work] == nullptr) {
    return absl::OkStatus();
  }
  if (work >= kFirstHelper) return Help(work, context);
  return ServeIo(static_cast<uint16_t>(work), work, context);
}

absl::Status PciNvme::OnWrite(const RegWrite& write, PciTxn& txn) {
  FindAreas();
  if (write.Is(kConfiguration)) {
    OnConfiguration(write, txn);
  } else if (write.Is(kDoorbells)) {
    OnDoorbell(write, txn);
  } else if (write.Is(kMaskSet) || write.Is(kMaskClear)) {
    const auto mask = static_cast<uint32_t>(write.value());
    txn.Set(kMaskSet, mask);
    txn.Set(kMaskClear, mask);
    if (!txn.UsesMessages()) txn.SetIntx(IntxLevel(txn));
  }
  return absl::OkStatus();
}

void PciNvme::OnConfiguration(const RegWrite& write, PciTxn& txn) {
  const auto was = static_cast<uint32_t>(write.old());
  const auto is = static_cast<uint32_t>(write.value());
  if ((was & kEnable) != 0 && (is & kEnable) == 0) {
    // Even if it is set again before anybody has looked.
    txn.Set(state_.phase, Phase::kStopping);
  }
  if (((was ^ is) & kEnable) != 0 || ShutdownOf(was) != ShutdownOf(is)) {
    txn.Order(0);
  }
}

void PciNvme::OnDoorbell(const RegWrite& write, PciTxn& txn) {
  if (txn.Get(state_.phase) != Phase::kEnabled) return;
  const auto queue = static_cast<uint16_t>(write.index() / 2);
  const auto value = static_cast<uint32_t>(write.value());
  if (queue > io_queues_) return;  // The register file has no more.
  if (write.index() % 2 == 0) return OnSubmissionTail(queue, value, txn);
  OnCompletionHead(queue, value, txn);
}

// The area is stored to before the access is committed: should the process die
// in between, the same access stores the same value again. A doorbell of a
// queue with shadows only calls: by the time it comes its value may be old.
void PciNvme::OnSubmissionTail(uint16_t queue, uint32_t value, PciTxn& txn) {
  if (txn.Get(state_.sq_lives)[queue] == 0) {
    return RaiseEvent(kInvalidDoorbellRegister, txn);
  }
  const absl::Span<uint8_t> area = sqs_[queue].area;
  if (value >= SubmissionQueue::SizeIn(area)) {
    return RaiseEvent(kInvalidDoorbellValue, txn);
  }
  if (queue == 0 || !SubmissionQueue::HasShadowsIn(sqs_[0].area)) {
    SubmissionQueue::StoreTail(area, value);
  }
  txn.Order(queue);
}

void PciNvme::OnCompletionHead(uint16_t queue, uint32_t value, PciTxn& txn) {
  if (txn.Get(state_.cq_lives)[queue] == 0) {
    return RaiseEvent(kInvalidDoorbellRegister, txn);
  }
  const absl::Span<uint8_t> area = cqs_[queue].area;
  if (value >= CompletionQueue::SizeIn(area)) {
    return RaiseEvent(kInvalidDoorbellValue, txn);
  }
  // For a level it is always rung, so the last one says it all.
  const bool rung = queue == 0 || !txn.UsesMessages() ||
                    !SubmissionQueue::HasShadowsIn(sqs_[0].area);
  CompletionQueue::StoreHead(area,
                             rung ? value : CompletionQueue::HeadIn(area));
  const Lives lives = txn.Get(state_.sq_lives);
  for (uint16_t i = 0; i <= io_queues_; ++i) {
    if (lives[i] != 0 && SubmissionQueue::CqIn(sqs_[i].area) == queue &&
        SubmissionQueue::StalledIn(sqs_[i].area)) {
      txn.Order(i);
    }
  }
  if (!txn.UsesMessages()) txn.SetIntx(IntxLevel(txn));
}

void PciNvme::RaiseEvent(uint32_t event, PciTxn& txn) {
  const uint32_t events = txn.Get(state_.events);
  const FeatureValues features = txn.Get(state_.features);
  if ((events & event) != 0 ||
      !IsAskedFor(event,
                  features[static_cast<size_t>(Feature::kAsyncEvents)])) {
    return;
  }
  txn.Set(state_.events, events | event);
  txn.Order(0);
}

// Whether a completion queue that interrupts has what the guest has not taken.
bool PciNvme::IntxLevel(PciTxn& txn) {
  const Lives lives = txn.Get(state_.cq_lives);
  const uint32_t masked = txn.Get(kMaskSet);
  for (uint16_t i = 0; i <= io_queues_; ++i) {
    if (lives[i] == 0) continue;
    const std::optional<uint16_t> vector =
        CompletionQueue::InterruptsIn(cqs_[i].area);
    if (vector.has_value() && (masked >> (*vector % 32) & 1) == 0) return true;
  }
  return false;
}

}  // namespace holdfast::nvme
