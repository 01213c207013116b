// What the kernel says of every child of a real launcher, while a VMM uses a
// disk: the store, the api, the active device and its standby. Runs as real
// root: tagged no-sandbox.

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/unique_fd.h"
#include "devices/vhost_user/testing/front_end.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/testing/launcher_process.h"
#include "tests/confinement/audit_sys.h"

namespace holdfast::testing {
namespace {

using launcher::LauncherProcess;
using launcher::LaunchSpec;
using launcher::Runfile;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Buffer = FrontEnd::Buffer;

constexpr char kBlk[] = "devices/virtio_blk/holdfast-virtio-blk";
constexpr char kBlkPolicy[] = "devices/virtio_blk/virtio_blk.policy";
constexpr char kRngPolicy[] = "devices/virtio_rng/virtio_rng.policy";

std::string DirectoryOf(const std::string& runfile) {
  return std::filesystem::path(Runfile(runfile)).parent_path().string();
}

// Somebody's process that waits, and could be dumped.
class UserProcess {
 public:
  UserProcess() : pid_(fork()) {
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const bool changed = setresuid(60000, 60000, 60000) == 0;
    if (changed) prctl(PR_SET_DUMPABLE, 1);
    for (;;) pause();
  }
  UserProcess(const UserProcess&) = delete;
  UserProcess& operator=(const UserProcess&) = delete;
  ~UserProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  const pid_t pid_;
};

class LaunchedChildren : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    launcher_ = std::make_unique<LauncherProcess>(std::vector<std::string>{
        "--allow-binary-dir=" + DirectoryOf(kBlk),
        "--policy-dir=" + DirectoryOf(kBlkPolicy),
        "--policy-dir=" + DirectoryOf(kRngPolicy),
        "--policy-dir=" + DirectoryOf("sandbox/policies/common.policy"),
        "--api=" + Runfile("launcher/api/holdfast-api"),
        "--api-policy=" + Runfile("launcher/api/api.policy")});
  }

  LaunchSpec Disk(const std::string& name,
                  const std::string& policy = kBlkPolicy) {
    const std::string image = launcher_->File(name + ".img");
    const UniqueFd fd(open(image.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_EQ(ftruncate(fd.get(), 1 << 20), 0);
    LaunchSpec spec = launcher_->Spec(name);
    spec.binary = Runfile(kBlk);
    spec.policy = Runfile(policy);
    spec.segment_bytes = 1 << 20;
    launcher::ResourceSpec resource;
    resource.name = "image";
    resource.path = image;
    spec.resources.push_back(resource);
    return spec;
  }

  // Its two children, once both are ready.
  launcher::InstanceStatus Start(const LaunchSpec& spec) {
    EXPECT_OK(launcher_->Run(spec));
    const auto status = launcher_->AwaitWhole(spec.name);
    EXPECT_OK(status);
    return status.ok() ? *status : launcher::InstanceStatus();
  }

  // A VMM that has flushed the disk once.
  std::unique_ptr<FrontEnd> StartVmm(const LaunchSpec& spec) {
    auto vmm = FrontEnd::Connect(spec.socket_path, {});
    EXPECT_OK(vmm);
    if (!vmm.ok()) return nullptr;
    EXPECT_OK((*vmm)->Start());
    EXPECT_OK((*vmm)->Transact(0, Flush()));
    return *std::move(vmm);
  }

  static std::vector<Buffer> Flush() {
    std::vector<uint8_t> header(16);
    header[0] = 4;
    return {Buffer::Readable(header), Buffer::Writable(1)};
  }

  ConfinedAs DeviceOf(const LaunchSpec& spec) const {
    ConfinedAs as;
    as.least_filters = 3;  // The listener's, of the start, of steady state.
    as.env = {"HOLDFAST_MANAGED", "HOLDFAST_RESOURCE_image"};
    as.files = {spec.resources[0].path};
    return as;
  }

  pid_t Of(const std::string& event) {
    const auto started = launcher_->AwaitEvent(event);
    EXPECT_OK(started);
    return started.ok() ? started->pid : -1;
  }

  std::unique_ptr<LauncherProcess> launcher_;
};

// Its policy knows all that direct I/O takes, also in a successor.
TEST_F(LaunchedChildren, DirectImageIsServedUnderItsPolicy) {
  LaunchSpec spec = Disk("disk0");
  const UniqueFd probe(
      open(spec.resources[0].path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  if (!probe.valid()) {
    GTEST_SKIP() << "set TMPDIR to a file system with direct I/O";
  }
  spec.resources[0].direct = true;
  const launcher::InstanceStatus disk = Start(spec);
  const auto vmm = StartVmm(spec);
  ASSERT_NE(vmm, nullptr);
  kill(disk.active_pid, SIGKILL);
  std::vector<uint8_t> header(16);  // A read of one sector.
  EXPECT_OK(vmm->Transact(0, {Buffer::Readable(header), Buffer::Writable(512),
                              Buffer::Writable(1)}));
  // The answer may come before the launcher has heard of the death.
  EXPECT_OK(launcher_->Await("disk0", [](const launcher::InstanceStatus& s) {
    return s.epoch == 2 && s.standby_ready;
  }));
}

TEST_F(LaunchedChildren, ActiveDeviceAndStandbyAreConfined) {
  const LaunchSpec spec = Disk("disk0");
  const launcher::InstanceStatus disk = Start(spec);
  const auto vmm = StartVmm(spec);
  EXPECT_THAT(Audit(disk.active_pid, DeviceOf(spec)), IsEmpty());
  EXPECT_THAT(Audit(disk.standby_pid, DeviceOf(spec)), IsEmpty());
}

// The one that was promoted is no less confined than the one that died.
TEST_F(LaunchedChildren, PromotedStandbyIsConfined) {
  const LaunchSpec spec = Disk("disk0");
  const launcher::InstanceStatus before = Start(spec);
  const auto vmm = StartVmm(spec);
  ASSERT_EQ(kill(before.active_pid, SIGKILL), 0);
  ASSERT_OK(vmm->Transact(0, Flush()));
  const auto after = launcher_->Await("disk0", [&](const auto& status) {
    return status.active_pid == before.standby_pid && status.standby_ready;
  });
  ASSERT_OK(after);
  EXPECT_THAT(Audit(after->active_pid, DeviceOf(spec)), IsEmpty());
  EXPECT_THAT(Audit(after->standby_pid, DeviceOf(spec)), IsEmpty());
}

TEST_F(LaunchedChildren, StoreIsConfined) {
  const LaunchSpec spec = Disk("disk0");
  Start(spec);
  const auto vmm = StartVmm(spec);
  ConfinedAs as;
  as.files = {spec.resources[0].path};  // In its escrow.
  as.open_files = 8192;
  as.threads = 8;
  EXPECT_THAT(Audit(Of("store-started"), as), IsEmpty());
}

TEST_F(LaunchedChildren, ApiIsConfined) {
  const pid_t api = Of("api-started");
  ConfinedAs as;
  as.threads = 128;
  // gRPC makes threads as it goes, and the filter comes once they are there.
  PollUntil([&] { return Audit(api, as).empty(); });
  EXPECT_THAT(Audit(api, as), IsEmpty());
}

TEST_F(LaunchedChildren, HaveUsersAndNamespacesOfTheirOwn) {
  const launcher::InstanceStatus disk = Start(Disk("disk0"));
  const launcher::InstanceStatus other = Start(Disk("disk1"));
  EXPECT_EQ(UserOf(disk.active_pid), UserOf(disk.standby_pid));
  const std::vector<pid_t> pids = {disk.active_pid, other.active_pid,
                                   Of("store-started"), Of("api-started")};
  std::set<int64_t> users;
  std::set<std::string> namespaces;
  for (pid_t pid : pids) {
    users.insert(UserOf(pid));
    for (const std::string& one : NamespacesOf(pid)) namespaces.insert(one);
  }
  EXPECT_EQ(users.size(), pids.size());
  for (const std::string& one : NamespacesOf(disk.standby_pid)) {
    EXPECT_TRUE(namespaces.insert(one).second) << one << " is shared";
  }
  EXPECT_EQ(namespaces.size(), 7 * (pids.size() + 1));
}

// A device under a policy that lacks its flush: the crash has a name.
TEST_F(LaunchedChildren, ViolationIsACrashWithItsName) {
  const LaunchSpec spec = Disk("disk0", kRngPolicy);
  Start(spec);
  auto vmm = FrontEnd::Connect(spec.socket_path, {});
  ASSERT_OK(vmm);
  ASSERT_OK((*vmm)->Start());
  ASSERT_TRUE((*vmm)->driver(0).Post(Flush()).has_value());
  ASSERT_OK((*vmm)->Kick(0));
  const auto lost = launcher_->AwaitEvent("exited");
  ASSERT_OK(lost);
  EXPECT_EQ(lost->cause, "sandbox violation (SIGSYS)");
  EXPECT_EQ(lost->instance, "disk0");
}

// What the machine does not give, or the spec did not want, is in the status.
TEST_F(LaunchedChildren, WhatIsMissingIsReportedNotSilent) {
  LaunchSpec spec = Disk("disk0", kBlkPolicy);
  EXPECT_THAT(Start(spec).degraded, IsEmpty());
  spec = Disk("disk1");
  spec.policy.clear();
  EXPECT_THAT(Start(spec).degraded,
              Contains(HasSubstr("degraded: startup filter")));
}

// The control: the audit sees what is missing.
TEST_F(LaunchedChildren, AuditFindsWhatIsNotConfined) {
  LaunchSpec spec = Disk("disk0");
  spec.confined = false;
  const launcher::InstanceStatus disk = Start(spec);
  EXPECT_THAT(disk.degraded, Contains(HasSubstr("degraded: sandbox")));
  const std::vector<std::string> findings =
      Audit(disk.active_pid, DeviceOf(spec));
  for (const char* finding :
       {"Uid: 0", "CapEff: ", "CapBnd: ", "namespace: user", "namespace: pid",
        "namespace: mnt", "namespace: net", "namespace: ipc", "namespace: uts",
        "its root directory is not empty",
        "uid_map: ", "it is not process 1"}) {
    EXPECT_THAT(findings, Contains(HasSubstr(finding)));
  }
  // Of the test itself, and of a user's process: everything else, too.
  const UniqueFd file(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
  const std::vector<std::string> own = Audit(getpid(), ConfinedAs());
  for (const char* finding : {"filters", "no_new_privs", "environment: ",
                              "Max open files is above", "/etc/passwd"}) {
    EXPECT_THAT(own, Contains(HasSubstr(finding)));
  }
  const UserProcess user;
  EXPECT_TRUE(PollUntil([&] {
    const auto found = Audit(user.pid(), ConfinedAs());
    return std::count(found.begin(), found.end(), "it is dumpable") == 1;
  }));
}

}  // namespace
}  // namespace holdfast::testing
