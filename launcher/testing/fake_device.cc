// A device that does nothing but what every managed device must: it speaks to
// the store and to the launcher. As active child it answers each byte of the
// VMM with the next value of a counter in its segment. Misbehaves as told:
//   --crash-at-start    dies before it is ready
//   --exit-at-start     ends in order before it is ready
//   --crash-when-active dies as soon as it is promoted
//   --ignore-stop       does not end when asked to
//   --never-ready       never says that it is parked
//   --eat-when-active   touches 64 MiB as soon as it is promoted
//   --fork-when-active  makes 64 processes, or as many as it may, likewise
//   --leave-when-active ends its store channel as soon as it is promoted, and
//                       goes on

#include "launcher/testing/fake_device.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/handoff.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "statestore/store/child_channel.h"

namespace holdfast::launcher {
namespace {

// The device deposits something at its first start, as an in-flight table.
constexpr store::Slot kOwnSlot = store::kSlotFirstDevice;

class FakeDevice {
 public:
  FakeDevice(const std::vector<std::string>& args, FakeSegment* segment)
      : args_(args),
        segment_(segment),
        channel_(UniqueFd(kHandoffStoreFd)),
        slots_(store::kSlotCount) {}

  int Run() {
    if (Told("--crash-at-start")) abort();
    if (Told("--exit-at-start")) return 0;
    while (!stop_) {
      Receive();
      Wait();
      if (active_) ++segment_->beats;
    }
    return 0;
  }

 private:
  bool Told(const char* what) const {
    for (const std::string& arg : args_) {
      if (arg == what) return true;
    }
    return false;
  }

  void Receive() {
    store::ChildEvent event;
    while (channel_.Receive(event) == store::ChildChannel::Received::kEvent) {
      On(event);
    }
  }

  void On(store::ChildEvent& event) {
    switch (event.kind) {
      case store::ChildEvent::Kind::kForward:
        slots_[event.slot] = std::move(event.fd);
        if (event.slot == store::kSlotConnection) {
          connection_ = event.connection;
        }
        break;
      case store::ChildEvent::Kind::kForwardDone:
        if (!Told("--never-ready")) channel_.Ready().IgnoreError();
        break;
      case store::ChildEvent::Kind::kPromote:
        Promote(event.epoch);
        break;
      case store::ChildEvent::Kind::kSync:
        break;
    }
    if (active_) NoteSlots();
  }

  void Promote(uint64_t epoch) {
    active_ = true;
    segment_->epoch = epoch;
    ++segment_->promotions;
    if (Told("--crash-when-active")) abort();
    if (Told("--eat-when-active")) Eat();
    if (Told("--fork-when-active")) Fork();
    if (Told("--leave-when-active")) shutdown(kHandoffStoreFd, SHUT_RDWR);
    if (slots_[kOwnSlot].valid()) return;
    slots_[kOwnSlot].Reset(fcntl(kHandoffSegmentFd, F_DUPFD_CLOEXEC, 0));
    channel_.Escrow(kOwnSlot, slots_[kOwnSlot]).IgnoreError();
  }

  static void Eat() {
    constexpr size_t kSize = 64 << 20;
    void* memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED) memset(memory, 1, kSize);
  }

  static void Fork() {
    for (int i = 0; i < 64; ++i) {
      const pid_t pid = fork();
      if (pid < 0) return;
      if (pid == 0) {
        while (true) pause();
      }
    }
  }

  void NoteSlots() {
    uint64_t held = 0;
    for (size_t i = 0; i < 64; ++i) {
      if (slots_[i].valid()) held |= uint64_t{1} << i;
    }
    segment_->slots = held;
  }

  void Wait() {
    const int vmm = active_ ? slots_[store::kSlotConnection].get() : -1;
    pollfd fds[] = {{kHandoffControlFd, POLLIN, 0},
                    {channel_.gone() ? -1 : channel_.fd().get(), POLLIN, 0},
                    {vmm, POLLIN, 0}};
    if (poll(fds, 3, 5) <= 0) return;
    if (fds[0].revents != 0) ReadControl();
    if (fds[2].revents != 0) ServeVmm(vmm);
  }

  void ServeVmm(int vmm) {
    uint8_t byte;
    const ssize_t got = recv(vmm, &byte, 1, MSG_DONTWAIT);
    if (got == 1) {
      if (byte == kLeaveStore) shutdown(kHandoffStoreFd, SHUT_RDWR);
      const auto answer = static_cast<uint8_t>(++segment_->answers);
      (void)!send(vmm, &answer, 1, MSG_NOSIGNAL);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      channel_.VmmClosed(connection_).IgnoreError();
      slots_[store::kSlotConnection].Reset();
      NoteSlots();
    }
  }

  void ReadControl() {
    ControlMessage message;
    ReceivedFds fds;
    const auto got = ReceiveWithFds(
        BorrowedFd(kHandoffControlFd),
        absl::MakeSpan(reinterpret_cast<uint8_t*>(&message), sizeof(message)),
        fds);
    if (!got.ok() || got->size != sizeof(message)) {
      usleep(1000);
      return;
    }
    if (message.type == ControlMessage::Type::kStop) {
      stop_ = !Told("--ignore-stop");
    } else if (message.type == ControlMessage::Type::kResourceChanged) {
      ++(active_ ? segment_->resized : segment_->standby_resized);
    } else if (message.type == ControlMessage::Type::kStoreChannel &&
               fds.count == 1) {
      Reattach(std::move(fds.fds[0]));
    }
  }

  void Reattach(UniqueFd channel) {
    std::vector<store::Deposit> deposits;
    for (store::Slot slot = 0; slot < store::kSlotCount; ++slot) {
      const bool resource =
          slot >= store::kSlotFirstResource && slot < store::kSlotEndResource;
      if (!slots_[slot].valid() || resource) continue;
      deposits.push_back({slot, slots_[slot], connection_});
    }
    if (channel_.Reattach(std::move(channel), deposits).ok()) {
      ++segment_->reattached;
    }
  }

  const std::vector<std::string> args_;
  FakeSegment* const segment_;
  store::ChildChannel channel_;
  std::vector<UniqueFd> slots_;
  uint64_t connection_ = 0;
  bool active_ = false;
  bool stop_ = false;
};

// Which of the first 64 numbers are open.
uint64_t OpenDescriptors() {
  uint64_t open = 0;
  for (int fd = 0; fd < 64; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) open |= uint64_t{1} << fd;
  }
  return open;
}

int Main(int argc, char** argv) {
  const uint64_t descriptors = OpenDescriptors();
  void* memory = mmap(nullptr, sizeof(FakeSegment), PROT_READ | PROT_WRITE,
                      MAP_SHARED, kHandoffSegmentFd, 0);
  if (memory == MAP_FAILED || getenv(kHandoffEnvironment) == nullptr) return 9;
  auto* segment = static_cast<FakeSegment*>(memory);
  segment->descriptors = descriptors;
  const char* slot = getenv("HOLDFAST_RESOURCE_image");
  segment->resource_slot = slot == nullptr ? 0 : strtoul(slot, nullptr, 10);
  return FakeDevice({argv + 1, argv + argc}, segment).Run();
}

}  // namespace
}  // namespace holdfast::launcher

int main(int argc, char** argv) { return holdfast::launcher::Main(argc, argv); }
