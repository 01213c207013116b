#include "devices/runtime/queue_runner_sys.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/shared_access.h"
#include "base/status_macros.h"
#include "devices/runtime/crash_handler_sys.h"
#include "devices/runtime/event_sys.h"
#include "devices/runtime/prefault.h"
#include "devices/virtqueue/chain.h"

namespace holdfast {
namespace {

// A request that takes longer is worth a thread of its own: two wake-ups cost
// about as much.
constexpr uint64_t kWorthAFollower = 20'000;  // Nanoseconds.

}  // namespace

// One thread. Blames its request when it crashes.
class QueueRunner::Worker final : public CrashObserver {
 public:
  explicit Worker(QueueRunner& runner)
      : runner_(runner), thread_([this] { Run(); }) {}
  ~Worker() override { thread_.join(); }

  void OnCrash(int) override {
    SplitRing::Table* const table = runner_.ring_->table();
    if (serving_ && table != nullptr) table->MarkStarted(head_);
  }

 private:
  void Run();
  void ServeLocked(const Work& work, std::unique_lock<std::mutex>& lock);
  size_t Serve(const Work& work);
  size_t Execute(const Work& work, Request& request);

  QueueRunner& runner_;
  Chain chain_;
  RequestBuffers buffers_;
  volatile bool serving_ = false;
  volatile uint16_t head_ = 0;
  std::thread thread_;  // Last: it uses the others.
};

QueueRunner::QueueRunner(uint16_t queue, uint16_t workers, VirtioDevice& device,
                         QueueStats& stats, QueueStamp& stamp)
    : queue_(queue),
      device_(device),
      stats_(stats),
      stamp_(stamp),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      service_time_(2 * kWorthAFollower) {
  resubmit_.reserve(VirtioSpec::kMaxQueueSize);
  for (uint16_t i = 0; i < workers; ++i) {
    workers_.push_back(std::make_unique<Worker>(*this));
  }
  // The C library starts a thread with calls that the steady-state filter does
  // not know: they must be over before the filter comes.
  std::unique_lock<std::mutex> lock(mutex_);
  idle_.wait(lock, [&] { return started_ == workers; });
}

QueueRunner::~QueueRunner() {
  Stop();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    exit_ = true;
  }
  work_.notify_all();
}

absl::Status QueueRunner::Start(Config config) {
  std::unique_lock<std::mutex> lock(mutex_);
  ring_.emplace(std::move(config.ring));
  ring_->SetUsedLog(config.used_log);
  state_ = config.state;
  kick_ = config.kick;
  call_ = config.call;
  signal_ = config.signal;
  ASSIGN_OR_RETURN(absl::Span<const InflightRequest> left,
                   ring_->Recover(config.base));
  resubmit_.clear();
  resubmitted_ = 0;
  for (const InflightRequest& request : left) {
    resubmit_.push_back({request.head, request.counter, request.deaths});
  }
  Count(stats_.resubmitted, left.size());
  RETURN_IF_ERROR(ResolveRecordLocked());
  StampInFlightLocked();
  ring_->DisableKicks();
  SignalLocked();
  running_ = true;
  lock.unlock();
  work_.notify_one();
  return absl::OkStatus();
}

// The state may already contain what a request in flight does: then it is only
// answered.
absl::Status QueueRunner::ResolveRecordLocked() {
  uint16_t head;
  uint32_t written;
  if (TakeRecorded(queue_, *state_, resubmit_, &head, &written)) {
    // The commit came before the marks in the dirty log, which may be missing.
    if (ring_->ReadChain(head, chain_).ok()) ring_->MarkDirty(chain_);
    PublishLocked(head, written);
  }
  return ForgetRecorded(queue_, *state_);
}

// A worker waits with the lock in its hands when it signals a descriptor that
// is full, which only a VMM can bring about that means to. The control thread,
// which serves the next VMM, makes room then: a signal is left in any case.
std::unique_lock<std::mutex> QueueRunner::LockAgainstFullCall() {
  constexpr timespec kPause = {0, 50'000};
  std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  while (!lock.owns_lock()) {
    if (call_.valid() && IsEventFull(call_)) {
      DrainEvent(call_);
      RaiseEvent(call_);
    }
    ppoll(nullptr, 0, &kPause, nullptr);
    (void)lock.try_lock();
  }
  return lock;
}

void QueueRunner::SetCall(BorrowedFd call) {
  std::unique_lock<std::mutex> lock = LockAgainstFullCall();
  call_ = call;
  // What was signalled to the old one may not have been seen.
  if (running_ && call_.valid() && !IsEventFull(call_)) SignalLocked();
}

uint16_t QueueRunner::Stop() {
  std::unique_lock<std::mutex> lock = LockAgainstFullCall();
  running_ = false;
  if (has_leader_) RaiseEvent(wake_);
  idle_.wait(lock, [this] { return busy_ == 0 && !has_leader_; });
  return ring_.has_value() ? ring_->next_avail() : 0;
}

// 0, which no record has, if nothing is tracked.
uint64_t QueueRunner::CounterOf(uint16_t head) {
  const SplitRing::Table* const table = ring_->table();
  return table != nullptr ? table->counter(head) : 0;
}

QueueRunner::Found QueueRunner::TakeLocked(Work* work) {
  if (resubmitted_ < resubmit_.size()) {
    *work = resubmit_[resubmitted_++];
    return Found::kRequest;
  }
  const Popped popped = ring_->Pop();
  switch (popped.result) {
    case PopResult::kRequest:
      *work = {popped.head, CounterOf(popped.head), 0};
      return Found::kRequest;
    case PopResult::kBroken:
      log_.Warning("queue ", queue_, ": the driver broke the ring (",
                   ring_->broken(), "): it is served again after a reset");
      Count(stats_.broken);
      running_ = false;
      return Found::kNothing;
    case PopResult::kEmpty:
      break;
  }
  return Found::kNothing;
}

void QueueRunner::PublishLocked(uint16_t head, size_t written) {
  const Completion completion = {head, static_cast<uint32_t>(written)};
  const absl::Status status = ring_->Publish({&completion, 1});
  if (!status.ok()) {
    log_.Error("queue ", queue_, ": ", status.message());
    return;
  }
  Count(stats_.requests);
  if (ring_->NeedsInterrupt()) SignalLocked();
}

void QueueRunner::SignalLocked() {
  if (signal_ != nullptr) {
    Count(stats_.interrupts);
    return signal_->Signal();
  }
  if (!call_.valid()) return;
  // Somebody waits for a queue that does not run: the control thread.
  if (!running_ && IsEventFull(call_)) return;
  Count(stats_.interrupts);
  RaiseEvent(call_);
}

// For those who watch from outside.
void QueueRunner::StampInFlightLocked() {
  const size_t waiting = resubmit_.size() - resubmitted_;
  SharedAccess::Store(&stamp_.in_flight,
                      static_cast<uint32_t>(waiting + busy_));
}

// The leader's wait. On return the lock is held again and nothing is assumed.
void QueueRunner::WaitForKickLocked(std::unique_lock<std::mutex>& lock) {
  has_leader_ = true;
  pollfd fds[2] = {{kick_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
  lock.unlock();
  (void)!ppoll(fds, 2, nullptr, nullptr);
  if ((fds[0].revents & POLLIN) != 0) DrainEvent(BorrowedFd(fds[0].fd));
  if ((fds[1].revents & POLLIN) != 0) DrainEvent(wake_);
  lock.lock();
  Count(stats_.kicks);
  has_leader_ = false;
}

void QueueRunner::Worker::Run() {
  ObserveCrashes(this);
  PrefaultStack();
  PrefaultWritable(&chain_, sizeof(chain_));
  PrefaultWritable(&buffers_, sizeof(buffers_));
  QueueRunner& r = runner_;
  std::unique_lock<std::mutex> lock(r.mutex_);
  ++r.started_;
  r.idle_.notify_all();
  while (!r.exit_) {
    Work work;
    if (r.running_ && r.TakeLocked(&work) == Found::kRequest) {
      ServeLocked(work, lock);
      continue;
    }
    if (r.running_ && !r.has_leader_) {
      // A request may have come since the look at the ring.
      if (!r.ring_->EnableKicks()) r.WaitForKickLocked(lock);
      if (r.running_) r.ring_->DisableKicks();
      if (!r.running_) r.idle_.notify_all();
      continue;
    }
    ++r.waiting_;
    r.work_.wait(lock);
    --r.waiting_;
  }
}

void QueueRunner::Worker::ServeLocked(const Work& work,
                                      std::unique_lock<std::mutex>& lock) {
  QueueRunner& r = runner_;
  ++r.busy_;
  r.StampInFlightLocked();
  const bool call_in = r.waiting_ > 0 && r.service_time_ > kWorthAFollower;
  lock.unlock();
  if (call_in) r.work_.notify_one();
  const uint64_t begin = MonotonicNow();
  const size_t written = Serve(work);
  const uint64_t end = MonotonicNow();
  const uint64_t took = end - begin;
  lock.lock();
  r.service_time_ = std::max(took, r.service_time_ - r.service_time_ / 16);
  r.PublishLocked(work.head, written);
  SharedAccess::Store(&r.stamp_.progress_ns, end);
  --r.busy_;
  r.StampInFlightLocked();
  if (r.busy_ == 0 && !r.running_) r.idle_.notify_all();
}

size_t QueueRunner::Worker::Serve(const Work& work) {
  const absl::Status read = runner_.ring_->ReadChain(work.head, chain_);
  if (!read.ok()) return RefuseRequest(runner_.executing_, read);
  Request request = AsRequest(runner_.queue_, chain_, buffers_);
  const size_t written = Execute(work, request);
  runner_.ring_->MarkDirty(chain_);
  return written;
}

size_t QueueRunner::Worker::Execute(const Work& work, Request& request) {
  const auto handle = [this, &work](Request& asked, Txn& txn) {
    head_ = work.head;
    serving_ = true;
    absl::Status status = runner_.device_.OnRequest(asked, txn);
    serving_ = false;
    return status;
  };
  return ExecuteRequest(runner_.executing_, *runner_.state_, work, request,
                        handle, [] { return true; });
}

}  // namespace holdfast
