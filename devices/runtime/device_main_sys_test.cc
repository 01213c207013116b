// A device program without the launcher: what a person at a shell, or a
// management layer with QEMU's conventions, sees of it.
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_main.h"
#include "devices/vhost_user/testing/front_end.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::FrontEnd;
using ::holdfast::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct DiskState {
  static constexpr SchemaId kSchema{"test_disk", /*version=*/1};
  Cell<uint64_t> requests{"requests"};
};

// Answers with the number of the request, and whether its image can be written.
class TestDisk final : public VirtioDevice {
 public:
  static std::vector<OptionSpec> Options() {
    return {{"read-only", "", "refuse writes"}};
  }
  static absl::StatusOr<VirtioSpec> Spec(const DeviceOptions& options) {
    const absl::StatusOr<bool> read_only = options.Switch("read-only", false);
    if (!read_only.ok()) return read_only.status();
    return VirtioSpec(virtio::kDeviceIdBlock)
        .Queue("requestq", /*max_size=*/128)
        .Resource("image", "anything")
        .CompatVersion(3)
        .State<DiskState>();
  }
  static absl::StatusOr<std::unique_ptr<VirtioDevice>> Make(
      VirtioContext& context) {
    if (!context.Resource("image").valid()) {
      return absl::InvalidArgumentError("no image: give --image=PATH");
    }
    return std::unique_ptr<VirtioDevice>(std::make_unique<TestDisk>(context));
  }

  explicit TestDisk(VirtioContext& context)
      : state_(context.State<DiskState>()), image_(context.Resource("image")) {}

  absl::Status OnRequest(Request& request, Txn& txn) override {
    const uint64_t n = txn.Get(state_.requests) + 1;
    txn.Set(state_.requests, n);
    const bool writable = pwrite(image_.get(), "x", 1, 0) == 1;
    txn.Complete(request,
                 request.Write(std::to_string(n) + (writable ? " rw" : " ro")));
    return absl::OkStatus();
  }

 private:
  const DiskState state_;
  const BorrowedFd image_;
};

// A run of the program. Ends with the test.
class Program {
 public:
  explicit Program(std::vector<std::string> arguments, int keep_fd = -1) {
    int out[2], err[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(err, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(out[1], 1);
      dup2(err[1], 2);
      if (keep_fd >= 0) dup2(keep_fd, kFd);
      // As after an exec: the test's sockets are not the program's.
      close_range(3, kFd - 1, 0);
      close_range(kFd + 1, ~0u, 0);
      arguments.insert(arguments.begin(), "/usr/bin/test-disk");
      std::vector<char*> argv;
      for (std::string& argument : arguments) argv.push_back(argument.data());
      argv.push_back(nullptr);
      const int status = DeviceMain(static_cast<int>(argv.size()) - 1,
                                    argv.data(), DeviceClassOf<TestDisk>());
      fflush(stdout);
      _exit(status);
    }
    out_.Reset(out[0]);
    err_.Reset(err[0]);
    close(out[1]);
    close(err[1]);
  }
  Program(const Program&) = delete;
  ~Program() {
    if (pid_ < 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  // Number of the descriptor that it keeps.
  static constexpr int kFd = 77;

  // Waits for its end by itself; the exit status, -1 for a signal.
  int Wait() {
    out = ReadAll(out_);
    err = ReadAll(err_);
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  // What it has said so far on standard error, at least one byte.
  std::string Said() {
    char bytes[4096];
    const ssize_t got = read(err_.get(), bytes, sizeof(bytes));
    return std::string(bytes, got > 0 ? got : 0);
  }
  size_t CountDescriptors() const {
    size_t count = 0;
    const std::string fds = "/proc/" + std::to_string(pid_) + "/fd";
    for (const auto& entry : std::filesystem::directory_iterator(fds)) {
      (void)entry;
      ++count;
    }
    return count;
  }

  std::string out;
  std::string err;

 private:
  static std::string ReadAll(const UniqueFd& fd) {
    std::string all;
    char bytes[4096];
    for (ssize_t got; (got = read(fd.get(), bytes, sizeof(bytes))) > 0;) {
      all.append(bytes, got);
    }
    return all;
  }

  pid_t pid_;
  UniqueFd out_;
  UniqueFd err_;
};

class DeviceMainTest : public ::testing::Test {
 protected:
  DeviceMainTest() {
    UniqueFd fd(open(image_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    EXPECT_EQ(ftruncate(fd.get(), 1 << 20), 0);
  }

  std::string Ask(FrontEnd& vmm) {
    const auto answer = vmm.Transact(0, {FrontEnd::Buffer::Writable(32)});
    EXPECT_OK(answer);
    if (!answer.ok()) return "";
    return std::string(answer->data.begin(),
                       answer->data.begin() + answer->written);
  }
  std::unique_ptr<FrontEnd> Vmm() {
    auto vmm = FrontEnd::Connect(socket_, {});
    EXPECT_OK(vmm);
    EXPECT_OK((*vmm)->Start());
    return *std::move(vmm);
  }

  // Runs to the end and expects a mistake that is said in one line.
  void ExpectMistake(std::vector<std::string> arguments, int status,
                     const ::testing::Matcher<std::string>& said) {
    Program program(std::move(arguments));
    EXPECT_EQ(program.Wait(), status);
    EXPECT_THAT(program.err, said);
    EXPECT_EQ(program.out, "");
  }

  TempDir directory_;
  const std::string image_ = directory_.File("disk.img");
  const std::string socket_ = directory_.File("vmm.sock");
};

// ---- What it says and does not do ----

TEST_F(DeviceMainTest, PrintsItsCapabilities) {
  Program program({"--print-capabilities"});
  EXPECT_EQ(program.Wait(), 0);
  EXPECT_THAT(program.out,
              AllOf(HasSubstr("\"type\":\"block\""),
                    HasSubstr("\"features\":[\"read-only\",\"blk-file\"]")));
  EXPECT_EQ(program.err, "");
}

TEST_F(DeviceMainTest, PrintsHelp) {
  Program program({"--help"});
  EXPECT_EQ(program.Wait(), 0);
  EXPECT_THAT(program.out,
              AllOf(HasSubstr("Usage: test-disk"), HasSubstr("--image=PATH"),
                    HasSubstr("it has no recovery")));
}

TEST_F(DeviceMainTest, RefusesAVersionThatItDoesNotServe) {
  ExpectMistake({"--compat-version=4", "--print-capabilities"}, 2,
                HasSubstr("--compat-version=4: this binary serves 1 to 3"));
  ExpectMistake({"--compat-version=0"}, 2, HasSubstr("versions begin with 1"));
  Program older({"--compat-version=2", "--print-capabilities"});
  EXPECT_EQ(older.Wait(), 0);
}

TEST_F(DeviceMainTest, NamesTheMistakeOnTheCommandLine) {
  ExpectMistake({"--imgae=x"}, 2, HasSubstr("unknown option --imgae"));
  ExpectMistake({"--read-only=perhaps"}, 2, HasSubstr("give 'on' or 'off'"));
  ExpectMistake({"--image=" + image_}, 2,
                HasSubstr("give --socket-path=PATH or --fd=N"));
}

TEST_F(DeviceMainTest, NamesTheFlagAndTheFile) {
  const std::string at = "--socket-path=" + socket_;
  ExpectMistake({at, "--image=/no/such.img"}, 1,
                AllOf(HasSubstr("--image=/no/such.img"),
                      HasSubstr("No such file or directory")));
  ExpectMistake({at}, 1, HasSubstr("no image: give --image=PATH"));
  ExpectMistake({"--socket-path=/no/such/dir/s", "--image=" + image_}, 1,
                AllOf(HasSubstr("--socket-path=/no/such/dir/s"),
                      HasSubstr("No such file or directory")));
  ExpectMistake({"--fd=999", "--image=" + image_}, 1,
                HasSubstr("--fd=999: not a Unix stream socket"));
  ExpectMistake({"--fd=0", "--image=" + image_}, 1,
                HasSubstr("--fd=0: not a Unix stream socket"));
}

// ---- Images ----

TEST_F(DeviceMainTest, AnImageInUseIsRefused) {
  const std::string image = "--image=" + image_;
  Program first({"--socket-path=" + socket_, image});
  Vmm();
  ExpectMistake({"--socket-path=" + directory_.File("2"), image}, 1,
                AllOf(HasSubstr(image), HasSubstr("in use")));
  // A reader and a writer do not go together, either.
  ExpectMistake({"--socket-path=" + directory_.File("3"), image, "--read-only"},
                1, HasSubstr("in use"));
}

TEST_F(DeviceMainTest, ReadersShareAnImage) {
  ASSERT_EQ(chmod(image_.c_str(), 0444), 0);
  Program first(
      {"--socket-path=" + socket_, "--image=" + image_, "--read-only"});
  EXPECT_EQ(Ask(*Vmm()), "1 ro");
  const std::string other = directory_.File("2");
  Program second(
      {"--socket-path=" + other, "--image=" + image_, "--read-only"});
  auto vmm = FrontEnd::Connect(other, {});
  ASSERT_OK(vmm);
  ASSERT_OK((*vmm)->Start());
  EXPECT_EQ(Ask(**vmm), "1 ro");
}

// ---- Serving ----

TEST_F(DeviceMainTest, SaysThatItHasNoRecovery) {
  Program program({"--socket-path=" + socket_, "--image=" + image_});
  EXPECT_THAT(program.Said(), HasSubstr("without recovery"));
}

TEST_F(DeviceMainTest, ServesOneVmmAfterTheOther) {
  Program program({"--socket-path=" + socket_, "--image=" + image_});
  size_t descriptors = 0;
  for (int vmm_number = 0; vmm_number < 20; ++vmm_number) {
    const auto vmm = Vmm();
    // State is the device's, not the connection's.
    EXPECT_EQ(Ask(*vmm), std::to_string(2 * vmm_number + 1) + " rw");
    EXPECT_EQ(Ask(*vmm), std::to_string(2 * vmm_number + 2) + " rw");
    if (vmm_number == 0) descriptors = program.CountDescriptors();
    EXPECT_EQ(program.CountDescriptors(), descriptors);
  }
}

TEST_F(DeviceMainTest, ASecondVmmWaitsForTheFirstToLeave) {
  Program program({"--socket-path=" + socket_, "--image=" + image_});
  auto first = Vmm();
  EXPECT_EQ(Ask(*first), "1 rw");
  auto second = FrontEnd::Connect(socket_, {});
  ASSERT_OK(second);
  EXPECT_EQ(Ask(*first), "2 rw");
  first.reset();
  ASSERT_OK((*second)->Start());
  EXPECT_EQ(Ask(**second), "3 rw");
}

TEST_F(DeviceMainTest, AMalformedMessageEndsTheConnectionOnly) {
  Program program({"--socket-path=" + socket_, "--image=" + image_});
  auto bad = FrontEnd::Connect(socket_, {});
  ASSERT_OK(bad);
  ASSERT_OK((*bad)->SendRaw(std::vector<uint8_t>(64, 0xff)));
  EXPECT_OK((*bad)->WaitForClose());
  EXPECT_EQ(Ask(*Vmm()), "1 rw");
}

TEST_F(DeviceMainTest, TakesAListeningSocketByNumber) {
  auto listener = ListenAt(socket_);
  ASSERT_OK(listener);
  Program program({"--fd=" + std::to_string(Program::kFd), "--image=" + image_},
                  listener->get());
  EXPECT_EQ(Ask(*Vmm()), "1 rw");
  EXPECT_EQ(Ask(*Vmm()), "2 rw");
}

// As QEMU's chardev with fd= leaves it: when the VMM is gone, so is the need.
TEST_F(DeviceMainTest, EndsWithAConnectionThatItWasGiven) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  UniqueFd ours(pair[0]), theirs(pair[1]);
  Program program({"--fd=" + std::to_string(Program::kFd), "--image=" + image_},
                  theirs.get());
  theirs.Reset();  // Else its end would never be seen.
  auto vmm = FrontEnd::Adopt(std::move(ours), {});
  ASSERT_OK(vmm);
  ASSERT_OK((*vmm)->Start());
  EXPECT_EQ(Ask(**vmm), "1 rw");
  vmm->reset();
  EXPECT_EQ(program.Wait(), 0);
  EXPECT_THAT(program.err, Not(HasSubstr("E test-disk")));
}

TEST_F(DeviceMainTest, ASocketThatSomebodyServesIsNotTakenAway) {
  Program program({"--socket-path=" + socket_, "--image=" + image_});
  Vmm();
  const std::string other = directory_.File("other.img");
  UniqueFd(open(other.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  ExpectMistake({"--socket-path=" + socket_, "--image=" + other}, 1,
                HasSubstr("--socket-path=" + socket_));
  EXPECT_EQ(Ask(*Vmm()), "1 rw");
}

TEST_F(DeviceMainTest, ReplacesTheSocketOfOneThatDied) {
  {
    Program program({"--socket-path=" + socket_, "--image=" + image_});
    EXPECT_EQ(Ask(*Vmm()), "1 rw");
  }
  Program program({"--socket-path=" + socket_, "--image=" + image_});
  EXPECT_EQ(Ask(*Vmm()), "1 rw");  // And remembers nothing.
}

}  // namespace
}  // namespace holdfast
