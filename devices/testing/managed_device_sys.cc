#include "devices/testing/managed_device_sys.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/handoff.h"
#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "sandbox/compile.h"
#include "sandbox/filter_memfd_sys.h"
#include "sandbox/policy_file_sys.h"

namespace holdfast::testing {
namespace {

using store::testing::WaitForEvent;

constexpr store::InstanceId kInstance = 1;
constexpr uint32_t kUid = 60101;
constexpr size_t kSegmentSize = 1 << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<ManagedDevice>> ManagedDevice::Start(
    const Options& options) {
  std::unique_ptr<ManagedDevice> device(new ManagedDevice(options));
  RETURN_IF_ERROR(device->Setup());
  RETURN_IF_ERROR(device->Spawn());
  if (!WaitForEvent(device->store().client(), store::Type::kPromoted)) {
    return absl::DeadlineExceededError("the first child was not promoted");
  }
  device->active_ = device->children_.front().id;
  RETURN_IF_ERROR(device->AddStandby());
  return device;
}

ManagedDevice::~ManagedDevice() {
  for (Child& child : children_) {
    kill(child.process.pid, SIGKILL);
    waitpid(child.process.pid, nullptr, 0);
  }
  store_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

absl::Status ManagedDevice::Setup() {
  std::string name =
      (std::filesystem::temp_directory_path() / "hfmXXXXXX").string();
  directory_ = mkdtemp(name.data());
  socket_path_ = directory_ + "/vmm.sock";
  ASSIGN_OR_RETURN(
      const sandbox::Policy policy,
      sandbox::LoadPolicy(options_.policy, options_.policy_includes));
  ASSIGN_OR_RETURN(const auto steady, sandbox::Compile(policy.SteadyRules()));
  ASSIGN_OR_RETURN(startup_filter_, sandbox::Compile(policy.StartupRules()));
  ASSIGN_OR_RETURN(filter_, sandbox::SealFilter(steady));
  store_ =
      std::make_unique<store::testing::StoreProcess>(options_.store_program);
  ASSIGN_OR_RETURN(segment_, CreateSealedMemfd("segment", kSegmentSize));
  store::Client& client = store_->client();
  RETURN_IF_ERROR(client.CreateInstance(kInstance, "device", segment_,
                                        /*listener_fence=*/true));
  store::Slot slot = store::kSlotFirstResource;
  for (const auto& [resource, path] : options_.resources) {
    UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.valid()) return ErrnoStatus(absl::StrCat("open ", path));
    RETURN_IF_ERROR(client.SetResource(kInstance, slot, fd));
    slots_[resource] = slot++;
  }
  ASSIGN_OR_RETURN(const UniqueFd listener, ListenAt(socket_path_));
  return client.SetListener(kInstance, listener);
}

absl::Status ManagedDevice::Spawn() {
  ASSIGN_OR_RETURN(auto channel, SeqpacketPair());
  ASSIGN_OR_RETURN(auto control, SeqpacketPair());
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  sandbox::JailSpec spec;
  spec.program = options_.program;
  spec.argv = {options_.program};
  spec.argv.insert(spec.argv.end(), options_.arguments.begin(),
                   options_.arguments.end());
  spec.env = {absl::StrCat(kHandoffEnvironment, "=1")};
  for (const auto& [resource, slot] : slots_) {
    spec.env.push_back(absl::StrCat("HOLDFAST_RESOURCE_", resource, "=", slot));
  }
  spec.fds = {{null, 0},
              {options_.log, 1},
              {options_.log, 2},
              {channel.second, kHandoffStoreFd},
              {control.second, kHandoffControlFd},
              {segment_, kHandoffSegmentFd},
              {filter_, kHandoffFilterFd}};
  spec.confinement = options_.confined ? sandbox::Confinement::kFull
                                       : sandbox::Confinement::kNone;
  spec.uid = spec.gid = kUid;
  spec.startup_filter = startup_filter_;
  spec.die_with_parent = true;
  Child child;
  child.id = next_child_++;
  ASSIGN_OR_RETURN(child.process, sandbox::Spawn(spec));
  child.control = std::move(control.first);
  store::Client::NewChild added;
  added.id = child.id;
  added.pid = static_cast<uint32_t>(child.process.pid);
  added.channel = channel.first;
  added.pidfd = child.process.pidfd;
  added.control = child.control;
  added.seccomp_listener = child.process.listener;
  const absl::Status status = store_->client().AddChild(kInstance, added);
  // Only the store listens now: the listener's end is its own.
  child.process.listener.Reset();
  children_.push_back(std::move(child));
  return status;
}

absl::Status ManagedDevice::TellResourceChanged() {
  ControlMessage message;
  message.type = ControlMessage::Type::kResourceChanged;
  return SendWithFds(
      Find(active_)->control,
      {reinterpret_cast<const uint8_t*>(&message), sizeof(message)}, {});
}

ManagedDevice::Child* ManagedDevice::Find(store::ChildId id) {
  for (Child& child : children_) {
    if (child.id == id) return &child;
  }
  return nullptr;
}

pid_t ManagedDevice::active_pid() const {
  for (const Child& child : children_) {
    if (child.id == active_) return child.process.pid;
  }
  return -1;
}

absl::Status ManagedDevice::AddStandby() {
  RETURN_IF_ERROR(Spawn());
  const auto ready = WaitForEvent(store_->client(), store::Type::kChildReady);
  return ready.has_value()
             ? absl::OkStatus()
             : absl::DeadlineExceededError("the standby was never ready");
}

absl::StatusOr<ManagedDevice::Recovery> ManagedDevice::Kill(int signal) {
  kill(active_pid(), signal);
  return AwaitRecovery();
}

absl::StatusOr<ManagedDevice::Recovery> ManagedDevice::AwaitRecovery() {
  const auto promoted = WaitForEvent(store_->client(), store::Type::kPromoted);
  if (!promoted.has_value()) {
    return absl::DeadlineExceededError("nobody was promoted");
  }
  Recovery recovery;
  recovery.epoch = promoted->arg0;
  recovery.death_to_promotion_us =
      static_cast<double>(promoted->arg1 - promoted->arg2) / 1000;
  Child* const dead = Find(active_);
  waitpid(dead->process.pid, &recovery.wait_status, 0);
  active_ = promoted->child;
  children_.erase(children_.begin() + (dead - children_.data()));
  return recovery;
}

}  // namespace holdfast::testing
