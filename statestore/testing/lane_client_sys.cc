#include "statestore/testing/lane_client_sys.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace holdfast::testing {
namespace {

constexpr size_t kMaxFds = 3;
constexpr size_t kControlSize = CMSG_SPACE(16 * sizeof(int));

// What a descriptor of a request contains.
uint64_t Tag(uint32_t id, uint32_t index) { return uint64_t{id} << 8 | index; }

UniqueFd MakeTagged(uint64_t tag) {
  UniqueFd fd(memfd_create("tag", MFD_CLOEXEC));
  if (pwrite(fd.get(), &tag, sizeof(tag), 0) != sizeof(tag)) fd.Reset();
  return fd;
}

uint64_t InodeOf(int fd) {
  struct stat st {};
  return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

void PutFds(msghdr& message, char* control, const std::vector<UniqueFd>& fds) {
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
  cmsghdr* c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  for (size_t i = 0; i < fds.size(); ++i) {
    const int fd = fds[i].get();
    std::memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(fd));
  }
}

std::vector<UniqueFd> GetFds(msghdr& message) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr;
       c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_type != SCM_RIGHTS) continue;
    for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
      fds.emplace_back(fd);
    }
  }
  return fds;
}

}  // namespace

LaneClient::LaneClient(BorrowedFd stream, BorrowedFd store, BorrowedFd gift,
                       const LaneClientOptions& options)
    : stream_(stream.get()),
      store_(store.get()),
      gift_inode_(InodeOf(gift.get())),
      options_(options),
      random_(options.seed),
      buffer_(options.max_reply) {}

void LaneClient::Complain(std::string what) {
  if (violation_.empty()) violation_ = std::move(what);
}

void LaneClient::Finish() {
  finishing_ = true;
  Ask(/*plain=*/true);
}

void LaneClient::Ask(bool plain) {
  ToyRequest request{};
  request.id = next_id_++;
  request.argument = random_();
  request.size = sizeof(ToyRequest);
  request.reply_size = sizeof(ToyReply);
  if (!plain) {
    request.size = Random(sizeof(ToyRequest), options_.max_request);
    // Most replies are small, some as large as allowed, some absent.
    const uint32_t kind = Random(0, 9);
    const uint32_t most = kind < 7 ? std::min<uint32_t>(options_.max_reply, 400)
                                   : options_.max_reply;
    request.reply_size = kind == 0 ? 0 : Random(sizeof(ToyReply), most);
    if (options_.descriptors) {
      request.fd_count = Random(0, 1) == 0 ? 0 : Random(1, kMaxFds);
      if (request.fd_count != 0 && request.reply_size == 0) {
        request.reply_size = sizeof(ToyReply);  // To be judged at once.
      }
      if (request.reply_size != 0 && Random(0, 3) == 0) {
        request.flags = kToyWantsFd;
      }
    }
  }
  Unsent unsent;
  unsent.bytes = ToyMessage(request);
  for (uint32_t i = 0; i < request.fd_count; ++i) {
    unsent.fds.push_back(MakeTagged(Tag(request.id, i)));
  }
  model_ = ToyAdvance(model_, unsent.bytes);
  if (request.reply_size != 0) {
    Expected expected;
    expected.id = request.id;
    expected.fd_count = request.fd_count;
    expected.wants_fd = (request.flags & kToyWantsFd) != 0;
    expected.bytes = ToyExpectedReply(unsent.bytes, model_);
    expected_.push_back(std::move(expected));
  }
  unsent_.push_back(std::move(unsent));
}

bool LaneClient::Step() {
  if (!violation_.empty()) return false;
  const size_t outstanding = std::max(unsent_.size(), expected_.size());
  if (!finishing_ && outstanding < options_.pipeline) Ask(/*plain=*/false);
  const bool sent = SendSome();
  if (options_.descriptors) DrainStore();
  return ReceiveSome() || sent;
}

bool LaneClient::SendSome() {
  if (unsent_.empty()) return false;
  Unsent& first = unsent_.front();
  size_t size = first.bytes.size() - first.sent;
  if (options_.split && Random(0, 3) != 0) {
    size = Random(1, static_cast<uint32_t>(std::min<size_t>(size, 64)));
  }
  alignas(cmsghdr) char control[kControlSize] = {};
  iovec vector{first.bytes.data() + first.sent, size};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (!first.fds.empty()) PutFds(message, control, first.fds);
  const ssize_t n = sendmsg(stream_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n < 0) {
    if (errno != EAGAIN) Complain(absl::StrCat("send: errno ", errno));
    return false;
  }
  first.fds.clear();
  first.sent += n;
  if (first.sent == first.bytes.size()) unsent_.pop_front();
  return true;
}

bool LaneClient::ReceiveSome() {
  // With nothing outstanding any byte is one too many.
  const size_t wanted = expected_.empty() ? 1
                                          : expected_.front().bytes.size() -
                                                expected_.front().received;
  alignas(cmsghdr) char control[kControlSize];
  iovec vector{buffer_.data(), wanted};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t n = recvmsg(stream_, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) {
    if (errno != EAGAIN) Complain(absl::StrCat("receive: errno ", errno));
    return false;
  }
  const std::vector<UniqueFd> fds = GetFds(message);
  for (const UniqueFd& fd : fds) {
    if (InodeOf(fd.get()) != gift_inode_) Complain("wrong descriptor in reply");
  }
  if (n == 0) {
    Complain("the stream has ended");
    return false;
  }
  Accept(n, fds.size());
  return true;
}

void LaneClient::Accept(size_t size, size_t fd_count) {
  if (expected_.empty()) {
    Complain("unsolicited bytes: a doubled reply");
    return;
  }
  Expected& first = expected_.front();
  const size_t wanted_fds = first.received == 0 && first.wants_fd ? 1 : 0;
  if (fd_count != wanted_fds) {
    Complain(absl::StrCat("reply ", first.id, " at byte ", first.received,
                          " came with ", fd_count, " descriptors"));
  }
  if (std::memcmp(buffer_.data(), first.bytes.data() + first.received, size) !=
      0) {
    ToyReply got{}, want{};
    std::memcpy(&want, first.bytes.data(), sizeof(want));
    std::memcpy(&got, buffer_.data(), std::min(size, sizeof(got)));
    Complain(first.received == 0 && size >= sizeof(got)
                 ? absl::StrCat("reply: id ", got.id, " counter ", got.counter,
                                " descriptors ", got.fd_count, ", expected id ",
                                want.id, " counter ", want.counter,
                                " descriptors ", want.fd_count)
                 : absl::StrCat("reply ", first.id, ": wrong bytes at ",
                                first.received));
    return;
  }
  first.received += size;
  if (first.received < first.bytes.size()) return;
  if (first.fd_count != 0) {
    DrainStore();
    if (escrowed_[first.id] != first.fd_count) {
      Complain(absl::StrCat("request ", first.id, ": ", first.fd_count,
                            " descriptors sent, ", escrowed_[first.id],
                            " in escrow"));
    }
  }
  escrowed_.erase(escrowed_.begin(), escrowed_.upper_bound(first.id));
  expected_.pop_front();
  ++replies_;
}

void LaneClient::DrainStore() {
  for (;;) {
    ToyEscrow note{};
    alignas(cmsghdr) char control[kControlSize];
    iovec vector{&note, sizeof(note)};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    if (recvmsg(store_, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) !=
        sizeof(note)) {
      return;
    }
    const std::vector<UniqueFd> fds = GetFds(message);
    for (size_t i = 0; i < fds.size(); ++i) {
      uint64_t tag = 0;
      if (pread(fds[i].get(), &tag, sizeof(tag), 0) != sizeof(tag) ||
          tag != Tag(note.id, static_cast<uint32_t>(i))) {
        Complain(absl::StrCat("escrow of request ", note.id,
                              ": descriptor with other content"));
      }
    }
    if (fds.size() != note.fd_count) Complain("escrow: descriptors missing");
    escrowed_[note.id] = note.fd_count;
  }
}

}  // namespace holdfast::testing
