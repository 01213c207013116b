#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/errno_status.h"
#include "base/log.h"
#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

absl::Span<const uint8_t> Bytes(const char* s) {
  return {reinterpret_cast<const uint8_t*>(s), std::string(s).size()};
}

TEST(UniqueFd, ClosesWhatItOwnsAndNothingAfterRelease) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  { UniqueFd read_end(pipe_fds[0]); }
  EXPECT_EQ(fcntl(pipe_fds[0], F_GETFD), -1);
  {
    UniqueFd write_end(pipe_fds[1]);
    EXPECT_EQ(write_end.Release(), pipe_fds[1]);
  }
  EXPECT_NE(fcntl(pipe_fds[1], F_GETFD), -1);
  close(pipe_fds[1]);
}

TEST(UniqueFd, MoveAssignmentClosesTheOldOne) {
  UniqueFd a(dup(0)), b(dup(0));
  const int old = a.get(), taken = b.get();
  a = std::move(b);
  EXPECT_EQ(fcntl(old, F_GETFD), -1);
  EXPECT_EQ(a.get(), taken);
  EXPECT_FALSE(b.valid());
}

TEST(ErrnoStatus, NamesCallAndCause) {
  EXPECT_THAT(ErrnoStatus(ENOENT, "open disk.img"),
              StatusIs(absl::StatusCode::kNotFound,
                       "open disk.img: No such file or directory"));
}

absl::StatusOr<int> Fails() { return absl::AbortedError("no"); }
absl::Status UsesMacros() {
  RETURN_IF_ERROR(absl::OkStatus());
  ASSIGN_OR_RETURN(const int value, Fails());
  return value == 0 ? absl::OkStatus() : absl::UnknownError("unreachable");
}

TEST(StatusMacros, PassTheErrorOn) {
  EXPECT_THAT(UsesMacros(), StatusIs(absl::StatusCode::kAborted, "no"));
}

TEST(Log, WritesOneLineWithoutControlCharacters) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const int saved = dup(2);
  dup2(pipe_fds[1], 2);
  LogWarning("a\nE forged: ", 7);
  dup2(saved, 2);
  close(saved);
  close(pipe_fds[1]);
  char buffer[200];
  const ssize_t n = read(pipe_fds[0], buffer, sizeof(buffer));
  close(pipe_fds[0]);
  ASSERT_GT(n, 0);
  EXPECT_EQ(std::string(buffer, n), "W holdfast: a?E forged: 7\n");
}

TEST(Shm, SealedMemfdKeepsItsSizeAndContent) {
  absl::StatusOr<UniqueFd> fd = CreateSealedMemfd("test", 8192);
  ASSERT_OK(fd);
  EXPECT_TRUE(IsSealedAgainstShrinking(*fd));
  EXPECT_NE(ftruncate(fd->get(), 0), 0);
  EXPECT_NE(ftruncate(fd->get(), 1 << 20), 0);
  EXPECT_THAT(FileSize(*fd), testing::IsOkAndHolds(8192));
  absl::StatusOr<Mapping> a = MapShared(*fd, 0, 8192, MapAccess::kReadWrite);
  absl::StatusOr<Mapping> b = MapShared(*fd, 4096, 4096, MapAccess::kReadOnly);
  ASSERT_OK(a);
  ASSERT_OK(b);
  a->data()[4096] = 42;
  EXPECT_EQ(b->data()[0], 42);
}

TEST(Shm, OrdinaryFileIsNotSealed) {
  testing::TempDir dir;
  UniqueFd fd(open(dir.File("x").c_str(), O_CREAT | O_RDWR, 0600));
  EXPECT_FALSE(IsSealedAgainstShrinking(fd));
}

TEST(UnixSocket, CarriesBytesAndDescriptors) {
  auto pair = SeqpacketPair();
  ASSERT_OK(pair);
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  UniqueFd read_end(pipe_fds[0]), write_end(pipe_fds[1]);
  ASSERT_OK(SendWithFds(pair->first, Bytes("hello"), {write_end.get()}));
  uint8_t buffer[16];
  ReceivedFds fds;
  auto got = ReceiveWithFds(pair->second, absl::MakeSpan(buffer), fds);
  ASSERT_OK(got);
  EXPECT_EQ(std::string(buffer, buffer + got->size), "hello");
  ASSERT_EQ(fds.count, 1u);
  ASSERT_EQ(write(fds.fds[0].get(), "x", 1), 1);
  char c = 0;
  EXPECT_EQ(read(read_end.get(), &c, 1), 1);
  EXPECT_NE(fcntl(fds.fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
}

// How many descriptors this process has open.
size_t CountOpen() {
  size_t count = 0;
  for (int fd = 0; fd < 256; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) ++count;
  }
  return count;
}

TEST(UnixSocket, DescriptorsThatFindNoPlaceAreClosed) {
  auto pair = SeqpacketPair();
  ASSERT_OK(pair);
  const std::vector<int> sixteen(kMaxMessageFds, 0);
  for (size_t places : {size_t{0}, size_t{1}, size_t{3}, kMaxMessageFds}) {
    const size_t before = CountOpen();
    ASSERT_EQ(SendFds(pair->first, Bytes("x"), sixteen, 0), 1);
    {
      uint8_t byte;
      std::vector<UniqueFd> fds(places);
      const Received got = ReceiveFds(pair->second, absl::MakeSpan(&byte, 1),
                                      absl::MakeSpan(fds), MSG_DONTWAIT);
      EXPECT_EQ(got.size, 1);
      EXPECT_EQ(got.fd_count, places);
      EXPECT_EQ(got.truncated, places != kMaxMessageFds);
      EXPECT_EQ(CountOpen(), before + places);
    }
    EXPECT_EQ(CountOpen(), before);
  }
}

TEST(UnixSocket, MoreDescriptorsThanTheKernelHasRoomForAreTold) {
  auto pair = SeqpacketPair();
  ASSERT_OK(pair);
  EXPECT_EQ(SendFds(pair->first, Bytes("x"),
                    std::vector<int>(kMaxMessageFds + 1, 0), 0),
            -1);
  EXPECT_EQ(errno, EINVAL);
  // Another program may send as many as the kernel allows.
  alignas(cmsghdr) char control[CMSG_SPACE(40 * sizeof(int))] = {};
  iovec part = {control, 1};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  cmsghdr* c = CMSG_FIRSTHDR(&header);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(40 * sizeof(int));
  const size_t before = CountOpen();
  ASSERT_EQ(SendOne(pair->first, header, 0), 1);
  uint8_t byte;
  ReceivedFds fds;
  const auto got = ReceiveWithFds(pair->second, absl::MakeSpan(&byte, 1), fds);
  ASSERT_OK(got);
  EXPECT_TRUE(got->truncated);
  EXPECT_EQ(fds.count, kMaxMessageFds);
  EXPECT_EQ(CountOpen(), before + kMaxMessageFds);
}

TEST(UnixSocket, NothingThereIsNotTheEnd) {
  auto pair = SeqpacketPair();
  ASSERT_OK(pair);
  uint8_t byte;
  const auto receive = [&] {
    return ReceiveFds(pair->second, absl::MakeSpan(&byte, 1), {}, MSG_DONTWAIT);
  };
  EXPECT_EQ(receive().size, -1);
  EXPECT_EQ(errno, EAGAIN);
  pair->first.Reset();
  EXPECT_EQ(receive().size, 0);
}

TEST(UnixSocket, ReportsTruncationAndEndOfStream) {
  auto pair = SeqpacketPair();
  ASSERT_OK(pair);
  ASSERT_OK(SendWithFds(pair->first, Bytes("0123456789"), {}));
  uint8_t buffer[4];
  ReceivedFds fds;
  auto got = ReceiveWithFds(pair->second, absl::MakeSpan(buffer), fds);
  ASSERT_OK(got);
  EXPECT_TRUE(got->truncated);
  pair->first.Reset();
  got = ReceiveWithFds(pair->second, absl::MakeSpan(buffer), fds);
  ASSERT_OK(got);
  EXPECT_EQ(got->size, 0u);
  EXPECT_THAT(SendWithFds(pair->second, Bytes("x"), {}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("")));
}

TEST(UnixSocket, ListenReplacesAStaleFileButNotALiveSocket) {
  testing::TempDir dir;
  const std::string path = dir.File("s");
  auto first = ListenAt(path);
  ASSERT_OK(first);
  EXPECT_THAT(ListenAt(path),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(path)));
  EXPECT_OK(ConnectTo(path));
  first->Reset();
  EXPECT_OK(ListenAt(path));
}

TEST(UnixSocket, ListenNeverRemovesAnythingButAStaleSocket) {
  testing::TempDir dir;
  const std::string path = dir.File("s");
  const UniqueFd file(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  ASSERT_TRUE(file.valid());
  EXPECT_THAT(ListenAt(path),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       HasSubstr(path + " exists and is not a socket")));
  const std::string link = dir.File("link");
  ASSERT_EQ(symlink(dir.File("nowhere").c_str(), link.c_str()), 0);
  EXPECT_THAT(ListenAt(link),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(link)));
  struct stat there = {};
  EXPECT_EQ(lstat(path.c_str(), &there), 0);
  EXPECT_EQ(lstat(link.c_str(), &there), 0);
}

// A server of packets answers a stream with another error than a dead one.
TEST(UnixSocket, SocketOfAnotherTypeIsAliveToo) {
  testing::TempDir dir;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = dir.File("s");
  path.copy(address.sun_path, path.size());
  UniqueFd packets(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(packets.get(), reinterpret_cast<const sockaddr*>(&address),
                 sizeof(address)),
            0);
  ASSERT_EQ(listen(packets.get(), 1), 0);
  EXPECT_THAT(RemoveStaleSocket(path),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(path)));
  packets.Reset();
  EXPECT_OK(RemoveStaleSocket(path));
  EXPECT_OK(RemoveStaleSocket(path));
}

// A blocking connection would wait for the living one for ever.
TEST(UnixSocket, FullBacklogIsALiveSocket) {
  testing::TempDir dir;
  const std::string path = dir.File("s");
  const auto listener = ListenAt(path);
  ASSERT_OK(listener);
  ASSERT_EQ(listen(listener->get(), 0), 0);
  const auto waiting = ConnectTo(path);
  ASSERT_OK(waiting);
  EXPECT_THAT(ListenAt(path),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(path)));
}

TEST(UnixSocket, FileGetsItsModeWhateverTheUmask) {
  testing::TempDir dir;
  SocketAccess access;
  access.mode = 0660;
  const mode_t before = umask(077);
  const auto listener = ListenAt(dir.File("s"), access);
  umask(before);
  ASSERT_OK(listener);
  struct stat there = {};
  ASSERT_EQ(stat(dir.File("s").c_str(), &there), 0);
  EXPECT_EQ(there.st_mode & 07777, 0660u);
}

TEST(UnixSocket, CookieIsTheSocketsAndNotTheDescriptors) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd one(pair[0]);
  const UniqueFd other(pair[1]);
  const UniqueFd again(dup(one.get()));
  EXPECT_NE(SocketCookie(one), 0u);
  EXPECT_EQ(SocketCookie(one), SocketCookie(again));
  EXPECT_NE(SocketCookie(one), SocketCookie(other));
  EXPECT_EQ(SocketCookie(BorrowedFd(-1)), 0u);
}

TEST(UnixSocket, WhoeverAcceptsFindsWhatWasSentAlready) {
  auto pair = ListenerPair();
  ASSERT_OK(pair);
  ASSERT_EQ(write(pair->first.get(), "word", 4), 4);
  const UniqueFd accepted(
      accept4(pair->second.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(accepted.valid());
  char word[8] = {};
  EXPECT_EQ(read(accepted.get(), word, sizeof(word)), 4);
  EXPECT_STREQ(word, "word");
  sockaddr_un name = {};
  socklen_t size = sizeof(name);
  ASSERT_EQ(getsockname(pair->second.get(), reinterpret_cast<sockaddr*>(&name),
                        &size),
            0);
  EXPECT_NE(access(name.sun_path, F_OK), 0) << "nobody else finds it";
}

TEST(UnixSocket, AStreamsEndIsSeenByTheOtherSide) {
  auto pair = StreamPair();
  ASSERT_OK(pair);
  ASSERT_EQ(write(pair->first.get(), "word", 4), 4);
  pair->first.Reset();
  char word[8] = {};
  EXPECT_EQ(read(pair->second.get(), word, sizeof(word)), 4);
  EXPECT_EQ(read(pair->second.get(), word, sizeof(word)), 0);
}

TEST(UnixSocket, RefusesALongPath) {
  EXPECT_THAT(ListenAt("/tmp/" + std::string(120, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("longer than 107 bytes")));
}

}  // namespace
}  // namespace holdfast
