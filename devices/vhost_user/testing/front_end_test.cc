#include "devices/vhost_user/testing/front_end.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unix_socket_sys.h"
#include "devices/vhost_user/codec.h"
#include "devices/vhost_user/session.h"
#include "devices/vhost_user/testing/fake_environment.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "devices/virtqueue/chain.h"
#include "devices/virtqueue/split_ring.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::testing::HasSubstr;
using vhost_user::BackendInfo;
using vhost_user::BytesOf;
using vhost_user::Decision;
using vhost_user::Request;
using vhost_user::RequestType;
using vhost_user::SessionState;
using vhost_user::SlotList;
using Buffer = FrontEnd::Buffer;

// The smallest device there can be, over a real socket: answers each request
// with its bytes in reverse order. It applies the state after each message as a
// successor would, from nothing, so every message is a recovery, too.
class ReversingBackEnd : public vhost_user::FakeEnvironment {
 public:
  explicit ReversingBackEnd(const BackendInfo& info) : info_(info) {
    config.assign(info.config_size, 7);
    slots_[store::kSlotFirstDevice] =
        CreateSealedMemfd("in-flight", kInflightSize).value();
    inflight_ = MapShared(slots_[store::kSlotFirstDevice], 0, kInflightSize,
                          MapAccess::kReadWrite)
                    .value();
  }

  static constexpr size_t kInflightSize = 64 * 1024;

  // Serves until the front-end leaves (OK) or is given up.
  absl::Status Serve(UniqueFd socket) {
    socket_ = std::move(socket);
    while (true) {
      std::vector<pollfd> entries = {{socket_.get(), POLLIN, 0}};
      for (const vhost_user::QueueState& queue : state_.queues) {
        const auto kick = slots_.find(queue.kick);
        const bool listen = queue.kick != 0 && kick != slots_.end();
        entries.push_back({listen ? kick->second.get() : -1, POLLIN, 0});
      }
      if (poll(entries.data(), entries.size(), -1) < 0) continue;
      for (size_t q = 0; q + 1 < entries.size(); ++q) {
        eventfd_t count;
        if (entries[q + 1].revents != 0) {
          eventfd_read(entries[q + 1].fd, &count);
          RETURN_IF_ERROR(RunQueue(q));
        }
      }
      if (entries[0].revents == 0) continue;
      ASSIGN_OR_RETURN(const bool more, ServeMessage());
      if (!more) return absl::OkStatus();
    }
  }

  uint32_t QuiesceQueue(uint16_t queue) override {
    return rings_[queue] != nullptr ? rings_[queue]->next_avail() : 0;
  }

 private:
  absl::StatusOr<bool> ServeMessage() {
    uint8_t message[vhost_user::kMaxMessageSize];
    ReceivedFds fds;
    ASSIGN_OR_RETURN(ReceivedMessage part,
                     ReceiveWithFds(socket_, {message, 12}, fds));
    if (part.size == 0) return false;
    ASSIGN_OR_RETURN(const size_t size,
                     vhost_user::MessageSize({message, part.size}));
    if (size > part.size) {
      ReceivedFds none;
      RETURN_IF_ERROR(
          ReceiveWithFds(socket_, {message + part.size, size - part.size}, none)
              .status());
    }
    ASSIGN_OR_RETURN(const Request request, vhost_user::Parse({message, size}));
    ASSIGN_OR_RETURN(const SlotList slots,
                     vhost_user::SlotsFor(state_, request, fds.count));
    for (size_t i = 0; i < slots.count; ++i) {
      slots_[slots.slots[i]] = std::move(fds.fds[i]);
    }
    uint8_t reply[vhost_user::kMaxReplySize];
    ASSIGN_OR_RETURN(const Decision decision,
                     Decide(state_, request, slots, info_, *this, reply));
    state_ = decision.next;
    RETURN_IF_ERROR(Apply());
    if (decision.reply_size == 0) return true;
    std::vector<int> out;
    if (decision.reply_slot != 0) {
      out.push_back(slots_[decision.reply_slot].get());
    }
    RETURN_IF_ERROR(SendWithFds(socket_, {reply, decision.reply_size}, out));
    return true;
  }

  absl::Status Apply() {
    for (auto& ring : rings_) ring.reset();
    mappings_.clear();
    std::vector<GuestRegion> regions;
    for (size_t i = 0; i < RegionCount(state_); ++i) {
      const vhost_user::RegionState& r = state_.regions[i];
      ASSIGN_OR_RETURN(Mapping mapping,
                       MapShared(slots_[r.slot], r.mmap_offset, r.size,
                                 MapAccess::kReadWrite));
      regions.push_back({GuestAddress{r.guest_address}, r.size,
                         UserAddress{r.user_address}, mapping.data()});
      mappings_.push_back(std::move(mapping));
    }
    ASSIGN_OR_RETURN(memory_, GuestMemory::Create(regions));
    if ((state_.features & vhost_user::kFeatureLogAll) != 0) {
      ASSIGN_OR_RETURN(Mapping log,
                       MapShared(slots_[state_.log.slot], state_.log.offset,
                                 state_.log.size, MapAccess::kReadWrite));
      memory_.SetLog(log.span());
      mappings_.push_back(std::move(log));
    }
    for (size_t q = 0; q < vhost_user::kMaxQueues; ++q) {
      if (QueueRuns(state_, q)) RETURN_IF_ERROR(StartRing(q));
    }
    return absl::OkStatus();
  }

  absl::Status StartRing(size_t q) {
    const vhost_user::QueueState& queue = state_.queues[q];
    SplitRingConfig ring;
    ring.size = static_cast<uint16_t>(queue.num);
    const auto at = [this](uint64_t user) {
      return memory_.TranslateUser(UserAddress{user}, 1).host;
    };
    ring.descriptors = at(queue.descriptor);
    ring.available = at(queue.available);
    ring.used = at(queue.used);
    ring.event_idx = (state_.features >> 29 & 1) != 0;
    ring.indirect = (state_.features >> 28 & 1) != 0;
    const size_t record = InflightRegionSize(ring.size);
    ASSIGN_OR_RETURN(
        SplitRing::Table table,
        SplitRing::Table::Attach(inflight_.span().subspan(q * record, record),
                                 ring.size));
    ASSIGN_OR_RETURN(SplitRing made, SplitRing::Create(ring, &memory_, table));
    rings_[q] = std::make_unique<SplitRing>(std::move(made));
    if ((queue.address_flags & vhost_user::kVringFlagLog) != 0) {
      rings_[q]->SetUsedLog(GuestAddress{queue.log_address});
    }
    RETURN_IF_ERROR(
        rings_[q]->Recover(static_cast<uint16_t>(queue.base)).status());
    return RunQueue(q);
  }

  absl::Status RunQueue(size_t q) {
    if (rings_[q] == nullptr) return absl::OkStatus();
    SplitRing& ring = *rings_[q];
    static Chain chain;
    do {
      for (Popped popped = ring.Pop(); popped.result == PopResult::kRequest;
           popped = ring.Pop()) {
        RETURN_IF_ERROR(ring.ReadChain(popped.head, chain));
        std::vector<uint8_t> bytes;
        for (const auto& s : chain.readable()) {
          bytes.insert(bytes.end(), s.data, s.data + s.size);
        }
        std::reverse(bytes.begin(), bytes.end());
        const auto& to = chain.writable()[0];
        const uint32_t n = std::min<uint32_t>(to.size, bytes.size());
        std::copy_n(bytes.begin(), n, to.data);
        ring.MarkDirty(chain);
        RETURN_IF_ERROR(ring.Publish({Completion{popped.head, n}}));
      }
    } while (ring.EnableKicks());
    if (ring.NeedsInterrupt()) {
      const auto call = slots_.find(state_.queues[q].call);
      if (call != slots_.end()) eventfd_write(call->second.get(), 1);
    }
    return absl::OkStatus();
  }

  const BackendInfo info_;
  UniqueFd socket_;
  SessionState state_{};
  std::map<store::Slot, UniqueFd> slots_;
  Mapping inflight_;
  std::vector<Mapping> mappings_;
  GuestMemory memory_;
  std::unique_ptr<SplitRing> rings_[vhost_user::kMaxQueues];
};

BackendInfo Info() {
  BackendInfo info;
  info.features = 1ull << 32 | 1ull << 28 | 1ull << 29;
  info.protocol_features =
      vhost_user::kProtocolMq | vhost_user::kProtocolReplyAck |
      vhost_user::kProtocolConfig | vhost_user::kProtocolBackendReq |
      vhost_user::kProtocolInflightShmfd |
      vhost_user::kProtocolConfigureMemSlots | vhost_user::kProtocolLogShmfd;
  info.queue_count = 2;
  info.config_size = 8;
  info.inflight_slot = store::kSlotFirstDevice;
  info.inflight_size = ReversingBackEnd::kInflightSize;
  return info;
}

// A back-end on a thread and the front-end's socket to it.
class Pair {
 public:
  explicit Pair(const FrontEnd::Options& options,
                const BackendInfo& info = Info()) {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    vmm = FrontEnd::Adopt(UniqueFd(pair[0]), options).value();
    back_end_ = std::thread([this, info, theirs = pair[1]] {
      verdict_ = ReversingBackEnd(info).Serve(UniqueFd(theirs));
    });
  }
  ~Pair() { Leave().IgnoreError(); }

  // The VMM goes away. What the back-end thought of it.
  absl::Status Leave() {
    vmm.reset();
    if (back_end_.joinable()) back_end_.join();
    return verdict_;
  }

  std::unique_ptr<FrontEnd> vmm;

 private:
  std::thread back_end_;
  absl::Status verdict_;
};

void ExpectReversal(FrontEnd& vmm, uint16_t queue) {
  const auto answer = vmm.Transact(
      queue,
      {Buffer::Readable({1, 2}), Buffer::Readable({3}), Buffer::Writable(8)});
  ASSERT_OK(answer);
  EXPECT_EQ(answer->written, 3u);
  EXPECT_EQ(
      (std::vector<uint8_t>(answer->data.begin(), answer->data.begin() + 3)),
      (std::vector<uint8_t>{3, 2, 1}));
  EXPECT_TRUE(vmm.driver(queue).violations().empty());
}

TEST(FrontEnd, RequestsGoThroughARealSocketAndRing) {
  FrontEnd::Options options;
  options.queues = 2;
  Pair pair(options);
  ASSERT_OK(pair.vmm->Start());
  for (int i = 0; i < 300; ++i) ExpectReversal(*pair.vmm, i % 2);
  EXPECT_OK(pair.Leave());
}

TEST(FrontEnd, WorksWithEveryChoiceOfNegotiation) {
  for (const uint64_t features : {~0ull, ~(3ull << 28), ~(1ull << 30)}) {
    for (const bool by_slots : {false, true}) {
      for (const uint64_t protocol :
           {~uint64_t{0}, ~vhost_user::kProtocolReplyAck,
            ~vhost_user::kProtocolInflightShmfd}) {
        FrontEnd::Options options;
        options.features = features;
        options.protocol_features = protocol;
        options.memory_by_slots = by_slots;
        Pair pair(options);
        ASSERT_OK(pair.vmm->Start());
        ExpectReversal(*pair.vmm, 0);
        EXPECT_OK(pair.Leave());
      }
    }
  }
}

TEST(FrontEnd, StoppedQueueGoesOnWhereItWas) {
  Pair pair({});
  ASSERT_OK(pair.vmm->Start());
  for (uint16_t i = 1; i < 5; ++i) {
    ExpectReversal(*pair.vmm, 0);
    EXPECT_THAT(pair.vmm->StopQueue(0), IsOkAndHolds(::testing::Eq(i)));
    ASSERT_OK(pair.vmm->StartQueue(0));
  }
  ASSERT_OK(pair.vmm->ReplaceCall(0));
  ExpectReversal(*pair.vmm, 0);
}

TEST(FrontEnd, ConfigurationSpaceIsReadAndWritten) {
  Pair pair({});
  ASSERT_OK(pair.vmm->Negotiate());
  ASSERT_OK(pair.vmm->SetConfig(2, {1, 2, 3}));
  EXPECT_THAT(pair.vmm->GetConfig(0, 10), IsOkAndHolds(::testing::ElementsAre(
                                              7, 7, 1, 2, 3, 7, 7, 7, 0, 0)));
}

TEST(FrontEnd, DirtyPagesAreThoseThatTheDeviceWrote) {
  Pair pair({});
  ASSERT_OK(pair.vmm->Start());
  ExpectReversal(*pair.vmm, 0);
  ASSERT_OK(pair.vmm->StartDirtyLog());
  pair.vmm->TakeDirtyPages();
  const FakeDriver& driver = pair.vmm->driver(0);
  const uint64_t used = ToInt(driver.ToGuest(driver.config().used)) / 4096;
  ExpectReversal(*pair.vmm, 0);
  // The used ring and, behind it, the buffer.
  EXPECT_THAT(pair.vmm->TakeDirtyPages(),
              ::testing::ElementsAre(used, ::testing::Gt(used)));

  ASSERT_OK(pair.vmm->StopDirtyLog());
  ExpectReversal(*pair.vmm, 0);
  EXPECT_THAT(pair.vmm->TakeDirtyPages(), ::testing::IsEmpty());
}

TEST(FrontEnd, RefusalIsAborted) {
  Pair pair({});
  ASSERT_OK(pair.vmm->Negotiate());
  EXPECT_THAT(
      pair.vmm->Command(RequestType::kSetVringNum,
                        BytesOf(vhost_user::VringState{0, 5})),
      StatusIs(absl::StatusCode::kAborted, HasSubstr("answered with 1")));
  EXPECT_OK(pair.vmm->Start());
}

TEST(FrontEnd, SeesThatItWasGivenUp) {
  Pair pair({});
  ASSERT_OK(pair.vmm->Negotiate());
  ASSERT_OK(pair.vmm->SendRaw(vhost_user::Message(RequestType{99})));
  EXPECT_OK(pair.vmm->WaitForClose());
  EXPECT_THAT(pair.Leave(), StatusIs(absl::StatusCode::kUnimplemented,
                                     HasSubstr("request 99")));
}

TEST(FrontEnd, WaitsForAListenerAndGivesUpInTheEnd) {
  const TempDir dir;
  FrontEnd::Options options;
  options.patience = absl::ZeroDuration();
  EXPECT_THAT(FrontEnd::Connect(dir.File("s"), options),
              ::testing::Not(IsOk()));
  const absl::StatusOr<UniqueFd> listener = ListenAt(dir.File("s"));
  ASSERT_OK(listener);
  const auto vmm = FrontEnd::Connect(dir.File("s"), options);
  ASSERT_OK(vmm);
  // Nobody answers.
  EXPECT_THAT((*vmm)->Negotiate(), StatusIs(absl::StatusCode::kDeadlineExceeded,
                                            HasSubstr("the back-end")));
}

}  // namespace
}  // namespace holdfast::testing
