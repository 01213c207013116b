#include <malloc.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/handoff.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "devices/runtime/crash_handler_sys.h"
#include "devices/runtime/device_main.h"
#include "devices/runtime/device_process_sys.h"
#include "devices/runtime/poller_sys.h"
#include "devices/runtime/prefault.h"
#include "devices/runtime/standalone_sys.h"
#include "devices/runtime/store_keeper_sys.h"
#include "sandbox/tighten_sys.h"

namespace holdfast {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;
// Between two slices of a standby's preparations: it must be rested when it is
// promoted, or the scheduler lets others go first, and it must not keep the
// processor from the guest.
constexpr int kTouchPauseMs = 1;

// The steady state may not ask the kernel for memory: keep what is freed, take
// from one arena, and have some in stock.
void StockMemory() {
  constexpr int kStock = 8 << 20;
  constexpr size_t kTouched = 512 << 10;
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, kStock);
  void* const stock = malloc(kStock / 2);
  PrefaultWritable(stock, kTouched);
  free(stock);
  PrefaultProgram();
  PrefaultStack();
}

// ---- A child of the launcher ----

class Managed {
 public:
  Managed(DeviceProcess& process)
      : process_(process),
        keeper_(UniqueFd(kHandoffStoreFd), UniqueFd(kHandoffControlFd),
                process.descriptors()) {
    process_.SetKeeper(keeper_);
    process_.descriptors().SetObserver(poller_);
    keeper_.SetObserver(poller_);
  }

  absl::Status Start() {
    for (const ResourceSpec& resource : process_.resources()) {
      const char* slot =
          getenv(absl::StrCat("HOLDFAST_RESOURCE_", resource.name).c_str());
      if (slot != nullptr) {
        process_.NameResource(resource.name,
                              static_cast<store::Slot>(atoi(slot)));
      }
    }
    RETURN_IF_ERROR(process_.AttachSegment(BorrowedFd(kHandoffSegmentFd)));
    RETURN_IF_ERROR(AwaitFirstForwards());
    RETURN_IF_ERROR(process_.Build());
    process_.MapAhead();
    RETURN_IF_ERROR(poller_.Open(process_.waiting()));
    const UniqueFd filter(kHandoffFilterFd);  // Of no use afterwards.
    RETURN_IF_ERROR(sandbox::Tighten(filter));
    return keeper_.channel().Ready();
  }

  // Until the launcher says stop.
  absl::Status Run() {
    for (;;) {
      ASSIGN_OR_RETURN(const bool stop, Turn());
      if (stop) return absl::OkStatus();
      // What came while Turn waited for an acknowledgement makes no descriptor
      // readable any more.
      look_ = handled_ || keeper_.HasControl() || keeper_.channel().queued();
      if (!look_) RETURN_IF_ERROR(Await());
    }
  }

 private:
  using Source = Poller::Source;

  absl::Status Await() {
    const bool active = process_.active();
    const bool gone = keeper_.channel().gone();
    RETURN_IF_ERROR(poller_.Watch(
        Source::kStore, gone ? BorrowedFd(-1) : keeper_.channel().fd()));
    RETURN_IF_ERROR(poller_.Watch(Source::kControl, keeper_.control()));
    RETURN_IF_ERROR(poller_.Watch(Source::kEvent, process_.event()));
    RETURN_IF_ERROR(poller_.Watch(Source::kOtherEvent, process_.other_event()));
    RETURN_IF_ERROR(poller_.Watch(Source::kThirdEvent, process_.third_event()));
    RETURN_IF_ERROR(
        poller_.Watch(Source::kFourthEvent, process_.fourth_event()));
    const bool listen = active && !process_.stalled();
    RETURN_IF_ERROR(
        poller_.Watch(Source::kVmm, listen ? Connection() : BorrowedFd(-1)));
    RETURN_IF_ERROR(
        poller_.Watch(Source::kOtherStream, process_.other_stream()));
    // A standby that has nothing else to do gets its page tables ready.
    const bool touch = !active && process_.TouchSome();
    silent_ = !(touch ? poller_.Wait(kTouchPauseMs)
                      : poller_.WaitUnlessSilent(process_.pause_ms()));
    return absl::OkStatus();
  }

  BorrowedFd Connection() {
    return process_.descriptors().Get(store::kSlotConnection);
  }

  absl::Status AwaitFirstForwards() {
    while (!forwarded_) {
      store::ChildEvent event;
      switch (keeper_.channel().Receive(event)) {
        case store::ChildChannel::Received::kEvent:
          RETURN_IF_ERROR(Handle(event));
          continue;
        case store::ChildChannel::Received::kGone:
          return absl::UnavailableError("the store died during the start");
        case store::ChildChannel::Received::kNothing:
          break;
      }
      pollfd poll = {keeper_.channel().fd().get(), POLLIN, 0};
      (void)!ppoll(&poll, 1, nullptr, nullptr);
    }
    return absl::OkStatus();
  }

  // Handles everything that is there. True: the launcher said stop.
  absl::StatusOr<bool> Turn() {
    handled_ = false;
    // A VMM that waits for an answer is not to wait for calls that find
    // nothing.
    if (look_ || poller_.ready(Source::kStore)) {
      RETURN_IF_ERROR(HandleEvents());
    }
    StoreKeeper::Control said = StoreKeeper::Control::kNone;
    if (look_ || poller_.ready(Source::kControl)) {
      said = keeper_.ReceiveControl();
    }
    switch (said) {
      case StoreKeeper::Control::kStop:
        process_.Quiesce();
        return true;
      case StoreKeeper::Control::kResourceChanged:
        process_.ResourceChanged();
        break;
      case StoreKeeper::Control::kNewStore:
        // The old store's last word came before this.
        RETURN_IF_ERROR(HandleEvents());
        RETURN_IF_ERROR(keeper_.Reattach());
        break;
      case StoreKeeper::Control::kLauncherGone:
      case StoreKeeper::Control::kNone:
        break;
    }
    if (!look_ && poller_.HasEvent()) process_.OnEvent();
    if (!process_.active()) return false;
    RETURN_IF_ERROR(process_.Serve(!look_ && silent_ ? Lane::Waiting::kAny
                                                     : poller_.waiting()));
    return false;
  }

  absl::Status HandleEvents() {
    store::ChildEvent event;
    while (keeper_.channel().Receive(event) ==
           store::ChildChannel::Received::kEvent) {
      RETURN_IF_ERROR(Handle(event));
      handled_ = true;
    }
    return absl::OkStatus();
  }

  absl::Status Handle(store::ChildEvent& event) {
    using Kind = store::ChildEvent::Kind;
    switch (event.kind) {
      case Kind::kForward:
        Take(event);
        return absl::OkStatus();
      case Kind::kForwardDone:
        forwarded_ = true;
        return absl::OkStatus();
      case Kind::kSync:
        process_.descriptors().RetainSession(event.slots.words);
        process_.MapAhead();
        // A store that has died in the meantime keeps nothing for us.
        (void)keeper_.channel().Settled(event.sync);
        return absl::OkStatus();
      case Kind::kPromote:
        return process_.Promote(event.epoch);
    }
    return absl::OkStatus();
  }

  // What the device uses for life stays the descriptor that it is: a new store
  // forwards resources again, and replacing one would close it under a worker.
  void Take(store::ChildEvent& event) {
    DescriptorSlots& descriptors = process_.descriptors();
    if (event.slot == store::kSlotConnection) {
      if (!event.fd.valid() || event.connection != descriptors.connection()) {
        descriptors.SetConnection(std::move(event.fd), event.connection);
      }
      return;
    }
    if (process_.IsReplaceable(event.slot)) {
      descriptors.Set(event.slot, std::move(event.fd));
      process_.ResourceReplaced();
      return;
    }
    // The session's descriptors come from the active child itself.
    const bool for_life =
        event.slot < store::kSlotFirstSession || process_.active();
    if (for_life && descriptors.Get(event.slot).valid()) return;
    descriptors.Set(event.slot, std::move(event.fd));
  }

  DeviceProcess& process_;
  StoreKeeper keeper_;
  Poller poller_;
  bool forwarded_ = false;
  bool handled_ = false;  // The last Turn handled an event of the store.
  bool look_ = true;      // The next Turn looks whatever poller_ says.
  bool silent_ = false;   // The last Await ended with nothing.
};

std::vector<std::string> NamesOf(const std::vector<ResourceSpec>& resources) {
  std::vector<std::string> names;
  for (const ResourceSpec& resource : resources) {
    names.push_back(resource.name);
  }
  return names;
}

// For people: "vhost-user or vfio-user".
std::string ProtocolsOf(const DeviceClass& device_class) {
  std::string names = device_class.protocol;
  for (const DeviceClass& other : device_class.others) {
    absl::StrAppend(&names, " or ", other.protocol);
  }
  return names;
}

int Usage(const absl::Status& status) {
  LogError(status.message());
  return kExitUsage;
}

}  // namespace

int DeviceMain(int argc, char** argv, const DeviceClass& device_class) {
  static const std::string* const program =
      new std::string(std::filesystem::path(argv[0]).filename());
  SetLogProgram(program->c_str());
  const absl::StatusOr<std::unique_ptr<DeviceHost>> plain =
      device_class.open(DeviceOptions());
  if (!plain.ok()) return Usage(plain.status());
  const std::vector<std::string> resource_names =
      NamesOf((*plain)->resources());
  const absl::StatusOr<CommandLine> line = ParseCommandLine(
      {argv + 1, argv + argc}, device_class.options, resource_names);
  if (!line.ok()) return Usage(line.status());
  const DeviceClass* const chosen = device_class.By(line->protocol);
  if (chosen == nullptr) {
    return Usage(absl::InvalidArgumentError(absl::StrCat(
        "--protocol=", line->protocol, ": give ", ProtocolsOf(device_class))));
  }
  if (line->help) {
    std::fputs(HelpText(*program, ProtocolsOf(device_class),
                        device_class.options, resource_names)
                   .c_str(),
               stdout);
    return 0;
  }
  absl::StatusOr<std::unique_ptr<DeviceHost>> host =
      chosen->open(line->options);
  if (!host.ok()) return Usage(host.status());
  if (line->compat_version > (*host)->compat_version()) {
    return Usage(absl::InvalidArgumentError(
        absl::StrCat("--compat-version=", line->compat_version,
                     ": this binary serves 1 to ", (*host)->compat_version())));
  }
  if (line->print_capabilities) {
    const absl::StatusOr<std::string> text = chosen->describe(line->options);
    if (!text.ok()) return Usage(text.status());
    std::fputs(text->c_str(), stdout);
    return 0;
  }
  const bool by_launcher = getenv(kHandoffEnvironment) != nullptr;
  if (!by_launcher && line->fd < 0 && line->socket_path.empty()) {
    return Usage(absl::InvalidArgumentError(
        "give --socket-path=PATH or --fd=N (see --help)"));
  }
  StockMemory();
  InstallCrashHandler();
  DeviceProcess process(*std::move(host), *line, *program);
  absl::Status status;
  if (by_launcher) {
    prctl(PR_SET_DUMPABLE, 0);
    Managed managed(process);
    status = managed.Start();
    if (status.ok()) status = managed.Run();
  } else {
    status = RunStandalone(*line, process);
  }
  if (!status.ok()) LogError(status.message());
  // Without destructors: threads still use what they would destroy.
  _exit(status.ok() ? 0 : kExitError);
}

}  // namespace holdfast
