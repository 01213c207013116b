// Queues served beside one another, and made and deleted meanwhile: by as many
// threads as a host has, each of which does whatever work there is.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "base/shared_access.h"
#include "devices/block/block_engine.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/registers.h"
#include "devices/pci_nvme/testing/hooked_engine.h"
#include "devices/pci_nvme/testing/nvme_driver.h"
#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

using ::holdfast::nvme::testing::HookedEngine;
using ::holdfast::nvme::testing::NvmeClass;
using ::holdfast::nvme::testing::NvmeDriver;
using ::holdfast::nvme::testing::NvmeGuest;
using ::holdfast::testing::PciGuest;

// Blocks of memory, one lock: what a disk would do with the same block.
class LockedEngine final : public block::BlockEngine {
 public:
  uint32_t BlockSize() const override { return 512; }
  absl::StatusOr<uint64_t> Size() const override { return bytes_.size(); }
  absl::Status Read(uint64_t offset, absl::Span<const Buffer> to) override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const Buffer& buffer : to) {
      std::memcpy(buffer.data, bytes_.data() + offset, buffer.size);
      offset += buffer.size;
    }
    return absl::OkStatus();
  }
  absl::Status Write(uint64_t offset, absl::Span<const Buffer> from) override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const Buffer& buffer : from) {
      std::memcpy(bytes_.data() + offset, buffer.data, buffer.size);
      offset += buffer.size;
    }
    return absl::OkStatus();
  }
  absl::Status Flush() override { return absl::OkStatus(); }
  absl::Status Discard(uint64_t, uint64_t) override { return absl::OkStatus(); }
  absl::Status WriteZeroes(uint64_t, uint64_t, bool) override {
    return absl::OkStatus();
  }

 private:
  std::mutex mutex_;
  std::vector<uint8_t> bytes_ = std::vector<uint8_t>(0x4000);
};

// Holds who reads until so many are inside at once, or the block is let go.
class MeetingEngine final : public block::BlockEngine {
 public:
  explicit MeetingEngine(int wanted) : wanted_(wanted) {}
  uint32_t BlockSize() const override { return 512; }
  absl::StatusOr<uint64_t> Size() const override { return 0x4000; }
  absl::Status Read(uint64_t offset, absl::Span<const Buffer>) override {
    std::unique_lock<std::mutex> lock(mutex_);
    most_ = std::max(most_, ++inside_);
    if (inside_ >= wanted_) open_ = true;
    changed_.notify_all();
    changed_.wait(lock,
                  [&] { return open_ || let_go_.count(offset / 512) != 0; });
    --inside_;
    return absl::OkStatus();
  }
  absl::Status Write(uint64_t, absl::Span<const Buffer>) override {
    return absl::OkStatus();
  }
  absl::Status Flush() override { return absl::OkStatus(); }
  absl::Status Discard(uint64_t, uint64_t) override { return absl::OkStatus(); }
  absl::Status WriteZeroes(uint64_t, uint64_t, bool) override {
    return absl::OkStatus();
  }
  void AwaitInside(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return inside_ == count; });
  }
  void LetGo(uint64_t block) {
    std::lock_guard<std::mutex> lock(mutex_);
    let_go_.insert(block);
    changed_.notify_all();
  }
  int most() {
    std::lock_guard<std::mutex> lock(mutex_);
    return most_;
  }

 private:
  const int wanted_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<uint64_t> let_go_;
  int inside_ = 0;
  int most_ = 0;
  bool open_ = false;
};

// The threads of a host.
class Workers {
 public:
  explicit Workers(PciFunction& function) {
    for (uint32_t i = 0; i < function.work_threads(); ++i) {
      threads_.emplace_back([this, &function] {
        while (!stop_.load()) {
          if (function.work_pending()) {
            EXPECT_TRUE(function.RunWork().ok());
          } else {
            std::this_thread::yield();
          }
        }
      });
    }
  }
  ~Workers() {
    stop_.store(true);
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

class ThreadsTest : public ::testing::Test {
 protected:
  ThreadsTest()
      : guest_(NvmeClass({{"num-queues", "2"}},
                         [](PciContext&) {
                           return std::make_unique<LockedEngine>();
                         }),
               NvmeGuest()),
        driver_(guest_) {}

  // A doorbell as a carrier brings it, the work left to others.
  void Ring(uint16_t queue, bool completion, uint32_t value) {
    uint8_t bytes[4];
    std::memcpy(bytes, &value, sizeof(bytes));
    EXPECT_TRUE(guest_.function()
                    .Write(AccessId::kNone, 0,
                           kDoorbells.offset() + 8 * queue + 4 * completion,
                           bytes)
                    .ok());
  }
  // Puts a command into its slot without telling anybody.
  void Put(uint16_t queue, Command command) {
    NvmeDriver::Ring& ring = driver_.ring(queue);
    command.cid = ring.next_cid++;
    std::memcpy(guest_.ram().data() + NvmeDriver::SqBase(queue) +
                    ring.tail * sizeof(command),
                &command, sizeof(command));
    ring.tail = static_cast<uint16_t>((ring.tail + 1) % ring.entries);
  }
  // Waits for the next completion, and takes it.
  Status Take(uint16_t queue) {
    NvmeDriver::Ring& ring = driver_.ring(queue);
    const uint32_t* const last = reinterpret_cast<const uint32_t*>(
        guest_.ram().data() + NvmeDriver::CqBase(queue) +
        ring.head * sizeof(Completion) + 12);
    while ((SharedAccess::LoadAcquire(last) >> 16 & 1) != ring.phase) {
      std::this_thread::yield();
    }
    ring.head = static_cast<uint16_t>((ring.head + 1) % ring.entries);
    if (ring.head == 0) ring.phase = !ring.phase;
    Ring(queue, /*completion=*/true, ring.head);
    return static_cast<Status>(SharedAccess::LoadAcquire(last) >> 17 & 0x7ff);
  }

  PciGuest guest_;
  NvmeDriver driver_;
};

// Each queue writes its own blocks and reads them back.
TEST_F(ThreadsTest, TwoQueuesKeepTheirCommandsApart) {
  driver_.Enable();
  driver_.CreateQueue(1);
  driver_.CreateQueue(2);
  Workers workers(guest_.function());
  const auto data_of = [](uint16_t queue) {
    return NvmeDriver::kData + (queue - 1) * 2 * kPageSize;
  };
  // One command of each: those of one queue have no order.
  const auto do_both = [&](IoOpcode opcode, uint64_t page) {
    for (const uint16_t queue : {1, 2}) {
      Put(queue,
          NvmeDriver::Io(opcode, queue, 1, data_of(queue) + page * kPageSize));
      Ring(queue, /*completion=*/false, driver_.ring(queue).tail);
    }
    for (const uint16_t queue : {1, 2}) {
      EXPECT_EQ(Take(queue), Status::kSuccess);
    }
  };
  for (int round = 0; round < 200; ++round) {
    const auto fill_of = [round](uint16_t queue) {
      return static_cast<uint8_t>(round + 100 * queue);
    };
    for (const uint16_t queue : {1, 2}) {
      std::memset(guest_.ram().data() + data_of(queue), fill_of(queue), 512);
    }
    do_both(IoOpcode::kWrite, 0);
    do_both(IoOpcode::kRead, 1);
    for (const uint16_t queue : {1, 2}) {
      ASSERT_EQ(guest_.ram()[data_of(queue) + kPageSize + 511], fill_of(queue));
    }
  }
}

TEST_F(ThreadsTest, QueuesComeAndGoBesideABusyOne) {
  driver_.Enable();
  driver_.CreateQueue(1);
  Workers workers(guest_.function());
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 8; ++i) {
      Put(1, NvmeDriver::Io(IoOpcode::kWrite, i, 1));
    }
    Ring(1, /*completion=*/false, driver_.ring(1).tail);
    for (const Command& command :
         {NvmeDriver::Admin(AdminOpcode::kCreateCq, 0x000f0002, 0x00020003,
                            NvmeDriver::CqBase(2)),
          NvmeDriver::Admin(AdminOpcode::kCreateSq, 0x000f0002, 0x00020001,
                            NvmeDriver::SqBase(2)),
          NvmeDriver::Admin(AdminOpcode::kDeleteSq, 2),
          NvmeDriver::Admin(AdminOpcode::kDeleteCq, 2)}) {
      Put(0, command);
      Ring(0, /*completion=*/false, driver_.ring(0).tail);
      EXPECT_EQ(Take(0), Status::kSuccess);
    }
    for (int i = 0; i < 8; ++i) EXPECT_EQ(Take(1), Status::kSuccess);
  }
}

// ---- One queue, several commands at once ----

struct OneQueue {
  OneQueue(int wanted, const char* workers)
      : nvme(NvmeClass({{"num-queues", "1"}, {"workers", workers}},
                       [this, wanted](PciContext&) {
                         auto made = std::make_unique<MeetingEngine>(wanted);
                         engine = made.get();
                         return made;
                       })),
        guest(nvme, NvmeGuest()) {
    NvmeDriver driver(guest);
    driver.Enable();
    driver.CreateQueue(1);
    rings = driver.rings();
  }
  // Reads, of which one doorbell tells; the work is left to others.
  void Submit(int count) {
    NvmeDriver driver(guest, rings);
    for (int i = 0; i < count; ++i) {
      driver.Submit(1, NvmeDriver::Io(IoOpcode::kRead, i, 1));
    }
    rings = driver.rings();
    Ring(1);
  }
  // The same of the admin queue.
  void SubmitAdmin(int count) {
    NvmeDriver driver(guest, rings);
    for (int i = 0; i < count; ++i) {
      driver.Submit(0, NvmeDriver::Admin(AdminOpcode::kGetFeatures, 1));
    }
    rings = driver.rings();
    Ring(0);
  }
  void Ring(uint16_t queue) {
    const uint8_t tail[4] = {static_cast<uint8_t>(rings[queue].tail)};
    EXPECT_TRUE(
        guest.function()
            .Write(AccessId::kNone, 0, kDoorbells.offset() + 8 * queue, tail)
            .ok());
  }
  void AwaitCompletions(int count) {
    const uint32_t* const last = reinterpret_cast<const uint32_t*>(
        guest.ram().data() + NvmeDriver::CqBase(1) +
        (count - 1) * sizeof(Completion) + 12);
    while ((SharedAccess::LoadAcquire(last) >> 16 & 1) == 0) {
      std::this_thread::yield();
    }
  }
  // The ids of what has been completed.
  std::multiset<uint16_t> Completed(PciGuest& in, uint16_t queue = 1) {
    NvmeDriver driver(in, rings);
    std::multiset<uint16_t> cids;
    while (const auto completion = driver.Poll(queue)) {
      cids.insert(completion->cid);
    }
    return cids;
  }

  MeetingEngine* engine = nullptr;
  holdfast::testing::PciClass nvme;
  PciGuest guest;
  NvmeDriver::Rings rings;
};

TEST(NvmeDepth, CommandsOfOneQueueAreExecutedBesideOneAnother) {
  OneQueue queue(/*wanted=*/4, "4");
  queue.Submit(6);
  {
    Workers workers(queue.guest.function());
    queue.AwaitCompletions(6);
  }
  EXPECT_EQ(queue.Completed(queue.guest),
            (std::multiset<uint16_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(queue.engine->most(), 4);
}

TEST(NvmeDepth, OneWorkerExecutesOneAtATime) {
  OneQueue queue(/*wanted=*/1, "1");
  queue.Submit(6);
  {
    Workers workers(queue.guest.function());
    queue.AwaitCompletions(6);
  }
  EXPECT_EQ(queue.Completed(queue.guest).size(), 6u);
  EXPECT_EQ(queue.engine->most(), 1);
}

// Who was ordered to serve the queue has done so; who helped dies with a
// command in its hands. No doorbell is rung again.
TEST(NvmeDepth, WhatAHelperLeavesIsFoundWithoutAnOrder) {
  OneQueue queue(/*wanted=*/100, "4");
  PciFunction& function = queue.guest.function();
  queue.Submit(2);
  std::thread leader([&] { EXPECT_TRUE(function.RunWork().ok()); });
  queue.engine->AwaitInside(1);
  ASSERT_TRUE(function.work_pending()) << "it calls for help";
  std::thread helper([&] { EXPECT_TRUE(function.RunWork().ok()); });
  queue.engine->AwaitInside(2);
  queue.engine->LetGo(0);
  leader.join();
  EXPECT_EQ(queue.Completed(queue.guest), (std::multiset<uint16_t>{1}));
  const absl::Span<uint8_t> memory = queue.guest.memory();
  const std::vector<uint8_t> left(memory.begin(), memory.end());
  queue.engine->LetGo(1);
  helper.join();
  std::copy(left.begin(), left.end(), memory.begin());

  OneQueue next(/*wanted=*/1, "4");
  PciGuest successor(next.nvme, NvmeGuest(), PciGuest::Detached());
  successor.Attach(memory);
  EXPECT_EQ(queue.Completed(successor), (std::multiset<uint16_t>{1, 2}));
}

// A predecessor dies while it serves a queue. Its successor takes that up
// first; were it to attach the queues, another thread could serve the admin
// queue meanwhile, which passes no gate: completions twice, or none.
TEST(NvmeDepth, OnlyTheAdminQueuesThreadAttaches) {
  OneQueue queue(/*wanted=*/100, "2");
  queue.Submit(1);
  std::thread server(
      [&] { EXPECT_TRUE(queue.guest.function().RunWork().ok()); });
  queue.engine->AwaitInside(1);
  queue.SubmitAdmin(3);
  const absl::Span<uint8_t> memory = queue.guest.memory();
  const std::vector<uint8_t> left(memory.begin(), memory.end());
  queue.engine->LetGo(0);
  server.join();
  std::copy(left.begin(), left.end(), memory.begin());

  PciGuest successor(
      NvmeClass({{"num-queues", "1"}, {"workers", "2"}}, HookedEngine::Make),
      NvmeGuest(), PciGuest::Detached());
  size_t admin = 0;  // Completions of that queue when the command is executed.
  HookedEngine::hook() = [&](uint64_t) {
    admin = queue.Completed(successor, 0).size();
    return absl::OkStatus();
  };
  successor.Attach(memory);
  HookedEngine::hook() = nullptr;
  EXPECT_EQ(admin, 3u);
  EXPECT_EQ(queue.Completed(successor), (std::multiset<uint16_t>{1}));
}

// A reset in the middle of all: the old life ends, a new one works.
TEST_F(ThreadsTest, AResetCutsQueuesOff) {
  for (int round = 0; round < 20; ++round) {
    NvmeDriver driver(guest_);
    std::fill_n(guest_.ram().begin(), NvmeDriver::kData, 0);
    driver.Enable();
    driver.CreateQueue(1);
    for (int i = 0; i < 8; ++i) {
      driver.Submit(1, NvmeDriver::Io(IoOpcode::kWrite, i, 1));
    }
    Workers workers(guest_.function());
    Ring(1, /*completion=*/false, 8);
    while (absl::IsUnavailable(guest_.function().Reset())) {
      std::this_thread::yield();
    }
  }
  EXPECT_EQ(guest_.Read32(0, kStatus.offset()), 0u);
}

}  // namespace
}  // namespace holdfast::nvme
