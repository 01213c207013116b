// What a broken or hostile VMM can send, against a real confined device under a
// real store. Each time: one clear line for the operator, the same process goes
// on, the next VMM is served, nothing is leaked.
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "devices/vhost_user/testing/front_end.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/recovery/bad_input_fixture.h"

namespace holdfast::testing {
namespace {

using namespace ::holdfast::vhost_user;

// ---- Messages that end the connection ----

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
