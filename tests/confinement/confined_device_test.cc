// The shipped device programs, in the whole jail, under their shipped
// policies, doing their work: what the sandbox takes from a device, the device
// does not miss. The test is launcher, store and VMM in one. Runs as real root:
// tagged no-sandbox.

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/handoff.h"
#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "devices/vhost_user/testing/front_end.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sandbox/compile.h"
#include "sandbox/filter_memfd_sys.h"
#include "sandbox/jail_sys.h"
#include "sandbox/policy_file_sys.h"
#include "sandbox/testing/run_jailed_sys.h"
#include "statestore/store/protocol.h"

namespace holdfast {
namespace {

using sandbox::testing::Describe;
using sandbox::testing::Ending;
using testing::FrontEnd;
using ::testing::IsEmpty;
using testing::TempDir;
using Buffer = FrontEnd::Buffer;

constexpr size_t kSegmentBytes = 2 << 20;
constexpr size_t kImageBytes = 1 << 20;
constexpr store::Slot kImageSlot = store::kSlotFirstResource;

// As much of holdfast-store as one child without a standby can tell from the
// real one: acknowledges what is deposited and keeps nothing.
class TinyStore {
 public:
  explicit TinyStore(UniqueFd channel)
      : channel_(std::move(channel)), thread_([this] { Serve(); }) {}
  TinyStore(const TinyStore&) = delete;
  TinyStore& operator=(const TinyStore&) = delete;
  ~TinyStore() {
    shutdown(channel_.get(), SHUT_RDWR);
    thread_.join();
  }

  absl::Status Send(store::Message message, BorrowedFd fd = BorrowedFd(-1)) {
    const int fds[] = {fd.get()};
    return SendWithFds(
        channel_, {reinterpret_cast<const uint8_t*>(&message), sizeof(message)},
        absl::MakeConstSpan(fds, fd.valid() ? 1 : 0));
  }

  bool ready() const { return ready_; }
  bool gone() const { return gone_; }

 private:
  void Serve() {
    for (;;) {
      store::Message message;
      ReceivedFds fds;
      const auto received = ReceiveWithFds(
          channel_,
          absl::MakeSpan(reinterpret_cast<uint8_t*>(&message), sizeof(message)),
          fds);
      if (!received.ok() || received->size != sizeof(message)) break;
      if (message.type == store::Type::kReady) ready_ = true;
      if (message.type == store::Type::kEscrow ||
          message.type == store::Type::kVmmClosed) {
        store::Message answer;
        answer.type = store::Type::kAck;
        answer.tag = message.tag;
        if (!Send(answer).ok()) break;
      }
    }
    gone_ = true;
  }

  UniqueFd channel_;
  std::atomic<bool> ready_{false};
  std::atomic<bool> gone_{false};
  std::thread thread_;  // Last: it uses the others.
};

store::Message MessageOf(store::Type type, store::Slot slot = 0,
                         uint64_t arg0 = 0) {
  store::Message message;
  message.type = type;
  message.slot = slot;
  message.arg0 = arg0;
  return message;
}

// One confined device and everything around it.
class ConfinedDevice {
 public:
  // Returns when the device serves a connected VMM.
  static absl::StatusOr<std::unique_ptr<ConfinedDevice>> Start(
      const std::string& program, const std::string& policy) {
    std::unique_ptr<ConfinedDevice> device(new ConfinedDevice);
    RETURN_IF_ERROR(device->Spawn(program, policy));
    RETURN_IF_ERROR(device->Promote());
    return device;
  }
  ~ConfinedDevice() {
    kill(process_.pid, SIGKILL);
    (void)sandbox::testing::WaitFor(process_);
  }

  FrontEnd& vmm() { return *vmm_; }
  const std::vector<std::string>& degraded() const { return process_.degraded; }

  absl::StatusOr<Ending> StopInOrder() {
    ControlMessage stop;
    stop.type = ControlMessage::Type::kStop;
    RETURN_IF_ERROR(SendWithFds(
        control_, {reinterpret_cast<const uint8_t*>(&stop), sizeof(stop)}, {}));
    return Wait();
  }

  absl::StatusOr<Ending> Wait() { return sandbox::testing::WaitFor(process_); }

 private:
  absl::Status Spawn(const std::string& program, const std::string& policy) {
    ASSIGN_OR_RETURN(const sandbox::Policy parsed,
                     sandbox::LoadPolicy(policy, {"sandbox/policies"}));
    ASSIGN_OR_RETURN(const std::vector<sock_filter> steady,
                     sandbox::Compile(parsed.SteadyRules()));
    ASSIGN_OR_RETURN(const UniqueFd filter, sandbox::SealFilter(steady));
    ASSIGN_OR_RETURN(const UniqueFd segment,
                     CreateSealedMemfd("segment", kSegmentBytes));
    ASSIGN_OR_RETURN(auto store, SeqpacketPair());
    ASSIGN_OR_RETURN(auto control, SeqpacketPair());
    const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    for (const UniqueFd* end : {&store.second, &control.second}) {
      fcntl(end->get(), F_SETFL, O_NONBLOCK);
    }
    sandbox::JailSpec spec = sandbox::testing::SpecFor(program);
    spec.argv = {program};
    spec.env = {absl::StrCat(kHandoffEnvironment, "=1"),
                absl::StrCat("HOLDFAST_RESOURCE_image=", kImageSlot)};
    spec.fds = {{null, 0},
                {BorrowedFd(2), 1},
                {BorrowedFd(2), 2},
                {store.second, kHandoffStoreFd},
                {control.second, kHandoffControlFd},
                {segment, kHandoffSegmentFd},
                {filter, kHandoffFilterFd}};
    ASSIGN_OR_RETURN(spec.startup_filter,
                     sandbox::Compile(parsed.StartupRules()));
    ASSIGN_OR_RETURN(process_, sandbox::Spawn(spec));
    control_ = std::move(control.first);
    store_ = std::make_unique<TinyStore>(std::move(store.first));
    return absl::OkStatus();
  }

  absl::Status Promote() {
    const std::string path = dir_.File("image");
    image_.Reset(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (ftruncate(image_.get(), kImageBytes) != 0) {
      return absl::InternalError("no image");
    }
    using store::Type;
    RETURN_IF_ERROR(
        store_->Send(MessageOf(Type::kForward, kImageSlot), image_));
    RETURN_IF_ERROR(store_->Send(MessageOf(Type::kForwardDone)));
    while (!store_->ready() && !store_->gone()) std::this_thread::yield();
    if (store_->gone()) {
      ASSIGN_OR_RETURN(const Ending ending, Wait());
      return absl::UnavailableError(
          absl::StrCat("at its start it ", Describe(ending)));
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
      return absl::InternalError("socketpair");
    }
    UniqueFd vmm_end(pair[0]);
    const UniqueFd device_end(pair[1]);
    RETURN_IF_ERROR(store_->Send(
        MessageOf(Type::kForward, store::kSlotConnection, /*arg0=*/1),
        device_end));
    RETURN_IF_ERROR(store_->Send(MessageOf(Type::kPromote, 0, /*arg0=*/1)));
    ASSIGN_OR_RETURN(vmm_, FrontEnd::Adopt(std::move(vmm_end), {}));
    return vmm_->Start();
  }

  TempDir dir_;
  UniqueFd image_;
  UniqueFd control_;
  std::unique_ptr<TinyStore> store_;
  std::unique_ptr<FrontEnd> vmm_;
  sandbox::JailedProcess process_;
};

// The 16 bytes that begin a virtio-blk request (VIRTIO 1.2, section 5.2.6).
std::vector<uint8_t> BlockHeader(uint32_t type, uint64_t sector) {
  std::vector<uint8_t> header(16);
  std::memcpy(header.data(), &type, sizeof(type));
  std::memcpy(header.data() + 8, &sector, sizeof(sector));
  return header;
}

// Discard and write-zeroes: one range.
std::vector<uint8_t> BlockRange(uint64_t sector, uint32_t sectors) {
  std::vector<uint8_t> range(16);
  std::memcpy(range.data(), &sector, sizeof(sector));
  std::memcpy(range.data() + 8, &sectors, sizeof(sectors));
  return range;
}

enum BlockRequest : uint32_t {
  kIn = 0,
  kOut = 1,
  kFlush = 4,
  kGetId = 8,
  kDiscard = 11,
  kWriteZeroes = 13,
};

// The status byte of a request without data for the driver; 255: no answer.
int BlockStatus(FrontEnd& vmm, BlockRequest type,
                const std::vector<uint8_t>& data = {}) {
  std::vector<Buffer> buffers = {Buffer::Readable(BlockHeader(type, 0))};
  if (!data.empty()) buffers.push_back(Buffer::Readable(data));
  buffers.push_back(Buffer::Writable(1));
  const absl::StatusOr<FrontEnd::Answer> answer = vmm.Transact(0, buffers);
  EXPECT_OK(answer);
  return answer.ok() ? answer->data.back() : 255;
}

class Confined : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
};

constexpr char kBlk[] = "devices/virtio_blk/holdfast-virtio-blk";
constexpr char kRng[] = "devices/virtio_rng/holdfast-virtio-rng";
constexpr char kBlkPolicy[] = "devices/virtio_blk/virtio_blk.policy";
constexpr char kRngPolicy[] = "devices/virtio_rng/virtio_rng.policy";

TEST_F(Confined, BlockDeviceDoesAllItsWork) {
  const auto device = ConfinedDevice::Start(kBlk, kBlkPolicy);
  ASSERT_OK(device);
  EXPECT_THAT((*device)->degraded(), IsEmpty());
  FrontEnd& vmm = (*device)->vmm();
  const std::vector<uint8_t> written(4096, 0x5a);
  EXPECT_EQ(BlockStatus(vmm, kOut, written), 0);
  EXPECT_EQ(BlockStatus(vmm, kFlush), 0);
  const absl::StatusOr<FrontEnd::Answer> read =
      vmm.Transact(0, {Buffer::Readable(BlockHeader(kIn, 0)),
                       Buffer::Writable(4096), Buffer::Writable(1)});
  ASSERT_OK(read);
  EXPECT_TRUE(std::equal(written.begin(), written.end(), read->data.begin()));
  EXPECT_EQ(BlockStatus(vmm, kDiscard, BlockRange(0, 8)), 0);
  EXPECT_EQ(BlockStatus(vmm, kWriteZeroes, BlockRange(8, 8)), 0);
  const absl::StatusOr<Ending> ending = (*device)->StopInOrder();
  ASSERT_OK(ending);
  EXPECT_TRUE(ending->Exited(0)) << Describe(*ending);
}

// Everything that a VMM does with a running device, without a violation.
TEST_F(Confined, BlockDeviceSurvivesTheLifeOfAVmm) {
  const auto device = ConfinedDevice::Start(kBlk, kBlkPolicy);
  ASSERT_OK(device);
  FrontEnd& vmm = (*device)->vmm();
  EXPECT_OK(vmm.GetConfig(0, 60));
  ASSERT_OK(vmm.StopQueue(0));
  ASSERT_OK(vmm.ShareMemory());  // Maps the new table, unmaps the old one.
  ASSERT_OK(vmm.StartQueue(0));
  ASSERT_OK(vmm.ReplaceCall(0));
  EXPECT_EQ(BlockStatus(vmm, kFlush), 0);
  const absl::StatusOr<Ending> ending = (*device)->StopInOrder();
  ASSERT_OK(ending);
  EXPECT_TRUE(ending->Exited(0)) << Describe(*ending);
}

TEST_F(Confined, EntropyDeviceDoesAllItsWork) {
  const auto device = ConfinedDevice::Start(kRng, kRngPolicy);
  ASSERT_OK(device);
  EXPECT_THAT((*device)->degraded(), IsEmpty());
  const absl::StatusOr<FrontEnd::Answer> answer =
      (*device)->vmm().Transact(0, {Buffer::Writable(64)});
  ASSERT_OK(answer);
  EXPECT_EQ(answer->written, 64u);
  const absl::StatusOr<Ending> ending = (*device)->StopInOrder();
  ASSERT_OK(ending);
  EXPECT_TRUE(ending->Exited(0)) << Describe(*ending);
}

// Negative control: the filter of the other device is in force, or the tests
// above prove nothing.
TEST_F(Confined, BlockDeviceIsKilledUnderTheEntropyDevicesPolicy) {
  const auto device = ConfinedDevice::Start(kBlk, kRngPolicy);
  ASSERT_OK(device);
  FrontEnd& vmm = (*device)->vmm();
  ASSERT_TRUE(
      vmm.driver(0)
          .Post({Buffer::Readable(BlockHeader(kFlush, 0)), Buffer::Writable(1)})
          .has_value());
  ASSERT_OK(vmm.Kick(0));
  const absl::StatusOr<Ending> ending = (*device)->Wait();
  ASSERT_OK(ending);
  EXPECT_TRUE(ending->KilledBy(SIGSYS)) << Describe(*ending);
}

}  // namespace
}  // namespace holdfast
