// VIRTIO devices as PCI functions over vfio-user, in their sandbox under a real
// store, killed while a driver uses them. HOLDFAST_KILLS=<n> kills n times.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
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
#include "devices/virtio_pci/testing/virtio_pci_driver.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::holdfast::vfio_user::Client;

int Kills(int kills) {
  const char* wanted = std::getenv("HOLDFAST_KILLS");
  return wanted == nullptr ? kills : std::max(1, std::atoi(wanted));
}

// A counter that the device keeps in its segment, in every answer.
ManagedDevice::Options HelloOverVfioUser() {
  ManagedDevice::Options options;
  options.program = "examples/hello_virtio/hello_virtio";
  options.arguments = {"--protocol=vfio-user"};
  options.policy = "devices/virtio_rng/virtio_rng_pci.policy";
  options.policy_includes = {"sandbox/policies"};
  options.store_program = "statestore/store/holdfast-store";
  return options;
}

// The driver's accesses as a client makes them; the first error stays.
class Bus {
 public:
  explicit Bus(Client& client) : client_(client) {}
  uint64_t Read(uint32_t region, uint64_t offset, size_t size) {
    absl::StatusOr<uint64_t> value =
        client_.Read(region, offset, static_cast<uint32_t>(size));
    status_.Update(value.status());
    return value.ok() ? *value : ~uint64_t{0};
  }
  // Of a BAR posted, as QEMU does.
  void Write(uint32_t region, uint64_t offset, uint64_t value, size_t size) {
    const auto bytes = static_cast<uint32_t>(size);
    status_.Update(region == kPciConfigRegion
                       ? client_.Write(region, offset, value, bytes)
                       : client_.PostWrite(region, offset, value, bytes));
  }
  const absl::Status& status() const { return status_; }

 private:
  Client& client_;
  absl::Status status_;
};

// A guest with the device's queue 0 in use. One thread.
class Guest {
 public:
  static constexpr uint16_t kDepth = 16;

  // Whether the device can map the guest's memory, or has to ask for it.
  enum class Memory { kMapped, kByMessage };

  // `greeted`: how often the device has answered before.
  static absl::StatusOr<std::unique_ptr<Guest>> Start(
      const std::string& socket, uint64_t greeted = 0,
      Memory how = Memory::kMapped) {
    std::unique_ptr<Guest> guest(new Guest(how));
    guest->greeted_ = greeted;
    ASSIGN_OR_RETURN(guest->client_, Client::Connect(socket));
    RETURN_IF_ERROR(guest->client_->Negotiate());
    RETURN_IF_ERROR(guest->SetUp());
    return guest;
  }

  // Asks `count` times at once and waits for all answers, by interrupt. They
  // must be those of the requests in order, each answered once.
  absl::Status Greet(int count) {
    for (int i = 0; i < count; ++i) {
      const FakeDriver::Buffer buffers[] = {FakeDriver::Buffer::Writable(64)};
      if (!rings_->Post(buffers).has_value()) {
        return absl::InternalError("the ring is full");
      }
    }
    if (rings_->NeedsKick()) bus_->Write(notify_bar_, notify_at_, 0, 2);
    RETURN_IF_ERROR(bus_->status());
    for (int left = count; left > 0;) {
      for (const FakeDriver::Answer& answer : rings_->Collect()) {
        RETURN_IF_ERROR(Check(answer));
        --left;
      }
      if (left > 0 && !rings_->EnableInterrupts()) {
        RETURN_IF_ERROR(AwaitInterrupt());
      }
    }
    return absl::OkStatus();
  }

  // Asks once, and does not wait.
  absl::Status Ask() {
    const FakeDriver::Buffer buffer = FakeDriver::Buffer::Writable(64);
    if (!rings_->Post({&buffer, 1}).has_value()) {
      return absl::InternalError("the ring is full");
    }
    bus_->Write(notify_bar_, notify_at_, 0, 2);
    return bus_->status();
  }

  // Takes all of the guest's memory away, or grants it again.
  absl::Status Revoke() { return client_->Unmap(kAddress, kMemory); }
  absl::Status Grant() {
    return how_ == Memory::kMapped
               ? client_->Map(kAddress, memory_, 0, kMemory)
               : client_->MapByMessage(kAddress, mapping_.span());
  }

  // Resets the device and uses its queue, whose ring is new.
  absl::Status Initialize() {
    driver_->Enable(/*msix=*/true);
    if (!Negotiate()) {
      return absl::InternalError("the device does not agree");
    }
    const SplitRingConfig ring = rings_->config();
    driver_->SetUpQueue(0, {kDepth, ToInt(rings_->ToGuest(ring.descriptors)),
                            ToInt(rings_->ToGuest(ring.available)),
                            ToInt(rings_->ToGuest(ring.used)), 1});
    driver_->Go();
    notify_bar_ = driver_->notify().bar;
    notify_at_ = driver_->NotifyAddress(0);
    return bus_->status();
  }
  bool Negotiate() {
    return driver_->Negotiate(virtio::kFeatureVersion1 |
                              virtio::kFeatureRingEventIdx);
  }

  uint64_t greeted() const { return greeted_; }
  VirtioPciDriver<Bus>& driver() { return *driver_; }
  Client& client() { return *client_; }
  Bus& bus() { return *bus_; }

 private:
  static constexpr uint64_t kAddress = 0x100000;
  static constexpr size_t kMemory = 1 << 20;

  explicit Guest(Memory how) : how_(how) {}

  absl::Status SetUp() {
    ASSIGN_OR_RETURN(memory_, CreateSealedMemfd("guest", kMemory));
    ASSIGN_OR_RETURN(mapping_,
                     MapShared(memory_, 0, kMemory, MapAccess::kReadWrite));
    RETURN_IF_ERROR(Grant());
    ASSIGN_OR_RETURN(interrupt_, client_->Listen(kPciMsixIrq, 1));
    FakeDriver::Options options;
    options.size = kDepth;
    options.guest_address = kAddress;
    options.event_idx = true;
    rings_ = std::make_unique<FakeDriver>(options, mapping_.span());
    bus_ = std::make_unique<Bus>(*client_);
    driver_ = std::make_unique<VirtioPciDriver<Bus>>(*bus_);
    driver_->Probe();
    return Initialize();
  }

  absl::Status Check(const FakeDriver::Answer& answer) {
    const std::string got(answer.data.begin(),
                          answer.data.begin() + answer.written);
    const std::string wanted = absl::StrCat("hello #", ++greeted_, "\n");
    if (got == wanted && rings_->violations().empty()) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(
        "answered ", got, " instead of ", wanted,
        rings_->violations().empty() ? "" : rings_->violations().front()));
  }

  absl::Status AwaitInterrupt() {
    for (int i = 0; i < 400'000; ++i) {
      uint64_t signals;
      if (read(interrupt_.get(), &signals, sizeof(signals)) > 0) {
        return absl::OkStatus();
      }
      RETURN_IF_ERROR(AnswerWhatIsAsked());
    }
    return absl::DataLossError("an interrupt was lost");
  }

  // Or waits for a moment.
  absl::Status AnswerWhatIsAsked() {
    if (how_ == Memory::kByMessage) {
      constexpr timespec kMoment = {0, 50'000};
      pollfd poll = {client_->socket().get(), POLLIN, 0};
      if (ppoll(&poll, 1, &kMoment, nullptr) > 0) {
        return client_->AnswerAsks(1);
      }
    } else {
      usleep(50);
    }
    return absl::OkStatus();
  }

  const Memory how_;
  std::unique_ptr<Client> client_;
  UniqueFd memory_;
  Mapping mapping_;
  UniqueFd interrupt_;
  std::unique_ptr<FakeDriver> rings_;
  std::unique_ptr<Bus> bus_;
  std::unique_ptr<VirtioPciDriver<Bus>> driver_;
  uint32_t notify_bar_ = 0;
  uint64_t notify_at_ = 0;
  uint64_t greeted_ = 0;
};

// Greets on a thread of its own until it ends, or something is wrong.
class Greeter {
 public:
  explicit Greeter(Guest& guest)
      : thread_([this, &guest] {
          std::mt19937 random(3);
          while (!end_ && status_.ok()) {
            status_ = guest.Greet(1 + static_cast<int>(random() % 12));
          }
        }) {}
  ~Greeter() { (void)End(); }
  absl::Status End() {
    end_ = true;
    if (thread_.joinable()) thread_.join();
    return status_;
  }

 private:
  std::atomic<bool> end_{false};
  absl::Status status_;
  std::thread thread_;  // Last: it uses the others.
};

void KillWhileItGreets(Guest::Memory how, int kills) {
  auto device = ManagedDevice::Start(HelloOverVfioUser());
  ASSERT_OK(device);
  auto guest = Guest::Start((*device)->socket_path(), 0, how);
  ASSERT_OK(guest);
  Greeter greeter(**guest);
  std::mt19937 random(5);
  for (int i = 0; i < kills; ++i) {
    usleep(random() % 3000);
    ASSERT_OK((*device)->Kill(SIGKILL));
    ASSERT_OK((*device)->AddStandby());
  }
  EXPECT_OK(greeter.End());
  std::printf("%d kills, %llu requests, %llu of the device\n", kills,
              static_cast<unsigned long long>((*guest)->greeted()),
              static_cast<unsigned long long>((*guest)->client().asks()));
  EXPECT_GT((*guest)->greeted(), 50u);
}

TEST(VirtioPciKill, EveryRequestIsAnsweredOnce) {
  KillWhileItGreets(Guest::Memory::kMapped, Kills(150));
}

// The client gives no file of its memory: the device asks for every byte of
// its ring, and is killed while it does.
TEST(VirtioPciKill, EveryRequestIsAnsweredOnceByMessage) {
  KillWhileItGreets(Guest::Memory::kByMessage, Kills(150));
}

// Life after life of the same queue, each begun by a driver's reset.
TEST(VirtioPciKill, ResetsBetweenKills) {
  auto device = ManagedDevice::Start(HelloOverVfioUser());
  ASSERT_OK(device);
  uint64_t greeted = 0;
  for (int round = 0; round < 6; ++round) {
    const auto guest = PollUntil([&]() -> std::unique_ptr<Guest> {
      auto started = Guest::Start((*device)->socket_path(), greeted);
      return started.ok() ? *std::move(started) : nullptr;
    });
    ASSERT_NE(guest, nullptr);
    if (round % 2 == 1) {
      ASSERT_OK((*device)->Kill(SIGKILL));
      ASSERT_OK((*device)->AddStandby());
    }
    // The device's own count goes on, whoever asks.
    ASSERT_OK(guest->Greet(3));
    guest->driver().Reset();
    EXPECT_EQ(guest->driver().status(), 0);
    ASSERT_OK((*device)->Kill(SIGKILL));
    ASSERT_OK((*device)->AddStandby());
    EXPECT_EQ(guest->driver().status(), 0);
    EXPECT_OK(guest->bus().status());
    greeted = guest->greeted();
  }
}

TEST(VirtioPciDevice, ARingOutsideTheWindowsNeedsAReset) {
  auto device = ManagedDevice::Start(HelloOverVfioUser());
  ASSERT_OK(device);
  auto guest = Guest::Start((*device)->socket_path());
  ASSERT_OK(guest);
  VirtioPciDriver<Bus>& driver = (*guest)->driver();
  for (const uint64_t address :
       {uint64_t{0}, uint64_t{0x1fff10}, uint64_t{0x100004}, ~uint64_t{15}}) {
    ASSERT_TRUE((*guest)->Negotiate());
    driver.SetUpQueue(0, {Guest::kDepth, address, 0x101000, 0x102000, 1});
    driver.Go();
    EXPECT_NE(driver.status() & virtio_pci::kNeedsReset, 0) << address;
    driver.Kick(0);
    ASSERT_OK((*device)->Kill(SIGKILL));
    ASSERT_OK((*device)->AddStandby());
    EXPECT_NE(driver.status() & virtio_pci::kNeedsReset, 0) << address;
  }
  ASSERT_OK((*guest)->Initialize());
  EXPECT_OK((*guest)->Greet(3));
}

// A client that does late what it was asked: the driver, which gives its memory
// to others when it has read 0, must not read it before. QEMU is one: it
// answers on another thread than the one that makes an access wait.
TEST(VirtioPciDevice, AResetIsOverWhenNothingIsWrittenAnyMore) {
  for (const bool dies : {false, true}) {
    auto device = ManagedDevice::Start(HelloOverVfioUser());
    ASSERT_OK(device);
    auto guest =
        Guest::Start((*device)->socket_path(), 0, Guest::Memory::kByMessage);
    ASSERT_OK(guest);
    ASSERT_OK((*guest)->Greet(1));
    Client& client = (*guest)->client();
    VirtioPciDriver<Bus>& driver = (*guest)->driver();
    client.HoldAnswers(true);
    ASSERT_OK((*guest)->Ask());
    ASSERT_TRUE(PollUntil([&] {
      driver.status();
      return client.held() > 0;
    }));
    driver.Reset();
    for (int i = 0; i < 20; ++i) {
      ASSERT_NE(driver.status(), 0) << "answers are owed";
      if (i != 10 || !dies) continue;
      ASSERT_OK((*device)->Kill(SIGKILL));
    }
    client.HoldAnswers(false);
    ASSERT_OK(client.AnswerHeld());
    EXPECT_TRUE(PollUntil([&] { return driver.status() == 0; }));
    EXPECT_OK((*guest)->bus().status());
  }
}

void TakeWindowsAway(Guest::Memory how) {
  auto device = ManagedDevice::Start(HelloOverVfioUser());
  ASSERT_OK(device);
  auto guest = Guest::Start((*device)->socket_path(), 0, how);
  ASSERT_OK(guest);
  for (int round = 0; round < 6; ++round) {
    ASSERT_OK((*guest)->Greet(3));
    ASSERT_OK((*guest)->Revoke());
    if (round % 2 == 1) {
      ASSERT_OK((*device)->Kill(SIGKILL));
      ASSERT_OK((*device)->AddStandby());
    }
    ASSERT_OK((*guest)->Grant());
  }
  EXPECT_EQ((*guest)->greeted(), 18u);
}

TEST(VirtioPciDevice, QueuesWaitForWindowsThatGoAndComeBack) {
  TakeWindowsAway(Guest::Memory::kMapped);
}

TEST(VirtioPciDevice, QueuesWaitForWindowsThatOnlyTheClientCanReach) {
  TakeWindowsAway(Guest::Memory::kByMessage);
}

}  // namespace
}  // namespace holdfast::testing
