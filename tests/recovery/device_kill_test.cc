// Whole devices in their sandbox under a real store, killed while a front-end
// uses them.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/testing/temp_dir.h"
#include "devices/testing/managed_device_sys.h"
#include "devices/vhost_user/testing/front_end.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using FrontEndBuffer = FrontEnd::Buffer;

ManagedDevice::Options HelloOptions() {
  ManagedDevice::Options options;
  options.program = "examples/hello_virtio/hello_virtio";
  options.policy = "examples/hello_virtio/hello_virtio.policy";
  options.policy_includes = {"sandbox/policies"};
  options.store_program = "statestore/store/holdfast-store";
  return options;
}

std::string Text(const std::vector<uint8_t>& data, uint32_t written) {
  return std::string(data.begin(), data.begin() + written);
}

// Asks `count` times; expects the greetings first, first + 1, ...
uint64_t Greet(FrontEnd& vmm, uint64_t first, int count) {
  for (int i = 0; i < count; ++i, ++first) {
    auto answer = vmm.Transact(0, {FrontEndBuffer::Writable(64)});
    if (!answer.ok()) {
      ADD_FAILURE() << answer.status();
      return 0;
    }
    EXPECT_EQ(Text(answer->data, answer->written),
              "hello #" + std::to_string(first) + "\n");
  }
  return first;
}

// A front-end that is served. The store turns a VMM away as long as the device
// has not yet seen the end of the one before.
std::unique_ptr<FrontEnd> StartedFrontEnd(const std::string& path) {
  return PollUntil([&path]() -> std::unique_ptr<FrontEnd> {
    auto vmm = FrontEnd::Connect(path, {});
    if (vmm.ok() && (*vmm)->Start().ok()) return *std::move(vmm);
    return nullptr;
  });
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The counter that the device keeps in its segment never misses and never
// repeats, the connection stays, and no request is lost.
TEST(HelloDevice, CountsExactlyOnceOverKills) {
  auto device = ManagedDevice::Start(HelloOptions());
  ASSERT_OK(device);
  auto vmm = FrontEnd::Connect((*device)->socket_path(), {});
  ASSERT_OK(vmm);
  ASSERT_OK((*vmm)->Start());
  uint64_t next = Greet(**vmm, 1, 10);
  std::vector<double> latencies;
  for (int kills = 0; kills < 50; ++kills) {
    // Some requests are posted before the kill and answered after it.
    ASSERT_TRUE((*vmm)->driver(0).Post({FrontEndBuffer::Writable(64)}));
    if (kills % 2 == 0) {
      ASSERT_OK((*vmm)->Kick(0));
    }
    auto recovery = (*device)->Kill(SIGKILL);
    ASSERT_OK(recovery);
    EXPECT_EQ(recovery->epoch, static_cast<uint64_t>(kills + 2));
    latencies.push_back(recovery->death_to_promotion_us);
    ASSERT_OK((*device)->AddStandby());
    // The posted one counts, too; its answer is collected with the next.
    next = Greet(**vmm, next + 1, 3);
  }
  EXPECT_EQ((*vmm)->driver(0).outstanding(), 0u);
  EXPECT_THAT((*vmm)->driver(0).violations(), ::testing::IsEmpty());
  std::printf("50 kills, death seen to promotion sent: median %.0f us\n",
              Median(latencies));
}

// Killed between any two messages of the set-up.
TEST(HelloDevice, SurvivesKillsDuringNegotiation) {
  auto device = ManagedDevice::Start(HelloOptions());
  ASSERT_OK(device);
  const auto kill = [&] {
    ASSERT_OK((*device)->Kill(SIGKILL));
    ASSERT_OK((*device)->AddStandby());
  };
  auto vmm = FrontEnd::Connect((*device)->socket_path(), {});
  ASSERT_OK(vmm);
  kill();
  ASSERT_OK((*vmm)->Negotiate());
  kill();
  ASSERT_OK((*vmm)->ShareInflight());
  kill();
  ASSERT_OK((*vmm)->ShareMemory());
  kill();
  ASSERT_OK((*vmm)->StartQueue(0));
  kill();
  const uint64_t next = Greet(**vmm, 1, 5);
  ASSERT_OK((*vmm)->StopQueue(0));
  kill();
  ASSERT_OK((*vmm)->StartQueue(0));
  Greet(**vmm, next, 5);
}

TEST(HelloDevice, ServesTheNextVmmWithTheSameState) {
  auto device = ManagedDevice::Start(HelloOptions());
  ASSERT_OK(device);
  uint64_t next = 1;
  for (int round = 0; round < 3; ++round) {
    const auto vmm = StartedFrontEnd((*device)->socket_path());
    ASSERT_NE(vmm, nullptr);
    next = Greet(*vmm, next, 4);
    if (round == 1) {
      ASSERT_OK((*device)->Kill(SIGKILL));
      ASSERT_OK((*device)->AddStandby());
      next = Greet(*vmm, next, 4);
    }
  }
}

// Inode of this process's guest memory, as the kernel names mappings of it.
std::string GuestMemoryInode() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("guest-memory") == std::string::npos) continue;
    std::istringstream fields(line);
    std::string inode;
    for (int i = 0; i < 5; ++i) fields >> inode;
    return inode;
  }
  return "";
}

// Processes that have the guest memory of this inode mapped.
int Mappers(const std::string& inode) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    // Not "self" and "thread-self".
    if (!isdigit(entry.path().filename().native()[0])) continue;
    std::ifstream maps(entry.path() / "maps");
    bool found = false;
    for (std::string line; std::getline(maps, line);) {
      found |= line.find(" " + inode + " ") != std::string::npos &&
               line.find("guest-memory") != std::string::npos;
    }
    count += found;
  }
  return count;
}

TEST(HelloDevice, LetsGoOfTheMemoryOfAVmmThatHasLeft) {
  auto device = ManagedDevice::Start(HelloOptions());
  ASSERT_OK(device);
  auto vmm = StartedFrontEnd((*device)->socket_path());
  ASSERT_NE(vmm, nullptr);
  Greet(*vmm, 1, 4);
  const std::string inode = GuestMemoryInode();
  ASSERT_NE(inode, "");
  // The test, the active process and its standby, which maps ahead.
  EXPECT_TRUE(PollUntil([&] { return Mappers(inode) == 3; })) << Mappers(inode);
  vmm.reset();
  EXPECT_TRUE(PollUntil([&] { return Mappers(inode) == 0; }))
      << Mappers(inode) << " processes keep it from being freed";
}

TEST(HelloDevice, AMalformedMessageEndsTheConnectionNotTheDevice) {
  auto device = ManagedDevice::Start(HelloOptions());
  ASSERT_OK(device);
  auto bad = FrontEnd::Connect((*device)->socket_path(), {});
  ASSERT_OK(bad);
  ASSERT_OK((*bad)->SendRaw(std::vector<uint8_t>(64, 0xff)));
  EXPECT_OK((*bad)->WaitForClose());
  const auto vmm = StartedFrontEnd((*device)->socket_path());
  ASSERT_NE(vmm, nullptr);
  Greet(*vmm, 1, 3);
}

// SIGBUS is a crash like any other; the successor finds memory that is missing,
// leaves the queue alone and serves the next VMM.
TEST(HelloDevice, SurvivesMemoryThatTheVmmCutsAway) {
  auto device = ManagedDevice::Start(HelloOptions());
  ASSERT_OK(device);
  {
    FrontEnd::Options options;
    options.sealed_memory = false;
    auto vmm = FrontEnd::Connect((*device)->socket_path(), options);
    ASSERT_OK(vmm);
    ASSERT_OK((*vmm)->Start());
    Greet(**vmm, 1, 3);
    ASSERT_EQ(ftruncate((*vmm)->memory_fd().get(), 0), 0);
    ASSERT_OK((*vmm)->Kick(0));
    auto recovery = (*device)->AwaitRecovery();
    ASSERT_OK(recovery);
    EXPECT_EQ(WEXITSTATUS(recovery->wait_status), 128 + SIGBUS);
    ASSERT_OK((*device)->AddStandby());
  }
  const auto vmm = StartedFrontEnd((*device)->socket_path());
  ASSERT_NE(vmm, nullptr);
  Greet(*vmm, 4, 3);
}

ManagedDevice::Options CrashyOptions() {
  ManagedDevice::Options options = HelloOptions();
  options.program = "tests/recovery/crashy_device";
  return options;
}

std::vector<FrontEndBuffer> Ask(uint8_t first) {
  return {FrontEndBuffer::Readable({first}), FrontEndBuffer::Writable(1)};
}

// A request that kills its executor is tried twice; then it is answered with
// an error and everything else goes on, the requests around it included.
TEST(PoisonedRequest, IsAnsweredAfterTwoDeaths) {
  auto device = ManagedDevice::Start(CrashyOptions());
  ASSERT_OK(device);
  auto vmm = FrontEnd::Connect((*device)->socket_path(), {});
  ASSERT_OK(vmm);
  ASSERT_OK((*vmm)->Start());
  FakeDriver& driver = (*vmm)->driver(0);
  for (uint8_t first : {'a', 'X', 'b'}) {
    ASSERT_TRUE(driver.Post(Ask(first)));
  }
  ASSERT_OK((*vmm)->Kick(0));
  for (int death = 0; death < 2; ++death) {
    auto recovery = (*device)->AwaitRecovery();
    ASSERT_OK(recovery);
    EXPECT_TRUE(WIFEXITED(recovery->wait_status));
    EXPECT_EQ(WEXITSTATUS(recovery->wait_status), 128 + SIGSEGV);
    ASSERT_OK((*device)->AddStandby());
  }
  auto after = (*vmm)->Transact(0, Ask('c'));
  ASSERT_OK(after);
  EXPECT_EQ(after->written, 1u);
  // It has several workers: the last request need not be answered last.
  EXPECT_TRUE(PollUntil([&driver] {
    driver.Collect();
    return driver.outstanding() == 0;
  }));
  EXPECT_THAT(driver.violations(), ::testing::IsEmpty());
}

// The control: a request is not blamed for deaths from outside, however many
// there are while it is in flight.
TEST(PoisonedRequest, IsNotBlamedForKillsFromOutside) {
  auto device = ManagedDevice::Start(HelloOptions());
  ASSERT_OK(device);
  auto vmm = FrontEnd::Connect((*device)->socket_path(), {});
  ASSERT_OK(vmm);
  ASSERT_OK((*vmm)->Start());
  for (uint64_t kills = 1; kills <= 10; ++kills) {
    ASSERT_TRUE((*vmm)->driver(0).Post({FrontEndBuffer::Writable(64)}));
    ASSERT_OK((*device)->Kill(SIGKILL));
    ASSERT_OK((*device)->AddStandby());
  }
  Greet(**vmm, 11, 1);
}

}  // namespace
}  // namespace holdfast::testing
