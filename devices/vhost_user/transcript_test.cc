// What well-known front-ends send, message by message, and what they insist on
// in the replies.

#include <cstring>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/vhost_user/testing/test_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vhost_user {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// One message, and the payload of its reply if there is one.
struct Line {
  RequestType type;
  std::vector<uint8_t> payload;
  size_t fds;
  bool need_reply;
  bool replied;
  std::vector<uint8_t> reply;
};

Line Tell(RequestType type, std::vector<uint8_t> payload = {}, size_t fds = 0) {
  return {type, std::move(payload), fds, false, false, {}};
}
Line Acked(RequestType type, std::vector<uint8_t> payload = {},
           size_t fds = 0) {
  return {type, std::move(payload), fds, true, true, BytesOf(uint64_t{0})};
}
Line Ask(RequestType type, std::vector<uint8_t> payload,
         std::vector<uint8_t> reply, bool need_reply = false) {
  return {type, std::move(payload), 0, need_reply, true, std::move(reply)};
}
std::vector<uint8_t> Number(uint64_t value) { return BytesOf(value); }
std::vector<uint8_t> Vring(uint32_t index, uint32_t num) {
  return BytesOf(VringState{index, num});
}

// Reports the first message whose outcome is another one.
void Play(TestSession& session, const std::vector<Line>& lines) {
  for (size_t i = 0; i < lines.size(); ++i) {
    const Line& line = lines[i];
    const auto outcome =
        session.Send(line.type, line.payload, line.fds, line.need_reply);
    ASSERT_OK(outcome) << "line " << i << ": " << RequestName(line.type);
    ASSERT_OK(outcome->refusal) << "line " << i;
    const std::vector<uint8_t> want =
        line.replied
            ? RawMessage(static_cast<uint32_t>(line.type),
                         kVersion | kFlagReply,
                         static_cast<uint32_t>(line.reply.size()), line.reply)
            : std::vector<uint8_t>();
    ASSERT_EQ(outcome->reply, want)
        << "line " << i << ": " << RequestName(line.type);
  }
}

constexpr uint64_t kVirtioFeatures = (1ull << 32) | (1ull << 29) | 0xff;
constexpr uint64_t kQemuFeatures = kVirtioFeatures | kFeatureProtocolFeatures;

constexpr MemoryRegion kLow{0, 0xa0000, 0x7f1200000000, 0};
constexpr MemoryRegion kHigh{0xc0000, 0x7f40000, 0x7f12000c0000, 0xc0000};

VringAddress QemuRing(uint32_t index, uint32_t flags = 0) {
  const uint64_t at = 0x100000 + index * 0x4000;
  return {index,
          flags,
          kLow.user_address + at,
          kLow.user_address + at + 0x2000,
          kLow.user_address + at + 0x1000,
          at + 0x2000};
}

// vhost_dev_init() and the configuration space of QEMU 7.2's vhost-user-blk
// with two queues.
std::vector<Line> QemuInit(const BackendInfo& info) {
  return {
      Ask(RequestType::kGetFeatures, {}, Number(OfferedFeatures(info))),
      Ask(RequestType::kGetProtocolFeatures, {},
          Number(info.protocol_features)),
      Tell(RequestType::kSetProtocolFeatures, Number(info.protocol_features)),
      Ask(RequestType::kGetQueueNum, {}, Number(2)),
      Ask(RequestType::kGetMaxMemSlots, {}, Number(32)),
      Acked(RequestType::kSetBackendReqFd, {}, 1),
      Tell(RequestType::kSetOwner),
      Ask(RequestType::kGetFeatures, {}, Number(OfferedFeatures(info))),
      Tell(RequestType::kSetVringCall, Number(0), 1),
      Tell(RequestType::kSetVringErr, Number(0), 1),
      Tell(RequestType::kSetVringCall, Number(1), 1),
      Tell(RequestType::kSetVringErr, Number(1), 1),
      Ask(RequestType::kGetConfig,
          ConfigPayload(0, 0, std::vector<uint8_t>(60)),
          ConfigPayload(0, 0, std::vector<uint8_t>(60))),
  };
}

std::vector<Line> QemuSetFeatures(uint64_t status_before) {
  return {
      Tell(RequestType::kSetFeatures, Number(kQemuFeatures)),
      Ask(RequestType::kGetStatus, {}, Number(status_before)),
      Tell(RequestType::kSetStatus, Number(status_before | 8)),
  };
}

// One queue of vhost_virtqueue_start().
std::vector<Line> QemuStartQueue(uint32_t index, uint32_t base) {
  return {
      Tell(RequestType::kSetVringNum, Vring(index, 128)),
      Tell(RequestType::kSetVringBase, Vring(index, base)),
      Tell(RequestType::kSetVringAddr, BytesOf(QemuRing(index))),
      Tell(RequestType::kSetVringKick, Number(index), 1),
  };
}

void Append(std::vector<Line>& to, const std::vector<Line>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

// vhost_user_blk_start(): `inflight` is what the machine has from before.
std::vector<Line> QemuStart(bool first, uint32_t base) {
  std::vector<Line> lines = QemuSetFeatures(0);
  const InflightDescription inflight{2 * 2112, 0, 2, 128, 0};
  if (first) {
    lines.push_back(Ask(RequestType::kGetInflightFd,
                        BytesOf(InflightDescription{0, 0, 2, 128, 0}),
                        BytesOf(inflight)));
  }
  lines.push_back(Tell(RequestType::kSetInflightFd, BytesOf(inflight), 1));
  lines.push_back(Tell(RequestType::kSetFeatures, Number(kQemuFeatures)));
  lines.push_back(Ask(RequestType::kGetStatus, {}, Number(8)));
  if (first) {
    for (const MemoryRegion& region : {kLow, kHigh}) {
      lines.push_back(Acked(RequestType::kAddMemReg,
                            BytesOf(SingleMemoryRegion{0, region}), 1));
    }
  }
  Append(lines, QemuStartQueue(0, base));
  Append(lines, QemuStartQueue(1, base));
  Append(lines, {
                    Tell(RequestType::kSetVringEnable, Vring(0, 1)),
                    Tell(RequestType::kSetVringEnable, Vring(1, 1)),
                    Ask(RequestType::kGetStatus, {}, Number(8)),
                    Tell(RequestType::kSetStatus, Number(15)),
                    // The interrupts are unmasked.
                    Tell(RequestType::kSetVringCall, Number(0), 1),
                    Tell(RequestType::kSetVringCall, Number(1), 1),
                });
  return lines;
}

// vhost_dev_stop() of QEMU 7.2: the status comes first.
std::vector<Line> QemuStop(uint32_t base) {
  return {
      Tell(RequestType::kSetStatus, Number(0)),
      Tell(RequestType::kSetVringEnable, Vring(0, 0)),
      Tell(RequestType::kSetVringEnable, Vring(1, 0)),
      Ask(RequestType::kGetVringBase, Vring(0, 0), Vring(0, base)),
      Ask(RequestType::kGetVringBase, Vring(1, 0), Vring(1, base)),
  };
}

TEST(Transcript, Qemu72BlkStartsStopsAndGoesOn) {
  TestSession session;
  Play(session, QemuInit(session.info));
  Play(session, QemuStart(/*first=*/true, 0));
  EXPECT_TRUE(QueueRuns(session.state, 0));
  EXPECT_TRUE(QueueRuns(session.state, 1));
  EXPECT_THAT(
      session.TakeEffects(),
      ElementsAre("clear in-flight", "prepare 0 fresh", "prepare 1 fresh"));

  // "stop" and "cont" in the monitor: the rings go on where they were.
  session.environment.stopped_at = 1234;
  Play(session, QemuStop(1234));
  EXPECT_FALSE(QueueRuns(session.state, 0));
  session.TakeEffects();
  Play(session, QemuStart(/*first=*/false, 1234));
  EXPECT_TRUE(QueueRuns(session.state, 0));
  EXPECT_EQ(session.state.queues[0].base, 1234u);
  EXPECT_EQ(RegionCount(session.state), 2u);
  // The region that QEMU handed over again was drained; the rings may be new.
  EXPECT_THAT(session.TakeEffects(),
              ElementsAre("prepare 0 fresh", "prepare 1 fresh"));
}

// QEMU with `reconnect`, whose former back-end died: the region it kept is all
// that is known about the requests of then.
TEST(Transcript, Qemu72BlkComesBackWithARegionInUse) {
  TestSession session;
  Play(session, QemuInit(session.info));
  std::vector<Line> lines = QemuStart(/*first=*/true, 77);
  lines.erase(lines.begin() + 3);  // GET_INFLIGHT_FD.
  Play(session, lines);
  EXPECT_THAT(session.TakeEffects(),
              ElementsAre("prepare 0 adopt", "prepare 1 adopt"));
}

TEST(Transcript, QemuBlkWritesTheCacheModeAndSeesANewSize) {
  TestSession session;
  Play(session, QemuInit(session.info));
  Play(session, {Acked(RequestType::kSetConfig, ConfigPayload(32, 0, {1}))});
  session.environment.config[0] = 99;
  std::vector<uint8_t> want(60, 0);
  want[0] = 99;
  want[32] = 1;
  Play(session, {Ask(RequestType::kGetConfig,
                     ConfigPayload(0, 0, std::vector<uint8_t>(60)),
                     ConfigPayload(0, 0, want))});
}

TEST(Transcript, QemuMigrationTurnsTheLogOnAndOff) {
  TestSession session;
  Play(session, QemuInit(session.info));
  Play(session, QemuStart(/*first=*/true, 0));
  session.TakeEffects();
  const uint64_t logged = kQemuFeatures | kFeatureLogAll;
  Line log = Ask(RequestType::kSetLogBase, BytesOf(LogDescription{4096, 0}),
                 Number(0));
  log.fds = 1;
  Play(session, {
                    log,
                    Acked(RequestType::kSetFeatures, Number(logged)),
                    Acked(RequestType::kSetVringAddr,
                          BytesOf(QemuRing(0, kVringFlagLog))),
                    Acked(RequestType::kSetVringAddr,
                          BytesOf(QemuRing(1, kVringFlagLog))),
                });
  EXPECT_EQ(session.state.queues[1].address_flags, kVringFlagLog);
  EXPECT_TRUE(QueueRuns(session.state, 1));
  // Cancelled.
  Play(session, {
                    Tell(RequestType::kSetFeatures, Number(kQemuFeatures)),
                    Tell(RequestType::kSetVringAddr, BytesOf(QemuRing(0))),
                    Tell(RequestType::kSetVringAddr, BytesOf(QemuRing(1))),
                });
  EXPECT_TRUE(QueueRuns(session.state, 0));
  EXPECT_EQ(session.state.queues[0].address_flags, 0u);
}

TEST(Transcript, QemuPlugsAndUnplugsMemoryWhileRingsRun) {
  TestSession session;
  Play(session, QemuInit(session.info));
  Play(session, QemuStart(/*first=*/true, 0));
  session.TakeEffects();
  const MemoryRegion dimm{0x100000000, 0x8000000, 0x7f3400000000, 0};
  Play(session, {Acked(RequestType::kAddMemReg,
                       BytesOf(SingleMemoryRegion{0, dimm}), 1)});
  EXPECT_THAT(session.TakeEffects(), IsEmpty());
  Play(session,
       {Acked(RequestType::kRemMemReg, BytesOf(SingleMemoryRegion{0, dimm}))});
  EXPECT_THAT(session.TakeEffects(), ElementsAre("quiesce all"));
  EXPECT_TRUE(QueueRuns(session.state, 0));
}

// A front-end on top of libblkio: NEED_REPLY on everything once it was
// negotiated, memory by ADD_MEM_REG only, a descriptor with REM_MEM_REG, kick
// ahead of call, and no GET_VRING_BASE at the end.
TEST(Transcript, LibblkioConnectsRunsAndMapsMemory) {
  TestSession session;
  const uint64_t wanted = kProtocolReplyAck | kProtocolConfig |
                          kProtocolConfigureMemSlots | kProtocolMq;
  const MemoryRegion rings{0x7f5500000000, 0x3180, 0x7f5500000000, 0};
  const MemoryRegion buffers{0x7f5600000000, 0x100000, 0x7f5600000000, 0x3000};
  const uint64_t at = rings.user_address;
  Play(session,
       {
           Tell(RequestType::kSetOwner),
           Ask(RequestType::kGetFeatures, {},
               Number(OfferedFeatures(session.info))),
           Tell(RequestType::kSetFeatures, Number(kQemuFeatures)),
           Ask(RequestType::kGetProtocolFeatures, {},
               Number(session.info.protocol_features)),
           Tell(RequestType::kSetProtocolFeatures, Number(wanted)),
           Ask(RequestType::kGetQueueNum, {}, Number(2), true),
           Ask(RequestType::kGetMaxMemSlots, {}, Number(32), true),
           Ask(RequestType::kGetConfig,
               ConfigPayload(0, 0, std::vector<uint8_t>(60)),
               ConfigPayload(0, 0, std::vector<uint8_t>(60)), true),
           Acked(RequestType::kAddMemReg, BytesOf(SingleMemoryRegion{0, rings}),
                 1),
           Acked(RequestType::kSetVringNum, Vring(0, 128)),
           Acked(RequestType::kSetVringBase, Vring(0, 0)),
           Acked(RequestType::kSetVringAddr,
                 BytesOf(VringAddress{0, 0, at, at + 0x2000, at + 0x1000, 0})),
           Acked(RequestType::kSetVringKick, Number(0), 1),
           Acked(RequestType::kSetVringCall, Number(0), 1),
           Acked(RequestType::kSetVringEnable, Vring(0, 1)),
       });
  EXPECT_TRUE(QueueRuns(session.state, 0));
  EXPECT_THAT(session.TakeEffects(), ElementsAre("prepare 0 fresh"));
  Play(session, {
                    Acked(RequestType::kAddMemReg,
                          BytesOf(SingleMemoryRegion{0, buffers}), 1),
                    Acked(RequestType::kRemMemReg,
                          BytesOf(SingleMemoryRegion{0, buffers}), 1),
                });
  EXPECT_TRUE(QueueRuns(session.state, 0));
}

// DPDK's virtio-user: call descriptors first, one whole memory table, and
// status reads in between.
TEST(Transcript, VirtioUserStartsAndStops) {
  TestSession session;
  const MemoryRegion hugepages{0x100000000, 0x40000000, 0x100000000, 0};
  const uint64_t at = hugepages.user_address;
  Play(session,
       {
           Tell(RequestType::kSetOwner),
           Ask(RequestType::kGetFeatures, {},
               Number(OfferedFeatures(session.info))),
           Ask(RequestType::kGetProtocolFeatures, {},
               Number(session.info.protocol_features)),
           Tell(RequestType::kSetProtocolFeatures,
                Number(kProtocolMq | kProtocolReplyAck | kProtocolStatus)),
           Ask(RequestType::kGetStatus, {}, Number(0)),
           Acked(RequestType::kSetStatus, Number(3)),
           Tell(RequestType::kSetVringCall, Number(0), 1),
           Acked(RequestType::kSetFeatures, Number(kQemuFeatures)),
           Acked(RequestType::kSetMemTable, MemoryTablePayload({hugepages}), 1),
           Tell(RequestType::kSetVringNum, Vring(0, 256)),
           Tell(RequestType::kSetVringBase, Vring(0, 0)),
           Tell(RequestType::kSetVringAddr,
                BytesOf(VringAddress{0, 0, at, at + 0x3000, at + 0x2000, 0})),
           Tell(RequestType::kSetVringKick, Number(0), 1),
           Tell(RequestType::kSetVringEnable, Vring(0, 1)),
           Acked(RequestType::kSetStatus, Number(15)),
       });
  EXPECT_TRUE(QueueRuns(session.state, 0));
  session.environment.stopped_at = 9;
  Play(session, {
                    Tell(RequestType::kSetVringEnable, Vring(0, 0)),
                    Ask(RequestType::kGetVringBase, Vring(0, 0), Vring(0, 9)),
                    Acked(RequestType::kSetStatus, Number(0)),
                });
  EXPECT_FALSE(QueueRuns(session.state, 0));
}

// Firecracker and Cloud Hypervisor: address ahead of base, no REPLY_ACK.
TEST(Transcript, RustVmmFrontEndsStart) {
  TestSession session;
  Play(
      session,
      {
          Tell(RequestType::kSetOwner),
          Ask(RequestType::kGetFeatures, {},
              Number(OfferedFeatures(session.info))),
          Ask(RequestType::kGetProtocolFeatures, {},
              Number(session.info.protocol_features)),
          Tell(RequestType::kSetProtocolFeatures, Number(kProtocolConfig)),
          Ask(RequestType::kGetConfig,
              ConfigPayload(0, 0, std::vector<uint8_t>(60)),
              ConfigPayload(0, 0, std::vector<uint8_t>(60))),
          Tell(RequestType::kSetFeatures, Number(kQemuFeatures)),
          Tell(RequestType::kSetMemTable, MemoryTablePayload({kLow, kHigh}), 2),
          Tell(RequestType::kSetVringNum, Vring(0, 256)),
          Tell(RequestType::kSetVringAddr, BytesOf(QemuRing(0))),
          Tell(RequestType::kSetVringBase, Vring(0, 0)),
          Tell(RequestType::kSetVringCall, Number(0), 1),
          Tell(RequestType::kSetVringKick, Number(0), 1),
          Tell(RequestType::kSetVringEnable, Vring(0, 1)),
      });
  EXPECT_TRUE(QueueRuns(session.state, 0));
}

}  // namespace
}  // namespace holdfast::vhost_user
