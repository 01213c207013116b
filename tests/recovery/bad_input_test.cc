// What a broken or hostile VMM or guest can send, against a real confined
// device under a real store. Each time: one clear line for the operator, the
// same process goes on, the next VMM is served, nothing is leaked.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "devices/testing/managed_device_sys.h"
#include "devices/vhost_user/testing/front_end.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using namespace ::holdfast::vhost_user;
using Bytes = std::vector<uint8_t>;
using FrontEndBuffer = FrontEnd::Buffer;

constexpr uint64_t kGuest = FrontEnd::kGuestAddress;
constexpr uint64_t kUser = FrontEnd::kUserAddress;
constexpr uint64_t kMemory = 1 << 20;  // Of the VMM, in its file.

class BadInput : public ::testing::Test {
 protected:
  // One device for all cases: what a case leaves behind, a later one meets.
  static void SetUpTestSuite() {
    log_ = new UniqueFd(memfd_create("log", MFD_CLOEXEC));
    ManagedDevice::Options options;
    options.program = "examples/hello_virtio/hello_virtio";
    options.policy = "examples/hello_virtio/hello_virtio.policy";
    options.policy_includes = {"sandbox/policies"};
    options.store_program = "statestore/store/holdfast-store";
    options.log = *log_;
    auto device = ManagedDevice::Start(options);
    ASSERT_OK(device);
    device_ = device->release();
  }
  static void TearDownTestSuite() {
    delete device_;
    delete log_;
  }

  void SetUp() override {
    ASSERT_NE(device_, nullptr);
    pid_ = device_->active_pid();
    ExpectServed();  // And warm, as far as memory goes.
    descriptors_ = AwaitDescriptors();
    resident_ = ResidentKib();
    SkipLog();
  }
  void TearDown() override {
    ExpectServed();
    EXPECT_EQ(device_->active_pid(), pid_);
    EXPECT_EQ(AwaitDescriptors(descriptors_), descriptors_);
    EXPECT_LE(ResidentKib(), resident_ + 256);
  }

  static std::unique_ptr<FrontEnd> Connect(FrontEnd::Options options = {}) {
    auto vmm = FrontEnd::Connect(device_->socket_path(), options);
    EXPECT_OK(vmm);
    return vmm.ok() ? *std::move(vmm) : nullptr;
  }
  static std::unique_ptr<FrontEnd> Started(FrontEnd::Options options = {}) {
    std::unique_ptr<FrontEnd> vmm = Connect(options);
    EXPECT_OK(vmm->Start());
    return vmm;
  }
  static void ExpectServed() {
    const auto vmm = Started();
    const auto answer = vmm->Transact(0, {FrontEndBuffer::Writable(64)});
    ASSERT_OK(answer);
    EXPECT_EQ(std::string(answer->data.begin(), answer->data.begin() + 7),
              "hello #");
  }

  // Descriptors of the process, between two connections: waits until there are
  // `expected` or a second has passed.
  size_t AwaitDescriptors(size_t expected = 0) const {
    size_t count = 0;
    for (int tries = 0; tries < 200; ++tries) {
      const std::filesystem::directory_iterator fds(
          "/proc/" + std::to_string(pid_) + "/fd");
      const size_t now = std::distance(begin(fds), end(fds));
      if (now == (expected != 0 ? expected : count)) return now;
      count = now;
      usleep(5'000);
    }
    return count;
  }
  size_t ResidentKib() const {
    std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
    for (std::string word; status >> word;) {
      size_t kib;
      if (word == "VmRSS:" && status >> kib) return kib;
    }
    ADD_FAILURE() << "no VmRSS";
    return 0;
  }

  static void SkipLog() { log_at_ = lseek(log_->get(), 0, SEEK_END); }
  // What was logged since SkipLog.
  static std::string Log() {
    std::string text(lseek(log_->get(), 0, SEEK_END) - log_at_, '\0');
    EXPECT_EQ(pread(log_->get(), text.data(), text.size(), log_at_),
              static_cast<ssize_t>(text.size()));
    return text;
  }

  static UniqueFd* log_;
  static off_t log_at_;
  static ManagedDevice* device_;
  pid_t pid_ = 0;
  size_t descriptors_ = 0;
  size_t resident_ = 0;
};

UniqueFd* BadInput::log_ = nullptr;
off_t BadInput::log_at_ = 0;
ManagedDevice* BadInput::device_ = nullptr;

// ---- Messages that end the connection ----

Bytes U64(uint64_t value) { return BytesOf(value); }
Bytes Vring(uint32_t index, uint32_t num) {
  return BytesOf(VringState{index, num});
}
Bytes Table(const std::vector<MemoryRegion>& regions) {
  return Message(RequestType::kSetMemTable, MemoryTablePayload(regions));
}
Bytes Wrong(RequestType type, uint32_t flags, uint32_t size,
            const Bytes& payload) {
  return RawMessage(static_cast<uint32_t>(type), flags, size, payload);
}

struct FatalCase {
  const char* name;
  Bytes bytes;
  const char* said;       // In the log.
  size_t memory_fds = 0;  // Descriptors of the VMM's memory that come with it.
  bool negotiated = false;
};

// About messages as such, and features.
const std::vector<FatalCase>& FatalMessages() {
  using R = RequestType;
  static const auto* const cases = new std::vector<FatalCase>{
      {"garbage", Bytes(64, 0xff), "only version 1 is understood"},
      {"zeros", Bytes(64, 0), "only version 1 is understood"},
      {"oversized", Wrong(R::kGetFeatures, kVersion, 4097, {}),
       "a payload of 4097 bytes"},
      {"absurdly oversized", Wrong(R::kSetMemTable, kVersion, ~0u, {}),
       "a payload of 4294967295 bytes"},
      {"payload too short", Message(R::kSetVringNum, Bytes(4)),
       "SET_VRING_NUM"},
      {"payload too long", Message(R::kSetVringNum, Bytes(12)),
       "SET_VRING_NUM"},
      {"payload where none belongs", Message(R::kSetOwner, Bytes(8)),
       "SET_OWNER"},
      {"a reply", Wrong(R::kGetFeatures, kVersion | kFlagReply, 0, {}),
       "with the flag of a reply"},
      {"unknown request", RawMessage(9999, kVersion, 0, {}), "request 9999"},
      {"refused request", Message(R::kSendRarp, U64(0)), "not supported"},
      {"features not offered", Message(R::kSetFeatures, U64(1ull << 60)),
       "were not offered"},
      {"protocol features not offered",
       Message(R::kSetProtocolFeatures, U64(1ull << 60)), "were not offered"},
      {"configuration that is not there",
       Message(R::kSetConfig, ConfigPayload(0, 0, Bytes(8))), "does not offer"},
  };
  return *cases;
}

// About memory, descriptors and rings.
const std::vector<FatalCase>& FatalContents() {
  using R = RequestType;
  static const auto* const cases = new std::vector<FatalCase>{
      {"more regions than sent",
       Message(R::kSetMemTable,
               [] {
                 Bytes payload = MemoryTablePayload({{kGuest, 4096, kUser, 0}});
                 payload[0] = 8;
                 return payload;
               }()),
       "SET_MEM_TABLE", 1},
      {"4 billion regions", Message(R::kSetMemTable, Bytes(40, 0xff)),
       "SET_MEM_TABLE", 1},
      {"memory without descriptor", Table({{kGuest, 4096, kUser, 0}}),
       "0 descriptors, not 1"},
      {"memory with too many", Table({{kGuest, 4096, kUser, 0}}),
       "3 descriptors, not 1", 3},
      {"descriptors where none belong", Message(R::kGetFeatures),
       "2 descriptors, not 0", 2},
      {"a flood of descriptors", Message(R::kSetOwner), "16 descriptors, not 0",
       16},
      {"kick without descriptor", Message(R::kSetVringKick, U64(0)),
       "0 descriptors, not 1"},
      {"kick with descriptor that is denied",
       Message(R::kSetVringKick, U64(kVringNoFd)), "1 descriptors, not 0", 1},
      {"kick that is polled", Message(R::kSetVringKick, U64(kVringNoFd)),
       "polling without a kick"},
      {"kick with reserved bits", Message(R::kSetVringKick, U64(1ull << 40)),
       "reserved bits", 1},
      {"regions that overlap",
       Table({{kGuest, 8192, kUser, 0}, {kGuest + 4096, 8192, 0x1000, 0}}),
       "overlap", 2},
      {"regions that overlap for the VMM",
       Table({{kGuest, 8192, kUser, 0}, {0x1000, 8192, kUser + 8191, 0}}),
       "overlap", 2},
      {"region outside its file", Table({{kGuest, kMemory, kUser, 4096}}),
       "the file has 1048576 bytes", 1},
      {"region far outside", Table({{kGuest, 4096, kUser, 1ull << 62}}),
       "the file has 1048576 bytes", 1},
      {"region that wraps", Table({{~uint64_t{0} - 10, 4096, kUser, 0}}),
       "wraps around", 1},
      {"region without size", Table({{kGuest, 0, kUser, 0}}), "without size",
       1},
      {"slot outside its file",
       Message(R::kAddMemReg,
               BytesOf(SingleMemoryRegion{0, {kGuest, kMemory + 1, kUser, 0}})),
       "the file has 1048576 bytes", 1, true},
      {"slot that was never added",
       Message(R::kRemMemReg,
               BytesOf(SingleMemoryRegion{0, {kGuest, 4096, kUser, 0}})),
       "no region at", 0, true},
      {"ring of no size", Message(R::kSetVringNum, Vring(0, 0)),
       "a power of two"},
      {"ring of a crooked size", Message(R::kSetVringNum, Vring(0, 100)),
       "a power of two"},
      {"ring of an absurd size", Message(R::kSetVringNum, Vring(0, 1u << 31)),
       "a power of two"},
      {"queue that is not there", Message(R::kSetVringNum, Vring(1, 64)),
       "queue 1 of 1"},
      {"queue number that is absurd",
       Message(R::kSetVringNum, Vring(0x80000000, 64)), "of 1"},
      {"index beyond a ring", Message(R::kSetVringBase, Vring(0, 70000)),
       "index 70000"},
      {"neither on nor off", Message(R::kSetVringEnable, Vring(0, 2)),
       "neither 0 nor 1"},
      {"big-endian", Message(R::kSetVringEndian, Vring(0, 1)), "big-endian"},
      {"in-flight region too small",
       Message(R::kSetInflightFd,
               BytesOf(InflightDescription{64, 0, 1, 128, 0})),
       "are needed", 1},
      {"in-flight region outside its file",
       Message(R::kSetInflightFd,
               BytesOf(InflightDescription{1 << 20, 1 << 20, 1, 128, 0})),
       "the file has 1048576 bytes", 1},
      {"status out of range", Message(R::kSetStatus, U64(256)), "SET_STATUS"},
  };
  return *cases;
}

std::vector<FatalCase> FatalCases() {
  std::vector<FatalCase> all = FatalMessages();
  all.insert(all.end(), FatalContents().begin(), FatalContents().end());
  return all;
}

TEST_F(BadInput, EndsTheConnectionAndNothingElse) {
  for (const FatalCase& bad : FatalCases()) {
    SCOPED_TRACE(bad.name);
    SkipLog();
    const auto vmm = Connect();
    if (bad.negotiated) {
      ASSERT_OK(vmm->Negotiate());
    }
    const std::vector<int> fds(bad.memory_fds, vmm->memory_fd().get());
    ASSERT_OK(vmm->SendRaw(bad.bytes, fds));
    EXPECT_OK(vmm->WaitForClose());
    EXPECT_THAT(Log(), ::testing::HasSubstr("closing the VMM's connection"));
    EXPECT_THAT(Log(), ::testing::HasSubstr(bad.said));
    EXPECT_EQ(device_->active_pid(), pid_);
  }
}

// The same mistakes of a VMM whose queue is running.
TEST_F(BadInput, EndsAConnectionInFullSwing) {
  for (const FatalCase& bad : FatalCases()) {
    SCOPED_TRACE(bad.name);
    const auto vmm = Started();
    for (int i = 0; i < 8; ++i) {
      vmm->driver(0).Post({FrontEndBuffer::Writable(64)});
    }
    ASSERT_OK(vmm->Kick(0));
    const std::vector<int> fds(bad.memory_fds, vmm->memory_fd().get());
    ASSERT_OK(vmm->SendRaw(bad.bytes, fds));
    EXPECT_OK(vmm->WaitForClose());
  }
}

// With REPLY_ACK the VMM is told no, and may go on.
TEST_F(BadInput, IsRefusedWhereTheProtocolHasWordsForIt) {
  const auto vmm = Started();
  using R = RequestType;
  EXPECT_THAT(vmm->Command(R::kSetVringNum, Vring(0, 100)),
              StatusIs(absl::StatusCode::kAborted, ::testing::_));
  EXPECT_THAT(vmm->Command(R::kSetMemTable,
                           MemoryTablePayload({{kGuest, kMemory, kUser, 4096}}),
                           {vmm->memory_fd().get()}),
              StatusIs(absl::StatusCode::kAborted, ::testing::_));
  // A descriptor that cannot be guest memory.
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  EXPECT_THAT(vmm->Command(R::kSetMemTable,
                           MemoryTablePayload({{kGuest, 4096, kUser, 0}}),
                           {event.get()}),
              StatusIs(absl::StatusCode::kAborted, ::testing::_));
  const auto reply = vmm->Ask(
      R::kGetInflightFd, BytesOf(InflightDescription{0, 0, 0xffff, 0xffff, 0}));
  ASSERT_OK(reply);
  EXPECT_TRUE(reply->fds.empty());
  EXPECT_OK(vmm->Transact(0, {FrontEndBuffer::Writable(64)}));
  EXPECT_THAT(Log(), ::testing::HasSubstr("refused SET_VRING_NUM"));
}

// A VMM that is refused a million times must not fill a disk with it.
TEST_F(BadInput, RefusalsDoNotFloodTheLog) {
  const auto vmm = Started();
  for (int i = 0; i < 2000; ++i) {
    EXPECT_THAT(vmm->Command(RequestType::kSetVringNum, Vring(0, 100)),
                StatusIs(absl::StatusCode::kAborted, ::testing::_));
  }
  EXPECT_LT(Log().size(), 10'000u);
}

// ---- Messages that never end ----

TEST_F(BadInput, HalfAMessageIsDroppedWithItsVmm) {
  const Bytes whole = Table({{kGuest, kMemory, kUser, 0}});
  for (size_t size :
       {size_t{1}, size_t{5}, size_t{12}, size_t{20}, whole.size() - 1}) {
    for (size_t fds : {0, 1}) {
      SCOPED_TRACE(size);
      const auto vmm = Connect();
      ASSERT_OK(vmm->SendRaw(absl::MakeConstSpan(whole).first(size),
                             std::vector<int>(fds, vmm->memory_fd().get())));
      usleep(2'000);
    }
  }
}

TEST_F(BadInput, AMessageMayComeInPieces) {
  const auto vmm = Connect();
  for (uint8_t byte : Message(RequestType::kGetFeatures)) {
    ASSERT_OK(vmm->SendRaw({&byte, 1}));
    usleep(500);
  }
  EXPECT_OK(vmm->Receive());
}

// Nobody reads the replies: they fill the socket, and the VMM leaves.
TEST_F(BadInput, RepliesThatNobodyReadsAreDroppedWithTheirVmm) {
  const auto vmm = Connect();
  const Bytes message = Message(RequestType::kGetFeatures);
  Bytes many;
  for (int i = 0; i < 1000; ++i) {
    many.insert(many.end(), message.begin(), message.end());
  }
  for (int i = 0; i < 20; ++i) {
    (void)send(vmm->socket().get(), many.data(), many.size(),
               MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  usleep(20'000);
}

TEST_F(BadInput, AnyOrderOfTheSetUpIsGood) {
  const auto vmm = Connect();
  ASSERT_OK(vmm->Negotiate());
  // Enabled, kicked and addressed before there is memory.
  ASSERT_OK(vmm->StartQueue(0));
  ASSERT_OK(vmm->Kick(0));
  ASSERT_OK(vmm->ShareMemory());
  EXPECT_OK(vmm->Transact(0, {FrontEndBuffer::Writable(64)}));
}

// ---- Rings ----

struct RingCase {
  const char* name;
  std::function<void(FakeDriver&)> spoil;
  const char* said;
};

void MakeAvailable(FakeDriver& driver, uint16_t head) {
  driver.avail_ring(driver.avail_index() % 128) = head;
  __atomic_store_n(&driver.avail_index(), driver.avail_index() + 1,
                   __ATOMIC_RELEASE);
}

// One descriptor, made available.
void Post(FakeDriver& driver, vring::Descriptor descriptor) {
  driver.descriptor(5) = descriptor;
  MakeAvailable(driver, 5);
}

const std::vector<RingCase>& RingCases() {
  static const auto* const cases = new std::vector<RingCase>{
      {"a loop",
       [](FakeDriver& driver) {
         Post(driver, {kGuest, 16, vring::kWrite | vring::kNext, 5});
       },
       "chain"},
      {"a loop of two",
       [](FakeDriver& driver) {
         driver.descriptor(6) = {kGuest, 16, vring::kWrite | vring::kNext, 5};
         Post(driver, {kGuest, 16, vring::kWrite | vring::kNext, 6});
       },
       "chain"},
      {"a next outside the table",
       [](FakeDriver& driver) {
         Post(driver, {kGuest, 16, vring::kWrite | vring::kNext, 500});
       },
       "descriptor"},
      {"an address outside memory",
       [](FakeDriver& driver) {
         Post(driver, {0x10, 16, vring::kWrite, 0});
       },
       "memory"},
      {"a buffer over the end of memory",
       [](FakeDriver& driver) {
         Post(driver, {kGuest + kMemory - 8, 16, vring::kWrite, 0});
       },
       "memory"},
      {"an absurd length",
       [](FakeDriver& driver) {
         Post(driver, {kGuest, ~0u, vring::kWrite, 0});
       },
       "memory"},
      {"an address that wraps",
       [](FakeDriver& driver) {
         Post(driver, {~uint64_t{0}, 16, vring::kWrite, 0});
       },
       "memory"},
      {"an indirect table of a crooked size",
       [](FakeDriver& driver) {
         Post(driver, {kGuest, 17, vring::kIndirect, 0});
       },
       "indirect"},
      {"an indirect table outside memory",
       [](FakeDriver& driver) {
         Post(driver, {0x10, 16, vring::kIndirect, 0});
       },
       "indirect"},
      {"a table in a table",
       [](FakeDriver& driver) {
         // The table is the ring's own: its first entry is indirect, too.
         driver.descriptor(0) = {kGuest, 16, vring::kIndirect, 0};
         Post(driver, {kGuest, 16, vring::kIndirect, 0});
       },
       "indirect"},
      {"an index that jumps",
       [](FakeDriver& driver) { driver.avail_index() += 1000; },
       "available index jumped"},
      {"an index that goes back",
       [](FakeDriver& driver) { driver.avail_index() -= 1; },
       "available index jumped"},
      {"a head outside the table",
       [](FakeDriver& driver) { MakeAvailable(driver, 4000); },
       "head outside the table"},
  };
  return *cases;
}

TEST_F(BadInput, ARingThatTheGuestBreaksIsItsOwnLoss) {
  for (const RingCase& bad : RingCases()) {
    SCOPED_TRACE(bad.name);
    SkipLog();
    const auto vmm = Started();
    ASSERT_OK(vmm->Transact(0, {FrontEndBuffer::Writable(64)}));
    bad.spoil(vmm->driver(0));
    ASSERT_OK(vmm->Kick(0));
    for (int i = 0; i < 1000 && Log().empty(); ++i) usleep(1000);
    EXPECT_THAT(Log(), ::testing::HasSubstr(bad.said));
    // The connection is well, and the queue can be stopped and started anew.
    EXPECT_OK(vmm->AskNumber(RequestType::kGetFeatures));
    EXPECT_OK(vmm->StopQueue(0));
    EXPECT_EQ(device_->active_pid(), pid_);
  }
}

TEST_F(BadInput, AHeadTwiceBreaksTheRing) {
  const auto vmm = Started();
  FakeDriver& driver = vmm->driver(0);
  // Many, so that two are in the ring at once.
  for (int i = 0; i < 64; ++i) {
    driver.descriptor(5) = {kGuest + kMemory / 2, 16, vring::kWrite, 0};
    driver.avail_ring(i) = 5;
  }
  __atomic_store_n(&driver.avail_index(), 64, __ATOMIC_RELEASE);
  ASSERT_OK(vmm->Kick(0));
  EXPECT_OK(vmm->AskNumber(RequestType::kGetFeatures));
  EXPECT_OK(vmm->StopQueue(0));
}

// The rings on top of each other, and of the data.
TEST_F(BadInput, RingsMayOverlap) {
  const auto vmm = Connect();
  ASSERT_OK(vmm->Negotiate());
  ASSERT_OK(vmm->ShareMemory());
  const UniqueFd kick(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  using R = RequestType;
  ASSERT_OK(vmm->Command(R::kSetVringNum, Vring(0, 128)));
  ASSERT_OK(
      vmm->Command(R::kSetVringAddr,
                   BytesOf(VringAddress{0, 0, kUser, kUser, kUser, kGuest})));
  std::fill(vmm->memory().begin(), vmm->memory().end(), 0x41);
  ASSERT_OK(vmm->Command(R::kSetVringKick, U64(0), {kick.get()}));
  ASSERT_OK(vmm->Command(R::kSetVringEnable, Vring(0, 1)));
  for (int i = 0; i < 20; ++i) eventfd_write(kick.get(), 1);
  EXPECT_OK(vmm->AskNumber(RequestType::kGetFeatures));
}

// Ring addresses are the guest's: outside memory they hurt nobody.
TEST_F(BadInput, RingsOutsideMemoryAreLeftAlone) {
  const auto vmm = Connect();
  ASSERT_OK(vmm->Negotiate());
  ASSERT_OK(vmm->ShareMemory());
  const UniqueFd kick(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  using R = RequestType;
  ASSERT_OK(vmm->Command(R::kSetVringNum, Vring(0, 128)));
  ASSERT_OK(vmm->Command(R::kSetVringKick, U64(0), {kick.get()}));
  ASSERT_OK(vmm->Command(R::kSetVringEnable, Vring(0, 1)));
  for (uint64_t at : {uint64_t{0}, uint64_t{8}, kUser + kMemory - 16, kUser + 1,
                      ~uint64_t{0} - 15}) {
    SCOPED_TRACE(at);
    ASSERT_OK(
        vmm->Command(R::kSetVringAddr,
                     BytesOf(VringAddress{0, 0, at, at, at, ~uint64_t{0}})));
    eventfd_write(kick.get(), 1);
  }
  EXPECT_OK(vmm->AskNumber(RequestType::kGetFeatures));
}

// Connections come and go by the hundred.
TEST_F(BadInput, ComingAndGoingLeaksNothing) {
  for (int i = 0; i < 200; ++i) {
    const auto vmm = Connect();
    if (i % 4 == 1) {
      ASSERT_OK(vmm->Negotiate());
    }
    if (i % 4 == 2) {
      ASSERT_OK(vmm->Start());
    }
    if (i % 4 == 3) {
      ASSERT_OK(vmm->SendRaw(Bytes(64, 0xff)));
    }
  }
}

}  // namespace
}  // namespace holdfast::testing
