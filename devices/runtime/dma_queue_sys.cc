#include "devices/runtime/dma_queue_sys.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/shared_access.h"
#include "base/status_macros.h"
#include "devices/bus/virtio_spec.h"
#include "devices/runtime/event_sys.h"
#include "devices/virtqueue/dma_chain.h"
#include "devices/virtqueue/split_ring_impl.h"
#include "statestore/inflight.h"

namespace holdfast {
namespace {

DmaDescriptorTable TableOf(const SplitRingConfig& ring) {
  DmaDescriptorTable table;
  table.descriptors =
      GuestAddress{reinterpret_cast<uintptr_t>(ring.descriptors)};
  table.size = ring.size;
  table.indirect = ring.indirect;
  return table;
}

}  // namespace

DmaQueueRunner::DmaQueueRunner(uint16_t queue, VirtioDevice& device,
                               QueueStats& stats, QueueStamp& stamp, Dma& dma)
    : queue_(queue),
      device_(device),
      stats_(stats),
      stamp_(stamp),
      dma_(dma),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      port_(dma),
      room_(new uint8_t[kRoom]),
      thread_([this] { Run(); }) {
  resubmit_.reserve(VirtioSpec::kMaxQueueSize);
  // The C library starts a thread with calls that the steady-state filter does
  // not know: they must be over before the filter comes.
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return idle_; });
}

DmaQueueRunner::~DmaQueueRunner() {
  Stop();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    exit_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

// ---- The control thread ----

void DmaQueueRunner::Start(const Config& config) {
  std::lock_guard<std::mutex> lock(mutex_);
  config_ = config;
  stop_.store(false);
  started_ = true;
  idle_ = false;
  running_ = true;
  changed_.notify_all();
}

void DmaQueueRunner::Stop() {
  running_ = false;
  std::unique_lock<std::mutex> lock(mutex_);
  started_ = false;
  stop_.store(true);
  RaiseEvent(wake_);
  changed_.wait(lock, [this] { return idle_; });
}

// ---- The thread ----

void DmaQueueRunner::OnCrash(int) {
  if (serving_ && ring_.has_value()) ring_->table()->MarkStarted(head_);
}

void DmaQueueRunner::Run() {
  ObserveCrashes(this);
  port_.Use();
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    idle_ = !started_;
    if (idle_) {
      changed_.notify_all();
      if (exit_) return;
      // Also for a life that was over before it began.
      changed_.wait(lock, [this] { return !idle_ || exit_; });
      continue;
    }
    lock.unlock();
    Live();
    lock.lock();
  }
}

// One life of the queue. Whatever ends it, the next one recovers.
void DmaQueueRunner::Live() {
  const absl::Status end = Serve();
  ring_.reset();
  Stamp(false);
  if (stop_.load()) return;
  // Whoever has transfers fail for a moment is not worth a line.
  if (!end.ok() && answered_ == 0)
    log_.Warning("queue ", queue_, " waits: ", end.message());
  AwaitKick();
}

absl::Status DmaQueueRunner::Serve() {
  port_.Boot();
  answered_ = 0;
  RETURN_IF_ERROR(Recover());
  Signal();
  while (!stop_.load()) {
    TakenRequest work;
    ASSIGN_OR_RETURN(const bool taken, Take(&work));
    if (taken) {
      RETURN_IF_ERROR(Handle(work));
      continue;
    }
    const bool more = ring_->EnableKicks();
    RETURN_IF_ERROR(port_.status());
    if (!more) AwaitKick();
  }
  return absl::OkStatus();
}

absl::Status DmaQueueRunner::Recover() {
  ASSIGN_OR_RETURN(Ring::Table table,
                   Ring::Table::Attach(config_.inflight, config_.ring.size));
  ASSIGN_OR_RETURN(Ring ring,
                   Ring::Create(config_.ring, nullptr, std::move(table)));
  ring_.emplace(std::move(ring));
  absl::StatusOr<absl::Span<const InflightRequest>> left = ring_->Recover(0);
  RETURN_IF_ERROR(port_.status());
  if (absl::IsDataLoss(left.status())) {
    // As RingExecutor does where rings are mapped.
    log_.Error("queue ", queue_,
               ": what was in flight is given up: ", left.status().message());
    ring_->table()->Forget();
    left = ring_->Recover(0);
    RETURN_IF_ERROR(port_.status());
  }
  RETURN_IF_ERROR(left.status());
  resubmit_.clear();
  resubmitted_ = 0;
  for (const InflightRequest& request : *left) {
    resubmit_.push_back({request.head, request.counter, request.deaths});
  }
  Count(stats_.resubmitted, left->size());
  uint16_t head;
  uint32_t written;
  if (TakeRecorded(queue_, *config_.state, resubmit_, &head, &written)) {
    RETURN_IF_ERROR(Publish(head, written));
  }
  return ForgetRecorded(queue_, *config_.state);
}

absl::StatusOr<bool> DmaQueueRunner::Take(TakenRequest* work) {
  if (resubmitted_ < resubmit_.size()) {
    *work = resubmit_[resubmitted_++];
    return true;
  }
  const Popped popped = ring_->Pop();
  // First of all: what a dead ring says is made up.
  RETURN_IF_ERROR(port_.status());
  switch (popped.result) {
    case PopResult::kRequest:
      *work = {popped.head, ring_->table()->counter(popped.head), 0};
      return true;
    case PopResult::kEmpty:
      return false;
    case PopResult::kBroken:
      break;
  }
  Count(stats_.broken);
  return absl::FailedPreconditionError(
      absl::StrCat("the driver broke the ring (", ring_->broken(), ")"));
}

absl::Status DmaQueueRunner::Handle(const TakenRequest& work) {
  Stamp(true);
  size_t written = 0;
  absl::Status read = ReadChain(TableOf(config_.ring), work.head, dma_,
                                {room_.get(), kRoom}, chain_);
  if (read.ok()) read = CopyIn(chain_, dma_);
  if (read.ok()) read = Execute(work, &written);
  if (!read.ok()) {
    if (!IsDriversMistake(read)) return read;
    written = RefuseRequest(executing_, read);
  }
  RETURN_IF_ERROR(Publish(work.head, written));
  SharedAccess::Store(&stamp_.progress_ns, MonotonicNow());
  Stamp(false);
  return absl::OkStatus();
}

// What the device wrote is the guest's before the state says that the request
// was executed: a successor only answers it then.
absl::Status DmaQueueRunner::Execute(const TakenRequest& work,
                                     size_t* written) {
  absl::Status delivered;
  const auto handle = [this, &work](Request& asked, Txn& txn) {
    head_ = work.head;
    serving_ = true;
    absl::Status status = device_.OnRequest(asked, txn);
    serving_ = false;
    return status;
  };
  const auto deliver = [this, &delivered] {
    delivered = CopyOut(chain_, dma_);
    return delivered.ok();
  };
  Request request = AsRequest(queue_, chain_, buffers_);
  *written = ExecuteRequest(executing_, *config_.state, work, request, handle,
                            deliver);
  return delivered;
}

absl::Status DmaQueueRunner::Publish(uint16_t head, size_t written) {
  const Completion completion = {head, static_cast<uint32_t>(written)};
  const absl::Status published = ring_->Publish({&completion, 1});
  RETURN_IF_ERROR(port_.status());
  RETURN_IF_ERROR(published);
  Count(stats_.requests);
  ++answered_;
  const bool wanted = ring_->NeedsInterrupt();
  RETURN_IF_ERROR(port_.status());
  if (wanted) Signal();
  return absl::OkStatus();
}

void DmaQueueRunner::Signal() {
  Count(stats_.interrupts);
  config_.signal->Signal();
}

// Or until the queue is stopped.
void DmaQueueRunner::AwaitKick() {
  pollfd fds[2] = {{config_.kick.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
  (void)!ppoll(fds, 2, nullptr, nullptr);
  if ((fds[0].revents & POLLIN) != 0) DrainEvent(config_.kick);
  if ((fds[1].revents & POLLIN) != 0) DrainEvent(wake_);
  Count(stats_.kicks);
}

void DmaQueueRunner::Stamp(bool busy) {
  const size_t waiting = resubmit_.size() - resubmitted_;
  SharedAccess::Store(&stamp_.in_flight,
                      static_cast<uint32_t>(waiting + (busy ? 1 : 0)));
}

}  // namespace holdfast
