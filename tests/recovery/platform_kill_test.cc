// Platform devices, a serial port and a copier, in their sandbox under a real
// store, killed while a client of vfio-user types or has memory copied.
// HOLDFAST_KILLS=<n> kills n times.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "devices/testing/managed_device_sys.h"
#include "devices/vfio_user/testing/client_sys.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::holdfast::vfio_user::Client;

// Registers of the PL011.
constexpr uint64_t kData = 0x00;
constexpr uint64_t kFlags = 0x18;
constexpr uint64_t kControl = 0x30;
constexpr uint64_t kMask = 0x38;
constexpr uint64_t kOn = 0x301;
constexpr uint64_t kLoopback = 0x80;

class PlatformKillTest : public ::testing::Test {
 protected:
  void Start(const std::string& program, const std::string& policy,
             std::map<std::string, std::string> resources) {
    ManagedDevice::Options options;
    options.program = program;
    options.policy = policy;
    options.policy_includes = {"sandbox/policies"};
    options.store_program = "statestore/store/holdfast-store";
    options.resources = std::move(resources);
    auto device = ManagedDevice::Start(options);
    ASSERT_OK(device);
    device_ = *std::move(device);
    auto client = Client::Connect(device_->socket_path());
    ASSERT_OK(client);
    client_ = *std::move(client);
    ASSERT_OK(client_->Negotiate());
  }

  // Kills the device again and again while `turn` runs, over and over.
  template <typename Turn>
  void KillDuring(Turn turn) {
    std::atomic<bool> end{false};
    absl::Status status;
    std::thread typist([&] {
      while (!end && status.ok()) status = turn();
    });
    std::mt19937 random(9);
    const char* wanted = std::getenv("HOLDFAST_KILLS");
    const int kills = wanted == nullptr ? 60 : std::max(1, std::atoi(wanted));
    for (int i = 0; i < kills; ++i) {
      usleep(random() % 3000);
      EXPECT_OK(device_->Kill(SIGKILL));
      EXPECT_OK(device_->AddStandby());
    }
    end = true;
    typist.join();
    EXPECT_OK(status);
  }

  std::unique_ptr<ManagedDevice> device_;
  std::unique_ptr<Client> client_;
};

class UartTest : public PlatformKillTest {
 protected:
  void SetUp() override {
    output_ = directory_.path() + "/output";
    std::ofstream(output_).close();
    Start("devices/platform_uart/holdfast-platform-uart",
          "devices/platform_uart/platform_uart.policy", {{"output", output_}});
  }

  const TempDir directory_;
  std::string output_;
};

TEST_F(UartTest, WhatIsTypedComesOutOnce) {
  ASSERT_OK(client_->Write(0, kControl, kOn, 4));
  std::string typed;
  KillDuring([&]() -> absl::Status {
    const char c = static_cast<char>('a' + typed.size() % 23);
    typed.push_back(c);
    RETURN_IF_ERROR(client_->PostWrite(0, kData, static_cast<uint8_t>(c), 4));
    // Not further ahead than a socket holds.
    return typed.size() % 16 == 0 ? client_->Read(0, kFlags, 4).status()
                                  : absl::OkStatus();
  });
  ASSERT_OK(client_->Read(0, kFlags, 4));
  std::ostringstream text;
  text << std::ifstream(output_).rdbuf();
  EXPECT_EQ(text.str(), typed);
  EXPECT_GT(typed.size(), 100u);
}

// Reading takes a byte away: never twice, and none is lost. The line says that
// there is one.
TEST_F(UartTest, WhatLoopsBackIsReadOnce) {
  auto line = client_->Listen(0, 0);
  ASSERT_OK(line);
  ASSERT_OK(client_->Write(0, kControl, kOn | kLoopback, 4));
  ASSERT_OK(client_->Write(0, kMask, 0x10, 4));
  uint64_t rounds = 0;
  std::mt19937 random(4);
  KillDuring([&]() -> absl::Status {
    const uint32_t count = 1 + random() % 16;
    for (uint32_t i = 0; i < count; ++i) {
      RETURN_IF_ERROR(client_->PostWrite(0, kData, (rounds + i) & 0xff, 4));
    }
    for (uint32_t i = 0; i < count; ++i) {
      ASSIGN_OR_RETURN(const uint64_t got, client_->Read(0, kData, 4));
      if (got == ((rounds + i) & 0xff)) continue;
      return absl::DataLossError(
          absl::StrCat("byte ", i, " of round ", rounds, " is ", got));
    }
    ++rounds;
    return absl::OkStatus();
  });
  uint64_t signals = 0;
  EXPECT_GT(read(line->get(), &signals, sizeof(signals)), 0);
  EXPECT_GT(rounds, 10u);
}

class CopierTest : public PlatformKillTest {
 protected:
  static constexpr uint64_t kSize = 4096;  // Bytes of each of two halves.
  static constexpr uint64_t kAt = 0x100000;

  void SetUp() override {
    Start("examples/hello_platform/hello_platform",
          "examples/hello_platform/hello_platform.policy", {});
  }

  // Copies from one half to the other, each time something else, while the
  // device is killed.
  void CopyAndCheck(absl::Span<uint8_t> memory) {
    const auto line = client_->Listen(0, 0);
    ASSERT_OK(line);
    uint64_t rounds = 0;
    std::mt19937 random(4);
    KillDuring([&]() -> absl::Status {
      for (uint64_t i = 0; i < kSize; ++i) {
        memory[i] = static_cast<uint8_t>(random());
      }
      RETURN_IF_ERROR(client_->Write(0, 0x00, kAt, 8));
      RETURN_IF_ERROR(client_->Write(0, 0x08, kAt + kSize, 8));
      RETURN_IF_ERROR(client_->Write(0, 0x10, kSize, 4));
      RETURN_IF_ERROR(client_->PostWrite(0, 0x14, 1, 4));
      uint64_t busy = 1;
      while (busy != 0) {
        ASSIGN_OR_RETURN(busy, client_->Read(0, 0x18, 4));
      }
      ASSIGN_OR_RETURN(const uint64_t state, client_->Read(0, 0x1c, 4));
      if (state != 1 || memory.first(kSize) != memory.subspan(kSize, kSize)) {
        return absl::DataLossError(
            absl::StrCat("round ", rounds, " ends with ", state));
      }
      ++rounds;
      return client_->Write(0, 0x1c, 1, 4);
    });
    EXPECT_GT(rounds, 10u);
  }
};

TEST_F(CopierTest, CopiesMappedMemoryWhileItIsKilled) {
  const auto file = CreateSealedMemfd("guest", 2 * kSize);
  ASSERT_OK(file);
  const auto memory = MapShared(*file, 0, 2 * kSize, MapAccess::kReadWrite);
  ASSERT_OK(memory);
  ASSERT_OK(client_->Map(kAt, *file, 0, 2 * kSize));
  CopyAndCheck(memory->span());
}

TEST_F(CopierTest, CopiesWhatItMustAskForWhileItIsKilled) {
  std::vector<uint8_t> memory(2 * kSize);
  ASSERT_OK(client_->MapByMessage(kAt, absl::MakeSpan(memory)));
  CopyAndCheck(absl::MakeSpan(memory));
  EXPECT_GT(client_->asks(), 20u);
}

}  // namespace
}  // namespace holdfast::testing
