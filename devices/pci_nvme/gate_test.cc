#include "devices/pci_nvme/gate.h"

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

TEST(Gate, ManyPassBesideOneAnother) {
  Gate gate;
  Gate::Shared one(gate);
  std::thread other([&gate] { Gate::Shared two(gate); });
  other.join();
  EXPECT_FALSE(one.Yield()) << "nobody waits";
}

TEST(Gate, WhoeverIsAloneIs) {
  Gate gate;
  int value = 0;
  std::atomic<bool> stop{false};
  std::vector<std::thread> many;
  for (int i = 0; i < 3; ++i) {
    many.emplace_back([&] {
      Gate::Shared shared(gate);
      while (!stop.load()) {
        const int before = value;
        std::this_thread::yield();
        EXPECT_EQ(value, before) << "changed under a reader";
        shared.Yield();
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    Gate::Alone alone(gate);
    ++value;
  }
  stop.store(true);
  for (std::thread& thread : many) thread.join();
  EXPECT_EQ(value, 50);
}

TEST(Gate, WhoeverYieldsIsTold) {
  Gate gate;
  std::promise<void> inside;
  std::atomic<bool> yielded{false};
  std::thread reader([&] {
    Gate::Shared shared(gate);
    inside.set_value();
    while (!shared.Yield()) std::this_thread::yield();
    yielded.store(true);
  });
  inside.get_future().wait();
  {
    Gate::Alone alone(gate);
    EXPECT_FALSE(yielded.load());
  }
  reader.join();
  EXPECT_TRUE(yielded.load());
}

}  // namespace
}  // namespace holdfast::nvme
