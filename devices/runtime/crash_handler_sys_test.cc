#include "devices/runtime/crash_handler_sys.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <thread>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

// What a dying process could still say, in memory shared with the test.
struct LastWords {
  int calls;
  int signal;
  pid_t thread;
};

class Recorder final : public CrashObserver {
 public:
  explicit Recorder(LastWords* words) : words_(words) {}
  void OnCrash(int signal) override {
    ++words_->calls;
    words_->signal = signal;
    words_->thread = gettid();
    if (and_crash) raise(signal);
  }
  bool and_crash = false;

 private:
  LastWords* words_;
};

class CrashHandlerTest : public ::testing::Test {
 protected:
  // Runs `body` in a process with the handler; its wait status.
  int Run(const std::function<void()>& body) {
    const pid_t pid = fork();
    if (pid == 0) {
      InstallCrashHandler();
      body();
      _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    return status;
  }
  static void ExpectCrash(int status, int signal) {
    ASSERT_TRUE(WIFEXITED(status)) << status;
    EXPECT_EQ(WEXITSTATUS(status), kCrashExitBase + signal);
  }

  LastWords* const words_ = static_cast<LastWords*>(
      mmap(nullptr, sizeof(LastWords), PROT_READ | PROT_WRITE,
           MAP_SHARED | MAP_ANONYMOUS, -1, 0));
};

TEST_F(CrashHandlerTest, TellsTheSignalByTheExitStatus) {
  for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) {
    ExpectCrash(Run([&] { raise(signal); }), signal);
  }
}

TEST_F(CrashHandlerTest, TakesRealFaults) {
  volatile uintptr_t nowhere = 8;  // Else gcc sees it, and warns.
  ExpectCrash(Run([&] { *reinterpret_cast<volatile int*>(nowhere) = 1; }),
              SIGSEGV);
  ExpectCrash(Run([] { abort(); }), SIGABRT);
  ExpectCrash(Run([] {
                // Memory whose file was cut, as a VMM may do to the guest's.
                const int fd = memfd_create("guest", MFD_CLOEXEC);
                (void)!ftruncate(fd, 4096);
                auto* const at = static_cast<volatile char*>(
                    mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0));
                (void)!ftruncate(fd, 0);
                (void)*at;
              }),
              SIGBUS);
}

TEST_F(CrashHandlerTest, AsksTheObserverOfTheThreadThatCrashed) {
  ExpectCrash(Run([&] {
                Recorder bystander(words_);
                ObserveCrashes(&bystander);
                std::thread crashing([&] {
                  Recorder own(words_ + 0);
                  ObserveCrashes(&own);
                  raise(SIGILL);
                });
                crashing.join();
              }),
              SIGILL);
  EXPECT_EQ(words_->calls, 1);
  EXPECT_EQ(words_->signal, SIGILL);
}

TEST_F(CrashHandlerTest, ThreadsWithoutAnObserverBlameNobody) {
  ExpectCrash(Run([&] {
                Recorder recorder(words_);
                ObserveCrashes(&recorder);
                std::thread([] { raise(SIGSEGV); }).join();
              }),
              SIGSEGV);
  EXPECT_EQ(words_->calls, 0);
}

TEST_F(CrashHandlerTest, AnObserverCanBeTakenBack) {
  ExpectCrash(Run([&] {
                Recorder recorder(words_);
                ObserveCrashes(&recorder);
                ObserveCrashes(nullptr);
                raise(SIGSEGV);
              }),
              SIGSEGV);
  EXPECT_EQ(words_->calls, 0);
}

// Otherwise a handler that crashes would come back to itself for ever.
TEST_F(CrashHandlerTest, ACrashOfTheObserverEndsTheProcess) {
  ExpectCrash(Run([&] {
                Recorder recorder(words_);
                recorder.and_crash = true;
                ObserveCrashes(&recorder);
                raise(SIGFPE);
              }),
              SIGFPE);
  EXPECT_EQ(words_->calls, 1);
}

// Grows the stack until it is used up.
__attribute__((noinline)) int Recurse(volatile char* above, int depth) {
  volatile char here[4096];
  here[0] = static_cast<char>(above[0] + depth);
  return depth > (1 << 20) ? 0 : Recurse(here, depth + 1) + here[0];
}

TEST_F(CrashHandlerTest, SeesAStackOverflow) {
  ExpectCrash(Run([&] {
                std::thread([&] {
                  Recorder recorder(words_);
                  ObserveCrashes(&recorder);
                  volatile char bottom = 0;
                  _exit(Recurse(&bottom, 0));
                }).join();
              }),
              SIGSEGV);
  EXPECT_EQ(words_->calls, 1);
}

// Deaths from outside are nobody's fault, and never come by.
TEST_F(CrashHandlerTest, LeavesKillsAlone) {
  for (int signal : {SIGKILL, SIGTERM}) {
    const int status = Run([&] {
      Recorder recorder(words_);
      ObserveCrashes(&recorder);
      raise(signal);
    });
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), signal);
  }
  EXPECT_EQ(words_->calls, 0);
}

}  // namespace
}  // namespace holdfast
