// What the launcher and the keeper of a wrapped program tell one another.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/unix_socket_sys.h"
#include "launcher/backend_sys.h"

namespace holdfast::launcher {
namespace {

// They come from a confined process and go to an operator's terminal.
std::string WordsIn(const store::BackendVerdict& verdict) {
  std::string words(verdict.why, strnlen(verdict.why, sizeof(verdict.why)));
  std::replace_if(
      words.begin(), words.end(),
      [](char c) {
        return !absl::ascii_isprint(static_cast<unsigned char>(c));
      },
      '?');
  return words;
}

}  // namespace

void BackendProcess::MakeVerdictChannel() {
  if (verdicts_.valid()) return;
  absl::StatusOr<std::pair<UniqueFd, UniqueFd>> pair = SeqpacketPair();
  if (!pair.ok()) {
    return LogError("the keeper cannot say when a life is of no use: ",
                    pair.status().message());
  }
  verdicts_ = std::move(pair->first);
  verdicts_peer_ = std::move(pair->second);
  BackendEnds ends(store::kBackendResourceCount, BorrowedFd(-1));
  ends[store::kBackendVerdicts] = BorrowedFd(verdicts_peer_);
  host_.hand_over(ends);
}

// Before the next life is given to it.
void BackendProcess::TellOfFault(const Life& life) {
  store::BackendVerdict fault = {};
  fault.life = SocketCookie(life.connection);
  fault.kind = store::BackendVerdict::kFault;
  // One that does not read blames nobody.
  (void)!send(verdicts_.get(), &fault, sizeof(fault),
              MSG_DONTWAIT | MSG_NOSIGNAL);
}

void BackendProcess::SayFirst(backend::LifeNumber life, absl::Status word) {
  if (first_word_.has_value() || life != supervision_.current) return;
  first_word_ = std::move(word);
}

void BackendProcess::SayHowItEnded(const Life& life, const std::string& cause) {
  SayFirst(life.number,
           absl::FailedPreconditionError(absl::StrCat(
               life.why.empty() ? "it has ended" : life.why, " (", cause,
               "); what it says itself is in the log of holdfastd")));
}

// The keeper may repeat itself, and speak of lives that have ended meanwhile.
void BackendProcess::TakeVerdicts() {
  store::BackendVerdict verdict;
  while (verdicts_.valid() && recv(verdicts_.get(), &verdict, sizeof(verdict),
                                   MSG_DONTWAIT) == sizeof(verdict)) {
    if (verdict.kind == store::BackendVerdict::kRefused) {
      host_.report("request-refused", pid(), "", WordsIn(verdict));
      continue;
    }
    const auto found =
        std::find_if(lives_.begin(), lives_.end(), [&](const Life& life) {
          return SocketCookie(life.connection) == verdict.life;
        });
    if (found == lives_.end() || found->useless) continue;
    if (verdict.kind == store::BackendVerdict::kReady) {
      SayFirst(found->number, absl::OkStatus());
      Handle(backend::BecameReady{found->number});
    } else if (verdict.kind == store::BackendVerdict::kFinished) {
      found->useless = true;
      Handle(backend::Finished{found->number});
    } else {
      Condemn(*found, "the keeper: " + WordsIn(verdict));
    }
  }
}

}  // namespace holdfast::launcher
