#include "devices/vfio_user/testing/kill_victim_sys.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unix_socket_sys.h"

namespace holdfast::vfio_user {
namespace {

class VictimEnvironment final : public ServerEnvironment {
 public:
  VictimEnvironment(RegionDevice& device, BorrowedFd store, Slots& slots)
      : device_(device), store_(store), slots_(slots) {}

  absl::Status Escrow(store::Slot slot, UniqueFd descriptor) override {
    const int fd = descriptor.get();
    const auto sent = SendWithFds(
        store_, {reinterpret_cast<const uint8_t*>(&slot), sizeof(slot)},
        absl::MakeConstSpan(&fd, 1));
    slots_[slot] = std::move(descriptor);
    return sent;
  }
  void Apply(const SessionState& state, ConstWindowTable table) override {
    (void)table;
    state_ = state;
  }
  void Do(const Afterwards& afterwards) override {
    if (afterwards.kind != Afterwards::Kind::kSignal) return;
    for (uint32_t i = 0; i < afterwards.count; ++i) {
      if (!afterwards.which.empty() && afterwards.which[i] == 0) continue;
      const size_t vector = FirstVector(device_, afterwards.irq);
      const store::Slot slot =
          state_.vectors[vector + afterwards.start + i].trigger;
      const auto descriptor = slots_.find(slot);
      const uint64_t one = 1;
      if (descriptor == slots_.end()) continue;
      if (write(descriptor->second.get(), &one, sizeof(one)) < 0) return;
    }
  }
  bool Take(const Answer&) override { return false; }
  void Refused(const absl::Status&) override {}

  absl::StatusOr<FileId> IdentifyFile(store::Slot slot) override {
    struct stat info {};
    if (fstat(slots_[slot].get(), &info) != 0) {
      return absl::InvalidArgumentError("fstat");
    }
    return FileId{info.st_dev, info.st_ino, 0};
  }
  absl::Status CheckFile(store::Slot, uint32_t, uint64_t, uint64_t) override {
    return absl::OkStatus();
  }
  absl::Status ReleaseWindow(const WindowState&) override {
    return absl::OkStatus();
  }
  absl::Status ResetDevice() override { return device_.Reset(); }

 private:
  RegionDevice& device_;
  const BorrowedFd store_;
  Slots& slots_;
  SessionState state_{};
};

// Numbered points, of which the n-th is deadly; 0: none.
class Points {
 public:
  explicit Points(uint64_t deadly) : left_(deadly) {}
  void Reach() {
    if (left_ != 0 && --left_ == 0) kill(getpid(), SIGKILL);
  }

 private:
  uint64_t left_;
};

// One point before and one after what is done while it lives.
class Around {
 public:
  explicit Around(Points& points) : points_(points) { points_.Reach(); }
  ~Around() { points_.Reach(); }

 private:
  Points& points_;
};

class PointedDevice final : public TortureDevice {
 public:
  PointedDevice(Memory& memory, BorrowedFd window, Fault fault, Points& points)
      : TortureDevice(memory, window, fault), points_(points) {}

  absl::Status Read(AccessId id, uint32_t region, uint64_t offset,
                    absl::Span<uint8_t> out) override {
    const Around around(points_);
    return TortureDevice::Read(id, region, offset, out);
  }
  absl::Status Write(AccessId id, uint32_t region, uint64_t offset,
                     absl::Span<const uint8_t> bytes) override {
    const Around around(points_);
    return TortureDevice::Write(id, region, offset, bytes);
  }

 private:
  Points& points_;
};

class PointedServer final : public LaneHandler {
 public:
  PointedServer(Server& server, Points& points)
      : server_(server), points_(points) {}

  size_t header_size() const override { return server_.header_size(); }
  absl::StatusOr<size_t> MessageSize(
      absl::Span<const uint8_t> header) const override {
    return server_.MessageSize(header);
  }
  absl::Status Escrow(absl::Span<const uint8_t> message,
                      absl::Span<UniqueFd> fds) override {
    const Around around(points_);
    return server_.Escrow(message, fds);
  }
  absl::StatusOr<Outcome> Execute(absl::Span<const uint8_t> message,
                                  size_t fd_count,
                                  absl::Span<const uint8_t> old_bank,
                                  absl::Span<uint8_t> new_bank,
                                  absl::Span<uint8_t> reply,
                                  uint32_t attempts) override {
    const Around around(points_);
    return server_.Execute(message, fd_count, old_bank, new_bank, reply,
                           attempts);
  }
  void Committed(absl::Span<const uint8_t> bank) override {
    const Around around(points_);
    server_.Committed(bank);
  }
  absl::Span<const int> ReplyFds(absl::Span<const uint8_t> bank) override {
    const Around around(points_);
    return server_.ReplyFds(bank);
  }

 private:
  Server& server_;
  Points& points_;
};

[[noreturn]] void GiveUp(Shared& shared, const absl::Status& status) {
  std::snprintf(shared.error, sizeof(shared.error), "%s",
                status.ToString().c_str());
  _exit(3);
}

}  // namespace

Serving VictimServing() {
  Serving serving;
  serving.max_transfer = kVictimTransfer;
  return serving;
}

[[noreturn]] void RunVictim(const VictimSetup& setup) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  Shared& shared = *setup.shared;
  if (mlock(setup.lane.data(), setup.lane.size()) != 0) {
    GiveUp(shared, absl::ResourceExhaustedError("mlock"));
  }
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
  epoll_ctl(epoll.get(), EPOLL_CTL_ADD, setup.stream.get(), &event);
  Points points(setup.points);
  PointedDevice device(shared.device, setup.window, setup.fault, points);
  VictimEnvironment environment(device, setup.store, *setup.slots);
  Server server(VictimServing(), shared.session, device, environment);
  PointedServer pointed(server, points);
  auto lane = Lane::Attach(setup.lane, kVictimSizes, setup.epoch);
  if (!lane.ok()) GiveUp(shared, lane.status());
  const absl::Status resumed = server.Resume(lane->bank());
  if (!resumed.ok()) GiveUp(shared, resumed);
  __atomic_store_n(&shared.serving, 1u, __ATOMIC_RELEASE);
  for (;;) {
    const auto progress =
        lane->Run(setup.stream, pointed, Lane::Waiting::kEdge);
    if (!progress.ok()) GiveUp(shared, progress.status());
    const int pause = lane->unread() != 0 ? Lane::kSettlePauseMs : -1;
    if (epoll_wait(epoll.get(), &event, 1, pause) != 0) continue;
    const absl::Status settled = lane->Settle(setup.stream);
    if (!settled.ok()) GiveUp(shared, settled);
  }
}

}  // namespace holdfast::vfio_user
