#include "statestore/store/testing/fake_device_sys.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <new>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/unix_socket_sys.h"
#include "statestore/store/message_io_sys.h"

namespace holdfast::store::testing {
namespace {

constexpr int kWaitMs = 10000;

template <typename T>
absl::Span<uint8_t> BytesOf(T& value) {
  return {reinterpret_cast<uint8_t*>(&value), sizeof(value)};
}

class Device {
 public:
  Device(UniqueFd store, UniqueFd test, Progress* progress)
      : channel_(std::move(store)),
        test_(std::move(test)),
        progress_(progress) {}

  void Run() {
    while (true) {
      HearStore();
      const bool deaf = channel_.gone() || !MayRead();
      pollfd fds[] = {{deaf ? -1 : channel_.fd().get(), POLLIN, 0},
                      {test_.get(), POLLIN, 0}};
      poll(fds, 2, MayRead() ? -1 : 1);
      if (fds[1].revents != 0 && !OnCommand()) return;
    }
  }

 private:
  void Say(const Note& note) {
    send(test_.get(), &note, sizeof(note), MSG_NOSIGNAL);
  }

  bool MayRead() const {
    return progress_ == nullptr || progress_->credit != 0;
  }

  void HearStore() {
    ChildEvent event;
    while (MayRead() &&
           channel_.Receive(event) == ChildChannel::Received::kEvent) {
      if (progress_ != nullptr) --progress_->credit;
      OnEvent(event);
    }
  }

  void OnEvent(ChildEvent& event) {
    Note note;
    note.seen_ns = MonotonicNs();
    note.kind = event.kind;
    note.slot = event.slot;
    note.epoch = event.epoch;
    note.death_ns = event.death_ns;
    note.connection = event.connection;
    const bool silent = progress_ != nullptr && progress_->silent_forwards;
    if (event.kind == ChildEvent::Kind::kSync) {
      channel_.Settled(event.sync).IgnoreError();
      if (silent) return;
    } else if (event.kind == ChildEvent::Kind::kForward) {
      if (event.fd.valid()) note.token = ReadToken(event.fd);
      if (event.slot == kSlotConnection) connection_ = event.connection;
      held_[event.slot] = std::move(event.fd);
      if (silent) return;
    } else if (event.kind == ChildEvent::Kind::kForwardDone) {
      channel_.Ready().IgnoreError();
    } else if (event.kind == ChildEvent::Kind::kPromote) {
      for (size_t i = 0; i < kSlotCount; ++i) {
        if (held_[i].valid()) note.held[i] = ReadToken(held_[i]);
      }
    }
    Say(note);
  }

  bool OnCommand() {
    Command command;
    ReceivedFds fds;
    const auto got = ReceiveWithFds(test_, BytesOf(command), fds);
    if (!got.ok() || got->size != sizeof(command)) return false;
    Note note;
    note.is_result = true;
    note.ok = Do(command, fds);
    Say(note);
    return true;
  }

  bool Do(const Command& command, ReceivedFds& fds) {
    switch (command.kind) {
      case Command::Kind::kEscrow:
        held_[command.slot] =
            command.value == 0 ? UniqueFd() : MakeToken(command.value);
        return channel_.Escrow(command.slot, held_[command.slot]).ok();
      case Command::Kind::kRetain:
        return channel_.Retain(command.slots).ok();
      case Command::Kind::kReady:
        return channel_.Ready().ok();
      case Command::Kind::kVmmClosed:
        return channel_.VmmClosed(command.value).ok();
      case Command::Kind::kRaw:
        return SendRaw(command);
      case Command::Kind::kReattach:
        if (command.value == 0) HearStore();
        return Reattach(std::move(fds.fds[0]));
      case Command::Kind::kChurn:
        Churn();
        return false;
      case Command::Kind::kFlood:
        while (channel_.Ready().ok()) {
        }
        return false;
      case Command::Kind::kHangUp:
        channel_ = ChildChannel(UniqueFd());
        return true;
      case Command::Kind::kFork:
        return LeaveGrandchild(command.value);
    }
    return false;
  }

  bool SendRaw(const Command& command) {
    std::vector<int> fds(command.value, test_.get());
    const auto* bytes = reinterpret_cast<const uint8_t*>(&command.raw);
    return SendWithFds(channel_.fd(), {bytes, command.size}, fds).ok();
  }

  bool Reattach(UniqueFd channel) {
    std::vector<Deposit> deposits;
    for (Slot slot = 0; slot < kSlotCount; ++slot) {
      if (!held_[slot].valid()) continue;
      deposits.push_back(
          {slot, held_[slot], slot == kSlotConnection ? connection_ : 0});
    }
    return channel_.Reattach(std::move(channel), deposits).ok();
  }

  void Churn() {
    while (!channel_.gone() && progress_->next < progress_->end) {
      const uint64_t token = progress_->next++;
      const Slot index = token % Progress::kChurnSlots;
      const Slot slot = kSlotFirstSession + index;
      UniqueFd fd = MakeToken(token);
      progress_->begun[index] = token;
      if (progress_->trust_sending) {
        Message message;
        message.type = Type::kEscrow;
        message.slot = slot;
        Send(channel_.fd(), message, {fd.get()});
        progress_->acknowledged[index] = token;
        raise(SIGKILL);
      }
      if (!channel_.Escrow(slot, fd).ok()) return;
      progress_->acknowledged[index] = token;
      held_[slot] = std::move(fd);
    }
  }

  bool LeaveGrandchild(uint64_t ms) {
    if (fork() == 0) {
      channel_ = ChildChannel(UniqueFd());
      test_.Reset();
      timespec time = {static_cast<time_t>(ms / 1000),
                       static_cast<long>(ms % 1000 * 1000000)};
      nanosleep(&time, nullptr);
      _exit(0);
    }
    return true;
  }

  ChildChannel channel_;
  UniqueFd test_;
  Progress* progress_;
  uint64_t connection_ = 0;
  std::array<UniqueFd, kSlotCount> held_;
};

}  // namespace

Progress* NewProgress() {
  void* memory = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return new (memory) Progress();
}

FakeDevice::FakeDevice(ChildId id, Progress* progress)
    : child_(id, [progress](UniqueFd store, UniqueFd test) {
        Device(std::move(store), std::move(test), progress).Run();
      }) {}

std::optional<Note> FakeDevice::Read() {
  pollfd ready = {child_.test().get(), POLLIN, 0};
  Note note;
  if (poll(&ready, 1, kWaitMs) != 1 ||
      recv(child_.test().get(), &note, sizeof(note), 0) != sizeof(note)) {
    return std::nullopt;
  }
  return note;
}

std::optional<Note> FakeDevice::AwaitEvent(ChildEvent::Kind kind) {
  while (std::optional<Note> note = Read()) {
    if (!note->is_result && note->kind == kind) return note;
  }
  return std::nullopt;
}

void FakeDevice::Start(const Command& command, BorrowedFd fd) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&command);
  const int raw = fd.get();
  SendWithFds(child_.test(), {bytes, sizeof(command)},
              absl::MakeConstSpan(&raw, fd.valid() ? 1 : 0))
      .IgnoreError();
}

bool FakeDevice::Do(const Command& command, BorrowedFd fd) {
  Start(command, fd);
  return Finish();
}

bool FakeDevice::Finish() {
  while (std::optional<Note> note = Read()) {
    if (note->is_result) return note->ok;
  }
  return false;
}

bool FakeDevice::Escrow(Slot slot, uint64_t value) {
  Command command;
  command.kind = Command::Kind::kEscrow;
  command.slot = slot;
  command.value = value;
  return Do(command);
}

}  // namespace holdfast::store::testing
