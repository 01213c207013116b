// After Start() the store allocates nothing: the whole event loop runs in a
// thread whose calls of the allocator are counted.

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unix_socket_sys.h"
#include "gtest/gtest.h"
#include "statestore/store/message_io_sys.h"
#include "statestore/store/store_sys.h"
#include "statestore/store/testing/fake_device_sys.h"

namespace {

thread_local bool t_counted = false;
std::atomic<size_t> g_allocations{0};

void Count() {
  if (t_counted) ++g_allocations;
}

}  // namespace

// The C library's own, under the names that stay when these are replaced;
// operator new ends here too.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  Count();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  Count();
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) {
  Count();
  return __libc_realloc(old, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  Count();
  return __libc_memalign(alignment, size);
}
}

namespace holdfast::store {
namespace {

using ::holdfast::testing::TempDir;
using testing::Command;
using testing::FakeDevice;
using testing::MakeToken;
using testing::WaitForEvent;

constexpr InstanceId kDisk = 7;

class StoreAlloc : public ::testing::Test {
 protected:
  void SetUp() override {
    auto pair = SeqpacketPair();
    ASSERT_OK(pair);
    channel_ = std::move(pair->first);
    NewClient();
    auto store = std::make_unique<Store>();
    ASSERT_OK(store->Start(std::move(pair->second)));
    g_allocations = 0;
    thread_ = std::thread([store = std::move(store)] {
      t_counted = true;
      while (store->RunOnce(-1)) {
      }
      t_counted = false;
    });
    ASSERT_OK(client_->CreateInstance(kDisk, "disk", MakeToken(9), true));
  }
  void TearDown() override {
    client_.reset();
    channel_.Reset();
    thread_.join();
    EXPECT_EQ(g_allocations, 0u);
  }
  void NewClient() {
    client_ = std::make_unique<Client>(
        UniqueFd(fcntl(channel_.get(), F_DUPFD_CLOEXEC, 0)));
  }
  std::unique_ptr<FakeDevice> Add(ChildId id) {
    auto device = std::make_unique<FakeDevice>(id);
    EXPECT_OK(device->child().AddTo(*client_, kDisk));
    EXPECT_TRUE(WaitForEvent(*client_, Type::kChildReady).has_value());
    return device;
  }

  UniqueFd channel_;
  std::unique_ptr<Client> client_;
  std::thread thread_;
};

TEST_F(StoreAlloc, LifeOfAnInstanceAllocatesNothing) {
  TempDir dir;
  const auto listener = ListenAt(dir.File("vmm"));
  ASSERT_OK(client_->SetListener(kDisk, *listener));
  auto active = Add(1), standby = Add(2);
  const auto vmm = ConnectTo(dir.File("vmm"));
  const auto refused = ConnectTo(dir.File("vmm"));
  ASSERT_TRUE(WaitForEvent(*client_, Type::kVmmWaiting).has_value());
  for (Slot slot = kSlotFirstDevice; slot < kSlotCount; slot += 5) {
    ASSERT_TRUE(active->Escrow(slot, slot));
  }
  Command retain;
  retain.kind = Command::Kind::kRetain;
  ASSERT_TRUE(active->Do(retain));
  active->child().Kill();
  ASSERT_TRUE(WaitForEvent(*client_, Type::kPromoted).has_value());
  standby->child().Kill();
  ASSERT_TRUE(WaitForEvent(*client_, Type::kChildLost).has_value());
  ASSERT_OK(client_->RemoveInstance(kDisk));
}

TEST_F(StoreAlloc, StandbyThatIsBehindAllocatesNothing) {
  auto active = Add(1), standby = Add(2);
  kill(standby->child().pid(), SIGSTOP);
  // More than its socket holds, by far.
  for (uint64_t i = 1; i <= 1000; ++i) ASSERT_TRUE(active->Escrow(40, i));
  kill(standby->child().pid(), SIGCONT);
  active->child().Kill();
  EXPECT_TRUE(standby->AwaitEvent(ChildEvent::Kind::kPromote).has_value());
}

TEST_F(StoreAlloc, MisbehaviourAllocatesNothing) {
  for (ChildId id = 1; id <= 3; ++id) {
    auto culprit = Add(id);
    Command raw;
    raw.kind = Command::Kind::kRaw;
    raw.size = id;
    raw.value = id;
    culprit->Start(raw);
    ASSERT_TRUE(WaitForEvent(*client_, Type::kChildMisbehaved).has_value());
  }
  EXPECT_FALSE(client_->PutBlob(99, MakeToken(1)).ok());
  EXPECT_FALSE(client_->SetResource(kDisk, 99, MakeToken(1)).ok());
}

TEST_F(StoreAlloc, LauncherThatReadsNothingAllocatesNothing) {
  Message request;
  request.type = Type::kHello;
  request.arg0 = 1;
  while (Send(channel_, request, {}) == IoResult::kDone) {
  }
  auto device = std::make_unique<FakeDevice>(1);
  NewClient();
  EXPECT_OK(client_->Hello(2));
}

// Negative control: the counter does see what a convenient line would cost.
TEST(AllocationCounter, SeesAnAllocatingLogLine) {
  g_allocations = 0;
  t_counted = true;
  LogInfo("more characters than fit into a string object: ", 1);
  t_counted = false;
  EXPECT_GT(g_allocations, 0u);
}

}  // namespace
}  // namespace holdfast::store
