// PCI devices in their sandbox under a real store, killed while a vfio-user
// client uses their registers. HOLDFAST_KILLS=<n> kills each n times.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/unique_fd.h"
#include "devices/bus/region_device.h"
#include "devices/testing/managed_device_sys.h"
#include "devices/vfio_user/testing/client_sys.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::holdfast::vfio_user::Client;

int Kills(int kills) {
  const char* wanted = std::getenv("HOLDFAST_KILLS");
  return wanted == nullptr ? kills : std::max(1, std::atoi(wanted));
}

ManagedDevice::Options OptionsOf(const std::string& program) {
  ManagedDevice::Options options;
  options.program = program;
  options.policy = "devices/pci_edu/pci_edu.policy";
  options.policy_includes = {"sandbox/policies"};
  options.store_program = "statestore/store/holdfast-store";
  return options;
}

absl::StatusOr<std::unique_ptr<Client>> Connected(const ManagedDevice& device,
                                                  bool twin = false) {
  ASSIGN_OR_RETURN(auto client, Client::Connect(device.socket_path()));
  RETURN_IF_ERROR(client->Negotiate(twin));
  return client;
}

// Kills the device until it has been killed `kills` times, at random instants.
absl::Status KillAgainAndAgain(ManagedDevice& device, int kills) {
  std::mt19937_64 random(7);
  std::vector<double> latencies;
  for (int i = 0; i < kills; ++i) {
    usleep(random() % 3000);
    ASSIGN_OR_RETURN(const auto recovery, device.Kill(SIGKILL));
    latencies.push_back(recovery.death_to_promotion_us);
    RETURN_IF_ERROR(device.AddStandby());
  }
  std::sort(latencies.begin(), latencies.end());
  std::printf("%d kills, death seen to promotion sent: median %.0f us\n", kills,
              latencies[latencies.size() / 2]);
  return absl::OkStatus();
}

// A client on a thread of its own that does `turn` again and again until it is
// told to end or something is wrong.
class Hammer {
 public:
  template <typename Turn>
  explicit Hammer(Turn turn)
      : thread_([this, turn]() mutable {
          while (!end_ && status_.ok()) {
            status_ = turn();
            ++turns_;
          }
        }) {}
  ~Hammer() { (void)End(); }

  absl::Status End() {
    end_ = true;
    if (thread_.joinable()) thread_.join();
    return status_;
  }
  uint64_t turns() const { return turns_; }

 private:
  std::atomic<bool> end_{false};
  std::atomic<uint64_t> turns_{0};
  absl::Status status_;
  std::thread thread_;  // Last: it uses the others.
};

absl::Status Expect(uint64_t got, uint64_t wanted, const char* what) {
  if (got == wanted) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(what, " is ", got, " and not ", wanted));
}

// Reads with side effects, posted writes and writes with a reply; what a model
// of the registers says must be what the device says.
class TortureClient {
 public:
  explicit TortureClient(Client& client) : client_(client) {}

  absl::Status operator()() {
    const auto value = static_cast<uint32_t>(random_());
    switch (value % 5) {
      case 0:
        return Read(0x00, ++count_, "the counter");
      case 1:
        sum_ = 31 * sum_ + value;
        ++writes_;
        return client_.PostWrite(0, 0x04, value, 4);
      case 2:
        latch_ |= value;
        return client_.Write(0, 0x14, value, 4);
      case 3: {
        const uint32_t latch = latch_;
        latch_ = 0;
        return Read(0x10, latch, "the latch");
      }
      default:
        RETURN_IF_ERROR(Read(0x04, sum_, "the sum"));
        return Read(0x08, writes_, "the number of writes");
    }
  }

 private:
  absl::Status Read(uint64_t offset, uint32_t wanted, const char* what) {
    ASSIGN_OR_RETURN(const uint64_t got, client_.Read(0, offset, 4));
    return Expect(got, wanted, what);
  }

  Client& client_;
  std::mt19937 random_{11};
  uint32_t count_ = 0, sum_ = 0, writes_ = 0, latch_ = 0;
};

TEST(PciKill, EveryAccessIsDoneOnce) {
  auto device =
      ManagedDevice::Start(OptionsOf("tests/recovery/register_torture"));
  ASSERT_OK(device);
  const auto client = Connected(**device);
  ASSERT_OK(client);
  Hammer hammer{TortureClient(**client)};
  EXPECT_OK(KillAgainAndAgain(**device, Kills(150)));
  EXPECT_OK(hammer.End());
  std::printf("%llu turns of the client\n",
              static_cast<unsigned long long>(hammer.turns()));
  EXPECT_GT(hammer.turns(), 100u);
}

// As servers are that keep their registers to themselves.
TEST(PciKillControl, ADeviceThatForgetsIsSeen) {
  auto device =
      ManagedDevice::Start(OptionsOf("tests/recovery/forgetful_registers"));
  ASSERT_OK(device);
  const auto client = Connected(**device);
  ASSERT_OK(client);
  Hammer hammer{TortureClient(**client)};
  (void)KillAgainAndAgain(**device, 10);
  EXPECT_FALSE(hammer.End().ok());
}

// What the edu driver of a guest would do: factorials by an interrupt, and a
// transfer there and back. Interrupts may come twice, transfers as well.
class EduClient {
 public:
  enum class Memory { kMapped, kByMessage };

  static absl::StatusOr<EduClient> Start(Client& client, Memory how) {
    EduClient edu(client, how);
    ASSIGN_OR_RETURN(edu.memory_, CreateSealedMemfd("guest", kMemory));
    ASSIGN_OR_RETURN(edu.mapping_,
                     MapShared(edu.memory_, 0, kMemory, MapAccess::kReadWrite));
    if (how == Memory::kMapped) {
      RETURN_IF_ERROR(client.Map(0x10000, edu.memory_, 0, kMemory));
    } else {
      RETURN_IF_ERROR(client.MapByMessage(0x10000, edu.mapping_.span()));
    }
    ASSIGN_OR_RETURN(edu.interrupt_, client.Listen(kPciMsiIrq, 0));
    // Bus master; MSI enabled, whose capability is found.
    RETURN_IF_ERROR(client.Write(kPciConfigRegion, 0x04, 0x0006, 2));
    ASSIGN_OR_RETURN(const uint64_t msi, FindCapability(client, 0x05));
    RETURN_IF_ERROR(client.Write(kPciConfigRegion, msi + 2, 1, 2));
    RETURN_IF_ERROR(client.Write(0, 0x20, 0x80, 4));
    return edu;
  }

  absl::Status operator()() {
    ++round_;
    RETURN_IF_ERROR(Factorial(3 + round_ % 8));
    return Transfer();
  }

 private:
  static constexpr size_t kMemory = 8192;

  EduClient(Client& client, Memory how) : client_(&client), how_(how) {}

  static absl::StatusOr<uint64_t> FindCapability(Client& client, uint64_t id) {
    ASSIGN_OR_RETURN(uint64_t at, client.Read(kPciConfigRegion, 0x34, 1));
    while (at != 0) {
      ASSIGN_OR_RETURN(const uint64_t head,
                       client.Read(kPciConfigRegion, at, 2));
      if ((head & 0xff) == id) return at;
      at = head >> 8;
    }
    return absl::NotFoundError("no such capability");
  }

  // Waits for an interrupt that says `cause`, and acknowledges it.
  absl::Status Await(uint32_t cause) {
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (std::chrono::steady_clock::now() < end) {
      uint64_t signals;
      if (read(interrupt_.get(), &signals, sizeof(signals)) < 0) {
        usleep(20);
        // The client answers the device's requests while it waits for a reply.
        if (how_ == Memory::kByMessage) {
          RETURN_IF_ERROR(client_->Read(0, 0x00, 4).status());
        }
        continue;
      }
      ASSIGN_OR_RETURN(const uint64_t status, client_->Read(0, 0x24, 4));
      if ((status & cause) == 0) continue;
      return client_->Write(0, 0x64, cause, 4);
    }
    return absl::DataLossError("an interrupt was lost");
  }

  absl::Status Factorial(uint32_t n) {
    RETURN_IF_ERROR(client_->PostWrite(0, 0x08, n, 4));
    RETURN_IF_ERROR(Await(0x01));
    ASSIGN_OR_RETURN(const uint64_t got, client_->Read(0, 0x08, 4));
    uint32_t wanted = 1;
    for (uint32_t i = 2; i <= n; ++i) wanted *= i;
    return Expect(got, wanted, "the factorial");
  }

  absl::Status Dma(uint64_t from, uint64_t to, uint64_t command) {
    RETURN_IF_ERROR(client_->PostWrite(0, 0x80, from, 8));
    RETURN_IF_ERROR(client_->PostWrite(0, 0x88, to, 8));
    RETURN_IF_ERROR(client_->PostWrite(0, 0x90, 4096, 8));
    RETURN_IF_ERROR(client_->PostWrite(0, 0x98, command, 8));
    return Await(0x100);
  }

  absl::Status Transfer() {
    uint8_t* const bytes = mapping_.data();
    for (size_t i = 0; i < 4096; ++i) {
      bytes[i] = static_cast<uint8_t>(i * 7 + round_);
    }
    std::memset(bytes + 4096, 0, 4096);
    RETURN_IF_ERROR(Dma(0x10000, 0x40000, 0x05));
    RETURN_IF_ERROR(Dma(0x40000, 0x11000, 0x07));
    return Expect(
        static_cast<uint64_t>(std::memcmp(bytes, bytes + 4096, 4096) != 0), 0,
        "whether what came back differs");
  }

  Client* client_;
  Memory how_;
  UniqueFd memory_;
  Mapping mapping_;
  UniqueFd interrupt_;
  uint32_t round_ = 0;
};

void KillWhileItTransfers(EduClient::Memory how, int kills, bool twin = false) {
  auto device =
      ManagedDevice::Start(OptionsOf("devices/pci_edu/holdfast-pci-edu"));
  ASSERT_OK(device);
  const auto client = Connected(**device, twin);
  ASSERT_OK(client);
  EXPECT_EQ((*client)->twin().valid(), twin);
  auto edu = EduClient::Start(**client, how);
  ASSERT_OK(edu);
  Hammer hammer([&] { return (*edu)(); });
  EXPECT_OK(KillAgainAndAgain(**device, kills));
  EXPECT_OK(hammer.End());
  std::printf("%llu factorials and transfers there and back, %llu requests\n",
              static_cast<unsigned long long>(hammer.turns()),
              static_cast<unsigned long long>((*client)->asks()));
  EXPECT_GT(hammer.turns(), 10u);
}

TEST(PciKill, WorkTransfersAndInterruptsGoOn) {
  KillWhileItTransfers(EduClient::Memory::kMapped, Kills(100));
}

// The client gives no file of its memory: the device asks for every byte, and
// dies while it asks.
TEST(PciKill, DmaByMessageGoesOn) {
  KillWhileItTransfers(EduClient::Memory::kByMessage, Kills(100));
}

// The requests have a socket of their own.
TEST(PciKill, DmaByMessageGoesOnOverASecondSocket) {
  KillWhileItTransfers(EduClient::Memory::kByMessage, Kills(100),
                       /*twin=*/true);
}

// A client that is given a second socket and transfers by it, once.
absl::Status TransferOverASecondSocket(const ManagedDevice& device) {
  // The store turns it away as long as the device has not seen the end of the
  // one before.
  const auto client = PollUntil([&]() -> std::unique_ptr<Client> {
    auto connected = Connected(device, /*twin=*/true);
    return connected.ok() ? *std::move(connected) : nullptr;
  });
  if (client == nullptr) return absl::UnavailableError("nobody serves it");
  RETURN_IF_ERROR(Expect(client->twin().valid(), 1, "second sockets"));
  ASSIGN_OR_RETURN(EduClient edu,
                   EduClient::Start(*client, EduClient::Memory::kByMessage));
  return edu();
}

// The device dies before it has made that socket, before the client has its
// end, and with it.
TEST(PciKill, ASecondSocketComesWhoeverDies) {
  auto device =
      ManagedDevice::Start(OptionsOf("devices/pci_edu/holdfast-pci-edu"));
  ASSERT_OK(device);
  std::mt19937_64 random(5);
  for (int i = 0; i < Kills(40); ++i) {
    absl::Status status;
    std::thread vmm([&] { status = TransferOverASecondSocket(**device); });
    usleep(random() % 1500);
    const auto killed = (*device)->Kill(SIGKILL);
    vmm.join();
    ASSERT_OK(status);
    ASSERT_OK(killed);
    ASSERT_OK((*device)->AddStandby());
  }
}

// It crashes two processes, and is refused by the third.
TEST(PciKill, AnAccessThatCrashesIsRefusedInTheEnd) {
  auto device =
      ManagedDevice::Start(OptionsOf("tests/recovery/register_torture"));
  ASSERT_OK(device);
  const auto client = Connected(**device);
  ASSERT_OK(client);
  TortureClient torture(**client);
  for (int i = 0; i < 20; ++i) ASSERT_OK(torture());
  const auto recover_twice = [&] {
    for (int deaths = 0; deaths < 2; ++deaths) {
      const auto recovery = (*device)->AwaitRecovery();
      ASSERT_OK(recovery);
      ASSERT_OK((*device)->AddStandby());
    }
  };
  ASSERT_OK((*client)->PostWrite(0, 0x18, 1, 4));
  recover_twice();
  for (int i = 0; i < 20; ++i) ASSERT_OK(torture());
  absl::StatusOr<uint64_t> ones;
  std::thread reader([&] { ones = (*client)->Read(0, 0x18, 4); });
  recover_twice();
  reader.join();
  EXPECT_THAT(ones, IsOkAndHolds(0xffffffffu));
  for (int i = 0; i < 20; ++i) ASSERT_OK(torture());
}

// One client after the other, each with a device that was reset.
TEST(PciKill, ServesTheNextClientAfterTheOneBefore) {
  auto device =
      ManagedDevice::Start(OptionsOf("tests/recovery/register_torture"));
  ASSERT_OK(device);
  for (int round = 0; round < 5; ++round) {
    // The store turns a client away as long as the device has not seen the end
    // of the one before.
    const auto client = PollUntil([&]() -> std::unique_ptr<Client> {
      auto connected = Connected(**device);
      return connected.ok() ? *std::move(connected) : nullptr;
    });
    ASSERT_NE(client, nullptr);
    TortureClient torture(*client);
    for (int i = 0; i < 50; ++i) ASSERT_OK(torture());
    if (round % 2 == 1) {
      ASSERT_OK((*device)->Kill(SIGKILL));
      ASSERT_OK((*device)->AddStandby());
      for (int i = 0; i < 50; ++i) ASSERT_OK(torture());
    }
  }
}

}  // namespace
}  // namespace holdfast::testing
