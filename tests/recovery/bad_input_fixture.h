#ifndef HOLDFAST_TESTS_RECOVERY_BAD_INPUT_FIXTURE_H_
#define HOLDFAST_TESTS_RECOVERY_BAD_INPUT_FIXTURE_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
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

using Bytes = std::vector<uint8_t>;
using FrontEndBuffer = FrontEnd::Buffer;

inline constexpr uint64_t kGuest = FrontEnd::kGuestAddress;
inline constexpr uint64_t kUser = FrontEnd::kUserAddress;
inline constexpr uint64_t kMemory = 1 << 20;  // Of the VMM, in its file.

// A real confined device under a real store. After each test the same process
// serves, and has neither a descriptor nor memory more than before.
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

  static inline UniqueFd* log_ = nullptr;
  static inline off_t log_at_ = 0;
  static inline ManagedDevice* device_ = nullptr;
  pid_t pid_ = 0;
  size_t descriptors_ = 0;
  size_t resident_ = 0;
};

// Payloads of messages.
inline Bytes U64(uint64_t value) { return vhost_user::BytesOf(value); }
inline Bytes Vring(uint32_t index, uint32_t num) {
  return vhost_user::BytesOf(vhost_user::VringState{index, num});
}
inline Bytes Table(const std::vector<vhost_user::MemoryRegion>& regions) {
  return vhost_user::Message(vhost_user::RequestType::kSetMemTable,
                             vhost_user::MemoryTablePayload(regions));
}

}  // namespace holdfast::testing

#endif  // HOLDFAST_TESTS_RECOVERY_BAD_INPUT_FIXTURE_H_
