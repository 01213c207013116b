#ifndef HOLDFAST_STATESTORE_STORE_TESTING_STORE_PROCESS_SYS_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_STORE_PROCESS_SYS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "statestore/store/client.h"

namespace holdfast::store::testing {

// A real holdfast-store, started from `binary`, killed at the end.
class StoreProcess {
 public:
  // `filter`: for kHandoffFilterFd. `before_exec` runs in the new process.
  explicit StoreProcess(
      const std::string& binary,
      std::vector<std::string> arguments = {"--no-filter"},
      BorrowedFd filter = BorrowedFd(-1),
      const std::function<void()>& before_exec = [] {});
  StoreProcess(const StoreProcess&) = delete;
  StoreProcess& operator=(const StoreProcess&) = delete;
  ~StoreProcess();

  Client& client() { return *client_; }
  // Replaces the client by one that knows nothing, as a new launcher's.
  Client& NewClient();
  // A second descriptor of the launcher's end.
  UniqueFd DupChannel() const;
  pid_t pid() const { return pid_; }
  // Descriptors that it has open, all of them.
  size_t CountDescriptors() const;
  // Waits until it has `count` open, since some are closed by a thread of their
  // own. False: that does not come to be.
  bool AwaitDescriptors(size_t count) const;
  bool AwaitAtMostDescriptors(size_t count) const;
  // Processor time that it has used.
  uint64_t CpuNs() const;
  // Closes the launcher's end and returns the exit status.
  int End();
  void Kill();

 private:
  pid_t pid_ = -1;
  UniqueFd channel_;
  std::optional<Client> client_;
};

// A forked process that plays a device child, under a seccomp listener of its
// own. It dies with the test and is reaped by the destructor.
class FakeChild {
 public:
  // What the child does: its store channel, and a SEQPACKET to the test. When
  // it returns, the child exits.
  using Body = std::function<void(UniqueFd store, UniqueFd test)>;

  FakeChild(ChildId id, const Body& body);
  FakeChild(FakeChild&&) = delete;
  ~FakeChild();

  // Adds it to an instance of the store.
  absl::Status AddTo(Client& client, InstanceId instance, uint64_t flags = 0,
                     uint64_t epoch = 0);
  // Makes a new store channel; the child's end of it is returned.
  UniqueFd NewChannel();
  void Kill();
  // Waits for its end; the wait status.
  int Reap();
  ChildId id() const { return id_; }
  pid_t pid() const { return pid_; }
  BorrowedFd test() const { return test_; }
  // The store's end of its channel, until AddTo() gave it away.
  BorrowedFd store_end() const { return store_; }

 private:
  ChildId id_;
  pid_t pid_ = -1;
  bool reaped_ = false;
  UniqueFd test_;
  UniqueFd store_;
  UniqueFd pidfd_;
  UniqueFd listener_;
  UniqueFd control_, control_peer_;
};

// A memfd that holds `value`, and the value that a descriptor holds (0: none).
UniqueFd MakeToken(uint64_t value);
uint64_t ReadToken(BorrowedFd fd);

// The next event of `client` of this type, dropping others; nullopt after 10 s.
std::optional<Message> WaitForEvent(Client& client, Type type);

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_STORE_PROCESS_SYS_H_
