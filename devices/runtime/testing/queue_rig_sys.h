#ifndef HOLDFAST_DEVICES_RUNTIME_TESTING_QUEUE_RIG_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_TESTING_QUEUE_RIG_SYS_H_

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/queue_runner_sys.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "gtest/gtest.h"
#include "statestore/inflight.h"
#include "statestore/queue_stats.h"
#include "statestore/state_section.h"
#include "statestore/transaction.h"

namespace holdfast::testing {

struct CounterState {
  static constexpr SchemaId kSchema{"counter", /*version=*/1};
  Cell<uint64_t> requests{"requests"};
};

// A device that does what the test says.
class ScriptedDevice final : public VirtioDevice {
 public:
  using Handler = std::function<absl::Status(uint8_t first, Request&, Txn&)>;

  absl::Status OnRequest(Request& request, Txn& txn) override {
    uint8_t first = 0;
    request.Read({&first, 1});
    if (handler) return handler(first, request, txn);
    txn.Complete(request, request.Write("."));
    return absl::OkStatus();
  }
  void OnPoisoned(Request& request, Txn& txn) override {
    txn.Complete(request, request.Write("!?"));
  }

  Handler handler;
};

// One queue, its driver and all of it that outlives a process, in shared
// memory: processes that the test forks run it in turn.
class QueueRig {
 public:
  static constexpr uint16_t kRingSize = 64;
  static constexpr size_t kDriverMemory = 1 << 20;
  using DriverBuffer = FakeDriver::Buffer;

  explicit QueueRig(uint16_t queue = 0, uint16_t queues = 1)
      : queue_(queue),
        schema_(*DescribeState<CounterState>()),
        counter_(*BindState<CounterState>(schema_)) {
    constexpr size_t kSize = kDriverMemory + (1 << 16);
    shared_ = static_cast<uint8_t*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                                         MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    FakeDriver::Options options;
    options.size = kRingSize;
    driver_ = std::make_unique<FakeDriver>(
        options, absl::MakeSpan(shared_, kDriverMemory));
    stats = reinterpret_cast<QueueStats*>(shared_ + kDriverMemory);
    stamp = reinterpret_cast<QueueStamp*>(stats + 1);
    inflight_ = {shared_ + kDriverMemory + 4096, InflightRegionSize(kRingSize)};
    state_ = {shared_ + kDriverMemory + 8192,
              StateSectionSize(schema_.size, queues)};
    FormatState(state_, schema_.size, queues);
    kick.Reset(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    call.Reset(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  }

  FakeDriver& driver() { return *driver_; }
  const CounterState& counter() const { return counter_; }
  absl::Span<uint8_t> inflight() const { return inflight_; }

  // A new incarnation's view of the state.
  StateBank& Bank() {
    bank_.emplace(*StateBank::Attach(state_, ++epoch_));
    return *bank_;
  }
  SplitRing Ring() {
    absl::optional<InflightTable> table;
    if (tracked) table = *InflightTable::Attach(inflight_, kRingSize);
    return *SplitRing::Create(driver_->config(), &driver_->memory(), table);
  }
  std::unique_ptr<QueueRunner> Runner(VirtioDevice& device,
                                      uint16_t workers = 1) {
    return std::make_unique<QueueRunner>(queue_, workers, device, *stats,
                                         *stamp);
  }
  absl::Status Start(QueueRunner& runner, StateBank& bank, uint16_t base = 0) {
    QueueRunner::Config config{Ring(), &bank};
    config.kick = kick;
    config.call = call;
    config.base = base;
    if (driver_->memory().logging()) {
      config.used_log = driver_->ToGuest(&driver_->used());
    }
    return runner.Start(std::move(config));
  }
  absl::Status Start(QueueRunner& runner) { return Start(runner, Bank()); }

  uint64_t Post(char first) {
    const auto number =
        driver_->Post({DriverBuffer::Readable({static_cast<uint8_t>(first)}),
                       DriverBuffer::Writable(4)});
    EXPECT_TRUE(number.has_value());
    return number.value_or(0);
  }
  void Kick() { eventfd_write(kick.get(), 1); }
  // Waits until `count` answers have come; what they say, in their order.
  std::vector<std::string> Answers(size_t count) {
    std::vector<std::string> answers;
    while (answers.size() < count) {
      for (const FakeDriver::Answer& answer : driver_->Collect()) {
        answers.emplace_back(answer.data.begin(),
                             answer.data.begin() + answer.written);
      }
      if (answers.size() < count) usleep(200);
    }
    return answers;
  }
  uint64_t Requests() {
    StateTxn txn = Bank().Begin();
    return txn.Get(counter_.requests);
  }

  UniqueFd kick;
  UniqueFd call;
  QueueStats* stats;
  QueueStamp* stamp;
  bool tracked = true;  // Whether rings have an in-flight table.

 private:
  const uint16_t queue_;
  const Schema schema_;
  const CounterState counter_;
  uint8_t* shared_;
  std::unique_ptr<FakeDriver> driver_;
  absl::Span<uint8_t> inflight_;
  absl::Span<uint8_t> state_;
  std::optional<StateBank> bank_;
  uint64_t epoch_ = 0;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_RUNTIME_TESTING_QUEUE_RIG_SYS_H_
