// --direct of the program as a person runs it, and what it says where that
// cannot be.

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "devices/testing/device_program.h"
#include "devices/vhost_user/testing/front_end.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::testing::HasSubstr;
using Buffer = FrontEnd::Buffer;

constexpr char kProgram[] = "devices/virtio_blk/holdfast-virtio-blk";

class VirtioBlkDirect : public ::testing::Test {
 protected:
  std::string Image() const { return dir_.File("disk"); }
  std::string Socket() const { return sockets_.File("s"); }
  void Create(off_t size) const {
    const UniqueFd fd(
        open(Image().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_EQ(ftruncate(fd.get(), size), 0);
  }
  absl::StatusOr<std::unique_ptr<DeviceProgram>> Start() const {
    return DeviceProgram::Start(kProgram, {"--socket-path=" + Socket(),
                                           "--image=" + Image(), "--direct"});
  }
  TempDir dir_, sockets_;
};

TEST_F(VirtioBlkDirect, ServesRequestsOfSingleSectors) {
  Create(1 << 20);
  if (!UniqueFd(open(Image().c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC))
           .valid()) {
    GTEST_SKIP() << "set TMPDIR to a file system with direct I/O";
  }
  const auto device = Start();
  ASSERT_OK(device);
  const auto vmm = FrontEnd::Connect(Socket(), {});
  ASSERT_OK(vmm);
  ASSERT_OK((*vmm)->Start());
  std::vector<uint8_t> header(16);
  header[0] = 1;  // A write...
  header[8] = 3;  // ... to sector 3.
  const auto write =
      (*vmm)->Transact(0, {Buffer::Readable(header),
                           Buffer::Readable(std::vector<uint8_t>(512, 'x')),
                           Buffer::Writable(1)});
  ASSERT_OK(write);
  std::string content(2048, '?');
  const UniqueFd file(open(Image().c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(pread(file.get(), content.data(), content.size(), 0), 2048);
  EXPECT_EQ(content, std::string(1536, '\0') + std::string(512, 'x'));
}

TEST_F(VirtioBlkDirect, SaysWhatToDoWhereThereIsNone) {
  if (unshare(CLONE_NEWNS) != 0 ||
      mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("ramfs", dir_.path().c_str(), "ramfs", 0, nullptr) != 0) {
    GTEST_SKIP() << "needs a mount of ramfs, which has no direct I/O: run it "
                    "as root with CAP_SYS_ADMIN: "
                 << std::strerror(errno);
  }
  Create(1 << 20);
  const auto device = Start();
  ASSERT_OK(device);
  const auto ending = (*device)->Wait(absl::Seconds(20));
  umount2(dir_.path().c_str(), MNT_DETACH);
  ASSERT_OK(ending);
  EXPECT_EQ(ending->exit_code, 1);
  EXPECT_THAT(ending->err,
              HasSubstr("--image=" + Image() +
                        " is on a file system without direct I/O (O_DIRECT): "
                        "move it to one that has it, such as ext4 or xfs, or "
                        "leave --direct out"));
}

}  // namespace
}  // namespace holdfast::testing
