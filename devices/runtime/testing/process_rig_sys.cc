#include "devices/runtime/testing/process_rig_sys.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "base/testing/matchers.h"
#include "devices/runtime/virtio_host_sys.h"

namespace holdfast::testing {

namespace {

constexpr size_t kSegmentSize = 1 << 20;

ProcessRig* g_rig = nullptr;

UniqueFd Duplicated(BorrowedFd fd) {
  return UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
}

struct RigState {
  static constexpr SchemaId kSchema{"rig", /*version=*/1};
  Cell<uint64_t> requests{"requests"};
};

}  // namespace

class RigDevice final : public VirtioDevice {
 public:
  explicit RigDevice(VirtioContext& context) { g_rig->context_ = &context; }

  absl::Status OnRequest(Request& request, Txn& txn) override {
    uint8_t first = '.';
    request.Read({&first, 1});
    g_rig->on_request(first);
    txn.Complete(request, request.Write({&first, 1}));
    return absl::OkStatus();
  }
  void ReadConfig(uint32_t offset, absl::Span<uint8_t> out) const override {
    const uint64_t value = g_rig->config;
    std::memcpy(out.data(), reinterpret_cast<const uint8_t*>(&value) + offset,
                out.size());
  }
  absl::Status WriteConfig(uint32_t offset,
                           absl::Span<const uint8_t> bytes) override {
    uint64_t value = g_rig->config;
    std::memcpy(reinterpret_cast<uint8_t*>(&value) + offset, bytes.data(),
                bytes.size());
    g_rig->config = value;
    return absl::OkStatus();
  }
  void OnFeatures(uint64_t accepted) override { g_rig->features = accepted; }
  void Reset() override { ++g_rig->resets; }
};

absl::Status FakeKeeper::Escrow(store::Slot slot, BorrowedFd fd) {
  std::lock_guard<std::mutex> lock(mutex_);
  held_[slot] = Duplicated(fd);
  return absl::OkStatus();
}

void FakeKeeper::Retain(absl::Span<const uint64_t> bitmap) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (store::Slot slot = store::kSlotFirstSession;
       slot < store::kSlotEndSession; ++slot) {
    if ((bitmap[slot / 64] >> (slot % 64) & 1) == 0) held_.erase(slot);
  }
}

void FakeKeeper::VmmClosed(uint64_t connection) {
  Retain(std::vector<uint64_t>(store::kSlotCount / 64));
  std::lock_guard<std::mutex> lock(mutex_);
  held_.erase(store::kSlotConnection);
  closed_.push_back(connection);
}

void FakeKeeper::GiveTo(DescriptorSlots& descriptors) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [slot, fd] : held_) {
    if (slot == store::kSlotConnection) {
      descriptors.SetConnection(Duplicated(fd), connection_);
    } else {
      descriptors.Set(slot, Duplicated(fd));
    }
  }
}

bool FakeKeeper::Holds(store::Slot slot) {
  std::lock_guard<std::mutex> lock(mutex_);
  return held_.count(slot) != 0;
}

UniqueFd FakeKeeper::Duplicate(store::Slot slot) {
  std::lock_guard<std::mutex> lock(mutex_);
  return Duplicated(held_[slot]);
}

size_t FakeKeeper::session_slots() {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::distance(held_.lower_bound(store::kSlotFirstSession),
                       held_.end());
}

std::vector<uint64_t> FakeKeeper::closed() {
  std::lock_guard<std::mutex> lock(mutex_);
  return closed_;
}

ProcessRig::ProcessRig(const Options& options)
    : options_(options),
      segment_(*CreateSealedMemfd("segment", kSegmentSize)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  g_rig = this;
}

ProcessRig::~ProcessRig() {
  Die();
  g_rig = nullptr;
}

std::unique_ptr<DeviceProcess> ProcessRig::NewProcess() {
  return NewProcess(options_);
}

std::unique_ptr<DeviceProcess> ProcessRig::NewProcess(const Options& options) {
  VirtioClass device_class;
  device_class.make = [](VirtioContext& context)
      -> absl::StatusOr<std::unique_ptr<VirtioDevice>> {
    return std::unique_ptr<VirtioDevice>(std::make_unique<RigDevice>(context));
  };
  VirtioSpec spec(virtio::kDeviceIdRng);
  spec.ConfigSize(sizeof(uint64_t)).CompatVersion(options.compat_version);
  if (options.has_state) spec.State<RigState>();
  for (uint16_t i = 0; i < options.queues; ++i) {
    spec.Queue("requestq", /*max_size=*/128, /*workers=*/2);
  }
  CommandLine& line = lines_[std::to_string(options.pinned_version)];
  line.compat_version = options.pinned_version;
  auto process = std::make_unique<DeviceProcess>(
      options.host != nullptr
          ? *options.host()
          : std::make_unique<VirtioHost>(device_class, std::move(spec)),
      line, options.name);
  process->SetKeeper(keeper_);
  for (const auto& [name, slot] : options.resources) {
    process->NameResource(name, slot);
  }
  keeper_.GiveTo(process->descriptors());
  return process;
}

absl::Status ProcessRig::Run() {
  process_ = NewProcess();
  RETURN_IF_ERROR(process_->AttachSegment(segment_));
  RETURN_IF_ERROR(process_->Build());
  process_->MapAhead();
  poller_.emplace();
  RETURN_IF_ERROR(poller_->Open(process_->waiting()));
  process_->descriptors().SetObserver(*poller_);
  RETURN_IF_ERROR(process_->Promote(++epoch_));
  end_ = false;
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

void ProcessRig::Die() {
  if (!thread_.joinable()) return;
  end_ = true;
  eventfd_write(wake_.get(), 1);
  thread_.join();
  process_->Quiesce();  // Its threads use what it is made of.
  process_.reset();
}

void ProcessRig::Loop() {
  using Source = Poller::Source;
  DescriptorSlots& descriptors = process_->descriptors();
  while (!end_) {
    EXPECT_OK(poller_->Watch(Source::kControl, wake_));
    EXPECT_OK(poller_->Watch(Source::kEvent, process_->event()));
    EXPECT_OK(poller_->Watch(Source::kOtherEvent, process_->other_event()));
    EXPECT_OK(poller_->Watch(Source::kThirdEvent, process_->third_event()));
    EXPECT_OK(poller_->Watch(Source::kFourthEvent, process_->fourth_event()));
    EXPECT_OK(poller_->Watch(Source::kVmm,
                             process_->stalled()
                                 ? BorrowedFd(-1)
                                 : descriptors.Get(store::kSlotConnection)));
    EXPECT_OK(poller_->Watch(Source::kOtherStream, process_->other_stream()));
    const bool woken =
        poller_->WaitUnlessSilent(settles ? process_->pause_ms() : -1);
    if (poller_->ready(Source::kControl)) {
      eventfd_t count;
      eventfd_read(wake_.get(), &count);
      std::lock_guard<std::mutex> lock(mutex_);
      if (arrived_.valid()) {
        descriptors.SetConnection(std::move(arrived_), connections_);
      }
      for (auto& [slot, fd] : given_) {
        descriptors.Set(slot, std::move(fd));
        process_->ResourceReplaced();
      }
      given_.clear();
    }
    // A process that dies here has not come to it.
    if (end_) return;
    if (poller_->HasEvent()) process_->OnEvent();
    EXPECT_OK(
        process_->Serve(woken ? poller_->waiting() : Lane::Waiting::kAny));
  }
}

void ProcessRig::GiveResource(store::Slot slot, UniqueFd fd) {
  EXPECT_OK(keeper_.Escrow(slot, fd));
  if (!thread_.joinable()) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    given_[slot] = std::move(fd);
  }
  eventfd_write(wake_.get(), 1);
}

UniqueFd ProcessRig::ConnectSocket() {
  int pair[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  UniqueFd ours(pair[0]), theirs(pair[1]);
  {
    std::lock_guard<std::mutex> lock(keeper_.mutex_);
    keeper_.held_[store::kSlotConnection] = Duplicated(theirs);
    keeper_.connection_ = connections_ + 1;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    arrived_ = std::move(theirs);
    ++connections_;
  }
  eventfd_write(wake_.get(), 1);
  return ours;
}

std::unique_ptr<FrontEnd> ProcessRig::Connect(
    const FrontEnd::Options& options) {
  auto vmm = FrontEnd::Adopt(ConnectSocket(), options);
  EXPECT_OK(vmm);
  return *std::move(vmm);
}

void ProcessRig::NotifyConfigChange() { context_->NotifyConfigChange(); }

}  // namespace holdfast::testing
